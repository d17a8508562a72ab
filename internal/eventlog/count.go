package eventlog

import (
	"slices"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// behindKeys bounds what [Log.Behind] looks at before it extrapolates.
const behindKeys = 10000

// Behind estimates how many events of a tenant after a position match: exact
// when there is little to look at, else extrapolated from what came first.
func (l *Log) Behind(t hark.TenantID, patterns []hark.Pattern, after hark.Offset) (uint64, error) {
	end := l.End()
	after = max(after, l.index.lost(t))
	if after >= end {
		return 0, nil
	}
	if events, ok := l.tail.slice(nil, after, len(l.tail.ring)); ok {
		n := uint64(0)
		for _, e := range events {
			if e.Tenant == t && hark.MatchAny(patterns, e.Topic) {
				n++
			}
		}
		return n, nil
	}
	c := counter{log: l, tenant: t, patterns: patterns, at: after, end: end, keys: behindKeys}
	if err := c.run(); err != nil {
		return 0, err
	}
	all, left := l.index.countAfter(t, after), l.index.countAfter(t, c.at)
	if c.at >= end || left >= all {
		return c.found, nil
	}
	return max(c.found, uint64(float64(c.found)*float64(all)/float64(all-left))), nil
}

// counter counts a tenant's matching events on disk, without reading what it counts.
type counter struct {
	log      *Log
	tenant   hark.TenantID
	patterns []hark.Pattern
	at, end  hark.Offset // position, and where it ends
	keys     int         // what it may still look at
	found    uint64
}

func (c *counter) run() error {
	for c.at < c.end && c.keys > 0 {
		s, ok := c.log.nextStretch(c.tenant, c.at, c.end)
		if !ok {
			c.at = c.end
			return nil
		}
		topics, few, err := c.log.topicsOf(c.tenant, s.bucket, c.patterns)
		if err != nil {
			return err
		}
		if few {
			err = c.byTopic(s.bucket, topics, s.from, s.to)
		} else {
			err = c.byEvent(s.from, s.to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *counter) byTopic(b store.Bucket, topics []string, from, to hark.Offset) error {
	var offsets []hark.Offset
	horizon := to
	for _, topic := range topics {
		last := from
		more, err := c.log.store.TopicOffsets(c.tenant, b, topic, from, to, 1000, func(o hark.Offset) bool {
			offsets, last = append(offsets, o), o+1
			return true
		})
		if err != nil {
			return err
		}
		if more {
			horizon = min(horizon, last)
		}
	}
	c.keys -= len(offsets) + len(topics)
	for _, o := range offsets {
		if o < horizon {
			c.found++
		}
	}
	c.at = horizon - 1
	return nil
}

func (c *counter) byEvent(from, to hark.Offset) error {
	last, more, err := c.log.store.Events(c.tenant, from, to, 1000, func(topic string) bool {
		c.keys--
		if hark.MatchAny(c.patterns, topic) {
			c.found++
		}
		return false
	}, nil)
	if more {
		c.at = last
	} else {
		c.at = to - 1
	}
	return err
}

// countAfter adds up a tenant's events after a position, taking them as evenly
// spread within the position's own bucket.
func (x *index) countAfter(t hark.TenantID, after hark.Offset) uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	h := x.tenants[t]
	if h == nil {
		return 0
	}
	n := uint64(0)
	for _, u := range slices.Backward(h.buckets) {
		if u.usage.Last <= after {
			break
		}
		if u.usage.First > after {
			n += u.usage.Count
			continue
		}
		span := uint64(u.usage.Last - u.usage.First + 1)
		n += max(1, uint64(float64(u.usage.Count)*float64(u.usage.Last-after)/float64(span)))
	}
	return n
}
