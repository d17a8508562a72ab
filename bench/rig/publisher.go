package rig

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Load is what a publisher does until it is told to stop.
type Load struct {
	Counters string `json:"counters"`
	// Addr is the server's host:port.
	Addr   string `json:"addr"`
	Key    string `json:"key,omitempty"`
	Tenant string `json:"tenant,omitempty"`
	// Bare sends only the data, to /{topic number}: the bare program parses nothing.
	Bare bool `json:"bare,omitempty"`
	// Topics are {Prefix}.0 … {Prefix}.{Topics-1}, in turn; shuffled, in an order that jumps.
	Prefix  string `json:"prefix"`
	Topics  int    `json:"topics"`
	Shuffle bool   `json:"shuffle,omitempty"`
	// Size is the data's, in bytes.
	Size int `json:"size"`
	// Batch is events per request; 1 sends an object, more an array.
	Batch int `json:"batch"`
	Conns int `json:"conns"`
	// Count ends the load after so many events; 0 for none.
	Count int64 `json:"count,omitempty"`
	// Rate is in requests per second over all connections; 0 for as fast as answers come.
	Rate float64 `json:"rate,omitempty"`
	// Window holds back while more than so many events are acknowledged and not
	// yet delivered FanOut times each; 0 for never.
	Window int `json:"window,omitempty"`
	FanOut int `json:"fan_out,omitempty"`
	// Background lets every other process go first: a load that is there to
	// disturb the server must not take its processor.
	Background bool `json:"background,omitempty"`
	// Hook sends signed webhooks to an inbound URL instead of events; only Addr, Size,
	// Conns and Rate count besides.
	Hook *Hook `json:"hook,omitempty"`
	// TLS speaks it, and believes any certificate.
	TLS bool `json:"tls,omitempty"`
}

// dial connects to where the load goes.
func (l *Load) dial() (net.Conn, error) {
	if l.TLS {
		return tls.Dial("tcp", l.Addr, &tls.Config{InsecureSkipVerify: true})
	}
	return net.Dial("tcp", l.Addr)
}

// LoadReport is what a publisher did.
type LoadReport struct {
	// Acked are events acknowledged in all, Marked those since the mark.
	Acked  uint64 `json:"acked"`
	Marked uint64 `json:"marked"`
	// Latency is from a request's time to its answer, since the mark.
	Latency *Hist `json:"latency"`
	// Refused are requests without a 2xx; Example is one of them.
	Refused uint64 `json:"refused"`
	Example string `json:"example,omitempty"`
	// Held is the share of the time since the mark that connections spent held back.
	Held float64 `json:"held"`
	CPU  float64 `json:"cpu"`
}

type publisher struct {
	load     Load
	counters *Counters
	stop     chan struct{}
	due      chan time.Time // at a fixed rate: the moments to publish at
	number   atomic.Int64

	acked, markedAt atomic.Uint64
	refused         atomic.Uint64
	held            atomic.Int64 // nanoseconds
	latency         Hist
	hooks           *hooks

	mu      sync.Mutex // guards below
	marked  time.Time
	example string
}

func publisherRole(c *control) error {
	p := &publisher{stop: make(chan struct{}), marked: time.Now()}
	if err := c.read(&p.load); err != nil {
		return err
	}
	counters, err := OpenCounters(p.load.Counters)
	if err != nil {
		return err
	}
	p.counters = counters
	var wg sync.WaitGroup
	if p.load.Rate > 0 {
		p.due = make(chan time.Time, 1<<16)
		wg.Go(p.pace)
	}
	if p.load.Hook != nil {
		p.hooks = newHooks(p.load)
	}
	for range p.load.Conns {
		wg.Go(p.run)
	}
	for {
		var do string
		if err := c.read(&do); err != nil {
			return nil
		}
		switch do {
		case "mark":
			p.mark()
		case "stop":
			close(p.stop)
			wg.Wait()
		}
		if err := c.write(p.report()); err != nil || do == "stop" {
			return err
		}
	}
}

func (p *publisher) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marked = time.Now()
	p.markedAt.Store(p.acked.Load())
	p.held.Store(0)
	p.latency.Reset()
}

func (p *publisher) report() LoadReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	acked := p.acked.Load()
	return LoadReport{
		Acked: acked, Marked: acked - p.markedAt.Load(), Latency: &p.latency,
		Refused: p.refused.Load(), Example: p.example, CPU: ownCPU(),
		Held: time.Duration(p.held.Load()).Seconds() / time.Since(p.marked).Seconds() / float64(p.load.Conns),
	}
}

func (p *publisher) stopped() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

// pace tells when to publish. It sleeps in the kernel on a thread of its own: a
// runtime timer may be a millisecond late, which is what is to be measured.
func (p *publisher) pace() {
	runtime.LockOSThread()
	step := time.Duration(float64(time.Second) / p.load.Rate)
	for next := time.Now().Add(step); !p.stopped(); next = next.Add(step) {
		if wait := time.Until(next); wait > 0 {
			spec := syscall.NsecToTimespec(int64(wait))
			syscall.Nanosleep(&spec, nil)
		}
		select {
		case p.due <- next:
		default: // the server is seconds behind: the latencies already say so
		}
	}
}

// next waits for the moment of the next request.
func (p *publisher) next() (at time.Time, ok bool) {
	if p.due != nil {
		select {
		case at = <-p.due:
			return at, true
		case <-p.stop:
			return at, false
		}
	}
	start := time.Now()
	for at = start; p.full(); at = time.Now() {
		if p.stopped() {
			return at, false
		}
		time.Sleep(500 * time.Microsecond)
	}
	p.held.Add(int64(at.Sub(start)))
	return at, !p.stopped()
}

func (p *publisher) full() bool {
	if p.load.Window == 0 {
		return false
	}
	published := p.counters.Published.Load() * uint64(max(p.load.FanOut, 1))
	return published > p.counters.Delivered.Load()+uint64(p.load.Window)
}

func (p *publisher) run() {
	var conn net.Conn
	var w *wire
	var req maker
	if p.load.Hook != nil {
		req = p.hooks
	} else {
		req = newRequest(p.load)
	}
	for {
		at, ok := p.next()
		if !ok {
			break
		}
		if conn == nil {
			var err error
			if conn, err = p.load.dial(); err != nil {
				p.refuse(err.Error())
				time.Sleep(10 * time.Millisecond)
				continue
			}
			w = newWire(conn)
		}
		first := p.number.Add(int64(p.load.Batch)) - int64(p.load.Batch)
		if p.load.Count > 0 && first >= p.load.Count {
			break
		}
		if err := p.one(conn, w, req, at, first); err != nil {
			p.refuse(err.Error())
			conn.Close()
			conn = nil
		}
	}
	if conn != nil {
		conn.Close()
	}
}

func (p *publisher) one(conn net.Conn, w *wire, req maker, at time.Time, first int64) error {
	if _, err := conn.Write(req.at(at, first)); err != nil {
		return err
	}
	head, body, err := w.next()
	if err != nil {
		return err
	}
	if code := status(head); code/100 != 2 {
		p.refuse(fmt.Sprintf("%d %s", code, body))
		if code == 429 || code == 503 {
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	}
	p.latency.Add(time.Since(at))
	p.acked.Add(uint64(p.load.Batch))
	p.counters.Published.Add(uint64(p.load.Batch))
	return nil
}

func (p *publisher) refuse(why string) {
	p.refused.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.example == "" {
		p.example = why[:min(len(why), 300)]
	}
}

// maker makes the bytes of requests.
type maker interface {
	// at returns the bytes for a request at a moment, whose events are numbered from first.
	at(at time.Time, first int64) []byte
}

// request is a request's bytes, of which only parts change.
type request struct {
	text    []byte
	topics  int
	shuffle bool
	events  []eventSpots
	padding []byte
}

// eventSpots are where an event's changing parts lie.
type eventSpots struct {
	topic []byte
	data  dataSpots
}

// dataSpots are the same of an event's data.
type dataSpots struct{ time, number, pad []byte }

const (
	topicDigits  = 5
	timeDigits   = 19
	numberDigits = 12
	timeMark     = `{"t":`
	numberMark   = `,"n":"`
	padMark      = `","pad":"`
	dataEnd      = `"}`
	// dataSize is the least that data can have.
	dataSize = len(timeMark) + timeDigits + len(numberMark) + numberDigits + len(padMark) + len(dataEnd)
)

// newData returns data of size bytes.
func newData(size int) []byte {
	pad := max(size-dataSize, 0)
	return fmt.Appendf(nil, "%s%0*d%s%0*d%s%s%s", timeMark, timeDigits, 0, numberMark, numberDigits, 0, padMark,
		strings.Repeat("x", pad), dataEnd)
}

// spotsOf finds what changes in the data that starts text and has size bytes.
func spotsOf(text []byte, size int) dataSpots {
	time := len(timeMark)
	number := time + timeDigits + len(numberMark)
	pad := number + numberDigits + len(padMark)
	return dataSpots{text[time : time+timeDigits], text[number : number+numberDigits], text[pad : max(size, dataSize)-len(dataEnd)]}
}

// padding is text that a store cannot compress to nothing; each event gets
// another part of it.
var padding = sync.OnceValue(func() []byte {
	text := make([]byte, 4<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range text {
		text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[random.IntN(64)]
	}
	return text
})

// fill writes one event's data.
func (d *dataSpots) fill(at time.Time, n int64, padding []byte) {
	putDigits(d.time, at.UnixNano())
	putDigits(d.number, n)
	if room := len(padding) - len(d.pad); room > 0 {
		copy(d.pad, padding[uint64(n)*7919%uint64(room):])
	}
}

func newRequest(l Load) *request {
	var body bytes.Buffer
	payload := newData(l.Size)
	if l.Batch > 1 {
		body.WriteByte('[')
	}
	for i := range l.Batch {
		if i > 0 {
			body.WriteByte(',')
		}
		if l.Bare {
			body.Write(payload)
		} else {
			fmt.Fprintf(&body, `{"topic":"%s.00000","data":%s}`, l.Prefix, payload)
		}
	}
	if l.Batch > 1 {
		body.WriteByte(']')
	}
	path := "/v1/events"
	if l.Bare {
		path = "/00000"
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n",
		path, l.Addr, body.Len())
	if l.Key != "" {
		fmt.Fprintf(&text, "Authorization: Bearer %s\r\n", l.Key)
	}
	if l.Tenant != "" {
		fmt.Fprintf(&text, "Hark-Tenant: %s\r\n", l.Tenant)
	}
	text.WriteString("\r\n")
	text.Write(body.Bytes())
	return findSpots(text.Bytes(), l)
}

func findSpots(text []byte, l Load) *request {
	r := &request{text: text, topics: l.Topics, shuffle: l.Shuffle, padding: padding()}
	topicMark := []byte(`"topic":"` + l.Prefix + `.`)
	if l.Bare {
		topicMark = []byte("POST /")
	}
	rest := text
	for range l.Batch {
		topic := rest[bytes.Index(rest, topicMark)+len(topicMark):]
		data := topic[bytes.Index(topic, []byte(timeMark)):]
		r.events = append(r.events, eventSpots{topic[:topicDigits], spotsOf(data, l.Size)})
		rest = data[max(l.Size, dataSize):]
	}
	return r
}

// at returns the bytes for a request at a moment, whose events are numbered from first.
func (r *request) at(at time.Time, first int64) []byte {
	for i := range r.events {
		n := first + int64(i)
		topic := n
		if r.shuffle {
			topic = int64(uint64(n+1) * 0x9e3779b97f4a7c15 >> 33)
		}
		putDigits(r.events[i].topic, topic%int64(r.topics))
		r.events[i].data.fill(at, n, r.padding)
	}
	return r.text
}

// Publisher is a running publisher process.
type Publisher struct{ *child }

// StartPublisher starts one; it publishes at once.
func StartPublisher(l Load) (*Publisher, error) {
	c, err := startChild("publisher")
	if err != nil {
		return nil, err
	}
	if l.Background {
		err = syscall.Setpriority(syscall.PRIO_PGRP, c.PID(), 19)
	}
	if err == nil {
		err = c.enc.Encode(l)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Publisher{c}, nil
}

// Mark begins a measurement.
func (p *Publisher) Mark() (LoadReport, error) { return p.do("mark") }

// Report tells what was done so far.
func (p *Publisher) Report() (LoadReport, error) { return p.do("report") }

// Stop ends the load, waits for the answers under way and ends the process.
func (p *Publisher) Stop() (LoadReport, error) {
	defer p.Close()
	return p.do("stop")
}

func (p *Publisher) do(what string) (LoadReport, error) {
	var r LoadReport
	err := p.ask(what, &r)
	return r, err
}
