package destination

import (
	"maps"
	"net/http"
	"time"

	"github.com/harkhq/hark"
)

// fixture is what the conformance suite needs to know of a kind. Every kind has one.
type fixture struct {
	// good settings, fullest first; "%URL%" is the test's server.
	good []string
	// secrets are the texts in the first of good that nobody may see.
	secrets []string
	// bad settings and the fields at fault, in order.
	bad []badSettings
	// ok is the body of an answer of success; empty for any.
	ok string
	// answers are what a room's app says besides the status, and what it means.
	answers []answer
}

// answer is one of a chat app's.
type answer struct {
	status int
	header http.Header
	body   string
	want   hark.Outcome
	after  time.Duration
	// says is part of what the owner is told.
	says string
}

type badSettings struct {
	settings string
	fields   []string
}

var fixtures = func() map[string]fixture {
	all := maps.Clone(ownFixtures)
	maps.Copy(all, chatFixtures)
	return all
}()

var ownFixtures = map[string]fixture{
	"webhook": {
		good: []string{
			`{"url":"%URL%/hook?token=Qtoken","method":"PUT","format":"envelope","headers":{"X-Api-Key":"Skey-in-header","x-number":"1"},
			"basic":{"user":"ann","password":"Spassword"},"signature":"v1a","signature_prefix":"svix"}`,
			`{"url":"%URL%","bearer":"Stoken"}`,
			`{"url":"%URL%","method":"GET"}`,
			`{"url":"%URL%","bearer":null,"headers":{}}`,
		},
		secrets: []string{"Skey-in-header", "Spassword", "YW5uOlNwYXNzd29yZA=="},
		bad: []badSettings{
			{`{}`, []string{"settings.url"}},
			{`{"url":""}`, []string{"settings.url"}},
			{`{"url":"ftp://a/"}`, []string{"settings.url"}},
			{`{"url":"//example.com"}`, []string{"settings.url"}},
			{`{"url":"https://ann:pw@example.com"}`, []string{"settings.url"}},
			{`{"url":"https://example.com/#x"}`, []string{"settings.url"}},
			{`{"url":"https://example.com/a b"}`, []string{"settings.url"}},
			{`{"url":"https://example.com/\r\nX: y"}`, []string{"settings.url"}},
			{`{"url":"https://10.0.0.1/"}`, []string{"settings.url"}},
			{`{"url":"https://[fe80::1]/"}`, []string{"settings.url"}},
			{`{"url":"http://169.254.169.254/latest"}`, []string{"settings.url"}},
			{`{"url":"http://2130706433/"}`, []string{"settings.url"}},
			{`{"url":"https://example.com:99999/"}`, []string{"settings.url"}},
			{`{"url":"%URL%","method":"DELETE","format":"xml"}`, []string{"settings.method", "settings.format"}},
			{`{"url":"%URL%","Url":"x","zz":1}`, []string{"settings.Url", "settings.zz"}},
			{`{"url":"%URL%","headers":{"Host":"a"}}`, []string{"settings.headers.Host"}},
			{`{"url":"%URL%","headers":{"content-length":"1","TE":"x","transfer-encoding":"chunked","connection":"close","keep-alive":"1","upgrade":"h2c","expect":"100-continue"}}`,
				[]string{"settings.headers.TE", "settings.headers.connection", "settings.headers.content-length", "settings.headers.expect",
					"settings.headers.keep-alive", "settings.headers.transfer-encoding", "settings.headers.upgrade"}},
			{`{"url":"%URL%","headers":{"webhook-id":"1","Hark-Topic":"1","Webhook-Other":"1"}}`,
				[]string{"settings.headers.Hark-Topic", "settings.headers.Webhook-Other", "settings.headers.webhook-id"}},
			{`{"url":"%URL%","signature_prefix":"svix","headers":{"SVIX-id":"1"}}`, []string{"settings.headers.SVIX-id"}},
			{`{"url":"%URL%","headers":{"A":"x\r\nB: y"}}`, []string{"settings.headers.A"}},
			{`{"url":"%URL%","headers":{"A":"x\u0000"}}`, []string{"settings.headers.A"}},
			{`{"url":"%URL%","headers":{"A\r\nB":"x","":"y","a b":"z","é":"1"}}`,
				[]string{"settings.headers.", "settings.headers.A\r\nB", "settings.headers.a b", "settings.headers.é"}},
			{`{"url":"%URL%","headers":{"x-a":"1","X-A":"2"}}`, []string{"settings.headers.x-a"}},
			{`{"url":"%URL%","headers":{"content-type":"text/plain"}}`, []string{"settings.headers.content-type"}},
			{`{"url":"%URL%","headers":[1],"basic":"x","bearer":{}}`, []string{"settings.headers", "settings.basic", "settings.bearer"}},
			{`{"url":"%URL%","basic":{"user":"","password":"p","x":1}}`, []string{"settings.basic.user", "settings.basic.x"}},
			{`{"url":"%URL%","basic":{"user":"a:b"},"bearer":"t","headers":{"authorization":"x"}}`, []string{"settings.basic.user", "settings"}},
			{`{"url":"%URL%","bearer":"a b"}`, []string{"settings.bearer"}},
			{`{"url":"%URL%","bearer":"[redacted]","headers":{"X":"[redacted]"}}`, []string{"settings.headers.X", "settings.bearer"}},
			{`{"url":"%URL%","signature_prefix":"a_b"}`, []string{"settings.signature_prefix"}},
			{`{"url":"%URL%","signature_prefix":"hark"}`, []string{"settings.signature_prefix"}},
			{`{"url":"%URL%","signature_prefix":""}`, []string{"settings.signature_prefix"}},
			{`{"url":"%URL%","signature":"v2"}`, []string{"settings.signature"}},
		},
	},
	"audience": {
		good: []string{
			`{"app":"shop","title":"{body.from} wrote","body":"{body.text}","link":"/chat/{body.id}","icon":"/icon.png","ttl":"24h","urgency":"high"}`,
			`{}`,
		},
		bad: []badSettings{
			{`{"app":""}`, []string{"settings.app"}},
			{`{"app":"a b"}`, []string{"settings.app"}},
			{`{"app":"a/b"}`, []string{"settings.app"}},
			{`{"title":"{body.","body":"{nope"}`, []string{"settings.title", "settings.body"}},
			{`{"ttl":"800h","urgency":"soon"}`, []string{"settings.ttl", "settings.urgency"}},
			{`{"url":"x"}`, []string{"settings.url"}},
		},
	},
	"pull": {
		good: []string{`{}`, `{"lease":"12h"}`, `{"lease":null}`},
		bad: []badSettings{
			{`{"lease":"13h"}`, []string{"settings.lease"}},
			{`{"lease":"0s"}`, []string{"settings.lease"}},
			{`{"lease":"-1s"}`, []string{"settings.lease"}},
			{`{"lease":30}`, []string{"settings.lease"}},
			{`{"url":"x"}`, []string{"settings.url"}},
		},
	},
}
