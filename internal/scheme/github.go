package scheme

import "crypto/rand"

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
	recipe:     &recipe{header: "X-Hub-Signature-256", prefix: "sha256="},
	deliveryID: idInHeader("X-GitHub-Delivery"),
}
