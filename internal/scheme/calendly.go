package scheme

import (
	"crypto/rand"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

// calendly: "t=…,v1=…", HMAC-SHA256 of "t.body", hex, the signing key as text; three
// minutes are advised
// (developer.calendly.com/api-docs/overview/webhooks/webhook-signatures).
var calendly = Scheme{
	Name: "calendly", Title: "Calendly", Secrets: SharedSecret, Topic: "calendly.{body.event}",
	Help:       "Webhook subscriptions of a user or an organisation.",
	SecretHelp: "the signing_key of the webhook subscription; choose a long random one, or copy the OAuth application's",
	Generate:   rand.Text,
	Setup: []string{
		"POST https://api.calendly.com/webhook_subscriptions",
		"\"url\": \"{url}\"",
		"\"signing_key\": \"{secret}\"",
	},
	Fields: []setting.Field{toleranceField("3m")},
	recipe: &recipe{header: "Calendly-Webhook-Signature", prefix: "v1=", separator: ",", timeEntry: "t=", signed: "{ts}.{body}", tolerance: 3 * time.Minute},
}
