package e2e

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// missing lists what was acknowledged and has not arrived.
func (c *inbound) missing() (missing []string) {
	arrived := map[string]bool{}
	for _, h := range c.receiver.Hits() {
		if h.OK() {
			arrived[h.Path+" "+h.Note] = true
		}
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	for _, h := range c.ledger.hooks {
		if h.acked && !arrived["/hooks "+h.token] {
			missing = append(missing, h.token)
		}
	}
	for _, o := range c.ledger.orders {
		if o.acked() && !arrived[o.place()+" "+o.id] {
			missing = append(missing, o.name+" "+o.id)
		}
	}
	return missing
}

// place is where its end is told.
func (o *order) place() string {
	if o.url {
		return "/done"
	}
	return "/told"
}

// judge says everything that is wrong.
func (c *inbound) judge() {
	for _, s := range c.ledger.said {
		c.Error(s)
	}
	hits := c.receiver.Hits()
	events := c.judgeHooks(hits)
	again := c.judgeBatches(hits)
	c.reader.judge(c.world, c.bins[len(c.bins)-1].ids)
	acked, open, tried := 0, 0, 0
	for _, h := range c.ledger.hooks {
		if h.tried {
			tried++
		}
		if h.acked {
			acked++
		} else {
			open++
		}
	}
	bins := 0
	for _, b := range c.bins {
		bins += len(b.ids)
	}
	c.Logf("%d kills; %d requests acknowledged, %d open, %d sent again: %d events; %d captures seen after a start, %d live; %d batches, %d callbacks twice; %d changes of a source; slowest start %v",
		len(c.kills), acked, open, tried, events, bins, len(c.reader.seen), len(c.ledger.orders), again, c.owner.acked, c.slow.Round(time.Millisecond))
}

// judgeHooks: what was sent, once or more often, is one event; what is in the log was
// sent and is delivered.
func (c *inbound) judgeHooks(hits []testenv.Hit) (events int) {
	token, id := map[string]string{}, map[string]string{}
	delivered := map[string]bool{}
	pair := func(where, i, t string) {
		if c.ledger.hooks[t] == nil {
			c.Errorf("%s: %s is %q, which was never sent", where, i, t)
		}
		if old, ok := token[i]; ok && old != t {
			c.Errorf("%s: event %s is %s, and was %s", where, i, t, old)
		}
		if old, ok := id[t]; ok && old != i {
			c.Errorf("%s: %s is event %s, and was %s", where, t, i, old)
		}
		token[i], id[t] = t, i
	}
	for i := range hits {
		if h := &hits[i]; h.Path == "/hooks" {
			pair("/hooks", h.ID, h.Note)
			delivered[h.ID] = delivered[h.ID] || h.OK()
		}
	}
	for _, topic := range []string{"github.push", "plain.request"} {
		for _, e := range c.storedEvents(topic) {
			data, _ := e.Data.(map[string]any)
			t, _ := data["token"].(string)
			pair("the log", e.ID, t)
			if !delivered[e.ID] {
				c.Errorf("%s (%s) is in the log and was not delivered", e.ID, t)
			}
		}
	}
	return len(token)
}

// inspectSource: among the source's recent requests, those with one delivery id are one
// event, and only the first of them is no duplicate.
func (c *inbound) inspectSource() {
	c.Helper()
	event, first := map[string]string{}, map[string]string{}
	for _, got := range c.requests("/v1/sources/" + c.named) {
		t := got.header("X-GitHub-Delivery")
		if got.Status != 200 || got.Event == "" || got.Reason != "ok" || c.ledger.hooks[t] == nil || string(got.bytes()) != string(hookBody(t)) {
			c.Errorf("the source shows %s: %d %s, event %s", got.ID, got.Status, got.Reason, got.Event)
		}
		if old := event[t]; old != "" && old != got.Event {
			c.Errorf("%s was told to be event %s, and event %s", t, old, got.Event)
		}
		if old := first[t]; old != "" && !got.Duplicate {
			c.Errorf("%s and %s are both the first of %s", old, got.ID, t)
		}
		if event[t] = got.Event; !got.Duplicate {
			first[t] = got.ID
		}
	}
}

// judgeBatches: the end of each batch is told, always as one event, only of batches that
// are there, and with counts of what had arrived by then. It returns how many were told again.
func (c *inbound) judgeBatches(hits []testenv.Hit) (again int) {
	id := map[string]string{} // webhook-id by batch
	for _, webhookID := range slices.Sorted(maps.Keys(c.ledger.told)) {
		r := c.ledger.told[webhookID]
		if old := id[r.body.Batch]; old != "" {
			c.Errorf("the end of %s was told as %s and as %s", r.body.Batch, old, webhookID)
		}
		id[r.body.Batch] = webhookID
	}
	first, arrived := map[string]bool{}, map[string][]time.Time{} // by path and token; by batch
	for i := range hits {
		h := &hits[i]
		switch name, _, _ := strings.Cut(h.Note, "."); h.Path {
		case "/done", "/told":
			again++
		case "/bat", "/two":
			if key := h.Path + h.Note; h.OK() && !first[key] {
				first[key], arrived[name] = true, append(arrived[name], h.End)
			}
		}
	}
	again -= len(c.ledger.told)
	known, open := map[string]*order{}, 0
	for _, o := range c.ledger.orders {
		if o.acked() {
			known[o.id] = o
		} else if o.uid == "" && o.idem == "" {
			open++
		}
	}
	for _, r := range c.ledger.told {
		if o := known[r.body.Batch]; o != nil {
			c.judgeReport(o, &r, arrived[o.name])
		} else if open--; open < 0 || r.body.UID != "" {
			c.Errorf("the end of %s was told, which nobody made: %+v", r.body.Batch, r.body)
		}
	}
	c.judgeListed(known, id)
	return again
}

// judgeReport: counts fit the batch, and what was not there yet is not counted.
func (c *inbound) judgeReport(o *order, r *ending, arrived []time.Time) {
	b := &r.body
	there := 0
	for _, at := range arrived {
		if at.Before(r.at) {
			there++
		}
	}
	counts := b.Counts
	done, left := counts["delivered"], counts["unfinished"]
	good := b.State == "completed" && left == 0 || b.State == "expired" && o.short
	if r.path != o.place() || b.UID != o.uid || b.Events != o.n || done+left != o.total || done > there || !good ||
		counts["dead"]+counts["cancelled"]+counts["filtered"]+counts["expired"] != 0 {
		c.Errorf("batch %s of %d events makes %d deliveries, of which %d had arrived; %s was told %+v", o.name, o.n, o.total, there, r.path, *b)
	}
}

// judgeListed: every batch that the server knows has ended, and that was told.
func (c *inbound) judgeListed(known map[string]*order, told map[string]string) {
	after := ""
	for {
		var page struct {
			Batches []struct{ ID, UID, State string }
			Next    string
		}
		c.get("/v1/batches?limit=1000&after="+after, &page)
		for _, b := range page.Batches {
			if b.State == "open" || told[b.ID] == "" {
				c.Errorf("batch %s (%s) is %s and its end was told as %q", b.ID, b.UID, b.State, told[b.ID])
			}
			if b.UID != "" && known[b.ID] == nil {
				c.Errorf("batch %s is there as %s, and was answered otherwise", b.UID, b.ID)
			}
		}
		if after = page.Next; after == "" {
			return
		}
	}
}
