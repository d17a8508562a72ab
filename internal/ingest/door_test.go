package ingest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/rawhead"
	"github.com/harkhq/hark/internal/scheme"
)

// world is a door with everything around it made up.
type world struct {
	*Door
	mu       sync.Mutex
	sources  map[string]*hark.Source
	events   []hark.Event
	idem     []eventlog.Idempotency
	seen     map[string]hark.EventID
	captures []*hark.Capture
	outcomes []string
	fail     error         // of the log
	hold     chan struct{} // what appends wait for, after they have sent to entered
	entered  chan struct{}
}

func (w *world) SourceByToken(token string) *hark.Source {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sources[token]
}

func (w *world) Append(ctx context.Context, t hark.TenantID, events []hark.Event, idem eventlog.Idempotency) (eventlog.Appended, error) {
	w.mu.Lock()
	hold, fail := w.hold, w.fail
	w.mu.Unlock()
	if hold != nil {
		w.entered <- struct{}{}
		<-hold
	}
	if fail != nil {
		return eventlog.Appended{}, fail
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range events {
		if err := events[i].Check(hark.MaxEventBytes); err != nil {
			return eventlog.Appended{}, err
		}
	}
	key := idem.Scope + "\x00" + idem.Key
	if id, ok := w.seen[key]; ok && idem.Key != "" {
		return eventlog.Appended{First: id, Count: 1, Duplicate: true}, nil
	}
	w.events = append(w.events, events...)
	id := hark.EventID{Incarnation: 1, Offset: hark.Offset(len(w.events))}
	w.seen[key] = id
	w.idem = append(w.idem, idem)
	return eventlog.Appended{First: id, Count: 1}, nil
}

func (w *world) Keep(_ context.Context, _ *hark.Source, c *hark.Capture) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.captures = append(w.captures, c)
	return nil
}

func (w *world) last() *hark.Capture {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.captures[len(w.captures)-1]
}

const token = "0123456789abcdefghij"

// newWorld has one source, changed by edit, served on a loopback port.
func newWorld(t testing.TB, edit func(*hark.Source, *Config)) (w *world, addr string) {
	t.Helper()
	w = &world{sources: map[string]*hark.Source{}, seen: map[string]hark.EventID{}, entered: make(chan struct{}, 9)}
	src := &hark.Source{ID: 7, Tenant: 1, Token: token, Scheme: "none", State: hark.SourceActive, Revision: 1}
	front, _ := NewFront("", []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")})
	cfg := Config{Sources: w, Log: w, Recorder: w, Front: front, Schemes: &scheme.Env{},
		Problem: func(rw http.ResponseWriter, err error, reason scheme.Reason) {
			e, _ := errors.AsType[*hark.Error](err)
			rw.Header().Set("Content-Type", "application/problem+json")
			rw.WriteHeader(statusOf(err))
			json.NewEncoder(rw).Encode(map[string]string{"code": e.Code, "reason": string(reason), "detail": e.Msg})
		},
		Hooks: Hooks{Answered: func(_, outcome string, _ time.Duration) {
			w.mu.Lock()
			w.outcomes = append(w.outcomes, outcome)
			w.mu.Unlock()
		}}}
	if edit != nil {
		edit(src, &cfg)
	}
	w.sources[src.Token] = src
	w.Door = New(cfg)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ConnContext: rawhead.ConnContext, ConnState: rawhead.ConnState, ReadTimeout: time.Minute,
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if Is(r.RequestURI) {
				w.ServeHTTP(rw, r)
				return
			}
			w.NotFound(rw, r)
		})}
	go srv.Serve(rawhead.New(inner, rawhead.Config{Keep: Is[[]byte]}))
	t.Cleanup(func() { srv.Close() })
	return w, inner.Addr().String()
}

// say sends raw bytes and reads one answer.
func say(t testing.TB, addr, raw string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	go io.WriteString(c, raw)
	method, _, _ := strings.Cut(raw, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.80q: %v", raw, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, resp, string(body))
	return resp, string(body)
}

// checkAnswer is what holds of every answer.
func checkAnswer(t testing.TB, resp *http.Response, body string) {
	t.Helper()
	if resp.StatusCode/100 == 3 || resp.Header.Get("Location") != "" {
		t.Errorf("a redirect: %s %v", resp.Status, resp.Header)
	}
	if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("no nosniff: %s %v", resp.Status, resp.Header)
	}
	if kind := resp.Header.Get("Content-Type"); strings.Contains(kind, "html") {
		t.Errorf("%s: %s", kind, body)
	}
}

func post(path, body string, headers ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: hooks.example\r\n%sContent-Length: %d\r\n\r\n%s", path, strings.Join(append(headers, ""), "\r\n"), len(body), body)
}

func TestEvent(t *testing.T) {
	w, addr := newWorld(t, func(s *hark.Source, _ *Config) {
		s.Topic, s.Key = "in.{header.X-Kind}.{path}", "{body.id}"
		s.Attributes = map[string]string{"kind": "{header.x-kind}", "method": "own {method}", "none": "{body.none}"}
	})
	const body = "{\"id\": 42,\r\n \"x\": 1.0}"
	raw := "PUT /in/" + token + "/a//b%2F../c?x=%20y HTTP/1.1\r\nhOST: hooks.example\r\nX-Kind: push\r\nx-kind: two\r\nContent-Type: application/json; charset=utf-8\r\nUser-Agent: test/1\r\n" +
		"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	resp, answer := say(t, addr, raw)
	if resp.StatusCode != 200 || answer != "" {
		t.Fatalf("%s %s", resp.Status, answer)
	}
	e := w.events[0]
	if e.Topic != "in.push.a.b_2F.c" || e.Key != "42" || string(e.Data) != body || e.ContentType != "application/json; charset=utf-8" || e.Source != hark.SourceID(7).String() {
		t.Errorf("%+v", e)
	}
	for name, want := range map[string]string{"kind": "push", "method": "own PUT", "path": "/a//b%2F../c", "query": "x=%20y", "user-agent": "test/1", "content-encoding": "gzip"} {
		if e.Attributes[name] != want {
			t.Errorf("attribute %s = %q, want %q", name, e.Attributes[name], want)
		}
	}
	if _, ok := e.Attributes["none"]; ok {
		t.Error("an attribute without a value")
	}
	c := w.last()
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	if string(c.Head) != head+"\r\n\r\n" || c.Target != "/in/"+token+"/a//b%2F../c?x=%20y" || c.Method != "PUT" || c.Status != 200 || c.Reason != "ok" || c.Remote != "127.0.0.1" {
		t.Errorf("%+v\n%q", c, c.Head)
	}
	if c.Header[0] != (hark.HeaderField{Name: "hOST", Value: "hooks.example"}) || c.Header[1].Name != "X-Kind" || c.Header[2] != (hark.HeaderField{Name: "x-kind", Value: "two"}) {
		t.Errorf("%v", c.Header)
	}
}

func github(body, delivery, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, body)
	return post("/in/"+token, body, "X-GitHub-Event: push", "X-GitHub-Delivery: "+delivery, "X-Hub-Signature-256: sha256="+hex.EncodeToString(mac.Sum(nil)))
}

func TestVerification(t *testing.T) {
	w, addr := newWorld(t, func(s *hark.Source, _ *Config) {
		s.Scheme, s.Secrets = "github", []hark.SigningSecret{{Value: "s3cret-s3cret"}}
		s.Response = &hark.SourceResponse{Status: 202, Headers: map[string]string{"x-a": "b"}, Body: "thanks"}
	})
	for range 2 { // a repeat is answered as the first
		if resp, body := say(t, addr, github(`{"a":1}`, "d-1", "s3cret-s3cret")); resp.StatusCode != 202 || body != "thanks" || resp.Header.Get("X-A") != "b" ||
			resp.Header.Get("Content-Security-Policy") == "" {
			t.Fatalf("%s %s %v", resp.Status, body, resp.Header)
		}
	}
	say(t, addr, github(`{"a":2}`, "d-1", "s3cret-s3cret")) // another body: an event of its own
	say(t, addr, github(`{"a":1}`, "d-2", "s3cret-s3cret"))
	if len(w.events) != 3 || w.events[0].Topic != "github.push" || w.events[0].Attributes["delivery-id"] != "d-1" || w.events[0].Attributes["x-github-event"] != "push" {
		t.Fatalf("%d events: %v", len(w.events), w.events)
	}
	if w.idem[0].Scope != hark.SourceID(7).String() || w.idem[0].Window != 72*time.Hour {
		t.Errorf("%+v", w.idem[0])
	}
	if c := w.captures[1]; !c.Duplicate || c.Event != w.captures[0].Event || c.Event.IsZero() {
		t.Errorf("%+v", c)
	}
	for _, c := range []struct {
		raw    string
		status int
		reason string
	}{
		{post("/in/"+token, "{}"), 401, "header-missing"},
		{github("{}", "d-3", "other"), 401, "no-secret-matches"},
		{post("/in/"+token, "{}", "X-Hub-Signature-256: sha256=zz"), 400, "malformed"},
	} {
		resp, body := say(t, addr, c.raw)
		if resp.StatusCode != c.status || !strings.Contains(body, `"reason":"`+c.reason+`"`) || !strings.Contains(body, "not-verified") {
			t.Errorf("%s %s, want %d %s", resp.Status, body, c.status, c.reason)
		}
		if got := w.last(); got.Reason != c.reason || got.Detail == "" || got.Status != c.status || strings.Contains(body, got.Detail) {
			t.Errorf("%+v", got)
		}
	}
	if len(w.events) != 3 {
		t.Errorf("%d events", len(w.events))
	}
	want := []string{"ok", "duplicate", "ok", "ok", "header-missing", "no-secret-matches", "malformed"}
	if !slices.Equal(w.outcomes, want) {
		t.Errorf("outcomes %v", w.outcomes)
	}
}

// TestAnswersAfterTheLog: nothing is answered while the log has not.
// TestRepeatAfterRotation: a delivery that is sent again with the new secret is the one that came
// with the old, and the same id with another body is an event of its own.
func TestRepeatAfterRotation(t *testing.T) {
	w, addr := newWorld(t, func(s *hark.Source, _ *Config) {
		s.Scheme, s.Secrets = "github", []hark.SigningSecret{{Value: "first-secret"}}
	})
	say(t, addr, github("{}", "d-1", "first-secret"))
	w.mu.Lock()
	now := *w.sources[token]
	now.Revision, now.Secrets = 2, []hark.SigningSecret{{Value: "second-secret"}, {Value: "first-secret", Expires: time.Now().Add(time.Hour)}}
	w.sources[token] = &now
	w.mu.Unlock()
	for _, raw := range []string{github("{}", "d-1", "second-secret"), github("{}", "d-1", "first-secret"), github("[]", "d-1", "second-secret"), github("[]", "d-1", "first-secret")} {
		if resp, body := say(t, addr, raw); resp.StatusCode != 200 {
			t.Fatal(resp.Status, body)
		}
	}
	if want := []string{"ok", "duplicate", "duplicate", "ok", "duplicate"}; !slices.Equal(w.outcomes, want) {
		t.Errorf("%v, want %v", w.outcomes, want)
	}
}

func TestAnswersAfterTheLog(t *testing.T) {
	w, addr := newWorld(t, nil)
	w.hold = make(chan struct{})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, post("/in/"+token, "x"))
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
		t.Fatalf("answered %d bytes before the sync: %v", n, err)
	}
	close(w.hold)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	w.mu.Lock()
	w.hold, w.fail = nil, &hark.Error{Kind: hark.Unavailable, Code: "disk-floor", Msg: "full"}
	w.mu.Unlock()
	if resp, body := say(t, addr, post("/in/"+token, "x")); resp.StatusCode != 503 || !strings.Contains(body, "disk-floor") {
		t.Errorf("%s %s", resp.Status, body)
	}
	if c := w.last(); c.Status != 503 || !c.Event.IsZero() {
		t.Errorf("%+v", c)
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func TestPaths(t *testing.T) {
	w, addr := newWorld(t, func(s *hark.Source, _ *Config) { s.Topic = "t" })
	for target, want := range map[string]struct {
		status int
		path   string
	}{
		"/in/" + token:                             {200, ""},
		"/in/" + token + "/":                       {200, ""},
		"/in/" + token + "//":                      {200, "//"},
		"/in/" + token + "/../../v1/keys":          {200, "/../../v1/keys"},
		"/in/" + token + "/%2e%2e/%00":             {200, "/%2e%2e/%00"},
		"/in/" + token + "/./a/":                   {200, "/./a/"},
		"http://evil.example/in/" + token + "/abs": {200, "/abs"},
		"/in/" + token + "?/in/x":                  {200, ""},
		"/in/":                                     {404, ""},
		"/in//" + token:                            {404, ""},
		"/in/" + token + "x":                       {404, ""},
		"/in/" + strings.ToUpper(token):            {404, ""},
		"/in/" + token + "%2Fx":                    {404, ""},
		"/in/%30" + token[1:]:                      {404, ""},
		"//in/" + token:                            {404, ""},
		"/in/../in/" + token:                       {404, ""},
		"/in%2F" + token:                           {404, ""},
		"/x/../in/" + token:                        {404, ""},
	} {
		w.events = nil
		resp, body := say(t, addr, post(target, "x"))
		if resp.StatusCode != want.status || want.status == 404 && !strings.Contains(body, "no-such-source") {
			t.Errorf("%s: %s %s, want %d", target, resp.Status, body, want.status)
		}
		if want.status == 200 && (len(w.events) != 1 || w.events[0].Attributes["path"] != want.path) {
			t.Errorf("%s: %v", target, w.events)
		}
	}
}

func TestMethods(t *testing.T) {
	w, addr := newWorld(t, nil)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "<b>"} {
		raw := fmt.Sprintf("%s /in/%s HTTP/1.1\r\nHost: x\r\n\r\n", method, token)
		if method == "<b>" {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, raw)
			answer, _ := io.ReadAll(c)
			c.Close()
			if !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) || bytes.Contains(answer, []byte("<b>")) {
				t.Errorf("%s", answer)
			}
			continue
		}
		if resp, body := say(t, addr, raw); resp.StatusCode != 200 {
			t.Errorf("%s: %s %s", method, resp.Status, body)
		}
	}
	if len(w.events) != 10 {
		t.Errorf("%d events", len(w.events))
	}
	if resp, _ := say(t, addr, "POST /in/"+token+" HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"); resp.StatusCode != 200 || string(w.events[10].Data) != "hi" {
		t.Errorf("HTTP/1.0: %s", resp.Status)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		edit    func(*hark.Source, *Config)
		raw     string
		status  int
		code    string
		records bool
	}{
		"paused":         {func(s *hark.Source, _ *Config) { s.State = hark.SourcePaused }, post("/in/"+token, "x"), 503, "source-paused", false},
		"ip":             {func(s *hark.Source, _ *Config) { s.AllowIPs = []string{"192.0.2.0/24", "2001:db8::/32"} }, post("/in/"+token, "x"), 403, "sender-not-allowed", true},
		"forged ip":      {func(s *hark.Source, _ *Config) { s.AllowIPs = []string{"192.0.2.0/24"} }, post("/in/"+token, "x", "X-Forwarded-For: 192.0.2.1"), 403, "sender-not-allowed", true},
		"declared large": {func(s *hark.Source, _ *Config) { s.MaxBody = 10 }, post("/in/"+token, "12345678901"), 413, "body-too-large", true},
		"10 GB":          {nil, "POST /in/" + token + " HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\nxxx", 413, "body-too-large", true},
		"chunked large":  {func(s *hark.Source, _ *Config) { s.MaxBody = 10 }, "POST /in/" + token + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n", 413, "body-too-large", true},
		"bad chunk":      {nil, "POST /in/" + token + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "body-cut", true},
		"expired bin":    {func(s *hark.Source, _ *Config) { s.Bin = &hark.Bin{Expires: time.Now().Add(-time.Second)} }, post("/in/"+token, "x"), 404, "no-such-source", false},
		"admission": {func(_ *hark.Source, c *Config) {
			c.Admit = func(hark.TenantID, int) error {
				return &hark.Error{Kind: hark.TooMany, Code: "publish-rate", Msg: "slow"}
			}
		}, post("/in/"+token, "x"), 429, "publish-rate", true},
		"budget": {func(_ *hark.Source, c *Config) { c.Budget = 400 }, post("/in/"+token, strings.Repeat("x", 101)), 503, "too-busy", true},
	} {
		t.Run(name, func(t *testing.T) {
			w, addr := newWorld(t, c.edit)
			resp, body := say(t, addr, c.raw)
			if resp.StatusCode != c.status || !strings.Contains(body, c.code) {
				t.Errorf("%s %s, want %d %s", resp.Status, body, c.status, c.code)
			}
			if len(w.events) > 0 || (len(w.captures) > 0) != c.records {
				t.Errorf("%d events, %d captures", len(w.events), len(w.captures))
			}
			if c.records && (w.last().Status != c.status || w.last().Reason == "ok" || w.last().Reason == "") {
				t.Errorf("%+v", w.last())
			}
			if n := w.budget.used.Load(); n != 0 {
				t.Errorf("%d bytes of the budget are still taken", n)
			}
		})
	}
}

func TestRateAndConcurrency(t *testing.T) {
	w, addr := newWorld(t, func(s *hark.Source, _ *Config) { s.RateLimit = 0.001 })
	for range 10 { // the burst
		if resp, _ := say(t, addr, post("/in/"+token, "x")); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	if resp, body := say(t, addr, post("/in/"+token, "x")); resp.StatusCode != 429 || !strings.Contains(body, "rate-limited") {
		t.Errorf("%s %s", resp.Status, body)
	}
	// A new revision lets more in at once, but does not forget who is under way.
	w.mu.Lock()
	next := *w.sources[token]
	next.RateLimit, next.Concurrency, next.Revision = 1000, 1, 2
	w.sources[token], w.hold = &next, make(chan struct{})
	w.mu.Unlock()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, post("/in/"+token, "x"))
	<-w.entered
	if resp, body := say(t, addr, post("/in/"+token, "x")); resp.StatusCode != 503 || !strings.Contains(body, "too-busy") {
		t.Errorf("%s %s", resp.Status, body)
	}
	close(w.hold)
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("%v %v", resp, err)
	}
}

func TestCORS(t *testing.T) {
	for _, c := range []struct {
		name    string
		origins []string
		bin     bool
		method  string
		headers []string
		status  int
		allow   string
	}{
		{"no browser", nil, false, "POST", nil, 200, ""},
		{"hostile page", nil, false, "POST", []string{"Origin: https://evil.example"}, 403, ""},
		{"hostile image", nil, false, "GET", []string{"Sec-Fetch-Site: cross-site"}, 403, ""},
		{"own page", nil, false, "POST", []string{"Origin: http://hooks.example", "Sec-Fetch-Site: same-origin"}, 200, ""},
		{"own page, old browser", nil, false, "POST", []string{"Origin: http://hooks.example"}, 200, ""},
		{"typed", nil, false, "GET", []string{"Sec-Fetch-Site: none"}, 200, ""},
		{"listed", []string{"https://app.example"}, false, "POST", []string{"Origin: https://app.example"}, 200, "https://app.example"},
		{"not listed", []string{"https://app.example"}, false, "POST", []string{"Origin: https://app.example.evil.example"}, 403, ""},
		{"null", []string{"https://app.example"}, false, "POST", []string{"Origin: null"}, 403, ""},
		{"all", []string{"*"}, false, "POST", []string{"Origin: https://any.example"}, 200, "*"},
		{"bin takes it", nil, true, "POST", []string{"Origin: https://any.example"}, 200, ""},
		{"preflight", []string{"https://app.example"}, false, "OPTIONS", []string{"Origin: https://app.example", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-a,content-type", "Access-Control-Request-Private-Network: true"}, 204, "https://app.example"},
		{"hostile preflight", nil, false, "OPTIONS", []string{"Origin: https://evil.example", "Access-Control-Request-Method: PUT"}, 403, ""},
		{"broken preflight", []string{"*"}, false, "OPTIONS", []string{"Origin: https://a.example", "Access-Control-Request-Method: P<", "Access-Control-Request-Headers: a b"}, 204, "*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, addr := newWorld(t, func(s *hark.Source, _ *Config) {
				s.CORSOrigins = c.origins
				if c.bin {
					s.Bin = &hark.Bin{Expires: time.Now().Add(time.Hour)}
				}
			})
			resp, body := say(t, addr, fmt.Sprintf("%s /in/%s HTTP/1.1\r\nHost: hooks.example\r\n%s\r\n", c.method, token, strings.Join(append(c.headers, ""), "\r\n")))
			if resp.StatusCode != c.status || resp.Header.Get("Access-Control-Allow-Origin") != c.allow {
				t.Errorf("%s %s %v", resp.Status, body, resp.Header)
			}
			if c.name == "preflight" && (resp.Header.Get("Access-Control-Allow-Methods") != "PUT" || resp.Header.Get("Access-Control-Allow-Headers") != "x-a,content-type" ||
				resp.Header.Get("Access-Control-Allow-Private-Network") != "true" || resp.Header.Get("Vary") != "Origin" || len(w.events) > 0) {
				t.Errorf("%v", resp.Header)
			}
			if c.name == "broken preflight" && (resp.Header.Get("Access-Control-Allow-Methods") != "" || resp.Header.Get("Access-Control-Allow-Headers") != "") {
				t.Errorf("%v", resp.Header)
			}
		})
	}
}

func TestBin(t *testing.T) {
	w, addr := newWorld(t, func(s *hark.Source, _ *Config) {
		s.Scheme, s.Secrets = "github", []hark.SigningSecret{{Value: "s3cret-s3cret"}}
		s.Bin, s.MaxBody = &hark.Bin{Expires: time.Now().Add(time.Hour)}, 100
		s.Response = &hark.SourceResponse{Status: 418, Headers: map[string]string{"Content-Type": "text/html"}, Body: "<script>", Delay: hark.Duration(time.Millisecond)}
	})
	for _, c := range []struct{ raw, reason string }{{post("/in/"+token, "{}"), "header-missing"}, {github("{}", "1", "s3cret-s3cret"), "ok"}} {
		resp, body := say(t, addr, c.raw)
		if resp.StatusCode != 418 || body != "<script>" || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s %s %v", resp.Status, body, resp.Header)
		}
		if got := w.last(); got.Reason != c.reason || got.Status != 418 || string(got.Body) != "{}" {
			t.Errorf("%+v", got)
		}
	}
	resp, _ := say(t, addr, "POST /in/"+token+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n"+strings.Repeat("x", 255)+"\r\n0\r\n\r\n")
	if got := w.last(); resp.StatusCode != 413 || !got.Truncated || len(got.Body) != 100 {
		t.Errorf("%s %+v", resp.Status, got)
	}
	if len(w.events) > 0 {
		t.Error("a bin made an event")
	}
}

// TestRecorderIsSpared: of a flood, the recorder sees a bounded part.
func TestRecorderIsSpared(t *testing.T) {
	skipped := 0
	w, addr := newWorld(t, func(_ *hark.Source, c *Config) { c.Hooks.Skipped = func() { skipped++ } })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go io.WriteString(c, strings.Repeat(post("/in/"+token, "x"), 2000))
	r := bufio.NewReader(c)
	for range 2000 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if len(w.events) != 2000 || len(w.captures) < recordBurst || len(w.captures)+skipped != 2000 || skipped < 1000 {
		t.Errorf("%d events, %d kept, %d skipped", len(w.events), len(w.captures), skipped)
	}
}

// TestQuerySecret: a secret in the query is verified with, and gets into no event.
func TestQuerySecret(t *testing.T) {
	w, addr := newWorld(t, func(s *hark.Source, _ *Config) { s.Secrets = []hark.SigningSecret{{Value: "a b/c"}} })
	say(t, addr, post("/in/"+token+"?token=a%20b%2Fc&x=1", "x"))
	say(t, addr, post("/in/"+token+"?x=1", "x"))
	if w.events[0].Attributes["query"] != "" || w.events[1].Attributes["query"] != "x=1" {
		t.Errorf("%v", w.events)
	}
}

// TestEventsKeepNoHead: an event that stays in memory does not hold the head of its request there.
func TestEventsKeepNoHead(t *testing.T) {
	w, addr := newWorld(t, func(s *hark.Source, c *Config) {
		s.Scheme, s.Secrets, s.Key = "github", []hark.SigningSecret{{Value: "s3cret"}}, "{header.X-GitHub-Event}"
		c.Recorder = nil
	})
	const n, size = 500, 40 << 10
	before := liveHeap()
	for i := range n {
		say(t, addr, strings.Replace(github("x", fmt.Sprint("d-", i), "s3cret"), "X-GitHub-Event", "X-Long: "+strings.Repeat("x", size)+"\r\nX-GitHub-Event", 1))
	}
	if len(w.events) != n || w.events[7].Key != "push" || w.events[7].Attributes["delivery-id"] != "d-7" {
		t.Fatalf("%d events, %+v", len(w.events), w.events[7])
	}
	if grown := liveHeap() - before; grown > n*size/2 {
		t.Errorf("%d events of a byte hold %d bytes", n, grown)
	}
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what pools held, too
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBodies: one body is known by one sum, and no other has it; nor has it at another source.
func TestBodies(t *testing.T) {
	mine, err := newBodies("token")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := newBodies("token")
	other, _ := newBodies("another")
	seen := map[[32]byte]string{}
	for _, body := range []string{"", "\x00", "\x00\x00", "a", "b", strings.Repeat("a", 15), strings.Repeat("a", 16), strings.Repeat("a", 17),
		strings.Repeat("a", 8192), strings.Repeat("a", 8191) + "b", "b" + strings.Repeat("a", 8191)} {
		sum := mine.of([]byte(body))
		if was, ok := seen[sum]; ok {
			t.Errorf("%.20q and %.20q are one", was, body)
		}
		seen[sum] = body
		if again.of([]byte(body)) != sum {
			t.Errorf("%.20q is another after a restart", body)
		}
		if other.of([]byte(body)) == sum {
			t.Errorf("%.20q is the same at another source", body)
		}
	}
}
