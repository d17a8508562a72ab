package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

// shears is a proxy that cuts all connections on demand.
type shears struct {
	net.Listener
	to string

	mu    sync.Mutex // guards below
	conns []net.Conn
}

func newShears(t *testing.T, address string) *shears {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &shears{Listener: l, to: u.Host}
	var running sync.WaitGroup
	running.Go(func() { p.run(&running) })
	t.Cleanup(func() { l.Close(); p.cut(); running.Wait() })
	return p
}

func (p *shears) run(running *sync.WaitGroup) {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		running.Go(func() { io.Copy(out, in); out.Close() })
		running.Go(func() { io.Copy(in, out); in.Close() })
	}
}

func (p *shears) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// TestSubscribeMissesNothing: events go on while the connection is cut again and again.
func TestSubscribeMissesNothing(t *testing.T) {
	for name, longPoll := range map[string]bool{"stream": false, "long polls": true} {
		t.Run(name, func(t *testing.T) {
			s := servertest.Start(t, server.Config{})
			p := newShears(t, s.URL())
			direct := must[*client.Client](t)(client.New(s.URL(), "", client.Options{}))
			through := func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, p.Addr().String())
			}
			cut := must[*client.Client](t)(client.New(s.URL(), "", client.Options{HTTP: &http.Client{Transport: &http.Transport{DialContext: through}}}))
			defer cut.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()

			const events = 300
			publish := func(n int) {
				if _, err := direct.PublishJSON(ctx, "orders.paid", n); err != nil {
					t.Error(err)
				}
				if _, err := direct.PublishJSON(ctx, "other.topic", n); err != nil {
					t.Error(err)
				}
			}
			publish(0)
			next := 0
			for e, err := range cut.Subscribe(ctx, []hark.Pattern{"orders.>"}, client.SubscribeOptions{Earliest: true, LongPoll: longPoll}) {
				if err != nil {
					t.Fatal(err)
				}
				if string(e.Data) != fmt.Sprint(next) {
					t.Fatalf("got %s after %d", e.Data, next-1)
				}
				if next++; next == events {
					break
				}
				if next%50 == 1 { // some ahead of what is read
					for n := range 50 {
						publish(next + n)
					}
				}
				if next%20 == 0 {
					p.cut()
				}
			}
			if next != events {
				t.Errorf("%d of %d events", next, events)
			}
		})
	}
}

// TestSubscribeOutlivesTheServer: it stops, and another one starts over the same folder.
func TestSubscribeOutlivesTheServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cfg := server.Config{Addr: address, Dev: true, Data: t.TempDir(), LogLevel: "error", DiskFloor: -1, DrainWindow: time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run := func() func() {
		s, err := server.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		running, end := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.Run(running) }()
		return func() {
			end()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	c := must[*client.Client](t)(client.New("http://"+address, "", client.Options{}))
	stop := run()
	defer func() { stop() }()
	must[client.Receipt](t)(c.PublishJSON(ctx, "a", 1))
	var seen []string
	var ends int
	o := client.SubscribeOptions{Earliest: true, OnState: func(s client.SubscribeState) {
		if s.Err != nil {
			ends++
		}
	}}
	for e, err := range c.Subscribe(ctx, nil, o) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, string(e.Data))
		switch string(e.Data) {
		case "1":
			must[client.Receipt](t)(c.PublishJSON(ctx, "a", 2))
			stop()
			stop = run()
			must[client.Receipt](t)(c.PublishJSON(ctx, "a", 3))
		case "3":
			cancel()
		}
	}
	if fmt.Sprint(seen) != "[1 2 3]" || ends == 0 {
		t.Errorf("seen %v, %d ends", seen, ends)
	}
}
