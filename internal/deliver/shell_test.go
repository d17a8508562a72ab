package deliver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

// node is a deliverer over a real store and log, with a registry of its own.
type node struct {
	t      testing.TB
	dir    string
	store  *store.Store
	log    *eventlog.Log
	d      *Deliverer
	sender sendFunc
	limits Limits
	dests  []*hark.Destination
	stop   func()
}

type sendFunc func(ctx context.Context, d *hark.Destination, e *hark.Event, attempt int) Result

func (f sendFunc) Send(ctx context.Context, d *hark.Destination, e *hark.Event, attempt int) Result {
	return f(ctx, d, e, attempt)
}

func okay(context.Context, *hark.Destination, *hark.Event, int) Result {
	return Result{Outcome: hark.OK, Status: 200}
}

func newNode(t testing.TB, sender sendFunc) *node {
	n := &node{t: t, dir: t.TempDir(), sender: sender}
	t.Cleanup(func() {
		if n.stop != nil {
			n.stop()
		}
	})
	return n
}

// start opens everything as a server does.
func (n *node) start() {
	n.t.Helper()
	var err error
	if n.store, err = store.Open(store.Options{Dir: n.dir}); err != nil {
		n.t.Fatal(err)
	}
	if n.log, err = eventlog.Open(eventlog.Config{Store: n.store, DiskFloor: -1}); err != nil {
		n.t.Fatal(err)
	}
	n.d = New(Config{Store: n.store, Log: n.log, Sender: n.sender, Limits: n.limits,
		Pull:    func(kind string) bool { return kind == "pull" },
		Disable: func(_ context.Context, _ hark.TenantID, id hark.DestinationID, _ string) error { return nil },
		Filter: func(d *hark.Destination) (func(*hark.Event) bool, error) {
			return func(e *hark.Event) bool { return string(e.Data) != string(d.Filter) }, nil
		}})
	n.log.SetHold(n.d.Hold)
	for _, d := range n.dests {
		n.d.Changed(nil, d)
	}
	if err := n.d.Restore(); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	logCtx, logCancel := context.WithCancel(context.Background())
	var running, logging sync.WaitGroup
	logging.Go(func() {
		if err := n.log.Run(logCtx); err != nil {
			n.t.Error(err)
		}
	})
	running.Go(func() {
		if err := n.d.Run(ctx); err != nil {
			n.t.Error(err)
		}
	})
	n.stop = func() {
		cancel()
		running.Wait()
		logCancel()
		logging.Wait()
		if err := n.store.Close(); err != nil {
			n.t.Error(err)
		}
		n.stop = nil
	}
}

func (n *node) restart() {
	n.stop()
	n.start()
}

// change does what the registry does: attach, commit, tell, done.
func (n *node) change(old, now *hark.Destination, more ...func(old, now *hark.Destination) ([]store.Record, func(bool))) {
	n.t.Helper()
	recs, done := n.d.Attach(old, now)
	dones := []func(bool){done}
	for _, fn := range more {
		extra, done := fn(old, now)
		recs, dones = append(recs, extra...), append(dones, done)
	}
	if len(recs) > 0 {
		if err := n.store.Commit(recs...); err != nil {
			n.t.Fatal(err)
		}
	}
	n.dests = slices.DeleteFunc(n.dests, func(d *hark.Destination) bool { return old != nil && d.ID == old.ID })
	if now != nil {
		n.dests = append(n.dests, now)
	}
	n.d.Changed(old, now)
	for _, done := range dones {
		if done != nil {
			done(true)
		}
	}
}

func dst(id hark.DestinationID, topics ...hark.Pattern) *hark.Destination {
	return &hark.Destination{ID: id, Tenant: hark.DefaultTenant, Kind: "webhook", Topics: topics, State: hark.DestinationActive}
}

func (n *node) publish(topic string, count int) []hark.EventID {
	n.t.Helper()
	var ids []hark.EventID
	for count > 0 {
		batch := make([]hark.Event, min(count, 1000))
		for i := range batch {
			batch[i] = hark.Event{Topic: topic, ContentType: "text/plain", Data: fmt.Appendf(nil, "event %d", len(ids)+i)}
		}
		a, err := n.log.Append(context.Background(), hark.DefaultTenant, batch, eventlog.Idempotency{})
		if err != nil {
			n.t.Fatal(err)
		}
		for i := range batch {
			ids = append(ids, a.ID(i))
		}
		count -= len(batch)
	}
	return ids
}

func (n *node) eventually(what string, ok func() bool) {
	n.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	n.t.Fatalf("never: %s", what)
}

func (n *node) state(id hark.DestinationID, e hark.EventID) hark.Delivery {
	n.t.Helper()
	x, err := n.d.Get(hark.DefaultTenant, hark.DeliveryID{Destination: id, Event: e})
	if err != nil && hark.KindOf(err) != hark.NotFound {
		n.t.Fatal(err)
	}
	return x
}

// count is a sender that counts what arrives.
type count struct {
	mu   sync.Mutex
	seen map[hark.DeliveryID]int
	fail func(d *hark.Destination, e *hark.Event) Result
}

func (c *count) send(_ context.Context, d *hark.Destination, e *hark.Event, _ int) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		if r := c.fail(d, e); r.Outcome != hark.OK && r.Outcome != 0 {
			return r
		}
	}
	if c.seen == nil {
		c.seen = map[hark.DeliveryID]int{}
	}
	c.seen[hark.DeliveryID{Destination: d.ID, Event: e.ID}]++
	return Result{Outcome: hark.OK, Status: 200, Snippet: []byte("thanks")}
}

func (c *count) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

func (c *count) set(fail func(d *hark.Destination, e *hark.Event) Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = fail
}

func TestShellDeliversAndRemembers(t *testing.T) {
	var c count
	n := newNode(t, c.send)
	n.start()
	n.publish("orders.paid", 3) // before the destination: not for it
	n.change(nil, dst(7, "orders.*"))
	n.change(nil, dst(8, ">", "orders.>"), n.d.StartAt(0))
	ids := n.publish("orders.paid", 2500)
	n.publish("users.new", 10)
	n.eventually("all delivered", func() bool { return c.len() == 2500+3+2500+10 })
	n.eventually("the last row", func() bool { return n.state(7, ids[2499]).State == hark.Delivered })

	x := n.state(7, ids[0])
	if len(x.Log) != 1 || x.Attempts != 1 || string(x.Last.Snippet) != "thanks" || x.Topic != "orders.paid" {
		t.Errorf("%+v", x)
	}
	n.restart()
	more := n.publish("orders.new", 20)
	n.eventually("what came after the restart", func() bool { return n.state(8, more[19]).State == hark.Delivered })
	time.Sleep(20 * time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, times := range c.seen {
		if times != 1 {
			t.Fatalf("%s arrived %d times", id, times)
		}
	}
	st, err := n.d.Status(hark.DefaultTenant, 7)
	if err != nil || st.Behind > 0 || st.InFlight+st.Waiting > 0 || st.Breaker != "closed" {
		t.Errorf("%+v %v", st, err)
	}
}

func TestShellRetriesOverARestart(t *testing.T) {
	var c count
	n := newNode(t, c.send)
	n.start()
	d := dst(1, ">")
	d.Retry = &hark.Retry{Schedule: []hark.Duration{0, hark.Duration(300 * time.Millisecond), hark.Duration(300 * time.Millisecond)}}
	n.change(nil, d)
	c.set(func(*hark.Destination, *hark.Event) Result { return Result{Outcome: hark.Rejected, Status: 500} })
	ids := n.publish("a", 5)
	n.eventually("first attempts", func() bool { return n.state(1, ids[4]).Attempts == 1 })
	n.restart()
	if x := n.state(1, ids[0]); x.State != hark.Due || x.Next.IsZero() || len(x.Log) != 1 {
		t.Errorf("%+v", x)
	}
	c.set(nil)
	n.eventually("retries", func() bool { return c.len() == 5 && n.state(1, ids[4]).State == hark.Delivered })
	if x := n.state(1, ids[2]); x.Attempts != 2 || len(x.Log) != 2 || x.Log[0].Status != 500 || x.Log[1].Status != 200 {
		t.Errorf("%+v", x)
	}

	// Dead, retried by hand, cancelled.
	c.set(func(*hark.Destination, *hark.Event) Result { return Result{Outcome: hark.Rejected, Status: 500} })
	dead := n.publish("b", 1)[0]
	n.eventually("death", func() bool { return n.state(1, dead).State == hark.Dead })
	sent, err := n.d.Send(t.Context(), hark.DefaultTenant, 1, dead, Wish{Wait: true})
	if err != nil || sent.Attempt == nil || sent.Attempt.Status != 500 || sent.State != hark.Due || sent.Attempt.Number != 4 || sent.Attempt.Run != 2 {
		t.Errorf("%+v %v", sent, err)
	}
	if x, err := n.d.Cancel(hark.DefaultTenant, sent.ID); err != nil || x.State != hark.Cancelled {
		t.Errorf("%+v %v", x, err)
	}
	if _, err := n.d.Cancel(hark.DefaultTenant, sent.ID); hark.KindOf(err) != hark.Conflict {
		t.Error(err)
	}
	c.set(nil)
	if x, err := n.d.Retry(t.Context(), hark.DefaultTenant, sent.ID); err != nil || x.Run != 3 {
		t.Errorf("%+v %v", x, err)
	}
	n.eventually("the retry", func() bool { return n.state(1, dead).State == hark.Delivered })
}

func TestShellTopicsFilterPauseReplay(t *testing.T) {
	var c count
	n := newNode(t, c.send)
	n.start()
	d := dst(1, "a")
	n.change(nil, d)
	a := n.publish("a", 3)
	n.eventually("a", func() bool { return c.len() == 3 })

	other := *d
	other.Topics, other.Filter = []hark.Pattern{"b"}, []byte("event 1")
	n.change(d, &other)
	n.publish("a", 3)
	n.publish("b", 3)
	n.eventually("b", func() bool { return c.len() == 5 })

	paused := other
	paused.State = hark.DestinationPaused
	n.change(&other, &paused)
	last := n.publish("b", 4000)
	time.Sleep(30 * time.Millisecond)
	n.restart()
	if c.len() != 5 {
		t.Errorf("%d delivered while paused", c.len())
	}
	st, err := n.d.Status(hark.DefaultTenant, 1)
	if err != nil || st.Behind == 0 || st.Filtered != 1 {
		t.Errorf("%+v %v", st, err)
	}
	resumed := other
	n.change(&paused, &resumed)
	n.eventually("the backlog", func() bool { return c.len() == 5+3999 && n.state(1, last[3999]).State == hark.Delivered })

	r, err := n.d.Replay(hark.DefaultTenant, 1, 0, 0)
	if err != nil || r.To.IsZero() {
		t.Fatal(r, err)
	}
	n.eventually("the replay", func() bool {
		st, err := n.d.Status(hark.DefaultTenant, 1)
		return err == nil && st.Replay == nil
	})
	if x := n.state(1, last[7]); x.Run != 2 || x.Attempts != 2 || len(x.Log) != 2 {
		t.Errorf("%+v", x)
	}
	if x := n.state(1, a[0]); x.Run != 1 {
		t.Errorf("another topic's was replayed: %+v", x)
	}

	n.change(&resumed, nil)
	if _, err := n.d.Status(hark.DefaultTenant, 1); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
}

func TestShellPull(t *testing.T) {
	n := newNode(t, okay)
	n.start()
	d := dst(1, ">")
	d.Kind = "pull"
	n.change(nil, d)
	ids := n.publish("a", 30)
	got, err := n.d.Pull(t.Context(), hark.DefaultTenant, 1, 10, time.Hour, time.Second)
	if err != nil || len(got) != 10 || got[0].Event.ID != ids[0] || string(got[9].Event.Data) != "event 9" {
		t.Fatalf("%+v %v", got, err)
	}
	n.restart() // leases survive
	next, err := n.d.Pull(t.Context(), hark.DefaultTenant, 1, 100, time.Hour, 0)
	if err != nil || len(next) != 20 || next[0].Event.ID != ids[10] {
		t.Fatalf("%d %v", len(next), err)
	}
	settle := func(l Lease, v Verdict) error { return n.d.Settle(hark.DefaultTenant, l.ID, l.Token, v, 0) }
	if err := settle(got[0], Ack); err != nil {
		t.Error(err)
	}
	if err := settle(got[0], Ack); hark.KindOf(err) != hark.Conflict {
		t.Error(err)
	}
	if err := settle(got[1], Nack); err != nil {
		t.Error(err)
	}
	again, err := n.d.Pull(t.Context(), hark.DefaultTenant, 1, 5, 20*time.Millisecond, time.Second)
	if err != nil || len(again) != 1 || again[0].Event.ID != ids[1] || again[0].Attempt != 2 {
		t.Fatalf("%+v %v", again, err)
	}
	again, err = n.d.Pull(t.Context(), hark.DefaultTenant, 1, 5, time.Minute, 2*time.Second)
	if err != nil || len(again) != 1 || again[0].Attempt != 3 {
		t.Fatalf("%+v %v", again, err)
	}
	if x := n.state(1, ids[1]); x.State != hark.Sending || len(x.Log) != 2 || x.Log[1].Outcome != hark.LeaseExpired {
		t.Errorf("%+v", x)
	}
	if x := n.state(1, ids[0]); x.State != hark.Delivered {
		t.Errorf("%+v", x)
	}
}

func TestShellList(t *testing.T) {
	var c count
	n := newNode(t, c.send)
	n.start()
	d := dst(1, ">")
	d.Retry = &hark.Retry{Schedule: []hark.Duration{0}}
	n.change(nil, d)
	n.change(nil, dst(2, ">"))
	c.set(func(d *hark.Destination, e *hark.Event) Result {
		if d.ID == 1 && e.ID.Offset%3 == 0 {
			return Result{Outcome: hark.Rejected, Status: 400, Error: "no"}
		}
		return Result{}
	})
	ids := n.publish("a.b", 300)
	n.eventually("all", func() bool {
		return n.state(1, ids[299]).State.Finished() && n.state(2, ids[299]).State.Finished() && n.d.Load().Exceptions == 0
	})
	if err := n.d.Sync(); err != nil {
		t.Fatal(err)
	}
	total := func(q Query) (found int) {
		t.Helper()
		q.Limit = 37
		for pages := 0; pages < 50; pages++ {
			p, err := n.d.List(hark.DefaultTenant, q)
			if err != nil {
				t.Fatal(err)
			}
			found += len(p.Deliveries)
			if q.After = p.Next; q.After == "" {
				return found
			}
		}
		t.Fatalf("no end of %+v", q)
		return
	}
	for _, x := range []struct {
		q    Query
		want int
	}{
		{Query{}, 600},
		{Query{Destination: 1}, 300},
		{Query{Destination: 1, State: hark.Dead}, 100},
		{Query{State: hark.Dead}, 100},
		{Query{State: hark.Delivered}, 500},
		{Query{Event: ids[2]}, 2},
		{Query{Event: ids[2], Destination: 2}, 1},
		{Query{Topic: "a.*"}, 600},
		{Query{Topic: "b"}, 0},
		{Query{Text: "event 7"}, 2 * 11},
		{Query{Since: time.Now().Add(time.Hour)}, 0},
		{Query{Until: time.Now().Add(time.Hour)}, 600},
	} {
		if got := total(x.q); got != x.want {
			t.Errorf("%+v: %d, want %d", x.q, got, x.want)
		}
	}
	c.set(nil)
	retried := 0
	for {
		k, _, err := n.d.RetryAll(hark.DefaultTenant, Query{State: hark.Dead, Limit: 30})
		if err != nil {
			t.Fatal(err)
		}
		if retried += k; k == 0 {
			break
		}
		n.eventually("retries", func() bool { return n.d.Load().Exceptions == 0 })
		if err := n.d.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if retried != 100 || total(Query{State: hark.Delivered}) != 600 {
		t.Errorf("%d retried, %d delivered", retried, total(Query{State: hark.Delivered}))
	}
}
