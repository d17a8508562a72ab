package egress

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRedirectsAreAnswers(t *testing.T) {
	c := newCanary(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		srv := server(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:"+c.port+"/")
			w.WriteHeader(status)
			io.WriteString(w, "elsewhere")
		})
		r := mustGet(t, newClient(t, Config{Guard: local(t)}), srv.URL)
		if r.Status != status || string(r.Snippet) != "elsewhere" || r.Header.Get("Location") == "" {
			t.Errorf("%d: got %+v", status, r)
		}
	}
	if c.hits.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestNoCookiesNoEnvironmentProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	t.Setenv("ALL_PROXY", "http://127.0.0.1:1")
	var seen atomic.Value
	srv := server(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Clone())
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
	})
	c, dns := Config{Guard: local(t)}, newDNS()
	dns.set(t, "direct.test", "127.0.0.1")
	c.Resolver = dns.resolver()
	client := newClient(t, c)
	for range 2 {
		if r := mustGet(t, client, strings.Replace(srv.URL, "127.0.0.1", "direct.test", 1)); r.Status != 200 {
			t.Fatal(r.Status)
		}
	}
	h := seen.Load().(http.Header)
	if h.Get("Cookie") != "" || h.Get("Accept-Encoding") != "" {
		t.Errorf("sent %v", h)
	}
}

func TestSnippet(t *testing.T) {
	body := strings.Repeat("0123456789", 300)
	srv := server(t, func(w http.ResponseWriter, r *http.Request) {
		n := len(body)
		fmt.Sscanf(r.URL.Query().Get("n"), "%d", &n)
		if r.URL.Query().Has("chunked") {
			w.(http.Flusher).Flush()
		}
		if r.URL.Query().Has("slow") {
			for i := range n {
				io.WriteString(w, body[i:i+1])
				w.(http.Flusher).Flush()
			}
			return
		}
		io.WriteString(w, body[:n])
	})
	client := newClient(t, Config{Guard: local(t)})
	for _, query := range []string{"", "&chunked", "&slow"} {
		for _, c := range []struct{ n, most int }{{0, 0}, {0, 10}, {10, 0}, {10, 9}, {10, 10}, {10, 11}, {511, 1024}, {512, 1024}, {513, 1024}, {1024, 1024}, {1025, 1024}, {3000, 3000}, {3000, 1 << 20}, {3000, 1}} {
			ctx := t.Context()
			req, _ := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/?n=%d%s", srv.URL, c.n, query), nil)
			r, err := client.Do(ctx, req, c.most)
			if err != nil {
				t.Fatal(err)
			}
			want := body[:min(c.n, c.most)]
			if string(r.Snippet) != want || r.More != (c.n > c.most) || r.BodyFault != FaultNone {
				t.Errorf("%+v %s: %d bytes, more %v, fault %v", c, query, len(r.Snippet), r.More, r.BodyFault)
			}
		}
	}
	if s := client.Stats(); s.Dialed != 1 || s.Open != 1 {
		t.Errorf("these answers are all short, yet %+v", s)
	}
}

// counting counts the connections a server accepts.
func counting(t *testing.T, h http.HandlerFunc, start func(*httptest.Server)) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.Add(1)
		}
	}
	start(srv)
	t.Cleanup(srv.Close)
	return srv, &n
}

func TestConnectionsAreReused(t *testing.T) {
	size := 0
	srv, accepted := counting(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(make([]byte, size))
	}, (*httptest.Server).Start)
	post := func(c *Client) Response {
		t.Helper()
		ctx := WithTrace(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL, strings.NewReader("{}"))
		r, err := c.Do(ctx, req, 100)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, s := range []int{0, 50, 100, 101, 30_000, 64<<10 + 99} {
		size = s
		accepted.Store(0)
		client := newClient(t, Config{Guard: local(t)})
		first, later := post(client), Response{}
		for range 20 {
			later = post(client)
		}
		if n := accepted.Load(); n != 1 {
			t.Errorf("bodies of %d bytes: %d connections", s, n)
		}
		if first.Reused || !later.Reused || later.Remote.String() != srv.Listener.Addr().String() {
			t.Errorf("bodies of %d bytes: %+v, then %+v", s, first, later)
		}
	}
	// Too much to drain: the connection goes, the answer stands.
	size = 1 << 20
	accepted.Store(0)
	client := newClient(t, Config{Guard: local(t)})
	for range 3 {
		if r := post(client); r.Status != 200 || !r.More || len(r.Snippet) != 100 {
			t.Errorf("large body: %+v", r)
		}
	}
	if n := accepted.Load(); n != 3 {
		t.Errorf("large bodies: %d connections", n)
	}

	// Many at once, then again: the second wave dials nothing.
	size = 2
	accepted.Store(0)
	client = newClient(t, Config{Guard: local(t)})
	wave := func() {
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				req, _ := http.NewRequest("POST", srv.URL, strings.NewReader("{}"))
				if _, err := client.Do(t.Context(), req, 100); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	// A dial that lost against a connection that came free ends in its own time
	// and is kept too, so it may take a few waves until nothing is dialled.
	for n := 0; ; n++ {
		before := client.Stats().Dialed
		wave()
		if client.Stats().Dialed == before {
			break
		}
		if n == 20 {
			t.Fatalf("%d connections for 100 requests at once, and still dialling", client.Stats().Dialed)
		}
	}
}

func TestHTTP2(t *testing.T) {
	srv, accepted := counting(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/big" {
			w.Write(make([]byte, 1<<20))
			return
		}
		fmt.Fprintf(w, "%s %d", r.Proto, r.TLS.Version)
	}, func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() })
	pool := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	client := newClient(t, Config{Guard: local(t), RootCAs: pool})
	for _, path := range []string{"/", "/big", "/"} {
		ctx := WithTrace(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL+path, strings.NewReader("{}"))
		r, err := client.Do(ctx, req, 100)
		if err != nil {
			t.Fatal(err)
		}
		if r.Proto != "HTTP/2.0" || r.Remote.String() != srv.Listener.Addr().String() || r.More != (path == "/big") {
			t.Errorf("%s: %+v", path, r)
		}
	}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			req, _ := http.NewRequest("POST", srv.URL, strings.NewReader("{}"))
			if r, err := client.Do(t.Context(), req, 100); err != nil || string(r.Snippet) != "HTTP/2.0 772" {
				t.Errorf("%q, %v", r.Snippet, err)
			}
		})
	}
	wg.Wait()
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d connections for one host", n)
	}
}

func TestHTTP1OverTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	t.Cleanup(srv.Close)
	client := newClient(t, Config{Guard: local(t), RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	for range 3 {
		if r := mustGet(t, client, srv.URL); string(r.Snippet) != "HTTP/1.1" {
			t.Errorf("%+v", r)
		}
	}
	if s := client.Stats(); s.Dialed != 1 {
		t.Errorf("%+v", s)
	}
}

// 8 MiB that arrive as 8 KiB stay 8 KiB, of which we look at little.
func TestNothingIsDecompressed(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 8 {
		z.Write(zeros)
	}
	z.Close()
	srv := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb.Bytes())
	})
	r := mustGet(t, newClient(t, Config{Guard: local(t)}), srv.URL)
	if !bytes.Equal(r.Snippet, bomb.Bytes()[:1024]) || !r.More || r.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%d bytes, more %v, header %v", len(r.Snippet), r.More, r.Header)
	}
}

// A POST that lost its kept connection is repeated only if its sender says that
// it may be.
func TestRepeatable(t *testing.T) {
	var conns atomic.Int64
	addr := rawServer(t, func(c net.Conn) {
		first := conns.Add(1)%2 == 1
		readRequest(c)
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		readRequest(c)
		if !first {
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	post := func(c *Client, h http.Header) error {
		req, _ := http.NewRequest("POST", "http://"+addr, strings.NewReader("{}"))
		req.Header = h
		_, err := c.Do(t.Context(), req, 0)
		return err
	}
	client := newClient(t, Config{Guard: local(t)})
	if err := post(client, http.Header{}); err != nil {
		t.Fatal(err)
	}
	wantFault(t, post(client, http.Header{}), FaultReset)

	conns.Store(0)
	client = newClient(t, Config{Guard: local(t)})
	for range 2 {
		if err := post(client, http.Header{"Idempotency-Key": {}}); err != nil {
			t.Fatal(err)
		}
	}
	if conns.Load() != 2 {
		t.Errorf("%d connections", conns.Load())
	}
}

// A server that does not read costs no more than the time it is given.
func TestUnreadRequest(t *testing.T) {
	done := make(chan struct{})
	addr := rawServer(t, func(net.Conn) { <-done })
	t.Cleanup(func() { close(done) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequest("POST", "http://"+addr, bytes.NewReader(make([]byte, 16<<20)))
	_, err := newClient(t, Config{Guard: local(t)}).Do(ctx, req, 0)
	wantFault(t, err, FaultTimeout)
}

// The claimed length of a body must not be what we allocate.
func TestClaimedLength(t *testing.T) {
	addr := rawServer(t, func(c net.Conn) {
		readRequest(c)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\nshort")
	})
	client := newClient(t, Config{Guard: local(t)})
	req, _ := http.NewRequest("GET", "http://"+addr, nil)
	r, err := client.Do(t.Context(), req, 1<<30)
	if err != nil || string(r.Snippet) != "short" || r.BodyFault != FaultReset || !r.More {
		t.Errorf("%+v, %v", r, err)
	}
	if cap(r.Snippet) > 64<<10 {
		t.Errorf("allocated %d bytes on a claim", cap(r.Snippet))
	}
}

// The status is known: a body that does not come costs BodyTimeout at most, and
// not the answer.
func TestSlowBodies(t *testing.T) {
	for name, f := range map[string]func(net.Conn){
		"never comes": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n")
			io.Copy(io.Discard, c)
		},
		"stops": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\nabc")
			io.Copy(io.Discard, c)
		},
		"drips": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n")
			for {
				if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr := rawServer(t, func(c net.Conn) { readRequest(c); f(c) })
			client := newClient(t, Config{Guard: local(t), BodyTimeout: 50 * time.Millisecond})
			start := time.Now()
			r := mustGet(t, client, "http://"+addr)
			if r.Status != 201 || !r.More || r.BodyFault != FaultTimeout {
				t.Errorf("%+v", r)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("took %v", d)
			}
			// The same while draining.
			req, _ := http.NewRequest("GET", "http://"+addr, nil)
			if r, err := client.Do(t.Context(), req, 0); err != nil || r.Status != 201 || !r.More {
				t.Errorf("draining: %+v, %v", r, err)
			}
			for client.Stats().Open != 0 {
				runtime.Gosched()
			}
		})
	}
}

func TestEndlessBodies(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		srv, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		}, func(s *httptest.Server) { s.EnableHTTP2 = h2; s.StartTLS() })
		client := newClient(t, Config{Guard: local(t), RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
		r := mustGet(t, client, srv.URL)
		if r.Status != 200 || len(r.Snippet) != 1024 || !r.More || r.BodyFault != FaultNone {
			t.Errorf("h2 %v: %d bytes, %+v", h2, len(r.Snippet), r.BodyFault)
		}
	}
}

// The time of the whole is the caller's, and what was already said stands.
func TestDeadlineInBody(t *testing.T) {
	addr := rawServer(t, func(c net.Conn) {
		readRequest(c)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
		io.Copy(io.Discard, c)
	})
	client := newClient(t, Config{Guard: local(t)})
	var r Response
	var err error
	for after := range slower {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		req, _ := http.NewRequest("GET", "http://"+addr, nil)
		r, err = client.Do(ctx, req, 100)
		cancel()
		if string(r.Snippet) == "abc" {
			break
		}
		if err != nil {
			wantFault(t, err, FaultTimeout) // it came before the answer
		}
	}
	if err != nil || r.Status != 200 || string(r.Snippet) != "abc" || r.BodyFault != FaultTimeout {
		t.Errorf("%+v, %v", r, err)
	}
}

// Hosts that never answer hold nothing that another host needs.
func TestStuckHostsHoldNothing(t *testing.T) {
	stuck := rawServer(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	mute, err := net.Listen("tcp", "127.0.0.1:0") // never accepts: TLS handshakes hang
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	srv := server(t, func(http.ResponseWriter, *http.Request) {})
	client := newClient(t, Config{Guard: local(t)})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, u := range []string{"http://" + stuck, "https://" + mute.Addr().String()} {
		for range 100 {
			wg.Go(func() {
				req, _ := http.NewRequest("GET", u, nil)
				if _, err := client.Do(ctx, req, 10); FaultOf(err) != FaultCanceled {
					t.Errorf("stuck request: %v", err)
				}
			})
		}
	}
	for client.Stats().Open < 200 {
		runtime.Gosched()
	}
	for range 50 {
		if r := mustGet(t, client, srv.URL); r.Status != 200 {
			t.Error(r.Status)
		}
	}
	cancel()
	wg.Wait()
}

func TestSocketLimit(t *testing.T) {
	hold := make(chan struct{})
	srv := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-hold
		}
	})
	other := server(t, func(http.ResponseWriter, *http.Request) {})
	client := newClient(t, Config{Guard: local(t), MaxConns: 2})

	// Idle connections make room.
	mustGet(t, client, srv.URL)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			req, _ := http.NewRequest("GET", srv.URL+"/hold", nil)
			if _, err := client.Do(t.Context(), req, 0); err != nil {
				t.Error(err)
			}
		})
	}
	for client.Stats().Open < 2 {
		runtime.Gosched()
	}
	// Busy ones do not.
	_, err := get(t, client, other.URL)
	wantFault(t, err, FaultBusy)
	close(hold)
	wg.Wait()
	mustGet(t, client, other.URL)
	client.CloseIdle()
	for client.Stats().Open != 0 {
		runtime.Gosched()
	}
}

func TestSourceAddr(t *testing.T) {
	srv := server(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	client := newClient(t, Config{Guard: local(t), SourceAddr: netip.MustParseAddr("127.0.0.9")})
	if r := mustGet(t, client, srv.URL); !strings.HasPrefix(string(r.Snippet), "127.0.0.9:") {
		t.Errorf("came from %s", r.Snippet)
	}
	_, err := get(t, client, "http://[::1]:8080/")
	wantFault(t, err, FaultConnect)
}

func TestConfigFaults(t *testing.T) {
	_, err := New(Config{
		Guard: Guard{AllowCIDRs: make([]netip.Prefix, 1), DenyCIDRs: make([]netip.Prefix, 1)}, ProxyURL: &url.URL{Scheme: "ftp", User: url.UserPassword("u", "hunter2")},
		SourceAddr: netip.IPv4Unspecified(), DialTimeout: -1, MaxConns: -1,
	})
	for _, want := range []string{"allow_cidrs", "deny_cidrs", "proxy: the URL must begin", "proxy: the URL has no host", "source address", "dial timeout", "max conns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Error("the error tells a password")
	}
}
