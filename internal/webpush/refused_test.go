package webpush

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestSubscriptions(t *testing.T) {
	type vector struct {
		Name, Text, Canonical, Field string
		Reason                       Reason
	}
	for _, v := range vectors[vector](t, "subscriptions.json") {
		t.Run(v.Name, func(t *testing.T) {
			s, err := ParseSubscription([]byte(v.Text))
			if v.Reason != "" {
				e, ok := err.(*Error)
				if !ok || e.Reason != v.Reason || e.Field != v.Field {
					t.Fatalf("error %v (%s), want %s of %s", err, ReasonOf(err), v.Reason, v.Field)
				}
				return
			}
			text, err2 := s.MarshalJSON()
			if err != nil || err2 != nil || string(text) != v.Canonical {
				t.Fatalf("canonical\n%s %v %v\nwant\n%s", text, err, err2, v.Canonical)
			}
			if again, err := ParseSubscription(text); err != nil || again != s {
				t.Errorf("the canonical form is read as %v, %v", again, err)
			}
		})
	}
	if _, err := ParseSubscription([]byte(`{"endpoint":"https://push.example.net/` + strings.Repeat("x", MaxEndpoint) + `"}`)); ReasonOf(err) != MalformedEndpoint {
		t.Errorf("a long endpoint: %v", err)
	}
	if _, err := ParseSubscription([]byte(strings.Repeat(" ", 9<<10) + "{}")); ReasonOf(err) != TooLarge {
		t.Errorf("a long text: %v", err)
	}
}

func TestOrigin(t *testing.T) {
	for endpoint, want := range map[string]string{
		"https://push.example.net/p/1":       "https://push.example.net",
		"HTTPS://Push.Example.Net:443/p?x=y": "https://push.example.net",
		"https://push.example.net:8443/p":    "https://push.example.net:8443",
		"https://push.example.net:/p":        "https://push.example.net",
		"http://127.0.0.1:80/p":              "http://127.0.0.1",
		"http://[::1]:8080/p":                "http://[::1]:8080",
		"https://[2001:db8::1]:443/p":        "https://[2001:db8::1]",
	} {
		if got, err := Origin(endpoint); got != want || err != nil {
			t.Errorf("%s has the origin %q, %v; want %s", endpoint, got, err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	type vector struct {
		Name, Encoding, Encryption string
		CryptoKey                  string `json:"crypto_key"`
		Body                       octets
		Reason                     Reason
	}
	_, agent := vectors[pair](t, "rfc8291.json")[0].ends(t)
	for _, v := range vectors[vector](t, "open-refused.json") {
		t.Run(v.Name, func(t *testing.T) {
			got, err := agent.Open(Encrypted{Encoding: v.Encoding, Encryption: v.Encryption, CryptoKey: v.CryptoKey, Body: v.Body})
			if ReasonOf(err) != v.Reason || got != nil {
				t.Errorf("%q, %v (%s); want %s", got, err, ReasonOf(err), v.Reason)
			}
		})
	}
}

func TestVAPIDCredentials(t *testing.T) {
	type vector struct {
		Name, Authorization string
		CryptoKey           string `json:"crypto_key"`
		MessageKey          octets `json:"message_key"`
		Audiences           []string
		Now                 int64
		Reason              Reason
	}
	v := NewVerifier(8) // one for all: no verdict is of another's credential
	for range 2 {
		for _, c := range vectors[vector](t, "vapid-more.json") {
			claims, err := v.Verify(VAPIDHeader{Authorization: c.Authorization, CryptoKey: c.CryptoKey, MessageKey: c.MessageKey}, c.Audiences, time.Unix(c.Now, 0))
			if ReasonOf(err) != c.Reason || (err == nil) != (c.Reason == "") {
				t.Errorf("%s: %v (%s); want %s", c.Name, err, ReasonOf(err), c.Reason)
			}
			if err == nil && claims.ID() == "" || err != nil && claims.Audiences != nil {
				t.Errorf("%s: claims %+v", c.Name, claims)
			}
		}
	}
}

func TestSubjects(t *testing.T) {
	for sub, why := range map[string]string{
		"mailto:push@hark.dev":        "",
		"mailto:a.b+push@mail.hark.x": "",
		"https://hark.dev/contact":    "",
		"https://hark.dev":            "",
		"":                            "is empty",
		"mailto:x@localhost":          "nobody outside can reach",
		"mailto:x@host.local":         "nobody outside can reach",
		"https://app.internal":        "nobody outside can reach",
		"https://localhost:8080":      "nobody outside can reach",
		"mailto:me@example":           "nobody outside can reach",
		"mailto: <a@hark.dev>":        "has a space",
		"mailto:<a@hark.dev>":         "brackets",
		"mailto:a":                    "not one mail address",
		"mailto:@hark.dev":            "not one mail address",
		"mailto:a@b@hark.dev":         "not one mail address",
		"mailto:a@hark.dev,b@c.dev":   "not one mail address",
		"mailto:a@hark":               "no domain of the internet",
		"mailto:a@hark..dev":          "no domain of the internet",
		"mailto:a@192.0.2.1":          "address instead of a domain",
		"https://[2001:db8::1]/":      "address instead of a domain",
		"http://hark.dev":             "begins neither",
		"a@hark.dev":                  "begins neither",
		"https://u:p@hark.dev":        "begins neither",
		"mailto:" + strings.Repeat("a", 300) + "@hark.dev": "too long",
	} {
		err := CheckSubject(sub)
		if why == "" && err != nil || why != "" && (ReasonOf(err) != BadSubject || !strings.Contains(err.Error(), why)) {
			t.Errorf("%q: %v; want %q", sub, err, why)
		}
	}
}

func TestKeyTexts(t *testing.T) {
	k := GenerateKey()
	if len(k.Public()) != 87 || len(k.ID()) != 12 || !strings.HasPrefix(k.Reveal(), "vapid_") {
		t.Errorf("key %s %s", k.Public(), k.ID())
	}
	for _, text := range []string{k.Reveal(), strings.TrimPrefix(k.Reveal(), "vapid_"), strings.TrimPrefix(k.Reveal(), "vapid_") + "="} {
		if again, err := ParseKey(text); err != nil || again.Public() != k.Public() || again.ID() != k.ID() {
			t.Errorf("%d characters: %v", len(text), err)
		}
	}
	for text, want := range map[string]Reason{
		"": KeySize, "vapid_": KeySize, "vapid_AAAA": KeySize, "vapid_!!!!": MalformedBase64,
		"vapid_" + encoding.EncodeToString(make([]byte, 32)):                KeyMismatch, // zero
		encoding.EncodeToString([]byte(strings.Repeat("\xff", 32))):         KeyMismatch, // above the order
		"vapid_" + encoding.EncodeToString(make([]byte, 33)):                KeySize,
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" + strings.Repeat("A", 200): KeySize,
	} {
		if _, err := ParseKey(text); ReasonOf(err) != want {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
	r := NewReceiverKey()
	if again, err := ParseReceiverKey(r.Text()); err != nil || len(r.Text()) != 64 || again.Subscription("x") != r.Subscription("x") {
		t.Errorf("receiver key: %v", err)
	}
	for text, want := range map[string]Reason{"": KeySize, "AAAA": KeySize, encoding.EncodeToString(make([]byte, 48)): KeyMismatch} {
		if _, err := ParseReceiverKey(text); ReasonOf(err) != want {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}

// Private keys do not print.
func TestSecretsDoNotPrint(t *testing.T) {
	k, r := GenerateKey(), NewReceiverKey()
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "key", k, "receiver", r)
	for _, v := range []any{k, r, struct{ K, R any }{k, r}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			fmt.Fprintf(&b, verb, v)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		b.Write(text)
	}
	scalar, _ := k.private.Bytes()
	for _, secret := range []string{k.Reveal()[6:], r.Text()[:20], fmt.Sprintf("%x", scalar), fmt.Sprint(k.private.D), fmt.Sprint(scalar)} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("a secret is printed: %s", b.String())
		}
	}
}
