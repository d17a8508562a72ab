package scheme

import (
	"cmp"
	"context"
	"crypto/rand"
)

// giteaHeaders carry the signature, each under its own name. A fork sends those of its
// forebears, too: Forgejo all three, Gitea the last two.
var giteaHeaders = []string{"X-Forgejo-Signature", "X-Gitea-Signature", "X-Gogs-Signature"}

// gitea: HMAC-SHA256 of the raw body, bare hex, the secret as text
// (docs.gitea.com/usage/repository/webhooks; forgejo.org/docs/latest/user/webhooks).
// The first header that is there decides: a wrong one is not rescued by the next.
var gitea = Scheme{
	Name: "gitea", Title: "Gitea, Forgejo or Gogs", Secrets: SharedSecret,
	Topic:      "gitea.{header.X-Gitea-Event}",
	Help:       "Webhooks of repositories, organisations and users.",
	SecretHelp: "the Secret of the webhook's settings; choose a long random one",
	Generate:   rand.Text,
	Setup: []string{
		"Repository → Settings → Webhooks → Add webhook",
		"Target URL: {url}",
		"HTTP method: POST, content type: application/json",
		"Secret: {secret}",
	},
	recipe: &recipe{header: "X-Gitea-Signature"},
	verify: func(_ context.Context, s *Source, r *Request) Verdict {
		by := *s.recipe
		for _, name := range giteaHeaders {
			if _, ok := r.Header.Lookup(name); ok {
				by.header = name
				break
			}
		}
		return by.verify(s, r)
	},
	deliveryID: func(_ *Source, r *Request) string {
		return cmp.Or(r.Header.Get("X-Forgejo-Delivery"), r.Header.Get("X-Gitea-Delivery"), r.Header.Get("X-Gogs-Delivery"))
	},
}
