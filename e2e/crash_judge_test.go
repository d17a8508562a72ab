package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// slack is how long after an attempt's end its result may wait for a commit
// (10 ms in DESIGN), and what this machine's scheduling adds to what we measure.
const slack = 10*time.Millisecond + 20*time.Millisecond

// seenAt are the hits of each event id at one path, in the order they began.
type seenAt map[string][]testenv.Hit

func (c *crash) seen(path string) seenAt {
	s := seenAt{}
	for _, h := range c.receiver.Hits(path) {
		s[h.ID] = append(s[h.ID], h)
	}
	return s
}

func (s seenAt) delivered(id string) bool {
	return slices.ContainsFunc(s[id], func(h testenv.Hit) bool { return h.OK() })
}

// undelivered is one event that has not arrived at one place.
type undelivered struct{ path, id, name string }

// missing lists what was acknowledged, or exists, and has not arrived.
func (c *crash) missing() (missing []undelivered) {
	type at struct{ id, topic string }
	must := map[at]string{} // to the publication's name
	c.book.mu.Lock()
	for _, p := range c.book.pubs {
		for i, id := range p.ids {
			must[at{id, p.topic(i)}] = p.name
		}
	}
	done := map[string]bool{} // pulled and acked, or maybe
	for _, g := range c.book.grants {
		if !g.acked.IsZero() || g.unknown && !g.nacked {
			done[g.id] = true
		}
	}
	c.book.mu.Unlock()
	for _, h := range c.receiver.Hits() {
		if e := (at{h.ID, h.Topic}); must[e] == "" {
			must[e] = "unknown"
		}
	}
	for _, r := range crashRoutes {
		seen := c.seen(r.path)
		for e, name := range must {
			if strings.HasPrefix(e.topic, r.prefix) && !seen.delivered(e.id) {
				missing = append(missing, undelivered{r.path, e.id, name})
			}
		}
	}
	for e, name := range must {
		if strings.HasPrefix(e.topic, pulled) && !done[e.id] {
			missing = append(missing, undelivered{"pull", e.id, name})
		}
	}
	slices.SortFunc(missing, func(a, b undelivered) int { return cmp.Compare(a.id, b.id) })
	return missing
}

// judge says everything that is wrong.
func (c *crash) judge() {
	for _, s := range c.book.said {
		c.Error(s)
	}
	tokens := c.judgeIDs()
	c.judgeBatches(tokens)
	c.judgeLog()
	dups := 0
	for _, r := range crashRoutes {
		seen := c.seen(r.path)
		dups += c.judgeRepeats(r, seen)
		if r.ordered {
			c.judgeOrder(seen)
		}
	}
	c.judgeGrants()
	acked, open, refused := 0, 0, 0
	for _, p := range c.book.pubs {
		switch {
		case p.acked():
			acked += len(p.tokens)
		case p.refuse != "":
			refused += len(p.tokens)
			c.Errorf("%s was refused: %s", p.name, p.refuse)
		default:
			open += len(p.tokens)
		}
	}
	c.Logf("%d kills; %d events acknowledged, %d open, %d refused; %d deliveries, %d of them twice around a kill, the oldest accepted %v before it; %d grants; slowest start %v",
		len(c.kills), acked, open, refused, len(c.receiver.Hits()), dups, c.oldest.Round(time.Millisecond), len(c.book.grants), c.slow.Round(time.Millisecond))
}

// judgeIDs: an id names one event, and an event that was sent once, or again
// with its Idempotency-Key, has one id. It returns the id of each token.
func (c *crash) judgeIDs() map[string]string {
	token, id := map[string]string{}, map[string]string{}
	pair := func(where, i, t string) {
		if old, ok := token[i]; ok && old != t {
			c.Errorf("%s: id %s names %s, and named %s", where, i, t, old)
		}
		if old, ok := id[t]; ok && old != i {
			c.Errorf("%s: %s has id %s, and had %s", where, t, i, old)
		}
		token[i], id[t] = t, i
	}
	for _, p := range c.book.pubs {
		for n, i := range p.ids {
			pair("publish", i, p.tokens[n])
		}
	}
	for _, h := range c.receiver.Hits() {
		pair(h.Path, h.ID, h.Note)
	}
	for _, g := range c.book.grants {
		pair("pull", g.id, g.token)
	}
	return id
}

// judgeBatches: a batch is there whole or not at all.
func (c *crash) judgeBatches(id map[string]string) {
	for _, p := range c.book.pubs {
		there := 0
		for _, t := range p.tokens {
			if id[t] != "" {
				there++
			}
		}
		if there != 0 && there != len(p.tokens) {
			c.Errorf("of the %d events of batch %s only %d are there", len(p.tokens), p.name, there)
		}
	}
}

// judgeLog: what is in the log was delivered, also if nobody knew that it was published.
func (c *crash) judgeLog() {
	seen := c.seen("/all")
	for _, e := range c.storedEvents("%3E") {
		if !seen.delivered(e.ID) {
			c.Errorf("%s is in the log and was not delivered", e.ID)
		}
	}
}

// judgeRepeats: a delivery that was accepted comes again only after a kill that
// its result could not outrun.
func (c *crash) judgeRepeats(r route, seen seenAt) (repeats int) {
	for id, hits := range seen {
		var before *testenv.Hit
		for i := range hits {
			h := &hits[i]
			if before != nil {
				repeats++
				if before.Era != h.Era && !before.End.IsZero() {
					c.oldest = max(c.oldest, c.kills[before.Era].Sub(before.End))
				}
				if why := c.unforgivable(before, h); why != "" {
					c.Errorf("%s got %s again: %s", r.path, id, why)
				}
			}
			if h.OK() {
				before = h
			}
		}
	}
	return repeats
}

// unforgivable says why h must not have repeated the accepted hit before.
func (c *crash) unforgivable(before, h *testenv.Hit) string {
	if before.Era == h.Era {
		return fmt.Sprintf("within one run of the server (%d), %v after it was accepted", h.Era, h.Begin.Sub(before.End))
	}
	kill := c.kills[before.Era]
	commit := c.book.commitBefore(kill)
	if age := kill.Sub(before.End); !before.End.IsZero() && age > slack+commit {
		return fmt.Sprintf("its first was accepted %v before the kill of run %d; a commit took at most %v then", age, before.Era, commit)
	}
	return ""
}

// judgeOrder: within a key, an event's first attempt begins after the one
// before it in the log was accepted.
func (c *crash) judgeOrder(seen seenAt) {
	key := map[string]string{}
	for _, p := range c.book.pubs {
		for i, t := range p.tokens {
			key[t] = p.events[i].Key
		}
	}
	byKey := map[string][]string{}
	for id, hits := range seen {
		k := key[hits[0].Note]
		byKey[k] = append(byKey[k], id)
	}
	for _, k := range slices.Sorted(maps.Keys(byKey)) {
		ids := byKey[k]
		sort.Strings(ids)
		for i := 1; i < len(ids); i++ {
			accepted := firstAccepted(seen[ids[i-1]])
			if begin := seen[ids[i]][0].Begin; begin.Before(accepted) {
				c.Errorf("key %q: %s began %v before %s, which is earlier in the log, was accepted", k, ids[i], accepted.Sub(begin), ids[i-1])
			}
		}
	}
}

func firstAccepted(hits []testenv.Hit) time.Time {
	for _, h := range hits {
		if h.OK() {
			return h.End
		}
	}
	return time.Now()
}

// judgeGrants: what a worker acked never comes again, and nobody else gets what
// a lease still holds, through kills too.
func (c *crash) judgeGrants() {
	last := map[string]*grant{}
	for _, g := range c.book.grants {
		before := last[g.delivery]
		last[g.delivery] = g
		switch {
		case before == nil:
		case !before.acked.IsZero():
			c.Errorf("pull: %s was acked in run %d and granted again in run %d", g.delivery, before.era, g.era)
		case !before.nacked && g.at.Before(before.until.Add(-50*time.Millisecond)):
			c.Errorf("pull: %s was granted again %v before its lease ended", g.delivery, before.until.Sub(g.at))
		}
	}
}
