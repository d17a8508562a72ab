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

const eventVersion = 1

// EncodeEvent returns the stored form of e:
//
//	version 1, received (Unix µs) 8, flags 1, [time (Unix s) 8, ns 4],
//	topic, key, content type, source (each length + bytes),
//	attribute count, attributes sorted by name, data to the end
//
// Received stands at a fixed place so that the committer can set it after the
// publisher's goroutine did the encoding: see [SetReceived].
func EncodeEvent(e *hark.Event) []byte {
	return AppendEvent(make([]byte, 0, EncodedBound(e)), e)
}

// EncodedBound is at least the length of e's stored form.
func EncodedBound(e *hark.Event) int { return 32 + e.Size() + 8*(5+2*len(e.Attributes)) }

// AppendEvent appends the stored form of e to b.
func AppendEvent(b []byte, e *hark.Event) []byte {
	b = append(b, eventVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Received.UnixMicro()))
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
		for _, name := range slices.Sorted(maps.Keys(e.Attributes)) {
			b = appendBytes(b, name)
			b = appendBytes(b, e.Attributes[name])
		}
	}
	return append(b, e.Data...)
}

// SetReceived writes the received time into an encoded event.
func SetReceived(value []byte, t time.Time) {
	binary.BigEndian.PutUint64(value[1:], uint64(t.UnixMicro()))
}

// DecodeEvent is the inverse of [EncodeEvent]; id and tenant come from the key.
// The event owns its memory.
func DecodeEvent(value []byte) (*hark.Event, error) {
	r := reader{b: value}
	if v := r.u8(); v != eventVersion {
		return nil, fmt.Errorf("event version %d: %w", v, errCorrupt)
	}
	e := &hark.Event{Received: time.UnixMicro(int64(r.u64())).UTC()}
	if r.u8() == 1 {
		e.Time = time.Unix(int64(r.u64()), int64(r.u32())).UTC()
	}
	e.Topic = string(r.bytes())
	e.Key = string(r.bytes())
	e.ContentType = string(r.bytes())
	e.Source = string(r.bytes())
	n := r.uvarint()
	if n > hark.MaxAttributes {
		return nil, fmt.Errorf("event with %d attributes: %w", n, errCorrupt)
	}
	if n > 0 {
		e.Attributes = make(map[string]string, n)
		for i := uint64(0); i < n && !r.bad; i++ {
			name := string(r.bytes())
			e.Attributes[name] = string(r.bytes())
		}
	}
	if r.bad {
		return nil, fmt.Errorf("event cut short: %w", errCorrupt)
	}
	e.Data = slices.Clone(r.b)
	if e.Data == nil {
		e.Data = []byte{}
	}
	return e, nil
}

// eventTopic reads only the topic of an encoded event, still inside value.
func eventTopic(value []byte) []byte {
	r := reader{b: value}
	r.take(9)
	if r.u8() == 1 {
		r.take(12)
	}
	return r.bytes()
}

// eventReceived reads only the received time.
func eventReceived(value []byte) time.Time {
	r := reader{b: value}
	r.take(1)
	return time.UnixMicro(int64(r.u64())).UTC()
}
