package rig

import (
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// readerThread is the subscribers of one thread.
type readerThread struct {
	s     *subscribers
	first int // number of its first subscriber
	epoll int
	dest  unix.SockaddrInet4
	buf   []byte

	mu      sync.Mutex // guards below; taken once for each wait
	judge   judge
	subs    []subscriber
	next    int // the next to connect
	pending int // connecting, or without a first block
	live    int
	lost    int
	why     string
	churned int
	wanted  int
	started int64
	done    int64
	msg     []byte // for what is sent
}

// subscriber is one connection.
type subscriber struct {
	place
	fd      int32
	number  int32
	slot    int32 // where it lies in its thread
	state   subscriberState
	stalled bool
	live    bool // counted as live
	noted   bool // counted as one that has all it wants
	chunked bool
	chunks  chunks
	// need is how long a long poll's answer still is, at the most.
	need  int
	since int64  // when it began to connect
	carry []byte // the start of what has not all come
}

type subscriberState uint8

const (
	subIdle subscriberState = iota
	subConnecting
	subHead // waits for a response's head
	subBody
	subGone
)

const readSize = 256 << 10

func newReaderThread(s *subscribers, first, count int) (*readerThread, error) {
	addr, err := netip.ParseAddrPort(s.setup.Addr)
	if err != nil {
		return nil, err
	}
	t := &readerThread{s: s, first: first, subs: make([]subscriber, count), buf: make([]byte, readSize),
		dest: unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}}
	t.judge = judge{dense: s.setup.Dense, prefix: []byte(s.setup.Prefix), sample: max(s.setup.Sample, 1), latency: &s.latency}
	if t.epoll, err = unix.EpollCreate1(0); err != nil {
		return nil, err
	}
	for i := range t.subs {
		t.subs[i].slot, t.subs[i].stalled = int32(i), first+i < s.setup.Stalled
		t.subs[i].reset(t, first+i)
	}
	return t, nil
}

func (c *subscriber) reset(t *readerThread, number int) {
	*c = subscriber{number: int32(number), slot: c.slot, fd: -1, stalled: c.stalled, carry: c.carry[:0]}
	c.topic = t.s.topic(number)
	if t.s.setup.Any {
		c.topic = -1
	}
}

// run connects, reads and judges for ever.
func (t *readerThread) run() {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, 512)
	t.mu.Lock()
	t.started = time.Now().UnixNano()
	t.connectMore()
	t.mu.Unlock()
	for {
		n, err := unix.EpollWait(t.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			panic(err)
		}
		t.mu.Lock()
		before := t.judge.Events
		for _, e := range events[:max(n, 0)] {
			t.ready(&t.subs[e.Fd], e.Events)
		}
		t.connectMore()
		if got := t.judge.Events - before; got > 0 {
			t.s.counters.Delivered.Add(got)
		}
		t.mu.Unlock()
	}
}

func (t *readerThread) connectMore() {
	share := max(1, t.s.setup.Pending/t.s.setup.Threads)
	for t.next < len(t.subs) && t.pending < share {
		c := &t.subs[t.next]
		t.next++
		t.connect(c)
	}
}

func (t *readerThread) lose(c *subscriber, format string, args ...any) {
	if c.state == subGone {
		return
	}
	if c.live {
		t.live--
	} else {
		t.pending--
	}
	t.lost++
	if t.why == "" {
		t.why = fmt.Sprintf("subscriber %d: ", c.number) + fmt.Sprintf(format, args...)
	}
	c.state = subGone
	if c.fd >= 0 {
		unix.Close(int(c.fd))
	}
}

// sources is how many addresses a process connects from.
const sources = 16

func (t *readerThread) connect(c *subscriber) {
	c.state, c.since = subConnecting, time.Now().UnixNano()
	t.pending++
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	c.fd = int32(fd)
	if err != nil {
		t.lose(c, "socket: %v", err)
		return
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if c.stalled {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1400)
	}
	from := unix.SockaddrInet4{Addr: [4]byte{127, 0, byte(t.s.setup.Source), byte(1 + c.number%sources)}}
	if err := unix.Bind(fd, &from); err != nil {
		t.lose(c, "bind: %v", err)
		return
	}
	if err := unix.Connect(fd, &t.dest); err != nil && err != unix.EINPROGRESS {
		t.lose(c, "connect: %v", err)
		return
	}
	t.watch(c, unix.EPOLL_CTL_ADD, unix.EPOLLOUT)
}

func (t *readerThread) watch(c *subscriber, op int, events uint32) {
	e := unix.EpollEvent{Events: events, Fd: c.slot}
	if err := unix.EpollCtl(t.epoll, op, int(c.fd), &e); err != nil {
		t.lose(c, "epoll: %v", err)
	}
}

func (t *readerThread) ready(c *subscriber, events uint32) {
	switch c.state {
	case subConnecting:
		if code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			t.lose(c, "connect: %v", unix.Errno(code))
			return
		}
		t.msg = t.s.request(t.msg[:0], int(c.number), t.s.setup.After)
		if n, err := unix.Write(int(c.fd), t.msg); err != nil || n < len(t.msg) {
			t.lose(c, "sending the request: %v", err)
			return
		}
		c.state = subHead
		if c.stalled {
			c.state = subBody // as far as anybody can know
			t.isLive(c)
			unix.EpollCtl(t.epoll, unix.EPOLL_CTL_DEL, int(c.fd), nil)
			return
		}
		if t.s.setup.Transport == "longpoll" { // it is answered when there is something
			c.primed = true
			t.isLive(c)
		}
		t.watch(c, unix.EPOLL_CTL_MOD, unix.EPOLLIN)
	case subHead, subBody:
		t.read(c)
	}
}

func (t *readerThread) isLive(c *subscriber) {
	c.live = true
	t.pending--
	t.live++
}

// read takes what has come.
func (t *readerThread) read(c *subscriber) {
	kept := len(c.carry)
	if kept+readSize/2 > len(t.buf) {
		t.buf = make([]byte, 2*(kept+readSize))
	}
	n, err := unix.Read(int(c.fd), t.buf[kept:])
	switch {
	case err == unix.EAGAIN, err == unix.EINTR:
		return
	case err != nil:
		t.lose(c, "read: %v", err)
		return
	case n == 0:
		t.lose(c, "the server ended the connection after %d events", c.count)
		return
	}
	copy(t.buf, c.carry)
	t.judge.Bytes += uint64(n)
	rest, answer := t.take(c, kept, t.buf[:kept+n], time.Now().UnixNano())
	if c.state == subGone {
		return
	}
	c.carry = append(c.carry[:0], rest...)
	if len(answer) > 0 {
		if n, err := unix.Write(int(c.fd), answer); err != nil || n < len(answer) {
			t.lose(c, "sending: %v", err)
			return
		}
	}
	if c.primed && !c.live {
		t.isLive(c)
		if t.s.setup.Churn > 0 {
			t.another(c)
			return
		}
	}
	t.want(c)
}

// want notes a subscriber that has all it wants.
func (t *readerThread) want(c *subscriber) {
	want := uint64(t.s.setup.Want)
	switch {
	case want == 0 || c.count < want:
	case c.count > want:
		t.judge.bad("subscriber %d received %d events of %d", c.number, c.count, want)
	case !c.noted:
		c.noted = true
		t.wanted++
		t.done = time.Now().UnixNano()
	}
}

// take reads data, of which the first kept bytes were there before, and returns what is left for
// the next time, and what is to be answered.
func (t *readerThread) take(c *subscriber, kept int, data []byte, now int64) (rest, answer []byte) {
	if c.state == subHead {
		h := parseHead(data)
		if h.size == 0 {
			return data, nil
		}
		if h.status != 200 && h.status != 101 {
			t.lose(c, "%.300q", data)
			return nil, nil
		}
		c.state, c.chunked, c.chunks, c.need = subBody, h.chunked, chunks{}, h.length
		data, kept = data[h.size:], 0
		if h.status == 101 {
			answer = t.subscribe(c)
		}
	}
	if c.chunked {
		data = data[:kept+len(c.chunks.strip(data[kept:]))]
	}
	switch t.s.setup.Transport {
	case "websocket":
		n, more := t.judge.webSocket(&c.place, data, now)
		return data[n:], append(answer, more...)
	case "longpoll":
		return t.polled(c, data, now)
	}
	return data[t.judge.sse(&c.place, data, now):], nil
}

// subscribe is the frame that a WebSocket's subscriber sends.
func (t *readerThread) subscribe(c *subscriber) []byte {
	after := ""
	if t.s.setup.After != "" {
		after = fmt.Sprintf(`,"after":"%s"`, t.s.setup.After)
	}
	return appendWSFrame(nil, wsText, fmt.Appendf(nil, `{"type":"subscribe","sub":"a","topics":["%s.%05d"]%s}`,
		t.s.setup.Prefix, t.s.topic(int(c.number)), after))
}

// polled takes a long poll's whole answer and asks again.
func (t *readerThread) polled(c *subscriber, data []byte, now int64) (rest, answer []byte) {
	if c.chunked && c.chunks.state != chunkEnd || !c.chunked && len(data) < c.need {
		return data, nil
	}
	cursor := t.judge.list(&c.place, data, now)
	c.primed, c.state = true, subHead
	return nil, t.s.request(nil, int(c.number), string(cursor))
}

// another closes c and connects the next in its place.
func (t *readerThread) another(c *subscriber) {
	t.judge.latency.Add(time.Duration(time.Now().UnixNano() - c.since))
	unix.Close(int(c.fd))
	t.live--
	t.churned++
	t.done = time.Now().UnixNano()
	number := int(c.number) + t.s.setup.Count
	if number >= t.s.setup.Churn {
		c.state = subGone
		return
	}
	c.reset(t, number)
	t.connect(c)
}

func (t *readerThread) reportTo(r *SubscriberReport) {
	r.Live += t.live
	r.Lost += t.lost
	r.Churned += t.churned
	r.Wanted += t.wanted
	if r.Why == "" {
		r.Why = t.why
	}
	if r.Started == 0 || t.started < r.Started {
		r.Started = t.started
	}
	r.Done = max(r.Done, t.done)
	for i := range t.subs {
		if c := &t.subs[i]; !c.stalled {
			r.Least, r.Most = min(r.Least, c.count), max(r.Most, c.count)
		}
	}
	r.Least = min(r.Least, math.MaxInt64)
}
