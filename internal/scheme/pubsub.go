package scheme

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

const (
	googleKeys = "https://www.googleapis.com/oauth2/v3/certs"
	// tokenLeeway is how far clocks may be apart when a token's times are judged.
	tokenLeeway = time.Minute
)

var googleIssuers = []string{"https://accounts.google.com", "accounts.google.com"}

// pubsub: a JWT of Google in Authorization: RS256 by one of Google's published keys, for
// our audience, of the service account that the subscription was given
// (docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions).
//
// Anyone at Google Cloud can have a token for any audience, with a service account of
// their own: so the e-mail address is needed. The body is not signed.
var pubsub = Scheme{
	Name: "pubsub", Title: "Google Cloud Pub/Sub", Secrets: NoSecrets, Topic: "pubsub.message",
	Help: "Push subscriptions with authentication. Google's public keys are fetched; there is no secret.",
	Fields: []setting.Field{
		{Key: "email", Type: setting.Text, Title: "Service account", Required: true, Example: "push@project.iam.gserviceaccount.com",
			Help: "the service account of the push subscription"},
		{Key: "audience", Type: setting.Text, Title: "Audience", Example: "https://hooks.example.com/in/…",
			Help: "the audience of the push subscription; without it, the URL that was called, which is Google's default"},
	},
	Setup: []string{
		"Pub/Sub → Subscriptions → Create subscription, delivery type: Push",
		"Endpoint URL: {url}",
		"Enable authentication, with the service account of the source's setting email",
	},
	verify:     verifyPubsub,
	deliveryID: idInBody("message.messageId"),
}

func verifyPubsub(ctx context.Context, s *Source, r *Request) Verdict {
	if _, v := s.needed(r, "Authorization"); v.Reason == HeaderMissing {
		return refused(HeaderMissing, "there is no header Authorization: enable authentication on the push subscription")
	}
	token, v := bearer(s, r)
	if v.Reason != "" {
		return v
	}
	p, err := parseToken(token)
	if err != nil {
		return refused(Malformed, "the token cannot be one of Google: %v", err)
	}
	if s.env == nil || s.env.Fetch == nil {
		return refused(Unavailable, "Google's keys cannot be fetched here")
	}
	text, err := s.env.Fetch(ctx, googleKeys)
	if err != nil {
		return refused(Unavailable, "Google's keys could not be fetched: %v", err)
	}
	keys, err := parseKeySet(text)
	if err != nil {
		return refused(Unavailable, "Google's keys could not be read: %v", err)
	}
	if !p.verify(keys) {
		return refused(NoSecretMatches, "none of Google's keys signed the token")
	}
	var t idToken
	if err := json.Unmarshal(p.claims, &t); err != nil {
		return refused(Malformed, "the token's claims are not those of Google")
	}
	return s.judgePubsub(&t, r)
}

// judgePubsub judges what a token says that Google signed.
func (s *Source) judgePubsub(t *idToken, r *Request) Verdict {
	withoutQuery, _, _ := strings.Cut(r.URL, "?")
	audience := s.values.Text("audience")
	expires, ok := seconds(t.Expires)
	switch {
	case !slices.Contains(googleIssuers, t.Issuer):
		return refused(NoSecretMatches, "the token's issuer is not Google's accounts")
	case !ok:
		return refused(Malformed, "the token never expires")
	case r.Received.After(expires.Add(tokenLeeway)):
		return refused(TooOld, "the token expired %s ago", span(r.Received.Sub(expires)))
	}
	for _, from := range []*json.Number{t.IssuedAt, t.NotBefore} {
		if at, ok := seconds(from); ok && at.After(r.Received.Add(tokenLeeway)) {
			return refused(TooNew, "the token is valid in %s only: compare the clocks", span(at.Sub(r.Received)))
		}
	}
	switch {
	case audience != "" && !slices.Contains(t.Audience, audience):
		return refused(NoSecretMatches, "the token is for another audience than the source's setting audience")
	case audience == "" && !slices.Contains(t.Audience, r.URL) && !slices.Contains(t.Audience, withoutQuery):
		return refused(URLChanged, "the token is for another audience than the URL that was called: set audience to the push subscription's")
	case !t.EmailVerified || t.Email != s.values.Text("email"):
		return refused(NoSecretMatches, "the token is of %s, not of the source's setting email", setting.Clip(cmp.Or(t.Email, "nobody")))
	}
	return passed(-1)
}

// seconds reads a NumericDate (RFC 7519, 2).
func seconds(n *json.Number) (time.Time, bool) {
	if n == nil {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 1e12 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}
