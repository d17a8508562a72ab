package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
)

// desk is a pull destination in memory: it hands out n deliveries once each, and counts
// what becomes of them.
type desk struct {
	t *testing.T

	mu       sync.Mutex // guards below
	left     int
	given    int
	acked    map[string]int
	nacked   map[string]string
	extended map[string]int
	stale    map[string]bool
	requests int
}

func deskOf(t *testing.T, n int) *desk {
	return &desk{t: t, left: n, acked: map[string]int{}, nacked: map[string]string{}, extended: map[string]int{}, stale: map[string]bool{}}
}

func newDesk(t *testing.T, n int) (*desk, *Client) {
	d := deskOf(t, n)
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	c, err := New(srv.URL, "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d, c
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	verb := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if verb == "pull" {
		d.pull(w, r)
		return
	}
	var in struct {
		Deliveries []leaseRef `json:"deliveries"`
		Delay      *string    `json:"delay"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		d.t.Error(err)
	}
	d.requests++
	for _, l := range in.Deliveries {
		if d.stale[l.Token] { // all or none
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"detail":"stale","code":"stale-lease","status":409}`)
			return
		}
	}
	for _, l := range in.Deliveries {
		switch verb {
		case "ack":
			d.acked[l.Token]++
		case "nack":
			d.nacked[l.Token] = "schedule"
			if in.Delay != nil {
				d.nacked[l.Token] = *in.Delay
			}
		case "extend":
			d.extended[l.Token]++
		}
	}
	fmt.Fprint(w, "{}")
}

func (d *desk) pull(w http.ResponseWriter, r *http.Request) {
	var most int
	fmt.Sscan(r.URL.Query().Get("max"), &most)
	b := []byte(`{"deliveries":[`)
	n := min(most, d.left)
	for i := range n {
		d.given++
		e := &hark.Event{ID: hark.EventID{Incarnation: 1, Offset: hark.Offset(d.given)}, Topic: "jobs", ContentType: "application/json", Data: fmt.Append(nil, d.given)}
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"delivery":%q,"token":"%d","attempt":1,"event":`, hark.DeliveryID{Destination: 1, Event: e.ID}, d.given)
		b = append(hark.AppendEventJSON(b, e), '}')
	}
	d.left -= n
	if n == 0 { // as if it had waited
		d.mu.Unlock()
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
		d.mu.Lock()
	}
	w.Write(append(b, "]}"...))
}

func (d *desk) settled() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.acked) + len(d.nacked)
}

// until waits for a condition and then ends the work.
func until(t *testing.T, stop context.CancelFunc, what func() bool) {
	go func() {
		defer stop()
		for end := time.Now().Add(time.Minute); !what(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Error("nothing more happens")
				return
			}
		}
	}()
}

func TestWorkSettlesEachDelivery(t *testing.T) {
	d, c := newDesk(t, 500)
	ctx, stop := context.WithCancel(t.Context())
	until(t, stop, func() bool { return d.settled() == 500 })
	var running, most int
	var mu sync.Mutex
	err := c.Work(ctx, 1, 16, func(ctx context.Context, e hark.Event) error {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() { mu.Lock(); running--; mu.Unlock() }()
		if l, ok := LeaseFrom(ctx); !ok || l.Event.ID != e.ID || l.Attempt != 1 {
			t.Error("no lease in the context")
		}
		switch e.ID.Offset {
		case 7:
			return errors.New("no")
		case 8:
			return RetryIn(time.Minute, errors.New("later"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if most > 16 {
		t.Errorf("%d at once", most)
	}
	if len(d.acked) != 498 || d.nacked["7"] != "schedule" || d.nacked["8"] != "1m0s" {
		t.Errorf("%d acked; nacked %v", len(d.acked), d.nacked)
	}
	if d.requests > 250 {
		t.Errorf("%d requests for 500 verdicts", d.requests)
	}
}

// near is a way to the desk that takes no time.
type near struct{ *desk }

func (n near) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	n.ServeHTTP(w, r)
	return w.Result(), r.Context().Err()
}

func TestWorkExtendsAndLosesLeases(t *testing.T) { synctest.Test(t, testLeases) }

func testLeases(t *testing.T) {
	d := deskOf(t, 2)
	c, err := New("http://desk.test", "", Options{HTTP: &http.Client{Transport: near{d}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	lost := make(chan error, 1)
	err = c.work(ctx, 1, 2, 300*time.Millisecond, func(ctx context.Context, e hark.Event) error {
		if e.ID.Offset == 1 { // works for three leases, and keeps its own
			time.Sleep(900 * time.Millisecond)
			stop()
			return nil
		}
		time.Sleep(150 * time.Millisecond)
		d.mu.Lock()
		d.stale["2"] = true
		d.mu.Unlock()
		<-ctx.Done()
		lost <- context.Cause(ctx)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-lost; !errors.Is(err, ErrLeaseLost) {
		t.Error(err)
	}
	if d.extended["1"] < 3 || d.acked["1"] != 1 || d.acked["2"] != 0 {
		t.Errorf("extended %v, acked %v", d.extended, d.acked)
	}
}

func TestWorkSurvivesOneStaleAck(t *testing.T) {
	d, c := newDesk(t, 10)
	d.stale["3"] = true
	ctx, stop := context.WithCancel(t.Context())
	until(t, stop, func() bool { return d.settled() == 9 })
	if err := c.Work(ctx, 1, 10, func(context.Context, hark.Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if len(d.acked) != 9 {
		t.Error(slices.Sorted(maps.Keys(d.acked)))
	}
}

func TestWorkEndsWhenHopeless(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	c, err := New(srv.URL, "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Work(t.Context(), 1, 4, func(context.Context, hark.Event) error { return nil })
	if hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
	if err := c.Work(t.Context(), 1, 0, nil); err == nil {
		t.Error("no concurrency was accepted")
	}
}
