package scheme

import (
	"crypto/subtle"
	"net/http"

	"github.com/harkhq/hark/internal/setting"
)

// meta: HMAC-SHA256 of the raw body (as sent, with its \u escapes), hex, the key the
// app secret. A new callback URL is asked by GET to repeat hub.challenge, if
// hub.verify_token is the one that was agreed
// (developers.facebook.com/docs/graph-api/webhooks/getting-started).
var meta = Scheme{
	Name: "meta", Title: "Meta (Facebook, Instagram, WhatsApp)", Secrets: SharedSecret, Topic: "meta.{body.object}",
	Help:       "Webhooks of the Graph API: pages, Instagram, Messenger, WhatsApp Business.",
	SecretHelp: "the App Secret: App settings → Basic",
	Fields: []setting.Field{{Key: "verify_token", Type: setting.Text, Title: "Verify token", Required: true, Secret: true, MaxBytes: 256,
		Help: "any text of your choice: the same as in the field Verify token at Meta", Example: "a-long-random-text"}},
	Setup: []string{
		"App dashboard → Webhooks → Subscribe (or WhatsApp → Configuration)",
		"Callback URL: {url}",
		"Verify token: the source's setting verify_token",
	},
	recipe:            &recipe{header: "X-Hub-Signature-256", prefix: "sha256="},
	unsignedChallenge: true,
	challenge: func(s *Source, r *Request) *Answer {
		challenge := queryValue(r, "hub.challenge")
		if r.Method != http.MethodGet || queryValue(r, "hub.mode") != "subscribe" || !plainToken(challenge, "") {
			return nil
		}
		given, own := queryValue(r, "hub.verify_token"), s.values.Text("verify_token")
		if own == "" || subtle.ConstantTimeCompare([]byte(given), []byte(own)) != 1 {
			return answerText(http.StatusForbidden, "hub.verify_token is not the source's verify_token\n")
		}
		return answerText(http.StatusOK, challenge)
	},
}

// answerText is a handshake's answer that no browser takes for a page.
func answerText(status int, body string) *Answer {
	return &Answer{Status: status, Body: []byte(body),
		Header: Header{{"Content-Type", "text/plain; charset=utf-8"}, {"X-Content-Type-Options", "nosniff"}}}
}
