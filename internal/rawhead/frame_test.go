package rawhead

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func all([]byte) bool { return true }

// follow feeds a frame in pieces of the given sizes, then the rest at once.
func follow(stream []byte, sizes ...int) (heads []string, f *frame) {
	f = &frame{keep: all}
	f.took = func(head string) { heads = append(heads, head) }
	for _, n := range sizes {
		n = min(n, len(stream))
		f.feed(slices.Clone(stream[:n]))
		stream = stream[n:]
	}
	f.feed(stream)
	return heads, f
}

// requests is a stream of pipelined requests with every kind of body, and their heads.
func requests() (stream []byte, heads []string) {
	add := func(head, body string) {
		head = strings.ReplaceAll(head, "\n", "\r\n")
		heads = append(heads, head)
		stream = append(append(stream, head...), body...)
	}
	add("GET /a HTTP/1.1\nHost: x\n\n", "")
	add("POST /b HTTP/1.1\nhOST: x\nX-B: 1\nx-b: 2\nContent-Length: 11\n\n", "GET / HTTP/")
	add("POST /c HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n", "5;ext=\"GET\"\r\nGET /\r\n0A\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n")
	add("POST /d HTTP/1.1\nHost: x\nTransfer-Encoding:\tchunked \nTrailer: A\n\n", "1\r\nx\r\n0\r\nA: 1\r\nB:\r\n\r\n")
	add("PUT /e HTTP/1.1\nHost: x\nContent-Length:\n  3\n\n", "abc")
	add("POST /f HTTP/1.0\nTransfer-Encoding: chunked\nContent-Length: 2\nConnection: keep-alive\n\n", "zz")
	add("OPTIONS * HTTP/1.1\nHost: x\n\n", "")
	add("GET /g HTTP/1.1\nHost: x\nX: 1\n\tfolded\n\n", "")
	heads = append(heads, "GET /h HTTP/1.1\nHost: bare\n\n")
	stream = append(stream, heads[len(heads)-1]...)
	add("POST /i HTTP/1.1\nHost: x\nContent-Length: 2\nContent-Length: 2\n\n", "ok")
	return stream, heads
}

func TestFramesSplitAnywhere(t *testing.T) {
	stream, want := requests()
	check := func(how string, sizes ...int) {
		t.Helper()
		got, f := follow(stream, sizes...)
		if !slices.Equal(got, want) {
			t.Fatalf("%s: got %q, want %q", how, got, want)
		}
		if f.place != inHead || f.part != nil {
			t.Fatalf("%s: ended at %d with %d bytes held", how, f.place, len(f.part))
		}
	}
	check("whole")
	for at := range stream {
		check(fmt.Sprintf("split at %d", at), at)
	}
	check("byte by byte", slices.Repeat([]int{1}, len(stream))...)
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var sizes []int
		for range 200 {
			sizes = append(sizes, rnd.IntN(9))
		}
		check(fmt.Sprintf("seed %d", seed), sizes...)
	}
}

func TestFrameGivesUp(t *testing.T) {
	for name, stream := range map[string]string{
		"h2c":          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00",
		"websocket":    "\x81\x85\x00\x00\x00\x00hello",
		"header flood": "GET / HTTP/1.1\r\n" + strings.Repeat("X: yyyyyyyy\r\n", 10000),
		"long line":    "GET /" + strings.Repeat("a", 80<<10),
		"chunk size":   "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\nx\r\n",
		"http/0.9":     "GET /\r\n\r\n",
	} {
		_, f := follow([]byte(stream), slices.Repeat([]int{100}, len(stream)/100)...)
		if f.place != lost || f.part != nil {
			t.Errorf("%s: at %d with %d bytes held", name, f.place, len(f.part))
		}
	}
	// A head that net/http still takes and we do not keep does not lose the next one.
	big := "GET /big HTTP/1.1\r\nX: " + strings.Repeat("y", MaxHead) + "\r\n\r\n"
	heads, _ := follow([]byte(big + "GET /next HTTP/1.1\r\n\r\n"))
	if len(heads) != 1 || !strings.HasPrefix(heads[0], "GET /next ") {
		t.Errorf("%d heads", len(heads))
	}
}

// netHTTP reads a stream as net/http's server does.
func netHTTP(stream []byte) (requests []*http.Request) {
	r := bufio.NewReader(bytes.NewReader(stream))
	post := false
	for {
		if post {
			peek, _ := r.Peek(4)
			n := 0
			for n < len(peek) && (peek[n] == '\r' || peek[n] == '\n') {
				n++
			}
			r.Discard(n)
		}
		req, err := http.ReadRequest(r)
		if err != nil {
			return requests
		}
		if req.ProtoMajor != 1 {
			return requests
		}
		requests = append(requests, req)
		header := req.Header.Clone()
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return requests
		}
		req.Header = header // without trailers
		post = req.Method == "POST"
	}
}

// FuzzFrame: every request that net/http would serve has its head, at its place in the
// sequence, however the bytes are split.
func FuzzFrame(f *testing.F) {
	stream, _ := requests()
	f.Add(stream, uint64(1))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\nContent-Length: 5\r\n\r\n1\r\na\r\n0\r\n\n\nGET / HTTP/1.1\n\n"), uint64(2))
	f.Add([]byte("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n\r\n\r\nGET /x HTTP/1.1\r\n \r\n\r\n"), uint64(3))
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var sizes []int
		for left := len(stream); left > 0; {
			n := 1 + rnd.IntN(1+rnd.IntN(64))
			sizes, left = append(sizes, n), left-n
		}
		want := netHTTP(stream)
		heads, fr := follow(stream, sizes...)
		if len(fr.part) > MaxHead+slack {
			t.Fatal("holds too much")
		}
		for i, r := range want {
			if i >= len(heads) {
				if len(stream) > MaxHead {
					return
				}
				t.Fatalf("request %d, %s %s, has no head; heads: %q", i, r.Method, r.RequestURI, heads)
			}
			got, err := http.ReadRequest(bufio.NewReader(strings.NewReader(heads[i])))
			if err != nil {
				t.Fatalf("head %d, %q: %v", i, heads[i], err)
			}
			if got.Method != r.Method || got.RequestURI != r.RequestURI || got.Host != r.Host || !reflect.DeepEqual(got.Header, r.Header) {
				t.Fatalf("head %d is %q, the request %s %s %v", i, heads[i], r.Method, r.RequestURI, r.Header)
			}
			if !begins(heads[i], r) {
				t.Fatalf("head %d, %q, does not begin as %s %s %s", i, heads[i], r.Method, r.RequestURI, r.Proto)
			}
		}
	})
}

func BenchmarkFeed(b *testing.B) {
	head := []byte("POST /v1/events HTTP/1.1\r\nHost: hooks.example.com\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nContent-Length: 1000\r\n" +
		"Accept: */*\r\nX-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\nX-GitHub-Event: push\r\nX-Hub-Signature-256: sha256=" +
		strings.Repeat("ab", 32) + "\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n")
	stream := append(head, make([]byte, 1000)...)
	for name, keep := range map[string]bool{"kept": true, "passed": false} {
		b.Run(name, func(b *testing.B) {
			f := &frame{keep: func([]byte) bool { return keep }, took: func(string) {}}
			for b.Loop() {
				f.feed(stream)
			}
		})
	}
}
