package hark

import (
	"errors"
	"time"
)

// Kind says whose fault an [Error] is and what the caller can do. The HTTP
// status follows from it in one table (internal/api).
type Kind uint8

// The kinds. Unknown errors are [Internal]: they are logged in full and the
// user is told nothing but a request id.
const (
	Internal        Kind = iota // 500 our fault
	Invalid                     // 400 the request is malformed
	Unauthenticated             // 401 no or bad credential
	Forbidden                   // 403 the credential does not reach this
	NotFound                    // 404 no such thing, or another tenant's
	Timeout                     // 408 the client was too slow
	Conflict                    // 409 it clashes with the present state
	Gone                        // 410 it existed, and retention or the owner removed it
	TooLarge                    // 413 over a size limit
	Unsupported                 // 415 content type not understood
	Mismatch                    // 422 well-formed but not acceptable
	TooMany                     // 429 over a rate or quota; RetryAfter tells when
	Unavailable                 // 503 try again: stopping, disk floor, too busy
)

// Error is the one error type that crosses rooms. Msg is a sentence for the
// user that says what to do; Err is for the log only.
type Error struct {
	Kind Kind
	// Code is a stable short name, the last part of the problem's type URI.
	Code string
	// Field names the offending input as the user wrote it ("settings.url"), if any.
	Field string
	Msg   string
	// RetryAfter is when to try again, for TooMany and Unavailable; 0 for unknown.
	RetryAfter time.Duration
	Err        error
}

// Error returns the user's sentence, and the cause if there is one.
func (e *Error) Error() string {
	s := e.Msg
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first [Error] in err's chain, else [Internal].
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Invalidf is shorthand for the commonest error: field is not acceptable, msg says why and what would be.
func Invalidf(field, msg string) *Error {
	return &Error{Kind: Mismatch, Code: "invalid", Field: field, Msg: msg}
}

// NoSuch is the answer for what is not there and for what belongs to another tenant.
func NoSuch(what, id string) *Error {
	return &Error{Kind: NotFound, Code: "not-found", Msg: "there is no " + what + " " + clip(id, 64)}
}
