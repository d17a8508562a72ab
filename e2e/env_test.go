package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// binary is the hark under test, built once; HARK_BIN names one that is built
// already, such as a release.
var binary = os.Getenv("HARK_BIN")

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hark-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
	}
	if err == nil && binary == "" {
		binary, err = testenv.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	flag.Parse()
	flag.Set("test.parallel", "8") // most of the time they wait, more than there are cores
	return m.Run()
}

// world is a server, a receiver and a client: what a scenario plays in.
type world struct {
	*testing.T
	server   *testenv.Server
	receiver *testenv.Receiver
	api      testenv.API
	ctx      context.Context
}

// start makes a world. The server ends with the test; if the test failed, its
// log is shown.
func start(t *testing.T, setup testenv.Setup) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{T: t, ctx: ctx}
	if setup.Data == "" {
		setup.Data = filepath.Join(t.TempDir(), "data")
	}
	w.receiver = receive(t, nil)
	t.Cleanup(func() {
		if w.server == nil {
			return
		}
		select {
		case <-w.server.Gone():
		default:
			w.server.Kill()
		}
		if t.Failed() {
			t.Logf("the server printed:\n%s", w.server.Output())
		}
	})
	s, err := testenv.Start(ctx, binary, setup)
	if err != nil {
		t.Fatal(err)
	}
	w.adopt(s)
	return w
}

// adopt makes s the world's server.
func (w *world) adopt(s *testenv.Server) {
	w.server, w.api = s, s.API()
}

// receive starts a receiver that ends with the test.
func receive(t *testing.T, answer func(*testenv.Hit) int) *testenv.Receiver {
	t.Helper()
	r, err := testenv.NewReceiver(answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// stop stops the server as an operator does.
func (w *world) stop() {
	w.Helper()
	if err := w.server.Stop(enough); err != nil {
		w.Fatal(err)
	}
}

// again starts the server again on the same folder.
func (w *world) again() {
	w.Helper()
	s, err := w.server.Again(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	w.adopt(s)
}

// nextEra has the receiver tell what the next server sends from what the last one did.
func (w *world) nextEra() {
	w.Helper()
	if err := w.receiver.NextEra(); err != nil {
		w.Fatal(err)
	}
}

// to adds a webhook destination at the receiver's path.
func (w *world) to(path string, topics ...string) testenv.Destination {
	w.Helper()
	return w.add(testenv.Webhook(w.receiver.URL+path, topics...))
}

// add adds any destination.
func (w *world) add(d testenv.Destination) testenv.Destination {
	w.Helper()
	made, err := w.api.AddDestination(w.ctx, d)
	if err != nil {
		w.Fatal(err)
	}
	return made
}

// publish publishes one event and returns its id.
func (w *world) publish(topic string, data any) string {
	w.Helper()
	p, err := w.api.Publish(w.ctx, testenv.Event{Topic: topic, Data: data})
	if err != nil {
		w.Fatal(err)
	}
	if p.ID == "" {
		w.Fatal("a publish answered no id")
	}
	return p.ID
}

// wait waits for n deliveries at a path.
func (w *world) wait(path string, n int) []testenv.Hit {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, enough)
	defer cancel()
	hits, err := w.receiver.Wait(ctx, path, n)
	if err != nil {
		w.Fatal(err)
	}
	return hits
}

// get reads JSON.
func (w *world) get(path string, out any) {
	w.Helper()
	if err := w.api.Call(w.ctx, "GET", path, nil, out); err != nil {
		w.Fatal(err)
	}
}

// post sends JSON and reads the answer, which must be 2xx.
func (w *world) post(path string, in, out any) {
	w.Helper()
	if err := w.api.Call(w.ctx, "POST", path, in, out); err != nil {
		w.Fatal(err)
	}
}

// enough bounds the wait for what must come: nothing that works takes nearly as long, on the busiest machine.
const enough = time.Minute

// eventually waits until ok tells "", and fails with what it told last.
func eventually(t *testing.T, within time.Duration, ok func() string) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		why := ok()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %s", within, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// storedEvents pages through the whole log.
func (w *world) storedEvents(topics string) (events []storedEvent) {
	w.Helper()
	query := "?from=earliest&limit=1000&topic=" + topics
	for {
		var page eventPage
		w.get("/v1/events"+query, &page)
		events = append(events, page.Events...)
		if !page.More {
			return events
		}
		query = "?limit=1000&topic=" + topics + "&after=" + page.Cursor
	}
}

type storedEvent struct {
	ID    string `json:"id"`
	Topic string `json:"topic"`
	Key   string `json:"key"`
	Data  any    `json:"data"`
}

type eventPage struct {
	Events []storedEvent `json:"events"`
	Cursor string        `json:"cursor"`
	Gap    *gap          `json:"gap"`
	More   bool          `json:"more"`
}

type gap struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// copyHalf copies the first half of a file.
func copyHalf(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
}
