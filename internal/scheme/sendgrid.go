package scheme

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/harkhq/hark/internal/setting"
)

const (
	sendgridSignature = "X-Twilio-Email-Event-Webhook-Signature"
	sendgridTimestamp = "X-Twilio-Email-Event-Webhook-Timestamp"
)

// sendgrid: ECDSA P-256 over SHA-256 of time and raw body, in base64 of ASN.1 DER; the
// secret is SendGrid's public key (twilio.com/docs/sendgrid/for-developers/
// tracking-events/getting-started-event-webhook-security-features). SendGrid names no
// tolerance and tries for a day, so there is none unless it is set.
var sendgrid = Scheme{
	Name: "sendgrid", Title: "SendGrid", Secrets: PublicKey, Topic: "sendgrid.events",
	Help:       "The Event Webhook: deliveries, bounces, opens and clicks, several in one request.",
	Fields:     []setting.Field{toleranceField("")},
	SecretHelp: "the Verification Key that SendGrid shows once Signed Event Webhook is on",
	Setup: []string{
		"Settings → Mail Settings → Event Webhooks → Create new webhook",
		"Post URL: {url}",
		"Security features → Signed Event Webhook: on; save, and give its Verification Key to the source",
	},
	checkSecret: func(secret string) string {
		if _, err := parseP256(secret); err != nil {
			return err.Error()
		}
		return ""
	},
	verify: verifySendgrid,
	// The ids are those of the events in it, so the same body is the same delivery.
	deliveryID: func(_ *Source, r *Request) string {
		sum := sha256.Sum256(r.Body)
		return hex.EncodeToString(sum[:])
	},
}

func verifySendgrid(_ context.Context, s *Source, r *Request) Verdict {
	text, v := s.needed(r, sendgridSignature)
	if v.Reason != "" {
		return v
	}
	ts, v := s.needed(r, sendgridTimestamp)
	if v.Reason != "" {
		return v
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(signature) != text {
		return refused(Malformed, "%s is not base64", sendgridSignature)
	}
	at, ok := (&recipe{}).parseTime(ts)
	if !ok || ts != strconv.FormatInt(at.Unix(), 10) {
		return refused(Malformed, "%s holds no time (seconds since 1970)", sendgridTimestamp)
	}
	// Nothing stands between time and body: a digit could be moved from one to the other.
	if len(r.Body) > 0 && r.Body[0] >= '0' && r.Body[0] <= '9' {
		return refused(Malformed, "the body begins with a digit, and SendGrid's is a JSON array")
	}
	if allowed := s.values.Duration("tolerance"); allowed > 0 {
		if v := withinTolerance(at, r.Received, allowed, false); v.Reason != "" {
			return v
		}
	}
	for i, secret := range s.live(r.Received) {
		if key, err := parseP256(secret); err == nil && sendgridSigned(key, ts, r.Body, signature) {
			return passed(i)
		}
	}
	return s.diagnoseBody(r, func(body []byte) bool {
		for _, secret := range s.live(r.Received) {
			if key, err := parseP256(secret); err == nil && sendgridSigned(key, ts, body, signature) {
				return true
			}
		}
		return false
	})
}

func sendgridSigned(key *ecdsa.PublicKey, ts string, body, signature []byte) bool {
	h := sha256.New()
	h.Write([]byte(ts))
	h.Write(body)
	return ecdsa.VerifyASN1(key, h.Sum(nil), signature)
}

// parseP256 reads base64 of a P-256 key in SubjectPublicKeyInfo (RFC 5480).
func parseP256(text string) (*ecdsa.PublicKey, error) {
	bad := errors.New("must be the base64 of a P-256 public key, as it is shown: one line that begins with MFkw")
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, bad
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, bad
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve.Params().BitSize != 256 {
		return nil, bad
	}
	return key, nil
}
