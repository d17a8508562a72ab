package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/harkhq/hark"
)

// errCorrupt marks a value that cannot have been written by this program.
var errCorrupt = errors.New("corrupt value")

// Versions of an event's value: with all of its data, in parts, and with its data in a file of values.
const (
	eventWhole   = 1
	eventParts   = 2
	eventOutside = 3
)

// partBytes is how much of an event's data one value holds; the rest is in values of its
// own. Pebble uses the buffers of blocks up to twice as large again, and those of larger
// ones leave garbage: 4 MB for each event of 1 MiB, whose collection everyone feels.
const partBytes = 128 << 10

// EncodeEvent returns the stored form of e:
//
//	version 1, received (Unix µs) 8, [anchor 8, part 4 | place 24], has time 1, [time (Unix s) 8, ns 4],
//	topic, key, content type, source (each length + bytes),
//	attribute count, attributes sorted by name, [data length], data to the end
//
// Data of more than [partBytes] is stored in parts, which the version says: the first of
// them here, the others from (anchor, part) on; see [EventPart]. Of less, and yet much, the
// commit puts the place in a file here instead; see values.go.
// Received stands at a fixed place so that the committer can set it after the
// publisher's goroutine did the encoding: see [SetReceived].
//
// Data stands at the end so that nobody has to copy it before the commit does:
// see [AppendEventHead].
func EncodeEvent(e *hark.Event) []byte {
	return append(AppendEventHead(make([]byte, 0, EventHeadBound(e)+len(e.Data)), e), e.Data...)
}

// EventHeadBound is at least the length of e's stored form without its data.
func EventHeadBound(e *hark.Event) int {
	return 64 + e.Size() - len(e.Data) + 8*(5+2*len(e.Attributes))
}

// AppendEventHead appends the stored form of e to b, all but the data at its end.
func AppendEventHead(b []byte, e *hark.Event) []byte {
	version := byte(eventWhole)
	if len(e.Data) > partBytes {
		version = eventParts
	}
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Received.UnixMicro()))
	if version == eventParts {
		b = append(b, make([]byte, 12)...) // the commit knows
	}
	if e.Time.IsZero() {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = binary.BigEndian.AppendUint64(b, uint64(e.Time.Unix()))
		b = binary.BigEndian.AppendUint32(b, uint32(e.Time.Nanosecond()))
	}
	b = appendBytes(b, e.Topic)
	b = appendBytes(b, e.Key)
	b = appendBytes(b, e.ContentType)
	b = appendBytes(b, e.Source)
	b = binary.AppendUvarint(b, uint64(len(e.Attributes)))
	if len(e.Attributes) > 0 {
		var some [16]string
		names := slices.AppendSeq(some[:0], maps.Keys(e.Attributes))
		slices.Sort(names)
		for _, name := range names {
			b = appendBytes(b, name)
			b = appendBytes(b, e.Attributes[name])
		}
	}
	if version == eventParts {
		b = binary.AppendUvarint(b, uint64(len(e.Data)))
	}
	return b
}

// SetReceived writes the received time into an encoded event, or the head of one.
func SetReceived(head []byte, t time.Time) {
	binary.BigEndian.PutUint64(head[1:], uint64(t.UnixMicro()))
}

// PartsOf is how many values besides its own an event with n bytes of data takes.
func PartsOf(n int) uint32 { return uint32(max(0, n-1) / partBytes) }

// DecodeEvent is the inverse of [EncodeEvent]; id and tenant come from the key.
// The event owns its memory.
func DecodeEvent(value []byte) (*hark.Event, error) {
	e, data, rest, err := decodeEvent(value)
	if missing := rest.bytes + int(rest.outside.length); err == nil && missing > 0 {
		err = fmt.Errorf("event without %d bytes of its data: %w", missing, errCorrupt)
	}
	if err != nil {
		return nil, err
	}
	e.Data = append(make([]byte, 0, len(data)), data...)
	return e, nil
}

// parts is where more of an event's data stands, and how much.
type parts struct {
	anchor hark.Offset
	first  uint32
	bytes  int
	// outside is where all of it is instead, if it is in a file.
	outside place
}

// decodeEvent returns an event without its data, what of that stands in its value, still
// inside value, and where the rest is.
func decodeEvent(value []byte) (e *hark.Event, data []byte, rest parts, err error) {
	r := reader{b: value}
	version := r.u8()
	if version < eventWhole || version > eventOutside {
		return nil, nil, rest, fmt.Errorf("event version %d: %w", version, errCorrupt)
	}
	e = &hark.Event{Received: time.UnixMicro(int64(r.u64())).UTC()}
	switch version {
	case eventParts:
		rest.anchor, rest.first = r.off(), r.u32()
	case eventOutside:
		if rest.outside = r.place(); rest.outside.length == 0 || rest.outside.length > partBytes {
			return nil, nil, rest, fmt.Errorf("event with %d bytes of data outside: %w", rest.outside.length, errCorrupt)
		}
	}
	if r.u8() == 1 {
		e.Time = time.Unix(int64(r.u64()), int64(r.u32())).UTC()
	}
	e.Topic = string(r.bytes())
	e.Key = string(r.bytes())
	e.ContentType = string(r.bytes())
	e.Source = string(r.bytes())
	n := r.uvarint()
	if n > hark.MaxAttributes {
		return nil, nil, rest, fmt.Errorf("event with %d attributes: %w", n, errCorrupt)
	}
	if n > 0 {
		e.Attributes = make(map[string]string, n)
		for i := uint64(0); i < n && !r.bad; i++ {
			name := string(r.bytes())
			e.Attributes[name] = string(r.bytes())
		}
	}
	if version == eventParts {
		length := r.uvarint()
		if length > maxInParts || length < uint64(len(r.b)) {
			return nil, nil, rest, fmt.Errorf("event with %d bytes of data: %w", length, errCorrupt)
		}
		rest.bytes = int(length) - len(r.b)
	}
	if r.bad || version == eventOutside && len(r.b) > 0 {
		return nil, nil, rest, fmt.Errorf("event cut short, or too long: %w", errCorrupt)
	}
	return e, r.b, rest, nil
}

// maxInParts is more than the data of any event.
const maxInParts = 1 << 30

// wholeEvent decodes an event and fetches its parts. It is nil when these are gone:
// retention took them while the event was read.
func (s *Store) wholeEvent(t hark.TenantID, o hark.Offset, value []byte) (*hark.Event, error) {
	e, data, rest, err := decodeEvent(value)
	if err != nil {
		return nil, err
	}
	e.Tenant, e.ID.Offset = t, o
	if out := rest.outside; out.length > 0 {
		if e.Data, err = s.value(out); e.Data == nil {
			return nil, errors.Join(err, s.checkGone(t, o, int(out.length)))
		}
		return e, err
	}
	e.Data = append(make([]byte, 0, len(data)+rest.bytes), data...)
	if rest.bytes == 0 {
		return e, nil
	}
	n := (rest.bytes + partBytes - 1) / partBytes
	_, err = s.scan(partKey(t, rest.anchor, rest.first), partKey(t, rest.anchor, rest.first+uint32(n)), n, func(_, part []byte) bool {
		if rest.bytes -= len(part); rest.bytes >= 0 {
			e.Data = append(e.Data, part...)
		}
		return rest.bytes > 0
	})
	if err != nil {
		return nil, err
	}
	if rest.bytes > 0 {
		return nil, s.checkGone(t, o, rest.bytes)
	}
	if rest.bytes < 0 {
		return nil, fmt.Errorf("event with %d bytes too much: %w", -rest.bytes, errCorrupt)
	}
	return e, nil
}

// checkGone tells whether an event is gone whose parts are: they go in one commit.
func (s *Store) checkGone(t hark.TenantID, o hark.Offset, missing int) error {
	_, closer, err := s.getUnsafe(eventKey(t, o))
	if closer == nil {
		return err
	}
	return errors.Join(fmt.Errorf("event %d of tenant %d without %d bytes of its data: %w", o, t, missing, errCorrupt), closer.Close())
}

// eventTopic reads only the topic of an encoded event, still inside value.
func eventTopic(value []byte) []byte {
	r := reader{b: value}
	version := r.u8()
	r.take(8)
	switch version {
	case eventParts:
		r.take(12)
	case eventOutside:
		r.take(placeBytes)
	}
	if r.u8() == 1 {
		r.take(12)
	}
	return r.bytes()
}

// eventSize is how long an encoded event is with its data, but not that in other parts.
func eventSize(value []byte) int { return len(value) + int(eventPlace(value).length) }

// eventReceived reads only the received time.
func eventReceived(value []byte) time.Time {
	r := reader{b: value}
	r.take(1)
	return time.UnixMicro(int64(r.u64())).UTC()
}
