package pushservice

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark/internal/socket"
)

// The WebSocket protocol of autopush, Mozilla's push service.

// subprotocol is what clients ask for, or nothing.
const subprotocol = "push-notification"

// Close codes. Clients come back after some time, but after closeStay, which autopush has, only
// when their network changes or a page subscribes.
const (
	closeStopping = socket.CloseGoingAway
	closeStay     = socket.Code(4774)
	closeSlow     = socket.Code(4408)
	closeBad      = socket.Code(4400)
	closeFlood    = socket.Code(4429)
	closeOurs     = socket.CloseInternal
)

const (
	// helloWithin is how long a client may take to say who it is.
	helloWithin = 5 * time.Second
	// A client may say burstFrames frames at once, and framesPerSecond in the long run, besides
	// acknowledgments of messages that it was sent.
	burstFrames     = 600
	framesPerSecond = 20
	// Pings of the protocol's own ({}) may come every pingsEvery in the long run.
	burstPings = 30
	pingsEvery = 45 * time.Second
)

// session is a connection of a user agent.
type session struct {
	service *Service
	conn    *socket.Conn
	from    netip.Prefix
	base    string
	began   time.Time

	// Of who reads.
	secret secret
	frames allowance
	pings  allowance

	outlet atomic.Pointer[outlet] // set by hello
	mu     sync.Mutex             // guards below, and that outlet is set
	gone   bool
}

// allowance is a bucket of what may come, filled by time.
type allowance struct {
	left float64
	at   int64 // Unix milliseconds
}

func (a *allowance) spend(now time.Time, burst, perSecond float64) bool {
	ms := now.UnixMilli()
	if a.at == 0 {
		a.left = burst
	} else {
		a.left = min(burst, a.left+float64(ms-a.at)*perSecond/1000)
	}
	a.at = ms
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// ServeWebSocket answers GET /push/. It returns when the connection is its own.
func (s *Service) ServeWebSocket(w http.ResponseWriter, r *http.Request) {
	from := network(s.cfg.Client(r))
	if no := s.enter(from); no != nil {
		no.write(w)
		return
	}
	x := &session{service: s, from: from, base: s.base(r), began: time.Now()}
	conn, err := s.sockets.Accept(w, r, x, subprotocol)
	if conn == nil {
		s.leave(from)
		if why, ok := errors.AsType[socket.Refusal](err); ok {
			w.Header()["Upgrade"] = []string{"websocket"}
			refuse(http.StatusUpgradeRequired, errnoMissing, "this is the WebSocket of a push service, for browsers and apps: %s", why).write(w)
		}
		return
	}
	x.conn = conn
	if !conn.Enter() {
		s.leave(from)
		sayStopping(x)
		return
	}
	conn.Begin()
}

func sayStopping(h socket.Handler) { h.(*session).close(closeStopping, "stopping") }

func (x *session) close(code socket.Code, why string) {
	x.conn.End(socket.Farewell{Code: code, Text: why, Counted: why})
}

// Limit implements socket.Handler.
func (x *session) Limit() int { return maxFrame }

// Control implements socket.Handler.
func (x *session) Control() bool { return x.allow() }

// Fail implements socket.Handler.
func (x *session) Fail(f socket.Fault) {
	switch f {
	case socket.TooLarge, socket.NotText:
		x.close(closeBad, "bad-frame")
	case socket.SlowFrame, socket.SlowReader:
		x.close(closeSlow, "slow")
	}
}

// Sweep implements socket.Handler.
func (x *session) Sweep(now time.Time) {
	if now.Sub(x.began) >= helloWithin && x.outlet.Load() == nil {
		x.close(closeSlow, "no-hello")
	}
}

// Gone implements socket.Handler.
func (x *session) Gone(why string) {
	x.mu.Lock()
	x.gone = true
	o := x.outlet.Load()
	x.mu.Unlock()
	if o != nil {
		x.service.detach(o)
		x.service.drop(o.agent)
	}
	x.service.leave(x.from)
	if x.service.cfg.Hooks.Closed != nil {
		x.service.cfg.Hooks.Closed(why)
	}
}

// allow counts a frame; too many end the connection.
func (x *session) allow() bool {
	if x.frames.spend(time.Now(), burstFrames, framesPerSecond) {
		return true
	}
	x.close(closeFlood, "flood")
	return false
}

// Hear implements socket.Handler.
func (x *session) Hear(text []byte) {
	f, err := parseFrame(text)
	if err != nil {
		x.close(closeBad, "bad-frame")
		return
	}
	if f.Type != "ack" && !x.allow() {
		return
	}
	if (f.Type == "hello") == (x.outlet.Load() != nil) { // once, and first
		x.close(closeBad, "bad-hello")
		return
	}
	switch f.Type {
	case "hello":
		x.hello(&f)
	case "register":
		x.register(&f)
	case "unregister":
		x.unregister(&f)
	case "ack":
		x.acknowledged(&f)
	case "urgency":
		x.urgency(&f)
	case "", "ping":
		x.ping()
	case "nack", "broadcast_subscribe":
		// The first follows the acknowledgment and says what became of it in a page. There are
		// no broadcasts here.
	default:
		x.close(closeBad, "bad-frame")
	}
}

func (x *session) hello(f *frame) {
	s := x.service
	var a *agent
	shown, ok := parseUAID(f.UAID)
	if ok {
		var err error
		if a, err = s.meet(shown); err != nil {
			s.note("hello", err)
			x.close(closeOurs, "failed")
			return
		}
	}
	x.secret = shown
	if a == nil { // what is not known may be anyone's idea of a secret
		x.secret = newSecret()
		a = s.newAgent(x.secret)
	}
	o := &outlet{window: window, wake: x.conn.Wake, replace: func() { x.close(closeStay, "replaced") }}
	s.attach(a, o)
	s.keep(a)
	s.release(a)
	x.conn.Say(appendHello(nil, x.secret.uaid())) // before what it receives
	x.mu.Lock()
	gone := x.gone
	if !gone {
		x.outlet.Store(o)
	}
	x.mu.Unlock()
	if gone { // before anybody knew what it had
		s.detach(o)
		s.drop(a)
		return
	}
	x.conn.Wake()
}

func (x *session) register(f *frame) {
	s := x.service
	channel, ok := parseChannel(f.Channel)
	if !ok {
		x.conn.Say(appendRefused(nil, "register", f.Channel, refuse(http.StatusBadRequest, 0, "channelID must be a UUID")))
		return
	}
	var key []byte
	if f.Key != "" {
		if key, ok = parseKey(f.Key); !ok {
			x.conn.Say(appendRefused(nil, "register", f.Channel, refuse(http.StatusBadRequest, 0, "key must be base64url of a public key of P-256")))
			return
		}
	}
	a := x.outlet.Load().agent
	a.mu.Lock()
	sub, no := s.subscribe(wish{agent: a, secret: x.secret, channel: channel, key: keyHash(key), from: x.from})
	a.mu.Unlock()
	if no != nil {
		x.conn.Say(appendRefused(nil, "register", f.Channel, no))
		return
	}
	x.conn.Say(appendRegistered(nil, f.Channel, x.base+sendPath+x.secret.derive(toSend, sub.Made).text()))
}

func (x *session) unregister(f *frame) {
	s := x.service
	channel, ok := parseChannel(f.Channel)
	if !ok {
		x.conn.Say(appendRefused(nil, "unregister", f.Channel, refuse(http.StatusBadRequest, 0, "channelID must be a UUID")))
		return
	}
	a := x.outlet.Load().agent
	a.mu.Lock()
	sub, ok, err := s.store.PushSubscription(a.number, channel)
	if err == nil && ok {
		err = s.unsubscribe(a, sub)
	}
	a.mu.Unlock()
	if err != nil {
		x.conn.Say(appendRefused(nil, "unregister", f.Channel, s.ours("unregister", err)))
		return
	}
	x.conn.Say(append(appendAnswer(nil, "unregister", f.Channel, 200), '}')) // one that was not there is not there
}

func (x *session) acknowledged(f *frame) {
	s := x.service
	a := x.outlet.Load().agent
	some := false
	for i := range f.Updates {
		u := &f.Updates[i]
		id, ok := parseMessageID(u.Version)
		if !ok {
			continue
		}
		number, sequence, whom := s.place(id)
		if number != a.number || whom != forAgent {
			continue
		}
		a.mu.Lock()
		there, err := s.acknowledge(a, sequence, u.end(), false)
		a.mu.Unlock()
		some = some || there
		s.note("acknowledge", err)
	}
	if !some { // those of what it was sent are as many as it was sent
		x.allow()
	}
}

func (x *session) urgency(f *frame) {
	level, ok := urgencyOf(strings.ToLower(f.Min))
	if !ok {
		x.conn.Say(appendRefused(nil, "urgency", "", refuse(http.StatusBadRequest, 0, "min must be one of very-low, low, normal and high")))
		return
	}
	a := x.outlet.Load().agent
	a.mu.Lock()
	err := x.service.setUrgency(a, level)
	a.mu.Unlock()
	if err != nil {
		x.conn.Say(appendRefused(nil, "urgency", "", x.service.ours("urgency", err)))
		return
	}
	x.conn.Say(append(appendAnswer(nil, "urgency", "", 200), '}'))
}

func (x *session) ping() {
	if !x.pings.spend(time.Now(), burstPings, 1/pingsEvery.Seconds()) {
		x.close(closeStay, "pings")
		return
	}
	x.conn.Say([]byte("{}"))
}

// Serve implements socket.Handler.
func (x *session) Serve() (more, ok bool) {
	o := x.outlet.Load()
	if o == nil {
		return false, true
	}
	s := x.service
	batch, err := s.take(o)
	if err != nil {
		s.note("deliver", err)
		x.close(closeOurs, "failed")
		return false, true
	}
	for _, m := range batch {
		if s.maySend(o, m) && !x.conn.Send(appendNotification(nil, m, s.messageID(m.Agent, m.Sequence, forAgent))) {
			return false, false
		}
	}
	return len(batch) > 0, true
}
