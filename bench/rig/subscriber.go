package rig

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Subscribers says what a process of subscribers does. They are live clients that only count
// and judge: epoll, one read for all that has come, no copy.
type Subscribers struct {
	Counters string `json:"counters"`
	// Addr is the server's host:port.
	Addr string `json:"addr"`
	// Count is how many there are; at most 18,000 in a process.
	Count int `json:"count"`
	// Threads read; default 1.
	Threads int `json:"threads,omitempty"`
	// Transport is "sse" (default), "websocket" or "longpoll".
	Transport string `json:"transport,omitempty"`
	// Target is the request's path and query. In it, {topic} becomes a subscriber's topic, {after}
	// the cursor it has (a long poll's; at first After).
	Target string `json:"target"`
	After  string `json:"after,omitempty"`
	// Header is added to the request, each line with its line break; {token} becomes a token of Tokens.
	Header string `json:"header,omitempty"`
	// Prefix and Topics: subscriber i listens to {Prefix}.{(First + i) modulo Topics}. With Any the
	// topics of what it receives are not looked at.
	Prefix string `json:"prefix"`
	Topics int    `json:"topics"`
	First  int    `json:"first,omitempty"`
	Any    bool   `json:"any,omitempty"`
	// Source is the third byte of their loopback address, 127.0.x.1 and further: one pair of addresses has 28,000 ports.
	Source int `json:"source"`
	// Dense: every event of the log is for every subscriber.
	Dense bool `json:"dense,omitempty"`
	// Sample measures the latency of every so many-th event.
	Sample int `json:"sample,omitempty"`
	// Pending is how many may be connecting at once; default 256.
	Pending int `json:"pending,omitempty"`
	// TLS speaks it, with a goroutine for each subscriber: it costs more than epoll.
	TLS bool `json:"tls,omitempty"`
	// Stalled of them never read. Their segments and buffers are small, as if they were not
	// on this machine: the kernel takes little, the server has to hold or forget the rest.
	Stalled int `json:"stalled,omitempty"`
	// Churn: each is closed when its head and first block have come, and another comes in its place, until Churn are through.
	Churn  int    `json:"churn,omitempty"`
	Tokens Tokens `json:"tokens,omitzero"`
	// Want ends the wait for the subscribers when each has received so many events.
	Want int `json:"want,omitempty"`
}

// SubscriberReport is what they saw.
type SubscriberReport struct {
	tally
	// Live are connected and have received their first block, Lost were refused or cut.
	Live int `json:"live"`
	Lost int `json:"lost"`
	// Why is an example of the lost.
	Why string `json:"why,omitempty"`
	// Least and Most is what single subscribers received since they connected; stalled ones do not count.
	Least uint64 `json:"least"`
	Most  uint64 `json:"most"`
	// Churned is how many came and went, Wanted how many have what they want.
	Churned int `json:"churned"`
	Wanted  int `json:"wanted"`
	// Started and Done are when the first began to connect and when the last had what it wanted, in Unix nanoseconds.
	Started int64 `json:"started"`
	Done    int64 `json:"done"`
	// Latency is from an event's time to its receipt, since the mark; of a churn, from connect to first block.
	Latency *Hist   `json:"latency"`
	CPU     float64 `json:"cpu"`
}

// subscribers is the process's side.
type subscribers struct {
	setup    Subscribers
	counters *Counters
	threads  []*readerThread
	tokens   []string
	latency  Hist

	mu     sync.Mutex // guards below
	marked tally
}

func subscriberRole(c *control) error {
	s := &subscribers{}
	if err := c.read(&s.setup); err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	if err := c.write(started{}); err != nil {
		return err
	}
	for {
		var do string
		if err := c.read(&do); err != nil {
			return nil
		}
		switch do {
		case "connect":
			for _, t := range s.threads {
				if s.setup.TLS {
					go t.runTLS()
				} else {
					go t.run()
				}
			}
		case "mark":
			s.mark()
		}
		if err := c.write(s.report()); err != nil {
			return err
		}
	}
}

func (s *subscribers) prepare() (err error) {
	if s.counters, err = OpenCounters(s.setup.Counters); err != nil {
		return err
	}
	s.setup.Threads = max(s.setup.Threads, 1)
	if s.setup.Pending == 0 {
		s.setup.Pending = 256
	}
	total := max(s.setup.Count, s.setup.Churn)
	if s.tokens, err = s.setup.Tokens.mint(total); err != nil {
		return err
	}
	next := 0
	for i := range s.setup.Threads {
		share := (s.setup.Count + i) / s.setup.Threads
		t, err := newReaderThread(s, next, share)
		if err != nil {
			return err
		}
		next += share
		s.threads = append(s.threads, t)
	}
	return nil
}

// topic is that of subscriber i.
func (s *subscribers) topic(i int) int { return (s.setup.First + i) % max(s.setup.Topics, 1) }

// request is what subscriber i sends, with a cursor for a transport that asks again and again.
func (s *subscribers) request(dst []byte, i int, after string) []byte {
	target := strings.NewReplacer("{topic}", fmt.Sprintf("%s.%05d", s.setup.Prefix, s.topic(i)), "{after}", after).Replace(s.setup.Target)
	header := s.setup.Header
	if len(s.tokens) > 0 {
		header = strings.ReplaceAll(header, "{token}", s.tokens[i%len(s.tokens)])
	}
	switch s.setup.Transport {
	case "", "sse":
		header += "Accept: text/event-stream\r\n"
	case "websocket":
		header += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: hark.v1\r\n"
	}
	return fmt.Appendf(dst, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, s.setup.Addr, header)
}

func (s *subscribers) mark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marked = s.total()
	s.latency.Reset()
}

func (s *subscribers) total() (sum tally) {
	for _, t := range s.threads {
		t.mu.Lock()
		sum.add(t.judge.tally)
		t.mu.Unlock()
	}
	return sum
}

func (s *subscribers) report() SubscriberReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := SubscriberReport{tally: s.total(), Latency: &s.latency, CPU: ownCPU()}
	r.Events -= s.marked.Events
	r.Bytes -= s.marked.Bytes
	r.Comments -= s.marked.Comments
	r.Least = 1 << 62
	for _, t := range s.threads {
		t.mu.Lock()
		t.reportTo(&r)
		t.mu.Unlock()
	}
	if r.Most == 0 {
		r.Least = 0
	}
	return r
}

// SubscriberProcess is a running process of subscribers.
type SubscriberProcess struct{ *child }

// StartSubscribers starts a process; nothing connects yet.
func StartSubscribers(setup Subscribers) (*SubscriberProcess, error) {
	c, err := startChild("subscribers")
	if err != nil {
		return nil, err
	}
	var s started
	if err := c.ask(setup, &s); err != nil {
		c.Close()
		return nil, err
	}
	return &SubscriberProcess{c}, nil
}

// Connect begins to connect them all, or to churn.
func (p *SubscriberProcess) Connect() error {
	_, err := p.do("connect")
	return err
}

// Mark begins a measurement.
func (p *SubscriberProcess) Mark() (SubscriberReport, error) { return p.do("mark") }

// Report tells what was seen since the mark.
func (p *SubscriberProcess) Report() (SubscriberReport, error) { return p.do("report") }

func (p *SubscriberProcess) do(what string) (SubscriberReport, error) {
	var r SubscriberReport
	err := p.ask(what, &r)
	return r, err
}

// Until asks until done is content. It is an error if a subscriber is lost, something bad was received, or within is over.
func (p *SubscriberProcess) Until(within time.Duration, done func(SubscriberReport) bool) (SubscriberReport, error) {
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		r, err := p.Report()
		switch {
		case err != nil:
			return r, err
		case r.Bad > 0:
			return r, fmt.Errorf("%d events or answers are wrong: %s", r.Bad, r.Example)
		case r.Lost > 0:
			return r, fmt.Errorf("%d subscribers were refused or cut: %s", r.Lost, r.Why)
		case done(r):
			return r, nil
		case time.Since(start) > within:
			fmt.Fprintf(os.Stderr, "subscribers: %+v\n", r)
			return r, fmt.Errorf("not done after %v: %d live, %d events, each %d to %d", within, r.Live, r.Events, r.Least, r.Most)
		}
	}
}
