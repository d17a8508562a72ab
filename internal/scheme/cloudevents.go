package scheme

import (
	"context"
	"crypto/rand"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

const (
	webhookOrigin = "WebHook-Request-Origin"
	webhookRate   = "WebHook-Request-Rate"
)

// cloudEvents: the CloudEvents specification "HTTP 1.1 Web Hooks for Event Delivery":
// a bearer token in the header Authorization (3.1) or in the query as access_token
// (3.2), and the handshake by OPTIONS (4), by which a sender asks for leave. Consent is
// the header WebHook-Allowed-Origin; the status alone is none. Rates are told, and kept
// by the sender. The asynchronous consent through a callback URL is not supported.
var cloudEvents = Scheme{
	Name: "cloudevents", Title: "CloudEvents", Secrets: SharedSecret, Topic: "cloudevents.{header.ce-type}",
	Help: "Senders of CloudEvents, such as Azure Event Grid. In structured mode the type is in the body: set the topic to " +
		"cloudevents.{body.type}.",
	SecretHelp: "the token that the sender puts into Authorization: Bearer …, or into the query as access_token",
	Generate:   rand.Text,
	Fields: []setting.Field{
		{Key: "origins", Type: setting.Text, Title: "Origins", Default: "*", Example: "eventgrid.azure.net, events.example.com",
			Help: "DNS names of the systems that may send, with commas between them; * for any that has the token"},
		{Key: "rate", Type: setting.Int, Title: "Rate", Min: 0, Max: 1_000_000,
			Help: "requests per minute that a sender is granted when it asks; 0 for any"},
	},
	checkSecret: tokenFault,
	Setup: []string{
		"Webhook URL: {url}",
		"Token (Authorization: Bearer): {secret}",
	},
	verify: func(_ context.Context, s *Source, r *Request) Verdict {
		token, v := bearer(s, r)
		if v.Reason != "" {
			return v
		}
		return s.matchToken(r, token, nil)
	},
	sign: func(s *Source, r *Request, _ time.Time) error {
		r.Header.Set("Authorization", "Bearer "+s.secrets[0].Value.Reveal())
		return nil
	},
	unsignedChallenge: true,
	challenge:         grantCloudEvents,
	deliveryID: func(_ *Source, r *Request) string {
		source, id := r.Header.Get("ce-source"), r.Header.Get("ce-id")
		if id == "" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents+json") {
			source, _ = bodyMember(r.Body, "source")
			id, _ = bodyMember(r.Body, "id")
		}
		if id == "" {
			return ""
		}
		return source + " " + id // together they are unique (CloudEvents 1.0, 3.1)
	},
}

// bearer returns the token of the header, or else of the query.
func bearer(s *Source, r *Request) (string, Verdict) {
	if _, ok := r.Header.Lookup("Authorization"); !ok {
		if token := queryValue(r, "access_token"); token != "" {
			return token, Verdict{}
		}
		return "", refused(HeaderMissing, "there is neither a header Authorization nor access_token in the query")
	}
	return s.authorization(r, "Bearer")
}

// grantCloudEvents answers the handshake. A refusal has no header WebHook-Allowed-Origin.
func grantCloudEvents(s *Source, r *Request) *Answer {
	origin, asks := r.Header.Lookup(webhookOrigin)
	if r.Method != http.MethodOptions || !asks {
		return nil
	}
	if !hostName(origin) || !allowsOrigin(s.values.Text("origins"), origin) {
		return answerText(http.StatusForbidden, "this origin may not send here: the source's setting origins does not name it\n")
	}
	a := &Answer{Status: http.StatusOK, Header: Header{{"Allow", "POST"}, {"WebHook-Allowed-Origin", origin}}}
	if asked, ok := r.Header.Lookup(webhookRate); ok {
		a.Header.Set("WebHook-Allowed-Rate", grantedRate(asked, s.values.Int("rate")))
	}
	return a
}

// grantedRate is the lower of what the sender asks for and what the source allows;
// "*" where neither is a number.
func grantedRate(asked string, allowed int64) string {
	rate, err := strconv.ParseInt(asked, 10, 32)
	if err != nil || rate <= 0 || allowed > 0 && allowed < rate {
		rate = allowed
	}
	if rate <= 0 {
		return "*"
	}
	return strconv.FormatInt(rate, 10)
}

// hostName reports whether text could be a DNS name: it is repeated in the answer.
func hostName(text string) bool {
	return text != "" && len(text) <= 253 && plainToken(text, ".")
}

func allowsOrigin(allowed, origin string) bool {
	for name := range strings.SplitSeq(allowed, ",") {
		if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, origin) {
			return true
		}
	}
	return false
}
