package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/rawhead"
)

// TestReadAtOnce: also behind the bound on connections a webhook is read whole, with its head.
func TestReadAtOnce(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	buffered := make(chan int, 1)
	idle := make(chan struct{}, 1)
	l := rawhead.New(newLimitListener(inner, 10), rawhead.Config{
		Keep: func([]byte) bool { return true },
		Serve: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			n := -1
			if b, ok := r.Body.(interface{ Buffered() []byte }); ok {
				n = len(b.Buffered())
			}
			buffered <- n
		})})
	srv := &http.Server{ConnContext: rawhead.ConnContext, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ConnState: func(c net.Conn, state http.ConnState) {
			if rawhead.ConnState(c, state); state == http.StateIdle {
				idle <- struct{}{}
			}
		}}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(c)
	answered := func() {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	io.WriteString(c, "GET /in/ HTTP/1.1\r\nHost: x\r\n\r\n")
	answered()
	<-idle
	const size = 9000 // more than net/http reads at once, and nearly always one segment on loopback
	for range 10 {
		fmt.Fprintf(c, "POST /in/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
		n := <-buffered
		answered()
		if n == size {
			return
		}
		t.Logf("%d of %d bytes came with the head", n, size)
	}
	t.Error("a webhook is never read whole with its head")
}
