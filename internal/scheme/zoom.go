package scheme

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

// zoom: HMAC-SHA256 of "v0:ts:body", hex; the event endpoint.url_validation, signed
// like the others, wants its plainToken back with the HMAC of it
// (developers.zoom.us/docs/api/webhooks, "Verify webhook events" and "Validate your
// webhook endpoint").
//
// Only a verified validation is answered: unsigned, the answer would sign anything,
// and a plainToken could be "v0:…".
var zoom = Scheme{
	Name: "zoom", Title: "Zoom", Secrets: SharedSecret, Topic: "zoom.{body.event}",
	Help:       "Event subscriptions of an app. The validation of the endpoint, every 72 hours, is answered.",
	SecretHelp: "the Secret Token of the app: Access → Token",
	Setup: []string{
		"App Marketplace → your app → Access → Event subscription → Add",
		"Event notification endpoint URL: {url}",
		"Give the source the Secret Token before you press Validate",
	},
	Fields: []setting.Field{toleranceField("5m")},
	recipe: &recipe{header: "x-zm-signature", prefix: "v0=", timeHeader: "x-zm-request-timestamp", signed: "v0:{ts}:{body}", tolerance: 5 * time.Minute},
	challenge: func(s *Source, r *Request) *Answer {
		token, ok := bodyMember(r.Body, "payload.plainToken")
		if event, _ := bodyMember(r.Body, "event"); event != "endpoint.url_validation" || !ok || !plainToken(token, "+/=") {
			return nil
		}
		v := s.recipe.verify(s, r) // which secret it was
		if !v.OK() {
			return nil
		}
		mac := hmac.New(sha256.New, s.macs[v.Secret].key)
		mac.Write([]byte(token))
		return answerJSON(map[string]string{"plainToken": token, "encryptedToken": hex.EncodeToString(mac.Sum(nil))})
	},
}
