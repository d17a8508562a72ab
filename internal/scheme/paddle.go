package scheme

import (
	"time"

	"github.com/harkhq/hark/internal/setting"
)

// paddle: "ts=…;h1=…", HMAC-SHA256 of "ts:body", hex, the key the whole text of the
// secret; several h1 while a secret is replaced
// (developer.paddle.com/webhooks/signature-verification).
//
// Paddle's libraries allow five seconds, which a clock that is a little off would not
// meet; a repeat within our minute is known by its event id.
var paddle = Scheme{
	Name: "paddle", Title: "Paddle", Secrets: SharedSecret, Topic: "paddle.{body.event_type}",
	Help:       "Notifications of Paddle Billing. (Paddle Classic signs in another way, which is not supported.)",
	SecretHelp: "the secret key of the notification destination at Paddle; it begins with pdl_ntfset_",
	Setup: []string{
		"Developer tools → Notifications → New destination, type Webhook",
		"URL: {url}",
		"Copy its secret key into the source",
	},
	Fields:     []setting.Field{toleranceField("1m")},
	recipe:     &recipe{header: "Paddle-Signature", prefix: "h1=", separator: ";", timeEntry: "ts=", signed: "{ts}:{body}", tolerance: time.Minute},
	deliveryID: idInBody("event_id"),
}
