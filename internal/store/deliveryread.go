package store

import (
	"fmt"
	"slices"

	"github.com/harkhq/hark"
)

// Mark returns the dispatch mark.
func (s *Store) Mark() (hark.Offset, error) {
	v, ok, err := s.get(metaKey("mark"))
	if !ok {
		return 0, err
	}
	r := reader{b: v}
	return r.off(), nil
}

// Cursors calls fn for every destination that has a cursor of its own.
func (s *Store) Cursors(fn func(t hark.TenantID, d hark.DestinationID, at hark.Offset)) error {
	return s.eachDestination(tableCursor, func(t hark.TenantID, d hark.DestinationID, v *reader) { fn(t, d, v.off()) })
}

// Replays calls fn for every replay under way.
func (s *Store) Replays(fn func(t hark.TenantID, d hark.DestinationID, r Replay)) error {
	return s.eachDestination(tableReplay, func(t hark.TenantID, d hark.DestinationID, v *reader) {
		fn(t, d, Replay{From: v.off(), To: v.off(), Position: v.off()})
	})
}

// FilteredCounts calls fn for every destination whose filter kept something back.
func (s *Store) FilteredCounts(fn func(t hark.TenantID, d hark.DestinationID, n uint64)) error {
	return s.eachDestination(tableFiltered, func(t hark.TenantID, d hark.DestinationID, v *reader) { fn(t, d, v.u64()) })
}

// Healths calls fn for every destination that is failing.
func (s *Store) Healths(fn func(t hark.TenantID, d hark.DestinationID, h HealthRow)) error {
	return s.eachDestination(tableHealth, func(t hark.TenantID, d hark.DestinationID, v *reader) {
		fn(t, d, HealthRow{FailingSince: int64(v.u64()), WarnedAt: int64(v.u64()), Warned: v.u8(), Told: v.u8() == 1})
	})
}

func (s *Store) eachDestination(table byte, fn func(hark.TenantID, hark.DestinationID, *reader)) error {
	prefix := newKey(table)
	return s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		r := reader{b: k[1:]}
		fn(hark.TenantID(r.u32()), hark.DestinationID(r.u64()), &reader{b: v})
		return true
	})
}

// Gaps returns the newest gaps of a destination, oldest first, at most limit.
func (s *Store) Gaps(t hark.TenantID, d hark.DestinationID, limit int) ([]GapRecord, error) {
	prefix := destinationKey(tableGap, t, d)
	var gaps []GapRecord
	_, err := s.scanBack(prefix, prefix.after(), min(limit, scanLimit), func(_, v []byte) bool {
		r := reader{b: v}
		gaps = append(gaps, GapRecord{From: r.off(), To: r.off(), At: int64(r.u64())})
		return true
	})
	slices.Reverse(gaps)
	return gaps, err
}

// Delivery returns one row.
func (s *Store) Delivery(t hark.TenantID, b Bucket, d hark.DestinationID, o hark.Offset) (DeliveryRow, bool, error) {
	v, ok, err := s.get(deliveryKey(t, b, d, o))
	if !ok {
		return DeliveryRow{}, false, err
	}
	row, err := decodeRow(v)
	return row, err == nil, err
}

// Attempts returns the attempts of a delivery after the first, oldest first, at most limit.
func (s *Store) Attempts(t hark.TenantID, b Bucket, d hark.DestinationID, o hark.Offset, limit int) ([]hark.Attempt, error) {
	prefix := bucketKey(tableAttempt, t, b).u64(uint64(d)).off(o)
	var attempts []hark.Attempt
	var failed error
	_, err := s.scan(prefix, prefix.after(), limit, func(_, v []byte) bool {
		r := reader{b: v}
		a := r.attempt()
		if r.bad {
			failed = fmt.Errorf("attempt cut short: %w", errCorrupt)
			return false
		}
		attempts = append(attempts, a)
		return true
	})
	if err == nil {
		err = failed
	}
	return attempts, err
}

// SavedDelivery is a row with the key it stands under.
type SavedDelivery struct {
	Tenant      hark.TenantID
	Bucket      Bucket
	Destination hark.DestinationID
	Offset      hark.Offset
	Row         DeliveryRow
}

// ScanUnfinished calls fn for every row in state due or sending, of all tenants
// and buckets: what must be picked up after a restart. Its cost follows the
// number of such rows and of (tenant, bucket) pairs that have rows in any state
// but delivered.
func (s *Store) ScanUnfinished(fn func(SavedDelivery) error) error {
	return s.walk(newKey(tableByState), func(k, _ []byte) (seek key, err error) {
		r := reader{b: k[1:]}
		t, b, state := hark.TenantID(r.u32()), Bucket(r.u32()), hark.State(r.u8())
		if state > hark.Sending {
			return bucketKey(tableByState, t, b).after(), nil
		}
		saved := SavedDelivery{Tenant: t, Bucket: b, Destination: hark.DestinationID(r.u64()), Offset: r.off()}
		row, found, err := s.Delivery(t, b, saved.Destination, saved.Offset)
		if err != nil || !found {
			return nil, err
		}
		saved.Row = row
		return nil, fn(saved)
	})
}

// RowsBeyond calls fn for every row, in any state, of each destination at an
// offset after what position returns for that destination, looking only into
// buckets from first on: what the durable positions do not yet tell. It seeks
// once per destination that has rows there, and never walks rows before a position.
func (s *Store) RowsBeyond(first Bucket, position func(hark.TenantID, hark.DestinationID) hark.Offset, fn func(SavedDelivery) error) error {
	return s.walk(newKey(tableDelivery), func(k, v []byte) (seek key, err error) {
		r := reader{b: k[1:]}
		d := SavedDelivery{Tenant: hark.TenantID(r.u32()), Bucket: Bucket(r.u32()), Destination: hark.DestinationID(r.u64()), Offset: r.off()}
		if d.Bucket < first {
			return bucketKey(tableDelivery, d.Tenant, first), nil
		}
		switch at := position(d.Tenant, d.Destination); {
		case at == ^hark.Offset(0):
			return bucketKey(tableDelivery, d.Tenant, d.Bucket).u64(uint64(d.Destination)).after(), nil
		case d.Offset <= at:
			return deliveryKey(d.Tenant, d.Bucket, d.Destination, at+1), nil
		}
		if d.Row, err = decodeRow(v); err != nil {
			return nil, err
		}
		return nil, fn(d)
	})
}

// DeliveryList says which rows [Store.Deliveries] walks, newest first.
type DeliveryList struct {
	Tenant hark.TenantID
	Bucket Bucket
	// Destination, when not zero, restricts to one destination.
	Destination hark.DestinationID
	// State, when not zero, restricts to one state; for Delivered the rows are filtered, for others the index is used.
	State hark.State
	// Before restricts to offsets below it; 0 for no bound.
	Before hark.Offset
	// Limit bounds the keys walked.
	Limit int
}

// Deliveries walks the rows of one bucket and destination from the newest
// offset down until fn returns false or Limit keys were seen; more tells that it
// stopped early. Destination must be set: rows of a bucket are ordered by it.
func (s *Store) Deliveries(q DeliveryList, fn func(hark.Offset, DeliveryRow) bool) (more bool, err error) {
	indexed := q.State != 0 && q.State != hark.Delivered
	prefix := bucketKey(tableDelivery, q.Tenant, q.Bucket)
	if indexed {
		prefix = bucketKey(tableByState, q.Tenant, q.Bucket).u8(byte(q.State))
	}
	prefix = prefix.u64(uint64(q.Destination))
	upper := prefix.after()
	if q.Before > 0 {
		upper = prefix.clone().off(q.Before)
	}
	var failed error
	more, err = s.scanBack(prefix, upper, q.Limit, func(k, v []byte) bool {
		r := reader{b: k[len(prefix):]}
		o := r.off()
		var row DeliveryRow
		if indexed {
			var ok bool
			row, ok, failed = s.Delivery(q.Tenant, q.Bucket, q.Destination, o)
			if !ok {
				return failed == nil
			}
		} else if row, failed = decodeRow(v); failed != nil {
			return false
		}
		if q.State != 0 && row.State != q.State {
			return true
		}
		return fn(o, row)
	})
	if failed != nil {
		return false, failed
	}
	return more, err
}

// DestinationsOf calls fn for each destination that has rows in a bucket: in any
// state, or in one state other than delivered.
func (s *Store) DestinationsOf(t hark.TenantID, b Bucket, state hark.State, fn func(hark.DestinationID) bool) error {
	prefix := bucketKey(tableDelivery, t, b)
	if state != 0 && state != hark.Delivered {
		prefix = bucketKey(tableByState, t, b).u8(byte(state))
	}
	it, err := s.iter(prefix, prefix.after())
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; {
		r := reader{b: it.Key()[len(prefix):]}
		d := hark.DestinationID(r.u64())
		if !fn(d) {
			break
		}
		ok = it.SeekGE(prefix.clone().u64(uint64(d)).after())
	}
	return it.Error()
}

// DeliveriesOfEvent calls fn for each destination that has a row for the event
// at o, from destination after on, at most limit.
func (s *Store) DeliveriesOfEvent(t hark.TenantID, b Bucket, o hark.Offset, after hark.DestinationID, limit int, fn func(hark.DestinationID, DeliveryRow) bool) (more bool, err error) {
	if after == ^hark.DestinationID(0) {
		return false, nil
	}
	prefix := bucketKey(tableByEvent, t, b).off(o)
	var failed error
	more, err = s.scan(prefix.clone().u64(uint64(after)+1), prefix.after(), limit, func(k, _ []byte) bool {
		r := reader{b: k[len(prefix):]}
		d := hark.DestinationID(r.u64())
		row, ok, err := s.Delivery(t, b, d, o)
		if err != nil {
			failed = err
			return false
		}
		return !ok || fn(d, row)
	})
	if failed != nil {
		return false, failed
	}
	return more, err
}

// RowsAfter calls fn for every row of one destination in one bucket at an offset
// after a position.
func (s *Store) RowsAfter(t hark.TenantID, b Bucket, d hark.DestinationID, after hark.Offset, fn func(SavedDelivery) error) error {
	prefix := bucketKey(tableDelivery, t, b).u64(uint64(d))
	var failed error
	err := s.scanAll(prefix.clone().off(after+1), prefix.after(), func(k, v []byte) bool {
		r := reader{b: k[len(prefix):]}
		row := SavedDelivery{Tenant: t, Bucket: b, Destination: d, Offset: r.off()}
		if row.Row, failed = decodeRow(v); failed == nil {
			failed = fn(row)
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// DeliveriesByTime walks the rows of a tenant and bucket from the newest event
// down, whatever their destination, starting before (before, destination): of one
// event the destination with the highest id comes first. It stops when fn
// returns false or limit rows were seen.
func (s *Store) DeliveriesByTime(t hark.TenantID, b Bucket, before hark.Offset, destination hark.DestinationID, limit int,
	fn func(hark.Offset, hark.DestinationID, DeliveryRow) bool) (more bool, err error) {
	prefix := bucketKey(tableByEvent, t, b)
	upper := prefix.after()
	if before > 0 {
		upper = prefix.clone().off(before).u64(uint64(destination))
	}
	var failed error
	more, err = s.scanBack(prefix, upper, limit, func(k, _ []byte) bool {
		r := reader{b: k[len(prefix):]}
		o, d := r.off(), hark.DestinationID(r.u64())
		row, ok, err := s.Delivery(t, b, d, o)
		if err != nil {
			failed = err
			return false
		}
		return !ok || fn(o, d, row)
	})
	if failed != nil {
		return false, failed
	}
	return more, err
}
