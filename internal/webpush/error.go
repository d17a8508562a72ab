package webpush

import (
	"errors"
	"fmt"
)

// Reason says why something was refused. Its text is stable.
type Reason string

// Reasons to refuse a subscription or a key.
const (
	MalformedJSON     Reason = "malformed_json"
	MalformedEndpoint Reason = "malformed_endpoint" // not an absolute http or https URL of at most MaxEndpoint bytes
	MalformedBase64   Reason = "malformed_base64"
	KeySize           Reason = "key_size"      // not the number of bytes that such a key has
	KeyForm           Reason = "key_form"      // a compressed point, or none
	NotOnCurve        Reason = "not_on_curve"  // 65 bytes that are no point of P-256
	AuthSize          Reason = "auth_size"     // the authentication secret has not 16 bytes
	BadSubject        Reason = "bad_subject"   // see CheckSubject
	KeyMismatch       Reason = "key_mismatch"  // a private key that is 0 or above the order
	TooLarge          Reason = "too_large"     // more than fits in one message
	BadPadding        Reason = "bad_padding"   // padTo is negative or more than MaxPlaintext
	UnknownEncoding   Reason = "bad_encoding"  // neither aes128gcm nor aesgcm
	Truncated         Reason = "truncated"     // ends within its header or a record
	BadRecordSize     Reason = "record_size"   // below the least that a record can have
	ManyRecords       Reason = "many_records"  // a push message has one
	BadDelimiter      Reason = "bad_delimiter" // the last record must end in 2 and zeros, the others in 1
	BadHeader         Reason = "bad_header"    // Encryption or Crypto-Key lack what aesgcm needs, or cannot be read
	Undecryptable     Reason = "undecryptable" // another key's, or changed on the way
)

// Reasons to refuse a VAPID token.
const (
	Absent       Reason = "absent" // no credential at all
	Malformed    Reason = "malformed"
	BadAlgorithm Reason = "bad_algorithm" // alg is not ES256
	BadSignature Reason = "bad_signature"
	Expired      Reason = "expired"
	NotYet       Reason = "not_yet"      // nbf lies ahead
	TooFar       Reason = "too_far"      // exp is more than MaxLifetime ahead
	BadAudience  Reason = "bad_audience" // aud is not an origin of this service
	SameKey      Reason = "same_key"     // the VAPID key also encrypts the message (RFC 8292, section 3.2)
)

// Error is every error of this package.
type Error struct {
	Reason Reason
	Field  string // what is at fault: "keys.p256dh", "aud", "Crypto-Key"; empty for the whole
	Detail string // for people: what is wrong, and what would be right
}

func (e *Error) Error() string {
	if e.Field == "" {
		return "webpush: " + e.Detail
	}
	return "webpush: " + e.Field + ": " + e.Detail
}

// ReasonOf returns the reason in err's chain, or "" if err is not from this package.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

func refuse(r Reason, field, format string, args ...any) *Error {
	return &Error{Reason: r, Field: field, Detail: fmt.Sprintf(format, args...)}
}
