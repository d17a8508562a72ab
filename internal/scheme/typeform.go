package scheme

import "crypto/rand"

// typeform: HMAC-SHA256 of the raw body, base64, the secret as text
// (typeform.com/developers/webhooks/secure-your-webhooks).
var typeform = Scheme{
	Name: "typeform", Title: "Typeform", Secrets: SharedSecret, Topic: "typeform.{body.event_type}",
	Help:       "Answers to a form.",
	SecretHelp: "the Secret of the form's webhook; choose a long random one",
	Generate:   rand.Text,
	Setup: []string{
		"Form → Connect → Webhooks → Add a webhook",
		"Endpoint: {url}",
		"Edit → Secret: {secret}, then switch it on",
	},
	recipe:     &recipe{header: "Typeform-Signature", prefix: "sha256=", encoding: "base64"},
	deliveryID: idInBody("event_id"),
}
