package live

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/harkhq/hark/e2e/testenv"
)

// Published is an event that was acknowledged.
type Published struct{ ID, Topic, Token string }

// Book is what the harness knows: what it published and what was answered.
type Book struct {
	mu     sync.Mutex // guards below
	number int
	acked  []Published       // in log order once sorted
	sorted bool              // since the last acknowledgement
	open   map[string]string // token to topic, of what was not answered
	stored map[string]Event  // by id, once [Book.Compare] was called
	floor  string            // the oldest id stored then
	undone []Gap             // what restores took back
}

// data is what is published; the padding makes events of a size.
type data struct {
	Token string `json:"token"`
	Pad   string `json:"pad,omitempty"`
}

// Publish publishes one event for each topic given, as one atomic batch, and
// notes the outcome. ok is false
// without an answer, or from a server that stops; any other answer but 2xx is an error.
func (b *Book) Publish(ctx context.Context, api testenv.API, pad int, topics ...string) (ok bool, err error) {
	b.mu.Lock()
	if b.open == nil {
		b.open = map[string]string{}
	}
	tokens, events := make([]string, len(topics)), make([]testenv.Event, len(topics))
	for i, topic := range topics {
		b.number++
		tokens[i] = fmt.Sprintf("t%d", b.number)
		b.open[tokens[i]] = topic
		events[i] = testenv.Event{Topic: topic, Data: data{tokens[i], strings.Repeat("x", pad)}}
	}
	b.mu.Unlock()
	var body any = events
	if len(events) == 1 {
		body = events[0]
	}
	answer, err := api.Do(ctx, "POST", "/v1/events", body)
	if err != nil || answer.Status == 503 {
		return false, nil // the server is gone, or about to
	}
	var p testenv.Published
	if err := json.Unmarshal(answer.Body, &p); err != nil || !answer.OK() || len(p.All()) != len(topics) {
		return true, fmt.Errorf("publishing %d events was answered %s", len(topics), answer)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, id := range p.All() {
		delete(b.open, tokens[i])
		b.acked, b.sorted = append(b.acked, Published{id, topics[i], tokens[i]}), false
	}
	return true, nil
}

// Must is [Book.Publish] for when the server is there; it returns the last id.
func (b *Book) Must(ctx context.Context, api testenv.API, pad int, topics ...string) (string, error) {
	ok, err := b.Publish(ctx, api, pad, topics...)
	if err == nil && !ok {
		err = fmt.Errorf("publishing was not answered")
	}
	return b.Last(">"), err
}

// Acked are the acknowledged events that match, in log order.
func (b *Book) Acked(patterns ...string) (out []Published) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sortLocked()
	for _, p := range b.acked {
		if matches(patterns, p.Topic) {
			out = append(out, p)
		}
	}
	return out
}

func (b *Book) sortLocked() {
	if !b.sorted {
		slices.SortFunc(b.acked, func(x, y Published) int { return strings.Compare(x.ID, y.ID) })
		b.sorted = true
	}
}

// Last is the id of the newest acknowledged event that matches, or "".
func (b *Book) Last(patterns ...string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sortLocked()
	for _, p := range slices.Backward(b.acked) {
		if matches(patterns, p.Topic) {
			return p.ID
		}
	}
	return ""
}

// Compare notes what is stored, read from the oldest to the newest: from then on
// Judge also knows of what was stored without an answer, and of what was seen
// and is not there.
func (b *Book) Compare(stored []Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stored, b.floor = map[string]Event{}, ""
	for _, e := range stored {
		b.stored[e.ID] = e
		if b.floor == "" {
			b.floor = e.ID
		}
	}
}

// Undone notes that a restore took back what was acknowledged after one id, up to
// another: nobody is owed it any more.
func (b *Book) Undone(after, to string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.undone = append(b.undone, Gap{From: after, To: to})
}

// Judge says everything that is wrong with what a client saw:
//
//   - what was wrong in itself: order, repeats, false gaps, breaches of the contract;
//   - an event that was never published, or under another id, or on another topic;
//   - an event that the client did not follow;
//   - an event that matches, is later than the client's first position, not later than
//     its last one, and was neither seen nor within a gap that was told;
//   - after [Book.Compare], an event that was seen and is not stored.
func (b *Book) Judge(c *Client) []string {
	said := c.Complaints()
	complain := func(format string, args ...any) {
		if len(said) < 20 {
			said = append(said, fmt.Sprintf(format, args...))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sortLocked()
	byToken := make(map[string]Published, len(b.acked))
	for _, p := range b.acked {
		byToken[p.Token] = p
	}
	seen := map[string]bool{}
	tokens := map[string]string{}
	for _, e := range c.Events() {
		seen[e.ID] = true
		p, acked := byToken[e.Token]
		topic, open := b.open[e.Token]
		switch before, twice := tokens[e.Token]; {
		case !acked && !open:
			complain("%s was never published: %+v", e.ID, e)
		case acked && (p.ID != e.ID || p.Topic != e.Topic), open && topic != e.Topic:
			complain("%+v was acknowledged as %+v", e, p)
		case twice:
			complain("%s came as %s and as %s", e.Token, before, e.ID)
		case !matches(c.Topics(), e.Topic):
			complain("%+v is not of the topics %q", e, c.Topics())
		case b.stored != nil && e.ID >= b.floor && b.stored[e.ID].ID == "" && !c.lost(e.ID):
			complain("%+v was seen and is not stored", e)
		}
		tokens[e.Token] = e.ID
	}
	must := slices.Clone(b.acked)
	for _, e := range b.stored {
		if _, open := b.open[e.Token]; open {
			must = append(must, Published{e.ID, e.Topic, e.Token})
		}
	}
	slices.SortFunc(must, func(x, y Published) int { return strings.Compare(x.ID, y.ID) })
	missing := 0
	for _, p := range must {
		if matches(c.Topics(), p.Topic) && !seen[p.ID] && !within(b.undone, p.ID) && c.owed(p.ID) {
			if missing++; missing <= 3 {
				complain("%+v is missing: no event, no gap", p)
			}
		}
	}
	if missing > 3 {
		complain("%d are missing", missing)
	}
	return said
}

// owed reports whether the client must have seen an id: it lies behind its first
// position, not beyond its last, and in no gap.
func (c *Client) owed(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == "" || id <= c.first || id > c.cursor {
		return false
	}
	return !slices.ContainsFunc(c.told, func(g Told) bool { return g.holds(id) })
}

func (g Gap) holds(id string) bool { return g.From < id && id <= g.To }

func within(gaps []Gap, id string) bool {
	return slices.ContainsFunc(gaps, func(g Gap) bool { return g.holds(id) })
}

// lost reports whether a restore took an id that the client had seen.
func (c *Client) lost(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.told, func(g Told) bool { return g.Reason == "restore" && id <= g.From })
}

// Doubts returns a [Client.Check] that asks the server at once for the first and
// the last event that were published within the gap: a gap of retention is true
// only if both are gone.
func (b *Book) Doubts(api func() testenv.API) func(context.Context, Gap) string {
	return func(ctx context.Context, g Gap) string {
		if g.Reason != "retention" {
			return ""
		}
		published := slices.DeleteFunc(b.Acked(">"), func(p Published) bool { return !g.holds(p.ID) })
		if len(published) == 0 {
			return "nothing was published there"
		}
		for _, p := range []Published{published[0], published[len(published)-1]} {
			answer, err := api().Do(ctx, "GET", "/v1/events/"+p.ID, nil)
			if err == nil && answer.OK() {
				return p.ID + " lies in it and is still there"
			}
		}
		return ""
	}
}

// matches reports whether a topic matches one of the patterns.
func matches(patterns []string, topic string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		want, got := strings.Split(p, "."), strings.Split(topic, ".")
		for i, token := range want {
			switch {
			case token == ">":
				return len(got) > i
			case i >= len(got) || token != "*" && token != got[i]:
				return false
			}
		}
		return len(want) == len(got)
	})
}
