package eventlog

import (
	"slices"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Bounds of [Log.Latest]: what it looks at before it is content with fewer.
const (
	latestKeys  = 1 << 17
	latestBytes = 64 << 20
	// bucketKeys is what a bucket costs in which nothing is found: its topics were looked for.
	bucketKeys = 64
)

// Latest returns the position before the newest n events of a tenant that match: where
// "the last n, then what comes" begins. When matches are so rare that it would have to
// read much of the log, it may stop at fewer than n, never at more.
func (l *Log) Latest(t hark.TenantID, patterns []hark.Pattern, n int) (hark.Offset, error) {
	end := l.End()
	s := latest{log: l, tenant: t, patterns: patterns, at: end, want: n, keys: latestKeys, bytes: latestBytes}
	for _, h := range l.index.held(t) {
		if s.done() {
			break
		}
		from, to := h.usage.First, min(h.usage.Last, end)+1
		if from >= to { // not shown to anyone yet
			continue
		}
		topics, few, err := l.topicsOf(t, h.bucket, patterns)
		if err != nil {
			return 0, err
		}
		s.keys -= bucketKeys
		if few {
			err = s.byTopic(h.bucket, topics, from, to)
		} else {
			err = s.byEvent(from, to)
		}
		if err != nil {
			return 0, err
		}
	}
	return max(s.at, l.index.lost(t)), nil // retention may have taken some meanwhile
}

// latest goes back from the end of the log, without reading what it finds.
type latest struct {
	log         *Log
	tenant      hark.TenantID
	patterns    []hark.Pattern
	at          hark.Offset // before the oldest that was found
	want        int         // how many are still to be found
	keys, bytes int         // what it may still look at
}

func (s *latest) done() bool { return s.want <= 0 || s.keys <= 0 || s.bytes <= 0 }

func (s *latest) found(o hark.Offset) {
	s.at = o - 1
	s.want--
}

func (s *latest) byTopic(b store.Bucket, topics []string, from, to hark.Offset) error {
	var offsets []hark.Offset
	for _, topic := range topics {
		err := s.log.store.TopicOffsetsBack(s.tenant, b, topic, from, to, s.want, func(o hark.Offset) bool {
			offsets = append(offsets, o)
			return true
		})
		if err != nil {
			return err
		}
	}
	s.keys -= len(offsets)
	slices.Sort(offsets)
	for _, o := range slices.Backward(offsets[max(0, len(offsets)-s.want):]) {
		s.found(o)
	}
	return nil
}

func (s *latest) byEvent(from, to hark.Offset) error {
	for more := true; more && from < to && !s.done(); {
		var err error
		more, err = s.log.store.EventTopicsBack(s.tenant, from, to, s.keys, func(o hark.Offset, topic string, size int) bool {
			to = o
			s.keys--
			s.bytes -= size
			if hark.MatchAny(s.patterns, topic) {
				s.found(o)
			}
			return s.want > 0
		})
		if err != nil {
			return err
		}
	}
	return nil
}
