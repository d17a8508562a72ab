package scheme

import (
	"maps"
	"net/netip"
	"testing"
	"time"
)

// fixture is one way to use a scheme, for the conformance suite. Every scheme has one.
type fixture struct {
	name     string // "" where the scheme has one way only
	settings string // JSON; "" for none
	// secrets are two that verify: what the source holds.
	secrets [2]string
	// sign does what the provider does, with the private side of secrets[0] or [1];
	// nil where [Source.Sign] does.
	sign func(t testing.TB, r *Request, secret int, at time.Time)
	// request makes one that is not signed yet.
	request func() *Request

	// headers are those that are signed or are a signature, and url whether the URL is
	// signed, besides what the recipe says. unsignedBody is for schemes that cannot tell
	// whether the body was changed.
	headers      []string
	url          bool
	unsignedBody bool
	// query is for schemes that read the query without signing the URL.
	query bool
	// tolerance and pastOnly are what the recipe does not say.
	tolerance time.Duration
	pastOnly  bool
	// env is what the source is opened with; nil for nothing outside.
	env *Env
	// unsigned schemes let every request pass.
	unsigned bool

	deliveryID string // of request, once signed
	// badSettings and the field at fault in each, and badSecrets.
	badSettings map[string]string
	badSecrets  []string
}

// fixtures holds those of every scheme, by its name.
func fixtures() map[string][]fixture {
	all := maps.Clone(firstFixtures)
	maps.Copy(all, moreFixtures)
	return all
}

// signedAt is the time at which the suite signs and receives.
var signedAt = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// post makes a request as the suite uses them: JSON, at a URL with a query.
func post(body string, header ...Field) func() *Request {
	return func() *Request {
		return &Request{
			Method: "POST", URL: "https://hooks.example.com/in/0a1b2c3d4e5f6g7h8i9j?a=1", Proto: "HTTP/1.1",
			Header:   append(Header{{"Host", "hooks.example.com"}, {"Content-Type", "application/json"}}, header...),
			Body:     []byte(body),
			Remote:   netip.MustParseAddr("192.0.2.7"),
			Received: signedAt,
		}
	}
}

var firstFixtures = map[string][]fixture{
	"github": {{
		secrets:    [2]string{"gh-first-secret", "gh-second-secret"},
		request:    post(`{"action":"opened","number":7}`, Field{"X-GitHub-Event", "pull_request"}, Field{"X-GitHub-Delivery", "5b7e…"}),
		deliveryID: "5b7e…",
	}},
	"none": {{request: post(`{}`), unsigned: true}},
}
