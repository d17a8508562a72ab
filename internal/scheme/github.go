package scheme

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

const githubSignature = "X-Hub-Signature-256"

// github: HMAC-SHA256 over the raw body, hex, the secret as text
// (docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries).
var github = Scheme{
	Name: "github", Title: "GitHub", Secrets: SharedSecret, Topic: "github.{header.X-GitHub-Event}",
	Help:       "Webhooks of repositories, organisations and GitHub Apps.",
	SecretHelp: "the Secret of the webhook's settings page; choose a long random one",
	Generate:   rand.Text,
	Setup: []string{
		"Repository → Settings → Webhooks → Add webhook",
		"Payload URL: {url}",
		"Content type: application/json",
		"Secret: {secret}",
	},
	verify: func(_ context.Context, s *Source, r *Request) Verdict {
		given, ok := r.Header.Lookup(githubSignature)
		if !ok {
			return refused(HeaderMissing, "there is no header %s: enter the secret at GitHub, too", githubSignature)
		}
		text, ok := strings.CutPrefix(given, "sha256=")
		sum, err := hex.DecodeString(text)
		if !ok || err != nil || len(sum) != sha256.Size {
			return refused(Malformed, "%s is not sha256= and 64 hex digits", githubSignature)
		}
		for i, secret := range s.live(r.Received) {
			if hmac.Equal(sum, hmacSHA256(secret.Value.Reveal(), r.Body)) {
				return passed(i)
			}
		}
		return refused(NoSecretMatches, "the signature is of another secret or another body: compare the secret at GitHub with the source's")
	},
	deliveryID: func(_ *Source, r *Request) string { return r.Header.Get("X-GitHub-Delivery") },
	sign: func(s *Source, r *Request, _ time.Time) error {
		r.Header.Set(githubSignature, "sha256="+hex.EncodeToString(hmacSHA256(s.secrets[0].Value.Reveal(), r.Body)))
		return nil
	},
}

func hmacSHA256(key string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}
