package egress

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/harkhq/hark/internal/h2test"
)

func peerServer(t testing.TB, cfg h2test.Config) *h2test.Server {
	t.Helper()
	s, err := h2test.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func peerClient(t testing.TB, s *h2test.Server) *Client {
	t.Helper()
	return newClient(t, Config{Guard: local(t), RootCAs: s.CA})
}

// post sends one request as p says.
func post(ctx context.Context, c *Client, p *Peer, url, body string) (Response, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	return c.Do(WithPeer(ctx, p), req, 1024)
}

// burst sends n requests at once and returns those that failed.
func burst(t testing.TB, c *Client, p *Peer, url string, n int) (failed []error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for i := range n {
		wg.Go(func() {
			body := fmt.Sprintf("request %d", i)
			r, err := post(ctx, c, p, url, body)
			if err == nil && (r.Status != 200 || string(r.Snippet) != body) {
				err = fmt.Errorf("status %d, body %q", r.Status, r.Snippet)
			}
			if err != nil {
				mu.Lock()
				failed = append(failed, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

// counts tells how often each body came.
type counts struct {
	mu sync.Mutex
	by map[string]int
}

func (c *counts) add(body []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]int{}
	}
	c.by[string(body)]++
	n := 0
	for _, k := range c.by {
		n += k
	}
	return n
}

func (c *counts) wantOnce(t *testing.T, n int) {
	t.Helper()
	// The answer is there before the count.
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.by) >= n
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.by) != n {
		t.Errorf("%d different requests were processed, want %d", len(c.by), n)
	}
	for body, k := range c.by {
		if k != 1 {
			t.Errorf("%q was processed %d times", body, k)
		}
	}
}

func TestPeerProvesItself(t *testing.T) {
	var early, got atomic.Int64
	var proven sync.Map // by connection
	s := peerServer(t, h2test.Config{
		MaxStreams: 1,
		Arrived: func(st *h2test.Stream) {
			if _, ok := proven.Load(st.Conn); !ok && st.Before > 0 {
				early.Add(1)
			}
		},
		Handle: func(st *h2test.Stream) {
			status := 200
			if got.Add(1) <= 3 {
				status = 403
			} else if _, ok := proven.LoadOrStore(st.Conn, true); !ok {
				st.Conn.SetMaxStreams(50)
			}
			st.Answer(status, nil, st.Body)
		},
	})
	p := &Peer{Name: "a", Proves: func(status int) bool { return status != 403 }, MaxConns: 2}
	failed := burst(t, peerClient(t, s), p, s.URL, 500)
	if len(failed) != 3 || early.Load() != 0 || s.Opened() > 2 {
		t.Errorf("%d failed (want the 3 that were refused), %d came before their connection was proven, %d connections", len(failed), early.Load(), s.Opened())
	}
	for _, c := range s.Conns() {
		if c.Over.Load() > 0 {
			t.Errorf("connection %d: %d over the limit", c.Number, c.Over.Load())
		}
	}
}

func TestPeerFillsFewConnections(t *testing.T) {
	release := make(chan struct{})
	var open, most atomic.Int64
	var once sync.Once
	s := peerServer(t, h2test.Config{MaxStreams: 100, Handle: func(st *h2test.Stream) {
		n := open.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == 300 {
			once.Do(func() { close(release) })
		}
		<-release
		open.Add(-1)
		st.Answer(200, nil, st.Body)
	}})
	failed := burst(t, peerClient(t, s), &Peer{Name: "a", MaxConns: 3}, s.URL, 1000)
	if len(failed) != 0 || s.Opened() != 3 || most.Load() != 300 {
		t.Errorf("failed %v, %d connections, %d at once", failed, s.Opened(), most.Load())
	}
}

func TestPeerGoAwayInMidBurst(t *testing.T) {
	const n = 2000
	var seen counts
	var came atomic.Int64
	s := peerServer(t, h2test.Config{MaxStreams: 100, Handle: func(st *h2test.Stream) {
		// Every 97th says that it, and what came after it, is not processed.
		if came.Add(1)%97 == 0 {
			st.Conn.GoAwayBefore(st, http2.ErrCodeNo, `{"reason":"Shutdown"}`)
			return
		}
		if st.Answer(200, nil, st.Body) {
			seen.add(st.Body)
		}
	}})
	failed := burst(t, peerClient(t, s), &Peer{Name: "a", MaxConns: 4}, s.URL, n)
	for _, err := range failed {
		t.Error(err)
	}
	seen.wantOnce(t, n)
	if s.Opened() < 10 {
		t.Errorf("%d connections: that was no burst of GOAWAY", s.Opened())
	}
}

// TestPeerKeepsToProcessed: what the peer may have processed is not sent again, and the
// reason of its GOAWAY is told.
func TestPeerKeepsToProcessed(t *testing.T) {
	var seen counts
	s := peerServer(t, h2test.Config{Handle: func(st *h2test.Stream) {
		if seen.add(st.Body) == 5 {
			st.Conn.GoAway(http2.ErrCodeNo, `{"reason":"Drained"}`)
			st.Conn.Close()
		}
	}})
	failed := burst(t, peerClient(t, s), &Peer{Name: "a"}, s.URL, 5)
	if len(failed) != 5 {
		t.Fatalf("%d failed, want 5", len(failed))
	}
	for _, err := range failed {
		wantFault(t, err, FaultReset)
		if !strings.Contains(err.Error(), "Drained") {
			t.Errorf("%q does not say why", err)
		}
	}
	seen.wantOnce(t, 5)
}

func TestPeerResetIsNotSentAgain(t *testing.T) {
	var seen counts
	s := peerServer(t, h2test.Config{Handle: func(st *h2test.Stream) {
		seen.add(st.Body)
		st.Reset(http2.ErrCodeInternal)
	}})
	_, err := post(t.Context(), peerClient(t, s), &Peer{Name: "a"}, s.URL, "x")
	wantFault(t, err, FaultReset)
	seen.wantOnce(t, 1)
}

// TestPeerFewerStreams: before its SETTINGS came a connection is given more than they
// allow. What it refuses is sent again.
func TestPeerFewerStreams(t *testing.T) {
	var seen counts
	s := peerServer(t, h2test.Config{MaxStreams: 2, Handle: func(st *h2test.Stream) {
		seen.add(st.Body)
		st.Answer(200, nil, st.Body)
	}})
	for _, err := range burst(t, peerClient(t, s), &Peer{Name: "a", MaxConns: 2}, s.URL, 200) {
		t.Error(err)
	}
	seen.wantOnce(t, 200)
}

func TestPeerSettingsChange(t *testing.T) {
	var seen counts
	s := peerServer(t, h2test.Config{MaxStreams: 100, Handle: func(st *h2test.Stream) {
		if n := seen.add(st.Body); n%50 == 0 {
			st.Conn.SetMaxStreams([]uint32{1, 100, 7}[n/50%3])
		}
		st.Answer(200, nil, st.Body)
	}})
	for _, err := range burst(t, peerClient(t, s), &Peer{Name: "a", MaxConns: 1}, s.URL, 1000) {
		t.Error(err)
	}
	seen.wantOnce(t, 1000)
}

func TestPeerTimeoutWhileWaiting(t *testing.T) {
	release := make(chan struct{})
	s := peerServer(t, h2test.Config{MaxStreams: 1, Handle: func(st *h2test.Stream) {
		<-release
		st.Answer(200, nil, st.Body)
	}})
	c := peerClient(t, s)
	p := &Peer{Name: "a", MaxConns: 1, Proves: func(int) bool { return true }}
	first := make(chan error, 1)
	go func() {
		_, err := post(t.Context(), c, p, s.URL, "first")
		first <- err
	}()
	waitFor(t, func() bool { return len(s.Conns()) == 1 && s.Conns()[0].Open() == 1 })
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := post(ctx, c, p, s.URL, "late")
		cancel()
		wantFault(t, err, FaultTimeout)
	}
	close(release)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if failed := burst(t, c, p, s.URL, 20); len(failed) > 0 {
		t.Fatal("who gave up kept a place:", failed)
	}
}

func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come true")
		}
	}
}

func TestPeerFirstRequestHangs(t *testing.T) {
	s := peerServer(t, h2test.Config{Handle: func(st *h2test.Stream) {
		if st.Conn.Number == 1 {
			<-st.Gone()
			return
		}
		st.Answer(200, nil, st.Body)
	}})
	c := peerClient(t, s)
	p := &Peer{Name: "a", MaxConns: 2, Proves: func(int) bool { return true }}
	ctx, cancel := context.WithCancel(t.Context())
	hung := make(chan error, 1)
	go func() {
		_, err := post(ctx, c, p, s.URL, "hangs")
		hung <- err
	}()
	waitFor(t, func() bool { return len(s.Conns()) == 1 && s.Conns()[0].Open() == 1 })
	if failed := burst(t, c, p, s.URL, 30); len(failed) > 0 {
		t.Error("held up by another's request:", failed)
	}
	cancel()
	wantFault(t, <-hung, FaultCanceled)
}

func mustURL(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestPeerCannotConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + l.Addr().String()
	l.Close()
	c := newClient(t, Config{Guard: local(t)})
	p := &Peer{Name: "a"}
	before := time.Now()
	for _, err := range burst(t, c, p, url, 200) {
		wantFault(t, err, FaultConnect)
	}
	if d := c.pool(p, mustURL(t, url)); d.strikes > 20 {
		t.Errorf("%d tries to connect for 200 requests", d.strikes)
	}
	if took := time.Since(before); took > 5*time.Second {
		t.Errorf("it took %v to say so", took)
	}
}

// TestPeerHangsUp: a service that ends each connection without an answer is not stormed.
func TestPeerHangsUp(t *testing.T) {
	s := peerServer(t, h2test.Config{Handle: func(st *h2test.Stream) {
		st.Conn.GoAwayBefore(st, http2.ErrCodeNo, "")
	}})
	c := peerClient(t, s)
	for range 10 {
		for _, err := range burst(t, c, &Peer{Name: "a"}, s.URL, 50) {
			wantFault(t, err, FaultReset)
		}
	}
	if s.Opened() > 20 {
		t.Errorf("%d connections for nothing", s.Opened())
	}
}

func TestPeerNeedsHTTP2(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer s.Close()
	c := newClient(t, Config{Guard: local(t), RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	_, err := post(t.Context(), c, &Peer{Name: "a"}, s.URL, "x")
	if err == nil || !strings.Contains(err.Error(), "HTTP/2") {
		t.Fatal(err)
	}
}

func TestPeerIsGuarded(t *testing.T) {
	s := peerServer(t, h2test.Config{Handle: func(st *h2test.Stream) { st.Answer(200, nil, nil) }})
	c := newClient(t, Config{RootCAs: s.CA})
	_, err := post(t.Context(), c, &Peer{Name: "a"}, s.URL, "x")
	wantFault(t, err, FaultRefused)
	if s.Opened() != 0 {
		t.Error("it was dialled")
	}
}

func TestPeerThroughProxy(t *testing.T) {
	s := peerServer(t, h2test.Config{Handle: func(st *h2test.Stream) { st.Answer(200, nil, st.Body) }})
	proxied := newProxy(t, strings.TrimPrefix(s.URL, "https://"))
	c := newClient(t, Config{Guard: local(t), RootCAs: s.CA, ProxyURL: proxied.url})
	r, err := post(t.Context(), c, &Peer{Name: "a"}, s.URL, "through")
	if err != nil || string(r.Snippet) != "through" || r.Proto != "HTTP/2.0" {
		t.Fatal(r, err)
	}
	refusing := newClient(t, Config{RootCAs: s.CA, ProxyURL: proxied.url})
	_, err = post(t.Context(), refusing, &Peer{Name: "a"}, s.URL, "x")
	wantFault(t, err, FaultRefused)
}

func TestPeersShareByName(t *testing.T) {
	s := peerServer(t, h2test.Config{Handle: func(st *h2test.Stream) { st.Answer(200, nil, st.Body) }})
	c := peerClient(t, s)
	for _, name := range []string{"a", "b", "a", "b"} {
		if _, err := post(t.Context(), c, &Peer{Name: name}, s.URL, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if s.Opened() != 2 {
		t.Errorf("%d connections for two names", s.Opened())
	}
	c.CloseIdle()
	waitFor(t, func() bool { return len(s.Conns()) == 0 })
	c.peers.mu.Lock()
	left := len(c.peers.by)
	c.peers.mu.Unlock()
	if left != 0 || c.Stats().Open != 0 {
		t.Errorf("%d pools and %d sockets are left", left, c.Stats().Open)
	}
}

func TestPeerIdle(t *testing.T) {
	s := peerServer(t, h2test.Config{Handle: func(st *h2test.Stream) { st.Answer(200, nil, st.Body) }})
	c := peerClient(t, s)
	if _, err := post(t.Context(), c, &Peer{Name: "a", IdleTimeout: 20 * time.Millisecond}, s.URL, "x"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return len(s.Conns()) == 0 })
	waitFor(t, func() bool {
		c.peers.mu.Lock()
		defer c.peers.mu.Unlock()
		return len(c.peers.by) == 0
	})
	// It is there again when it is wanted.
	if failed := burst(t, c, &Peer{Name: "a"}, s.URL, 10); len(failed) > 0 {
		t.Error(failed)
	}
}

// TestPeerBodyWithoutGetBody: what cannot be sent again is not.
func TestPeerBodyWithoutGetBody(t *testing.T) {
	s := peerServer(t, h2test.Config{Handle: func(st *h2test.Stream) { st.Conn.GoAwayBefore(st, http2.ErrCodeNo, "") }})
	req, err := http.NewRequest("POST", s.URL, io.NopCloser(bytes.NewReader([]byte("x"))))
	if err != nil {
		t.Fatal(err)
	}
	_, err = peerClient(t, s).Do(WithPeer(t.Context(), &Peer{Name: "a"}), req, 10)
	wantFault(t, err, FaultReset)
	if s.Opened() != 1 {
		t.Errorf("%d connections", s.Opened())
	}
}

// TestPeerPings: an idle connection is asked whether it is there, and left if it is not.
func TestPeerPings(t *testing.T) {
	for name, dead := range map[string]bool{"there": false, "dead": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := peerServer(t, h2test.Config{NoPong: dead, Handle: func(st *h2test.Stream) { st.Answer(200, nil, st.Body) }})
			c := peerClient(t, s)
			c.peerTransport.HTTP2.SendPingTimeout, c.peerTransport.HTTP2.PingTimeout = 10*time.Millisecond, time.Minute
			if dead {
				c.peerTransport.HTTP2.PingTimeout = 2 * time.Second // each request is answered before
			}
			p := &Peer{Name: "a", IdleTimeout: time.Hour}
			if _, err := post(t.Context(), c, p, s.URL, "x"); err != nil {
				t.Fatal(err)
			}
			conn := s.Conns()[0]
			if dead {
				waitFor(t, func() bool { return len(s.Conns()) == 0 })
			} else {
				waitFor(t, func() bool { return conn.Pings.Load() > 3 })
			}
			if _, err := post(t.Context(), c, p, s.URL, "y"); err != nil {
				t.Error(err)
			}
			if want := map[bool]int{false: 1, true: 2}[dead]; s.Opened() != want {
				t.Errorf("%d connections, want %d", s.Opened(), want)
			}
		})
	}
}

// TestPeerOfNetHTTP: a server that is not ours.
func TestPeerOfNetHTTP(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	c := newClient(t, Config{Guard: local(t), RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	for _, p := range []*Peer{{Name: "a"}, {Name: "b", MaxConns: 2, Proves: func(status int) bool { return status == 200 }}} {
		if failed := burst(t, c, p, s.URL, 1000); len(failed) > 0 {
			t.Errorf("%s: %v", p.Name, failed[0])
		}
	}
}

// BenchmarkHTTP2 compares the two ways to one host, 64 requests at once.
func BenchmarkHTTP2(b *testing.B) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	for name, with := range map[string]func(context.Context) context.Context{
		"shared": func(ctx context.Context) context.Context { return ctx },
		"peer":   func(ctx context.Context) context.Context { return WithPeer(ctx, &Peer{Name: "a"}) },
	} {
		b.Run(name, func(b *testing.B) {
			c := newClient(b, Config{Guard: local(b), RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
			body := strings.Repeat("x", 1000)
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ctx := with(b.Context())
					req, err := http.NewRequestWithContext(ctx, "POST", s.URL, strings.NewReader(body))
					if err != nil {
						b.Error(err)
						return
					}
					if _, err := c.Do(ctx, req, 64); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
