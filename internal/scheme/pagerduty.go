package scheme

// pagerduty: "v1=…[,v1=…]", HMAC-SHA256 of the raw body, hex, one for each secret
// (developer.pagerduty.com/docs/webhooks/webhook-signatures).
var pagerduty = Scheme{
	Name: "pagerduty", Title: "PagerDuty", Secrets: SharedSecret, Topic: "pagerduty.{body.event.event_type}",
	Help:       "Webhook subscriptions, version 3.",
	SecretHelp: "the secret that PagerDuty shows once, when the subscription is made",
	Setup: []string{
		"Integrations → Generic Webhooks (v3) → New webhook",
		"Webhook URL: {url}",
		"Copy the secret that is shown into the source",
	},
	recipe:     &recipe{header: "X-PagerDuty-Signature", prefix: "v1=", separator: ","},
	deliveryID: idInBody("event.id"),
}
