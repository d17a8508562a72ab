package scheme

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

// open makes a source without settings.
func open(t testing.TB, scheme string, secrets ...string) *Source {
	t.Helper()
	return (&vector{Secrets: secrets}).source(t, scheme)
}

// TestDetails: a verdict says what is wrong in words and figures that help.
func TestDetails(t *testing.T) {
	for _, c := range []struct {
		name, scheme string
		sender       string // its secret
		source       string
		change       func(r *Request)
		want         string
	}{
		{"old", "stripe", "whsec_1", "whsec_1", func(r *Request) { r.Received = signedAt.Add(552 * time.Second) },
			"the timestamp is 9 min 12 s old; 5 min are allowed"},
		{"new", "slack", "s", "s", func(r *Request) { r.Received = signedAt.Add(-26 * time.Hour) },
			"the timestamp is 1 d 2 h in the future; 5 min are allowed"},
		{"just too old", "slack", "s", "s", func(r *Request) { r.Received = signedAt.Add(5*time.Minute + time.Millisecond) },
			"the timestamp is 5 min old; 5 min are allowed"},
		{"trimmed at the source", "github", "hush", "hush\n", nil, "white space around it"},
		{"trimmed at the sender", "github", "hush\n", "hush", nil, "the sender's secret has white space after it"},
		{"decoded", "github", "hush!", base64.StdEncoding.EncodeToString([]byte("hush!")), nil, "decodes to (base64)"},
		{"decoded hex", "github", "\x01\x02\xff", "0102ff", nil, "decodes to (hex)"},
		{"no prefix", "stripe", "abc", "whsec_abc", nil, "no whsec_ before it"},
		{"line end", "github", "s", "s", func(r *Request) { r.Body = append(r.Body, '\n') }, "without its last line end"},
		{"indented", "github", "s", "s", func(r *Request) { r.Body = []byte("{\n\t\"a\" : 1\n}") }, "without white space between"},
		{"byte order mark", "github", "s", "s", func(r *Request) { r.Body = append([]byte("\ufeff"), r.Body...) }, "byte order mark"},
		{"emptied", "github", "s", "s", func(r *Request) { r.Body = nil }, "compare the secret at GitHub"},
		{"another provider", "github", "s", "s", func(r *Request) { r.Header = Header{{"Stripe-Signature", "t=1,v1="}} }, "which scheme stripe reads"},
		{"url", "twilio", "s", "s", func(r *Request) { r.URL = strings.Replace(r.URL, "https", "http", 1) }, "right for https://hooks.example.com/in/"},
		{"other url", "twilio", "s", "s", func(r *Request) { r.URL += "x" }, "Hark took it to be https://hooks.example.com/in/"},
		{"basic", "token", "s", "t", nil, "the token is another"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := post(`{"a":1}`)()
			if c.scheme == "twilio" {
				r = postForm("a=1")()
			}
			if err := open(t, c.scheme, c.sender).Sign(r, signedAt); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(r)
			}
			v := open(t, c.scheme, c.source).Verify(context.Background(), r)
			if v.OK() || !strings.Contains(v.Detail, c.want) {
				t.Errorf("%s: %q does not say %q", v.Reason, v.Detail, c.want)
			}
		})
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 999 * time.Millisecond: "999 ms", time.Second: "1 s", 90 * time.Second: "1 min 30 s", time.Hour + 5*time.Second: "1 h",
		25 * time.Hour: "1 d 1 h", 1<<63 - 1: "106751 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

// TestDiagnosisIsBounded: what a refused request costs does not depend on how it was made.
func TestDiagnosisIsBounded(t *testing.T) {
	var secrets []string
	for i := range 20 {
		secrets = append(secrets, fmt.Sprintf("whsec_%032d ", i))
	}
	for name, body := range map[string][]byte{
		"empty":      nil,
		"nested":     []byte(strings.Repeat("[", 9000) + strings.Repeat("]", 9000)),
		"wide":       []byte(strings.Repeat("[", 31) + strings.Repeat("1,", 16000) + "1" + strings.Repeat("]", 31)),
		"line feeds": bytes.Repeat([]byte("\n"), maxDiagnosedBody),
		"JSON":       []byte(`"` + strings.Repeat("a", maxDiagnosedBody-2) + `"`),
		"too long":   bytes.Repeat([]byte("a"), maxDiagnosedBody+1),
	} {
		t.Run(name, func(t *testing.T) {
			s, r := open(t, "github", secrets...), post(string(body))()
			for i := range 100 {
				r.Header = append(r.Header, Field{"X-Forwarded-Host", fmt.Sprint(i)})
			}
			tries, hashed, largest := 0, 0, 0
			s.diagnose(r, s.recipe, true, func(_ []byte, url string, body []byte) bool {
				tries++
				hashed += len(url) + len(body)
				largest = max(largest, len(body))
				return false
			})
			if tries > 400 || hashed > diagnosisBudget || largest > 5<<20/2 {
				t.Errorf("%d tries over %d bytes, the largest %d", tries, hashed, largest)
			}
			if len(body) > maxDiagnosedBody && tries > 0 {
				t.Errorf("%d tries for a body that is too long", tries)
			}
		})
	}
}

// TestDiagnosisNeverPasses: a variant that matches is a refusal all the same.
func TestDiagnosisNeverPasses(t *testing.T) {
	s, r := open(t, "github", "s"), post("x")()
	v := s.diagnose(r, s.recipe, true, func([]byte, string, []byte) bool { return true })
	if v.OK() || v.Secret != -1 {
		t.Errorf("%+v", v)
	}
	if v := s.diagnoseBody(r, func([]byte) bool { return true }); v.OK() {
		t.Errorf("%+v", v)
	}
}

// TestChallengeOnlyOnceVerified: Slack's handshake is signed, so nobody else gets an answer.
func TestChallengeOnlyOnceVerified(t *testing.T) {
	s, r := open(t, "slack", "s"), post(`{"type":"url_verification","challenge":"<script>"}`)()
	if a := s.Challenge(r, false); a != nil {
		t.Errorf("answered before it was verified: %s", a.Body)
	}
	a := s.Challenge(r, true)
	if a == nil || string(a.Body) != "<script>" || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("answered %+v", a)
	}
	for _, body := range []string{``, `{}`, `[]`, `{"type":"url_verification"}`, `{"type":"url_verification","challenge":{}}`, `{"type":"x","challenge":"y"}`, `null`} {
		r.Body = []byte(body)
		if a := s.Challenge(r, true); a != nil {
			t.Errorf("%s is answered %s", body, a.Body)
		}
	}
}

func TestCheckSource(t *testing.T) {
	err := Check(nil, &hark.Source{Scheme: "gihtub"})
	if err == nil || !strings.Contains(err.Error(), "github") {
		t.Errorf("%v", err)
	}
	if err := Check(nil, &hark.Source{Scheme: "none", Secrets: []hark.SigningSecret{secret("x")}}); err == nil {
		t.Error("none takes a secret")
	}
	if _, err := Open(nil, &hark.Source{Scheme: "future"}); err == nil {
		t.Error("an unknown scheme was opened")
	}
	if _, err := Open(nil, &hark.Source{Scheme: "hmac", Settings: []byte(`{}`)}); err == nil {
		t.Error("a source without what it needs was opened")
	}
}

func TestCannotSign(t *testing.T) {
	for scheme, secret := range map[string]string{"sendgrid": p256Public(0), "standard": "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="} {
		err := open(t, scheme, secret).Sign(post("{}")(), signedAt)
		if e, ok := err.(*hark.Error); !ok || e.Code != "cannot-sign" {
			t.Errorf("%s: %v", scheme, err)
		}
	}
	if err := open(t, "github").Sign(post("{}")(), signedAt); err == nil {
		t.Error("signed without a secret")
	}
}

func TestBodyMember(t *testing.T) {
	for _, c := range []struct{ body, path, want string }{
		{`{"a":{"b":"x"}}`, "a.b", "x"}, {`{"a":12345678901234567890}`, "a", "12345678901234567890"}, {`{"a":true}`, "a", "true"},
		{`{"a":null}`, "a", ""}, {`{"a":{}}`, "a", ""}, {`{"a":[1]}`, "a.0", ""}, {`{"a":1}`, "a.b", ""}, {`[]`, "a", ""}, {``, "a", ""},
		{`{"a":1}x`, "a", ""}, {`{"a":"\u0041"}`, "a", "A"}, {`{"":1}`, "", "1"}, {strings.Repeat(`{"a":`, 20000), "a", ""},
	} {
		if got, ok := bodyMember([]byte(c.body), c.path); got != c.want || ok != (c.want != "") {
			t.Errorf("%.40s at %s: %q %v", c.body, c.path, got, ok)
		}
	}
}

func TestTarget(t *testing.T) {
	for url, want := range map[string]string{"https://a": "/", "https://a/b?c=%20": "/b?c=%20", "https://a?b": "?b", "/x": "/x"} {
		if got := target(url); got != want {
			t.Errorf("%s: %s", url, got)
		}
	}
}

// TestDiagnosisOfFormsReadsThemOnce: dozens of URLs are tried with each secret, and
// reading a form is dear: a stranger could buy a second of ours with a few kilobytes.
func TestDiagnosisOfFormsReadsThemOnce(t *testing.T) {
	s := opened(t, nil, "twilio", "", "one", "two", "three", "four")
	var form strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&form, "a%d=b%d&", i, i)
	}
	r := &Request{Method: "POST", URL: "https://hooks.example.com/in/x?y=1", Received: signedAt, Body: []byte(form.String()),
		Header: Header{{"Host", "a.example"}, {"X-Forwarded-Host", "b.example"}, {"X-Original-Host", "c.example"},
			{"Content-Type", "application/x-www-form-urlencoded"}, {twilioSignature, strings.Repeat("A", 27) + "="}}}
	if got := verdict(s, r); got != NoSecretMatches {
		t.Fatal(got)
	}
	one := testing.AllocsPerRun(1, func() { twilioParameters(r) })
	if all := testing.AllocsPerRun(1, func() { verdict(s, r) }); all > 30*one {
		t.Errorf("a refusal costs as much as %.0f readings of the form", all/one)
	}
}
