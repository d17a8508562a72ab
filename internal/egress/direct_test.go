package egress

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestDirectReuse: one after the other, requests share one connection, whatever
// form the bodies have; nothing stays open after CloseIdle.
func TestDirectReuse(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/chunked":
			w.(http.Flusher).Flush()
			io.WriteString(w, "a chunk")
		case "/interim":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusAccepted)
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		default:
			io.WriteString(w, "hello")
		}
	}))
	defer srv.Close()
	c := newClient(t, Config{Guard: local(t)})
	for _, path := range []string{"/", "/chunked", "/interim", "/none", "/", "/chunked"} {
		for _, body := range []string{"", "{}", strings.Repeat("x", 100_000)} {
			req, err := http.NewRequest("POST", srv.URL+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r, err := c.Do(WithTrace(t.Context()), req, 100)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			want := map[string]string{"/": "hello", "/chunked": "a chunk"}[path]
			if string(r.Snippet) != want || r.More || !r.Remote.IsValid() {
				t.Errorf("%s: %q, more %v, remote %v", path, r.Snippet, r.More, r.Remote)
			}
			if path == "/interim" && r.Status != http.StatusAccepted {
				t.Errorf("an interim answer was taken for the answer: %d", r.Status)
			}
		}
	}
	if s := c.Stats(); s.Dialed != 1 || s.Open != 1 {
		t.Errorf("%+v: want one connection for all", s)
	}
	c.CloseIdle()
	if s := c.Stats(); s.Open != 0 {
		t.Errorf("%+v after CloseIdle", s)
	}
}

// TestDirectClosedMeanwhile: a kept connection that its peer closed is not used.
func TestDirectClosedMeanwhile(t *testing.T) {
	closed := make(chan struct{}, 2)
	addr := rawServer(t, func(c net.Conn) {
		readRequest(c)
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		c.Close()
		closed <- struct{}{}
	})
	c := newClient(t, Config{Guard: local(t)})
	for range 3 {
		req, _ := http.NewRequest("POST", "http://"+addr, strings.NewReader("{}"))
		if _, err := c.Do(t.Context(), req, 0); err != nil {
			t.Fatal(err)
		}
		<-closed
		time.Sleep(10 * time.Millisecond) // until the end has crossed the loopback
	}
	if s := c.Stats(); s.Dialed != 3 {
		t.Errorf("%+v", s)
	}
}

// TestDirectSpeaksOutOfTurn: bytes that nobody asked for are not taken for the
// next answer.
func TestDirectSpeaksOutOfTurn(t *testing.T) {
	var conns atomic.Int64
	addr := rawServer(t, func(c net.Conn) {
		conns.Add(1)
		readRequest(c)
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 Injected\r\nContent-Length: 0\r\n\r\n")
		readRequest(c) // until the peer is gone
	})
	c := newClient(t, Config{Guard: local(t)})
	for range 3 {
		req, _ := http.NewRequest("POST", "http://"+addr, strings.NewReader("{}"))
		r, err := c.Do(t.Context(), req, 0)
		if err != nil || r.Status != 204 {
			t.Fatalf("%d %v", r.Status, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if conns.Load() != 3 {
		t.Errorf("%d connections, want a new one each time", conns.Load())
	}
}

// TestDirectCancel: a cancelled context ends a request at once, at any step, and
// its connection is not used again.
func TestDirectCancel(t *testing.T) {
	release, asked := make(chan struct{}), make(chan struct{}, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
		}
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(release)
	c := newClient(t, Config{Guard: local(t)})
	do := func(path string, after time.Duration) (Response, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan time.Time, 1)
		go func() {
			<-asked
			time.AfterFunc(after, func() { ended <- time.Now(); cancel() })
		}()
		req, _ := http.NewRequest("GET", srv.URL+path, nil)
		r, err := c.Do(ctx, req, 1000)
		if took := time.Since(<-ended); took > 10*time.Second {
			t.Errorf("%s: took %v", path, took)
		}
		return r, err
	}
	if _, err := do("/header", 0); FaultOf(err) != FaultCanceled {
		t.Error("in the header:", err)
	}
	for after := range slower {
		r, err := do("/body", after)
		if err == nil && r.BodyFault == FaultCanceled && string(r.Snippet) == "begin" {
			break
		}
		if after > 10*time.Second || err != nil && FaultOf(err) != FaultCanceled {
			t.Fatalf("in the body: %+v %v", r, err)
		}
	}
	if s := c.Stats(); s.Open != 0 {
		t.Errorf("%+v: a cancelled connection was kept", s)
	}
}
