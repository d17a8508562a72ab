package rig

import (
	"bytes"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// SinkSetup starts a sink. It answers 200 to POST /{class}/{anything}; a class
// is a group of destinations that behave, and are counted, alike.
type SinkSetup struct {
	Counters string `json:"counters"`
	// Classes that are not there answer 200 at once.
	Classes map[string]Behaviour `json:"classes,omitempty"`
}

// Behaviour is how the sink treats requests of one class.
type Behaviour struct {
	// Hang is how long it waits before it answers.
	Hang time.Duration `json:"hang,omitempty"`
	// Status answers other than 200.
	Status int `json:"status,omitempty"`
}

// SinkReport is what a sink saw of one class.
type SinkReport struct {
	// Requests and Distinct (deliveries answered 2xx, by webhook-id and path)
	// count from the last reset; the others from the last mark.
	Requests uint64 `json:"requests"`
	Distinct uint64 `json:"distinct"`
	// Delivered are distinct deliveries since the mark.
	Delivered uint64 `json:"delivered"`
	// Latency runs from the publish time in the data to the arrival here.
	Latency *Hist `json:"latency"`
	// Unsigned requests had no webhook-id or signature.
	Unsigned uint64 `json:"unsigned"`
}

// SinkState is the answer to every command of a sink.
type SinkState struct {
	Classes map[string]SinkReport `json:"classes"`
	// Conns are the connections open now.
	Conns int64 `json:"conns"`
	// CPU is processor time used since the sink's start, in seconds.
	CPU float64 `json:"cpu"`
}

// sinkCommand is one line to a sink: "reset" forgets all, "mark" begins a
// measurement, "set" changes how a class behaves, "report" only answers.
type sinkCommand struct {
	Do        string    `json:"do"`
	Class     string    `json:"class,omitempty"`
	Behaviour Behaviour `json:"behaviour,omitzero"`
}

type sink struct {
	counters *Counters
	seen     *seen
	conns    atomic.Int64

	mu      sync.Mutex // guards below
	classes map[string]*class
}

type class struct {
	name      string
	behaviour atomic.Pointer[Behaviour]
	requests  atomic.Uint64
	distinct  atomic.Uint64
	marked    atomic.Uint64 // distinct at the last mark
	unsigned  atomic.Uint64
	latency   Hist
}

var (
	idKey        = []byte("\r\nwebhook-id:")
	signatureKey = []byte("\r\nwebhook-signature:")
	dataStart    = []byte(timeMark)
	answerOK     = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
)

func sinkRole(c *control) error {
	var setup SinkSetup
	if err := c.read(&setup); err != nil {
		return err
	}
	counters, err := OpenCounters(setup.Counters)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &sink{counters: counters, seen: newSeen(), classes: map[string]*class{}}
	for name, b := range setup.Classes {
		s.class(name).behaviour.Store(&b)
	}
	go s.accept(l)
	if err := c.write(started{Addr: l.Addr().String()}); err != nil {
		return err
	}
	for {
		var cmd sinkCommand
		if err := c.read(&cmd); err != nil {
			return nil // the benchmark has ended
		}
		if err := c.write(s.obey(cmd)); err != nil {
			return err
		}
	}
}

func (s *sink) obey(cmd sinkCommand) SinkState {
	switch cmd.Do {
	case "reset":
		s.seen.reset()
		s.counters.Reset()
		s.each(func(c *class) {
			c.requests.Store(0)
			c.distinct.Store(0)
			c.mark()
		})
	case "mark":
		s.each((*class).mark)
	case "set":
		s.class(cmd.Class).behaviour.Store(&cmd.Behaviour)
	}
	state := SinkState{Classes: map[string]SinkReport{}, Conns: s.conns.Load(), CPU: ownCPU()}
	s.each(func(c *class) {
		distinct := c.distinct.Load()
		state.Classes[c.name] = SinkReport{
			Requests: c.requests.Load(), Distinct: distinct, Delivered: distinct - c.marked.Load(),
			Latency: &c.latency, Unsigned: c.unsigned.Load(),
		}
	})
	return state
}

func (s *sink) each(do func(*class)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.classes {
		do(c)
	}
}

func (c *class) mark() {
	c.marked.Store(c.distinct.Load())
	c.unsigned.Store(0)
	c.latency.Reset()
}

func (s *sink) class(name string) *class {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.classes[name]
	if c == nil {
		c = &class{name: name}
		c.behaviour.Store(&Behaviour{})
		s.classes[name] = c
	}
	return c
}

func (s *sink) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go s.serve(conn)
	}
}

func (s *sink) serve(conn net.Conn) {
	s.conns.Add(1)
	defer s.conns.Add(-1)
	defer conn.Close()
	w := newWire(conn)
	var last *class // a connection mostly stays with one class
	for {
		head, body, err := w.next()
		if err != nil {
			return
		}
		now := time.Now()
		path, name := requestPath(head)
		if last == nil || last.name != string(name) {
			last = s.class(string(name))
		}
		if _, err := conn.Write(s.receive(last, now, head, path, body)); err != nil {
			return
		}
	}
}

// receive counts a request and returns the answer. Only what is accepted is delivered.
func (s *sink) receive(c *class, now time.Time, head, path, body []byte) []byte {
	c.requests.Add(1)
	id := header(head, idKey)
	if id == nil || header(head, signatureKey) == nil {
		c.unsigned.Add(1)
	}
	b := c.behaviour.Load()
	if b.Hang > 0 {
		time.Sleep(b.Hang)
	}
	if b.Status != 0 && b.Status/100 != 2 {
		return []byte("HTTP/1.1 " + strconv.Itoa(b.Status) + " No\r\nContent-Length: 0\r\n\r\n")
	}
	if !s.seen.add(id, path) {
		return answerOK
	}
	if bytes.HasPrefix(body, dataStart) {
		c.latency.Add(now.Sub(time.Unix(0, digits(body[len(dataStart):]))))
	}
	c.distinct.Add(1)
	s.counters.Delivered.Add(1)
	return answerOK
}

// requestPath returns the path of a request line and its first part.
func requestPath(head []byte) (path, class []byte) {
	_, rest, _ := bytes.Cut(head[:bytes.IndexByte(head, '\r')], []byte(" "))
	path, _, _ = bytes.Cut(rest, []byte(" "))
	class, _, _ = bytes.Cut(bytes.TrimPrefix(path, []byte("/")), []byte("/"))
	return path, class
}

// Sink is a running sink process.
type Sink struct {
	Addr string
	*child
}

// StartSink starts a sink process.
func StartSink(setup SinkSetup) (*Sink, error) {
	c, err := startChild("sink")
	if err != nil {
		return nil, err
	}
	var s started
	if err := c.ask(setup, &s); err != nil {
		c.Close()
		return nil, err
	}
	return &Sink{s.Addr, c}, nil
}

// Reset forgets everything, for the next load.
func (s *Sink) Reset() (SinkState, error) { return s.do(sinkCommand{Do: "reset"}) }

// Mark begins a measurement.
func (s *Sink) Mark() (SinkState, error) { return s.do(sinkCommand{Do: "mark"}) }

// Report tells what was seen.
func (s *Sink) Report() (SinkState, error) { return s.do(sinkCommand{Do: "report"}) }

// Set changes how a class behaves.
func (s *Sink) Set(class string, b Behaviour) error {
	_, err := s.do(sinkCommand{Do: "set", Class: class, Behaviour: b})
	return err
}

func (s *Sink) do(cmd sinkCommand) (SinkState, error) {
	var state SinkState
	err := s.ask(cmd, &state)
	return state, err
}
