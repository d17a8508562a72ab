// Package agent is a user agent of Web Push without a browser: it speaks to a push service as
// Firefox does (the WebSocket protocol of autopush), holds one subscription, decrypts what is
// pushed to it, and acknowledges what was handled.
//
// What it must not lose is in a [State]: who it is for the push service, its keys, and which
// messages it has handled, since a push service sends again what was not acknowledged. The
// caller keeps it, wherever secrets are kept, each time that [Agent.Keep] is called.
//
// Messages are handled one after the other, in the order in which they come; each is
// acknowledged when its handler has ended. A push service has only a window of messages on its
// way, so a slow handler slows down nobody else.
package agent

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark/internal/webpush"
)

// State is what an agent is between its runs. All of it is secret.
type State struct {
	// UAID is who it is for the push service; empty before the first connection.
	UAID string `json:"uaid,omitempty"`
	// Channel names its subscription, Endpoint is where that is pushed to.
	Channel  string `json:"channel,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	// Key decrypts, PublicKey is the sender's to which the subscription is bound.
	Key       string `json:"key,omitempty"`
	PublicKey string `json:"public_key,omitempty"`
	// Handled are the last messages that were handled, oldest first.
	Handled []string `json:"handled,omitempty"`
}

// maxHandled is more than a push service has on its way at once.
const maxHandled = 200

// Message is one that was pushed.
type Message struct {
	// ID is the push service's name for it: the same when it comes again.
	ID   string
	Data []byte // decrypted; empty when nothing was sent with it
}

// Agent keeps a subscription.
type Agent struct {
	// Service is the push service's WebSocket: ws:// or wss://.
	Service string
	HTTP    *http.Client
	State   *State
	// PublicKey is the key of who may send; a state with another one is subscribed anew.
	PublicKey string

	// Keep stores the state. Its error ends the agent.
	Keep func() error
	// Subscribed is called each time it is connected and has a subscription.
	Subscribed func(context.Context, webpush.Subscription) error
	// Handle handles a message; an error means that it could not be.
	Handle func(context.Context, Message) error
	// Acknowledged is called after a message was handled and that was said.
	Acknowledged func()
	// Undecrypted is told of a message that is not for its keys.
	Undecrypted func(id string, err error)
	// Lost is told why a connection ended and when the next one is tried.
	Lost func(err error, again time.Duration)
}

// ErrReplaced ends an agent whose place another one has taken.
var ErrReplaced = errors.New("another listener with the same file has taken over")

// closeStay is the close code that says: do not come back by yourself.
const closeStay = websocket.StatusCode(4774)

// Bounds of what a push service may say and how long it may take.
const (
	maxFrame = 64 << 10
	patience = 20 * time.Second
	pingsAt  = 4 * time.Minute
	longest  = time.Minute // between two tries
)

// Run keeps the agent connected until ctx ends, a handler of its caller fails for good, or
// another agent takes its place.
func (a *Agent) Run(ctx context.Context) error {
	for failures := 0; ; failures++ {
		began := time.Now()
		err := a.session(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if end, ok := errors.AsType[*fatal](err); ok {
			return end.error
		}
		if websocket.CloseStatus(err) == closeStay {
			return ErrReplaced
		}
		if time.Since(began) > longest {
			failures = 0
		}
		again := min(500*time.Millisecond<<min(failures, 10), longest)
		again = again/2 + mathrand.N(again/2)
		a.Lost(err, again)
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// fatal is an error that coming back does not help against.
type fatal struct{ error }

// frame is what a push service says, and what is said to it.
type frame struct {
	Type     string            `json:"messageType"`
	UAID     string            `json:"uaid,omitempty"`
	Web      bool              `json:"use_webpush,omitempty"`
	Channel  string            `json:"channelID,omitempty"`
	Key      string            `json:"key,omitempty"`
	Status   int               `json:"status,omitempty"`
	Endpoint string            `json:"pushEndpoint,omitempty"`
	Version  string            `json:"version,omitempty"`
	Data     string            `json:"data,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"`
	Updates  []update          `json:"updates,omitempty"`
}

type update struct {
	Channel string `json:"channelID"`
	Version string `json:"version"`
	Code    int    `json:"code"`
}

// What an acknowledgment says.
const (
	delivered   = 100
	undecrypted = 101
	unhandled   = 102
)

// session is one connection, from hello to its end.
func (a *Agent) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dial, stop := context.WithTimeout(ctx, patience)
	conn, _, err := websocket.Dial(dial, a.Service, &websocket.DialOptions{HTTPClient: a.HTTP, Subprotocols: []string{"push-notification"}})
	stop()
	if err != nil {
		return fmt.Errorf("the push service at %s: %w", a.Service, err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxFrame)
	s := &session{Agent: a, conn: conn}
	key, err := s.begin(ctx)
	if err != nil {
		return err
	}
	if err := a.Subscribed(ctx, key.Subscription(a.State.Endpoint)); err != nil {
		return &fatal{err}
	}
	// Who reads also answers pings, so a message is handled beside it.
	frames, failed := make(chan frame, 1024), make(chan error, 2)
	go func() { failed <- s.listen(ctx, frames) }()
	go func() { failed <- s.alive(ctx) }()
	for {
		select {
		case f := <-frames:
			if err := s.notified(ctx, key, &f); err != nil {
				return err
			}
		case err := <-failed:
			if ctx.Err() != nil {
				conn.Close(websocket.StatusNormalClosure, "")
			}
			return err
		}
	}
}

type session struct {
	*Agent
	conn *websocket.Conn
}

func (s *session) say(ctx context.Context, f any) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, text)
}

func (s *session) hear(ctx context.Context) (f frame, err error) {
	_, text, err := s.conn.Read(ctx)
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	return f, err
}

// begin says who it is, and subscribes if it must. Messages do not come before both.
func (s *session) begin(ctx context.Context) (*webpush.ReceiverKey, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	st := s.State
	if err := s.say(ctx, frame{Type: "hello", Web: true, UAID: st.UAID}); err != nil {
		return nil, err
	}
	hello, err := s.hear(ctx)
	if err != nil {
		return nil, err
	}
	if hello.Type != "hello" || hello.Status != 200 || hello.UAID == "" {
		return nil, fmt.Errorf("the push service answers hello with %q, status %d", hello.Type, hello.Status)
	}
	key, err := webpush.ParseReceiverKey(st.Key)
	if err == nil && hello.UAID == st.UAID && st.Endpoint != "" && st.PublicKey == s.PublicKey {
		return key, nil
	}
	key = webpush.NewReceiverKey()
	*st = State{UAID: hello.UAID, Channel: newChannel(), Key: key.Text(), PublicKey: s.PublicKey}
	if err := s.say(ctx, frame{Type: "register", Channel: st.Channel, Key: s.PublicKey}); err != nil {
		return nil, err
	}
	registered, err := s.hear(ctx)
	for err == nil && registered.Type == "notification" { // of an earlier subscription
		err = s.acknowledge(ctx, &registered, unhandled)
		if err == nil {
			registered, err = s.hear(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	if registered.Type != "register" || registered.Status != 200 || registered.Endpoint == "" {
		return nil, fmt.Errorf("the push service refuses to subscribe: status %d", registered.Status)
	}
	st.Endpoint = registered.Endpoint
	return key, s.keep()
}

func (s *session) keep() error {
	if err := s.Keep(); err != nil {
		return &fatal{err}
	}
	return nil
}

// newChannel makes a UUID of version 4.
func newChannel() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (s *session) listen(ctx context.Context, to chan<- frame) error {
	for {
		f, err := s.hear(ctx)
		if err != nil {
			return err
		}
		if f.Type != "notification" {
			continue
		}
		select {
		case to <- f:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// alive finds out when nobody is there any more.
func (s *session) alive(ctx context.Context) error {
	for {
		select {
		case <-time.After(pingsAt):
		case <-ctx.Done():
			return ctx.Err()
		}
		ping, cancel := context.WithTimeout(ctx, patience)
		err := s.conn.Ping(ping)
		cancel()
		if err != nil {
			return err
		}
	}
}

// notified handles one message and acknowledges it.
func (s *session) notified(ctx context.Context, key *webpush.ReceiverKey, f *frame) error {
	if f.Channel != s.State.Channel {
		return s.acknowledge(ctx, f, unhandled)
	}
	if slices.Contains(s.State.Handled, f.Version) {
		return s.acknowledge(ctx, f, delivered)
	}
	m, err := open(key, f)
	if err != nil {
		s.Undecrypted(f.Version, err)
		return s.acknowledge(ctx, f, undecrypted)
	}
	code := delivered
	if err = s.Handle(ctx, m); err != nil {
		if ctx.Err() != nil {
			return err // it comes again
		}
		code = unhandled
	}
	st := s.State
	st.Handled = append(st.Handled, f.Version)
	st.Handled = st.Handled[max(0, len(st.Handled)-maxHandled):]
	if err := s.keep(); err != nil {
		return err
	}
	err = s.acknowledge(ctx, f, code)
	s.Acknowledged()
	return err
}

func open(key *webpush.ReceiverKey, f *frame) (m Message, err error) {
	m.ID = f.Version
	if f.Data == "" {
		return m, nil
	}
	body, err := base64.RawURLEncoding.DecodeString(trimPadding(f.Data))
	if err != nil {
		return m, err
	}
	m.Data, err = key.Open(webpush.Encrypted{Encoding: f.Headers["encoding"], Encryption: f.Headers["encryption"], CryptoKey: f.Headers["crypto_key"], Body: body})
	return m, err
}

func trimPadding(s string) string {
	for len(s) > 0 && s[len(s)-1] == '=' {
		s = s[:len(s)-1]
	}
	return s
}

func (s *session) acknowledge(ctx context.Context, f *frame, code int) error {
	return s.say(ctx, frame{Type: "ack", Updates: []update{{f.Channel, f.Version, code}}})
}
