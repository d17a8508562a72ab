package push

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/webpush"
)

func TestSettingsAreFollowed(t *testing.T) {
	fake := &doer{answer: status(201, "")}
	s, b := newTestSender(fake), newBrowser(t, "https://push.example.net/p")
	a := webpushAudience(`{"title":"{topic}","icon":"/i.png","urgency":"low"}`)
	e := testEvent(`{"n":1}`)
	say := func() string {
		t.Helper()
		c, err := s.Compose(a, e)
		if err != nil {
			t.Fatal(err)
		}
		if r := s.Send(t.Context(), a, &b.device, c, time.Now()); r.Outcome != Accepted {
			t.Fatalf("%+v", r)
		}
		n := b.open(t, fake.last(t))["notification"].(map[string]any)
		return fmt.Sprint(n["title"], " ", n["icon"], " ", fake.last(t).Header.Get("Urgency"))
	}
	if got := say(); got != "user.42.chat /i.png low" {
		t.Error(got)
	}
	a.Revision, a.Settings = 2, []byte(`{"title":"number {body.n}"}`)
	if got := say(); got != "number 1 <nil> " {
		t.Error(got)
	}
	// A try that began before the change still says what it said.
	old := *a
	old.Revision, old.Settings = 1, []byte(`{"title":"old"}`)
	if c, err := s.Compose(&old, e); err != nil || c.For("").Title != "old" {
		t.Errorf("%v", err)
	}
	if got := say(); got != "number 1 <nil> " {
		t.Error(got)
	}
	a.Revision, a.Settings = 3, []byte(`{"webpush":{"subject":"mailto:x@localhost"}}`)
	if _, err := s.Compose(a, e); err == nil || !strings.Contains(err.Error(), "settings.webpush.subject") {
		t.Errorf("bad settings: %v", err)
	}
	c, _ := Compose(e, nil)
	if r := s.Send(t.Context(), a, &b.device, c, time.Now()); r.Outcome != ConfigError || !r.Wide {
		t.Errorf("bad settings: %+v", r)
	}
	a.Revision, a.Settings, a.Secrets = 4, []byte("{}"), nil
	if r := s.Send(t.Context(), a, &b.device, c, time.Now()); r.Outcome != ConfigError || !r.Wide {
		t.Errorf("no VAPID key: %+v", r)
	}
	if r := s.Send(t.Context(), a, &hark.Device{Kind: "fax"}, c, time.Now()); r.Outcome != ConfigError {
		t.Errorf("no such platform: %+v", r)
	}
	if err := s.Register(&hark.Device{Kind: "fax"}); err == nil || !strings.Contains(err.Error(), "webpush") {
		t.Errorf("no such platform: %v", err)
	}
}

// What is kept ready is bounded.
func TestCachesAreBounded(t *testing.T) {
	s := newTestSender(&doer{answer: status(201, "")})
	s.size = 10
	for i := range 1000 {
		a := webpushAudience("{}")
		a.ID = hark.DestinationID(i + 1)
		e := testEvent("{}")
		e.ID.Offset = hark.Offset(i + 1)
		if _, err := s.Compose(a, e); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.audiences) > 10 || len(s.composed) > maxComposed {
		t.Errorf("%d audiences, %d messages", len(s.audiences), len(s.composed))
	}
}

// A subscription is signed for with the key that it is bound to, through rotations.
func TestVAPIDKeysRotate(t *testing.T) {
	fake := &doer{answer: status(201, "")}
	s, a := newTestSender(fake), webpushAudience("{}")
	old, next := webpush.GenerateKey(), webpush.GenerateKey()
	a.Secrets = []hark.SigningSecret{{Value: hark.Secret(next.Reveal())}, {Value: hark.Secret(old.Reveal()), Expires: time.Now().Add(-time.Hour)}}
	for bound, want := range map[string]*webpush.Key{old.ID(): old, next.ID(): next, "": next} {
		b := newBrowser(t, "https://push.example.net/p")
		b.device.VAPIDKey = bound
		if r := s.Send(t.Context(), a, &b.device, compose(t, `{"title":"x"}`), time.Now()); r.Outcome != Accepted {
			t.Fatalf("%+v", r)
		}
		c, err := webpush.NewVerifier(1).Verify(webpush.VAPIDHeader{Authorization: fake.last(t).Header.Get("Authorization")}, []string{"https://push.example.net"}, time.Now())
		if err != nil || c.ID() != want.ID() {
			t.Errorf("bound to %q, signed with %s, %v", bound, c.ID(), err)
		}
	}
	b, n := newBrowser(t, "https://push.example.net/p"), fake.count()
	b.device.VAPIDKey = webpush.GenerateKey().ID()
	if r := s.Send(t.Context(), a, &b.device, compose(t, `{"title":"x"}`), time.Now()); r.Outcome != TargetSuspect || r.Code != codeUnknownKey || fake.count() != n {
		t.Errorf("bound to a key that is not there: %+v", r)
	}
}

// A credential that the same service has just taken is not at fault when it refuses it for one
// subscription; and one that a stranger's service refuses tells nothing about the others.
func TestWhoseFaultIsARefusal(t *testing.T) {
	refuse := map[string]bool{"/stranger": true}
	fake := &doer{answer: func(s sent) (egress.Response, error) {
		if refuse[s.URL.Path] {
			return status(401, `{"errno":109}`)(s)
		}
		return status(201, "")(s)
	}}
	s, a, c := newTestSender(fake), webpushAudience("{}"), compose(t, `{"title":"x"}`)
	send := func(endpoint string) Result {
		b := newBrowser(t, endpoint)
		return s.Send(t.Context(), a, &b.device, c, time.Now())
	}
	for range 3 {
		if r := send("https://stranger.example/stranger"); r.Outcome != ConfigError || r.Wide || !strings.Contains(r.Error, "settings.webpush.subject") {
			t.Errorf("refused, never taken: %+v", r)
		}
	}
	if r := send("https://stranger.example/stranger"); r.Code != codeHeld {
		t.Errorf("a service that takes nothing is asked on: %+v", r)
	}
	if r := send("https://push.example.net/p"); r.Outcome != Accepted {
		t.Errorf("another service: %+v", r)
	}
	for range 5 {
		if r := send("https://push.example.net/stranger"); r.Outcome != TargetSuspect {
			t.Errorf("refused for one subscription: %+v", r)
		}
	}
	if r := send("https://push.example.net/p"); r.Outcome != Accepted {
		t.Errorf("its other subscriptions: %+v", r)
	}
}

// Padding hides the length, and is left out where it is refused.
func TestPadding(t *testing.T) {
	fake := &doer{answer: func(s sent) (egress.Response, error) {
		if len(s.body) > 3000 {
			return status(413, "")(s)
		}
		return status(201, "")(s)
	}}
	s, b := newTestSender(fake), newBrowser(t, "https://push.example.net/p")
	a := webpushAudience(`{"webpush":{"padding":2000}}`)
	for _, data := range []string{`{"title":"x"}`, `{"title":"a longer one"}`} {
		if r := s.Send(t.Context(), a, &b.device, compose(t, data), time.Now()); r.Outcome != Accepted || len(fake.last(t).body) != 2103 {
			t.Errorf("%d bytes, %+v", len(fake.last(t).body), r)
		}
	}
	a.Revision, a.Settings = 2, []byte(`{"webpush":{"padding":3993}}`)
	n := fake.count()
	if r := s.Send(t.Context(), a, &b.device, compose(t, `{"title":"x"}`), time.Now()); r.Outcome != Accepted || fake.count() != n+2 || len(fake.last(t).body) > 300 {
		t.Errorf("%+v after %d requests", r, fake.count()-n)
	}
	n = fake.count()
	large := compose(t, `{"title":"x","body":"`+strings.Repeat("y", 3500)+`"}`)
	if r := s.Send(t.Context(), a, &b.device, large, time.Now()); r.Outcome != PayloadError || r.Status != 413 || fake.count() != n+2 {
		t.Errorf("large itself: %+v after %d requests", r, fake.count()-n)
	}
}

// What is left of the TTL is what is told, and a service that never answers is left.
func TestTTLAndTimeout(t *testing.T) {
	fake := &doer{answer: status(201, "")}
	s, a, b := newTestSender(fake), webpushAudience("{}"), newBrowser(t, "https://push.example.net/p")
	c := compose(t, `{"title":"x","ttl":"1h"}`)
	for after, want := range map[time.Duration]string{0: "3600", 10 * time.Minute: "3000", time.Hour - time.Millisecond: "1"} {
		s.Send(t.Context(), a, &b.device, c, c.Event().Received.Add(after))
		if got := fake.last(t).Header.Get("Ttl"); got != want {
			t.Errorf("after %v TTL %s, want %s", after, got, want)
		}
	}
	if s.Send(t.Context(), a, &b.device, compose(t, `{"title":"x","ttl":0}`), time.Now()); fake.last(t).Header.Get("Ttl") != "0" {
		t.Errorf("TTL 0 is %s", fake.last(t).Header.Get("Ttl"))
	}
	if s.Send(t.Context(), a, &b.device, compose(t, `{"title":"x"}`), time.Now()); fake.last(t).Header.Get("Ttl") != "2419199" && fake.last(t).Header.Get("Ttl") != "2419200" {
		t.Errorf("no TTL is %s", fake.last(t).Header.Get("Ttl"))
	}
	fake.answer = func(sent) (egress.Response, error) { return egress.Response{}, context.DeadlineExceeded }
	if r := s.Send(t.Context(), a, &b.device, c, time.Now()); r.Outcome != RetryAt {
		t.Errorf("%+v", r)
	}
}
