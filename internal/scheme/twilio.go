package scheme

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

const twilioSignature = "X-Twilio-Signature"

// twilio: HMAC-SHA1, base64, over the URL as Twilio was told it and the form's fields
// sorted by name; where the body is no form, the URL holds a digest of it
// (twilio.com/docs/usage/security#validating-requests).
var twilio = Scheme{
	Name: "twilio", Title: "Twilio", Secrets: SharedSecret, Topic: "twilio.request",
	Help:       "Messages, calls and status callbacks. The URL is signed: the server's public URL must be the one that Twilio uses.",
	SecretHelp: "the Auth Token of the account (Account → API keys & tokens)",
	Setup: []string{
		"Phone Numbers → your number → A message comes in / A call comes in → Webhook",
		"URL: {url}",
		"Give the account's Auth Token to the source",
	},
	verify:     verifyTwilio,
	deliveryID: idInHeader("I-Twilio-Idempotency-Token"),
	sign: func(s *Source, r *Request, _ time.Time) error {
		r.URL = withoutBodyDigest(r.URL)
		if !isForm(r) && len(r.Body) > 0 {
			r.URL = withBodyDigest(r.URL, bodyDigest(r.Body))
		}
		signed, v := twilioParameters(r)
		if v.Reason != "" {
			return &hark.Error{Kind: hark.Conflict, Code: "cannot-sign", Msg: v.Detail}
		}
		r.Header.Set(twilioSignature, twilioSum([]byte(s.secrets[0].Value.Reveal()), r.URL, signed))
		return nil
	},
}

func verifyTwilio(_ context.Context, s *Source, r *Request) Verdict {
	given, v := s.needed(r, twilioSignature)
	if v.Reason != "" {
		return v
	}
	if len(given) != base64.StdEncoding.EncodedLen(sha1.Size) {
		return refused(Malformed, "%s holds no signature: it should hold 28 characters of base64", twilioSignature)
	}
	if _, v = twilioParameters(r); v.Reason != "" {
		return v
	}
	forms := twilioForms{request: *r}
	try := func(key []byte, url string, body []byte) bool {
		signed, ok := forms.parameters(url, body)
		return ok && twilioMatches(given, key, url, signed)
	}
	for i, secret := range s.live(r.Received) {
		if try([]byte(secret), r.URL, r.Body) {
			if digest, ok := twilioDigest(r); ok && !hmac.Equal([]byte(digest), []byte(bodyDigest(r.Body))) {
				return refused(BodyChanged, "the body is not the one that was sent: bodySHA256 in the URL does not fit it")
			}
			return passed(i)
		}
	}
	v = s.diagnose(r, &recipe{}, true, try)
	if v == s.noSecretMatches() {
		v.Detail += "; Twilio signs the URL, too, and Hark took it to be " + clip(r.URL)
	}
	return v
}

// twilioMatches tries URL with and without its port: Twilio's servers do not agree on
// which they sign, and its libraries accept both.
func twilioMatches(given string, key []byte, url, parameters string) bool {
	found := false
	for _, u := range withAndWithoutPort(url) {
		found = hmac.Equal([]byte(given), []byte(twilioSum(key, u, parameters))) || found
	}
	return found
}

// twilioForms keeps what the last body's form came to: a diagnosis tries one body with
// dozens of URLs and each secret, and reading a form is dear.
type twilioForms struct {
	request  Request
	read     bool
	digested bool
	signed   string
	ok       bool
}

func (f *twilioForms) parameters(url string, body []byte) (signed string, ok bool) {
	before := f.request.Body
	f.request.URL, f.request.Body = url, body
	_, digested := twilioDigest(&f.request) // all that a URL has to do with it
	same := len(before) == len(body) && (len(body) == 0 || &before[0] == &body[0])
	if !f.read || f.digested != digested || !same {
		parameters, v := twilioParameters(&f.request)
		f.read, f.digested, f.signed, f.ok = true, digested, parameters, v.Reason == ""
	}
	return f.signed, f.ok
}

func twilioSum(key []byte, url, parameters string) string {
	mac := hmac.New(sha1.New, key)
	mac.Write([]byte(url))
	mac.Write([]byte(parameters))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// twilioParameters is what is signed after the URL: name and value of each field,
// sorted, each value of a name once. A body that is neither a form nor has its digest
// in the URL is refused: nothing would prove it.
func twilioParameters(r *Request) (string, Verdict) {
	if _, ok := twilioDigest(r); ok || len(r.Body) == 0 {
		return "", Verdict{}
	}
	if !isForm(r) {
		return "", refused(Malformed, "the body is no form, and the URL has no bodySHA256: nothing proves the body")
	}
	form, err := url.ParseQuery(string(r.Body))
	if err != nil {
		return "", refused(Malformed, "the body is no form that can be read")
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(form)) {
		values := form[name]
		slices.Sort(values)
		for _, value := range slices.Compact(values) {
			b.WriteString(name)
			b.WriteString(value)
		}
	}
	return b.String(), Verdict{}
}

func isForm(r *Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/x-www-form-urlencoded"
}

const twilioDigestName = "bodySHA256"

// twilioDigest is the digest of the body that the URL holds, and whether it holds one.
func twilioDigest(r *Request) (string, bool) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "", false
	}
	query := u.Query()
	return query.Get(twilioDigestName), query.Has(twilioDigestName)
}

func bodyDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

func withBodyDigest(url, digest string) string {
	before := "?"
	if strings.Contains(url, "?") {
		before = "&"
	}
	return url + before + twilioDigestName + "=" + digest
}

// withoutBodyDigest takes out the digest of a body that was there before.
func withoutBodyDigest(absolute string) string {
	before, query, ok := strings.Cut(absolute, "?")
	if !ok {
		return absolute
	}
	kept := slices.DeleteFunc(strings.Split(query, "&"), func(parameter string) bool {
		name, _, _ := strings.Cut(parameter, "=")
		name, err := url.QueryUnescape(name)
		return err == nil && name == twilioDigestName
	})
	if len(kept) == 0 {
		return before
	}
	return before + "?" + strings.Join(kept, "&")
}

// withAndWithoutPort returns a URL as text with the default port of its scheme, if it
// has none, and without any.
func withAndWithoutPort(url string) []string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return []string{url}
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, tail := rest[:end], rest[end:]
	if i := strings.LastIndexByte(host, ':'); i >= 0 && i > strings.LastIndexByte(host, ']') {
		return []string{url, scheme + "://" + host[:i] + tail}
	}
	return []string{url, scheme + "://" + host + defaultPort(scheme) + tail}
}
