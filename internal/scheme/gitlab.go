package scheme

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/webhook"
)

const (
	gitlabToken = "X-Gitlab-Token"
	whsec       = "whsec_"
)

// gitlab signs as Standard Webhooks do when the webhook has a signing token (whsec_…),
// and else shows its secret token in a header. A request with a signature is judged by
// the signature alone (docs.gitlab.com/user/project/integrations/webhooks).
var gitlab = Scheme{
	Name: "gitlab", Title: "GitLab", Secrets: SharedSecret, Topic: "gitlab.{body.object_kind}",
	Help:       "Webhooks of projects and groups, and system hooks, of gitlab.com and your own GitLab.",
	Fields:     []setting.Field{toleranceField("5m")},
	SecretHelp: "the webhook's signing token (whsec_…), or on a GitLab without signing tokens its secret token",
	Generate:   func() string { return webhook.GenerateSecret().Reveal() },
	Setup: []string{
		"Project → Settings → Webhooks → Add new webhook",
		"URL: {url}",
		"Signing token: {secret} (where there is no such field: Secret token, any long text that does not begin with whsec_)",
	},
	checkSecret: func(secret string) string {
		if strings.HasPrefix(secret, whsec) {
			return standardSecretFault(secret)
		}
		return tokenFault(secret)
	},
	verify: func(_ context.Context, s *Source, r *Request) Verdict {
		if _, signed := r.Header.Lookup(webhookHeaders.signature); signed {
			return verifyStandard(s, r, webhookHeaders)
		}
		given, v := s.needed(r, gitlabToken)
		if v.Reason != "" {
			return v
		}
		return s.matchToken(r, given, func(secret string) bool { return !strings.HasPrefix(secret, whsec) })
	},
	// Not X-Gitlab-Event-UUID: events that another webhook set off share it.
	deliveryID: func(_ *Source, r *Request) string {
		return cmp.Or(r.Header.Get(webhookHeaders.id), r.Header.Get("Idempotency-Key"))
	},
	sign: func(s *Source, r *Request, at time.Time) error {
		if secret := s.secrets[0].Value.Reveal(); strings.HasPrefix(secret, whsec) {
			return signStandard(r, secret, webhookHeaders, at)
		} else {
			r.Header.Set(gitlabToken, secret)
		}
		return nil
	},
}

// matchToken compares a token with the secrets that may be one, nil for all.
func (s *Source) matchToken(r *Request, given string, may func(secret string) bool) Verdict {
	found, trimmed, tried := -1, false, false
	for i, secret := range s.live(r.Received) {
		if may != nil && !may(secret) {
			continue
		}
		tried = true
		if sameText(given, secret) && found < 0 {
			found = i
		}
		trimmed = trimmed || sameText(strings.TrimSpace(given), strings.TrimSpace(secret))
	}
	switch {
	case found >= 0:
		return passed(found)
	case !tried:
		return refused(NoSecretMatches, "the request shows a token and no signature, and the source has signing tokens only: enter one at %s", s.Scheme.Title)
	case trimmed:
		return refused(NoSecretMatches, "the token matches but for white space around it: enter it again at the sender and at the source")
	}
	return refused(NoSecretMatches, "the token is another: compare the one at %s with the source's", s.Scheme.Title)
}

// sameText compares in a time that tells nothing, not even of the lengths.
func sameText(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return hmac.Equal(x[:], y[:])
}

// tokenFault says why a text cannot stand in a header, "" if it can.
func tokenFault(secret string) string {
	if strings.TrimSpace(secret) != secret {
		return "must not have white space around it: headers lose it on their way"
	}
	if strings.ContainsFunc(secret, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "must not hold line breaks or other control characters"
	}
	return ""
}
