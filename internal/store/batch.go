package store

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
	"github.com/harkhq/hark"
)

// A batch is named by the offset of its first event. While it is open its row
// stands apart, where retention does not reach it; when it ended it moves among
// the delivery rows of its bucket and goes with them.

// BatchOpened keeps a batch that was accepted; it goes into the commit of its events.
type BatchOpened struct {
	Tenant hark.TenantID
	Bucket Bucket
	Offset hark.Offset
	// Name is the hash of its uid; zero for none.
	Name  [16]byte
	Value []byte
}

func (r *BatchOpened) apply(b *pebble.Batch) {
	set(b, openBatchKey(r.Tenant, r.Offset), r.Value)
	if r.Name != [16]byte{} {
		set(b, batchNameKey(r.Tenant, r.Bucket, r.Name), key(nil).off(r.Offset))
	}
}

// BatchEnded moves a batch's row among those that ended; it goes into the commit of
// the event that tells.
type BatchEnded struct {
	Tenant hark.TenantID
	Bucket Bucket
	Offset hark.Offset
	Value  []byte
	// Told is the offset of the event that tells.
	Told hark.Offset
	// To is where that event still has to be sent; zero for nowhere.
	To hark.DestinationID
}

func (r *BatchEnded) apply(b *pebble.Batch) {
	must(b.Delete(openBatchKey(r.Tenant, r.Offset), nil))
	set(b, batchKey(r.Tenant, r.Bucket, r.Offset), append(key(nil).off(r.Told), r.Value...))
	if r.To != 0 {
		set(b, owedBatchKey(r.Tenant, r.Offset), key(nil).off(r.Told).u64(uint64(r.To)))
	}
}

// BatchPaid notes that the event that tells of a batch is a delivery by now.
type BatchPaid struct {
	Tenant hark.TenantID
	Offset hark.Offset
}

func (r *BatchPaid) apply(b *pebble.Batch) { must(b.Delete(owedBatchKey(r.Tenant, r.Offset), nil)) }

// BatchForgotten removes a batch, open or ended. Its events and deliveries stay.
type BatchForgotten struct {
	Tenant hark.TenantID
	Bucket Bucket
	Offset hark.Offset
	Name   [16]byte
}

func (r *BatchForgotten) apply(b *pebble.Batch) {
	must(b.Delete(openBatchKey(r.Tenant, r.Offset), nil))
	must(b.Delete(batchKey(r.Tenant, r.Bucket, r.Offset), nil))
	must(b.Delete(owedBatchKey(r.Tenant, r.Offset), nil))
	if r.Name != [16]byte{} {
		must(b.Delete(batchNameKey(r.Tenant, r.Bucket, r.Name), nil))
	}
}

func batchKey(t hark.TenantID, b Bucket, o hark.Offset) key {
	return bucketKey(tableBatch, t, b).off(o)
}

func batchNameKey(t hark.TenantID, b Bucket, name [16]byte) key {
	return append(bucketKey(tableBatchName, t, b), name[:]...)
}

func openBatchKey(t hark.TenantID, o hark.Offset) key { return tenantKey(tableOpenBatch, t).off(o) }

func owedBatchKey(t hark.TenantID, o hark.Offset) key { return tenantKey(tableOwedBatch, t).off(o) }

// SavedBatch is a batch's row with the place it stands at.
type SavedBatch struct {
	Tenant hark.TenantID
	Offset hark.Offset
	Value  []byte
	Ended  bool
	// Told is the offset of the event that told its end.
	Told hark.Offset
}

func endedBatch(t hark.TenantID, o hark.Offset, v []byte) SavedBatch {
	r := reader{b: v}
	return SavedBatch{Tenant: t, Offset: o, Ended: true, Told: r.off(), Value: append([]byte(nil), r.b...)}
}

// Batch returns one, open or ended.
func (s *Store) Batch(t hark.TenantID, b Bucket, o hark.Offset) (SavedBatch, bool, error) {
	v, ok, err := s.get(openBatchKey(t, o))
	if ok || err != nil {
		return SavedBatch{Tenant: t, Offset: o, Value: v}, ok, err
	}
	// It may have ended between the two looks: then it is where this one looks.
	if v, ok, err = s.get(batchKey(t, b, o)); !ok {
		return SavedBatch{}, false, err
	}
	return endedBatch(t, o, v), true, nil
}

// BatchNamed returns the batch of a tenant that has a name in one bucket.
func (s *Store) BatchNamed(t hark.TenantID, b Bucket, name [16]byte) (hark.Offset, bool, error) {
	v, ok, err := s.get(batchNameKey(t, b, name))
	if !ok || len(v) != 8 {
		return 0, false, err
	}
	return hark.Offset(binary.BigEndian.Uint64(v)), true, nil
}

// OpenBatches calls fn for every open batch of all tenants, in log order of each.
func (s *Store) OpenBatches(fn func(SavedBatch)) error {
	prefix := newKey(tableOpenBatch)
	return s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		r := reader{b: k[1:]}
		fn(SavedBatch{Tenant: hark.TenantID(r.u32()), Offset: r.off(), Value: append([]byte(nil), v...)})
		return true
	})
}

// OpenBatchWithin reports whether a tenant has an open batch that begins at first or
// later, and before after.
func (s *Store) OpenBatchWithin(t hark.TenantID, first, after hark.Offset) (found bool, err error) {
	_, err = s.scan(openBatchKey(t, first), openBatchKey(t, after), 1, func(_, _ []byte) bool {
		found = true
		return false
	})
	return found, err
}

// OwedBatches calls fn for every batch whose end was told by an event that is not
// known to be a delivery yet.
func (s *Store) OwedBatches(fn func(t hark.TenantID, batch, told hark.Offset, to hark.DestinationID)) error {
	prefix := newKey(tableOwedBatch)
	return s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		rk, rv := reader{b: k[1:]}, reader{b: v}
		fn(hark.TenantID(rk.u32()), rk.off(), rv.off(), hark.DestinationID(rv.u64()))
		return true
	})
}

// BatchesBefore returns a tenant's batches before an offset, newest first, at most
// limit of the open and limit of the ended ones. b is the bucket of before.
func (s *Store) BatchesBefore(t hark.TenantID, b Bucket, before hark.Offset, limit int) (open, ended []SavedBatch, err error) {
	limit = min(limit, scanLimit)
	prefix := tenantKey(tableOpenBatch, t)
	_, err = s.scanBack(prefix, prefix.clone().off(before), limit, func(k, v []byte) bool {
		r := reader{b: k[len(prefix):]}
		open = append(open, SavedBatch{Tenant: t, Offset: r.off(), Value: append([]byte(nil), v...)})
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	prefix = tenantKey(tableBatch, t)
	_, err = s.scanBack(prefix, batchKey(t, b, before), limit, func(k, v []byte) bool {
		r := reader{b: k[len(prefix)+4:]}
		ended = append(ended, endedBatch(t, r.off(), v))
		return true
	})
	return open, ended, err
}

// DeliveriesOf calls fn for each row of one destination among n offsets from first on.
func (s *Store) DeliveriesOf(t hark.TenantID, b Bucket, d hark.DestinationID, first hark.Offset, n int, fn func(hark.Offset, DeliveryRow)) error {
	prefix := bucketKey(tableDelivery, t, b).u64(uint64(d))
	var failed error
	err := s.scanAll(prefix.clone().off(first), prefix.clone().off(first+hark.Offset(n)), func(k, v []byte) bool {
		r := reader{b: k[len(prefix):]}
		o := r.off()
		row, err := decodeRow(v)
		if failed = err; err == nil {
			fn(o, row)
		}
		return err == nil
	})
	if failed != nil {
		return failed
	}
	return err
}
