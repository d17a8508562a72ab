package pushservice

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark/internal/webpush"
)

// What clients of autopush rely on, scenario by scenario of its own integration tests.

func TestHello(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	if len(b.uaid) != 64 {
		t.Errorf("uaid is %q", b.uaid)
	}
	// One that never subscribed is nobody: it may be given another.
	b.subscribe(nil)
	if again := b.again(); again.uaid != b.uaid {
		t.Errorf("was %s, is %s", b.uaid, again.uaid)
	}
}

func TestBadPriorUAID(t *testing.T) {
	w := newWorld(t, Config{})
	for _, uaid := range []string{"banana", "not-a-uuid", strings.Repeat("0", 32), strings.Repeat("0", 64), strings.Repeat("z", 64)} {
		b := w.open(t)
		b.hello(uaid)
		if b.uaid == uaid {
			t.Errorf("%s is taken for somebody's", uaid)
		}
	}
}

func TestBasicDelivery(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	resp := w.wants(w.send(s, "hello there", "TTL", "120", "Topic", "a_-b"), 201)
	if at := resp.Header.Get("Location"); !strings.HasPrefix(at, w.http.URL+"/push/m/") || resp.Header.Get("TTL") != "120" {
		t.Errorf("answered with %v", resp.Header)
	}
	m := b.notified()
	if got := b.text(m); got != "hello there" || m.Channel != s.channel {
		t.Errorf("got %q: %+v", got, m)
	}
	if strings.Contains(resp.Header.Get("Location"), m.Version) {
		t.Error("who sends sees the id that acknowledges")
	}
	b.ack(m)
	b.quiet()
	b.leave()
	b = b.again()
	b.quiet()
}

func TestDeliveryAfterReconnect(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	b.leave()
	w.wants(w.send(s, "one"), 201)
	w.wants(w.send(s, "two"), 201)
	b = b.again()
	first, second := b.notified(), b.notified()
	if b.text(first) != "one" || b.text(second) != "two" {
		t.Errorf("got %q and %q", b.text(first), b.text(second))
	}
	b.leave()
	b = b.again() // not acknowledged: they come again, as the same
	one, two := b.notified(), b.notified()
	if one.Version != first.Version || two.Version != second.Version {
		t.Error("the version of a message changed")
	}
	b.ack(two)
	b.quiet()
	b.leave()
	b = b.again()
	if m := b.notified(); m.Version != first.Version {
		t.Errorf("got %+v", m)
	}
	b.ack(first)
	b.quiet()
	w.until("nothing waits", func() bool { return w.service.Stats().Messages == 0 && w.service.Stats().MessageBytes == 0 })
}

func TestMultipleAck(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	b.leave()
	for range 3 {
		w.wants(w.send(s, "x"), 201)
	}
	b = b.again()
	b.ack(b.notified(), b.notified(), b.notified())
	b.quiet()
	b.leave()
	b.again().quiet()
}

func TestTopicReplacement(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s, other := b.subscribe(nil), b.subscribe(nil)
	b.leave()
	w.wants(w.send(s, "old", "Topic", "t"), 201)
	w.wants(w.send(other, "other", "Topic", "t"), 201)
	w.wants(w.send(s, "new", "Topic", "t"), 201)
	w.wants(w.send(s, "another topic", "Topic", "T"), 201)
	b = b.again()
	var got []string
	for range 3 {
		m := b.notified()
		got = append(got, b.text(m))
		b.ack(m)
	}
	b.quiet()
	if strings.Join(got, ",") != "other,new,another topic" {
		t.Errorf("got %q", got)
	}
	w.wants(w.send(s, "late", "Topic", "t"), 201) // after the one before was acknowledged
	if m := b.notified(); b.text(m) != "late" {
		t.Errorf("got %q", b.text(m))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends[Replaced] != 1 || w.ends[Delivered] != 3 {
		t.Errorf("ends: %v", w.ends)
	}
}

func TestTTL0(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	w.wants(w.send(s, "now", "TTL", "0"), 201)
	m := b.notified()
	if b.text(m) != "now" {
		t.Errorf("got %q", b.text(m))
	}
	b.leave() // without an ack: it does not come again
	w.wants(w.send(s, "never", "TTL", "0"), 201)
	b = b.again()
	b.quiet()
	w.wants(w.send(s, "now again", "TTL", "0"), 201)
	m = b.notified()
	b.ack(m)
	b.quiet()
	if n := w.service.Stats().Messages; n != 0 {
		t.Errorf("%d messages wait", n)
	}
}

func TestTTLExpired(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	b.leave()
	w.wants(w.send(s, "short", "TTL", "1"), 201)
	w.wants(w.send(s, "long", "TTL", "600"), 201)
	w.wants(w.send(s, "short, too", "TTL", "2"), 201)
	w.pass(5 * time.Second)
	b = b.again()
	if m := b.notified(); b.text(m) != "long" {
		t.Errorf("got %q", b.text(m))
	}
	b.quiet()
	if n := w.service.Stats().Messages; n != 1 {
		t.Errorf("%d messages wait", n)
	}
	// Those of who never comes go by themselves.
	b.leave()
	w.pass(time.Hour)
	if err := w.service.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := w.service.Stats(); st.Messages != 0 || st.MessageBytes != 0 {
		t.Errorf("%+v", st)
	}
}

func TestEmptyAndBigMessage(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	w.wants(w.send(s, ""), 201)
	if m := b.notified(); m.Data != "" || m.Headers != nil {
		t.Errorf("got %+v", m)
	}
	big := strings.Repeat("x", webpush.MaxPlaintext)
	w.wants(w.send(s, big), 201)
	if m := b.notified(); b.text(m) != big {
		t.Error("the largest message was changed")
	}
}

func TestAESGCM(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	e, err := sealer.SealAESGCM(&s.sub, []byte("of old"))
	if err != nil {
		t.Fatal(err)
	}
	w.wants(w.post(s.endpoint, e.Body, "TTL", "60", "Content-Encoding", "aesgcm", "Encryption", e.Encryption, "Crypto-Key", e.CryptoKey), 201)
	if m := b.notified(); b.text(m) != "of old" {
		t.Errorf("got %+v", m)
	}
}

// TestWithdraw: who sent a message may take it back, while it waits.
func TestWithdraw(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	b.leave()
	at := w.wants(w.send(s, "no"), 201).Header.Get("Location")
	w.wants(w.request("DELETE", at), 204)
	w.wants(w.request("DELETE", at), 404)
	b.again().quiet()
}

func TestUnregister(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s, other := b.subscribe(nil), b.subscribe(nil)
	w.wants(w.send(s, "unread"), 201)
	b.notified()
	b.say(map[string]any{"messageType": "unregister", "channelID": s.channel, "code": 200})
	if m := b.hear(); m.Type != "unregister" || m.Status != 200 || m.Channel != s.channel {
		t.Fatalf("answered with %+v", m)
	}
	resp := w.wants(w.send(s, "x"), 410)
	if resp.Header.Get("Cache-Control") != "max-age=86400" {
		t.Errorf("410 with %v", resp.Header)
	}
	w.wants(w.send(other, "y"), 201)
	if m := b.notified(); b.text(m) != "y" {
		t.Errorf("got %+v", m)
	}
	b.leave()
	b = b.again()
	if m := b.notified(); m.Channel != other.channel {
		t.Errorf("got %+v", m)
	}
	b.quiet()
	w.until("the rest is gone", func() bool { return w.service.Stats().Messages == 1 })
	// The same channel once more is another subscription.
	b.say(map[string]any{"messageType": "register", "channelID": s.channel})
	if m := b.hear(); m.Status != 200 || m.Endpoint == s.endpoint {
		t.Errorf("answered with %+v", m)
	}
	w.wants(w.send(s, "x"), 410)
	w.pass(31 * day)
	if err := w.service.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wants(w.send(s, "x"), 404)
}

// TestRegisterTwice: a client that did not hear the answer asks again, and gets the same.
func TestRegisterTwice(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	b.say(map[string]any{"messageType": "register", "channelID": s.channel})
	if m := b.hear(); m.Endpoint != s.endpoint {
		t.Errorf("was %s, is %s", s.endpoint, m.Endpoint)
	}
	if st := w.service.Stats(); st.Subscriptions != 1 || st.Agents != 1 {
		t.Errorf("%+v", st)
	}
}

// TestDuplicateConnection: of two with one uaid the younger is the one.
func TestDuplicateConnection(t *testing.T) {
	w := newWorld(t, Config{})
	older := w.visit(t)
	s := older.subscribe(nil)
	younger := older.again()
	_, err := older.listen(10 * time.Second)
	if code := websocket.CloseStatus(err); code != 4774 {
		t.Errorf("the older one ended with %v", err)
	}
	w.wants(w.send(s, "x"), 201)
	if m := younger.notified(); younger.text(m) != "x" {
		t.Errorf("got %+v", m)
	}
}

// TestOrderOfFrames: hello comes first and once; what is no frame ends the connection.
func TestOrderOfFrames(t *testing.T) {
	w := newWorld(t, Config{})
	for _, said := range []string{`{}`, `{"messageType":"register","channelID":"6cf92efc-2512-4197-b60c-c32f99ae6c3a"}`, `nonsense`, `[]`, `{"messageType":"hello"`, `{"messageType":"hello","uaid":7}`, "\xff"} {
		b := w.open(t)
		b.say(said)
		_, err := b.listen(10 * time.Second)
		if code := websocket.CloseStatus(err); code != 4400 {
			t.Errorf("%s ended with %v", said, err)
		}
	}
	for _, said := range []string{`{"messageType":"hello"}`, `{"messageType":"what"}`, `{"messageType":"ack","updates":7}`} {
		b := w.visit(t)
		b.say(said)
		_, err := b.listen(10 * time.Second)
		if code := websocket.CloseStatus(err); code != 4400 {
			t.Errorf("%s ended with %v", said, err)
		}
	}
	b := w.visit(t)
	if err := b.conn.Write(t.Context(), websocket.MessageBinary, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.listen(10 * time.Second); websocket.CloseStatus(err) != 4400 {
		t.Errorf("a binary message ended with %v", err)
	}
	b = w.visit(t)
	b.say(`{"messageType":"x","pad":"` + strings.Repeat("x", maxFrame) + `"}`)
	if _, err := b.listen(10 * time.Second); websocket.CloseStatus(err) != 4400 {
		t.Errorf("a large message ended with %v", err)
	}
}

// TestBadRegister: what is wrong is told, and the connection stays.
func TestBadRegister(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	key := webpush.GenerateKey().Public()
	for channel, key := range map[string]string{
		"":                                      "",
		"x":                                     "",
		"6cf92efc25124197b60cc32f99ae6c3a":      "",
		"6cf92efc-2512-4197-b60c-c32f99ae6c3g":  "",
		"6cf92efc-2512-4197-b60c-c32f99ae6c3a1": "",
		"6cf92efc-2512-4197-b60c-c32f99ae6c3a":  "short",
		"6cf92efc-2512-4197-b60c-c32f99ae6c3b":  strings.Repeat("A", 87),
		"6cf92efc-2512-4197-b60c-c32f99ae6c3c":  "B" + strings.Repeat("A", 86),
		"6cf92efc-2512-4197-b60c-c32f99ae6c3d":  key + key,
	} {
		b.say(map[string]any{"messageType": "register", "channelID": channel, "key": key})
		if m := b.hear(); m.Status != 400 || m.Error == "" || m.Channel != channel {
			t.Errorf("channel %q, key %q: %+v", channel, key, m)
		}
	}
	b.subscribe(webpush.GenerateKey())
	if n := w.service.Stats().Subscriptions; n != 1 {
		t.Errorf("%d subscriptions", n)
	}
}

// TestPings: now and then is fine, all the time is not.
func TestPings(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	b.quiet()
	b.say(`{"messageType":"ping"}`)
	if m := b.hear(); m.Type != "" {
		t.Errorf("ping was answered with %+v", m)
	}
	b.say(`{"messageType":"broadcast_subscribe","broadcasts":{"remote-settings/monitor_changes":"\"0\""}}`)
	b.say(`{"messageType":"nack","version":"x","code":301}`)
	b.quiet()
	var err error
	for range burstPings + 1 {
		if err = b.conn.Write(t.Context(), websocket.MessageText, []byte("{}")); err != nil {
			break
		}
	}
	for err == nil {
		_, err = b.listen(10 * time.Second)
	}
	if code := websocket.CloseStatus(err); code != 4774 {
		t.Errorf("ended with %v", err)
	}
}

// wakesFor says what urgency is wanted from now on. What that lets through may come before the answer.
func (b *browser) wakesFor(least string) (notification message) {
	b.Helper()
	b.say(map[string]any{"messageType": "urgency", "min": least})
	notification, said := b.hear(), b.hear()
	if said.Type == "notification" {
		notification, said = said, notification
	}
	if said.Type != "urgency" || said.Status != 200 || notification.Type != "notification" {
		b.Fatalf("answered with %+v, and %+v came", said, notification)
	}
	return notification
}

// TestUrgency: who saves its battery gets what is urgent, and the rest later.
func TestUrgency(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	b.say(`{"messageType":"urgency","min":"high"}`)
	if m := b.hear(); m.Type != "urgency" || m.Status != 200 {
		t.Fatalf("answered with %+v", m)
	}
	w.wants(w.send(s, "low", "Urgency", "low"), 201)
	w.wants(w.send(s, "normal"), 201)
	w.wants(w.send(s, "high", "Urgency", "high"), 201)
	w.wants(w.send(s, "gone", "Urgency", "low", "TTL", "0"), 201)
	if m := b.notified(); b.text(m) != "high" {
		t.Errorf("got %q", b.text(m))
	} else {
		b.ack(m)
	}
	b.quiet()
	if m := b.wakesFor("normal"); b.text(m) != "normal" {
		t.Errorf("got %q", b.text(m))
	}
	b.quiet()
	b.leave()
	b = b.again() // it is remembered
	if m := b.notified(); b.text(m) != "normal" {
		t.Errorf("got %q", b.text(m))
	}
	b.quiet()
	if m := b.wakesFor("very-low"); b.text(m) != "low" {
		t.Errorf("got %q", b.text(m))
	}
	b.say(`{"messageType":"urgency","min":"x"}`)
	if m := b.hear(); m.Status != 400 {
		t.Errorf("answered with %+v", m)
	}
}

// TestWindow: so many are on their way, and all come in the end, in order.
func TestWindow(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	b.leave()
	const n = 3*window + 5
	for i := range n {
		w.wants(w.send(s, strings.Repeat("x", i+1)), 201)
	}
	b = b.again()
	var waiting []message
	for i := range n {
		if len(waiting) == window {
			b.quiet()
			b.ack(waiting...)
			waiting = nil
		}
		m := b.notified()
		if got := len(b.text(m)); got != i+1 {
			t.Fatalf("message %d has length %d", i, got)
		}
		waiting = append(waiting, m)
	}
	b.quiet()
}

// TestStop: a stop is told, and nobody else comes.
func TestStop(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	w.service.Drain(0)
	_, err := b.listen(10 * time.Second)
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("ended with %v", err)
	}
	if resp := w.wants(w.send(s, "x"), 503); resp.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	var closed websocket.CloseError
	if _, err := b.listen(time.Second); !errors.As(err, &closed) && err == nil {
		t.Error("it is still there")
	}
}
