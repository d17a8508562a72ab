package live

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark"
)

// Limits of one connection.
const (
	maxSubs = 1000
	// maxUnsent is how many bytes of answers wait to be sent before no more is read.
	maxUnsent = 64 << 10
	// A client may say burstFrames frames at once, such as all its subscriptions, and
	// framesPerSecond in the long run. Publishes that succeed do not count: they wait for
	// their commits. Frames beyond are refused, and overFrames of those end the connection.
	burstFrames     = 1200
	framesPerSecond = 100
	overFrames      = 100
	// publishWithin bounds how long a publish waits for its commit.
	publishWithin = 30 * time.Second
)

// socket is one WebSocket connection. Its reader is whichever goroutine runs read or what read
// calls, its writer the one that runs write; there is at most one of each.
type socket struct {
	hub    *Hub
	conn   *websocket.Conn
	net    net.Conn // under conn
	writer *frameWriter

	// When it began with what is under way, in Unix milliseconds; 0 for nothing.
	reading, writing, publishing atomic.Int64

	// Of the reader.
	br        *bufio.Reader
	early     bool // something came with the request
	drowsy    bool
	id        int32   // among sleepers; 0 for none yet
	allowance float64 // frames that may come now
	refilled  int64   // Unix milliseconds

	mu      sync.Mutex    // guards below; nothing of readers is called with it, and of the hub its seats alone
	caller  Caller        // nil while nobody said who it is
	seat    hark.TenantID // whose seat it has; 0 while nobody said who it is
	subs    []*subscription
	turns   []*subscription // with something to send, in turn
	out     [][]byte        // goes before those
	unsent  int             // bytes of out
	drained chan struct{}   // closed when out was sent; nil when nobody waits
	advance bool            // tell subscriptions that are quiet how far they are
	active  bool            // there is a writer, or will be no other
	ending  *farewell
	lost    bool

	pings clock
}

// subscription is one of a socket's.
type subscription struct {
	name     string
	json     []byte // name
	tenant   hark.TenantID
	patterns []hark.Pattern

	ready  bool // guarded by the socket's mu, as are queued and gone
	queued bool // among turns
	gone   bool

	reader *Reader     // the writer's
	told   hark.Offset // the newest position that the client knows; the writer's
}

// farewell is how a connection ends.
type farewell struct {
	fault     []byte        // an error frame, or nil
	why       string        // of the end frame; "" for none
	reconnect time.Duration // said with it
	code      websocket.StatusCode
	text      string // said with code
	counted   string // in metrics
	at        int64
}

func newSocket(h *Hub) *socket {
	now := time.Now().UnixMilli()
	s := &socket{hub: h, allowance: burstFrames, refilled: now}
	s.pings.begin(now)
	return s
}

// begin waits for the first frame. What came with the request is not where an epoll would see it.
func (s *socket) begin() {
	if s.early || !s.hub.sockets.sleepers.sleep(s) {
		s.read()
	}
}

// read reads what is there, then lets the connection sleep, or leaves the next frame to
// another goroutine: parked, a stack must be shallow.
func (s *socket) read() {
	for {
		if !s.readOne() {
			return
		}
		switch more, over := s.buffered(); {
		case over: // who says good-bye reads what is left
			return
		case more:
		case s.hub.sockets.sleepers.sleep(s):
			return
		default:
			go s.read()
			return
		}
	}
}

// buffered reports whether the next frame began to arrive already, or the connection ends.
func (s *socket) buffered() (more, over bool) {
	s.mu.Lock() // only after it, the writer reads
	defer s.mu.Unlock()
	if s.ending != nil || s.lost {
		return false, true
	}
	return s.br.Buffered() > 0, false
}

// readOne reads one message and does what it says. It reports whether to go on.
func (s *socket) readOne() bool {
	kind, r, err := s.conn.Reader(context.Background())
	if err != nil {
		return s.awoken(err) || s.lose(err)
	}
	s.reading.Store(time.Now().UnixMilli())
	text, err := readFrame(r, s.maxFrame())
	s.reading.Store(0)
	switch tooLarge, _ := errors.AsType[*hark.Error](err); {
	case tooLarge != nil:
		s.fail(closeTooLarge, &frame{}, err)
	case err != nil:
		return s.lose(err)
	case kind != websocket.MessageText:
		s.fail(closeBadFrame, &frame{}, errNotJSON)
	default:
		s.hear(text)
	}
	return true
}

// drowse has the library stop waiting for a message after a ping or pong, when nothing of the next
// frame is there: else a goroutine would wait for each connection that ever had one. The
// deadline is over before anything is read, so nothing is lost.
func (s *socket) drowse() {
	if _, ok := s.net.(*net.TCPConn); ok && s.reading.Load() == 0 && s.br.Buffered() == 0 {
		s.drowsy = true
		_ = s.net.SetReadDeadline(time.Unix(1, 0))
	}
}

// awoken reports whether a read ended for drowse alone.
func (s *socket) awoken(err error) bool {
	if !s.drowsy {
		return false
	}
	s.drowsy = false
	_ = s.net.SetReadDeadline(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// maxFrame is how large the next frame may be.
func (s *socket) maxFrame() int {
	s.mu.Lock()
	c := s.caller
	s.mu.Unlock()
	if c == nil || s.hub.cfg.Publisher == nil {
		return maxFrame
	}
	return max(maxFrame, s.hub.cfg.Publisher.MaxFrame(c))
}

// hear does what a frame says.
func (s *socket) hear(text []byte) {
	s.mu.Lock()
	c, over := s.caller, s.ending != nil
	s.mu.Unlock()
	if over {
		return
	}
	f, err := parseFrame(text)
	switch {
	case errors.Is(err, errNotJSON):
		s.fail(closeBadFrame, &f, err)
		return
	case f.kind != "publish" || err != nil:
		if !s.allow(&f) {
			return
		}
	}
	switch {
	case err != nil:
	case c == nil && f.kind != "auth":
		s.fail(closeUnauthorized, &f, noCredential())
		return
	default:
		err = s.do(&f, c)
	}
	if err != nil {
		s.tell(&f, err)
	}
}

func (s *socket) do(f *frame, c Caller) error {
	switch f.kind {
	case "auth":
		return s.auth(f, c)
	case "subscribe":
		return s.subscribe(f, c)
	case "unsubscribe":
		return s.unsubscribe(f)
	case "publish":
		return s.publish(f, c)
	}
	s.say(append(appendRef(nil, "pong", f.ref), '}'))
	return nil
}

// auth takes a credential: the first, or one in place of another. One that is refused changes nothing.
func (s *socket) auth(f *frame, c Caller) error {
	now, err := s.hub.cfg.Front.CallerByToken(f.token)
	s.mu.Lock()
	subscribed := len(s.subs) > 0
	s.mu.Unlock()
	switch {
	case err != nil && c == nil:
		s.fail(closeUnauthorized, f, err)
		return nil
	case err != nil:
		return err
	case subscribed && now.TenantID() != c.TenantID():
		return &hark.Error{Kind: hark.Forbidden, Code: "tenant-forbidden", Field: "token", Msg: "the token is for another tenant than your subscriptions: open another connection"}
	}
	s.mu.Lock()
	seated := true
	if !s.lost { // else its seat is given back as the one it was
		if seated = s.hub.streams.move(s.seat, now.TenantID()); seated {
			s.caller, s.seat = now, now.TenantID()
		}
	}
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	if !seated {
		s.bye(endOverloaded, closeOverloaded, crowded())
		return nil
	}
	s.say(appendAuthenticated(nil, now.Until()))
	s.recheck()
	for _, sub := range subs { // what it does not reach ends
		if err := now.MaySubscribe(sub.patterns); err != nil && s.drop(sub.name) {
			s.tell(&frame{sub: sub.name}, inTopics(err))
		}
	}
	return nil
}

// inTopics calls a field as frames do.
func inTopics(err error) error {
	if e, ok := errors.AsType[*hark.Error](err); ok && e.Field == "topic" {
		named := *e
		named.Field = "topics"
		return &named
	}
	return err
}

func (s *socket) subscribe(f *frame, c Caller) error {
	s.mu.Lock()
	taken := slices.ContainsFunc(s.subs, func(sub *subscription) bool { return sub.name == f.sub })
	full := len(s.subs) >= maxSubs
	s.mu.Unlock()
	switch {
	case taken:
		return &hark.Error{Kind: hark.Conflict, Code: "sub-taken", Field: "sub", Msg: "there is a subscription of this name: unsubscribe it first, or choose another name"}
	case full:
		return &hark.Error{Kind: hark.TooMany, Code: "too-many-subs", Field: "sub", Msg: "a connection has at most " + strconv.Itoa(maxSubs) + " subscriptions: give several topics to one"}
	}
	patterns, err := patternsFor(c, f.topics)
	if err != nil {
		return inTopics(err)
	}
	after, gap, err := s.hub.locate(c.TenantID(), patterns, f.start)
	if err != nil {
		return err
	}
	tenant := c.TenantID()
	if !s.hub.sockets.patterns.take(tenant, len(patterns)) {
		return &hark.Error{Kind: hark.Unavailable, Code: "too-many-subs", RetryAfter: 10 * time.Second, Msg: "the server has as many subscriptions as it can: try again later"}
	}
	sub := &subscription{name: f.sub, json: quoted(f.sub), tenant: tenant, patterns: patterns, told: after}
	sub.reader = s.hub.NewReader(Query{Tenant: tenant, Patterns: patterns, Variant: List}, after, func() { s.wake(sub) })
	start := s.hub.log.Cursor(after)
	if gap != nil { // who is cut off before it was told must be told again
		start = gap.From
	}
	said := appendSubCursor(nil, "subscribed", sub.json, start)
	s.mu.Lock()
	if s.lost { // and buried, perhaps
		s.mu.Unlock()
		s.closeSub(sub)
		return nil
	}
	defer s.mu.Unlock()
	s.subs = append(s.subs, sub)
	sub.ready = true
	s.sayLocked(said)
	if gap != nil {
		s.sayLocked(appendSubGap(nil, sub.json, gap))
	}
	s.queueLocked(sub)
	return nil
}

func (s *socket) unsubscribe(f *frame) error {
	if !s.drop(f.sub) {
		return hark.NoSuch("subscription", f.sub)
	}
	s.say(append(appendSub(nil, "unsubscribed", quoted(f.sub)), '}'))
	return nil
}

// drop ends a subscription. Its writer closes it: what is on its way comes before whatever is said next.
func (s *socket) drop(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.subs, func(sub *subscription) bool { return sub.name == name })
	if i < 0 {
		return false
	}
	sub := s.subs[i]
	s.subs = slices.Delete(s.subs, i, i+1)
	sub.gone = true
	s.queueLocked(sub)
	return true
}

func (s *socket) publish(f *frame, c Caller) error {
	if s.hub.cfg.Publisher == nil {
		return hark.Invalidf("type", "this server takes no events here: use POST /v1/events")
	}
	s.publishing.Store(time.Now().UnixMilli())
	defer s.publishing.Store(0)
	ctx, cancel := context.WithTimeout(context.Background(), publishWithin)
	defer cancel()
	id, duplicate, err := s.hub.cfg.Publisher.Publish(ctx, c, f.event, f.key)
	if err != nil {
		if !s.allow(f) { // what fails is cheap to repeat
			return nil
		}
		return err
	}
	s.say(appendPublished(nil, f.ref, id, duplicate))
	return nil
}

// allow counts a frame, and refuses it when there are too many.
func (s *socket) allow(f *frame) bool {
	if s.spend() {
		return true
	}
	err := &hark.Error{Kind: hark.TooMany, Code: "too-many-frames", RetryAfter: time.Second,
		Msg: "more than " + strconv.Itoa(framesPerSecond) + " frames a second: this one was not looked at"}
	if s.allowance < -overFrames {
		s.fail(closeFlood, f, err)
	} else {
		s.tell(f, err)
	}
	return false
}

// spend takes one frame from the allowance.
func (s *socket) spend() bool {
	now := time.Now().UnixMilli()
	s.allowance = min(burstFrames, s.allowance+float64(now-s.refilled)*framesPerSecond/1000) - 1
	s.refilled = now
	return s.allowance >= 0
}

// control counts a ping or pong of the protocol, and reports whether it is to be answered.
func (s *socket) control() bool {
	s.mu.Lock()
	over := s.ending != nil
	s.mu.Unlock()
	if over { // the writer reads now, too
		return false
	}
	ok := s.allow(&frame{})
	s.drowse()
	return ok
}

// tell answers a frame with an error.
func (s *socket) tell(f *frame, err error) {
	s.say(appendFault(nil, f, s.hub.cfg.Front.Explain(err)))
}

// say sends a frame before all events that are not on their way yet. It waits while the client does not read.
func (s *socket) say(b []byte) {
	s.mu.Lock()
	s.sayLocked(b)
	var wait chan struct{}
	if s.unsent > maxUnsent && !s.lost && s.ending == nil {
		if s.drained == nil {
			s.drained = make(chan struct{})
		}
		wait = s.drained
	}
	s.mu.Unlock()
	if wait != nil {
		<-wait
	}
}

func (s *socket) sayLocked(b []byte) {
	if s.ending == nil && !s.lost {
		s.out = append(s.out, b)
		s.unsent += len(b)
		s.startLocked()
	}
}

// wake: there may be something for a subscription.
func (s *socket) wake(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.ready && !sub.gone {
		s.queueLocked(sub)
	}
}

func (s *socket) queueLocked(sub *subscription) {
	if !sub.queued {
		sub.queued = true
		s.turns = append(s.turns, sub)
		s.startLocked()
	}
}

// startLocked sees to it that there is a writer.
func (s *socket) startLocked() {
	if !s.active {
		s.active = true
		go s.write()
	}
}

// end ends the connection, once what was said is sent. The first to do so decides how.
func (s *socket) end(f farewell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil && !s.lost {
		f.at = time.Now().UnixMilli()
		s.ending = &f
		s.freeLocked()
		s.startLocked()
	}
}

// freeLocked lets the reader go on that waits for its answers to be sent.
func (s *socket) freeLocked() {
	s.unsent = 0
	if s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// bye is how the server ends a connection that may come back.
func (s *socket) bye(why string, code websocket.StatusCode, reconnect time.Duration) {
	s.end(farewell{why: why, reconnect: reconnect, code: code, text: why, counted: why})
}

// fail ends the connection for what its client did.
func (s *socket) fail(code websocket.StatusCode, f *frame, err error) {
	fault := s.hub.cfg.Front.Explain(err)
	s.end(farewell{fault: appendFault(nil, f, fault), code: code, text: fault.Code, counted: "refused"})
}

// lose: nothing can be read any more. It returns false.
func (s *socket) lose(err error) bool {
	if websocket.CloseStatus(err) == -1 && !errors.Is(err, net.ErrClosed) {
		// A fault of the protocol, unless the network's: the library may have said so, or not.
		s.end(farewell{code: websocket.StatusProtocolError, counted: "gone"})
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
	s.freeLocked()
	s.startLocked()
	return false
}

// cut ends the connection at once.
func (s *socket) cut() {
	_ = s.net.Close()
	s.lose(net.ErrClosed) // nobody may be reading
}

// work is what a writer does next.
type work struct {
	out     [][]byte
	sub     *subscription
	advance []*subscription
	ending  *farewell
	lost    bool
}

// next returns what is to be done; nothing ends the writer.
func (s *socket) next() (w work, some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w = work{out: s.out, ending: s.ending, lost: s.lost}
	s.out = nil
	s.freeLocked()
	switch {
	case len(w.out) > 0 || w.ending != nil || w.lost:
		return w, true
	case len(s.turns) > 0:
		w.sub = s.turns[0]
		w.sub.queued = false
		s.turns = shift(s.turns)
		return w, true
	case s.advance:
		s.advance = false
		w.advance = slices.Clone(s.subs)
		return w, true
	}
	s.active = false
	return w, false
}

// buffers are for frames that are being made.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// write sends what there is, and ends.
func (s *socket) write() {
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= 4*takeBytes { // a huge event's is not kept
			buffers.Put(buf)
		}
	}()
	for {
		w, some := s.next()
		if !some {
			return
		}
		ok := !w.lost
		for _, b := range w.out {
			ok = ok && s.send(b)
		}
		switch {
		case ok && w.ending != nil:
			s.part(w.ending)
			ok = false
		case ok && w.sub != nil:
			ok = s.serve(w.sub, buf)
		case ok && w.advance != nil:
			ok = s.tellPositions(w.advance)
		}
		if !ok {
			s.bury()
			return
		}
	}
}

// send writes one frame. There is no deadline but the sweep's: a slow client is not a lost one.
func (s *socket) send(b []byte) bool {
	now := time.Now().UnixMilli()
	s.writer.moved.Store(now)
	s.writing.Store(now)
	err := s.conn.Write(context.Background(), websocket.MessageText, b)
	s.writing.Store(0)
	return err == nil
}

// serve sends what there is for a subscription, up to a frame's worth: then it is the others' turn.
func (s *socket) serve(sub *subscription, buf *[]byte) (ok bool) {
	s.mu.Lock()
	gone := sub.gone
	s.mu.Unlock()
	if gone {
		s.closeSub(sub)
		return true
	}
	b := append(appendSub((*buf)[:0], "events", sub.json), `,"events":`...)
	at := len(b)
	b, more, err := sub.reader.Take(b, takeBytes)
	*buf = b
	if err != nil {
		s.bye(endStopping, closeStopping, spread(time.Second))
		return true
	}
	if g := sub.reader.Gap(); g != nil {
		sub.told = max(sub.told, g.To.Offset)
		if !s.send(appendSubGap(nil, sub.json, g)) {
			return false
		}
	}
	if len(b) > at {
		b[at] = '[' // of List's comma
		sub.told = sub.reader.Position()
		b = append(append(b, `],"cursor":"`...), s.hub.log.Cursor(sub.told).String()...)
		b = append(b, `"}`...)
		*buf = b
		if !s.send(b) {
			return false
		}
	}
	if more {
		s.wake(sub)
	}
	return true
}

// tellPositions tells quiet subscriptions how far they are.
func (s *socket) tellPositions(subs []*subscription) bool {
	for _, sub := range subs {
		if sub.reader == nil { // closed meanwhile
			continue
		}
		at := sub.reader.Position()
		if at <= sub.told {
			continue
		}
		sub.told = at
		if !s.send(appendSubCursor(nil, "cursor", sub.json, s.hub.log.Cursor(at))) {
			return false
		}
	}
	return true
}

func (s *socket) closeSub(sub *subscription) {
	if sub.reader != nil {
		sub.reader.Close()
		sub.reader = nil
		s.hub.sockets.patterns.leave(sub.tenant, len(sub.patterns))
	}
}

// part says good-bye, and waits for the client to do so.
func (s *socket) part(f *farewell) {
	if f.fault != nil {
		s.send(f.fault)
	}
	if f.why != "" {
		s.send(appendEndFrame(nil, f.why, f.reconnect))
	}
	_ = s.conn.Close(f.code, f.text)
}

// bury gives back what the connection had. Its writer does it last, and stays active for ever.
func (s *socket) bury() {
	_ = s.net.Close()
	_ = s.conn.CloseNow()
	s.mu.Lock()
	s.lost = true
	s.freeLocked()
	subs := append(s.subs, s.turns...)
	s.subs, s.turns, s.out = nil, nil, nil
	why, seat := "gone", s.seat
	if s.ending != nil {
		why = s.ending.counted
	}
	s.mu.Unlock()
	for _, sub := range subs {
		s.closeSub(sub)
	}
	s.hub.sockets.sleepers.forget(s)
	if s.hub.sockets.remove(s) {
		s.hub.streams.leave(seat, 1)
		s.hub.cfg.Hooks.Closed(websocketName, why)
	}
}
