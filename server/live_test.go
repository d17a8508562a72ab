package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/capture"
	"github.com/harkhq/hark/internal/store"
)

// pipes is a listener whose connections are in memory, so that their deadlines are the bubble's.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// noStore keeps nothing: what the rings of the test hold is beside them.
type noStore struct{ capture.Store }

func (noStore) Commit(...store.Record) error { return nil }
func (noStore) CaptureUsages(func(hark.TenantID, hark.SourceID, store.CaptureUsage)) error {
	return nil
}

// heldCaptures reads from memory and waits for real rings.
type heldCaptures struct {
	*capture.Rings
	mu   sync.Mutex // guards below
	held []*hark.Capture
}

func (h *heldCaptures) Captures(_ context.Context, _ hark.TenantID, _ hark.SourceID, q capture.Query) (capture.Page, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := capture.Page{Next: q.After}
	for _, c := range h.held {
		if c.ID > q.After {
			p.Captures, p.Next = append(p.Captures, c), c.ID
		}
	}
	return p, nil
}

// add keeps a request of size bytes and wakes who waits.
func (h *heldCaptures) add(t *testing.T, src *hark.Source, body string) {
	t.Helper()
	c := &hark.Capture{Source: src.ID, Received: time.Now(), Method: "POST", Body: []byte(body)}
	h.mu.Lock()
	held := *c
	held.ID = hark.CaptureID(time.Now().UnixMicro()) // as the rings give it
	h.held = append(h.held, &held)
	h.mu.Unlock()
	if err := h.Keep(t.Context(), src, c); err != nil {
		t.Error(err)
	}
}

type oneBin struct {
	api.Bins
	bin *hark.Source
}

func (b oneBin) Source(hark.TenantID, hark.SourceID) (*hark.Source, error) { return b.bin, nil }

type anyone struct{ api.Caller }

func (anyone) TenantID() hark.TenantID { return 1 }

// liveWorld is a server of live streams, with the bounds that strangers have, in a bubble.
type liveWorld struct {
	*testing.T
	bin      *hark.Source
	captures *heldCaptures
	stopping chan struct{}
	pipes    *pipes
}

func newLiveWorld(t *testing.T) *liveWorld {
	rings, err := capture.Open(capture.Config{Store: noStore{}})
	if err != nil {
		t.Fatal(err)
	}
	w := &liveWorld{T: t, bin: &hark.Source{ID: 7, Tenant: 1, Bin: &hark.Bin{MaxRequests: 10, MaxBytes: 1 << 30, TTL: hark.Duration(time.Hour)}},
		captures: &heldCaptures{Rings: rings}, stopping: make(chan struct{}), pipes: &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}}
	a := &api.API{Bins: oneBin{bin: w.bin}, Captures: w.captures, Stopping: w.stopping}
	mux := http.NewServeMux()
	for path, h := range map[string]api.Raw{"GET /v1/bins/{id}/live": a.LiveCaptures, "GET /v1/bins/{id}/wait": a.WaitCapture} {
		mux.HandleFunc(path, func(rw http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(&recorder{ResponseWriter: rw}, r.WithContext(api.WithCaller(r, anyone{}, "")))
		})
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { rings.Run(ctx) })
	wg.Go(func() { srv.Serve(w.pipes) })
	t.Cleanup(func() {
		srv.Close()
		stop()
		wg.Wait()
	})
	return w
}

// get asks for a path below the bin's on a connection of its own.
func (w *liveWorld) get(path string) net.Conn {
	w.Helper()
	ours, theirs := net.Pipe()
	w.pipes.conns <- theirs
	if _, err := fmt.Fprintf(ours, "GET /v1/bins/%v/%s HTTP/1.1\r\nHost: h\r\n\r\n", w.bin.ID, path); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { ours.Close() })
	return ours
}

// TestLiveOutlivesTheBounds: a stream and a wait live on beyond the time that a whole
// request may take, and still tell what comes.
func TestLiveOutlivesTheBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLiveWorld(t)
		begin := time.Now()
		waits := w.get("wait?timeout=2m")
		live := w.get("live")
		var beats int
		var told []string
		done := make(chan error, 1)
		go func() {
			resp, err := http.ReadResponse(bufio.NewReader(live), nil)
			if err != nil {
				done <- err
				return
			}
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() {
				if lines.Text() == ": beat" {
					beats++
				}
				if id, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
					told = append(told, fmt.Sprint(id, time.Since(begin)))
				}
			}
			done <- lines.Err()
		}()
		answered := make(chan string, 1)
		go func() {
			resp, err := http.ReadResponse(bufio.NewReader(waits), nil)
			if err != nil {
				answered <- err.Error()
				return
			}
			text, _ := io.ReadAll(resp.Body)
			var got struct{ Request *hark.Capture }
			json.Unmarshal(text, &got)
			answered <- fmt.Sprint(resp.StatusCode, got.Request != nil, time.Since(begin))
		}()
		time.Sleep(110 * time.Second)
		w.captures.add(t, w.bin, "x")
		if got, want := <-answered, "200 true 1m50s"; got != want {
			t.Errorf("the wait was answered %s, want %s", got, want)
		}
		time.Sleep(10*time.Minute - time.Since(begin))
		w.captures.add(t, w.bin, "y")
		synctest.Wait()
		close(w.stopping)
		if err := <-done; err != nil {
			t.Errorf("the stream ended with %v after %v", err, time.Since(begin))
		}
		if fmt.Sprint(told) != "[request1m50s request10m0s]" || beats < 38 || beats > 40 {
			t.Errorf("the stream told %v, and lived %d times", told, beats)
		}
		if took := time.Since(begin); took != 10*time.Minute {
			t.Errorf("it ended after %v", took)
		}
	})
}

// TestLiveEndsForTheStuck: who takes nothing holds a stream for a bounded time.
func TestLiveEndsForTheStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLiveWorld(t)
		stuck := w.get("live")
		resp, err := http.ReadResponse(bufio.NewReaderSize(stuck, 16), nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.captures.add(t, w.bin, strings.Repeat("x", 100_000))
		time.Sleep(50 * time.Second)
		stuck.SetReadDeadline(time.Now().Add(time.Minute))
		text, _ := io.ReadAll(resp.Body)
		if len(text) > 50_000 {
			t.Errorf("a reader that took nothing for 50 s got %d bytes", len(text))
		}
	})
}
