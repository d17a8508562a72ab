package hark

import (
	"cmp"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
)

// Offset is an event's place in the log of its shard, counted from 1. Offset 0
// stands for "before the first event". Offsets are dense: every tenant of a
// shard shares one sequence.
type Offset uint64

// EventID names an event for ever. It is also the text form of a [Cursor]:
// both are a place in a shard's log.
//
// The text is "evt_" and 24 characters of base32hex over shard (2 bytes),
// incarnation (5 bytes) and offset (8 bytes), big endian, so that texts sort in
// log order. It contains no dot, as Standard Webhooks asks of a webhook-id.
type EventID struct {
	Shard uint16
	// Incarnation counts restores and truncations of the shard's log. It keeps an
	// id from ever naming two events.
	Incarnation uint64
	Offset      Offset
}

// Cursor is a position in the log: everything up to and including it has been
// seen. It is written like an event id, though there may be no event at that
// place that its holder may see.
type Cursor = EventID

// MaxIncarnation is the largest incarnation that fits an [EventID].
const MaxIncarnation = 1<<40 - 1

const eventPrefix = "evt_"

// idText keeps the order of the bytes it encodes and is safe in URLs, file
// names and headers.
var idText = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func (id EventID) bytes() [15]byte {
	var b [15]byte
	binary.BigEndian.PutUint16(b[0:], id.Shard)
	b[2] = byte(id.Incarnation >> 32)
	binary.BigEndian.PutUint32(b[3:], uint32(id.Incarnation))
	binary.BigEndian.PutUint64(b[7:], uint64(id.Offset))
	return b
}

func eventIDFromBytes(b []byte) EventID {
	return EventID{
		Shard:       binary.BigEndian.Uint16(b[0:]),
		Incarnation: uint64(b[2])<<32 | uint64(binary.BigEndian.Uint32(b[3:])),
		Offset:      Offset(binary.BigEndian.Uint64(b[7:])),
	}
}

// String returns the text form. The zero EventID is "".
func (id EventID) String() string {
	if id.IsZero() {
		return ""
	}
	b := id.bytes()
	var out [len(eventPrefix) + 24]byte
	copy(out[:], eventPrefix)
	idText.Encode(out[len(eventPrefix):], b[:])
	return string(out[:])
}

// IsZero reports whether id names nothing.
func (id EventID) IsZero() bool { return id == EventID{} }

// Compare orders ids in log order.
func (id EventID) Compare(other EventID) int {
	return cmp.Or(cmp.Compare(id.Shard, other.Shard),
		cmp.Compare(id.Incarnation, other.Incarnation),
		cmp.Compare(id.Offset, other.Offset))
}

// ParseEventID reads the text form. It is the only way in from text.
func ParseEventID(s string) (EventID, error) {
	b, err := parseID(eventPrefix, 15, s, "event id")
	if err != nil {
		return EventID{}, err
	}
	return eventIDFromBytes(b), nil
}

// ParseCursor reads a position; it differs from [ParseEventID] only in what its
// error says.
func ParseCursor(s string) (Cursor, error) {
	b, err := parseID(eventPrefix, 15, s, "cursor")
	if err != nil {
		return Cursor{}, err
	}
	return eventIDFromBytes(b), nil
}

// MarshalText implements [encoding.TextMarshaler].
func (id EventID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; empty text is the zero id.
func (id *EventID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = EventID{}
		return nil
	}
	v, err := ParseEventID(string(text))
	*id = v
	return err
}

// DestinationID names a destination. Text: "dst_" and 13 characters.
type DestinationID uint64

const destinationPrefix = "dst_"

// String returns the text form; the zero id is "".
func (id DestinationID) String() string { return uint64Text(destinationPrefix, uint64(id)) }

// ParseDestinationID reads the text form.
func ParseDestinationID(s string) (DestinationID, error) {
	v, err := parseUint64(destinationPrefix, s, "destination id")
	return DestinationID(v), err
}

// MarshalText implements [encoding.TextMarshaler].
func (id DestinationID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *DestinationID) UnmarshalText(text []byte) error {
	v, err := ParseDestinationID(string(text))
	*id = v
	return err
}

// KeyID names an API key. It is not the key: the key's text is shown once and
// only its hash is stored. Text: "key_" and 13 characters.
type KeyID uint64

const keyPrefix = "key_"

// String returns the text form; the zero id is "".
func (id KeyID) String() string { return uint64Text(keyPrefix, uint64(id)) }

// ParseKeyID reads the text form.
func ParseKeyID(s string) (KeyID, error) {
	v, err := parseUint64(keyPrefix, s, "key id")
	return KeyID(v), err
}

// MarshalText implements [encoding.TextMarshaler].
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *KeyID) UnmarshalText(text []byte) error {
	v, err := ParseKeyID(string(text))
	*id = v
	return err
}

// TokenKeyID names a key with which the server signs tokens for users; it is the
// "kid" of those tokens. Text: "tkey_" and 13 characters.
type TokenKeyID uint64

// TokenKeyPrefix begins the text of every [TokenKeyID].
const TokenKeyPrefix = "tkey_"

// String returns the text form; the zero id is "".
func (id TokenKeyID) String() string { return uint64Text(TokenKeyPrefix, uint64(id)) }

// ParseTokenKeyID reads the text form.
func ParseTokenKeyID(s string) (TokenKeyID, error) {
	v, err := parseUint64(TokenKeyPrefix, s, "token key id")
	return TokenKeyID(v), err
}

// MarshalText implements [encoding.TextMarshaler].
func (id TokenKeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *TokenKeyID) UnmarshalText(text []byte) error {
	v, err := ParseTokenKeyID(string(text))
	*id = v
	return err
}

// RevocationID names a revocation of tokens. Text: "rev_" and 13 characters.
type RevocationID uint64

const revocationPrefix = "rev_"

// String returns the text form; the zero id is "".
func (id RevocationID) String() string { return uint64Text(revocationPrefix, uint64(id)) }

// ParseRevocationID reads the text form.
func ParseRevocationID(s string) (RevocationID, error) {
	v, err := parseUint64(revocationPrefix, s, "revocation id")
	return RevocationID(v), err
}

// MarshalText implements [encoding.TextMarshaler].
func (id RevocationID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *RevocationID) UnmarshalText(text []byte) error {
	v, err := ParseRevocationID(string(text))
	*id = v
	return err
}

// DeliveryID names one event for one destination: it is a function of both, so
// a retry, a replay and a crash all meet the same id. Text: "dlv_" and 37
// characters.
type DeliveryID struct {
	Destination DestinationID
	Event       EventID
}

const deliveryPrefix = "dlv_"

// String returns the text form; the zero id is "".
func (id DeliveryID) String() string {
	if id == (DeliveryID{}) {
		return ""
	}
	var b [23]byte
	binary.BigEndian.PutUint64(b[0:], uint64(id.Destination))
	e := id.Event.bytes()
	copy(b[8:], e[:])
	return deliveryPrefix + idText.EncodeToString(b[:])
}

// ParseDeliveryID reads the text form.
func ParseDeliveryID(s string) (DeliveryID, error) {
	b, err := parseID(deliveryPrefix, 23, s, "delivery id")
	if err != nil {
		return DeliveryID{}, err
	}
	return DeliveryID{
		Destination: DestinationID(binary.BigEndian.Uint64(b)),
		Event:       eventIDFromBytes(b[8:]),
	}, nil
}

// MarshalText implements [encoding.TextMarshaler].
func (id DeliveryID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *DeliveryID) UnmarshalText(text []byte) error {
	v, err := ParseDeliveryID(string(text))
	*id = v
	return err
}

func uint64Text(prefix string, v uint64) string {
	if v == 0 {
		return ""
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return prefix + idText.EncodeToString(b[:])
}

func parseUint64(prefix, s, what string) (uint64, error) {
	b, err := parseID(prefix, 8, s, what)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

func parseID(prefix string, size int, s, what string) ([]byte, error) {
	body, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return nil, badID(what, s, fmt.Sprintf("it begins with %q", prefix))
	}
	if len(body) != idText.EncodedLen(size) {
		return nil, badID(what, s, fmt.Sprintf("it has %d characters after %q", idText.EncodedLen(size), prefix))
	}
	b, err := idText.DecodeString(body)
	if err != nil {
		return nil, badID(what, s, "its characters are 0-9 and a-v")
	}
	// Spare low bits would give two texts to one id.
	if idText.EncodeToString(b) != body {
		return nil, badID(what, s, "its last character is out of range")
	}
	return b, nil
}

func badID(what, s, why string) error {
	return &Error{Kind: Invalid, Code: "bad-id", Msg: fmt.Sprintf("%q is not %s %s: %s", clip(s, 64), article(what), what, why)}
}

func article(what string) string {
	if what == "event id" {
		return "an"
	}
	return "a"
}

// clip bounds what an error repeats of a stranger's input.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
