package live_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/live"
)

// door lets WebSocket clients in: a token is "good", "dies" (until revoked), "brief" (for
// two seconds) or "narrow" (topic a alone).
type door struct {
	*world
	revoked atomic.Bool
}

// guest may read some topics.
type guest struct {
	caller
	only string
}

func (g *guest) MaySubscribe(ps []hark.Pattern) error {
	if len(ps) == 1 && string(ps[0]) == g.only {
		return nil
	}
	return &hark.Error{Kind: hark.Forbidden, Code: "topic-forbidden", Field: "topic", Msg: "no"}
}

// stranger has yet to say who it is.
type stranger struct {
	caller
	bad bool // it showed something that does not count
}

func (*stranger) Stranger() bool { return true }

func (s *stranger) Refusal() error {
	if s.bad {
		return &hark.Error{Kind: hark.Unauthenticated, Code: "unknown-key", Msg: "no"}
	}
	return nil
}

func (d *door) CheckOrigin(r *http.Request) error {
	if o := r.Header.Get("Origin"); o != "" && o != "http://"+r.Host {
		return &hark.Error{Kind: hark.Forbidden, Code: "foreign-origin", Msg: "no"}
	}
	return nil
}

func (d *door) CallerByToken(token string) (live.Caller, error) {
	switch token {
	case "good":
		return &caller{tenant: 1}, nil
	case "dies":
		return &caller{tenant: 1, revoked: &d.revoked}, nil
	case "brief":
		return &caller{tenant: 1, until: time.Now().Add(time.Second)}, nil
	case "narrow":
		return &guest{caller{tenant: 1}, "a"}, nil
	case "other":
		return &caller{tenant: 2}, nil
	}
	return nil, &hark.Error{Kind: hark.Unauthenticated, Code: "unknown-key", Msg: "no"}
}

func (d *door) Explain(err error) live.Fault {
	e, ok := errors.AsType[*hark.Error](err)
	if !ok {
		return live.Fault{Status: 500, Code: "internal"}
	}
	status := map[hark.Kind]int{hark.Invalid: 400, hark.Unauthenticated: 401, hark.Forbidden: 403, hark.NotFound: 404, hark.Timeout: 408,
		hark.Conflict: 409, hark.TooLarge: 413, hark.Mismatch: 422, hark.TooMany: 429, hark.Unavailable: 503}[e.Kind]
	return live.Fault{Status: status, Code: e.Code, Detail: e.Msg, Field: e.Field}
}

func (d *door) MaxFrame(live.Caller) int { return 1 << 20 }

func (d *door) Publish(ctx context.Context, c live.Caller, event []byte, key string) (hark.EventID, bool, error) {
	var p struct {
		Topic string
		Data  json.RawMessage
	}
	if err := json.Unmarshal(event, &p); err != nil || p.Topic == "" {
		return hark.EventID{}, false, hark.Invalidf("topic", "is required")
	}
	idem := eventlog.Idempotency{}
	if key != "" {
		idem = eventlog.Idempotency{Scope: "api", Key: key, Body: sha256.Sum256(event)}
	}
	done, err := d.log.Append(ctx, c.TenantID(), []hark.Event{{Tenant: c.TenantID(), Topic: p.Topic, ContentType: "application/json", Data: p.Data}}, idem)
	return done.First, done.Duplicate, err
}

func newSocketWorld(t testing.TB, cfg live.Config) (*world, *door) {
	d := &door{}
	cfg.Front, cfg.Publisher = d, d
	d.world = newWorld(t, cfg)
	return d.world, d
}

// answer is what the server says.
type answer struct {
	Type, Sub, Ref, Cursor, ID, Code, Field, Reason, Expires string
	Status, Version                                          int
	Ping                                                     int `json:"ping_ms"`
	Reconnect                                                int `json:"reconnect_ms"`
	Duplicate                                                bool
	Gap                                                      *struct{ From, To, Reason string }
	Events                                                   []struct {
		ID, Topic string
		Data      struct{ N int }
	}
}

// ws is a client.
type ws struct {
	*world
	*websocket.Conn
	ctx  context.Context
	next map[string]int    // number that each sub wants next
	last map[string]string // cursor of each sub
}

func (w *world) dial(opts *websocket.DialOptions) *ws {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(w.url, "http")+"/ws", opts)
	if err != nil {
		w.Fatal(err)
	}
	conn.SetReadLimit(-1)
	w.Cleanup(func() { conn.CloseNow(); cancel() })
	return &ws{w, conn, ctx, map[string]int{}, map[string]string{}}
}

// enter dials as somebody who is known.
func (w *world) enter() *ws {
	w.Helper()
	c := w.dial(nil)
	if a := c.hear(); a.Type != "hello" || a.Version != 1 || a.Ping == 0 {
		w.Fatalf("%+v", a)
	}
	return c
}

func (c *ws) say(format string, args ...any) {
	c.Helper()
	if err := c.Write(c.ctx, websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		c.Fatal(err)
	}
}

func (c *ws) hear() (a answer) {
	c.Helper()
	kind, text, err := c.Read(c.ctx)
	if err != nil {
		c.Fatal(err)
	}
	if err := json.Unmarshal(text, &a); err != nil || kind != websocket.MessageText {
		c.Fatalf("%v: %s", err, text)
	}
	if a.Cursor != "" {
		if a.Cursor < c.last[a.Sub] {
			c.Errorf("%s: the cursor goes back from %s to %s", a.Sub, c.last[a.Sub], a.Cursor)
		}
		c.last[a.Sub] = a.Cursor
	}
	return a
}

// wantType reads until something of a type comes, and checks the events before it.
func (c *ws) wantType(kind string) answer {
	c.Helper()
	for {
		a := c.hear()
		if a.Type == kind {
			return a
		}
		if a.Type != "events" {
			c.Fatalf("want %s: %+v", kind, a)
		}
		c.count(a)
	}
}

func (c *ws) count(a answer) {
	c.Helper()
	for _, e := range a.Events {
		if e.Data.N != c.next[a.Sub] {
			c.Fatalf("%s: %d comes instead of %d", a.Sub, e.Data.N, c.next[a.Sub])
		}
		c.next[a.Sub]++
		if e.ID > c.last[a.Sub] {
			c.Fatalf("%s: the cursor %s is before %s", a.Sub, c.last[a.Sub], e.ID)
		}
	}
}

// wantAll reads events until each of some subs is at its number.
func (c *ws) wantAll(until map[string]int) {
	c.Helper()
	for {
		left := false
		for sub, n := range until {
			if c.next[sub] > n {
				c.Fatalf("%s: %d is beyond %d", sub, c.next[sub], n)
			}
			left = left || c.next[sub] < n
		}
		if !left {
			return
		}
		a := c.hear()
		if a.Type != "events" || len(a.Events) == 0 {
			c.Fatalf("%+v", a)
		}
		c.count(a)
	}
}

func (c *ws) subscribe(sub, rest string) answer {
	c.Helper()
	c.say(`{"type":"subscribe","sub":"%s"%s}`, sub, rest)
	return c.wantType("subscribed")
}

// wantClose reads what is left up to the close frame.
func (c *ws) wantClose(code websocket.StatusCode) (said []answer) {
	c.Helper()
	for {
		_, text, err := c.Read(c.ctx)
		if err != nil {
			if websocket.CloseStatus(err) != code {
				c.Errorf("want close code %d: %v", code, err)
			}
			return said
		}
		var a answer
		if err := json.Unmarshal(text, &a); err != nil {
			c.Fatal(err)
		}
		said = append(said, a)
	}
}

// TestSubscriptions: each subscription has its own place; what it missed comes first, once and in order.
func TestSubscriptions(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{})
	w.publish("a.x", 0, 1500)
	c := w.enter()
	c.subscribe("all", `,"topics":["a.>"],"from":"earliest"`)
	c.next["last"] = 1490
	c.subscribe("last", `,"topics":["a.*","a.x"],"last":10`)
	c.next["now"] = 1500
	c.subscribe("now", ``)
	c.wantAll(map[string]int{"all": 1500, "last": 1500})
	w.publish("a.x", 1500, 500)
	c.wantAll(map[string]int{"all": 2000, "last": 2000, "now": 2000})

	again := w.enter()
	again.next["r"] = 2000
	w.publish("a.x", 2000, 10)
	again.subscribe("r", `,"topics":["a.>"],"after":"`+c.last["all"]+`"`)
	again.wantAll(map[string]int{"r": 2010})
	again.Close(websocket.StatusNormalClosure, "")

	// From SSE to here, with its cursor.
	sse := w.stream("topic=a.>&from=earliest")
	sse.want(0, 700)
	third := w.enter()
	third.next["s"] = 700
	third.subscribe("s", `,"topics":["a.>"],"after":"`+sse.last+`"`)
	third.wantAll(map[string]int{"s": 2010})
}

// TestUnsubscribe: after its answer nothing more comes, and the name is free.
func TestUnsubscribe(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{})
	c := w.enter()
	for round := range 20 {
		c.next["a"] = 0
		c.last = map[string]string{}
		topic := fmt.Sprintf("t%d", round)
		c.subscribe("a", `,"topics":["`+topic+`"]`)
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			w.publish(topic, 0, 3000)
		}()
		c.wantAll(map[string]int{"a": c.next["a"]})
		for c.next["a"] == 0 {
			c.count(c.hear())
		}
		c.say(`{"type":"unsubscribe","sub":"a"}`)
		c.wantType("unsubscribed")
		c.say(`{"type":"ping","ref":"x"}`)
		if a := c.hear(); a.Type != "pong" || a.Ref != "x" {
			t.Fatalf("after unsubscribed: %+v", a)
		}
		<-stop
	}
	c.say(`{"type":"unsubscribe","sub":"a"}`)
	if a := c.hear(); a.Type != "error" || a.Sub != "a" || a.Status != 404 {
		t.Errorf("%+v", a)
	}
}

// TestPublish: what is published is answered after the commit and comes back to who listens.
func TestPublish(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{})
	c := w.enter()
	c.subscribe("me", `,"topics":["p"]`)
	ids := map[string]string{}
	for i := range 200 {
		c.say(`{"type":"publish","ref":"r%d","topic":"p","data":{"n":%d}}`, i, i)
	}
	for len(ids) < 200 || c.next["me"] < 200 {
		switch a := c.hear(); a.Type {
		case "events":
			c.count(a)
		case "published":
			ids[a.Ref] = a.ID
			if a.Ref != fmt.Sprintf("r%d", len(ids)-1) {
				t.Fatalf("%+v is answer %d", a, len(ids))
			}
		default:
			t.Fatalf("%+v", a)
		}
	}
	for i := range 2 {
		c.say(`{"type":"publish","ref":"again","topic":"q","data":1,"idempotency_key":"k"}`)
		if a := c.hear(); a.Type != "published" || a.Duplicate != (i == 1) || a.ID == "" {
			t.Errorf("%+v", a)
		}
	}
	c.say(`{"type":"publish","ref":"bad","data":1}`)
	if a := c.hear(); a.Type != "error" || a.Ref != "bad" || a.Field != "topic" || a.Status != 422 {
		t.Errorf("%+v", a)
	}
}

// TestFaults: what is wrong is named, and the connection goes on.
func TestFaults(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{})
	c := w.enter()
	c.subscribe("a", `,"topics":["a"]`)
	for _, f := range []struct {
		say, field, code string
		status           int
	}{
		{`{"type":"subscribe","sub":"a"}`, "sub", "sub-taken", 409},
		{`{"type":"subscribe","sub":"b","topics":["a..b"]}`, "topics", "", 422},
		{`{"type":"subscribe","sub":"b","after":"nonsense"}`, "", "bad-id", 400},
		{`{"type":"subscribe","sub":"b","from":"yesterday"}`, "from", "invalid", 422},
		{`{"type":"subscribe","sub":"b","from":"now","last":3}`, "from", "invalid", 422},
		{`{"type":"dance"}`, "type", "invalid", 422},
		{`{"type":"auth","token":"bad"}`, "", "unknown-key", 401},
		{`{"type":"auth","token":"other"}`, "token", "tenant-forbidden", 403},
	} {
		c.say("%s", f.say)
		if a := c.hear(); a.Type != "error" || a.Status != f.status || f.code != "" && a.Code != f.code || f.field != "" && a.Field != f.field {
			t.Errorf("%s: %+v", f.say, a)
		}
	}
	c.say(`{"type":"auth","token":"narrow"}`)
	c.wantType("authenticated")
	c.say(`{"type":"subscribe","sub":"b","topics":["b"]}`)
	if a := c.hear(); a.Code != "topic-forbidden" || a.Field != "topics" || a.Sub != "b" {
		t.Errorf("%+v", a)
	}
	w.publish("a", 0, 1)
	c.wantAll(map[string]int{"a": 1})
}

// TestRenewal: subscriptions that a new token does not reach end, the others go on.
func TestRenewal(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{})
	c := w.enter()
	c.subscribe("a", `,"topics":["a"]`)
	c.subscribe("b", `,"topics":["b"]`)
	c.say(`{"type":"auth","token":"narrow"}`)
	c.wantType("authenticated")
	if a := c.hear(); a.Type != "error" || a.Sub != "b" || a.Code != "topic-forbidden" {
		t.Errorf("%+v", a)
	}
	w.publish("b", 0, 1)
	w.publish("a", 0, 1)
	c.wantAll(map[string]int{"a": 1})
}

// TestEntrances: where a token may be, and what comes of none and of a bad one.
func TestEntrances(t *testing.T) {
	w, d := newSocketWorld(t, live.Config{})
	unknown := http.Header{"Unknown": {"1"}}
	protocol := func(names ...string) *websocket.DialOptions {
		return &websocket.DialOptions{HTTPHeader: unknown, Subprotocols: names}
	}
	c := w.dial(&websocket.DialOptions{Subprotocols: []string{"other", "hark.v1"}})
	if c.Subprotocol() != "hark.v1" {
		t.Errorf("the subprotocol is %q", c.Subprotocol())
	}
	c.wantType("hello")
	c.subscribe("a", "")

	c = w.dial(protocol())
	c.wantType("hello")
	c.say(`{"type":"auth","token":"brief"}`)
	if a := c.hear(); a.Type != "authenticated" || a.Expires == "" {
		t.Errorf("%+v", a)
	}
	c.subscribe("a", "")
	began := time.Now()
	if said := c.wantClose(4001); len(said) != 1 || said[0].Reason != "expired" || said[0].Reconnect == 0 || time.Since(began) > 20*time.Second {
		t.Errorf("%+v after %v", said, time.Since(began))
	}

	c = w.dial(protocol())
	c.wantType("hello")
	c.say(`{"type":"auth","token":"brief"}`)
	c.wantType("authenticated")
	c.say(`{"type":"auth","token":"dies"}`)
	c.wantType("authenticated")
	c.subscribe("a", "")
	d.revoked.Store(true)
	w.hub.Recheck()
	if said := c.wantClose(4401); len(said) != 1 || said[0].Reason != "revoked" {
		t.Errorf("%+v", said)
	}

	for _, f := range []string{`{"type":"auth","token":"bad"}`, `{"type":"subscribe","sub":"a"}`} {
		c = w.dial(protocol())
		c.wantType("hello")
		c.say("%s", f)
		if said := c.wantClose(4401); len(said) != 1 || said[0].Status != 401 {
			t.Errorf("%s: %+v", f, said)
		}
	}
	bad := protocol()
	bad.HTTPHeader = http.Header{"Unknown": {"bad"}}
	if _, res, err := websocket.Dial(c.ctx, w.url+"/ws", bad); err == nil || res == nil || res.StatusCode != 400 {
		t.Errorf("a program with a bad token: %v", err) // 400 is this test's handler's
	}
	bad.HTTPHeader.Set("Origin", w.url)
	if said := w.dial(bad).wantClose(4401); len(said) != 1 || said[0].Code != "unknown-key" {
		t.Errorf("a page with a bad token: %+v", said)
	}
	page := &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"http://evil.example"}}}
	if said := w.dial(page).wantClose(4403); len(said) != 1 || said[0].Code != "foreign-origin" {
		t.Errorf("a foreign page: %+v", said)
	}
	if _, res, err := websocket.Dial(c.ctx, w.url+"/ws", protocol("hark.token.good")); err == nil || res == nil || res.StatusCode != 400 {
		t.Errorf("only a token: %v", err)
	}
	if res, err := http.Get(w.url + "/ws"); err != nil || res.StatusCode != 400 || res.Header.Get("Upgrade") != "websocket" {
		t.Errorf("no upgrade: %v", err)
	}
}

// TestNobodySaysWhoItIs: it is sent away after ten seconds.
func TestNobodySaysWhoItIs(t *testing.T) {
	t.Parallel()
	w, _ := newSocketWorld(t, live.Config{})
	c := w.dial(&websocket.DialOptions{HTTPHeader: http.Header{"Unknown": {"1"}}})
	c.wantType("hello")
	began := time.Now()
	if said := c.wantClose(4408); len(said) != 1 || said[0].Code != "auth-timeout" || time.Since(began) < 9*time.Second {
		t.Errorf("%+v after %v", said, time.Since(began))
	}
}

// TestSocketStops: too many are sent away, all are told of a stop, and none is left.
func TestSocketStops(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{MaxStreams: 3})
	var open []*ws
	for range 3 {
		c := w.enter()
		c.subscribe("a", "")
		open = append(open, c)
	}
	if said := w.dial(nil).wantClose(4003); len(said) != 1 || said[0].Reason != "overloaded" || said[0].Reconnect == 0 {
		t.Errorf("%+v", said)
	}
	done := make(chan struct{})
	go func() { defer close(done); w.hub.Drain(time.Minute) }()
	times := map[int]bool{}
	for _, c := range open {
		said := c.wantClose(websocket.StatusGoingAway)
		if len(said) != 1 || said[0].Reason != "stopping" {
			t.Errorf("%+v", said)
			continue
		}
		times[said[0].Reconnect] = true
	}
	if len(times) != 3 {
		t.Errorf("they come back at %v", times)
	}
	<-done
	if n := w.hub.Streams(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
	if said := w.dial(nil).wantClose(websocket.StatusGoingAway); len(said) != 1 {
		t.Errorf("%+v", said)
	}
}

// TestSocketOverTLS: where no connection sleeps.
func TestSocketOverTLS(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{PingEvery: 300 * time.Millisecond})
	transport := w.tls.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
	transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	w.url = w.tls.URL
	c := w.dial(&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	c.wantType("hello")
	c.subscribe("a", `,"topics":["a"]`)
	w.publish("b", 0, 1)
	c.wantType("cursor") // three pings later
	w.publish("a", 0, 2000)
	c.wantAll(map[string]int{"a": 2000})
	w.hub.Drain(time.Minute)
	c.wantClose(websocket.StatusGoingAway)
}

// TestPings: a client that is there stays, one that answers nothing goes.
func TestPings(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{PingEvery: 300 * time.Millisecond})
	c := w.enter()
	c.subscribe("a", `,"topics":["a"]`)
	w.publish("b", 0, 3)
	before := c.last["a"]
	if a := c.hear(); a.Type != "cursor" || a.Sub != "a" || a.Cursor <= before {
		t.Errorf("a quiet subscription is not told how far it is: %+v", a)
	}
	dead := w.enter() // does not read: no pong
	deadline := time.Now().Add(20 * time.Second)
	for w.hub.Streams() > 1 {
		if time.Now().After(deadline) {
			t.Fatal("a client that answers no ping is still there")
		}
		w.publish("a", c.next["a"], 1)
		c.wantTypeOrCursor()
	}
	dead.CloseNow()
}

// wantTypeOrCursor reads events, after cursors perhaps.
func (c *ws) wantTypeOrCursor() {
	c.Helper()
	for {
		if a := c.hear(); a.Type == "events" {
			c.count(a)
			return
		}
	}
}
