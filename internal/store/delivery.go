package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/harkhq/hark"
)

// DeliveryRow is what is kept of one event for one destination. Its value on disk:
//
//	version 1, state 1, then varints: run, attempts, next, token, received,
//	topic (length + bytes), 0 or 1, [first attempt], and while it is not
//	finished: tried, lane, key hash, size
type DeliveryRow struct {
	State    hark.State
	Run      int
	Attempts int
	// Next is when the next attempt is due or the lease ends, Unix ms; 0 for none.
	Next int64
	// Token is the lease's, for kinds that hand out.
	Token uint64
	Topic string
	// Received is the event's, Unix ms: lists filter by it without reading the event.
	Received int64
	// First is the first attempt of all, inline, so that a delivery that succeeds at once is one row.
	First hark.Attempt

	// What package deliver must find again after a restart; kept only while State is not a finished one.

	// Tried counts the attempts of this run, Lane says what started it.
	Tried int
	Lane  uint8
	// Key is the hash of the event's ordering key, Size the event's logical size.
	Key  uint64
	Size int32
}

const rowVersion = 1

func (r *DeliveryRow) encode() []byte {
	b := make([]byte, 0, 64+len(r.Topic)+len(r.First.Error)+len(r.First.Snippet))
	b = append(b, rowVersion, byte(r.State))
	b = binary.AppendUvarint(b, uint64(r.Run))
	b = binary.AppendUvarint(b, uint64(r.Attempts))
	b = binary.AppendVarint(b, r.Next)
	b = binary.AppendUvarint(b, r.Token)
	b = binary.AppendVarint(b, r.Received)
	b = appendBytes(b, r.Topic)
	if r.First.Number == 0 {
		b = append(b, 0)
	} else {
		b = appendAttempt(append(b, 1), &r.First)
	}
	if r.State.Finished() {
		return b
	}
	b = binary.AppendUvarint(b, uint64(r.Tried))
	b = append(b, r.Lane)
	b = binary.BigEndian.AppendUint64(b, r.Key)
	return binary.AppendUvarint(b, uint64(r.Size))
}

func decodeRow(v []byte) (DeliveryRow, error) {
	r := reader{b: v}
	if version := r.u8(); version != rowVersion {
		return DeliveryRow{}, fmt.Errorf("delivery row version %d: %w", version, errCorrupt)
	}
	row := DeliveryRow{State: hark.State(r.u8()), Run: int(r.uvarint()), Attempts: int(r.uvarint()),
		Next: r.varint(), Token: r.uvarint(), Received: r.varint(), Topic: string(r.bytes())}
	if r.u8() == 1 {
		row.First = r.attempt()
		r.bad = r.bad || row.First.Number == 0
	}
	if !row.State.Finished() {
		row.Tried, row.Lane, row.Key, row.Size = int(r.uvarint()), r.u8(), r.u64(), int32(r.uvarint())
	}
	if r.bad || row.State == 0 || row.State > hark.Expired {
		return DeliveryRow{}, fmt.Errorf("delivery row: %w", errCorrupt)
	}
	return row, nil
}

func appendAttempt(b []byte, a *hark.Attempt) []byte {
	b = binary.AppendUvarint(b, uint64(a.Number))
	b = binary.AppendUvarint(b, uint64(a.Run))
	b = binary.AppendVarint(b, a.Started.UnixMicro())
	b = binary.AppendVarint(b, int64(a.Duration/time.Microsecond))
	b = append(b, byte(a.Outcome))
	b = binary.AppendUvarint(b, uint64(a.Status))
	b = appendBytes(b, a.Error)
	return appendBytes(b, a.Snippet)
}

func (r *reader) attempt() hark.Attempt {
	a := hark.Attempt{Number: int(r.uvarint()), Run: int(r.uvarint()), Started: time.UnixMicro(r.varint()).UTC(),
		Duration: r.micros(), Outcome: hark.Outcome(r.u8()), Status: int(r.uvarint()),
		Error: string(r.bytes())}
	if s := r.bytes(); len(s) > 0 {
		a.Snippet = append([]byte(nil), s...)
	}
	return a
}

// micros reads a duration in µs.
func (r *reader) micros() time.Duration {
	n := r.varint()
	if n > math.MaxInt64/1000 || n < math.MinInt64/1000 {
		r.bad = true
		return 0
	}
	return time.Duration(n) * time.Microsecond
}

// DeliverySaved creates or replaces a delivery row and keeps its indexes true.
type DeliverySaved struct {
	Tenant      hark.TenantID
	Bucket      Bucket // of the event's offset
	Destination hark.DestinationID
	Offset      hark.Offset
	// Prev is the state the row had before, 0 when there was none.
	Prev hark.State
	Row  DeliveryRow
}

func (r *DeliverySaved) apply(b *pebble.Batch) {
	set(b, deliveryKey(r.Tenant, r.Bucket, r.Destination, r.Offset), r.Row.encode())
	if r.Prev == 0 {
		set(b, byEventKey(r.Tenant, r.Bucket, r.Offset, r.Destination), nil)
	}
	if r.Prev == r.Row.State {
		return
	}
	if r.Prev != 0 && r.Prev != hark.Delivered {
		must(b.Delete(byStateKey(r.Tenant, r.Bucket, r.Prev, r.Destination, r.Offset), nil))
	}
	if r.Row.State != hark.Delivered {
		set(b, byStateKey(r.Tenant, r.Bucket, r.Row.State, r.Destination, r.Offset), nil)
	}
}

// AttemptAdded keeps the second and later attempts of a delivery.
type AttemptAdded struct {
	Tenant      hark.TenantID
	Bucket      Bucket
	Destination hark.DestinationID
	Offset      hark.Offset
	Attempt     hark.Attempt
}

func (r *AttemptAdded) apply(b *pebble.Batch) {
	set(b, attemptKey(r.Tenant, r.Bucket, r.Destination, r.Offset, r.Attempt.Number), appendAttempt(nil, &r.Attempt))
}

// MarkMoved moves the shard's dispatch mark: every destination without a cursor of its own is there.
type MarkMoved struct{ Offset hark.Offset }

func (r *MarkMoved) apply(b *pebble.Batch) { set(b, metaKey("mark"), key(nil).off(r.Offset)) }

// CursorMoved gives a destination a cursor of its own, or moves it.
type CursorMoved struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
	Offset      hark.Offset
}

func (r *CursorMoved) apply(b *pebble.Batch) {
	set(b, destinationKey(tableCursor, r.Tenant, r.Destination), key(nil).off(r.Offset))
}

// CursorJoined takes a destination's own cursor away: it is at the mark.
type CursorJoined struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
}

func (r *CursorJoined) apply(b *pebble.Batch) {
	must(b.Delete(destinationKey(tableCursor, r.Tenant, r.Destination), nil))
}

// Replay is a second cursor over (From, To].
type Replay struct{ From, To, Position hark.Offset }

// ReplayMoved starts a destination's replay, or moves it.
type ReplayMoved struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
	Replay      Replay
}

func (r *ReplayMoved) apply(b *pebble.Batch) {
	set(b, destinationKey(tableReplay, r.Tenant, r.Destination),
		key(nil).off(r.Replay.From).off(r.Replay.To).off(r.Replay.Position))
}

// ReplayEnded removes a destination's replay.
type ReplayEnded struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
}

func (r *ReplayEnded) apply(b *pebble.Batch) {
	must(b.Delete(destinationKey(tableReplay, r.Tenant, r.Destination), nil))
}

// GapRecord tells that what lay in (From, To] was removed before it could be delivered.
type GapRecord struct {
	From, To hark.Offset
	At       int64 // Unix ms
}

// GapRecorded keeps a gap of a destination.
type GapRecorded struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
	Gap         GapRecord
}

func (r *GapRecorded) apply(b *pebble.Batch) {
	set(b, destinationKey(tableGap, r.Tenant, r.Destination).off(r.Gap.To),
		key(nil).off(r.Gap.From).off(r.Gap.To).u64(uint64(r.Gap.At)))
}

// FilteredCounted sets how many events a destination's filter kept back.
type FilteredCounted struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
	Count       uint64
}

func (r *FilteredCounted) apply(b *pebble.Batch) {
	set(b, destinationKey(tableFiltered, r.Tenant, r.Destination), key(nil).u64(r.Count))
}

// HealthSaved keeps what must outlive a restart about a destination that fails:
// since when, and what its owner was told. A zero FailingSince removes it.
type HealthSaved struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
	Health      HealthRow
}

// HealthRow is the value of [HealthSaved]; times are Unix ms.
type HealthRow struct {
	FailingSince, WarnedAt int64
	Warned                 uint8
	Told                   bool
}

func (r *HealthSaved) apply(b *pebble.Batch) {
	k := destinationKey(tableHealth, r.Tenant, r.Destination)
	if r.Health.FailingSince == 0 {
		must(b.Delete(k, nil))
		return
	}
	told := byte(0)
	if r.Health.Told {
		told = 1
	}
	set(b, k, key(nil).u64(uint64(r.Health.FailingSince)).u64(uint64(r.Health.WarnedAt)).u8(r.Health.Warned).u8(told))
}

// PositionsErased forgets cursor, replay, gaps and counts of a destination that was
// deleted. Its delivery rows stay until retention takes their bucket.
type PositionsErased struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
}

func (r *PositionsErased) apply(b *pebble.Batch) {
	for _, table := range []byte{tableCursor, tableReplay, tableFiltered, tableHealth} {
		must(b.Delete(destinationKey(table, r.Tenant, r.Destination), nil))
	}
	gaps := destinationKey(tableGap, r.Tenant, r.Destination)
	must(b.DeleteRange(gaps, gaps.after(), nil))
}
