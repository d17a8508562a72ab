package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark/internal/webpush"
)

// service is a push service whose part the test plays, a connection after the other.
type service struct {
	t     *testing.T
	url   string
	conns chan *websocket.Conn
	conn  *websocket.Conn
}

func startService(t *testing.T) *service {
	s := &service{t: t, conns: make(chan *websocket.Conn)}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"push-notification"}})
		if err == nil && c.Subprotocol() == "push-notification" {
			s.conns <- c
			<-r.Context().Done()
		}
	}))
	t.Cleanup(h.Close)
	s.url = "ws" + strings.TrimPrefix(h.URL, "http")
	return s
}

// accept waits for the next connection, and for its hello, which is answered with a uaid.
func (s *service) accept(uaid string) (hello frame) {
	s.t.Helper()
	select {
	case s.conn = <-s.conns:
	case <-time.After(time.Minute):
		s.t.Fatal("nobody connects")
	}
	hello = s.hear()
	if hello.Type != "hello" || !hello.Web {
		s.t.Fatalf("it begins with %+v", hello)
	}
	s.say(`{"messageType":"hello","uaid":"` + uaid + `","status":200,"use_webpush":true}`)
	return hello
}

func (s *service) hear() (f frame) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	_, text, err := s.conn.Read(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (s *service) say(text string) {
	s.t.Helper()
	if err := s.conn.Write(s.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// subscribe takes a register and grants it.
func (s *service) subscribe(endpoint string) (channel string) {
	s.t.Helper()
	f := s.hear()
	if f.Type != "register" || len(f.Channel) != 36 || f.Key != "the key" {
		s.t.Fatalf("it registers with %+v", f)
	}
	s.say(`{"messageType":"register","channelID":"` + f.Channel + `","status":200,"pushEndpoint":"` + endpoint + `"}`)
	return f.Channel
}

// notify sends a message, and returns what is said of it.
func (s *service) notify(channel, version string, sealed []byte) (code int) {
	s.t.Helper()
	text, _ := json.Marshal(map[string]any{"messageType": "notification", "channelID": channel, "version": version,
		"data": base64.RawURLEncoding.EncodeToString(sealed), "headers": map[string]string{"encoding": "aes128gcm"}})
	s.say(string(text))
	f := s.hear()
	if f.Type != "ack" || len(f.Updates) != 1 || f.Updates[0].Version != version || f.Updates[0].Channel != channel {
		s.t.Fatalf("of %s it says %+v", version, f)
	}
	return f.Updates[0].Code
}

// listener is an agent that runs, and what it told.
type listener struct {
	*Agent
	kept   []State
	given  chan webpush.Subscription
	heard  []string // written before the acknowledgment
	closed []string
	err    chan error
}

func listen(t *testing.T, s *service, st *State) *listener {
	l := &listener{given: make(chan webpush.Subscription, 10), err: make(chan error, 1)}
	l.Agent = &Agent{Service: s.url, State: st, PublicKey: "the key",
		Keep:         func() error { l.kept = append(l.kept, *st); return nil },
		Subscribed:   func(_ context.Context, sub webpush.Subscription) error { l.given <- sub; return nil },
		Acknowledged: func() {},
		Handle: func(_ context.Context, m Message) error {
			l.heard = append(l.heard, m.ID+" "+string(m.Data))
			if strings.HasPrefix(string(m.Data), "bad") {
				return errors.New("the command failed")
			}
			return nil
		},
		Undecrypted: func(id string, _ error) { l.closed = append(l.closed, id) },
		Lost:        func(error, time.Duration) {},
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { l.err <- l.Run(ctx) }()
	t.Cleanup(cancel)
	return l
}

func (l *listener) subscription(t *testing.T) webpush.Subscription {
	t.Helper()
	select {
	case s := <-l.given:
		return s
	case <-time.After(time.Minute):
		t.Fatal("it has no subscription")
		panic("unreachable")
	}
}

func seal(t *testing.T, to webpush.Subscription, text string) []byte {
	t.Helper()
	sealed, err := webpush.NewSealer(0).Seal(nil, &to, []byte(text), 0)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// TestAgent: it subscribes, decrypts, acknowledges by what became of each message, handles none
// twice, and comes back as the same.
func TestAgent(t *testing.T) {
	s := startService(t)
	st := new(State)
	l := listen(t, s, st)
	if hello := s.accept("agent-1"); hello.UAID != "" {
		t.Errorf("a new one says it is %q", hello.UAID)
	}
	channel := s.subscribe("https://push.example/1")
	sub := l.subscription(t)
	if sub.Endpoint != "https://push.example/1" {
		t.Errorf("subscribed at %q", sub.Endpoint)
	}
	stranger := webpush.NewReceiverKey().Subscription("https://push.example/2")
	for _, m := range []struct {
		version string
		sealed  []byte
		want    int
	}{
		{"v1", seal(t, sub, "hello"), delivered},
		{"v2", seal(t, sub, "bad news"), unhandled},
		{"v3", seal(t, stranger, "for another"), undecrypted},
		{"v4", []byte("no message"), undecrypted},
		{"v5", nil, delivered},
		{"v1", seal(t, sub, "hello"), delivered}, // again
		{"v2", seal(t, sub, "bad news"), delivered},
	} {
		if got := s.notify(channel, m.version, m.sealed); got != m.want {
			t.Errorf("%s: %d, not %d", m.version, got, m.want)
		}
	}
	if got := s.notify("00000000-0000-4000-8000-000000000000", "v6", nil); got != unhandled {
		t.Errorf("of another subscription: %d", got)
	}
	if want := []string{"v1 hello", "v2 bad news", "v5 "}; !slices.Equal(l.heard, want) {
		t.Errorf("handled %q, not %q", l.heard, want)
	}
	if want := []string{"v3", "v4"}; !slices.Equal(l.closed, want) {
		t.Errorf("not decrypted: %q", l.closed)
	}

	s.conn.Close(websocket.StatusGoingAway, "")
	if hello := s.accept("agent-1"); hello.UAID != "agent-1" {
		t.Errorf("it comes back as %q", hello.UAID)
	}
	if again := l.subscription(t); again != sub {
		t.Errorf("it came back with another subscription")
	}
	if got := s.notify(channel, "v1", seal(t, sub, "hello")); got != delivered || len(l.heard) != 3 {
		t.Errorf("again after all: %d, %q", got, l.heard)
	}
}

// TestAgentForgotten: a push service that does not know it any more gives it another name; what it
// had is over, and it subscribes anew, with another key.
func TestAgentForgotten(t *testing.T) {
	s := startService(t)
	st := &State{UAID: "agent-1", Channel: "c", Endpoint: "https://push.example/old", Key: webpush.NewReceiverKey().Text(), PublicKey: "the key"}
	old := *st
	l := listen(t, s, st)
	s.accept("agent-2")
	s.subscribe("https://push.example/new")
	if sub := l.subscription(t); sub.Endpoint != "https://push.example/new" {
		t.Errorf("subscribed at %q", sub.Endpoint)
	}
	if st.UAID != "agent-2" || st.Key == old.Key || st.Channel == old.Channel || len(l.kept) == 0 {
		t.Error("it kept what was over")
	}
}

// TestAgentOtherKey: a sender with another key needs another subscription.
func TestAgentOtherKey(t *testing.T) {
	s := startService(t)
	st := &State{UAID: "agent-1", Channel: "c", Endpoint: "https://push.example/old", Key: webpush.NewReceiverKey().Text(), PublicKey: "another key"}
	l := listen(t, s, st)
	s.accept("agent-1")
	s.subscribe("https://push.example/new")
	l.subscription(t)
	if st.PublicKey != "the key" {
		t.Errorf("bound to %q", st.PublicKey)
	}
}

// TestAgentEnds: when another one takes its place, and when what it must keep cannot be kept.
func TestAgentEnds(t *testing.T) {
	s := startService(t)
	l := listen(t, s, new(State))
	s.accept("agent-1")
	s.subscribe("https://push.example/1")
	l.subscription(t)
	s.conn.Close(closeStay, "replaced")
	if err := <-l.err; !errors.Is(err, ErrReplaced) {
		t.Errorf("replaced: %v", err)
	}

	full := errors.New("no space left on device")
	l = listen(t, s, new(State))
	l.Agent.Keep = func() error { return full }
	s.accept("agent-1")
	s.subscribe("https://push.example/1")
	if err := <-l.err; !errors.Is(err, full) {
		t.Errorf("nothing kept: %v", err)
	}
}

// TestAgentNonsense: whatever a push service says, it comes back later, and says why.
func TestAgentNonsense(t *testing.T) {
	s := startService(t)
	lost := make(chan error, 10)
	l := &Agent{Service: s.url, State: new(State), PublicKey: "the key", Keep: func() error { return nil }, Lost: func(err error, again time.Duration) {
		if again < 100*time.Millisecond {
			t.Errorf("again after %s", again)
		}
		lost <- err
	}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go l.Run(ctx)
	for _, nonsense := range []string{"no JSON", "[]", `{"messageType":"hello","status":500}`, `{"messageType":"hello","status":200}`} {
		s.conn = <-s.conns
		s.hear()
		s.say(nonsense)
		if err := <-lost; err == nil {
			t.Errorf("%s is taken", nonsense)
		}
	}
}
