package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

type mintedToken struct {
	ID, Token string
	Expires   time.Time
}

func (d desk) mint(body string) mintedToken {
	d.t.Helper()
	status, h, text := d.call("POST", "/v1/tokens", body)
	var m mintedToken
	if err := json.Unmarshal(text, &m); err != nil || status != 201 || m.Token == "" || m.ID == "" || h.Get("Cache-Control") != "no-store" {
		d.t.Fatalf("%d %v %s", status, h, text)
	}
	return m
}

// TestTokens: a minted token reads and publishes what it lists and nothing else, wherever
// it may be shown, until it is revoked.
func TestTokens(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	backend := admin.makeKey(`{"scopes":["manage","publish","subscribe"]}`)
	m := backend.mint(`{"user":"42","subscribe":["user.42.>","news"],"publish":["chat"],"ttl":"1h"}`)
	if left := time.Until(m.Expires); left < 59*time.Minute || left > time.Hour {
		t.Error(left)
	}
	user := desk{t, admin.url, m.Token}
	for topic, want := range map[string]int{"chat": 201, "news": 403, "user.42.a": 403} {
		if status, _, body := user.call("POST", "/v1/events", `{"topic":"`+topic+`","data":1}`); status != want {
			t.Errorf("%s: %d %s", topic, status, body)
		}
	}
	for query, want := range map[string]int{"topic=news": 200, "topic=user.42.x": 200, "topic=user.43.x": 403, "topic=chat": 403, "topic=%3E": 403, "": 200} {
		if status, _, body := user.call("GET", "/v1/events?"+query, ""); status != want {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	for _, route := range [][2]string{{"GET", "/v1/destinations"}, {"POST", "/v1/tokens"}, {"GET", "/v1/keys"}, {"POST", "/v1/tokens/revoke"}, {"GET", "/metrics"}} {
		if status, _, body := user.call(route[0], route[1], `{"user":"1","subscribe":["a"]}`); status != 403 {
			t.Errorf("%v: %d %s", route, status, body)
		}
	}

	events := admin.url + "/v1/events?topic=news"
	show := map[string][]string{events + "&token=" + url.QueryEscape(m.Token): nil, events: {"Cookie", "a=b; hark_token=" + m.Token}}
	for at, headers := range show {
		if status, h, body := call(t, "GET", at, "", headers...); status != 200 || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%v: %d %v %s", headers, status, h, body)
		}
	}
	// Elsewhere, neither counts.
	for _, path := range []string{"/v1/events/evt_00000d6b1t0g00000000001c", "/v1/destinations", "/v1/batches"} {
		if status, _, body := call(t, "GET", admin.url+path+"?token="+m.Token, "", "Cookie", "hark_token="+m.Token); status != 401 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	// The header goes before the cookie, and that before the query.
	if status, _, _ := call(t, "GET", events+"&token="+m.Token, "", "Cookie", "hark_token=x.y.z"); status != 401 {
		t.Error("the query before the cookie", status)
	}
	if status, _, _ := call(t, "GET", events, "", "Cookie", "hark_token="+m.Token, "Authorization", "Bearer x.y.z"); status != 401 {
		t.Error("the cookie before the header", status)
	}
	if status, _, body := call(t, "GET", events+"&token="+backend.key, ""); status != 401 || strings.Contains(string(body), backend.key) {
		t.Errorf("a key that manages in a URL: %d %s", status, body)
	}

	if status, _, body := backend.call("POST", "/v1/tokens/revoke", `{"id":"`+m.ID+`"}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	user.refused(401, "revoked-token", "GET", "/v1/events?topic=news", "")
	other := desk{t, admin.url, backend.mint(`{"user":"42","subscribe":["news"]}`).Token}
	if status, _, body := other.call("GET", "/v1/events?topic=news", ""); status != 200 {
		t.Errorf("another token of the user: %d %s", status, body)
	}
	if status, _, body := backend.call("POST", "/v1/tokens/revoke", `{"user":"42"}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	other.refused(401, "revoked-token", "GET", "/v1/events?topic=news", "")
	_, _, list := backend.call("GET", "/v1/tokens/revoked", "")
	if n := strings.Count(string(list), `"rev_`); n != 2 {
		t.Errorf("%s", list)
	}
}

// TestTokensReachNoFurther than the key that mints them, and end with it.
func TestTokensReachNoFurther(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	narrow := admin.makeKey(`{"scopes":["manage","publish","subscribe"],"publish":["ci.>"],"subscribe":["ci.>"]}`)
	for _, body := range []string{`{"user":"1","subscribe":[">"]}`, `{"user":"1","subscribe":["ci.a","pay"]}`, `{"user":"1","publish":["*"]}`, `{"user":"1","subscribe":["hark.>"]}`} {
		narrow.refused(403, "topic-forbidden", "POST", "/v1/tokens", body)
	}
	admin.makeKey(`{"scopes":["publish","subscribe"]}`).refused(403, "missing-scope", "POST", "/v1/tokens", `{"user":"1","subscribe":["a"]}`)
	for _, body := range []string{`{}`, `{"user":"1"}`, `{"user":"","subscribe":["a"]}`, `{"user":"1","subscribe":["a."]}`, `{"user":"1","subscribe":["ci.a"],"ttl":"25h"}`,
		`{"user":"1","subscribe":["ci.a"],"ttl":"1ms"}`, `{"user":"1","subscribe":["ci.a"],"role":"x"}`} {
		narrow.refused(422, "invalid", "POST", "/v1/tokens", body)
	}
	m := desk{t, admin.url, narrow.mint(`{"user":"1","subscribe":["ci.a"]}`).Token}
	if status, _, body := m.call("GET", "/v1/events?topic=ci.a", ""); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	_, _, text := admin.call("GET", "/v1/keys", "")
	var keys struct {
		Keys []struct {
			ID     string
			Scopes []string
		}
	}
	json.Unmarshal(text, &keys)
	for _, k := range keys.Keys {
		if len(k.Scopes) == 3 {
			admin.call("DELETE", "/v1/keys/"+k.ID, "")
		}
	}
	m.refused(401, "revoked-token", "GET", "/v1/events?topic=ci.a", "")
}

// TestTokenSecretRotates: what the old secret signed holds on for the overlap, or not at
// all. Nobody sees either.
func TestTokenSecretRotates(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	ask := func(token string) int {
		status, _, _ := call(t, "GET", admin.url+"/v1/events?topic=a", "", "Authorization", "Bearer "+token)
		return status
	}
	first := admin.mint(`{"user":"1","subscribe":["a"]}`).Token
	if status, _, body := admin.call("POST", "/v1/tokens/rotate-secret", `{}`); status != 200 || !strings.Contains(string(body), "tkey_") || strings.Contains(strings.ToLower(string(body)), "secret") {
		t.Fatalf("%d %s", status, body)
	}
	second := admin.mint(`{"user":"1","subscribe":["a"]}`).Token
	if ask(first) != 200 || ask(second) != 200 {
		t.Error(ask(first), ask(second))
	}
	if status, _, body := admin.call("POST", "/v1/tokens/rotate-secret", `{"overlap":"0s"}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	third := admin.mint(`{"user":"1","subscribe":["a"]}`).Token
	if ask(first) != 200 || ask(second) != 401 || ask(third) != 200 {
		t.Error(ask(first), ask(second), ask(third))
	}
	admin.makeKey(`{"scopes":["manage"]}`).refused(403, "missing-scope", "POST", "/v1/tokens/rotate-secret", `{}`)
}

// TestTokensSurvive a restart, and so do revocations.
func TestTokensSurvive(t *testing.T) {
	dir := t.TempDir()
	var kept, ended mintedToken
	t.Run("before", func(t *testing.T) {
		d := desk{t: t, url: servertest.Start(t, server.Config{Data: dir}).URL()}
		kept, ended = d.mint(`{"user":"1","subscribe":["a"]}`), d.mint(`{"user":"2","subscribe":["a"]}`)
		if status, _, body := d.call("POST", "/v1/tokens/revoke", `{"user":"2"}`); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	})
	url := servertest.Start(t, server.Config{Data: dir}).URL()
	for token, want := range map[string]int{kept.Token: 200, ended.Token: 401} {
		if status, _, body := call(t, "GET", url+"/v1/events?topic=a", "", "Authorization", "Bearer "+token); status != want {
			t.Errorf("%d %s", status, body)
		}
	}
}

// TestTokenStreams end at once when the token is revoked, and politely when it ends; a
// browser that comes too often is told so in a way that lets it come back.
func TestTokenStreams(t *testing.T) {
	admin := adminDesk(t, server.Config{TokenRate: .001})
	open := func(m mintedToken) *http.Response {
		t.Helper()
		res, err := http.Get(admin.url + "/v1/stream?topic=a&token=" + m.Token)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	ended := func(res *http.Response, reason string, within time.Duration) {
		t.Helper()
		began := time.Now()
		text, err := io.ReadAll(res.Body)
		if err != nil || !strings.Contains(string(text), `"reason":"`+reason+`"`) || !strings.Contains(string(text), "retry: ") || time.Since(began) > within {
			t.Errorf("%v after %v: %s", err, time.Since(began), text)
		}
	}
	spec := `{"user":"42","subscribe":["a"]}`
	one, two, short := admin.mint(spec), admin.mint(spec), admin.mint(`{"user":"7","subscribe":["a"],"ttl":"4s"}`)
	byID, byUser, expires := open(one), open(two), open(short)
	admin.call("POST", "/v1/tokens/revoke", `{"id":"`+one.ID+`"}`)
	ended(byID, "revoked", 2*time.Second)
	admin.call("POST", "/v1/tokens/revoke", `{"user":"42"}`)
	ended(byUser, "revoked", 2*time.Second)
	ended(expires, "expired", 10*time.Second)

	often := admin.mint(`{"user":"8","subscribe":["a"]}`)
	for range 22 {
		res, err := http.Get(admin.url + "/v1/stream?topic=a&token=" + often.Token)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		defer res.Body.Close()
	}
	res := open(often)
	if h := res.Header; h.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		t.Error(h)
	}
	ended(res, "overloaded", 10*time.Second)
	if status, _, body := call(t, "GET", admin.url+"/v1/events?topic=a&token="+often.Token, ""); status != 429 {
		t.Errorf("who can be told so is: %d %s", status, body)
	}
}

// TestTokensAreNotLogged: not where they were shown, nor when they are refused.
func TestTokensAreNotLogged(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { write.Close() }) // after the server, which writes there
	stderr := os.Stderr
	os.Stderr = write
	admin := adminDesk(t, server.Config{LogLevel: "debug", LogFormat: "json"})
	os.Stderr = stderr
	logged := make(chan string, 1000)
	go func() {
		for lines := bufio.NewScanner(read); lines.Scan(); {
			logged <- lines.Text()
		}
	}()
	m := admin.mint(`{"user":"42","subscribe":["a"]}`)
	spoiled := m.Token[:len(m.Token)-4] + "AAAA"
	for _, token := range []string{m.Token, spoiled} {
		for _, path := range []string{"/v1/events?topic=a&token=", "/v1/events?token=", "/v1/events?topic=a..b&token=", "/v1/keys?token=", "/nothing?token="} {
			status, h, body := call(t, "GET", admin.url+path+token, "")
			call(t, "POST", admin.url+path+token, "{}", "Authorization", "Bearer "+token, "Cookie", "hark_token="+token)
			if strings.Contains(string(body), token[:40]) || strings.Contains(fmt.Sprint(h), token[:40]) {
				t.Errorf("%s: %d %v %s", path, status, h, body)
			}
		}
	}
	admin.call("POST", "/v1/tokens/revoke", `{"id":"`+m.ID+`"}`)
	call(t, "GET", admin.url+"/v1/events?token="+m.Token, "")
	text := ""
	for deadline := time.After(time.Minute); !strings.Contains(text, "was revoked"); { // of the last request
		select {
		case line := <-logged:
			text += line + "\n"
		case <-deadline:
			t.Fatalf("the last request is not logged: %s", text)
		}
	}
	for _, secret := range []string{m.Token[:40], m.Token[50:90], spoiled[len(spoiled)-20:], admin.key} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}

// TestCORS: pages of the origins that were named read what browsers' routes answer,
// errors too; others nothing. On other routes, nobody.
func TestCORS(t *testing.T) {
	admin := adminDesk(t, server.Config{CORSOrigin: []string{"https://app.example.com"}, AnonymousTopic: []string{"news.>"}})
	const page, evil = "https://app.example.com", "https://evil.example"
	m := admin.mint(`{"user":"42","subscribe":["a"],"publish":["a"]}`)
	for _, c := range []struct {
		method, path, origin string
		status               int
		allowed              bool
		headers              []string
	}{
		{"GET", "/v1/events?topic=a", page, 200, true, []string{"Authorization", "Bearer " + m.Token}},
		{"GET", "/v1/events?topic=a", page, 401, true, []string{"Authorization", "Bearer x.y.z"}},
		{"GET", "/v1/events?topic=a", page, 200, true, []string{"Cookie", "hark_token=" + m.Token, "Sec-Fetch-Site", "cross-site"}},
		{"GET", "/v1/events?topic=a", evil, 403, false, []string{"Cookie", "hark_token=" + m.Token, "Sec-Fetch-Site", "cross-site"}},
		{"GET", "/v1/events?topic=a", evil, 200, false, []string{"Authorization", "Bearer " + m.Token}},
		{"GET", "/v1/events?topic=news.a", page, 200, true, nil},
		{"GET", "/v1/events?topic=news.a", evil, 200, false, nil},
		{"GET", "/v1/events?topic=a", page, 403, true, nil},
		{"POST", "/v1/events", page, 201, true, []string{"Authorization", "Bearer " + m.Token}},
		{"POST", "/v1/events", page, 401, true, []string{"Cookie", "hark_token=" + m.Token}},
		{"POST", "/v1/topics/a", page, 201, true, []string{"Authorization", "Bearer " + m.Token}},
		{"GET", "/v1/keys", page, 401, false, nil},
		{"OPTIONS", "/v1/events", page, 204, true, []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization"}},
		{"OPTIONS", "/v1/topics/a.b", page, 204, true, []string{"Access-Control-Request-Method", "POST"}},
		{"OPTIONS", "/v1/events", evil, 204, false, []string{"Access-Control-Request-Method", "POST"}},
		{"OPTIONS", "/v1/keys", page, 405, false, []string{"Access-Control-Request-Method", "POST"}},
	} {
		status, h, body := call(t, c.method, admin.url+c.path, `{"topic":"a","data":1}`, append(c.headers, "Origin", c.origin)...)
		if status != c.status || (h.Get("Access-Control-Allow-Origin") == c.origin) != c.allowed || !c.allowed && len(h.Values("Access-Control-Allow-Credentials")) > 0 {
			t.Errorf("%s %s %s %v: %d %v %s", c.method, c.path, c.origin, c.headers, status, h, body)
		}
		if c.path != "/v1/keys" && !strings.Contains(h.Get("Vary"), "Origin") {
			t.Errorf("%s %s: caches may mix origins: %v", c.method, c.path, h)
		}
		if preflight := h.Get("Access-Control-Allow-Methods") != ""; preflight != (c.method == "OPTIONS" && c.allowed) {
			t.Errorf("%s %s: %v", c.method, c.path, h)
		}
	}
	_, h, _ := call(t, "OPTIONS", admin.url+"/v1/topics/a", "", "Origin", page, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "hark-attribute-color, x-evil,hark-attribute-")
	if got := h.Get("Access-Control-Allow-Headers"); !strings.HasSuffix(got, ", hark-attribute-color") || !strings.Contains(got, "Last-Event-ID") || h.Get("Access-Control-Max-Age") == "" {
		t.Error(h)
	}
	any := adminDesk(t, server.Config{CORSOrigin: []string{"*"}})
	m = any.mint(`{"user":"42","subscribe":["a"]}`)
	status, h, _ := call(t, http.MethodGet, any.url+"/v1/events?topic=a&token="+m.Token, "", "Origin", evil)
	if status != 200 || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Error(status, h)
	}
	if status, _, _ := call(t, "GET", any.url+"/v1/events?topic=a", "", "Origin", evil, "Cookie", "hark_token="+m.Token); status != 403 {
		t.Error("with * every page has the user's cookie:", status)
	}
}
