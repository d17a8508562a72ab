package scheme

import (
	"cmp"
	"crypto/rand"
)

// bitbucket: HMAC-SHA256 of the raw body, hex, the secret as text. X-Hub-Signature
// names the algorithm, and it is SHA-256 here, unlike GitHub's header of that name
// (support.atlassian.com/bitbucket-cloud/docs/manage-webhooks, "Secure webhooks"; the
// same on Data Center).
var bitbucket = Scheme{
	Name: "bitbucket", Title: "Bitbucket", Secrets: SharedSecret, Topic: "bitbucket.{header.X-Event-Key}",
	Help:       "Webhooks of repositories and workspaces, Cloud and Data Center.",
	SecretHelp: "the Secret of the webhook's settings; choose a long random one",
	Generate:   rand.Text,
	Setup: []string{
		"Repository → Repository settings → Webhooks → Add webhook",
		"URL: {url}",
		"Secret: {secret}",
	},
	recipe: &recipe{header: "X-Hub-Signature", prefix: "sha256="},
	// Cloud has the one, Data Center the other; a retry has the same.
	deliveryID: func(_ *Source, r *Request) string {
		return cmp.Or(r.Header.Get("X-Request-UUID"), r.Header.Get("X-Request-Id"))
	},
}
