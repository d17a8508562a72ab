package compare

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

// TestRun: what is measured is what such a run must cost.
func TestRun(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	c, err := client.New(s.URL(), "", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cfg := Config{Client: c, Clients: 5, Rate: 10, For: time.Second, Ways: []string{"none", "poll1", "longpoll", "sse", "webhook"}}
	report, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Ways) != len(cfg.Ways) || report.Cores < 1 {
		t.Fatalf("%+v", report)
	}
	for _, w := range report.Ways {
		if w.Events != 10 || w.Lost != 0 || w.Doubled != 0 || w.Refused != 0 || w.Note != "" || w.CPU == nil {
			t.Errorf("%+v", w)
		}
		least, most := map[string]float64{"poll1": 2.5, "longpoll": 15, "webhook": 15}[w.Name], map[string]float64{"poll1": 10.1, "longpoll": 60, "webhook": 51}[w.Name]
		if w.Requests < least || w.Requests > most {
			t.Errorf("%s: %v requests a second", w.Name, w.Requests)
		}
		if w.Name == "none" {
			continue
		}
		share := 0.8 // each client had each event
		if w.Name == "poll1" {
			share = 0.3 // many of them with a poll after the time that is measured
		}
		if bytes := 10 * 60 * EventBytes; w.Down < float64(bytes)*share {
			t.Errorf("%s: %v bytes down", w.Name, w.Down)
		}
		if w.P50 <= 0 || w.P99 < w.P50 || w.Name == "poll1" && w.P99 < 100 {
			t.Errorf("%s: delays %v, %v", w.Name, w.P50, w.P99)
		}
	}
	for d, err := range c.Destinations(t.Context(), client.DestinationQuery{}) {
		t.Errorf("left behind: %v %v", d, err)
	}
}

// TestRunTellsWhatFails: a server that refuses ends the run, with its reason.
func TestRunTellsWhatFails(t *testing.T) {
	s := servertest.Start(t, server.Config{Addr: "127.0.0.1:0"}) // not dev: it wants a key
	c, err := client.New(s.URL(), "", client.Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(t.Context(), Config{Client: c, Clients: 1, Rate: 5, For: time.Second, Ways: []string{"sse"}})
	if err == nil || !strings.Contains(err.Error(), "401") {
		t.Error(err)
	}
}

func TestListenerCountsLossAndDoubles(t *testing.T) {
	r := &run{}
	l := newListener(r, "")
	for range 5 {
		r.next("a.b")
	}
	for _, data := range []string{`{"n":0}`, `{"n":1}`, `{"n":1}`, `{"n":4}`, `{"n":3}`, `{"n":9}`} {
		if err := l.got([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.got([]byte("x")); err == nil {
		t.Error("no JSON was accepted")
	}
	var row Row
	r.sumUp(&row, []*listener{l})
	if row.Lost != 2 || row.Doubled != 2 || !l.has(5) {
		t.Errorf("%+v", row)
	}
}

func TestQuantile(t *testing.T) {
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(i+1)*time.Millisecond)
	}
	if p50, p99 := quantile(all, 0.5), quantile(all, 0.99); p50 != 51 || p99 != 100 || quantile(nil, 0.5) != 0 {
		t.Error(p50, p99)
	}
}

// TestPollTakesNoForAnAnswer: a refusal for being too quick is counted, others end the run.
func TestPollTakesNoForAnAnswer(t *testing.T) {
	status := http.StatusTooManyRequests
	r := &run{}
	l := newListener(r, "")
	l.http.Transport = answer(func(q *http.Request) *http.Response {
		return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: http.NoBody, Request: q}
	})
	c, err := client.New("http://hark.test", "", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Client = c
	if at, err := l.ask(context.Background(), "evt_1", "", nil); err != nil || at != "evt_1" || r.tally.refused.Load() != 1 {
		t.Error(at, err)
	}
	status = http.StatusForbidden
	if _, err := l.ask(context.Background(), "evt_1", "", nil); err == nil {
		t.Error("403 is fine")
	}
}

type answer func(*http.Request) *http.Response

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }
