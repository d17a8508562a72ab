package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func cidrs(t testing.TB, list ...string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// local is a guard for tests that talk to their own machine.
func local(t testing.TB) Guard {
	return Guard{AllowCIDRs: cidrs(t, "127.0.0.0/8", "::1/128")}
}

func newClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

// slower yields times that grow until the machine is sure to have done something within one.
func slower(yield func(time.Duration) bool) {
	for d := 50 * time.Millisecond; d < time.Minute && yield(d); d *= 4 {
	}
}

func get(t testing.TB, c *Client, url string) (Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(ctx, req, 1024)
}

func mustGet(t testing.TB, c *Client, url string) Response {
	t.Helper()
	r, err := get(t, c, url)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantFault(t *testing.T, err error, want Fault) {
	t.Helper()
	if err == nil || FaultOf(err) != want {
		t.Fatalf("fault %v (%v), want %v", FaultOf(err), err, want)
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Fatalf("%T is not an *Error", err)
	}
}

func server(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// rawServer answers each connection with f, which may do as it likes.
func rawServer(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

// readRequest reads the header of a request from c.
func readRequest(c net.Conn) {
	buf := make([]byte, 0, 4096)
	for !strings.Contains(string(buf), "\r\n\r\n") {
		n, err := c.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return
		}
		buf = buf[:len(buf)+n]
	}
}

// canary listens on loopback, over IPv4 and IPv6 if there is any, and counts
// who comes. With a guard that forbids loopback nobody may.
type canary struct {
	port string
	hits atomic.Int64
}

func newCanary(t testing.TB) *canary {
	t.Helper()
	c := &canary{}
	serve := func(l net.Listener) {
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				c.hits.Add(1)
				nc.Close()
			}
		}()
	}
	l4, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	_, c.port, _ = net.SplitHostPort(l4.Addr().String())
	serve(l4)
	if l6, err := net.Listen("tcp6", "[::]:"+c.port); err == nil {
		serve(l6)
	}
	return c
}

// fakeDNS answers from a table: for each name a list of answers, the first for
// the first look-up and so on; the last one stays.
type fakeDNS struct {
	mu      sync.Mutex // guards below
	answers map[string][][]netip.Addr
	asked   map[string]int
	fail    map[string]dnsmessage.RCode
	mute    bool // never answers
}

func newDNS() *fakeDNS {
	return &fakeDNS{answers: map[string][][]netip.Addr{}, asked: map[string]int{}, fail: map[string]dnsmessage.RCode{}}
}

func (d *fakeDNS) set(t testing.TB, name string, lookups ...string) {
	t.Helper()
	for _, l := range lookups {
		var addrs []netip.Addr
		for s := range strings.FieldsSeq(l) {
			a, err := netip.ParseAddr(s)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, a)
		}
		d.answers[name] = append(d.answers[name], addrs)
	}
}

func (d *fakeDNS) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go d.serve(ours)
		return theirs, nil
	}}
}

// serve speaks DNS as over TCP, which the resolver does on what is no
// net.PacketConn.
func (d *fakeDNS) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		q := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		a := d.answer(q)
		if a == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
			return
		}
	}
}

func (d *fakeDNS) answer(query []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 || d.mute {
		if d.mute {
			d.mu.Unlock()
			time.Sleep(time.Second) // the resolver gives up before
			d.mu.Lock()
		}
		return nil
	}
	q := m.Questions[0]
	name := strings.TrimSuffix(q.Name.String(), ".")
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	lookups, ok := d.answers[name]
	switch {
	case d.fail[name] != 0:
		m.RCode = d.fail[name]
	case !ok:
		m.RCode = dnsmessage.RCodeNameError
	default:
		key := name + q.Type.String()
		n := min(d.asked[key], len(lookups)-1)
		d.asked[key]++
		for _, a := range lookups[n] {
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}
			switch {
			case q.Type == dnsmessage.TypeA && a.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			case q.Type == dnsmessage.TypeAAAA && !a.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
	}
	out, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return out
}
