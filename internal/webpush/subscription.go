package webpush

import (
	"bytes"
	"crypto/ecdh"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// Bounds of what a browser gives.
const (
	MaxEndpoint     = 2048 // bytes; those of Windows have more than 500
	maxSubscription = 8 << 10
	authSize        = 16
)

// Subscription is where to push to, as a browser's PushSubscription tells it (W3C Push API,
// section 8). All of it is a capability: who knows it may push, as far as VAPID does not forbid.
type Subscription struct {
	Endpoint string
	P256dh   [publicSize]byte // the user agent's public key: a point of P-256
	Auth     [authSize]byte
}

type subscriptionJSON struct {
	Endpoint string `json:"endpoint"`
	Keys     struct {
		P256dh string `json:"p256dh"`
		Auth   string `json:"auth"`
	} `json:"keys"`
}

// ParseSubscription reads the JSON form of a PushSubscription. Members it does not know,
// expirationTime too, are left out.
func ParseSubscription(text []byte) (Subscription, error) {
	var s Subscription
	var given subscriptionJSON
	if len(text) > maxSubscription {
		return s, refuse(TooLarge, "", "has %d bytes and the limit is %d", len(text), maxSubscription)
	}
	if s, ok := parseCanonical(text); ok {
		return s, s.check()
	}
	if err := json.Unmarshal(text, &given); err != nil {
		return s, refuse(MalformedJSON, "", `must be a JSON object {"endpoint", "keys": {"p256dh", "auth"}}, as JSON.stringify(subscription) gives it`)
	}
	if _, err := Origin(given.Endpoint); err != nil {
		return s, err
	}
	s.Endpoint = given.Endpoint
	public, err := parsePublic("keys.p256dh", given.Keys.P256dh)
	if err != nil {
		return s, err
	}
	s.P256dh = public
	auth, err := decode("keys.auth", given.Keys.Auth, 64)
	if err != nil {
		return s, err
	}
	if len(auth) != authSize {
		return s, refuse(AuthSize, "keys.auth", "has %d bytes and must have %d", len(auth), authSize)
	}
	s.Auth = [authSize]byte(auth)
	return s, nil
}

// The canonical form around what differs.
const (
	beforeEndpoint = `{"endpoint":"`
	beforeP256dh   = `","keys":{"p256dh":"`
	beforeAuth     = `","auth":"`
	afterAuth      = `"}}`
	p256dhSize     = (publicSize*8 + 5) / 6
	authTextSize   = (authSize*8 + 5) / 6
	afterEndpoint  = len(beforeP256dh) + p256dhSize + len(beforeAuth) + authTextSize + len(afterAuth)
)

// parseCanonical reads the canonical form, which is what is stored and read for each message:
// a tenth of the time that a JSON decoder takes. What it does not read may still be good.
func parseCanonical(text []byte) (s Subscription, ok bool) {
	rest, ok := bytes.CutPrefix(text, []byte(beforeEndpoint))
	at := len(rest) - afterEndpoint
	if !ok || at < 0 || !isPlain(rest[:at]) {
		return s, false
	}
	endpoint, rest := rest[:at], rest[at:]
	p256dh := rest[len(beforeP256dh):][:p256dhSize]
	auth := rest[len(beforeP256dh)+p256dhSize+len(beforeAuth):][:authTextSize]
	if !bytes.HasPrefix(rest, []byte(beforeP256dh)) || !bytes.HasSuffix(rest, []byte(afterAuth)) ||
		string(rest[len(beforeP256dh)+p256dhSize:][:len(beforeAuth)]) != beforeAuth {
		return s, false
	}
	n, err1 := encoding.Decode(s.P256dh[:], p256dh)
	m, err2 := encoding.Decode(s.Auth[:], auth)
	s.Endpoint = string(endpoint)
	return s, err1 == nil && err2 == nil && n == publicSize && m == authSize
}

// isPlain says whether a text is its own JSON form.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func (s *Subscription) check() error {
	if _, err := Origin(s.Endpoint); err != nil {
		return err
	}
	return checkPoint("keys.p256dh", s.P256dh[:])
}

// EndpointOf returns the endpoint of a subscription in canonical form; "" if there is none.
func EndpointOf(canonical []byte) string {
	if rest, ok := bytes.CutPrefix(canonical, []byte(beforeEndpoint)); ok {
		if at := len(rest) - afterEndpoint; at >= 0 && isPlain(rest[:at]) {
			return string(rest[:at])
		}
	}
	var given subscriptionJSON
	if json.Unmarshal(canonical, &given) != nil {
		return ""
	}
	return given.Endpoint
}

// MarshalJSON writes the canonical form: endpoint and keys, base64url without padding.
func (s Subscription) MarshalJSON() ([]byte, error) { return s.AppendJSON(nil) }

// AppendJSON appends the canonical form to dst.
func (s *Subscription) AppendJSON(dst []byte) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // a URL stays legible
	if err := e.Encode(s.Endpoint); err != nil {
		return dst, err
	}
	dst = append(append(dst, `{"endpoint":`...), bytes.TrimSpace(b.Bytes())...)
	dst = encoding.AppendEncode(append(dst, `,"keys":{"p256dh":"`...), s.P256dh[:])
	dst = encoding.AppendEncode(append(dst, `","auth":"`...), s.Auth[:])
	return append(dst, `"}}`...), nil
}

// ParsePublic reads a public key: base64 of an uncompressed point of P-256, 65 bytes. It is
// what applicationServerKey, "k" and "p256dh" hold.
func ParsePublic(text string) ([publicSize]byte, error) { return parsePublic("", text) }

func parsePublic(field, text string) (public [publicSize]byte, err error) {
	b, err := decode(field, text, 256)
	if err != nil {
		return public, err
	}
	if err := checkPoint(field, b); err != nil {
		return public, err
	}
	return [publicSize]byte(b), nil
}

func checkPoint(field string, b []byte) error {
	switch {
	case len(b) != publicSize:
		return refuse(KeySize, field, "has %d bytes and must have %d: an uncompressed point of P-256", len(b), publicSize)
	case b[0] != 4:
		return refuse(KeyForm, field, "begins with byte %#02x and must begin with 0x04: an uncompressed point of P-256", b[0])
	}
	if _, err := ecdh.P256().NewPublicKey(b); err != nil {
		return refuse(NotOnCurve, field, "is not a point of P-256")
	}
	return nil
}

// Origin returns the origin of an endpoint (RFC 6454), which is what aud must say:
// lower case, without a default port.
func Origin(endpoint string) (string, error) {
	if origin := plainOrigin(endpoint); origin != "" {
		return origin, nil
	}
	return parsedOrigin(endpoint)
}

func parsedOrigin(endpoint string) (string, error) {
	bad := func(detail string) error { return refuse(MalformedEndpoint, "endpoint", "%s", detail) }
	if endpoint == "" {
		return "", bad("is needed: an absolute URL, https://…")
	}
	if len(endpoint) > MaxEndpoint {
		return "", refuse(MalformedEndpoint, "endpoint", "has %d bytes and the limit is %d", len(endpoint), MaxEndpoint)
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", bad("is not a URL")
	}
	scheme := strings.ToLower(u.Scheme)
	if scheme != "https" && scheme != "http" || u.Hostname() == "" {
		return "", bad("must be an absolute URL, https://…")
	}
	if u.User != nil || u.Fragment != "" {
		return "", bad("must not hold a user or a fragment")
	}
	host := strings.ToLower(u.Host)
	if port := u.Port(); port == "" || scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		host = strings.TrimSuffix(strings.TrimSuffix(host, port), ":")
	}
	return scheme + "://" + host, nil
}

// isPort says whether s is a port that is written as usual, and not what https has anyway.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n != 443 && s[0] >= '1' && s[0] <= '9'
}

// plainOrigin returns the origin of an endpoint that begins with it as it stands, which is
// nearly every one; "" for others.
func plainOrigin(endpoint string) string {
	rest, ok := strings.CutPrefix(endpoint, "https://")
	if !ok || len(endpoint) > MaxEndpoint {
		return ""
	}
	host, path, ok := strings.Cut(rest, "/")
	name, port, _ := strings.Cut(host, ":")
	if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || name != host && !isPort(port) {
		return ""
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '#' || c == '%' {
			return ""
		}
	}
	return endpoint[:len("https://")+len(host)]
}
