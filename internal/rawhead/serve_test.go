package rawhead

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// twoWays is one handler behind two servers: one serves plain requests itself, the other leaves all to net/http.
type twoWays struct {
	direct, netHTTP string // addresses
	served          atomic.Int64
	listener        *Listener
	server          *http.Server
	idle            sync.Map // address of a client: net/http waits for its next request
}

func startTwoWays(t testing.TB, h http.HandlerFunc) *twoWays {
	w := &twoWays{}
	start := func(cfg Config) (string, *Listener, *http.Server) {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Keep = func(target []byte) bool { return bytes.HasPrefix(target, []byte("/in/")) }
		srv := &http.Server{Handler: h, ConnContext: ConnContext, MaxHeaderBytes: MaxHead, ReadHeaderTimeout: 10 * time.Second,
			ConnState: func(c net.Conn, state http.ConnState) {
				if ConnState(c, state); state == http.StateIdle {
					w.idle.Store(c.RemoteAddr().String(), true)
				}
			}}
		l := New(inner, cfg)
		done := make(chan error)
		go func() { done <- srv.Serve(l) }()
		t.Cleanup(func() {
			srv.Close()
			<-done
		})
		return inner.Addr().String(), l, srv
	}
	w.netHTTP, _, _ = start(Config{})
	w.direct, w.listener, w.server = start(Config{Idle: 10 * time.Second, Serve: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.served.Add(1)
		h(rw, r)
	})})
	return w
}

// manners is a handler that does what the path says.
func manners(w http.ResponseWriter, r *http.Request) {
	switch path := strings.TrimPrefix(r.URL.Path, "/in/"); path {
	case "leave": // nothing is read
	case "some":
		io.ReadFull(r.Body, make([]byte, 3))
	case "204":
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
		w.Write([]byte("no"))
		return
	case "599":
		w.Header().Set("X-A", "1")
		w.WriteHeader(599)
		w.Header().Set("X-A", "2")
		return
	case "close":
		w.Header().Set("Connection", "close")
	case "silent":
		return
	case "fields":
		h := w.Header()
		h["X-B"], h["X-A"], h["x y"] = []string{"1\r\nX-C: 2", "3"}, []string{""}, []string{"z"}
		h.Set("Content-Type", "application/json")
		h.Set("Date", "today")
		io.WriteString(w, "{}")
		return
	case "html":
		io.WriteString(w, "<html>")
	}
	body, err := io.ReadAll(r.Body)
	var n int
	var again error
	if err == nil {
		n, again = r.Body.Read(make([]byte, 1))
	}
	if r.URL.Path == "/in/long" {
		io.WriteString(w, strings.Repeat("long ", 4000))
	}
	fmt.Fprintf(w, "%s %s %s %q %v %d %q %q %v %d %v", r.Method, r.RequestURI, r.Host, Of(r), r.Header, r.ContentLength, r.Proto, body, err, n, again)
}

// dial connects, has a first request answered, and waits until net/http waits for the next: what comes
// earlier is its own.
func (w *twoWays) dial(t testing.TB, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(conn)
	io.WriteString(conn, "GET /in/ HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	for self := conn.LocalAddr().String(); ; time.Sleep(50 * time.Microsecond) {
		if _, idle := w.idle.LoadAndDelete(self); idle {
			return conn, in
		}
	}
}

// talk sends a stream in parts, after a first request, and returns the answers, without what differs
// between any two. Whole is false when the connection was reset, which can take answers with it.
func (w *twoWays) talk(t testing.TB, addr string, stream []byte, sizes []int) (answers []string, whole bool) {
	t.Helper()
	conn, in := w.dial(t, addr)
	defer conn.Close()
	go func() {
		for _, n := range sizes {
			if _, err := conn.Write(stream[:n]); err != nil {
				return
			}
			stream = stream[n:]
		}
		conn.(*net.TCPConn).CloseWrite()
	}()
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: "POST"})
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return answers, true
		} else if err != nil {
			return answers, false
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return answers, false
		}
		if date := resp.Header.Get("Date"); date != "" { // net/http itself gives none when it refuses
			if at, err := http.ParseTime(date); err != nil && date != "today" || time.Since(at) > time.Hour && date != "today" {
				t.Errorf("Date %q", date)
			}
		}
		for _, name := range []string{"Date", "Content-Length"} {
			resp.Header.Del(name)
		}
		answers = append(answers, fmt.Sprintf("%s %v %q close=%t", resp.Status, resp.Header, body, resp.Close))
	}
}

// post is a request of the connection's own.
func post(path, body string, fields ...string) string {
	return fmt.Sprintf("POST /in/%s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", path, strings.Join(append(fields, ""), "\r\n"), len(body), body)
}

// conversations are streams of requests of which many are plain.
var conversations = map[string]string{
	"plain":          post("a", "") + post("b", "body") + post("c?d=e%20f", strings.Repeat("long", 5000), "X-A: 1", "x-a: 2") + post("d", "last"),
	"manners":        post("204", "x") + post("599", "x") + post("silent", "x") + post("fields", "x") + post("html", "x") + post("long", "x") + post("e", "end"),
	"unread":         post("leave", "abc") + post("some", "abcdef") + post("leave", strings.Repeat("x", 9000)) + post("silent", strings.Repeat("x", 90000)) + post("e", "end"),
	"too much":       post("silent", strings.Repeat("x", 400000)) + post("never", ""),
	"close":          post("close", "x") + post("never", ""),
	"close, unread":  post("close", strings.Repeat("x", 9000)) + post("never", ""),
	"asks to close":  post("a", "x", "Connection: close") + post("never", ""),
	"mixed":          post("a", "x") + "GET /in/b HTTP/1.1\r\nHost: x\r\n\r\n" + post("c", "y") + "POST /in/d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" + post("e", "z") + "HEAD /in/h HTTP/1.1\r\nHost: x\r\n\r\n",
	"elsewhere":      "GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n" + post("a", "x") + "POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb" + post("c", "y"),
	"line ends":      "GET /in/ HTTP/1.1\r\nHost: x\r\n\r\n" + post("a", "x") + "\r\n" + post("b", "y") + "\r\nGET /in/c HTTP/1.1\r\nHost: x\r\n\r\n",
	"ahead":          post("a", "x") + "GET /in/b HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("y", 6000) + "\r\n\r\n" + post("c", strings.Repeat("z", 3000)) + "GET /in/d HTTP/1.1\r\nHost: x\r\n\r\n" + post("e", "end"),
	"ahead, body":    post("a", "x") + "PUT /in/b HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("y", 9000) + post("c", "z") + post("d", "end"),
	"nonsense":       post("a", "x") + "nonsense\r\n\r\n" + post("never", ""),
	"two lengths":    post("a", "x", "Content-Length: 2") + post("never", ""),
	"length, chunks": post("a", "0\r\n\r\n", "Transfer-Encoding: chunked") + post("b", ""),
	"cut head":       post("a", "x") + "POST /in/b HTTP/1.1\r\nHo",
	"cut body":       post("a", "x") + "POST /in/b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
	"expects":        post("a", "x", "Expect: something"),
	"no host":        "POST /in/b HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
}

// TestTwoWays: a sender cannot tell who served it.
func TestTwoWays(t *testing.T) {
	w := startTwoWays(t, manners)
	for what, text := range conversations {
		for _, part := range []int{len(text), 1000, 7} {
			if part == 7 && len(text) > 10000 {
				continue
			}
			var sizes []int
			for left := len(text); left > 0; left -= part {
				sizes = append(sizes, min(left, part))
			}
			got, whole := w.talk(t, w.direct, []byte(text), sizes)
			want, alsoWhole := w.talk(t, w.netHTTP, []byte(text), sizes)
			if !same(got, want, whole, alsoWhole) {
				t.Errorf("%s in parts of %d:\n got %q\nwant %q", what, part, got, want)
			}
		}
	}
	if n := w.served.Load(); n < 40 {
		t.Errorf("only %d plain requests", n)
	}
}

// same compares answers; of two connections of which one was reset, as far as they go.
func same(got, want []string, whole, alsoWhole bool) bool {
	if !whole || !alsoWhole {
		n := min(len(got), len(want))
		got, want = got[:n], want[:n]
	}
	if n := len(want) - 1; n == len(got) && strings.HasPrefix(want[n], "400 ") {
		want = want[:n] // net/http answers less than a word if line ends stand before it
	}
	return slices.Equal(got, want)
}

// FuzzTwoWays: whatever is sent, and however it is split, both ways answer the same.
func FuzzTwoWays(f *testing.F) {
	for _, text := range conversations {
		if len(text) < 10000 {
			f.Add([]byte(text), uint64(1))
		}
	}
	w := startTwoWays(f, manners)
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		if bytes.Contains(bytes.ToLower(stream), []byte("close")) || bytes.Contains(stream, []byte("HTTP/1.0")) || len(stream) > 10000 {
			return // half a second each
		}
		rnd := rand.New(rand.NewPCG(seed, 1))
		var sizes []int
		for left := len(stream); left > 0; {
			n := min(left, 1+rnd.IntN(1+rnd.IntN(2000)))
			sizes, left = append(sizes, n), left-n
		}
		got, whole := w.talk(t, w.direct, stream, sizes)
		want, alsoWhole := w.talk(t, w.netHTTP, stream, sizes)
		if !same(got, want, whole, alsoWhole) {
			t.Errorf("%q\n got %q\nwant %q", stream, got, want)
		}
	})
}

// TestShutdownWaits: net/http takes a connection whose plain request is under way for an idle one, and closes it.
func TestShutdownWaits(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	w := startTwoWays(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/in/wait" {
			close(entered)
			select {
			case <-leave:
			case <-r.Context().Done():
			}
		}
		io.Copy(rw, r.Body)
	})
	conn, in := w.dial(t, w.direct)
	io.WriteString(conn, post("wait", "second"))
	<-entered
	if err := w.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithCancel(t.Context())
	cancel()
	drained := make(chan struct{})
	go func() {
		w.listener.Drain(t.Context())
		close(drained)
	}()
	select {
	case <-drained:
		t.Error("a request is under way")
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "second" || !resp.Close {
		t.Errorf("%q %t", body, resp.Close)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Error("it stays open:", err)
	}
	<-drained
	w.listener.Drain(soon)
}

// TestDrainEnds: a stop that has waited long enough ends the contexts of plain requests.
func TestDrainEnds(t *testing.T) {
	entered := make(chan struct{})
	w := startTwoWays(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/in/wait" {
			close(entered)
			<-r.Context().Done()
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	done := make(chan []string)
	go func() {
		text := post("wait", "")
		answers, _ := w.talk(t, w.direct, []byte(text), []int{len(text)})
		done <- answers
	}()
	<-entered
	over, cancel := context.WithCancel(t.Context())
	cancel()
	w.listener.Drain(over)
	if got := <-done; len(got) != 1 || !strings.HasPrefix(got[0], "503 ") {
		t.Errorf("%q", got)
	}
}

// TestIdleReader: memory is taken when something comes, and not before.
func TestIdleReader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	r := newIdleReader(here)
	here.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if read, ok, err := r.next(); !ok || !errors.Is(err, os.ErrDeadlineExceeded) || len(read) > 0 {
		t.Errorf("%q, %v, %v", read, ok, err)
	}
	if r.buf != nil {
		t.Error("it holds memory though nothing came")
	}
	here.SetReadDeadline(time.Now().Add(10 * time.Second))
	for _, want := range []string{"abc", strings.Repeat("x", idleBytes), "d"} {
		io.WriteString(there, want)
		for got := ""; got != want; {
			read, _, err := r.next()
			if got += string(read); err != nil || !strings.HasPrefix(want, got) {
				t.Fatalf("%q of %q, %v", got, want, err)
			}
		}
	}
	r.release()
	r.release()
	there.Close()
	if read, ok, err := r.next(); !ok || err != io.EOF || len(read) > 0 {
		t.Errorf("%q, %v, %v", read, ok, err)
	}
}

// TestAheadOfHijack: who sends more than net/http has read before it is answered gets no connection.
func TestAheadOfHijack(t *testing.T) {
	taken := make(chan error, 1)
	w := startTwoWays(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/in/take" {
			return
		}
		c, _, err := http.NewResponseController(rw).Hijack()
		if err == nil {
			defer c.Close()
			_, err = c.Write([]byte("taken"))
		}
		taken <- err
	})
	for _, size := range []int{0, 100, 9000} {
		conn, _ := w.dial(t, w.direct)
		io.WriteString(conn, post("a", "x")+"GET /in/take HTTP/1.1\r\nHost: x\r\n\r\n"+strings.Repeat("y", size))
		if err := <-taken; (err != nil) != (size > 4096) {
			t.Errorf("%d bytes ahead: %v", size, err)
		}
	}
}

// TestPlainPanic: a handler that gives up takes its own connection with it, and no other.
func TestPlainPanic(t *testing.T) {
	w := startTwoWays(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/in/panic" {
			panic(http.ErrAbortHandler)
		}
	})
	for range 3 {
		text := post("a", "") + post("panic", "") + post("never", "")
		if got, _ := w.talk(t, w.direct, []byte(text), []int{len(text)}); len(got) != 1 {
			t.Errorf("%q", got)
		}
	}
	if w.served.Load() != 6 || w.listener.serving.Load() != 0 {
		t.Errorf("%d served, %d under way", w.served.Load(), w.listener.serving.Load())
	}
}

// TestPlainIdle: a connection that plain requests use waits for the next one as long as Idle says.
func TestPlainIdle(t *testing.T) {
	w := startTwoWays(t, manners)
	w.listener.cfg.Idle = 100 * time.Millisecond
	conn, in := w.dial(t, w.direct)
	io.WriteString(conn, post("silent", "")+post("silent", ""))
	if answer, err := io.ReadAll(in); err != nil || bytes.Count(answer, []byte("200 OK")) != 2 {
		t.Errorf("%q %v", answer, err)
	}
}

// TestPlainIdleBegun: so it does when a byte of the next request came with the last one, whatever
// deadline its handler left.
func TestPlainIdleBegun(t *testing.T) {
	w := startTwoWays(t, func(rw http.ResponseWriter, r *http.Request) {
		http.NewResponseController(rw).SetReadDeadline(time.Time{})
	})
	w.listener.cfg.Idle = 100 * time.Millisecond
	conn, in := w.dial(t, w.direct)
	io.WriteString(conn, post("a", "")+"P")
	if answer, err := io.ReadAll(in); err != nil || bytes.Count(answer, []byte("200 OK")) != 1 {
		t.Errorf("%q %v", answer, err)
	}
}

// TestPlainTLS: plain requests over TLS have its state, as others do.
func TestPlainTLS(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served atomic.Int64
	idle := make(chan bool, 100)
	h := Handler(http.HandlerFunc(tell))
	l := New(inner, Config{TLS: &tls.Config{Certificates: cert.TLS.Certificates}, Keep: func([]byte) bool { return true },
		Serve: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			h.ServeHTTP(w, r)
		})})
	srv := &http.Server{Handler: h, ConnContext: ConnContext, ConnState: func(c net.Conn, state http.ConnState) {
		if ConnState(c, state); state == http.StateIdle {
			idle <- true
		}
	}}
	go srv.Serve(l)
	defer srv.Close()
	conn, err := tls.Dial("tcp", inner.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(conn)
	for i := range 3 {
		body := strings.Repeat("x", i*20000) // of several records
		head := fmt.Sprintf("POST /in/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(body))
		io.WriteString(conn, head+body)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(resp.Body); string(got) != fmt.Sprintf("tls=true proto=HTTP/1.1 head=%q body=%q err=<nil>\n", head, body) {
			t.Errorf("%.200s", got)
		}
		if i == 0 {
			<-idle
		}
	}
	if served.Load() != 2 {
		t.Errorf("%d plain requests", served.Load())
	}
}
