package auth

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

const (
	// maxJWT bounds a token before anything looks into it, in bytes. Browsers and
	// proxies take no larger cookie or header line than this.
	maxJWT = 8 << 10
	// maxName bounds what a token calls itself, its user and its key.
	maxName = 255
	// maxAudiences and maxSelectors bound the lists of a token.
	maxAudiences = 32
	maxSelectors = 256
	// leeway is how far another machine's clock may be ahead of ours (nbf, iat).
	leeway = 30 * time.Second
)

// jwt is a token taken apart (RFC 7515, compact form), not verified.
type jwt struct {
	alg, kid  string
	signed    string // what the signature is of
	claims    string // still base64url
	signature []byte
}

// splitJWT takes a token apart. Of what the header says it believes nothing: which key
// is asked follows from kid, and the key knows its algorithm.
func splitJWT(token string) (t jwt, err error) {
	if len(token) > maxJWT {
		return t, badToken("it is larger than 8 KiB")
	}
	head, rest, _ := strings.Cut(token, ".")
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.IndexByte(signature, '.') >= 0 {
		return t, badToken("it does not have three parts: was it cut off when it was copied?")
	}
	t.signed, t.claims = token[:len(head)+1+len(body)], body
	raw, ok := decodePart(head)
	if !ok || !t.readHeader(raw) {
		return t, badToken("its header is not JSON in base64url")
	}
	if t.alg == critical {
		return t, badToken("its header has \"crit\": extensions that must be understood, and none are")
	}
	if t.signature, ok = decodePart(signature); !ok {
		return t, badToken("its signature is not base64url")
	}
	return t, nil
}

// critical stands in alg for a header that asks for extensions.
const critical = "\x00crit"

func (t *jwt) readHeader(raw []byte) bool {
	if !utf8.Valid(raw) {
		return false
	}
	crit, twice := false, false
	ok := hark.EachJSONMember(raw, func(name, value []byte) bool {
		var to *string
		switch string(name) {
		case "alg":
			to = &t.alg
		case "kid":
			to = &t.kid
		case "crit":
			crit = true
			return true
		default:
			return true
		}
		twice = twice || *to != ""
		return readText(value, to) && len(*to) <= maxName
	})
	if crit {
		t.alg = critical
	}
	return ok && !twice
}

// decodePart is strict: a part has one spelling, without padding or line breaks, which
// encoding/base64 would pass over.
func decodePart(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil
}

// claims are what a verified token says, as far as it concerns us.
type claims struct {
	issuer, user, id string
	audiences        []string
	// In seconds since 1970; 0 for what is not there, but for expires, of which ends tells.
	expires, notBefore, issued float64
	ends                       bool

	hark               bool // there is a claim "hark"
	tenant             string
	by                 hark.KeyID
	subscribe, publish []hark.Pattern
	mercure            *MercureClaim
}

// MercureClaim is what a token says to a Mercure hub (its claim "mercure"). Selectors
// are judged by that transport.
type MercureClaim struct {
	Publish, Subscribe []string
	// Payload is shown in subscription events; nil for none.
	Payload json.RawMessage
}

// parseClaims reads the claims of a token whose signature is right. Names count exactly
// as they are written: encoding/json would take "EXP" for "exp". What is there twice, and
// what has another type than it must, is refused rather than guessed.
func parseClaims(raw []byte) (*claims, error) {
	c, why := &claims{}, ""
	if !utf8.Valid(raw) {
		return nil, badToken("its claims are not UTF-8")
	}
	seen := uint(0)
	ok := eachMember(raw, func(name, value []byte) bool {
		bit, read := c.reader(string(name))
		if read == nil || string(value) == "null" && string(name) != "exp" { // of exp, null is no way to say never
			return true
		}
		if seen&bit != 0 {
			why = "it has the claim " + string(name) + " twice"
			return false
		}
		seen |= bit
		if why = read(value); why != "" {
			why = "its claim " + string(name) + " " + why
		}
		return why == ""
	})
	switch {
	case why != "":
		return nil, badToken(why)
	case !ok:
		return nil, badToken("its claims are not a JSON object")
	}
	return c, nil
}

// reader returns what reads a claim, and a bit that stands for it; nil for claims that
// are others' matter. What it returns says what is wrong with the value, or is "".
func (c *claims) reader(name string) (bit uint, read func(value []byte) string) {
	switch name {
	case "iss":
		return 1, textClaim(&c.issuer)
	case "sub":
		return 2, textClaim(&c.user)
	case "jti":
		return 4, textClaim(&c.id)
	case "aud":
		return 8, c.readAudience
	case "exp":
		c.ends = true
		return 16, timeClaim(&c.expires)
	case "nbf":
		return 32, timeClaim(&c.notBefore)
	case "iat":
		return 64, timeClaim(&c.issued)
	case "hark":
		return 128, c.readHark
	case "mercure", "https://mercure.rocks/":
		return 256, c.readMercure
	}
	return 0, nil
}

func textClaim(to *string) func([]byte) string {
	return func(value []byte) string {
		if !readText(value, to) || len(*to) > maxName {
			return "must be a text of at most 255 bytes"
		}
		return ""
	}
}

// maxSeconds is the end of the year 9999, in seconds since 1970.
const maxSeconds = 253402300799

func timeClaim(to *float64) func([]byte) string {
	return func(value []byte) string {
		var f float64
		// The value is JSON already; this says no to what is no number, or too large a one.
		if c := value[0]; c != '-' && (c < '0' || c > '9') || json.Unmarshal(value, &f) != nil || f <= -maxSeconds || f > maxSeconds {
			return "must be a time in seconds since 1970"
		}
		*to = f
		return ""
	}
}

// readAudience takes one text or several (RFC 7519, 4.1.3).
func (c *claims) readAudience(value []byte) string {
	const want = "must be a text, or a list of at most 32"
	if value[0] == '"' {
		var one string
		if !readText(value, &one) {
			return want
		}
		c.audiences = []string{one}
		return ""
	}
	var ok bool
	if c.audiences, ok = readTexts(value, maxAudiences); !ok {
		return want
	}
	return ""
}

func (c *claims) readHark(value []byte) string {
	why := "must be an object with lists \"subscribe\" and \"publish\""
	c.hark = true
	var by string
	ok := eachMember(value, func(name, value []byte) bool {
		var to *[]hark.Pattern
		switch string(name) {
		case "subscribe":
			to = &c.subscribe
		case "publish":
			to = &c.publish
		case "tenant":
			return readText(value, &c.tenant) && len(c.tenant) <= maxName
		case "by":
			return readText(value, &by)
		default:
			return true
		}
		if string(value) == "null" {
			return true
		}
		if *to != nil {
			why = "has " + string(name) + " twice"
			return false
		}
		texts, ok := readTexts(value, hark.MaxPatterns)
		if !ok {
			why = "must hold lists of at most 64 topic patterns, such as {\"" + string(name) + "\":[\"user.42.>\"]}"
			return false
		}
		*to = make([]hark.Pattern, len(texts))
		for i, s := range texts {
			(*to)[i] = hark.Pattern(s)
			if err := hark.CheckPattern((*to)[i]); err != nil {
				why = "holds what is no topic pattern: " + err.Error()
				return false
			}
		}
		return true
	})
	if ok && by != "" {
		var err error
		c.by, err = hark.ParseKeyID(by)
		ok = err == nil
	}
	if !ok {
		return why
	}
	return ""
}

func (c *claims) readMercure(value []byte) string {
	m := &MercureClaim{}
	ok := eachMember(value, func(name, value []byte) bool {
		if string(value) == "null" {
			return true
		}
		var ok bool
		switch string(name) {
		case "subscribe":
			m.Subscribe, ok = readTexts(value, maxSelectors)
		case "publish":
			m.Publish, ok = readTexts(value, maxSelectors)
		case "payload":
			m.Payload, ok = append(json.RawMessage(nil), value...), true
		default:
			ok = true
		}
		return ok
	})
	if !ok {
		return "must be an object with lists \"subscribe\" and \"publish\" of at most 256 selectors"
	}
	c.mercure = m
	return ""
}

// readText reads a JSON string.
func readText(value []byte, to *string) bool {
	if value[0] != '"' {
		return false
	}
	inner := value[1 : len(value)-1]
	for _, b := range inner {
		if b == '\\' {
			return json.Unmarshal(value, to) == nil
		}
	}
	*to = string(inner)
	return true
}

// readTexts reads a list of at most most JSON strings.
func readTexts(value []byte, most int) ([]string, bool) {
	texts := make([]string, 0, 4)
	ok := hark.EachJSONElement(value, func(value []byte) bool {
		if len(texts) == most {
			return false
		}
		texts = append(texts, "")
		return readText(value, &texts[len(texts)-1])
	})
	return texts, ok
}

// eachMember is [hark.EachJSONMember] for objects whose names may hold escapes, as some
// libraries write every "/" of a URL.
func eachMember(raw []byte, fn func(name, value []byte) bool) bool {
	if !strings.Contains(string(raw), `\`) {
		return hark.EachJSONMember(raw, fn)
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	if open, err := d.Token(); err != nil || open != json.Delim('{') || !json.Valid(raw) {
		return false
	}
	for d.More() {
		name, err := d.Token()
		text, isText := name.(string)
		var value json.RawMessage
		if err != nil || !isText || d.Decode(&value) != nil || !fn([]byte(text), value) {
			return false
		}
	}
	return true
}

// at is a claim of time as a time, to the millisecond.
func at(seconds float64) time.Time { return time.UnixMilli(int64(math.Round(seconds * 1000))) }

func badToken(why string) error {
	return unauthenticated("bad-token", "the token is not one that this server takes: "+why)
}
