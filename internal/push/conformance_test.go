package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/push/post"
	"github.com/harkhq/hark/internal/setting"
)

// fixture is what the suite needs to know of a platform.
type fixture struct {
	// settings is a good object of the platform's settings; "" for none.
	settings string
	// secrets are texts of the settings that nobody may see.
	secrets []string
	// badSettings maps an object of settings to the field at fault, below "settings.NAME".
	badSettings map[string]string
	// device makes a device as it registers, another one for each number.
	device func(n int) *hark.Device
	// same makes, of such a device, the same target in another form.
	same func(d *hark.Device)
	// badDevices maps the field that is named to what makes a device bad.
	badDevices map[string][]func(d *hark.Device)
	// handle answers what is not the message itself (a token request); ok is false for what is.
	handle func(s sent) (res egress.Response, ok bool)
	// accepted is the answer to a message that was taken.
	accepted func(sent) (egress.Response, error)
	// answers are others, and what they mean.
	answers []answer
}

type answer struct {
	name   string
	status int
	body   string
	header []string
	want   Outcome
	code   string
	wide   bool
	after  time.Duration
}

// fixtures has one for each row of the table.
var fixtures = map[string]*fixture{
	"webpush": webpushFixture(),
	"fcm":     fcmFixture(),
	"apns":    apnsFixture(),
}

// fakeOf returns a Doer that answers messages so.
func (fx *fixture) fakeOf(message func(sent) (egress.Response, error)) *doer {
	return &doer{answer: func(s sent) (egress.Response, error) {
		if fx.handle != nil {
			if res, ok := fx.handle(s); ok {
				return res, nil
			}
		}
		return message(s)
	}}
}

func (fx *fixture) audience(p *Platform) *hark.Destination {
	settings := "{}"
	if fx.settings != "" {
		settings = `{"` + p.Name + `":` + fx.settings + `}`
	}
	return webpushAudience(settings)
}

// registered returns a device in canonical form.
func (fx *fixture) registered(t *testing.T, s *Sender, n int) *hark.Device {
	t.Helper()
	d := fx.device(n)
	if err := s.Register(d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPlatforms holds every row of the table to the same rules.
func TestPlatforms(t *testing.T) {
	for _, p := range table {
		t.Run(p.Name, func(t *testing.T) {
			fx := fixtures[p.Name]
			if fx == nil {
				t.Fatal("add a fixture: fixtures in conformance_test.go")
			}
			for name, verify := range map[string]func(*testing.T, *Platform, *fixture){
				"describes itself": verifyRow, "settings": verifySettings, "register": verifyRegister, "accepts": verifyAccepts, "answers": verifyAnswers,
				"every status": verifyStatuses, "no answer": verifyFaults, "too large": verifyTooLarge, "concurrent": verifyConcurrent,
			} {
				t.Run(name, func(t *testing.T) { verify(t, p, fx) })
			}
		})
	}
	for name := range fixtures {
		if Find(name) == nil {
			t.Errorf("a fixture of %s, which is no row", name)
		}
	}
}

func verifyRow(t *testing.T, p *Platform, _ *fixture) {
	if p.Name == "" || p.Title == "" || p.Help == "" || p.register == nil || p.target == nil || p.open == nil {
		t.Errorf("row %+v lacks something", p)
	}
	for _, f := range p.Fields {
		if f.Title == "" || f.Help == "" {
			t.Errorf("field %s has no words", f.Key)
		}
	}
}

func parseSettings(settings string) (setting.Values, error) {
	c := &setting.Check{CheckURL: (&egress.Guard{}).CheckURL}
	v := setting.Parse(c, "settings", Fields(), json.RawMessage(settings))
	if len(c.Faults) == 0 {
		CheckSettings(c, v)
	}
	return v, errors.Join(c.Faults...)
}

func verifySettings(t *testing.T, p *Platform, fx *fixture) {
	if fx.settings != "" {
		text := `{"` + p.Name + `":` + fx.settings + `}`
		if _, err := parseSettings(text); err != nil {
			t.Errorf("good settings: %v", err)
		}
		shown := string(setting.Redact(Fields(), json.RawMessage(text)))
		for _, secret := range fx.secrets {
			if strings.Contains(shown, secret) || !strings.Contains(text, secret) {
				t.Errorf("redacted settings %s show a secret, or it is none of them", shown)
			}
		}
	}
	for object, field := range fx.badSettings {
		_, err := parseSettings(`{"` + p.Name + `":` + object + `}`)
		want := "settings." + p.Name + "." + field
		if !slices.ContainsFunc(hark.Faults(err), func(e *hark.Error) bool { return e.Field == want && e.Msg != "" }) {
			t.Errorf("%s: %v; want a fault of %s", object, err, want)
		}
	}
}

func verifyRegister(t *testing.T, p *Platform, fx *fixture) {
	s := newTestSender(&doer{})
	d := fx.registered(t, s, 1)
	once, _ := json.Marshal(d)
	target := Target(d)
	if err := s.Register(d); err != nil {
		t.Errorf("the canonical form is refused: %v", err)
	}
	if twice, _ := json.Marshal(d); string(twice) != string(once) {
		t.Errorf("canonical form\n%s\nbecomes\n%s", once, twice)
	}
	again := fx.device(1)
	fx.same(again)
	if err := s.Register(again); err != nil || Target(again) != target {
		t.Errorf("the same target in another form: %v", err)
	}
	if Target(fx.registered(t, s, 2)) == target {
		t.Error("two devices have one target")
	}
	for field, all := range fx.badDevices {
		for i, spoil := range all {
			d := fx.device(1)
			spoil(d)
			err := s.Register(d)
			e, ok := errors.AsType[*hark.Error](err)
			if !ok || e.Field != field || e.Kind != hark.Mismatch || e.Msg == "" {
				t.Errorf("bad %s, number %d: %v", field, i, err)
			} else if leaked := leak(fx, d, e.Error()); leaked != "" {
				t.Errorf("bad %s, number %d: the error shows %q", field, i, leaked)
			}
		}
	}
	d = fx.device(1)
	if d.Locale = "not a locale"; s.Register(d) == nil {
		t.Error("a bad locale is taken")
	}
}

// leak returns a text of d or of the settings that must not be shown and is.
func leak(fx *fixture, d *hark.Device, shown string) string {
	secrets := append([]string{d.Token.Reveal(), d.FID.Reveal()}, fx.secrets...)
	var sub struct {
		Endpoint string
		Keys     struct{ Auth, P256dh string }
	}
	if json.Unmarshal(d.Subscription, &sub) == nil {
		path := sub.Endpoint[strings.LastIndexByte(sub.Endpoint, '/')+1:]
		secrets = append(secrets, path, sub.Keys.Auth, sub.Keys.P256dh)
	}
	for _, secret := range secrets {
		if len(secret) > 5 && strings.Contains(shown, secret) {
			return secret
		}
	}
	return ""
}

func verifyAccepts(t *testing.T, p *Platform, fx *fixture) {
	fake := fx.fakeOf(fx.accepted)
	s := newTestSender(fake)
	a, d := fx.audience(p), fx.registered(t, s, 1)
	for _, data := range []string{
		`{"title":"Ann","body":"hi","link":"/chat/7"}`, `{"body":"only a body"}`, `{"data":{"room":7}}`, `{"badge":0}`,
		`{"title":"all","body":"of it","icon":"/i.png","image":"https://hark.dev/i.png","actions":[{"action":"a","title":"A","link":"/a","icon":"/a.png"}],"link":"https://hark.dev/",
		  "badge":7,"sound":"ping.caf","silent":false,"data":{"x":[1,"2",null]},"urgency":"very-low","ttl":60,"collapse":"a collapse key of more than thirty-two characters","receipt":true,
		  "localized":{"de":{"title":"alles"}}}`,
	} {
		if r := s.Send(t.Context(), a, d, compose(t, data), time.Now()); r.Outcome != Accepted || r.Error != "" {
			t.Errorf("%s: %+v", data, r)
		}
	}
	n := fake.count()
	old := compose(t, `{"title":"late","ttl":"1m"}`)
	if r := s.Send(t.Context(), a, d, old, time.Now().Add(2*time.Minute)); r.Outcome != Expired || fake.count() != n {
		t.Errorf("over its time: %+v, %d requests", r, fake.count()-n)
	}
	now := compose(t, `{"title":"now or never","ttl":0}`)
	if r := s.Send(t.Context(), a, d, now, time.Now()); r.Outcome != Accepted {
		t.Errorf("TTL 0: %+v", r)
	}
}

func verifyAnswers(t *testing.T, p *Platform, fx *fixture) {
	if len(fx.answers) == 0 {
		t.Error("no answers in the fixture")
	}
	for _, c := range fx.answers {
		t.Run(c.name, func(t *testing.T) {
			s := newTestSender(fx.fakeOf(status(c.status, c.body, c.header...)))
			r := s.Send(t.Context(), fx.audience(p), fx.registered(t, s, 1), compose(t, `{"title":"x"}`), time.Now())
			if r.Outcome != c.want || r.Code != c.code || r.Wide != c.wide || r.Status != c.status {
				t.Errorf("%+v; want outcome %d %q wide=%v", r, c.want, c.code, c.wide)
			}
			if r.After.Round(time.Second) != c.after {
				t.Errorf("after %v; want %v", r.After, c.after)
			}
		})
	}
}

// The rules that hold whatever a platform says: nobody deletes for 5xx, 403, a redirect or
// what is not understood, and nothing that is secret is repeated.
func verifyStatuses(t *testing.T, p *Platform, fx *fixture) {
	bodies := []string{"", "not JSON", `{"reason":"` + strings.Repeat("x", 4096) + `"}`, `{"error":{"details":"?"},"errno":{}}`, "[1"}
	for code := 200; code < 600; code++ {
		for _, body := range bodies {
			s := newTestSender(nil)
			d := fx.registered(t, s, 1)
			body += d.Token.Reveal() + endpointOf(d)
			fake := fx.fakeOf(status(code, body))
			s.env.client, s.env.poster = fake, post.NewApart(post.NewHere(fake, 0), post.Worker{})
			r := s.Send(t.Context(), fx.audience(p), d, compose(t, `{"title":"x"}`), time.Now())
			switch {
			case r.Outcome == 0 || (r.Outcome == Accepted) != (code/100 == 2):
				t.Errorf("%d %q: %+v", code, body, r)
			case (code >= 500 || code == 429) && r.Outcome != RetryAt:
				t.Errorf("%d %q is not tried again: %+v", code, body, r)
			case r.Outcome == TargetGone && code != 404 && code != 410:
				t.Errorf("%d %q deletes", code, body)
			case r.Outcome != Accepted && (r.Error == "" || r.Status != code):
				t.Errorf("%d %q says nothing: %+v", code, body, r)
			}
			if leaked := leak(fx, d, r.Error+r.Code); leaked != "" || len(r.Error) > 1024 {
				t.Errorf("%d: %q shows %q", code, r.Error, leaked)
			}
		}
	}
}

func verifyFaults(t *testing.T, p *Platform, fx *fixture) {
	for fault := egress.FaultRefused; fault <= egress.FaultCanceled; fault++ {
		s := newTestSender(fx.fakeOf(func(sent) (egress.Response, error) {
			return egress.Response{}, &egress.Error{Fault: fault, Msg: "no answer"}
		}))
		r := s.Send(t.Context(), fx.audience(p), fx.registered(t, s, 1), compose(t, `{"title":"x"}`), time.Now())
		if r.Outcome != RetryAt || r.Status != 0 || r.Error == "" {
			t.Errorf("%v: %+v", fault, r)
		}
		if r.ours == fault.Charged() {
			t.Errorf("%v: whose fault? %+v", fault, r)
		}
	}
	s := newTestSender(fx.fakeOf(fx.accepted))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := s.Send(ctx, fx.audience(p), fx.registered(t, s, 1), compose(t, `{"title":"x"}`), time.Now()); r.Outcome != RetryAt {
		t.Errorf("cancelled: %+v", r)
	}
}

func verifyTooLarge(t *testing.T, p *Platform, fx *fixture) {
	fake := fx.fakeOf(fx.accepted)
	s := newTestSender(fake)
	a, d := fx.audience(p), fx.registered(t, s, 1)
	for _, data := range []string{
		`{"title":"x","body":"` + strings.Repeat("y", 4096) + `"}`,
		`{"title":"x","data":{"text":"` + strings.Repeat("y", 5000) + `"}}`,
	} {
		r := s.Send(t.Context(), a, d, compose(t, data), time.Now())
		if r.Outcome != PayloadError || r.Code != "push-too-large" || fake.count() > 0 {
			t.Errorf("%d bytes: %+v after %d requests", len(data), r, fake.count())
		}
	}
	// Words of our own fit always, even in the longest of alphabets.
	e := testEvent(`{"text":"` + strings.Repeat(`\u0001日\"`, 3000) + `"}`)
	c, err := Compose(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Send(t.Context(), a, d, c, time.Now()); r.Outcome != Accepted {
		t.Errorf("own words: %+v", r)
	}
}

func verifyConcurrent(t *testing.T, p *Platform, fx *fixture) {
	fake := fx.fakeOf(fx.accepted)
	s := newTestSender(fake)
	a, c := fx.audience(p), compose(t, `{"title":"x","localized":{"de":{"title":"y"}}}`)
	var wg sync.WaitGroup
	for n := range 50 {
		d := fx.registered(t, s, n+1)
		d.Locale = []string{"", "de", "fr"}[n%3]
		wg.Go(func() {
			if r := s.Send(t.Context(), a, d, c, time.Now()); r.Outcome != Accepted {
				t.Error(fmt.Sprintf("%d: %+v", n, r))
			}
		})
	}
	wg.Wait()
	if n := len(c.payloads); n != 2 {
		t.Errorf("%d payloads were made for two wordings", n)
	}
}
