package push

import (
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/push/pushtest"
)

// last returns what APNs took last.
func (v *vendors) lastAPNs(t *testing.T) *pushtest.Push {
	t.Helper()
	taken := v.apns.Taken()
	if len(taken) == 0 {
		t.Fatal("nothing was taken")
	}
	return taken[len(taken)-1]
}

func TestAPNsMessage(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	for _, c := range []struct {
		name, data, body   string
		pushType, priority string
		collapse           string
	}{
		{name: "everything", data: all, pushType: "alert", priority: "10", collapse: apnsCollapse("chat 7"),
			body: `{"aps":{"alert":{"title":"Ann <3","body":"hi"},"badge":3,"sound":"ping.caf","mutable-content":1},"link":"https://hark.dev/chat/7","image":"https://hark.dev/i.png",
			 "actions":[{"action":"reply","title":"Reply","link":"/r","icon":"/a.png"}],"data":{"room":7,"who":"Ann","deep":{"a":[1,null]},"none":null},
			 "hark":{"topic":"user.42.chat","receipt":"https://hark.test/r/dev_0000000000001"}}`},
		{name: "words", data: hello, pushType: "alert", priority: "10",
			body: `{"aps":{"alert":{"title":"Ann","body":"hi"},"sound":"default"},"hark":{"topic":"user.42.chat"}}`},
		{name: "silent and low", data: `{"title":"x","silent":true,"sound":"ping.caf","urgency":"low","collapse":"plain"}`, pushType: "alert", priority: "5", collapse: "plain",
			body: `{"aps":{"alert":{"title":"x"}},"hark":{"topic":"user.42.chat"}}`},
		{name: "badge alone", data: `{"badge":0,"urgency":"very-low"}`, pushType: "alert", priority: "1",
			body: `{"aps":{"badge":0},"hark":{"topic":"user.42.chat"}}`},
		{name: "data alone", data: `{"data":{"sync":true},"urgency":"high"}`, pushType: "background", priority: "5",
			body: `{"aps":{"content-available":1},"data":{"sync":true},"hark":{"topic":"user.42.chat"}}`},
		{name: "raw", data: `{"raw":{"apns":{"aps":{"alert":"own","interruption-level":"passive"},"mine":1}},"urgency":"low"}`, pushType: "alert", priority: "5",
			body: `{"aps":{"alert":"own","interruption-level":"passive"},"mine":1}`},
		{name: "raw background", data: `{"raw":{"apns":{"aps":{"content-available":1},"mine":1}}}`, pushType: "background", priority: "5",
			body: `{"aps":{"content-available":1},"mine":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := v.send(t, apnsDevice(0), c.data); r.Outcome != Accepted || len(r.ID) != 36 {
				t.Fatalf("%+v", r)
			}
			p := v.lastAPNs(t)
			got := strings.ReplaceAll(string(p.Body), hark.DeviceID(1).String(), "dev_0000000000001")
			sameJSON(t, got, c.body)
			if p.Header.Get("apns-push-type") != c.pushType || p.Header.Get("apns-priority") != c.priority || p.Header.Get("apns-collapse-id") != c.collapse || p.Header.Get("apns-topic") != pushtest.Bundle {
				t.Errorf("headers %v", p.Header)
			}
		})
	}
	v.wantNoComplaints(t)
}

// TestAboutEvent: the app learns which event it is.
func TestAboutEvent(t *testing.T) {
	e := testEvent(hello)
	e.ID = hark.EventID{Incarnation: 1, Offset: 7}
	id := e.ID.String()
	c, err := Compose(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := apnsJSON(c.For(""))
	if err != nil || !strings.Contains(string(text), `"hark":{"event":"`+id+`","topic":"user.42.chat"}}`) {
		t.Errorf("%s, %v", text, err)
	}
	data, err := fcmData(c.For(""))
	if err != nil || data["hark_event"] != id {
		t.Errorf("%v, %v", data, err)
	}
}

func TestAPNsExpiration(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	before := time.Now()
	v.send(t, apnsDevice(0), `{"title":"x","ttl":0}`)
	if got := v.lastAPNs(t).Header.Get("apns-expiration"); got != "0" {
		t.Errorf("now or never is %q", got)
	}
	v.send(t, apnsDevice(0), `{"title":"x","ttl":600}`)
	var at int64
	if err := json.Unmarshal([]byte(v.lastAPNs(t).Header.Get("apns-expiration")), &at); err != nil || at < before.Unix()+598 || at > time.Now().Unix()+600 {
		t.Errorf("ten minutes end at %d", at)
	}
	// A retry has what is left.
	c := compose(t, `{"title":"x","ttl":600}`)
	c.event.Received = time.Now().Add(-9 * time.Minute)
	v.sender.Send(t.Context(), v.audience, apnsDevice(0), c, time.Now())
	if err := json.Unmarshal([]byte(v.lastAPNs(t).Header.Get("apns-expiration")), &at); err != nil || at > time.Now().Unix()+61 || at < before.Unix()+58 {
		t.Errorf("a minute was left, and ends at %d", at)
	}
}

func TestAPNsCollapse(t *testing.T) {
	for name, want := range map[string]bool{"chat-7": true, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false, "größe": false, "two words": false, "": true} {
		got := apnsCollapse(name)
		if (got == name) != want || len(got) > apnsMaxCollapse || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q becomes %q", name, got)
		}
	}
}

// clock is a time that tests move.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time       { return time.Unix(c.at.Load(), 0) }
func (c *clock) move(d time.Duration) { c.at.Add(int64(d / time.Second)) }

func newProvider(t *testing.T, k Keeper) *provider {
	t.Helper()
	key, err := parseP8(testKeys().p8)
	if err != nil {
		t.Fatal(err)
	}
	p, err := new(providers).of(k, key, "ABC123DEFG", "DEF123GHIJ")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestProviderTokenAge: a token is between 20 and 60 minutes old before there is another, over
// restarts too.
func TestProviderTokenAge(t *testing.T) {
	k := &memoryKeeper{}
	p := newProvider(t, k)
	var c clock
	c.at.Store(1_900_000_000)
	get := func() string {
		t.Helper()
		text, err := p.get(c.now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	text, since := get(), c.now()
	for range 2000 {
		c.move(37 * time.Second)
		if c.at.Load()%5 == 0 {
			p = newProvider(t, k) // a restart
		}
		now := get()
		age := c.now().Sub(since)
		if now != text && age < 20*time.Minute {
			t.Fatalf("another token after %v", age)
		}
		if now == text && age >= 55*time.Minute {
			t.Fatalf("a token of %v", age)
		}
		if now != text {
			text, since = now, c.now()
		}
	}
	// A clock that was far ahead when it was made: the token is of no use.
	c.move(-3 * time.Hour)
	if get() == text {
		t.Error("a token of the future serves")
	}
}

func TestProviderTokenRefused(t *testing.T) {
	p := newProvider(t, nil)
	now := time.Unix(1_900_000_000, 0)
	text, _ := p.get(now)
	if wait := p.renew(text, now.Add(5*time.Minute)); wait != 15*time.Minute {
		t.Errorf("renewed after five minutes, wait %v", wait)
	}
	if again, _ := p.get(now.Add(5 * time.Minute)); again != text {
		t.Error("another token too early")
	}
	later := now.Add(21 * time.Minute)
	if wait := p.renew(text, later); wait != 0 {
		t.Errorf("wait %v", wait)
	}
	fresh, _ := p.get(later)
	if fresh == text {
		t.Error("the refused token is kept")
	}
	// Somebody else renewed it meanwhile: theirs is good.
	if wait := p.renew(text, later); wait != 0 {
		t.Errorf("wait %v", wait)
	}
	if same, _ := p.get(later); same != fresh {
		t.Error("renewed twice")
	}
}

// TestProviderTokenShared: audiences with the same key share its token; who only names the same
// ids does not.
func TestProviderTokenShared(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	for i := range 5 {
		v.audience.ID++
		if r := v.send(t, apnsDevice(i), hello); r.Outcome != Accepted {
			t.Fatalf("%+v", r)
		}
	}
	if names := Kept(v.audience); len(names) != 1 || v.keeper.kept[names[0]] == nil {
		t.Errorf("%v is said to be kept", names)
	}
	if v.apns.Tokens() != 1 || v.apns.Opened() != 1 || v.keeper.saved != 1 {
		t.Errorf("%d tokens over %d connections for five audiences, %d kept", v.apns.Tokens(), v.apns.Opened(), v.keeper.saved)
	}
	v.restart()
	if r := v.send(t, apnsDevice(6), hello); r.Outcome != Accepted || v.apns.Tokens() != 1 {
		t.Errorf("after a restart %+v with token %d", r, v.apns.Tokens())
	}
	settings := v.apns.Settings(nil)
	settings["key"] = testKeys().p8
	v.configure(t, map[string]any{"apns": settings})
	v.audience.ID++
	if r := v.send(t, apnsDevice(7), hello); r.Outcome != ConfigError || r.Code != "InvalidProviderToken" || !r.Wide {
		t.Errorf("a key that is not the team's: %+v", r)
	}
	if v.apns.Opened() != 2 {
		t.Errorf("%d connections: it used another's", v.apns.Opened())
	}
}

// TestExpiredProviderToken: our clock is behind, or the token was kept too long.
func TestExpiredProviderToken(t *testing.T) {
	var c clock
	c.at.Store(time.Now().Unix())
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{Now: c.now})
	v.send(t, apnsDevice(0), hello)
	// A token as if it were made 44 minutes ago, while APNs counts 65.
	for _, p := range v.sender.env.providers.by {
		p.issued = p.issued.Add(-44 * time.Minute)
	}
	c.move(65 * time.Minute)
	r := v.send(t, apnsDevice(1), hello)
	if r.Outcome != ConfigError || r.Code != "ExpiredProviderToken" {
		// The fresh one is 65 minutes old to APNs too: that clock is the matter.
		t.Errorf("%+v", r)
	}
	c.move(-65 * time.Minute)
	if v.apns.Pushes() != 1 {
		t.Errorf("%d pushes", v.apns.Pushes())
	}
}

// TestTooManyProviderTokens: the token that is too new stays, and all wait.
func TestTooManyProviderTokens(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	v.send(t, apnsDevice(0), hello)
	v.keeper.kept = nil // the store was lost, and with it the token
	v.restart()
	r := v.send(t, apnsDevice(1), hello)
	if r.Outcome != RetryAt || r.Code != "TooManyProviderTokenUpdates" || !r.Wide || r.After < 19*time.Minute || r.After > 20*time.Minute {
		t.Errorf("%+v", r)
	}
}

// badKeeper fails.
type badKeeper struct{}

func (badKeeper) Load(string) ([]byte, error) { return []byte("{"), errors.New("no disk") }
func (badKeeper) Save(string, []byte) error   { return errors.New("no disk") }

func TestKeeperFails(t *testing.T) {
	p := newProvider(t, badKeeper{})
	if text, err := p.get(time.Now()); err != nil || text == "" {
		t.Errorf("%q, %v: nothing is sent without a keeper", text, err)
	}
}

func FuzzAPNsAnswer(f *testing.F) {
	f.Add(410, []byte(`{"reason":"Unregistered","timestamp":1700000000000}`))
	f.Add(400, []byte(`{"reason":"BadDeviceToken"}`))
	f.Add(200, []byte(``))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		sent := time.Now()
		r := apnsResult(&egress.Response{Status: status, Snippet: body}, sent)
		checkResult(t, r, status, sent)
		if r.Outcome == TargetGone && status != 410 {
			t.Errorf("%d deletes", status)
		}
	})
}

func FuzzP8(f *testing.F) {
	f.Add(testKeys().p8)
	f.Add(testKeys().sec1)
	f.Add(strings.ReplaceAll(testKeys().p8, "\n", `\n`))
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseP8(text); err != nil && len(err.Error()) > 300 {
			t.Errorf("%q", err)
		}
	})
}

func TestP8Forms(t *testing.T) {
	for name, text := range map[string]string{"as it is": testKeys().p8, "spaces around": "\n " + testKeys().p8 + "\n\n", "one line": strings.ReplaceAll(testKeys().p8, "\n", `\n`),
		"CRLF": strings.ReplaceAll(testKeys().p8, "\n", "\r\n"), "SEC 1": testKeys().sec1} {
		if _, err := parseP8(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
