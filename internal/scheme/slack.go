package scheme

import (
	"net/http"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

// slack: HMAC-SHA256 over version, time and body
// (docs.slack.dev/authentication/verifying-requests-from-slack).
var slack = Scheme{
	Name: "slack", Title: "Slack", Secrets: SharedSecret, Topic: "slack.{body.event.type}",
	Help:       "Events, slash commands and interactions of a Slack app.",
	Fields:     []setting.Field{toleranceField("5m")},
	SecretHelp: "the Signing Secret under Basic Information of the app's settings",
	Setup: []string{
		"api.slack.com/apps → your app → Basic Information: give the Signing Secret to the source first",
		"Event Subscriptions → Enable Events",
		"Request URL: {url} (Slack checks it at once, and Hark answers)",
	},
	recipe: &recipe{
		header: "X-Slack-Signature", prefix: "v0=", timeHeader: "X-Slack-Request-Timestamp",
		signed: "v0:{ts}:{body}", tolerance: 5 * time.Minute,
	},
	deliveryID: idInBody("event_id"),
	// url_verification is how Slack finds out that the URL is the app's. It is signed
	// (docs.slack.dev/reference/events/url_verification).
	challenge: func(_ *Source, r *Request) *Answer {
		if kind, _ := bodyMember(r.Body, "type"); kind != "url_verification" {
			return nil
		}
		challenge, ok := bodyMember(r.Body, "challenge")
		if !ok {
			return nil
		}
		return &Answer{Status: http.StatusOK, Header: Header{{"Content-Type", "text/plain; charset=utf-8"}}, Body: []byte(challenge)}
	},
}
