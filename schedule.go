package hark

import (
	"encoding/binary"
	"time"
)

// Limits of what is to be published later.
const (
	// MaxScheduleAhead is how far ahead a time to publish may be.
	MaxScheduleAhead = 366 * 24 * time.Hour
	// MaxScheduled and MaxScheduledBytes bound what a tenant has scheduled at one time.
	MaxScheduled      = 100_000
	MaxScheduledBytes = 64 << 20
)

// ScheduledID names an event that is to be published later: when, and a number. It is no
// [EventID]: the event gets one when it is published.
//
// The text is "sch_" and 26 characters of base32hex over time (Unix ms, 8 bytes) and number (8
// bytes), big endian, so that texts sort by time.
type ScheduledID struct {
	Due    int64 // Unix ms
	Number uint64
}

const scheduledPrefix = "sch_"

// String returns the text form; the zero id is "".
func (id ScheduledID) String() string {
	if id == (ScheduledID{}) {
		return ""
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(id.Due))
	binary.BigEndian.PutUint64(b[8:], id.Number)
	return scheduledPrefix + idText.EncodeToString(b[:])
}

// ParseScheduledID reads the text form.
func ParseScheduledID(s string) (ScheduledID, error) {
	b, err := parseID(scheduledPrefix, 16, s, "id of a scheduled event")
	if err != nil {
		return ScheduledID{}, err
	}
	return ScheduledID{Due: int64(binary.BigEndian.Uint64(b)), Number: binary.BigEndian.Uint64(b[8:])}, nil
}

// At is when the event is to be published.
func (id ScheduledID) At() time.Time { return time.UnixMilli(id.Due).UTC() }

// MarshalText implements [encoding.TextMarshaler].
func (id ScheduledID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *ScheduledID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ScheduledID{}
		return nil
	}
	v, err := ParseScheduledID(string(text))
	*id = v
	return err
}

// Scheduled is an event that is to be published later. Its Event has no id yet.
type Scheduled struct {
	ID    ScheduledID
	Event *Event
}
