package store

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/harkhq/hark"
)

// Incarnations returns where each incarnation of the log began, oldest first.
func (s *Store) Incarnations() ([]IncarnationStarted, error) {
	var all []IncarnationStarted
	prefix := newKey(tableIncarnation)
	err := s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		rk, rv := reader{b: k[1:]}, reader{b: v}
		all = append(all, IncarnationStarted{Incarnation: rk.u64(), First: rv.off()})
		return true
	})
	return all, err
}

// Buckets returns every bucket, oldest first.
func (s *Store) Buckets() ([]BucketStarted, error) {
	var all []BucketStarted
	prefix := newKey(tableBucket)
	err := s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		rk, rv := reader{b: k[1:]}, reader{b: v}
		all = append(all, BucketStarted{Bucket: Bucket(rk.u32()), First: rv.off(), Start: int64(rv.u64())})
		return true
	})
	return all, err
}

// EventUsages calls fn for what each tenant holds in each bucket.
func (s *Store) EventUsages(fn func(hark.TenantID, Bucket, Usage)) error {
	return s.usages(tableUsage, fn)
}

// DeliveryUsages calls fn for the delivery rows each tenant holds in each bucket.
func (s *Store) DeliveryUsages(fn func(hark.TenantID, Bucket, Usage)) error {
	return s.usages(tableDeliveryUse, fn)
}

func (s *Store) usages(table byte, fn func(hark.TenantID, Bucket, Usage)) error {
	prefix := newKey(table)
	return s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		r := reader{b: k[1:]}
		fn(hark.TenantID(r.u32()), Bucket(r.u32()), readUsage(v))
		return true
	})
}

// Lost calls fn with the last offset that retention took from each tenant.
func (s *Store) Lost(fn func(hark.TenantID, hark.Offset)) error {
	prefix := newKey(tableLost)
	return s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		rk, rv := reader{b: k[1:]}, reader{b: v}
		fn(hark.TenantID(rk.u32()), rv.off())
		return true
	})
}

// IdempotencyWindows calls fn for each window in which a tenant has remembered keys.
func (s *Store) IdempotencyWindows(fn func(hark.TenantID, uint32)) error {
	return s.walk(newKey(tableIdempotency), func(k, _ []byte) (key, error) {
		r := reader{b: k[1:]}
		t, w := hark.TenantID(r.u32()), r.u32()
		fn(t, w)
		return tenantKey(tableIdempotency, t).u32(w).after(), nil
	})
}

// IdempotencyBytes estimates what a tenant's remembered keys hold on disk.
func (s *Store) IdempotencyBytes(t hark.TenantID) (uint64, error) {
	k := tenantKey(tableIdempotency, t)
	return s.db.EstimateDiskUsage(k, k.after())
}

// Idempotency looks a key up in one window.
func (s *Store) Idempotency(t hark.TenantID, window uint32, hash [16]byte) (Idempotency, bool, error) {
	v, ok, err := s.get(append(tenantKey(tableIdempotency, t).u32(window), hash[:]...))
	if !ok {
		return Idempotency{}, false, err
	}
	r := reader{b: v}
	var i Idempotency
	copy(i.Body[:], r.take(16))
	i.First, i.Count = r.off(), int(r.u32())
	return i, true, nil
}

// Event returns one event; its ID carries the offset only.
func (s *Store) Event(t hark.TenantID, o hark.Offset) (*hark.Event, bool, error) {
	v, closer, err := s.getUnsafe(eventKey(t, o))
	if closer == nil {
		return nil, false, err
	}
	defer closer.Close()
	e, err := s.wholeEvent(t, o, v)
	return e, e != nil, err
}

// EventsAt calls fn for each of the tenant's events at some offsets, which rise,
// until fn returns false. Offsets without an event are passed over. At most
// [scanLimit] offsets.
func (s *Store) EventsAt(t hark.TenantID, offsets []hark.Offset, fn func(*hark.Event) bool) error {
	if len(offsets) == 0 {
		return nil
	}
	it, err := s.iter(eventKey(t, offsets[0]), eventKey(t, offsets[len(offsets)-1]+1))
	if err != nil {
		return err
	}
	defer it.Close()
	k := eventKey(t, 0)
	for _, o := range offsets[:min(len(offsets), scanLimit)] {
		binary.BigEndian.PutUint64(k[5:], uint64(o))
		if !it.SeekGE(k) {
			break
		}
		if !bytes.Equal(it.Key(), k) {
			continue
		}
		e, err := s.wholeEvent(t, o, it.Value())
		if err != nil {
			return err
		}
		if e != nil && !fn(e) {
			break
		}
	}
	return it.Error()
}

// Events walks a tenant's events with offsets in [from, to) until fn returns
// false, limit keys or [scanBytes] were read. want, if not nil, decides by topic
// before an event is decoded; events it refuses count against the limit but do
// not reach fn. It returns the last offset it looked at (0 if none) and whether it stopped early.
func (s *Store) Events(t hark.TenantID, from, to hark.Offset, limit int, want func(topic string) bool, fn func(*hark.Event) bool) (last hark.Offset, more bool, err error) {
	var failed error
	size := 0
	more, err = s.scan(eventKey(t, from), eventKey(t, to), limit, func(k, v []byte) bool {
		r := reader{b: k[5:]}
		o := r.off()
		n := eventSize(v)
		if size > 0 && size+n > scanBytes {
			return false
		}
		last = o
		size += n
		if want != nil && !want(string(eventTopic(v))) {
			return true
		}
		e, err := s.wholeEvent(t, o, v)
		if err != nil {
			failed = err
			return false
		}
		if e == nil {
			return true
		}
		size += len(e.Data) - min(len(e.Data), partBytes)
		return fn(e)
	})
	if failed != nil {
		return last, false, failed
	}
	return last, more, err
}

// FirstEvent returns the offset and received time of a tenant's first event in [from, to).
func (s *Store) FirstEvent(t hark.TenantID, from, to hark.Offset) (o hark.Offset, received time.Time, ok bool, err error) {
	_, err = s.scan(eventKey(t, from), eventKey(t, to), 1, func(k, v []byte) bool {
		r := reader{b: k[5:]}
		o, received, ok = r.off(), eventReceived(v), true
		return false
	})
	return o, received, ok, err
}

// TopicOffsets walks the offsets of one topic in one bucket, in [from, to), until fn returns false or limit.
func (s *Store) TopicOffsets(t hark.TenantID, b Bucket, topic string, from, to hark.Offset, limit int, fn func(hark.Offset) bool) (more bool, err error) {
	lower := topicKey(t, b, topic, from)
	skip := len(lower) - 8
	return s.scan(lower, topicKey(t, b, topic, to), limit, func(k, _ []byte) bool {
		r := reader{b: k[skip:]}
		return fn(r.off())
	})
}

// TopicOffsetsBack is [Store.TopicOffsets] from the newest on.
func (s *Store) TopicOffsetsBack(t hark.TenantID, b Bucket, topic string, from, to hark.Offset, limit int, fn func(hark.Offset) bool) error {
	lower := topicKey(t, b, topic, from)
	skip := len(lower) - 8
	_, err := s.scanBack(lower, topicKey(t, b, topic, to), limit, func(k, _ []byte) bool {
		r := reader{b: k[skip:]}
		return fn(r.off())
	})
	return err
}

// EventTopicsBack calls fn with offset, topic and size of a tenant's events in [from, to),
// newest first, until fn returns false, limit or [scanLimit] keys or [scanBytes] were read.
// It reports whether some may be left.
func (s *Store) EventTopicsBack(t hark.TenantID, from, to hark.Offset, limit int, fn func(o hark.Offset, topic string, size int) bool) (more bool, err error) {
	size := 0
	return s.scanBack(eventKey(t, from), eventKey(t, to), min(limit, scanLimit), func(k, v []byte) bool {
		r := reader{b: k[5:]}
		n := eventSize(v)
		size += len(v)
		return fn(r.off(), string(eventTopic(v)), n) && size < scanBytes
	})
}

// Topics calls fn for each distinct topic in a bucket that begins with prefix, in order.
func (s *Store) Topics(t hark.TenantID, b Bucket, prefix string, fn func(topic string) bool) error {
	base := bucketKey(tableTopic, t, b)
	lower := base.clone().text(prefix)
	it, err := s.iter(lower, lower.after())
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; {
		k := it.Key()
		topic := string(k[len(base) : len(k)-9])
		if !fn(topic) {
			break
		}
		ok = it.SeekGE(base.clone().text(topic).u8(1))
	}
	return it.Error()
}

// EventNamed returns the last event of a tenant that has a name in one bucket.
func (s *Store) EventNamed(t hark.TenantID, b Bucket, name [16]byte) (hark.Offset, bool, error) {
	v, ok, err := s.get(eventNameKey(t, b, name))
	if !ok || len(v) != 8 {
		return 0, false, err
	}
	return hark.Offset(binary.BigEndian.Uint64(v)), true, nil
}
