package store

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/harkhq/hark"
)

// The tables of events that are to be published later:
//
//	70 scheduled      tenant 4, due (Unix ms) 8, number 8 → event value, see [EncodeEvent]
//	71 scheduled size tenant 4, due 8, number 8           → bytes 4, of the value
//
// The second is read at a start, without the events.

func scheduledKey(table byte, t hark.TenantID, id hark.ScheduledID) key {
	return tenantKey(table, t).u64(uint64(id.Due)).u64(id.Number)
}

// ScheduledAdded keeps an event to be published later.
type ScheduledAdded struct {
	Tenant hark.TenantID
	ID     hark.ScheduledID
	Value  []byte // from [EncodeEvent]
}

func (r *ScheduledAdded) apply(b *pebble.Batch) {
	set(b, scheduledKey(tableScheduled, r.Tenant, r.ID), r.Value)
	set(b, scheduledKey(tableScheduledSize, r.Tenant, r.ID), key(nil).u32(uint32(len(r.Value))))
}

// ScheduledRemoved forgets scheduled events: they are published in the same commit, or cancelled.
type ScheduledRemoved struct {
	Tenant hark.TenantID
	IDs    []hark.ScheduledID
}

func (r *ScheduledRemoved) apply(b *pebble.Batch) {
	for _, id := range r.IDs {
		must(b.Delete(scheduledKey(tableScheduled, r.Tenant, id), nil))
		must(b.Delete(scheduledKey(tableScheduledSize, r.Tenant, id), nil))
	}
}

// ScheduledSizes calls fn for every scheduled event, by tenant and time.
func (s *Store) ScheduledSizes(fn func(t hark.TenantID, id hark.ScheduledID, bytes int)) error {
	prefix := newKey(tableScheduledSize)
	return s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		rk, rv := reader{b: k[1:]}, reader{b: v}
		fn(hark.TenantID(rk.u32()), readScheduledID(&rk), int(rv.u32()))
		return true
	})
}

func readScheduledID(r *reader) hark.ScheduledID {
	return hark.ScheduledID{Due: int64(r.u64()), Number: r.u64()}
}

// Scheduled returns one scheduled event, and the bytes of its value; nil if there is none.
func (s *Store) Scheduled(t hark.TenantID, id hark.ScheduledID) (*hark.Scheduled, int, error) {
	v, closer, err := s.getUnsafe(scheduledKey(tableScheduled, t, id))
	if closer == nil {
		return nil, 0, err
	}
	defer closer.Close()
	e, err := decodeScheduled(t, id, v)
	return e, len(v), err
}

func decodeScheduled(t hark.TenantID, id hark.ScheduledID, v []byte) (*hark.Scheduled, error) {
	e, err := DecodeEvent(v)
	if err != nil {
		return nil, fmt.Errorf("scheduled event %s: %w", id, err)
	}
	e.Tenant = t
	return &hark.Scheduled{ID: id, Event: e}, nil
}

// ScheduledFrom calls fn for a tenant's scheduled events from an id on, those that are due first,
// up to those due at until (Unix ms), with the bytes of each, until fn returns false, limit or
// [scanBytes] were read. What cannot be read comes with an error and without an event.
func (s *Store) ScheduledFrom(t hark.TenantID, from hark.ScheduledID, until int64, limit int, fn func(id hark.ScheduledID, e *hark.Scheduled, bytes int, err error) bool) (more bool, err error) {
	size := 0
	upper := tenantKey(tableScheduled, t).u64(uint64(until) + 1)
	return s.scan(scheduledKey(tableScheduled, t, from), upper, min(limit, scanLimit), func(k, v []byte) bool {
		if size += len(v); size > scanBytes && size > len(v) {
			return false
		}
		id := hark.ScheduledID{Due: int64(binary.BigEndian.Uint64(k[5:])), Number: binary.BigEndian.Uint64(k[13:])}
		e, err := decodeScheduled(t, id, v)
		return fn(id, e, len(v), err)
	})
}

// ScheduledNext returns a tenant's first scheduled event at or after an id.
func (s *Store) ScheduledNext(t hark.TenantID, from hark.ScheduledID) (id hark.ScheduledID, ok bool, err error) {
	_, err = s.scan(scheduledKey(tableScheduledSize, t, from), tenantKey(tableScheduledSize, t).after(), 1, func(k, _ []byte) bool {
		r := reader{b: k[5:]}
		id, ok = readScheduledID(&r), true
		return false
	})
	return id, ok, err
}
