package scheme

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

// token is a secret that every request shows: nothing in the request is signed, so use
// what signs wherever the sender can.
var token = Scheme{
	Name: "token", Title: "Token", Secrets: SharedSecret, Topic: "inbound",
	Help: "The sender shows a secret, in a header, as a bearer token, as a password (basic), or in the URL's query. It proves who sends, not that nothing was changed.",
	Fields: []setting.Field{
		{Key: "in", Type: setting.Text, Title: "Where", Default: "header", Enum: []string{"header", "bearer", "basic", "query"},
			Help: "where the token stands: a header of its own, Authorization: Bearer, the password of Authorization: Basic, or a query parameter"},
		{Key: "name", Type: setting.Text, Title: "Name", Example: "X-Api-Key", MaxBytes: 128,
			Help: "of the header (X-Webhook-Token if it is left out) or of the query parameter (token)"},
		{Key: "user", Type: setting.Text, Title: "User", MaxBytes: 256, Help: "who must go with a password (basic); any if it is left out"},
	},
	SecretHelp: "the token or password; choose a long random one",
	Generate:   rand.Text,
	Setup: []string{
		"URL: {url}",
		"Header X-Webhook-Token: {secret}; or as the source's settings say (bearer token, password, or {url}?token={secret})",
	},
	check: func(c *setting.Check, v setting.Values) {
		in := v.Text("in")
		if name := v.Text("name"); name != "" && in == "header" && !isHeaderName(name) {
			c.Fault("settings.name", "must be the name of a header: letters, digits and -")
		} else if name != "" && in != "header" && in != "query" {
			c.Fault("settings.name", "is for header and query only")
		}
		if user := v.Text("user"); user != "" && in != "basic" {
			c.Fault("settings.user", "is for basic only")
		} else if strings.Contains(user, ":") {
			c.Fault("settings.user", "must not hold a colon")
		}
	},
	checkSecret: tokenFault,
	verify: func(_ context.Context, s *Source, r *Request) Verdict {
		given, v := s.tokenOf(r)
		if v.Reason != "" {
			return v
		}
		return s.matchToken(r, given, nil)
	},
	sign: signToken,
}

// tokenName is the header or query parameter.
func (s *Source) tokenName() string {
	switch name := s.values.Text("name"); {
	case name != "":
		return name
	case s.values.Text("in") == "query":
		return "token"
	}
	return "X-Webhook-Token"
}

// tokenOf finds what r shows.
func (s *Source) tokenOf(r *Request) (string, Verdict) {
	switch s.values.Text("in") {
	case "bearer":
		return s.authorization(r, "Bearer")
	case "basic":
		text, v := s.authorization(r, "Basic")
		if v.Reason != "" {
			return "", v
		}
		both, err := base64.StdEncoding.Strict().DecodeString(text)
		user, password, ok := strings.Cut(string(both), ":")
		if err != nil || !ok || base64.StdEncoding.EncodeToString(both) != text {
			return "", refused(Malformed, "Authorization: Basic does not hold user:password in base64")
		}
		if want := s.values.Text("user"); want != "" && !sameText(user, want) {
			return "", refused(NoSecretMatches, "the user is not the one in the source's settings")
		}
		return password, Verdict{}
	case "query":
		return s.queryToken(r)
	}
	return s.needed(r, s.tokenName())
}

// authorization returns what follows the word in the header Authorization (RFC 9110, 11.6.2).
func (s *Source) authorization(r *Request, word string) (string, Verdict) {
	value, v := s.needed(r, "Authorization")
	if v.Reason != "" {
		return "", v
	}
	given, text, ok := strings.Cut(value, " ")
	if !ok || !strings.EqualFold(given, word) {
		return "", refused(Malformed, "the header Authorization does not begin with %s", word)
	}
	return text, v
}

func (s *Source) queryToken(r *Request) (string, Verdict) {
	name := s.tokenName()
	u, err := url.Parse(r.URL)
	if err != nil {
		return "", refused(Malformed, "the URL cannot be read")
	}
	query, err := url.ParseQuery(u.RawQuery)
	switch values := query[name]; {
	case err != nil:
		return "", refused(Malformed, "the URL's query cannot be read")
	case len(values) == 0:
		return "", refused(HeaderMissing, "the URL has no query parameter %s", name)
	case len(values) > 1:
		return "", refused(Malformed, "the URL has the query parameter %s %d times", name, len(values))
	default:
		return values[0], Verdict{}
	}
}

func signToken(s *Source, r *Request, _ time.Time) error {
	secret := s.secrets[0].Value.Reveal()
	switch s.values.Text("in") {
	case "bearer":
		r.Header.Set("Authorization", "Bearer "+secret)
	case "basic":
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(s.values.Text("user")+":"+secret)))
	case "query":
		u, err := url.Parse(r.URL)
		if err != nil {
			return err
		}
		query := u.Query()
		query.Set(s.tokenName(), secret)
		u.RawQuery = query.Encode()
		r.URL = u.String()
	default:
		r.Header.Set(s.tokenName(), secret)
	}
	return nil
}

// isHeaderName reports whether name is a token of RFC 9110, 5.6.2.
func isHeaderName(name string) bool {
	return name != "" && strings.Trim(name, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
