package destination

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/setting"
)

// TestConformance is what every kind must keep.
func TestConformance(t *testing.T) {
	for _, k := range Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			fx, ok := fixtures[k.Name]
			if !ok || len(fx.good) == 0 || len(fx.bad) == 0 {
				t.Fatal("add a fixture: fixtures_test.go")
			}
			t.Run("row", func(t *testing.T) { verifyRow(t, k) })
			t.Run("settings", func(t *testing.T) { verifySettings(t, k, fx) })
			t.Run("hostile", func(t *testing.T) { verifyHostile(t, k, fx) })
			t.Run("redaction", func(t *testing.T) { verifyRedaction(t, k, fx) })
			t.Run("schema", func(t *testing.T) { verifySchema(t, k) })
			if k.Mode == Pull {
				if k.open != nil {
					t.Error("mode pull sends nothing")
				}
				return
			}
			if k.lasts { // package device tries its devices, and package push tells what came of it
				t.Run("carried", func(t *testing.T) { verifyCarried(t, k, fx) })
				return
			}
			t.Run("verdicts", func(t *testing.T) { verifyVerdicts(t, k, fx) })
			t.Run("faults", func(t *testing.T) { verifyFaults(t, k, fx) })
			t.Run("timeout", func(t *testing.T) { verifyTimeout(t, k, fx) })
			if len(fx.answers) > 0 {
				t.Run("answers", func(t *testing.T) { verifyAnswers(t, k, fx) })
			}
		})
	}
	for name := range fixtures {
		if Find(name) == nil {
			t.Errorf("fixture %q has no kind", name)
		}
	}
}

const exampleURL = "https://hooks.example.com"

// build makes a destination as the registry would.
func build(t testing.TB, s *Sender, k *Kind, settings, server string) *hark.Destination {
	t.Helper()
	d := draft(k, settings, server)
	if err := s.Prepare(nil, d); err != nil {
		t.Fatalf("%s: %v", settings, err)
	}
	if secret := s.NewSecret(d); secret != "" {
		d.Secrets = []hark.SigningSecret{{Value: secret}}
	}
	return d
}

func draft(k *Kind, settings, server string) *hark.Destination {
	return &hark.Destination{ID: 1, Revision: 1, Kind: k.Name, Topics: []hark.Pattern{">"},
		Settings: json.RawMessage(strings.ReplaceAll(settings, "%URL%", server))}
}

func sample() *hark.Event {
	return &hark.Event{ID: hark.EventID{Shard: 1, Incarnation: 2, Offset: 3}, Topic: "orders.paid", ContentType: "application/json",
		Data: []byte(`{"n":1.0}`), Received: time.Unix(1e9, 0)}
}

// fake answers every request alike.
type fake struct {
	res  egress.Response
	err  error
	last *http.Request
}

func (f *fake) Do(_ context.Context, req *http.Request, _ int) (egress.Response, error) {
	f.last = req
	return f.res, f.err
}

func verifyRow(t *testing.T, k *Kind) {
	if k.Name == "" || k.Title == "" || k.Help == "" || k.Mode != Push && k.Mode != Pull || (k.Mode == Push) != (k.open != nil) {
		t.Errorf("incomplete: %+v", k)
	}
	var verify func(fields []setting.Field)
	verify = func(fields []setting.Field) {
		seen := map[string]bool{}
		for _, f := range fields {
			if f.Key == "" || f.Title == "" || f.Help == "" || seen[f.Key] || f.Key != strings.ToLower(f.Key) ||
				f.Required && f.Default != "" || f.Secret && f.Default != "" || (f.Type == setting.Object) != (len(f.Fields) > 0) {
				t.Errorf("field %+v", f)
			}
			seen[f.Key] = true
			if f.Default != "" {
				c := &setting.Check{}
				if f.Parse(c, f.Key, f.DefaultJSON()); len(c.Faults) > 0 {
					t.Errorf("the default of %s: %v", f.Key, c.Faults)
				}
			}
			verify(f.Fields)
		}
	}
	verify(k.Fields)
}

func verifySettings(t *testing.T, k *Kind, fx fixture) {
	s := New(Config{})
	for _, settings := range fx.good {
		d := build(t, s, k, settings, exampleURL)
		if k.Mode == Push && !k.lasts && s.Host(d) != "hooks.example.com" {
			t.Errorf("host %q", s.Host(d))
		}
	}
	for _, bad := range fx.bad {
		d := draft(k, bad.settings, exampleURL)
		faults := hark.Faults(s.Prepare(nil, d))
		var fields []string
		for _, f := range faults {
			fields = append(fields, f.Field)
			if f.Kind != hark.Mismatch || f.Msg == "" {
				t.Errorf("%s: %+v", bad.settings, f)
			}
		}
		if !reflect.DeepEqual(fields, bad.fields) {
			t.Errorf("%s: faults of %q, want %q", bad.settings, fields, bad.fields)
		}
	}
}

// verifyHostile gives every field what it does not expect: never a panic, always a
// fault of that field, and no value repeated.
func verifyHostile(t *testing.T, k *Kind, fx fixture) {
	s := New(Config{})
	values := []string{`0`, `-1`, `1e999`, `true`, `[]`, `[{}]`, `{"a":{"b":1}}`, `"\u0000"`, `"a\r\nb"`, `"` + strings.Repeat("Sx", 40_000) + `"`}
	for _, f := range k.Fields {
		for _, value := range values {
			given := map[string]json.RawMessage{}
			if err := json.Unmarshal(draft(k, fx.good[len(fx.good)-1], exampleURL).Settings, &given); err != nil {
				t.Fatal(err)
			}
			given[f.Key] = json.RawMessage(value)
			text := []byte("{")
			for key, v := range given {
				text = fmt.Appendf(text, "%q:%s,", key, v)
			}
			text[len(text)-1] = '}'
			d := &hark.Destination{Kind: k.Name, Settings: text}
			err := s.Prepare(nil, d)
			for _, fault := range hark.Faults(err) {
				if !strings.HasPrefix(fault.Field, "settings."+f.Key) {
					t.Errorf("%s = %.40s: a fault of %s", f.Key, value, fault.Field)
				}
			}
			if f.Multiline && value == `"a\r\nb"` {
				continue
			}
			if f.Type != setting.Int && f.Type != setting.Bool && f.Type != setting.Map && err == nil {
				t.Errorf("%s = %.40s passes", f.Key, value)
			}
			if err != nil && (strings.Contains(err.Error(), "SxSx") || len(err.Error()) > 2000) {
				t.Errorf("%s: an error repeats what was given", f.Key)
			}
			k.Redact(d.Settings)
			s.Host(d)
			s.NewSecret(d)
			_, _ = s.openNow(d)
		}
	}
}

func verifyRedaction(t *testing.T, k *Kind, fx fixture) {
	s := New(Config{})
	for i, settings := range fx.good {
		old := build(t, s, k, settings, exampleURL)
		shown := Redact(old)
		for _, secret := range fx.secrets {
			if i == 0 && strings.Contains(string(shown), secret) {
				t.Errorf("%s shows %s", shown, secret)
			}
		}
		if i == 0 && len(fx.secrets) > 0 && !strings.Contains(string(shown), setting.Redacted) {
			t.Error(string(shown))
		}
		// What was shown may be sent back.
		d := &hark.Destination{Kind: k.Name, Settings: shown}
		if err := s.Prepare(old, d); err != nil {
			t.Errorf("%s: %v", shown, err)
		}
		var was, is map[string]any
		_, _ = json.Unmarshal(old.Settings, &was), json.Unmarshal(d.Settings, &is)
		if !reflect.DeepEqual(was, is) {
			t.Errorf("came back as %s", d.Settings)
		}
		for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
			for _, secret := range old.Secrets {
				if strings.Contains(fmt.Sprintf(f, secret), secret.Value.Reveal()) {
					t.Errorf("%s prints a secret", f)
				}
			}
		}
	}
	if got := k.Redact([]byte(`{"unknown":"S"}`)); string(got) != "{}" {
		t.Errorf("%s", got)
	}
}

func verifySchema(t *testing.T, k *Kind) {
	var schema struct {
		Properties map[string]map[string]any
		Required   []string
	}
	if err := json.Unmarshal(k.Schema(), &schema); err != nil || len(schema.Properties) != len(k.Fields) {
		t.Fatal(err, string(k.Schema()))
	}
	for _, f := range k.Fields {
		p := schema.Properties[f.Key]
		if p["description"] != f.Help || f.Secret != (p["writeOnly"] == true) {
			t.Errorf("%s: %v", f.Key, p)
		}
	}
}

// verdicts of every status, as ranges; the suite sends each one.
var verdicts = []struct {
	from, to int
	want     hark.Outcome
}{
	{100, 199, hark.Rejected}, {200, 299, hark.OK}, {300, 409, hark.Rejected}, {410, 410, hark.Unsubscribed},
	{411, 428, hark.Rejected}, {429, 429, hark.Throttled}, {430, 501, hark.Rejected}, {502, 504, hark.Overloaded}, {505, 599, hark.Rejected},
}

func verifyVerdicts(t *testing.T, k *Kind, fx fixture) {
	f := &fake{}
	s := New(Config{Client: f})
	d := build(t, s, k, fx.good[0], exampleURL)
	checked := 0
	for _, v := range verdicts {
		for status := v.from; status <= v.to; status++ {
			f.res = egress.Response{Status: status, Header: http.Header{"Retry-After": {"7"}}, Snippet: []byte("no: " + strings.Join(fx.secrets, " "))}
			if status/100 == 2 && fx.ok != "" {
				f.res.Snippet = []byte(fx.ok)
			}
			r := s.Send(t.Context(), d, sample(), Meta{Attempt: 1})
			if r.Outcome != v.want || r.Status != status || r.Ours {
				t.Errorf("%d: %+v", status, r)
			}
			if want := 7 * time.Second; v.want == hark.OK && r.RetryAfter != 0 || v.want != hark.OK && r.RetryAfter != want {
				t.Errorf("%d: retry after %v", status, r.RetryAfter)
			}
			for _, secret := range fx.secrets {
				if strings.Contains(string(r.Snippet)+r.Error, secret) {
					t.Errorf("%d: %s is shown", status, secret)
				}
			}
			checked++
		}
	}
	if checked != 500 {
		t.Error("statuses are missing from the table")
	}
}

// carrier takes every event.
type carrier struct{ to *[]*hark.Destination }

func (c carrier) Push(_ context.Context, a *hark.Destination, _ *hark.Event) Result {
	if c.to != nil {
		*c.to = append(*c.to, a)
	}
	return Result{Outcome: hark.OK, Status: 200}
}

// verifyCarried: whoever is there for it gets event and destination.
func verifyCarried(t *testing.T, k *Kind, fx fixture) {
	var to []*hark.Destination
	s := New(Config{Audiences: carrier{&to}})
	d := build(t, s, k, fx.good[0], exampleURL)
	if r := s.Send(t.Context(), d, sample(), Meta{Attempt: 3}); r.Outcome != hark.OK || r.Status != 200 || len(to) != 1 || to[0] != d {
		t.Errorf("%+v, %v", r, to)
	}
	if r := New(Config{}).Send(t.Context(), d, sample(), Meta{Attempt: 1}); r.Outcome != hark.Unsendable || r.Error == "" {
		t.Errorf("without anybody: %+v", r)
	}
}

func verifyFaults(t *testing.T, k *Kind, fx fixture) {
	f := &fake{}
	s := New(Config{Client: f})
	d := build(t, s, k, fx.good[0], exampleURL)
	secrets := append([]string{"Qtoken"}, fx.secrets...)
	for _, own := range d.Secrets { // of a kind that signs
		secrets = append(secrets, own.Value.Reveal())
	}
	cause := &url.Error{Op: "Post", URL: string(d.Settings), Err: errors.New(strings.Join(secrets, " "))}
	for fault, want := range map[egress.Fault]hark.Outcome{
		egress.FaultRefused: hark.Refused, egress.FaultDNS: hark.ConnectError, egress.FaultConnect: hark.ConnectError, egress.FaultTLS: hark.ConnectError,
		egress.FaultTimeout: hark.TimedOut, egress.FaultReset: hark.ConnectError, egress.FaultProtocol: hark.ConnectError,
		egress.FaultTooLarge: hark.ConnectError, egress.FaultRequest: hark.Unsendable,
		egress.FaultProxy: hark.ConnectError, egress.FaultBusy: hark.ConnectError, egress.FaultCanceled: hark.ConnectError, egress.FaultNone: hark.ConnectError,
	} {
		f.err = &egress.Error{Fault: fault, Msg: "in words", Err: cause}
		if fault == egress.FaultNone {
			f.err = cause // from somewhere else
		}
		r := s.Send(t.Context(), d, sample(), Meta{Attempt: 1})
		ours := fault == egress.FaultProxy || fault == egress.FaultBusy || fault == egress.FaultCanceled
		if r.Outcome != want || r.Status != 0 || r.Error == "" || r.Ours != ours {
			t.Errorf("%v: %+v", fault, r)
		}
		for _, secret := range secrets {
			if strings.Contains(fmt.Sprintf("%+v", r), secret) {
				t.Errorf("%v: %s is in %+v", fault, secret, r)
			}
		}
	}
}

// verifyAnswers gives what an app says in its body its meaning.
func verifyAnswers(t *testing.T, k *Kind, fx fixture) {
	for _, a := range fx.answers {
		f := &fake{res: egress.Response{Status: a.status, Header: a.header, Snippet: []byte(a.body)}}
		s := New(Config{Client: f})
		r := s.Send(t.Context(), build(t, s, k, fx.good[0], exampleURL), sample(), Meta{Attempt: 1})
		if r.Outcome != a.want || r.Status != a.status || r.RetryAfter != a.after || !strings.Contains(r.Error, a.says) || r.Outcome != hark.Rejected && r.Outcome != hark.OK && a.says != "" && r.Error == "" {
			t.Errorf("%d %s: %+v", a.status, a.body, r)
		}
	}
}

// live makes a sender that may dial loopback.
func live(t testing.TB) *Sender {
	client, err := egress.New(egress.Config{Guard: egress.Guard{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdle)
	return New(Config{Client: client, CheckURL: client.Guard().CheckURL, Version: "1.2"})
}

func verifyTimeout(t *testing.T, k *Kind, fx fixture) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	s := live(t)
	d := build(t, s, k, fx.good[0], srv.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if r := s.Send(ctx, d, sample(), Meta{Attempt: 1}); r.Outcome != hark.TimedOut || r.Error == "" || time.Since(start) > 5*time.Second {
		t.Errorf("%+v", r)
	}
	// The guard has the last word, whatever the settings' check once said.
	strict, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if r := New(Config{Client: strict}).Send(t.Context(), d, sample(), Meta{Attempt: 1}); r.Outcome != hark.Refused {
		t.Errorf("%+v", r)
	}
}

func FuzzSettings(f *testing.F) {
	for name, fx := range fixtures {
		for _, s := range fx.good {
			f.Add(name, s)
		}
		for _, b := range fx.bad {
			f.Add(name, b.settings)
		}
	}
	f.Fuzz(func(t *testing.T, name, settings string) {
		k := Find(name)
		if k == nil || len(settings) > hark.MaxSettingsBytes {
			return
		}
		s := New(Config{Audiences: carrier{}, Client: &fake{res: egress.Response{Status: 200, Snippet: []byte(fixtures[name].ok)}}})
		d := draft(k, settings, exampleURL)
		if err := s.Prepare(nil, d); err != nil {
			if len(hark.Faults(err)) == 0 {
				t.Fatalf("not a fault of the settings: %v", err)
			}
			return
		}
		shown := k.Redact(d.Settings)
		if err := s.Prepare(d, &hark.Destination{Kind: name, Settings: shown}); err != nil {
			t.Fatalf("redacted %s: %v", shown, err)
		}
		if k.Mode == Push {
			d.ID = 0
			d.Secrets = []hark.SigningSecret{{Value: s.NewSecret(d)}}
			if r := s.Send(t.Context(), d, sample(), Meta{Attempt: 1}); r.Outcome != hark.OK {
				t.Fatalf("accepted and not sent: %+v", r)
			}
		}
	})
}
