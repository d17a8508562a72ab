package scheme

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"
)

// recipe is an HMAC scheme as data: where the signature stands, what it is of, and
// how it is written. Its zero value is HMAC-SHA256 of the raw body, in lower-case hex,
// with the secret's text as the key. Signatures are compared as text: hex and base64
// have several texts for the same bytes, and only one is what a sender writes.
type recipe struct {
	// header carries the signature, after prefix. With a separator it is a list: entries
	// with the prefix are signatures, one of which must match; the others (older versions,
	// the time) are passed over.
	header, prefix, separator string

	hash     string // sha256 (or ""), sha1, sha512
	encoding string // hex (or ""), hex-upper, base64, base64url (with or without padding)
	key      string // how the secret's text becomes a key: text (or ""), base64, hex, whsec

	// signed is a template of what is signed: literal text and {body} {id} {ts} {method}
	// {url} {path} (path and query as sent) {header.NAME}. "" for {body}.
	signed string

	// id is the header for {id}. Signing makes an id where there is none.
	id string

	// The time of signing: in a header of its own, or in the entry of header that begins
	// with timeEntry, or in a member of the JSON body (dots between names; read only once
	// the signature matched). All "" for none.
	timeHeader, timeEntry, timeBody string
	// timeFormat is unix (or ""), unix-ms or rfc3339.
	timeFormat string
	// tolerance is how far the time may lie from that of receiving; a source's setting
	// "tolerance" precedes it. 0 for any. With pastOnly a time in the future may pass,
	// where the provider says no more.
	tolerance time.Duration
	pastOnly  bool
}

const (
	// maxEntries bounds a list of signatures.
	maxEntries = 32
	// maxTimeDigits bounds a time: 13 digits are milliseconds until the year 2286.
	maxTimeDigits = 13
)

// sent is what a request says of its signature.
type sent struct {
	signatures []string // in one, as long as there is but one
	one        [1]string
	id, ts     string
	at         time.Time
	timed      bool // there is an at
}

// verify judges r with the keys of s.
func (rc *recipe) verify(s *Source, r *Request) Verdict {
	var got sent
	if v := rc.read(s, r, &got); v.Reason != "" {
		return v
	}
	if got.timed {
		if v := s.checkTime(rc, got.at, r.Received); v.Reason != "" {
			return v
		}
	}
	secret := rc.matching(s, r, &got)
	if secret < 0 {
		return rc.diagnose(s, r, &got)
	}
	if rc.timeBody != "" {
		text, ok := bodyMember(r.Body, rc.timeBody)
		at, valid := rc.parseTime(text)
		if !ok || !valid {
			return refused(Malformed, "the body has no time at %s", rc.timeBody)
		}
		if v := s.checkTime(rc, at, r.Received); v.Reason != "" {
			return v
		}
	}
	return passed(secret)
}

// read takes out of the headers what rc needs; a verdict without a reason is none.
func (rc *recipe) read(s *Source, r *Request, got *sent) Verdict {
	value, v := s.needed(r, rc.header)
	if v.Reason != "" {
		return v
	}
	if v = rc.entries(value, got); v.Reason != "" {
		return v
	}
	if rc.id != "" {
		if got.id, v = s.needed(r, rc.id); v.Reason != "" {
			return v
		}
	}
	if rc.timeHeader != "" {
		if got.ts, v = s.needed(r, rc.timeHeader); v.Reason != "" {
			return v
		}
	}
	if rc.timeHeader != "" || rc.timeEntry != "" {
		if got.at, got.timed = rc.parseTime(got.ts); !got.timed {
			return refused(Malformed, "%s holds no time (%s)", rc.timePlace(), rc.timeWords())
		}
	}
	for _, p := range s.pieces {
		if p.kind == pieceHeader {
			if _, v = s.needed(r, p.text); v.Reason != "" {
				return v
			}
		}
	}
	return v
}

// entries reads the value of the signature header.
func (rc *recipe) entries(value string, got *sent) (v Verdict) {
	got.signatures = got.one[:0]
	for n, rest, more := 0, value, true; more; n++ {
		if n == maxEntries {
			return refused(Malformed, "%s has more than %d entries", rc.header, maxEntries)
		}
		entry := rest
		if more = rc.separator != ""; more {
			entry, rest, more = strings.Cut(rest, rc.separator)
		}
		if entry == "" {
			return refused(Malformed, "%s has an empty entry", rc.header)
		}
		if ts, ok := strings.CutPrefix(entry, rc.timeEntry); ok && rc.timeEntry != "" {
			if got.ts != "" {
				return refused(Malformed, "%s has more than one entry %s", rc.header, rc.timeEntry)
			}
			got.ts = ts
		} else if text, ok := strings.CutPrefix(entry, rc.prefix); ok && rc.isSignature(text) {
			got.signatures = append(got.signatures, text)
		}
	}
	if len(got.signatures) == 0 {
		return refused(Malformed, "%s holds no signature: it should hold %s%s", rc.header, rc.prefix, rc.signatureWords())
	}
	return v
}

// isSignature reports whether text has the form of a signature.
func (rc *recipe) isSignature(text string) bool {
	n := rc.size()
	switch rc.encoding {
	case "base64":
		return len(text) == base64.StdEncoding.EncodedLen(n)
	case "base64url":
		return len(strings.TrimRight(text, "=")) == base64.RawURLEncoding.EncodedLen(n)
	}
	return len(text) == hex.EncodedLen(n) && isHex(text)
}

func isHex(text string) bool {
	for i := range len(text) {
		if c := text[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

func (rc *recipe) signatureWords() string {
	n := rc.size()
	switch rc.encoding {
	case "base64", "base64url":
		return fmt.Sprintf("%d characters of %s", base64.StdEncoding.EncodedLen(n), rc.encoding)
	}
	return fmt.Sprintf("%d hex digits", hex.EncodedLen(n))
}

// matching returns the number of the secret that signed r, or -1.
func (rc *recipe) matching(s *Source, r *Request, got *sent) (secret int) {
	for i := range s.live(r.Received) {
		one := s.macs[i].of(s.pieces, r, got)
		signed := rc.isSigned(got, one.sum)
		s.macs[i].done(one)
		if signed {
			return i
		}
	}
	return -1
}

// isSigned reports whether one of the signatures is sum.
func (rc *recipe) isSigned(got *sent, sum []byte) bool {
	var buf, other [maxSignature]byte
	want, found := rc.encode(buf[:0], sum), false
	for _, text := range got.signatures {
		if rc.encoding == "base64url" {
			text = strings.TrimRight(text, "=")
		}
		found = hmac.Equal(append(other[:0], text...), want) || found
	}
	return found
}

// maxSignature is the longest text of a signature: SHA-512 in hex.
const maxSignature = 2 * sha512.Size

// encode appends the text of sum to b.
func (rc *recipe) encode(b, sum []byte) []byte {
	switch rc.encoding {
	case "base64":
		return base64.StdEncoding.AppendEncode(b, sum)
	case "base64url":
		return base64.RawURLEncoding.AppendEncode(b, sum)
	case "hex-upper":
		b = hex.AppendEncode(b, sum)
		return bytes.ToUpper(b)
	}
	return hex.AppendEncode(b, sum)
}

// size is that of a signature in bytes.
func (rc *recipe) size() int {
	switch rc.hash {
	case "sha1":
		return sha1.Size
	case "sha512":
		return sha512.Size
	}
	return sha256.Size
}

func (rc *recipe) newHash() func() hash.Hash {
	switch rc.hash {
	case "sha1":
		return sha1.New
	case "sha512":
		return sha512.New
	}
	return sha256.New
}

// sign adds to r what the provider would. A time in the body is the caller's.
func (rc *recipe) sign(s *Source, r *Request, at time.Time) error {
	got := sent{ts: rc.formatTime(at)}
	if rc.id != "" {
		if got.id = r.Header.Get(rc.id); got.id == "" {
			got.id = "msg_" + rand.Text()
			r.Header.Set(rc.id, got.id)
		}
	}
	if rc.timeHeader != "" {
		r.Header.Set(rc.timeHeader, got.ts)
	}
	one := s.macs[0].of(s.pieces, r, &got)
	value := rc.prefix + string(rc.encode(nil, one.sum))
	s.macs[0].done(one)
	if rc.timeEntry != "" {
		value = rc.timeEntry + got.ts + rc.separator + value
	}
	r.Header.Set(rc.header, value)
	return nil
}

func (rc *recipe) parseTime(text string) (time.Time, bool) {
	if rc.timeFormat == "rfc3339" {
		at, err := time.Parse(time.RFC3339, text)
		return at, err == nil
	}
	if text == "" || len(text) > maxTimeDigits || strings.Trim(text, "0123456789") != "" {
		return time.Time{}, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if rc.timeFormat == "unix-ms" {
		return time.UnixMilli(n), err == nil
	}
	return time.Unix(n, 0), err == nil
}

func (rc *recipe) formatTime(at time.Time) string {
	switch rc.timeFormat {
	case "rfc3339":
		return at.UTC().Format(time.RFC3339)
	case "unix-ms":
		return strconv.FormatInt(at.UnixMilli(), 10)
	}
	return strconv.FormatInt(at.Unix(), 10)
}

func (rc *recipe) timeWords() string {
	switch rc.timeFormat {
	case "rfc3339":
		return "as in RFC 3339"
	case "unix-ms":
		return "milliseconds since 1970"
	}
	return "seconds since 1970"
}

func (rc *recipe) hasTime() bool {
	return rc.timeHeader != "" || rc.timeEntry != "" || rc.timeBody != ""
}

func (rc *recipe) timePlace() string {
	if rc.timeHeader != "" {
		return rc.timeHeader
	}
	return "the entry " + rc.timeEntry + " of " + rc.header
}
