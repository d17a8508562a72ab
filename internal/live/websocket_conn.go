package live

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/harkhq/hark"
	ws "github.com/harkhq/hark/internal/socket"
)

// Limits of one connection.
const (
	maxSubs = 1000
	// A client may say burstFrames frames at once, such as all its subscriptions, and
	// framesPerSecond in the long run. Publishes that succeed do not count: they wait for
	// their commits. Frames beyond are refused, and overFrames of those end the connection.
	burstFrames     = 1200
	framesPerSecond = 100
	overFrames      = 100
	// publishWithin bounds how long a publish waits for its commit.
	publishWithin = 30 * time.Second
)

// socket is one WebSocket connection: a [ws.Handler].
type socket struct {
	hub  *Hub
	conn *ws.Conn

	// Of who reads.
	allowance float64 // frames that may come now
	refilled  int64   // Unix milliseconds

	mu      sync.Mutex    // guards below; nothing of readers is called with it, and of the hub its seats alone
	caller  Caller        // nil while nobody said who it is
	seat    hark.TenantID // whose seat it has; 0 while nobody said who it is
	subs    []*subscription
	turns   []*subscription // with something to send, in turn
	advance bool            // tell subscriptions that are quiet how far they are
	lost    bool

	began, telling int64 // the sweep's, in Unix milliseconds; telling is when advance is due
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

func newSocket(h *Hub) *socket {
	now := time.Now().UnixMilli()
	return &socket{hub: h, allowance: burstFrames, refilled: now, began: now}
}

// Limit implements ws.Handler.
func (s *socket) Limit() int {
	s.mu.Lock()
	c := s.caller
	s.mu.Unlock()
	if c == nil || s.hub.cfg.Publisher == nil {
		return maxFrame
	}
	return max(maxFrame, s.hub.cfg.Publisher.MaxFrame(c))
}

// Hear implements ws.Handler.
func (s *socket) Hear(text []byte) {
	s.mu.Lock()
	c := s.caller
	s.mu.Unlock()
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
	s.conn.Put(said)
	if gap != nil {
		s.conn.Put(appendSubGap(nil, sub.json, gap))
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

// Control implements ws.Handler.
func (s *socket) Control() bool { return s.allow(&frame{}) }

// tell answers a frame with an error.
func (s *socket) tell(f *frame, err error) {
	s.say(appendFault(nil, f, s.hub.cfg.Front.Explain(err)))
}

// say sends a frame before all events that are not on their way yet. It waits while the client does not read.
func (s *socket) say(b []byte) { s.conn.Say(b) }

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
		s.conn.Wake()
	}
}

// bye is how the server ends a connection that may come back.
func (s *socket) bye(why string, code ws.Code, reconnect time.Duration) {
	s.conn.End(ws.Farewell{Frames: [][]byte{appendEndFrame(nil, why, reconnect)}, Code: code, Text: why, Counted: why})
}

// fail ends the connection for what its client did.
func (s *socket) fail(code ws.Code, f *frame, err error) {
	fault := s.hub.cfg.Front.Explain(err)
	s.conn.End(ws.Farewell{Frames: [][]byte{appendFault(nil, f, fault)}, Code: code, Text: fault.Code, Counted: "refused"})
}

// Fail implements ws.Handler.
func (s *socket) Fail(f ws.Fault) {
	switch f {
	case ws.TooLarge:
		s.fail(closeTooLarge, &frame{}, &hark.Error{Kind: hark.TooLarge, Code: "frame-too-large", Msg: "your frames may have " + strconv.Itoa(s.Limit()) + " bytes at most"})
	case ws.NotText:
		s.fail(closeBadFrame, &frame{}, errNotJSON)
	case ws.SlowFrame:
		s.fail(closeBadFrame, &frame{}, &hark.Error{Kind: hark.Timeout, Code: "frame-timeout", Msg: "a frame did not arrive in time"})
	case ws.SlowReader:
		s.bye(endSlow, closeSlow, spread(time.Second))
	}
}

// buffers are for frames that are being made.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Serve implements ws.Handler: it is one subscription's turn, or, when none has one, those are
// told how far they are that are quiet.
func (s *socket) Serve() (more, ok bool) {
	var sub *subscription
	var quiet []*subscription
	s.mu.Lock()
	if len(s.turns) > 0 {
		sub = s.turns[0]
		sub.queued = false
		s.turns = shift(s.turns)
	} else if s.advance {
		s.advance = false
		quiet = slices.Clone(s.subs)
	}
	more = len(s.turns) > 0 || s.advance
	s.mu.Unlock()
	if sub == nil {
		return more, s.tellPositions(quiet)
	}
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= 4*takeBytes { // a huge event's is not kept
			buffers.Put(buf)
		}
	}()
	return more, s.serve(sub, buf)
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
		if !s.conn.Send(appendSubGap(nil, sub.json, g)) {
			return false
		}
	}
	if len(b) > at {
		b[at] = '[' // of List's comma
		sub.told = sub.reader.Position()
		b = append(append(b, `],"cursor":"`...), s.hub.log.Cursor(sub.told).String()...)
		b = append(b, `"}`...)
		*buf = b
		if !s.conn.Send(b) {
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
		if !s.conn.Send(appendSubCursor(nil, "cursor", sub.json, s.hub.log.Cursor(at))) {
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

// Gone implements ws.Handler.
func (s *socket) Gone(why string) {
	s.mu.Lock()
	s.lost = true
	subs := append(s.subs, s.turns...)
	s.subs, s.turns = nil, nil
	seat := s.seat
	s.mu.Unlock()
	for _, sub := range subs {
		s.closeSub(sub)
	}
	s.hub.streams.leave(seat, 1)
	s.hub.cfg.Hooks.Closed(websocketName, why)
}
