package scheme

import (
	"time"

	"github.com/harkhq/hark/internal/setting"
)

// stripe: HMAC-SHA256 over time and body; the key is the whole text of the secret,
// whsec_ included. Its libraries refuse what is too old and say nothing of the future
// (docs.stripe.com/webhooks#verify-manually).
var stripe = Scheme{
	Name: "stripe", Title: "Stripe", Secrets: SharedSecret, Topic: "stripe.{body.type}",
	Help:       "Webhooks of a Stripe account or of Connect, in snapshot and thin form.",
	Fields:     []setting.Field{toleranceField("5m")},
	SecretHelp: "the Signing secret (whsec_…) that Stripe shows on the webhook's page",
	Setup: []string{
		"Developers → Webhooks → Add destination → Webhook endpoint",
		"Endpoint URL: {url}",
		"Reveal the signing secret and give it to the source",
	},
	recipe: &recipe{
		header: "Stripe-Signature", separator: ",", prefix: "v1=", timeEntry: "t=",
		signed: "{ts}.{body}", tolerance: 5 * time.Minute, pastOnly: true,
	},
	deliveryID: idInBody("id"),
}
