package webpush

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Bounds of what a stranger sends as a credential.
const (
	maxCredential = 4 << 10
	maxAudiences  = 16
	// leeway is how much clocks may differ.
	leeway = time.Minute
)

// VAPIDHeader is what a message says of who sends it: the values of Authorization and of
// Crypto-Key (which carries the key of the old form), and the key it was sealed with, see
// [MessageKey]; nil if that is not known.
type VAPIDHeader struct {
	Authorization string
	CryptoKey     string
	MessageKey    []byte
}

// Claims is what a credential proves.
type Claims struct {
	Public    [publicSize]byte // whose it is
	Audiences []string
	Subject   string // in the sender's words; empty for none
	Expires   time.Time

	notBefore time.Time // zero for any time
}

// ID is the id of the key, as of [Key.ID].
func (c *Claims) ID() string { return KeyID(c.Public[:]) }

// Verifier checks credentials and remembers which ones were good, until they expire. It is
// safe for concurrent use.
type Verifier struct{ good *recent[[32]byte, Claims] }

// NewVerifier makes a Verifier that remembers up to max credentials, about half a KiB each.
func NewVerifier(max int) *Verifier {
	return &Verifier{good: newRecent[[32]byte, Claims](max)}
}

// Verify returns who sends. Audiences are the origins of this service. Its error is an
// [*Error] of one of the reasons for VAPID tokens, or of a public key that is none.
func (v *Verifier) Verify(h VAPIDHeader, audiences []string, now time.Time) (Claims, error) {
	token, key, err := parseVAPID(h)
	if err != nil {
		return Claims{}, err
	}
	// The key belongs into it: the same token under another key is another claim.
	sum := sha256.Sum256([]byte(key + " " + token))
	c, known := v.good.get(sum)
	if !known {
		if c, err = verifyToken(token, key); err != nil {
			return Claims{}, err
		}
	}
	if err := c.check(h, audiences, now); err != nil {
		return Claims{}, err
	}
	if !known {
		v.good.put(sum, c)
	}
	return c, nil
}

func (c *Claims) check(h VAPIDHeader, audiences []string, now time.Time) error {
	switch {
	case len(h.MessageKey) > 0 && bytes.Equal(h.MessageKey, c.Public[:]):
		return refuse(SameKey, "k", "the VAPID key must not be the key that the message is encrypted with")
	case !c.Expires.After(now.Add(-leeway)):
		return refuse(Expired, "exp", "the token has expired at %s", c.Expires.UTC().Format(time.RFC3339))
	case c.notBefore.After(now.Add(leeway)):
		return refuse(NotYet, "nbf", "the token is good from %s on", c.notBefore.UTC().Format(time.RFC3339))
	case c.Expires.After(now.Add(MaxLifetime + leeway)):
		return refuse(TooFar, "exp", "the token expires at %s: more than 24 hours ahead", c.Expires.UTC().Format(time.RFC3339))
	case !slices.ContainsFunc(c.Audiences, func(aud string) bool { return slices.Contains(audiences, aud) }):
		return refuse(BadAudience, "aud", "must be the origin of the endpoint: %s", strings.Join(audiences, " or "))
	}
	return nil
}

// parseVAPID finds token and key in the new form, or in the old one of aesgcm's time.
func parseVAPID(h VAPIDHeader) (token, key string, err error) {
	if strings.TrimSpace(h.Authorization) == "" {
		return "", "", refuse(Absent, "Authorization", "must be: vapid t=<token>, k=<public key>")
	}
	if len(h.Authorization)+len(h.CryptoKey) > maxCredential {
		return "", "", refuse(Malformed, "Authorization", "has more than %d bytes", maxCredential)
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(h.Authorization), " ")
	switch strings.ToLower(scheme) {
	case "vapid":
		token, key = parameter(rest, "t"), parameter(rest, "k")
		if token == "" || key == "" {
			return "", "", refuse(Malformed, "Authorization", "must be: vapid t=<token>, k=<public key>")
		}
	case "webpush", "bearer":
		token, key = strings.TrimSpace(rest), parameter(h.CryptoKey, "p256ecdsa")
		if key == "" {
			return "", "", refuse(Malformed, "Crypto-Key", "must hold p256ecdsa=<public key> with an Authorization of the old form")
		}
	default:
		return "", "", refuse(Malformed, "Authorization", "must be of the scheme vapid")
	}
	return token, key, nil
}

// verifyToken checks what never changes: form, algorithm and signature.
func verifyToken(token, key string) (Claims, error) {
	var c Claims
	public, err := parsePublic("k", key)
	if err != nil {
		return c, err
	}
	c.Public = public
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, refuse(Malformed, "t", "must be a JWT: three parts with dots between")
	}
	if err := checkJWTHeader(parts[0]); err != nil {
		return c, err
	}
	signature, err := decode("t", parts[2], 128)
	if err != nil {
		return c, refuse(Malformed, "t", "must be a JWT: its signature is not base64url")
	}
	verifier, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), public[:])
	if err != nil {
		return c, refuse(NotOnCurve, "k", "is not a point of P-256")
	}
	if !verifyES256(verifier, parts[0]+"."+parts[1], signature) {
		return c, refuse(BadSignature, "t", "the token is not signed by the key k")
	}
	return c, c.read(parts[1])
}

func checkJWTHeader(part string) error {
	var header struct {
		Algorithm string          `json:"alg"`
		Critical  json.RawMessage `json:"crit"`
	}
	if !decodeJSON(part, &header) {
		return refuse(Malformed, "t", "must be a JWT: its header is not base64url of JSON")
	}
	if header.Algorithm != "ES256" {
		return refuse(BadAlgorithm, "t", "must be signed with ES256")
	}
	if header.Critical != nil {
		return refuse(Malformed, "t", "has extensions (crit) that are not understood")
	}
	return nil
}

func (c *Claims) read(part string) error {
	var claims struct {
		Audience json.RawMessage `json:"aud"`
		Expires  *float64        `json:"exp"`
		Before   *float64        `json:"nbf"`
		Subject  string          `json:"sub"`
	}
	if !decodeJSON(part, &claims) {
		return refuse(Malformed, "t", "must be a JWT: its claims are not base64url of JSON")
	}
	var one string
	if json.Unmarshal(claims.Audience, &one) == nil {
		c.Audiences = []string{one}
	} else if json.Unmarshal(claims.Audience, &c.Audiences) != nil || len(c.Audiences) > maxAudiences {
		return refuse(Malformed, "aud", "must be the origin of the endpoint")
	}
	if claims.Expires == nil || !isTime(*claims.Expires) {
		return refuse(Malformed, "exp", "must be Unix seconds, at most 24 hours ahead")
	}
	c.Expires = time.Unix(int64(*claims.Expires), 0)
	if claims.Before != nil {
		if !isTime(*claims.Before) {
			return refuse(Malformed, "nbf", "must be Unix seconds")
		}
		c.notBefore = time.Unix(int64(*claims.Before), 0)
	}
	c.Subject = claims.Subject
	return nil
}

// isTime says whether a number may be Unix seconds: until the year 9999.
func isTime(seconds float64) bool { return seconds >= 0 && seconds < 253402300800 }

func decodeJSON(part string, v any) bool {
	b, err := decode("t", part, maxCredential)
	return err == nil && json.Unmarshal(b, v) == nil
}
