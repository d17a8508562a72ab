package webhook

import (
	"bytes"
	"crypto/ed25519"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultTolerance is how far a timestamp may lie from the clock, in the
	// past or in the future.
	DefaultTolerance = 5 * time.Minute

	// DefaultMaxBody is the limit VerifyRequest uses if it is given none.
	DefaultMaxBody = 1 << 20
)

// Message is a request that was verified.
type Message struct {
	// ID is the same over all attempts of a message. A receiver that must not
	// act twice remembers it at least as long as the sender retries.
	ID string

	// Timestamp is when this attempt was signed.
	Timestamp time.Time

	// Body is the exact bytes that were signed.
	Body []byte
}

// Verifier checks signatures with one or several keys, one of which must match.
// Set its fields before its first use; then it is safe for concurrent use.
type Verifier struct {
	// Tolerance is how far a timestamp may lie from the clock, both ways. Zero
	// means DefaultTolerance. A negative value turns the check off: then only
	// remembering ids protects against a request that someone recorded.
	Tolerance time.Duration

	// AcceptSvix also accepts the headers svix-id, svix-timestamp and
	// svix-signature, which have the same content. They are read only if the
	// three webhook- headers are not all there, and names are never mixed.
	AcceptSvix bool

	macs []Secret
	eds  []ed25519.PublicKey
	free slot
}

// NewVerifier makes a verifier that accepts what any of the keys signed. Give
// the old and the new one during a rotation.
func NewVerifier(keys ...VerifyingKey) (*Verifier, error) {
	if err := countKeys(len(keys)); err != nil {
		return nil, err
	}
	v := new(Verifier)
	for _, k := range keys {
		if k == nil {
			return nil, refuse(EmptyKey, "", "key is nil")
		}
		if err := k.addToVerifier(v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (s Secret) addToVerifier(to *Verifier) error {
	if s.key == nil {
		return refuse(EmptyKey, "", "secret is empty")
	}
	to.macs = append(to.macs, s)
	return nil
}

func (k PublicKey) addToVerifier(to *Verifier) error {
	if k.key == "" {
		return refuse(EmptyKey, "", "public key is empty")
	}
	to.eds = append(to.eds, ed25519.PublicKey(k.key))
	return nil
}

// Verify checks a body against its headers, by the clock of now. The body must
// be the raw bytes as received: JSON that was decoded and encoded again will not
// match.
func (v *Verifier) Verify(h http.Header, body []byte) (Message, error) {
	return v.VerifyAt(time.Now(), h, body)
}

// VerifyAt is Verify by another clock: that of a test, or the time at which a
// request was received that waited in a queue since.
func (v *Verifier) VerifyAt(now time.Time, h http.Header, body []byte) (Message, error) {
	e, err := v.envelopeAt(now, h)
	if err != nil {
		return Message{}, err
	}
	return v.verify(e, body)
}

// VerifyRequest reads the body of r, at most maxBody bytes of it, and verifies
// it; maxBody <= 0 means [DefaultMaxBody]. Headers are looked at first, so that
// a request that cannot be right costs no reading. Afterwards r.Body can be read
// again from its start.
func (v *Verifier) VerifyRequest(r *http.Request, maxBody int64) (Message, error) {
	if maxBody <= 0 {
		maxBody = DefaultMaxBody
	}
	e, err := v.envelopeAt(time.Now(), r.Header)
	if err != nil {
		return Message{}, err
	}
	body, err := readBody(r, maxBody)
	if err != nil {
		return Message{}, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return v.verify(e, body)
}

func readBody(r *http.Request, maxBody int64) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.ContentLength > maxBody {
		return nil, refuse(BodyTooLarge, "", "body is %d bytes, want at most %d", r.ContentLength, maxBody)
	}
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		// Trusted only up to a point: the length is a claim, the memory is ours.
		buf.Grow(int(min(r.ContentLength, 64<<10)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(nil, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refuse(BodyTooLarge, "", "body is more than %d bytes", maxBody)
	}
	if err != nil {
		return nil, &Error{Reason: BodyUnreadable, Detail: "body could not be read", Err: err}
	}
	return buf.Bytes(), nil
}

// envelope is what the headers say, before the signature is checked.
type envelope struct {
	id         string
	unix       int64
	signatures string
	header     string // name of the signature header
}

// names are the three headers of one family, in the canonical form that is the
// key of the map: http.Header.Get would make a new string for each look-up.
type names struct{ id, timestamp, signature string }

var (
	standardNames = names{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"}
	svixNames     = names{"Svix-Id", "Svix-Timestamp", "Svix-Signature"}
)

func (n names) complete(h http.Header) bool {
	return has(h[n.id]) && has(h[n.timestamp]) && has(h[n.signature])
}

func has(values []string) bool { return len(values) > 0 && values[0] != "" }

func (v *Verifier) envelopeAt(now time.Time, h http.Header) (envelope, error) {
	n := standardNames
	if v.AcceptSvix && !n.complete(h) && svixNames.complete(h) {
		n = svixNames
	}
	e, err := parseHeader(h, n)
	if err != nil {
		return envelope{}, err
	}
	tolerance := v.Tolerance
	if tolerance == 0 {
		tolerance = DefaultTolerance
	}
	if tolerance < 0 {
		return e, nil
	}
	// Compared as the standard's own libraries do, to the fraction of a second
	// of the clock, so that both agree on which request is too old.
	at := time.Unix(e.unix, 0)
	if now.Sub(at) > tolerance {
		return envelope{}, refuse(TooOld, n.timestamp, "timestamp is more than %v old", tolerance)
	}
	if at.Sub(now) > tolerance {
		return envelope{}, refuse(TooNew, n.timestamp, "timestamp is more than %v in the future", tolerance)
	}
	return e, nil
}

func parseHeader(h http.Header, n names) (envelope, error) {
	var value [3]string
	for i, name := range [3]string{n.id, n.timestamp, n.signature} {
		all := h[name]
		if len(all) > 1 {
			return envelope{}, refuse(RepeatedHeader, name, "header appears %d times", len(all))
		}
		if !has(all) {
			return envelope{}, refuse(MissingHeader, name, "header is missing")
		}
		value[i] = all[0]
	}
	if err := checkID(value[0], n.id); err != nil {
		return envelope{}, err
	}
	unix, ok := parseTimestamp(value[1])
	if !ok {
		return envelope{}, refuse(MalformedTimestamp, n.timestamp, "want Unix seconds in decimal")
	}
	return envelope{id: value[0], unix: unix, signatures: value[2], header: n.signature}, nil
}

// parseTimestamp accepts exactly the text that formatting the number again
// gives, because that text is what was signed.
func parseTimestamp(s string) (int64, bool) {
	if len(s) > 12 || s[0] < '0' || s[0] > '9' || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func (v *Verifier) verify(e envelope, body []byte) (Message, error) {
	if n := strings.Count(e.signatures, " ") + 1; n > MaxSignatures {
		return Message{}, refuse(TooManySignatures, e.header, "%d entries, want at most %d", n, MaxSignatures)
	}
	w := v.free.take(v.macs)
	defer v.free.put(w)
	w.begin(e.id, e.unix)

	known, ok := false, false
	if len(v.macs) > 0 {
		known, ok = v.matchHMAC(w, e.signatures, body)
	}
	if !ok && len(v.eds) > 0 {
		var k bool
		k, ok = v.matchEd25519(w, e.signatures, body)
		known = known || k
	}
	switch {
	case ok:
		return Message{ID: e.id, Timestamp: time.Unix(e.unix, 0), Body: body}, nil
	case known:
		return Message{}, refuse(NoMatch, e.header, "no entry matches: another secret, or the body was changed on its way")
	default:
		return Message{}, refuse(UnknownVersion, e.header, "no entry of a version this receiver has a key for")
	}
}

// matchHMAC compares the text of entries, not the bytes they decode to: base64
// has several texts for the same bytes, and only one is what a sender writes.
func (v *Verifier) matchHMAC(w *work, entries string, body []byte) (known, ok bool) {
	var want [macTextSize]byte
	for i := range v.macs {
		hashed := false
		for entry := range strings.SplitSeq(entries, " ") {
			version, text, cut := strings.Cut(entry, ",")
			if !cut || version != versionHMAC {
				continue
			}
			known = true
			if len(text) != macTextSize {
				continue
			}
			if !hashed {
				base64.StdEncoding.Encode(want[:], w.mac(i, body))
				hashed = true
			}
			if subtle.ConstantTimeCompare([]byte(text), want[:]) == 1 {
				return true, true
			}
		}
	}
	return known, false
}

func (v *Verifier) matchEd25519(w *work, entries string, body []byte) (known, ok bool) {
	joined := false
	for entry := range strings.SplitSeq(entries, " ") {
		version, text, cut := strings.Cut(entry, ",")
		if !cut || version != versionEd25519 {
			continue
		}
		known = true
		if len(text) != edTextSize {
			continue
		}
		sig, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(sig) != ed25519.SignatureSize {
			continue
		}
		if !joined {
			w.join(body)
			joined = true
		}
		for _, k := range v.eds {
			if ed25519.Verify(k, w.msg, sig) {
				return true, true
			}
		}
	}
	return known, false
}
