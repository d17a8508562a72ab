package webhook_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/webhook"
)

// payload is a body in a vector file: text, or base64 for what is none.
type payload struct {
	Body       string `json:"body"`
	BodyBase64 []byte `json:"body_base64"`
}

func (p payload) bytes() []byte {
	if p.BodyBase64 != nil {
		return p.BodyBase64
	}
	return []byte(p.Body)
}

func vectors[T any](t testing.TB, file string) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		About   string
		Vectors []T
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(f.Vectors) == 0 {
		t.Fatalf("%s: no vectors", file)
	}
	return f.Vectors
}

type signVector struct {
	Name      string
	Keys      []string
	ID        string
	Timestamp int64
	Signature string
	payload
}

func signer(t testing.TB, keys ...string) *webhook.Signer {
	t.Helper()
	var all []webhook.SigningKey
	for _, text := range keys {
		k, err := webhook.ParseSigningKey(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	s, err := webhook.NewSigner(all...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifier(t testing.TB, keys ...string) *webhook.Verifier {
	t.Helper()
	var all []webhook.VerifyingKey
	for _, text := range keys {
		k, err := webhook.ParseVerifyingKey(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	v, err := webhook.NewVerifier(all...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSignVectors(t *testing.T) {
	for _, c := range vectors[signVector](t, "sign.json") {
		t.Run(c.Name, func(t *testing.T) {
			s := signer(t, c.Keys...)
			// Twice: the second time with reused state.
			for range 2 {
				got, err := s.Sign(c.ID, time.Unix(c.Timestamp, 999), c.bytes())
				if err != nil {
					t.Fatal(err)
				}
				if got != c.Signature {
					t.Fatalf("signature\n got %s\nwant %s", got, c.Signature)
				}
			}
		})
	}
}

type verifyVector struct {
	Name       string
	Keys       []string
	Now        int64
	Tolerance  int64
	AcceptSvix bool `json:"accept_svix"`
	Headers    [][2]string
	Expect     string
	payload
}

func (c verifyVector) header() http.Header {
	h := http.Header{}
	for _, pair := range c.Headers {
		h.Add(pair[0], pair[1])
	}
	return h
}

func (c verifyVector) verifier(t testing.TB) *webhook.Verifier {
	v := verifier(t, c.Keys...)
	v.Tolerance = time.Duration(c.Tolerance) * time.Second
	v.AcceptSvix = c.AcceptSvix
	return v
}

func TestVerifyVectors(t *testing.T) {
	for _, c := range vectors[verifyVector](t, "verify.json") {
		t.Run(c.Name, func(t *testing.T) {
			v := c.verifier(t)
			for range 2 {
				msg, err := v.VerifyAt(time.Unix(c.Now, 0), c.header(), c.bytes())
				got := "ok"
				if err != nil {
					got = string(webhook.ReasonOf(err))
				}
				if got != c.Expect {
					t.Fatalf("got %s (%v), want %s", got, err, c.Expect)
				}
				if err == nil {
					checkMessage(t, c, msg)
				} else if msg.ID != "" || msg.Body != nil {
					t.Fatalf("a refused message was returned: %+v", msg)
				}
			}
		})
	}
}

func checkMessage(t *testing.T, c verifyVector, msg webhook.Message) {
	t.Helper()
	h := c.header()
	id, at := h.Get("webhook-id"), h.Get("webhook-timestamp")
	if at == "" {
		id, at = h.Get("svix-id"), h.Get("svix-timestamp")
	}
	if msg.ID != id {
		t.Errorf("id %q, want %q", msg.ID, id)
	}
	if got := json.Number(at); got != json.Number(timestampText(msg.Timestamp)) {
		t.Errorf("timestamp %v, want %v", msg.Timestamp, at)
	}
	if !bytes.Equal(msg.Body, c.bytes()) {
		t.Errorf("body %q, want %q", msg.Body, c.bytes())
	}
}

// The same vectors over a connection, wherever HTTP lets their headers through.
func TestVerifyVectorsRequest(t *testing.T) {
	for _, c := range vectors[verifyVector](t, "verify.json") {
		t.Run(c.Name, func(t *testing.T) {
			v := c.verifier(t)
			if c.Now != 0 {
				v.Tolerance = -1 // VerifyRequest looks at the real clock
			}
			if c.Expect == "too_old" || c.Expect == "too_new" {
				v.Tolerance = time.Minute
			}
			r := httptest.NewRequest("POST", "/", bytes.NewReader(c.bytes()))
			r.Header = c.header()
			_, err := v.VerifyRequest(r, 0)
			got := "ok"
			if err != nil {
				got = string(webhook.ReasonOf(err))
			}
			want := c.Expect
			if want == "too_new" {
				want = "too_old" // every vector is in the past by now
			}
			if got != want {
				t.Fatalf("got %s (%v), want %s", got, err, want)
			}
		})
	}
}

type keyVector struct {
	Name      string
	Kind      string
	Text      string
	Expect    string
	Canonical string
	Public    string
}

func TestKeyVectors(t *testing.T) {
	for _, c := range vectors[keyVector](t, "keys.json") {
		t.Run(c.Name, func(t *testing.T) {
			var canonical, public string
			var err error
			switch c.Kind {
			case "secret":
				var k webhook.Secret
				k, err = webhook.ParseSecret(c.Text)
				canonical = k.Reveal()
			case "private":
				var k webhook.PrivateKey
				k, err = webhook.ParsePrivateKey(c.Text)
				canonical, public = k.Reveal(), k.Public().String()
			case "public":
				var k webhook.PublicKey
				k, err = webhook.ParsePublicKey(c.Text)
				canonical = k.String()
			default:
				t.Fatalf("kind %q", c.Kind)
			}
			got := "ok"
			if err != nil {
				got = string(webhook.ReasonOf(err))
				noPartOf(t, err.Error(), c.Text)
			}
			if got != c.Expect {
				t.Fatalf("got %s (%v), want %s", got, err, c.Expect)
			}
			if c.Canonical != "" && canonical != c.Canonical {
				t.Errorf("written again as %s, want %s", canonical, c.Canonical)
			}
			if c.Public != "" && public != c.Public {
				t.Errorf("public key %s, want %s", public, c.Public)
			}
		})
	}
}

// noPartOf fails if a message repeats six characters in a row of a key.
func noPartOf(t *testing.T, message, key string) {
	t.Helper()
	for _, p := range []string{"whsec_", "whsk_", "whpk_"} {
		key = strings.ReplaceAll(key, p, "\x00")
	}
	for i := 0; i+6 <= len(key); i++ {
		if strings.Contains(message, key[i:i+6]) {
			t.Fatalf("%q repeats %q of the key", message, key[i:i+6])
		}
	}
}
