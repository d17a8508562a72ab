package webhook_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/harkhq/hark/webhook"
)

// What is accepted must be what the signer would have written: same id, same
// time, and one entry that is exactly the signer's.
func FuzzVerify(f *testing.F) {
	for _, c := range vectors[verifyVector](f, "verify.json") {
		h := c.header()
		f.Add(h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature"), c.bytes(), c.AcceptSvix)
	}
	const key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	const public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	s := signer(f, key)
	f.Fuzz(func(t *testing.T, id, at, sig string, body []byte, svix bool) {
		v := verifier(t, key, public)
		v.Tolerance, v.AcceptSvix = -1, svix
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {sig}}
		msg, err := v.VerifyAt(time.Unix(1614265330, 0), h, body)
		if err != nil {
			if webhook.ReasonOf(err) == "" || err.Error() == "" {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		if msg.ID != id || timestampText(msg.Timestamp) != at || !bytes.Equal(msg.Body, body) {
			t.Fatalf("accepted %+v for %q %q", msg, id, at)
		}
		want, err := s.Sign(id, msg.Timestamp, body)
		if err != nil {
			t.Fatalf("accepted what we would not sign: %v", err)
		}
		fields := bytes.SplitSeq([]byte(sig), []byte(" "))
		for entry := range fields {
			if string(entry) == want || bytes.HasPrefix(entry, []byte("v1a,")) {
				return
			}
		}
		t.Fatalf("accepted %q, the signature is %q", sig, want)
	})
}

// Whatever is accepted can be written and read again, and no error tells the key.
func FuzzParseKeys(f *testing.F) {
	for _, c := range vectors[keyVector](f, "keys.json") {
		f.Add(c.Text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := webhook.ParseSecret(s); err == nil {
			again, err := webhook.ParseSecret(k.Reveal())
			if err != nil || again.Reveal() != k.Reveal() {
				t.Fatalf("secret is not read again: %v", err)
			}
		} else if webhook.ReasonOf(err) == "" {
			t.Fatalf("error without a reason: %v", err)
		}
		if k, err := webhook.ParsePrivateKey(s); err == nil {
			if again, err := webhook.ParsePrivateKey(k.Reveal()); err != nil || again.Public() != k.Public() {
				t.Fatalf("private key is not read again: %v", err)
			}
		}
		if k, err := webhook.ParsePublicKey(s); err == nil {
			if again, err := webhook.ParsePublicKey(k.String()); err != nil || again != k {
				t.Fatalf("public key is not read again: %v", err)
			}
		}
		if k, err := webhook.ParseSigningKey(s); (err == nil) != (k != nil) {
			t.Fatalf("key %v, error %v", k, err)
		}
		if k, err := webhook.ParseVerifyingKey(s); (err == nil) != (k != nil) {
			t.Fatalf("key %v, error %v", k, err)
		}
	})
}
