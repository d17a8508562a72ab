package scheme

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
)

// xTwitter: HMAC-SHA256 of the raw body, base64, the key the app's consumer secret; every hour
// a GET with crc_token wants the same of the token
// (docs.x.com/x-api/webhooks/quickstart).
//
// Whoever knows the URL can have tokens signed, with the key that signs bodies. So no
// token is answered that could be a body, and no body passes that could be a token.
var xTwitter = Scheme{
	Name: "x", Title: "X (Twitter)", Secrets: SharedSecret, Topic: "x.activity",
	Help:       "Webhooks of the X API: account activity and filtered stream. The challenge-response check is answered.",
	SecretHelp: "the consumer secret (API key secret) of the app at developer.x.com; not a bearer or access token",
	Setup: []string{
		"Give the source the consumer secret of your app first: X checks the URL at once",
		"POST https://api.x.com/2/webhooks with {\"url\": \"{url}\"}",
	},
	recipe: &recipe{header: "X-Twitter-Webhooks-Signature", prefix: "sha256=", encoding: "base64"},
	verify: func(_ context.Context, s *Source, r *Request) Verdict {
		v := s.recipe.verify(s, r)
		if v.OK() && !bytes.HasPrefix(r.Body, []byte("{")) {
			return refused(Malformed, "the body is no JSON object, as all events of X are")
		}
		return v
	},
	unsignedChallenge: true,
	challenge: func(s *Source, r *Request) *Answer {
		token := queryValue(r, "crc_token")
		if r.Method != http.MethodGet || !plainToken(token, "+/=") {
			return nil
		}
		for _, secret := range s.live(r.Received) {
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte(token))
			return answerJSON(map[string]string{"response_token": "sha256=" + base64.StdEncoding.EncodeToString(mac.Sum(nil))})
		}
		return nil
	},
}

// plainToken reports whether a challenge is short and made of letters, digits, - and _
// (and the others given): then it may be repeated to whoever sent it.
func plainToken(text, others string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return text != "" && len(text) <= 256 && strings.Trim(text, letters+others) == ""
}

// answerJSON is a handshake's answer in JSON.
func answerJSON(v any) *Answer {
	body, err := json.Marshal(v)
	if err != nil {
		return nil // never: these are maps of texts
	}
	return &Answer{Status: http.StatusOK, Header: Header{{"Content-Type", "application/json"}}, Body: body}
}
