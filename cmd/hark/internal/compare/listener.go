package compare

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
)

// book tells when each event was published; they are numbered from 0.
type book struct {
	mu   sync.Mutex // guards below
	sent []time.Time
}

// payload is an event's data.
type payload struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

var filling = strings.Repeat("Hark! ", EventBytes/6-4)

// next is the next event, whose clock begins now.
func (b *book) next(topic string) hark.Event {
	b.mu.Lock()
	n := len(b.sent)
	b.sent = append(b.sent, time.Time{})
	b.mu.Unlock()
	data, err := json.Marshal(payload{n, filling})
	if err != nil {
		panic(err) // of a number and a text
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent[n] = time.Now()
	return hark.Event{Topic: topic, ContentType: "application/json", Data: data}
}

func (b *book) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sent)
}

// age is how long ago event n was published.
func (b *book) age(n int) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < 0 || n >= len(b.sent) {
		return 0, false
	}
	return time.Since(b.sent[n]), true
}

// tally is what all clients of a way did.
type tally struct{ requests, up, down, refused atomic.Int64 }

func (t *tally) reset() {
	t.requests.Store(0)
	t.up.Store(0)
	t.down.Store(0)
	t.refused.Store(0)
}

func (t *tally) read() (requests, up, down int64) {
	return t.requests.Load(), t.up.Load(), t.down.Load()
}

// counted counts what goes through a connection.
type counted struct {
	net.Conn
	read, written *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// listener is one client.
type listener struct {
	run   *run
	token string
	http  *http.Client

	once      sync.Once
	connected chan struct{} // closed when it listens
	more      chan struct{} // has room for one: something came

	mu      sync.Mutex // guards below
	delays  []time.Duration
	next    int // what should come
	doubled int // or out of order
}

func newListener(r *run, token string) *listener {
	l := &listener{run: r, token: token, connected: make(chan struct{}), more: make(chan struct{}, 1)}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &counted{c, &r.tally.down, &r.tally.up}, nil
	}
	l.http = &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}}
	return l
}

func (l *listener) ready() { l.once.Do(func() { close(l.connected) }) }

// got notes an event's arrival.
func (l *listener) got(data []byte) error {
	var p payload
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	age, ok := l.run.age(p.N)
	if !ok {
		return nil
	}
	l.mu.Lock()
	if p.N < l.next {
		l.doubled++
	} else {
		l.delays = append(l.delays, age)
		l.next = p.N + 1
	}
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return nil
}

// has reports whether all of the first n events came by now, or the last of them.
func (l *listener) has(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next >= n
}

// request prepares one with the client's token.
func (l *listener) request(ctx context.Context, path, query string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", l.run.Client.URL()+path+"?topic="+l.run.topic+query, nil)
	if err == nil && l.token != "" {
		r.Header.Set("Authorization", "Bearer "+l.token)
	}
	return r, err
}
