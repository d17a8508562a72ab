package scheme

// shopify: HMAC-SHA256 over the raw body, base64; the key is the app's client secret
// (shopify.dev/docs/apps/build/webhooks/subscribe/https).
var shopify = Scheme{
	Name: "shopify", Title: "Shopify", Secrets: SharedSecret, Topic: "shopify.{header.X-Shopify-Topic}",
	Help:       "Webhooks of a Shopify app, or those made in a shop's settings.",
	SecretHelp: "the app's Client secret; of webhooks made in a shop's settings, what stands below their list",
	Setup: []string{
		"Your app's shopify.app.toml → [[webhooks.subscriptions]], or the shop's Settings → Notifications → Webhooks",
		"uri (URL): {url}",
	},
	recipe: &recipe{header: "X-Shopify-Hmac-SHA256", encoding: "base64"},
	// What one action in a shop brings about shares its event id, one webhook for each
	// topic; sent again, both stay the same.
	deliveryID: func(_ *Source, r *Request) string {
		id, topic := r.Header.Get("X-Shopify-Event-Id"), r.Header.Get("X-Shopify-Topic")
		if id == "" || topic == "" {
			return id
		}
		return topic + " " + id
	},
}
