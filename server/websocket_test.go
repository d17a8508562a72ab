package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

// said is what the server says over a WebSocket.
type said struct {
	Type, Sub, Ref, ID, Code, Field, Reason, Cursor string
	Status                                          int
	Duplicate                                       bool
	Events                                          []struct {
		Topic string
		Data  json.RawMessage
	}
}

type socket struct {
	*testing.T
	*websocket.Conn
	ctx context.Context
}

func dialSocket(t *testing.T, url string, protocols []string, headers ...string) (*socket, *http.Response, error) {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Add(headers[i], headers[i+1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	conn, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: h, Subprotocols: protocols, Host: h.Get("Host")})
	if err == nil {
		t.Cleanup(func() { conn.CloseNow() })
	}
	return &socket{t, conn, ctx}, res, err
}

func (s *socket) say(frame string) {
	s.Helper()
	if err := s.Write(s.ctx, websocket.MessageText, []byte(frame)); err != nil {
		s.Fatal(err)
	}
}

func (s *socket) hear() (a said) {
	s.Helper()
	_, text, err := s.Read(s.ctx)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		s.Fatalf("%v %s", err, text)
	}
	return a
}

// want reads the next frame, which must be of a type.
func (s *socket) want(kind string) said {
	s.Helper()
	a := s.hear()
	if a.Type != kind {
		s.Fatalf("want %s: %+v", kind, a)
	}
	return a
}

// closed reads to the end and returns the last frame.
func (s *socket) closed(code websocket.StatusCode) (last said) {
	s.Helper()
	for {
		_, text, err := s.Read(s.ctx)
		if err != nil {
			if websocket.CloseStatus(err) != code {
				s.Errorf("want close code %d: %v", code, err)
			}
			return last
		}
		json.Unmarshal(text, &last)
	}
}

// TestWebSocketEntrances: a token counts wherever it may be, for what it lists; what does not
// count is told so that a page can see it.
func TestWebSocketEntrances(t *testing.T) {
	admin := adminDesk(t, server.Config{CORSOrigin: []string{"https://app.example.com"}})
	backend := admin.makeKey(`{"scopes":["manage","publish","subscribe"]}`)
	m := backend.mint(`{"user":"42","subscribe":["user.42.>"],"publish":["chat"],"ttl":"1h"}`)
	at := admin.url + "/v1/ws"
	enter := func(url string, protocols []string, headers ...string) *socket {
		t.Helper()
		s, _, err := dialSocket(t, url, protocols, headers...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	works := func(s *socket) {
		t.Helper()
		s.want("hello")
		s.say(`{"type":"subscribe","sub":"a","topics":["user.42.x"]}`)
		s.want("subscribed")
		s.say(`{"type":"subscribe","sub":"b","topics":["user.43.x"]}`)
		if a := s.want("error"); a.Status != 403 || a.Code != "topic-forbidden" || a.Sub != "b" || a.Field != "topics" {
			t.Errorf("%+v", a)
		}
		s.say(`{"type":"publish","ref":"1","topic":"user.42.x","data":1}`)
		if a := s.want("error"); a.Status != 403 || a.Ref != "1" || a.Code != "topic-forbidden" {
			t.Errorf("%+v", a)
		}
		s.say(`{"type":"publish","ref":"2","topic":"chat","data":{"a": 1}}`)
		if a := s.want("published"); a.Ref != "2" || a.ID == "" {
			t.Errorf("%+v", a)
		}
		s.Close(websocket.StatusNormalClosure, "")
	}
	works(enter(at, nil, "Authorization", "Bearer "+m.Token))
	works(enter(at, []string{"hark.v1"}, "Cookie", "hark_token="+m.Token))
	works(enter(at+"?token="+m.Token, []string{"hark.v1"}))
	works(enter(at, []string{"hark.v1", "hark.token." + m.Token}, "Cookie", "hark_token=x.y.z", "Origin", admin.url))
	works(enter(at, []string{"hark.v1", "hark.token." + m.Token}, "Origin", "https://app.example.com"))

	s := enter(at, nil, "Origin", "https://app.example.com", "Cookie", "hark_token="+m.Token)
	s.want("hello")
	s.say(`{"type":"subscribe","sub":"a","topics":["user.42.x"]}`)
	s.want("subscribed")
	s.say(`{"type":"publish","ref":"1","topic":"chat","data":1}`)
	if a := s.want("error"); a.Status != 403 || a.Ref != "1" || a.Code != "foreign-origin" {
		t.Errorf("the cookie of a named page publishes: %+v", a)
	}
	s.Close(websocket.StatusNormalClosure, "")

	s = enter(at, nil, "Origin", admin.url)
	s.want("hello")
	s.say(`{"type":"auth","token":"` + m.Token + `"}`)
	s.want("authenticated")
	s.say(`{"type":"subscribe","sub":"all"}`)
	s.want("subscribed")
	admin.call("POST", "/v1/events", `[{"topic":"user.43.a","data":1},{"topic":"user.42.a","data":2}]`)
	if a := s.want("events"); len(a.Events) != 1 || string(a.Events[0].Data) != "2" {
		t.Errorf("all that the token reaches: %+v", a)
	}
	began := time.Now()
	backend.call("POST", "/v1/tokens/revoke", `{"user":"42"}`)
	if a := s.closed(4401); a.Type != "end" || a.Reason != "revoked" || time.Since(began) > 2*time.Second {
		t.Errorf("%+v after %v", a, time.Since(began))
	}

	// What does not count: as HTTP for programs, as a frame and a close code for pages.
	for _, headers := range [][]string{{"Authorization", "Bearer " + m.Token}, {"Cookie", "hark_token=" + m.Token}} {
		if _, res, err := dialSocket(t, at, nil, headers...); err == nil || res == nil || res.StatusCode != 401 {
			t.Errorf("%v: %v", headers[0], err)
		}
		if a := enter(at, nil, append(headers, "Origin", admin.url)...).closed(4401); a.Type != "error" || a.Code != "revoked-token" {
			t.Errorf("%+v", a)
		}
	}
	if _, res, err := dialSocket(t, at, []string{"hark.v1", "hark.token." + backend.key}); err == nil || res == nil || res.StatusCode != 401 {
		t.Errorf("a key that manages as a subprotocol: %v", err)
	}
	for _, origin := range []string{"https://evil.example", "null", strings.Replace(admin.url, "http://127.0.0.1", "http://localhost", 1), admin.url + "0"} {
		if a := enter(at, nil, "Origin", origin, "Authorization", "Bearer "+backend.key).closed(4403); a.Code != "foreign-origin" {
			t.Errorf("%s: %+v", origin, a)
		}
	}
	if status, h, body := call(t, "GET", at, "", "Authorization", "Bearer "+backend.key); status != 400 || h.Get("Upgrade") != "websocket" || !strings.Contains(string(body), "bad-upgrade") {
		t.Errorf("%d %s", status, body)
	}
}

// TestWebSocketPublish: the rules of POST /v1/events, and one memory of repeats.
func TestWebSocketPublish(t *testing.T) {
	admin := adminDesk(t, server.Config{MaxEvent: 1000})
	slow := admin.makeKey(`{"scopes":["publish"],"rate_limit":0.001}`)
	s, _, err := dialSocket(t, admin.url+"/v1/ws", nil, "Authorization", "Bearer "+admin.key)
	if err != nil {
		t.Fatal(err)
	}
	s.want("hello")
	s.say(`{"type":"publish","ref":"1","idempotency_key":"k","topic":"a","data":{"n":1}}`)
	first := s.want("published")
	if status, _, body := call(t, "POST", admin.url+"/v1/events", `{"topic":"a","data":{"n":1}}`, "Authorization", "Bearer "+admin.key,
		"Content-Type", "application/json", "Idempotency-Key", "k"); status != 200 || !strings.Contains(string(body), first.ID) {
		t.Errorf("by HTTP: %d %s", status, body)
	}
	s.say(`{"type":"publish","ref":"1","idempotency_key":"k","topic":"a","data":{"n":1}}`)
	if again := s.want("published"); again.ID != first.ID || !again.Duplicate {
		t.Errorf("%+v", again)
	}
	for _, c := range []struct {
		rest, code, field string
		status            int
	}{
		{`"idempotency_key":"k","topic":"a","data":{"n":2}`, "idempotency-key-reused", "", 422},
		{`"topic":"hark.x","data":1`, "reserved-topic", "topic", 403},
		{`"topic":"a..b","data":1`, "", "topic", 422},
		{`"data":1`, "invalid", "topic", 422},
		{`"topic":"a","data":1,"data_base64":"AA=="`, "invalid", "data_base64", 422},
		{`"topic":"a","key":7`, "invalid", "key", 422},
		{`"topic":"a","attributes":{"a":1}`, "invalid", "attributes", 422},
		{`"topic":"a","time":"now"`, "invalid", "time", 422},
		{`"topic":"a","data":"` + strings.Repeat("x", 1000) + `"`, "event-too-large", "data", 413},
		{`"topic":"a","surprise":1`, "invalid", "surprise", 422},
	} {
		s.say(`{"type":"publish","ref":"r",` + c.rest + `}`)
		if a := s.want("error"); a.Status != c.status || c.code != "" && a.Code != c.code || c.field != "" && !strings.HasPrefix(a.Field, c.field) || a.Ref != "r" {
			t.Errorf("%.80s: %+v", c.rest, a)
		}
	}
	s.say(`{"type":"publish","topic":"a","data":"` + strings.Repeat("x", 70<<10) + `"}`)
	if a := s.closed(4413); a.Code != "frame-too-large" {
		t.Errorf("%+v", a)
	}

	s, _, err = dialSocket(t, admin.url+"/v1/ws", nil, "Authorization", "Bearer "+slow.key)
	if err != nil {
		t.Fatal(err)
	}
	s.want("hello")
	refused := 0
	for i := range 30 {
		s.say(fmt.Sprintf(`{"type":"publish","topic":"a","data":%d}`, i))
		if a := s.hear(); a.Type == "error" && a.Status == 429 && a.Code == "rate-limited" {
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("a key of few requests was refused %d of 30 times", refused)
	}
}

// TestWebSocketOfDev: hark dev needs no token from its own pages and from programs, and
// believes nobody else.
func TestWebSocketOfDev(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	for _, headers := range [][]string{nil, {"Origin", url}, {"Origin", url, "Sec-Fetch-Site", "same-origin"}} {
		s, _, err := dialSocket(t, url+"/v1/ws", nil, headers...)
		if err != nil {
			t.Fatal(err)
		}
		s.want("hello")
		s.say(`{"type":"publish","topic":"a","data":1}`)
		s.want("published")
	}
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"X-Forwarded-For", "203.0.113.9"}, {"Host", "evil.example"},
		{"Host", "evil.example", "Origin", "http://evil.example"}} { // the last is DNS that was bound anew
		s, _, err := dialSocket(t, url+"/v1/ws", nil, headers...)
		if err != nil {
			t.Errorf("%v: %v", headers, err)
			continue
		}
		s.want("hello")
		s.say(`{"type":"subscribe","sub":"a"}`)
		if a := s.closed(4401); a.Code != "no-credential" {
			t.Errorf("%v: %+v", headers, a)
		}
	}
	s, _, err := dialSocket(t, url+"/v1/ws", nil, "Origin", "https://evil.example")
	if err != nil {
		t.Fatal(err)
	}
	if a := s.closed(4403); a.Code != "foreign-origin" {
		t.Errorf("%+v", a)
	}
}
