package scheme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
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
	// same reports whether two requests are the same to the provider, although bytes differ.
	same func(a, b *Request) bool
	// partOfBody is for schemes that sign a part of the body: a changed one may pass or not.
	partOfBody bool
	// query is for schemes that read the query without signing the URL.
	query bool
	// tolerance and pastOnly are what the recipe does not say.
	tolerance time.Duration
	pastOnly  bool
	// ownTimes is for schemes that tell when a signature ends, and have tests of their own.
	ownTimes bool
	// env is what the source is opened with; nil for nothing outside.
	env *Env
	// unsigned schemes let every request pass.
	unsigned bool

	deliveryID string // of request, once signed
	freshID    bool   // signing makes a new one
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

// postForm is a request with a form.
func postForm(body string, header ...Field) func() *Request {
	return func() *Request {
		r := post(body, header...)()
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		return r
	}
}

const (
	whsecOne = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	whsecTwo = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	whskOne  = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
)

var firstFixtures = map[string][]fixture{
	"github": {{
		secrets:    [2]string{"gh-first-secret", "gh-second-secret"},
		request:    post(`{"action":"opened","number":7}`, Field{"X-GitHub-Event", "pull_request"}, Field{"X-GitHub-Delivery", "5b7e0e32"}),
		deliveryID: "5b7e0e32",
	}},
	"gitlab": {{
		name:       "signature",
		secrets:    [2]string{whsecOne, whsecTwo},
		request:    post(`{"object_kind":"push","ref":"refs/heads/main"}`, Field{"webhook-id", "a1b2"}, Field{"Idempotency-Key", "a1b2"}, Field{"X-Gitlab-Event", "Push Hook"}),
		headers:    []string{"webhook-id", "webhook-timestamp", "webhook-signature"},
		tolerance:  5 * time.Minute,
		deliveryID: "a1b2",
		badSecrets: []string{"whsec_", "whsec_c2hvcnQ=", "whsec_no base64"},
	}, {
		name:         "token",
		secrets:      [2]string{"gl-first-token", "gl-second-token"},
		request:      post(`{"object_kind":"push"}`, Field{"Idempotency-Key", "a1b3"}),
		headers:      []string{"X-Gitlab-Token"},
		unsignedBody: true,
		deliveryID:   "a1b3",
		badSecrets:   []string{" padded", "line\nbreak"},
	}},
	"stripe": {{
		secrets:     [2]string{"whsec_test_first", "whsec_test_second"},
		request:     post(`{"id":"evt_1","object":"event","type":"invoice.paid"}`),
		deliveryID:  "evt_1",
		badSettings: map[string]string{`{"tolerance":"0s"}`: "tolerance", `{"tolerance":"25h"}`: "tolerance", `{"header":"X"}`: "header"},
	}, {
		name:       "tolerance",
		settings:   `{"tolerance":"2h"}`,
		secrets:    [2]string{"whsec_test_first", "whsec_test_second"},
		request:    post(`{"id":"evt_2"}`),
		deliveryID: "evt_2",
	}},
	"slack": {{
		secrets:    [2]string{"8f742231b10e8888", "e6b19c573432dcc6"},
		request:    post(`{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}`),
		deliveryID: "Ev1",
	}},
	"shopify": {{
		secrets:    [2]string{"shpss_first", "shpss_second"},
		request:    post(`{"id":820982911946154508}`, Field{"X-Shopify-Topic", "orders/create"}, Field{"X-Shopify-Event-Id", "98880550"}),
		deliveryID: "orders/create 98880550",
	}},
	"twilio": {{
		name:       "form",
		secrets:    [2]string{"12345", "another-auth-token"},
		request:    postForm("To=%2B18005551212&From=%2B14158675309&Body=Hi+you%21&Media=a&Media=b", Field{"I-Twilio-Idempotency-Token", "d3f4"}),
		headers:    []string{twilioSignature},
		url:        true,
		same:       sameTwilio,
		deliveryID: "d3f4",
	}, {
		name:    "json",
		secrets: [2]string{"12345", "another-auth-token"},
		request: post(`{"property": "value", "boolean": true}`),
		headers: []string{twilioSignature},
		url:     true,
		same:    sameTwilio,
	}},
	"sendgrid": {{
		secrets:    [2]string{p256Public(0), p256Public(1)},
		sign:       signSendgrid,
		request:    post(`[{"email":"ann@example.com","event":"open","sg_event_id":"e1"}]`),
		headers:    []string{sendgridSignature, sendgridTimestamp},
		deliveryID: "d8d121f4a2433b717a62d3caaeaa04b64153b0dee3e44e3562eafc4caea422d2",
		badSecrets: []string{"no key", "MFkw", base64.StdEncoding.EncodeToString([]byte("no key either"))},
	}, {
		name:       "tolerance",
		settings:   `{"tolerance":"1h"}`,
		tolerance:  time.Hour,
		secrets:    [2]string{p256Public(0), p256Public(1)},
		sign:       signSendgrid,
		request:    post(`[]`),
		headers:    []string{sendgridSignature, sendgridTimestamp},
		deliveryID: "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
	}},
	"standard": {{
		name:       "v1",
		secrets:    [2]string{whsecOne, whsecTwo},
		request:    post(`{"type":"order.paid"}`, Field{"webhook-id", "msg_1"}),
		headers:    []string{"webhook-id", "webhook-timestamp", "webhook-signature"},
		tolerance:  5 * time.Minute,
		deliveryID: "msg_1",
		badSecrets: []string{"whsec_", "whsec_c2hvcnQ=", "whpk_AAAA", "whsk_AAAA", "secret with spaces"},
	}, {
		name:       "v1a",
		secrets:    [2]string{whskOne, whsecTwo},
		request:    post(`{"type":"order.paid"}`, Field{"webhook-id", "msg_1"}),
		headers:    []string{"webhook-id", "webhook-timestamp", "webhook-signature"},
		tolerance:  5 * time.Minute,
		deliveryID: "msg_1",
	}, {
		name:     "svix",
		settings: `{"tolerance":"1m"}`,
		secrets:  [2]string{whsecOne, whsecTwo},
		request: post(`{"type":"user.created"}`, Field{"svix-id", "msg_2"}, Field{"svix-timestamp", "1"},
			Field{"svix-signature", "v1,replaced"}, Field{"webhook-id", "not this one"}),
		headers:    []string{"svix-id", "svix-timestamp", "svix-signature"},
		tolerance:  time.Minute,
		deliveryID: "msg_2",
	}},
	"hmac": {{
		name: "full",
		settings: `{"header":"X-Sig","prefix":"v2=","separator":";","algorithm":"sha512","encoding":"base64url","key":"hex","signed":"{method}\\n{path}\\n{id}.{ts}.{header.x-kind}.{body}",
			"id_header":"X-Id","time_entry":"t=","time_format":"unix-ms","tolerance":"90s","delivery_id":"header.X-Id"}`,
		secrets:    [2]string{"00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"},
		request:    post(`{"a":1}`, Field{"X-Id", "id-1"}, Field{"X-Kind", "order"}),
		deliveryID: "id-1",
		badSecrets: []string{"not hex", "0011223"},
		badSettings: map[string]string{
			`{}`:                                   "settings.header",
			`{"header":"X Sig"}`:                   "settings.header",
			`{"header":"X","signed":"{a}"}`:        "settings.signed",
			`{"header":"X","signed":"{body"}`:      "settings.signed",
			`{"header":"X","signed":"{ts}"}`:       "settings.signed",
			`{"header":"X","time_header":"Y"}`:     "settings.signed",
			`{"header":"X","signed":"{ts}{body}"}`: "settings.signed",
			`{"header":"X","signed":"{id}{body}"}`: "settings.id_header",
			`{"header":"X","id_header":"Y"}`:       "settings.id_header",
			`{"header":"X","signed":"{ts}{body}","time_header":"Y","time_entry":"t=","separator":",","prefix":"v="}`: "settings.time_header",
			`{"header":"X","signed":"{ts}{body}","time_entry":"t=","prefix":"v="}`:                                   "settings.separator",
			`{"header":"X","signed":"{ts}{body}","time_entry":"t=","separator":","}`:                                 "settings.prefix",
			`{"header":"X","algorithm":"md5"}`:                                                                       "settings.algorithm",
			`{"header":"X","delivery_id":"id"}`:                                                                      "settings.delivery_id",
			`{"header":"X","delivery_id":"header."}`:                                                                 "settings.delivery_id",
		},
	}, {
		name:       "least",
		settings:   `{"header":"X-Signature","encoding":"hex-upper","algorithm":"sha1","delivery_id":"body.meta.id"}`,
		secrets:    [2]string{"first", "second"},
		request:    post(`{"meta":{"id":42}}`),
		deliveryID: "42",
	}, {
		name:     "time in the body",
		settings: `{"header":"X-Signature","encoding":"base64","key":"whsec","time_body":"meta.at","time_format":"rfc3339","signed":"{url}{body}"}`,
		secrets:  [2]string{whsecOne, whsecTwo},
		request:  post(`{"meta":{"at":"2026-03-14T15:09:26Z"}}`),
	}, {
		name:     "time in a header",
		settings: `{"header":"X-Signature","time_header":"X-At","signed":"{ts}:{body}","time_format":"rfc3339","key":"base64"}`,
		secrets:  [2]string{"Zmlyc3Q=", "c2Vjb25k"},
		request:  post(``),
	}},
	"token": {{
		secrets:      [2]string{"tok-first-1", "tok-second-2"},
		request:      post(`{}`),
		headers:      []string{"X-Webhook-Token"},
		unsignedBody: true,
		badSecrets:   []string{" padded", "padded\t", "a\nb"},
		badSettings: map[string]string{
			`{"in":"cookie"}`: "settings.in", `{"name":"a b"}`: "settings.name", `{"in":"bearer","name":"X"}`: "settings.name",
			`{"user":"ann"}`: "settings.user", `{"in":"basic","user":"a:b"}`: "settings.user",
		},
	}, {
		name:         "header",
		settings:     `{"name":"X-Api-Key"}`,
		secrets:      [2]string{"tok-first-1", "tok-second-2"},
		request:      post(`{}`),
		headers:      []string{"X-Api-Key"},
		unsignedBody: true,
	}, {
		name:         "bearer",
		settings:     `{"in":"bearer"}`,
		secrets:      [2]string{"tok-first-1", "tok-second-2"},
		request:      post(`{}`),
		headers:      []string{"Authorization"},
		same:         sameAuthorization,
		unsignedBody: true,
	}, {
		name:         "basic",
		settings:     `{"in":"basic","user":"ann"}`,
		secrets:      [2]string{"tok-first-1", "tok-second-2"},
		request:      post(`{}`),
		headers:      []string{"Authorization"},
		same:         sameAuthorization,
		unsignedBody: true,
	}, {
		name:         "query",
		settings:     `{"in":"query"}`,
		secrets:      [2]string{"tok-first-1", "tok-second-2"},
		request:      post(`{}`),
		query:        true,
		unsignedBody: true,
	}},
	"none": {{request: post(`{}`), unsigned: true}},
}

// sameTwilio: fields are signed as they read, not as they were written.
func sameTwilio(a, b *Request) bool {
	x, v := twilioParameters(a)
	y, w := twilioParameters(b)
	return isForm(a) && v.Reason == "" && w.Reason == "" && x == y && slices.Contains(withAndWithoutPort(a.URL), b.URL)
}

// sameAuthorization: the word before the credentials is in any case (RFC 9110, 11.1).
func sameAuthorization(a, b *Request) bool {
	x, rest, _ := strings.Cut(a.Header.Get("Authorization"), " ")
	y, other, _ := strings.Cut(b.Header.Get("Authorization"), " ")
	return strings.EqualFold(x, y) && rest == other
}

// p256 makes the same keys each time.
func p256(number int) *ecdsa.PrivateKey {
	d := sha256.Sum256([]byte{byte(number)})
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d[:])
	if err != nil {
		panic(err)
	}
	return key
}

func p256Public(number int) string {
	der, err := x509.MarshalPKIXPublicKey(p256(number).Public())
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func signSendgrid(t testing.TB, r *Request, number int, at time.Time) {
	t.Helper()
	ts := strconv.FormatInt(at.Unix(), 10)
	sum := sha256.Sum256(append([]byte(ts), r.Body...))
	signature, err := ecdsa.SignASN1(rand.Reader, p256(number), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(sendgridTimestamp, ts)
	r.Header.Set(sendgridSignature, base64.StdEncoding.EncodeToString(signature))
}
