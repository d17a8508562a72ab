package pushservice

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/webpush"
)

// vapid is an Authorization of a key for an origin.
func vapid(t testing.TB, key *webpush.Key, origin string, now time.Time) string {
	t.Helper()
	text, err := webpush.NewSigner().Authorization(key, "mailto:a@example.com", origin, now)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// refused checks the form of a refusal.
func refused(t *testing.T, resp *http.Response, status, errno int) {
	t.Helper()
	text, _ := io.ReadAll(resp.Body)
	var p struct {
		Code, Errno    int
		Error, Message string
	}
	if err := json.Unmarshal(text, &p); err != nil || resp.StatusCode != status || p.Code != status || p.Errno != errno || p.Error != http.StatusText(status) || p.Message == "" {
		t.Errorf("answered with %d %s, not %d with errno %d", resp.StatusCode, text, status, errno)
	}
	if resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type is %s", resp.Header.Get("Content-Type"))
	}
}

// TestBadHeaders: each rule of RFC 8030 and of the encodings.
func TestBadHeaders(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	body, err := sealer.Seal(nil, &s.sub, []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	old, err := sealer.SealAESGCM(&s.sub, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		headers string // name: value, apart by |
		body    []byte
		errno   int // 0: taken
	}{
		{"TTL:", body, 111},
		{"TTL: -1", body, 112},
		{"TTL: x", body, 112},
		{"TTL: 1.5", body, 112},
		{"TTL: 1e3", body, 112},
		{"TTL: 0x10", body, 112},
		{"Urgency: urgent", body, 114},
		{"Urgency: low, high", body, 114},
		{"Urgency: HIGH", body, 0},
		{"Topic: a.b", body, 113},
		{"Topic: " + strings.Repeat("a", 33), body, 113},
		{"Topic: " + strings.Repeat("a", 32), body, 0},
		{"Content-Encoding: gzip", body, 101},
		{"Content-Encoding: aes128gcm, aes128gcm", body, 101},
		{"Content-Encoding:", body, 101},
		{"Content-Encoding: AES128GCM", body, 0},
		{"Encryption: salt=AAAA", body, 101},
		{"Crypto-Key: dh=AAAA", body, 101},
		{"Crypto-Key: p256ecdsa=AAAA", body, 0},
		{"Content-Encoding: aes128gcm", []byte("short"), 110},
		{"Content-Encoding: aesgcm", old.Body, 101},
		{"Content-Encoding: aesgcm|Encryption: " + old.Encryption, old.Body, 101},
		{"Content-Encoding: aesgcm|Crypto-Key: " + old.CryptoKey, old.Body, 101},
		{"Content-Encoding: aesgcm|Encryption: " + old.Encryption + "|Crypto-Key: " + old.CryptoKey, old.Body, 0},
		{"Content-Encoding: aesgcm|Encryption: " + old.Encryption + "|Crypto-Key: " + old.CryptoKey + strings.Repeat("x", 600), old.Body, 101},
		{"Content-Encoding:", nil, 0},
		{"TTL: 99999999999999999999", body, 0},
	} {
		headers := []string{"TTL", "60", "Content-Encoding", "aes128gcm"}
		for h := range strings.SplitSeq(c.headers, "|") {
			name, value, _ := strings.Cut(h, ":")
			headers = append(headers, name, strings.TrimSpace(value))
		}
		resp := w.post(s.endpoint, c.body, headers...)
		if c.errno == 0 {
			w.wants(resp, 201)
			continue
		}
		refused(t, resp, 400, c.errno)
	}
	resp := w.wants(w.send(s, "x", "TTL", "99999999999999999999"), 201)
	if got := resp.Header.Get("TTL"); got != fmt.Sprint(int(maxTTL/time.Second)) {
		t.Errorf("a TTL that is too long becomes %s", got)
	}
	r, _ := http.NewRequest("POST", s.endpoint, nil)
	r.Header = http.Header{"Ttl": {"1"}, "Urgency": {"low", "high"}}
	refused(t, w.do(r), 400, 114)
}

// TestVAPID: who may send to a subscription that is restricted, and what is made of forgeries.
func TestVAPID(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	key, other := webpush.GenerateKey(), webpush.GenerateKey()
	s := b.subscribe(key)
	now := time.Now()
	resp := w.send(s, "x")
	if resp.Header.Get("WWW-Authenticate") != "vapid" {
		t.Errorf("401 with %v", resp.Header)
	}
	refused(t, resp, 401, 109)
	refused(t, w.send(s, "x", "Authorization", "Basic eDp5"), 401, 109)
	refused(t, w.send(s, "x", "Authorization", "vapid t=x, k=y"), 401, 109)
	good := vapid(t, key, w.http.URL, now)
	w.wants(w.send(s, "x", "Authorization", good), 201)
	w.wants(w.send(s, "x", "Authorization", strings.Replace(good, "vapid", "Vapid", 1)), 201)
	refused(t, w.send(s, "x", "Authorization", vapid(t, other, w.http.URL, now)), 403, 109)
	refused(t, w.send(s, "x", "Authorization", vapid(t, key, "https://elsewhere.example", now)), 403, 109)
	refused(t, w.send(s, "x", "Authorization", vapid(t, key, w.http.URL, now.Add(-25*time.Hour))), 403, 109)
	refused(t, w.send(s, "x", "Authorization", vapid(t, key, w.http.URL, now.Add(25*time.Hour))), 403, 109)
	refused(t, w.send(s, "x", "Authorization", good[:strings.LastIndex(good, ",")]+", k="+other.Public()), 403, 109)
	// Whoever shows something to one that anyone may send to must show something true, too.
	b.quietUntilAcked(2)
	free := b.subscribe(nil)
	refused(t, w.send(free, "x", "Authorization", vapid(t, key, "https://elsewhere.example", now)), 403, 109)
	w.wants(w.send(free, "x", "Authorization", vapid(t, other, w.http.URL, now)), 201)
	// The same channel for another key is another subscription.
	b.quietUntilAcked(1)
	b.say(map[string]any{"messageType": "register", "channelID": s.channel, "key": other.Public()})
	m := b.hear()
	if m.Status != 200 || m.Endpoint == s.endpoint {
		t.Errorf("registered as %+v", m)
	}
	w.wants(w.send(s, "x", "Authorization", good), 410)
}

// quietUntilAcked takes and acknowledges n notifications.
func (b *browser) quietUntilAcked(n int) {
	b.Helper()
	for range n {
		b.ack(b.notified())
	}
	b.quiet()
}

// TestSameKey: the key that signs must not be the one that encrypts.
func TestSameKey(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	key := webpush.GenerateKey()
	body, err := sealer.Seal(nil, &s.sub, []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	public, ok := parseKey(key.Public())
	if !ok {
		t.Fatal("no key")
	}
	copy(body[21:], public)
	refused(t, w.post(s.endpoint, body, "TTL", "1", "Content-Encoding", "aes128gcm", "Authorization", vapid(t, key, w.http.URL, time.Now())), 400, 110)
}

// TestOrigins: a token may be for any name that the server has.
func TestOrigins(t *testing.T) {
	w := newWorld(t, Config{Origins: []string{"https://push.example.com", "https://old.example.com"}})
	b := w.visit(t)
	key := webpush.GenerateKey()
	s := b.subscribe(key)
	path, ok := strings.CutPrefix(s.endpoint, "https://push.example.com/")
	if !ok {
		t.Fatalf("endpoint is %s", s.endpoint)
	}
	s.endpoint = w.http.URL + "/" + path
	for origin, status := range map[string]int{"https://push.example.com": 201, "https://old.example.com": 201, w.http.URL: 403} {
		w.wants(w.send(s, "x", "Authorization", vapid(t, key, origin, time.Now())), status)
	}
}

// TestUnknown: an endpoint that never was, and bodies that are too large.
func TestUnknownAndTooLarge(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	for _, token := range []string{"x", newSecret().text(), newSecret().text() + "=", newSecret().uaid(), "%00", b.uaid} {
		refused(t, w.post(w.http.URL+"/push/w/"+token, nil, "TTL", "1"), 404, 102)
	}
	if len(s.endpoint) > 1000 || len(s.endpoint[strings.LastIndexByte(s.endpoint, '/')+1:])*6 < 160 {
		t.Errorf("endpoint %s", s.endpoint)
	}
	body, err := sealer.Seal(nil, &s.sub, []byte("x"), webpush.MaxPlaintext)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) != 4096 {
		t.Fatalf("the largest message has %d bytes", len(body))
	}
	w.wants(w.post(s.endpoint, body, "TTL", "1", "Content-Encoding", "aes128gcm"), 201)
	large := append(body, randomBytes(MaxBody-4096)...)
	w.wants(w.post(s.endpoint, large, "TTL", "1", "Content-Encoding", "aes128gcm"), 201)
	refused(t, w.post(s.endpoint, append(large, 0), "TTL", "1", "Content-Encoding", "aes128gcm"), 413, 104)
	r, _ := http.NewRequest("POST", s.endpoint, io.MultiReader(strings.NewReader(string(large)), strings.NewReader("x"))) // chunked
	r.Header = http.Header{"Ttl": {"1"}, "Content-Encoding": {"aes128gcm"}}
	refused(t, w.do(r), 413, 104)
	resp := w.wants(w.request("GET", s.endpoint), 200)
	if text, _ := io.ReadAll(resp.Body); strings.TrimSpace(string(text)) != `{"unifiedpush":{"version":1}}` {
		t.Errorf("discovery: %s", text)
	}
	refused(t, w.request("GET", w.http.URL+"/push/w/"+newSecret().text()), 404, 102)
}

// TestEndpointsAreUnlinkable: of one browser or of two, they look alike.
func TestEndpointsAreUnlinkable(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	seen := map[string]bool{}
	for range 20 {
		s := b.subscribe(nil)
		token := s.endpoint[strings.LastIndexByte(s.endpoint, '/')+1:]
		if strings.Contains(token, b.uaid[:8]) || seen[token[:6]] || seen[token[len(token)-6:]] {
			t.Errorf("endpoint %s", s.endpoint)
		}
		seen[token[:6]], seen[token[len(token)-6:]] = true, true
	}
}

// TestQuotas: each is told, and harms nobody else.
func TestQuotas(t *testing.T) {
	t.Run("messages of a subscription", func(t *testing.T) {
		w := newWorld(t, Config{Limits: Limits{Messages: 3}})
		b := w.visit(t)
		s, other := b.subscribe(nil), b.subscribe(nil)
		b.leave()
		for range 3 {
			w.wants(w.send(s, "x", "Topic", ""), 201)
		}
		resp := w.send(s, "x")
		if resp.Header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		refused(t, resp, 429, 201)
		w.wants(w.send(other, "x"), 201)
		w.wants(w.send(s, "x", "TTL", "0"), 201) // is not stored
		b = b.again()
		b.quietUntilAcked(4)
		w.wants(w.send(s, "x"), 201)
	})
	t.Run("bytes of a subscription", func(t *testing.T) {
		w := newWorld(t, Config{Limits: Limits{Bytes: 10000}})
		b := w.visit(t)
		s := b.subscribe(nil)
		b.leave()
		w.wants(w.send(s, strings.Repeat("x", 3900)), 201)
		w.wants(w.send(s, strings.Repeat("x", 3900)), 201)
		refused(t, w.send(s, strings.Repeat("x", 3900)), 429, 201)
		w.wants(w.send(s, "x"), 201)
	})
	t.Run("bytes in all", func(t *testing.T) {
		w := newWorld(t, Config{Limits: Limits{AllBytes: 9000}})
		b := w.visit(t)
		s := b.subscribe(nil)
		b.leave()
		w.wants(w.send(s, strings.Repeat("x", 3900)), 201)
		w.wants(w.send(s, strings.Repeat("x", 3900)), 201)
		resp := w.send(s, strings.Repeat("x", 3900))
		if resp.Header.Get("Retry-After") == "" {
			t.Error("507 without Retry-After")
		}
		refused(t, resp, 507, 201)
	})
	t.Run("messages a second", func(t *testing.T) {
		w := newWorld(t, Config{Limits: Limits{SendRate: .1}})
		b := w.visit(t)
		s, other := b.subscribe(nil), b.subscribe(nil)
		for range 3 {
			w.wants(w.send(s, "", "TTL", "0"), 201)
		}
		refused(t, w.send(s, "", "TTL", "0"), 429, 201)
		w.wants(w.send(other, "", "TTL", "0"), 201)
	})
	t.Run("subscriptions of a user agent", func(t *testing.T) {
		w := newWorld(t, Config{Limits: Limits{Subscriptions: 2}})
		b := w.visit(t)
		b.subscribe(nil)
		b.subscribe(nil)
		b.say(map[string]any{"messageType": "register", "channelID": newChannelText()})
		if m := b.hear(); m.Status != 429 || m.Error == "" || m.Retry == 0 {
			t.Errorf("answered with %+v", m)
		}
	})
	t.Run("user agents and subscriptions of an address", func(t *testing.T) {
		w := newWorld(t, Config{Limits: Limits{NewAgents: 2, NewSubscriptions: 4}})
		a, b, c := w.visit(t), w.visit(t), w.visit(t)
		a.subscribe(nil)
		b.subscribe(nil)
		c.say(map[string]any{"messageType": "register", "channelID": newChannelText()})
		if m := c.hear(); m.Status != 429 {
			t.Errorf("a third user agent was answered with %+v", m)
		}
		a.subscribe(nil)
		a.subscribe(nil)
		a.say(map[string]any{"messageType": "register", "channelID": newChannelText()})
		if m := a.hear(); m.Status != 429 {
			t.Errorf("a fifth subscription was answered with %+v", m)
		}
		w.pass(time.Hour)
		c.subscribe(nil)
	})
	t.Run("user agents in all", func(t *testing.T) {
		w := newWorld(t, Config{Limits: Limits{Agents: 1}})
		a, b := w.visit(t), w.visit(t)
		a.subscribe(nil)
		b.say(map[string]any{"messageType": "register", "channelID": newChannelText()})
		if m := b.hear(); m.Status != 507 {
			t.Errorf("answered with %+v", m)
		}
		a.subscribe(nil)
	})
	t.Run("connections of an address", func(t *testing.T) {
		w := newWorld(t, Config{Limits: Limits{AddressSockets: 1}})
		b := w.visit(t)
		resp := w.request("GET", w.http.URL+"/push/")
		refused(t, resp, 429, 201)
		b.leave()
		w.until("there is room", func() bool { return w.service.Stats().Sockets == 0 })
		w.visit(t)
	})
	t.Run("disk", func(t *testing.T) {
		var low atomic.Bool
		w := newWorld(t, Config{DiskLow: low.Load})
		b := w.visit(t)
		s := b.subscribe(nil)
		low.Store(true)
		refused(t, w.send(s, "x"), 503, 201)
		b.say(map[string]any{"messageType": "register", "channelID": newChannelText()})
		if m := b.hear(); m.Status != 503 {
			t.Errorf("answered with %+v", m)
		}
		w.wants(w.send(s, "x", "TTL", "0"), 201)
	})
	t.Run("refusals of an address", func(t *testing.T) {
		w := newWorld(t, Config{})
		w.service.strange.init(.001, 50)
		for range 50 {
			w.wants(w.post(w.http.URL+"/push/w/x", nil, "TTL", "1"), 404)
		}
		refused(t, w.post(w.http.URL+"/push/w/x", nil, "TTL", "1"), 429, 201)
	})
}

// TestForgotten: user agents that stay away for half a year are forgotten, and nobody before.
func TestForgotten(t *testing.T) {
	w := newWorld(t, Config{})
	b, idle := w.visit(t), w.visit(t)
	s := b.subscribe(nil)
	i := idle.subscribe(nil)
	idle.say(map[string]any{"messageType": "unregister", "channelID": i.channel})
	idle.hear()
	idle.leave()
	b.leave()
	w.pass(2 * day)
	sweep := func() {
		t.Helper()
		if err := w.service.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if n := w.service.Stats().Agents; n != 1 {
		t.Errorf("%d user agents", n)
	}
	w.pass(170 * day)
	sweep()
	b = b.again() // seen again
	b.leave()
	w.pass(170 * day)
	sweep()
	w.wants(w.send(s, "x", "TTL", "9999999"), 201)
	w.pass(11 * day)
	sweep()
	w.wants(w.send(s, "x"), 410)
	if st := w.service.Stats(); st != (Stats{}) {
		t.Errorf("%+v", st)
	}
	was := b.uaid
	if b = b.again(); b.uaid == was {
		t.Error("it is still known")
	}
}

// TestConnectedForLong: half a year is counted from when a user agent left, not from when it came.
func TestConnectedForLong(t *testing.T) {
	for _, connected := range []time.Duration{179 * day, 200 * day} {
		w := newWorld(t, Config{})
		b := w.visit(t)
		s := b.subscribe(nil)
		sweep := func() {
			t.Helper()
			if err := w.service.sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(connected)
		sweep()
		b.leave()
		w.pass(170 * day)
		sweep()
		w.wants(w.send(s, "x"), 201)
		w.pass(12 * day)
		sweep()
		w.wants(w.send(s, "x"), 410)
	}
}

// TestNoWebSocket: what else may come to the WebSocket's URL.
func TestNoWebSocket(t *testing.T) {
	w := newWorld(t, Config{})
	resp := w.wants(w.request("GET", w.http.URL+"/push/"), 426)
	if resp.Header.Get("Upgrade") != "websocket" {
		t.Errorf("426 with %v", resp.Header)
	}
}
