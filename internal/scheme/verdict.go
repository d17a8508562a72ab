package scheme

import (
	"fmt"
)

// Reason says in one word why a request passed or not. The words are part of the
// contract: the API, the log and the bin page show them.
type Reason string

// The reasons.
const (
	// OK: a secret matches, or the scheme verifies nothing.
	OK Reason = "ok"
	// HeaderMissing: what should carry the signature is not there.
	HeaderMissing Reason = "header-missing"
	// Malformed: it is there and cannot be one.
	Malformed Reason = "malformed"
	// TooOld and TooNew: the signed time is outside the tolerance.
	TooOld Reason = "timestamp-too-old"
	TooNew Reason = "timestamp-too-new"
	// BodyChanged: the body is not the one that was signed; a variant of it, or a
	// digest beside it, shows so.
	BodyChanged Reason = "body-changed"
	// URLChanged: the URL is not the one that was signed; another public URL would match.
	URLChanged Reason = "url-changed"
	// NoSecretMatches: the signature is of another secret, or of other content.
	NoSecretMatches Reason = "no-secret-matches"
	// NoSecret: the source has no secret to verify with.
	NoSecret Reason = "no-secret"
	// Unavailable: a certificate or key set could not be fetched; the sender should try again.
	Unavailable Reason = "unavailable"
)

// Verdict is what a scheme says of a request.
type Verdict struct {
	Reason Reason `json:"reason"`
	// Detail is a sentence for the source's owner: what is wrong, with figures, and what to do.
	Detail string `json:"detail,omitempty"`
	// Secret is the number of the secret that matched, from 0; -1 for none.
	Secret int `json:"-"`
}

// OK reports whether the request may pass.
func (v Verdict) OK() bool { return v.Reason == OK }

func passed(secret int) Verdict { return Verdict{Reason: OK, Secret: secret} }

func refused(r Reason, format string, args ...any) Verdict {
	return Verdict{Reason: r, Detail: fmt.Sprintf(format, args...), Secret: -1}
}
