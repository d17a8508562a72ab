package webhook_test

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	official "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/harkhq/hark/webhook"
)

func timestampText(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func bodies() map[string][]byte {
	binary := make([]byte, 4096)
	rand.Read(binary)
	return map[string][]byte{
		"json":    []byte(`{"type":"orders.paid","data":{"id":42,"total":0.0}}`),
		"binary":  binary,
		"empty":   {},
		"1MiB":    bytes.Repeat([]byte("0123456789abcdef"), 1<<16),
		"unicode": []byte("{\"名\":\"花 👩‍🚀 שלום\"}\u0000\r\n"),
	}
}

// The standard's own library is the judge of ours, and we of it.
func TestOfficialLibrary(t *testing.T) {
	secret := webhook.GenerateSecret()
	theirs, err := official.NewWebhook(secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	ours, v := signer(t, secret.Reveal()), verifier(t, secret.Reveal())
	now := time.Now()
	for name, body := range bodies() {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			if err := ours.SetHeader(h, "evt_1", now, body); err != nil {
				t.Fatal(err)
			}
			if err := theirs.Verify(body, h); err != nil {
				t.Errorf("they refuse ours: %v", err)
			}
			sig, err := theirs.Sign("evt_1", now, body)
			if err != nil {
				t.Fatal(err)
			}
			if sig != h.Get(webhook.HeaderSignature) {
				t.Errorf("signatures differ:\nours   %s\ntheirs %s", h.Get(webhook.HeaderSignature), sig)
			}
			h.Set(webhook.HeaderSignature, sig)
			if _, err := v.Verify(h, body); err != nil {
				t.Errorf("we refuse theirs: %v", err)
			}
		})
	}
}

func TestOfficialLibraryRotation(t *testing.T) {
	private := webhook.GeneratePrivateKey()
	next, old := webhook.GenerateSecret(), webhook.GenerateSecret()
	s, err := webhook.NewSigner(private, next, old)
	if err != nil {
		t.Fatal(err)
	}
	h, body := http.Header{}, []byte(`{}`)
	if err := s.SetHeader(h, "evt_1", time.Now(), body); err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Fields(h.Get(webhook.HeaderSignature))); n != 3 {
		t.Fatalf("%d entries, want 3", n)
	}
	for _, secret := range []webhook.Secret{next, old} {
		theirs, _ := official.NewWebhook(secret.Reveal())
		if err := theirs.Verify(body, h); err != nil {
			t.Errorf("they refuse a rotation: %v", err)
		}
	}
}

// Whatever byte is changed, in whatever part, both refuse.
func TestMutations(t *testing.T) {
	secret, private := webhook.GenerateSecret(), webhook.GeneratePrivateKey()
	theirs, err := official.NewWebhook(secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		version string
		sign    string
		with    string
		theirs  bool
	}{
		{"v1", secret.Reveal(), secret.Reveal(), true},
		{"v1a", private.Reveal(), private.Public().String(), false},
	} {
		s, v := signer(t, c.sign), verifier(t, c.with)
		now, body := time.Now(), []byte(`{"a":1}`)
		sig, err := s.Sign("evt_1", now, body)
		if err != nil {
			t.Fatal(err)
		}
		parts := []string{"evt_1", timestampText(now), sig, string(body)}
		refused := func(part int, changed string) {
			t.Helper()
			p := append([]string(nil), parts...)
			p[part] = changed
			h := http.Header{}
			h.Set(webhook.HeaderID, p[0])
			h.Set(webhook.HeaderTimestamp, p[1])
			h.Set(webhook.HeaderSignature, p[2])
			if _, err := v.Verify(h, []byte(p[3])); err == nil {
				t.Fatalf("%s: we accept %q", c.version, p)
			}
			if c.theirs {
				if err := theirs.Verify([]byte(p[3]), h); err == nil {
					t.Fatalf("they accept %q", p)
				}
			}
		}
		for part, text := range parts {
			for i := range len(text) {
				for _, b := range []byte{text[i] ^ 1, text[i] ^ 0x80, '0' + (text[i]-'0'+1)%10, 'A', ' ', '.', ',', 0} {
					if b != text[i] {
						refused(part, text[:i]+string(b)+text[i+1:])
					}
				}
				refused(part, text[:i]+text[i+1:])
			}
			refused(part, "")
			refused(part, text+"0")
			refused(part, "1"+text)
		}
	}
}
