package webhook

import (
	"errors"
	"fmt"
	"strings"
)

// Reason says why something was refused. Its text is stable and may be logged,
// counted, returned to a sender or compared.
type Reason string

// Reasons to refuse a request.
const (
	MissingHeader      Reason = "missing_header"        // id, timestamp or signature is absent or empty
	RepeatedHeader     Reason = "repeated_header"       // one of the three appears more than once
	MalformedID        Reason = "malformed_id"          // not 1 to MaxIDSize printable ASCII characters without a dot
	MalformedTimestamp Reason = "malformed_timestamp"   // not Unix seconds in plain decimal
	TooOld             Reason = "too_old"               // timestamp before now minus the tolerance
	TooNew             Reason = "too_new"               // timestamp after now plus the tolerance
	TooManySignatures  Reason = "too_many_signatures"   // more than MaxSignatures entries
	UnknownVersion     Reason = "unknown_version"       // no entry of a version for which the verifier has a key
	NoMatch            Reason = "no_matching_signature" // entries of a known version, none of them right
	BodyTooLarge       Reason = "body_too_large"        // VerifyRequest met more than maxBody bytes
	BodyUnreadable     Reason = "body_unreadable"       // VerifyRequest could not read the body; see Unwrap
)

// Reasons to refuse a key.
const (
	EmptyKey     Reason = "empty_key"      // nothing there, or only a prefix
	MalformedKey Reason = "malformed_key"  // not standard base64 with padding
	WrongKeyKind Reason = "wrong_key_kind" // a whpk_ where a secret belongs, and so on
	KeySize      Reason = "key_size"       // decodes to a number of bytes that cannot be such a key
	KeyMismatch  Reason = "key_mismatch"   // a private key whose public half belongs to another
	NoKeys       Reason = "no_keys"        // a signer or verifier without any
	TooManyKeys  Reason = "too_many_keys"  // a signer or verifier with more than MaxKeys
)

// Error is every error of this package.
type Error struct {
	Reason Reason
	Header string // the header at fault, if it is one
	Detail string // what is wrong, for people; never holds a part of a key or of the body
	Err    error  // the cause, if there is one
}

func (e *Error) Error() string {
	s := "webhook: "
	if e.Header != "" {
		s += e.Header + ": "
	}
	if e.Detail == "" {
		return s + string(e.Reason)
	}
	return s + e.Detail
}

// Unwrap returns the cause: for [BodyUnreadable] what the reader said.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason in err's chain, or "" if err is not from this
// package.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

func refuse(r Reason, header, format string, args ...any) *Error {
	return &Error{Reason: r, Header: strings.ToLower(header), Detail: fmt.Sprintf(format, args...)}
}
