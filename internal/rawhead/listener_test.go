package rawhead

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve runs a server whose handler answers TLS, protocol, head and body of a request.
func serve(t *testing.T, withTLS bool, handler http.HandlerFunc) (addr string, conns *sync.Map) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Keep: func(target []byte) bool { return bytes.HasPrefix(target, []byte("/in/")) }}
	if withTLS {
		cert := httptest.NewUnstartedServer(nil)
		cert.StartTLS()
		cfg.TLS = &tls.Config{Certificates: cert.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
		cert.Close()
	}
	conns = &sync.Map{}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: Handler(handler), Protocols: protocols, ConnContext: ConnContext, MaxHeaderBytes: MaxHead,
		ConnState: func(c net.Conn, s http.ConnState) { conns.Store(c, s); ConnState(c, s) }}
	l := New(inner, cfg)
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return inner.Addr().String(), conns
}

func tell(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "tls=%t proto=%s head=%q body=%q err=%v\n", r.TLS != nil && r.TLS.HandshakeComplete, r.Proto, Of(r), body, err)
	if Of(r) != "" {
		fmt.Fprintln(w, "twice")
	}
}

// exchange writes parts to a new connection and reads so many answers.
func exchange(t *testing.T, addr string, answers int, parts ...string) (bodies []string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	go func() {
		for _, p := range parts {
			io.WriteString(c, p)
		}
	}()
	r := bufio.NewReader(c)
	for range answers {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		bodies = append(bodies, string(body))
	}
	return bodies
}

func TestPipelined(t *testing.T) {
	addr, _ := serve(t, false, tell)
	const a = "POST /in/a HTTP/1.1\r\nhost: x\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 3\r\n\r\n"
	const b = "GET /in/b HTTP/1.1\r\nHost:x\r\n\r\n"
	const c = "POST /in/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, parts := range [][]string{
		{a + "abc" + "GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n" + "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n" + b + c + "2\r\nde\r\n0\r\n\r\n"},
		strings.Split(a+"abc"+"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n"+"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"+b+c+"2\r\nde\r\n0\r\n\r\n", ""),
	} {
		got := exchange(t, addr, 5, parts...)
		for i, want := range []string{fmt.Sprintf("head=%q body=\"abc\"", a), `head="" body=""`, "", fmt.Sprintf("head=%q body=\"\"", b), fmt.Sprintf("head=%q body=\"de\"", c)} {
			if !strings.Contains(got[i], want) || strings.Contains(got[i], "twice") {
				t.Errorf("answer %d: %s, want %s", i, got[i], want)
			}
		}
	}
}

// TestUnreadBody: a body that the handler leaves is skipped as net/http skips it.
func TestUnreadBody(t *testing.T) {
	addr, _ := serve(t, false, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%q", Of(r)) })
	const a = "POST /in/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
	const b = "POST /in/b HTTP/1.1\r\nHost: x\r\n\r\n"
	got := exchange(t, addr, 2, a, strings.Repeat(b, 100000/len(b)+1)[:100000], b)
	if got[0] != fmt.Sprintf("%q", a) || got[1] != fmt.Sprintf("%q", b) {
		t.Errorf("got %q", got)
	}
}

func TestExpectContinue(t *testing.T) {
	addr, _ := serve(t, false, tell)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	for i := range 3 {
		head := fmt.Sprintf("POST /in/%d HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", i)
		io.WriteString(c, head)
		if line, _ := r.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100 ") {
			t.Fatalf("%q", line)
		}
		r.ReadString('\n')
		io.WriteString(c, "ok")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), fmt.Sprintf("head=%q body=\"ok\"", head)) {
			t.Errorf("%s", body)
		}
	}
}

// TestParkedHoldNothing: between two requests a connection has no buffer.
func TestParkedHoldNothing(t *testing.T) {
	addr, conns := serve(t, false, tell)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	for range 3 {
		fmt.Fprintf(c, "GET /in/x HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("y", 20000))
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	n := 0
	conns.Range(func(key, _ any) bool {
		n++
		w := key.(*conn)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.frame.part != nil || w.heads != nil || w.one[0] != "" {
			t.Errorf("holds %d, %d heads", len(w.frame.part), len(w.heads))
		}
		return true
	})
	if n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestTLS(t *testing.T) {
	addr, conns := serve(t, true, tell)
	for name, c := range map[string]struct {
		h2   bool
		want string
	}{
		"HTTP/1.1": {false, `tls=true proto=HTTP/1.1 head="GET /in/x HTTP/1.1\r\nHost: `},
		"h2":       {true, `tls=true proto=HTTP/2.0 head="" `},
	} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!c.h2)
		protocols.SetHTTP2(c.h2)
		client := &http.Client{Transport: &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		resp, err := client.Get("https://" + addr + "/in/x")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		client.CloseIdleConnections()
		if !strings.HasPrefix(string(body), c.want) {
			t.Errorf("%s: %s", name, body)
		}
	}
	kinds := map[string]bool{}
	conns.Range(func(key, _ any) bool { kinds[fmt.Sprintf("%T", key)] = true; return true })
	if !kinds["*rawhead.conn"] || !kinds["*tls.Conn"] {
		t.Errorf("connections were %v", kinds)
	}
	// Plain HTTP on the TLS port is told so, and a client that says nothing holds up nobody.
	silent, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	plain, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	plain.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(plain, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if answer, _ := io.ReadAll(plain); !strings.Contains(string(answer), "HTTPS server") {
		t.Errorf("%q", answer)
	}
}

func TestH2C(t *testing.T) {
	addr, _ := serve(t, false, tell)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	for range 2 {
		resp, err := client.Post("http://"+addr+"/in/x", "text/plain", strings.NewReader("GET /in/a HTTP/1.1\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.HasPrefix(string(body), `tls=false proto=HTTP/2.0 head="" body="GET /in/a`) {
			t.Errorf("%s", body)
		}
	}
}

// TestHijacked: what follows an upgrade is nobody's head.
func TestHijacked(t *testing.T) {
	addr, conns := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		io.CopyN(io.Discard, buf, 100000)
		io.WriteString(c, "done")
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "GET /in/x HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
	c.Write(bytes.Repeat([]byte("x"), 100000))
	if answer, _ := io.ReadAll(c); !strings.HasSuffix(string(answer), "done") {
		t.Errorf("%q", answer)
	}
	conns.Range(func(key, _ any) bool {
		w := key.(*conn)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.frame.place != lost || w.frame.part != nil || w.heads != nil {
			t.Errorf("at %d with %d bytes and %d heads", w.frame.place, len(w.frame.part), len(w.heads))
		}
		return true
	})
}

func TestHeaderFlood(t *testing.T) {
	addr, _ := serve(t, false, tell)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	go func() {
		io.WriteString(c, "GET /in/x HTTP/1.1\r\nHost: x\r\n")
		for range 100000 {
			if _, err := io.WriteString(c, "X-Flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"); err != nil {
				return
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%v %v", resp, err)
	}
}
