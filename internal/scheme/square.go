package scheme

// square: HMAC-SHA256 of the notification URL, as it is entered at Square, and the raw
// body, base64, the signature key as text
// (developer.squareup.com/docs/webhooks/step3validate).
var square = Scheme{
	Name: "square", Title: "Square", Secrets: SharedSecret, Topic: "square.{body.type}",
	Help:       "Webhook subscriptions of an application. The URL is signed: Hark's public URL must be the one that Square calls.",
	SecretHelp: "the Signature Key of the webhook subscription: Developer Console → Webhooks → Subscriptions",
	Setup: []string{
		"Developer Console → your application → Webhooks → Subscriptions → Add subscription",
		"URL: {url}",
		"Copy its signature key into the source",
	},
	recipe:     &recipe{header: "x-square-hmacsha256-signature", encoding: "base64", signed: "{url}{body}"},
	deliveryID: idInBody("event_id"),
}
