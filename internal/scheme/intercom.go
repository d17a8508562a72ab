package scheme

// intercom: HMAC-SHA1 of the raw body, hex, the key the app's client secret
// (developers.intercom.com/docs/webhooks/setting-up-webhooks, "Signed notifications").
// SHA-1 is broken for collisions, not as an HMAC.
var intercom = Scheme{
	Name: "intercom", Title: "Intercom", Secrets: SharedSecret, Topic: "intercom.{body.topic}",
	Help:       "Topics that an app subscribes to.",
	SecretHelp: "the client secret of the app: Developer Hub → your app → Basic information",
	Setup: []string{
		"Developer Hub → your app → Webhooks",
		"Endpoint URL: {url}",
		"Give the source the app's client secret",
	},
	recipe:     &recipe{header: "X-Hub-Signature", prefix: "sha1=", hash: "sha1"},
	deliveryID: idInBody("id"),
}
