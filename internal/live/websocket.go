package live

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/harkhq/hark"
	ws "github.com/harkhq/hark/internal/socket"
)

// The WebSocket transport (RFC 6455): text frames of one JSON object each, many
// subscriptions on one connection, each with a cursor of its own; docs/websocket.md is the
// contract. Files: websocket.go (the way in), websocket_frame.go (what is said),
// websocket_conn.go (a connection), websocket_keep.go (what happens with time).
//
// How a connection is read and written while it costs no goroutine is internal/socket's. There
// is no queue of events: a subscription is a [Reader], so a slow client keeps only positions.
// Messages are not compressed, for what is said there, and because an event's frame is encoded
// once and shared by all who get it.

// subprotocol is what clients ask for.
const subprotocol = "hark.v1"

// Close codes: 4000 to 4399 mean come back, 4400 to 4499 do not.
const (
	closeStopping     = ws.CloseGoingAway
	closeExpired      = ws.Code(4001)
	closeSlow         = ws.Code(4002)
	closeOverloaded   = ws.Code(4003)
	closeBadFrame     = ws.Code(4400)
	closeUnauthorized = ws.Code(4401)
	closeForbidden    = ws.Code(4403)
	closeNoAuth       = ws.Code(4408)
	closeTooLarge     = ws.Code(4413)
	closeFlood        = ws.Code(4429)
)

// Fault is an error as a client is told it.
type Fault struct {
	Status              int // as HTTP has it
	Code, Detail, Field string
}

// Front is what the WebSocket needs of the server around it.
type Front interface {
	// CheckOrigin tells whether the web page that sent a request, if one did, may open a WebSocket.
	CheckOrigin(r *http.Request) error
	// CallerByToken says whose a key or token is.
	CallerByToken(token string) (Caller, error)
	// Explain turns an error into what a client may know of it.
	Explain(err error) Fault
}

// Entrant is a caller whose credential may come later.
type Entrant interface {
	Caller
	// Refusal is why the credential that the request showed does not count; nil if it does, or
	// there was none.
	Refusal() error
	// Stranger reports whether there was none and nothing may be done without.
	Stranger() bool
}

// Publisher appends what clients publish, by the rules of POST /v1/events.
type Publisher interface {
	// MaxFrame is how large a frame may be with which c publishes; 0 when c may not.
	MaxFrame(c Caller) int
	// Publish appends an event, given as the body of POST /v1/events, with an idempotency
	// key or "". It returns after the commit.
	Publish(ctx context.Context, c Caller, event []byte, key string) (id hark.EventID, duplicate bool, err error)
}

// websocketName is what metrics call it.
const websocketName = "websocket"

// ServeWebSocket answers GET /v1/ws. It returns when the connection is its own.
func (h *Hub) ServeWebSocket(w http.ResponseWriter, r *http.Request) error {
	c, err := h.entrant(r)
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		return cmp.Or(err, stays(c), badUpgrade("this URL speaks WebSocket: the request must ask for it with \"Connection: Upgrade\" and \"Upgrade: websocket\""))
	}
	if err != nil && r.Header.Get("Origin") == "" { // a browser shows its page no answer: that gets a frame
		return err
	}
	if err := versioned(r); err != nil {
		return err
	}
	s := newSocket(h)
	conn, acceptErr := h.sockets.Accept(w, r, s, subprotocol)
	if refusal, ok := errors.AsType[ws.Refusal](acceptErr); ok {
		return badUpgrade(string(refusal))
	}
	if conn == nil {
		return nil
	}
	s.conn = conn
	if s.caller = c; c != nil {
		s.seat = c.TenantID()
	}
	switch {
	case hark.KindOf(err) == hark.TooMany, hark.KindOf(err) == hark.Unavailable:
		e, _ := errors.AsType[*hark.Error](err)
		s.refuse(endOverloaded, closeOverloaded, max(e.RetryAfter, time.Second)+spread(time.Second))
	case err != nil:
		s.turnAway(err)
	case h.drain.begun():
		s.refuse(endStopping, closeStopping, spread(h.drain.left()))
	case !h.streams.take(s.seat, 1):
		s.refuse(endOverloaded, closeOverloaded, crowded())
	case !conn.Enter():
		h.streams.leave(s.seat, 1)
		s.refuse(endStopping, closeStopping, spread(h.drain.left()))
	default:
		h.cfg.Hooks.Opened(websocketName)
		s.say(appendHello(nil, h.cfg.PingEvery))
		s.recheck()
		conn.Begin()
	}
	return nil
}

// entrant finds out who comes; nil without error for who has yet to say so.
func (h *Hub) entrant(r *http.Request) (Caller, error) {
	if err := h.cfg.Front.CheckOrigin(r); err != nil {
		return nil, err
	}
	c := h.cfg.CallerOf(r.Context())
	if e, ok := c.(Entrant); ok && (e.Refusal() != nil || e.Stranger()) {
		return nil, e.Refusal()
	}
	return c, nil
}

// stays is the answer to who shows no credential, and cannot later.
func stays(c Caller) error {
	if c == nil {
		return noCredential()
	}
	return nil
}

func noCredential() error {
	return &hark.Error{Kind: hark.Unauthenticated, Code: "no-credential", Msg: `say who you are first: {"type":"auth","token":"…"}`}
}

// versioned refuses who offers subprotocols without ours: a browser fails when none of
// what it offered is chosen.
func versioned(r *http.Request) error {
	offered := r.Header["Sec-Websocket-Protocol"]
	for _, line := range offered {
		for p := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(p), subprotocol) {
				return nil
			}
		}
	}
	if len(offered) > 0 {
		return badUpgrade("offer the subprotocol hark.v1 among others, or none")
	}
	return nil
}

// refuse ends a connection that nothing is wrong with.
func (s *socket) refuse(why string, code ws.Code, reconnect time.Duration) {
	s.hub.cfg.Hooks.Closed(websocketName, why)
	s.bye(why, code, reconnect)
}

// turnAway ends the connection of somebody who may not have one.
func (s *socket) turnAway(err error) {
	s.hub.cfg.Hooks.Closed(websocketName, "refused")
	code := closeUnauthorized
	if hark.KindOf(err) == hark.Forbidden {
		code = closeForbidden
	}
	s.fail(code, &frame{}, err)
}

func badUpgrade(why string) error {
	return &hark.Error{Kind: hark.Invalid, Code: "bad-upgrade", Msg: why}
}
