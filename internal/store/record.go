package store

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
	"github.com/harkhq/hark"
)

// Record is one typed change. Its effect on the key space depends on nothing
// but itself. The types are in this file, delivery.go, registry.go, capture.go and device.go.
type Record interface{ apply(*pebble.Batch) }

// EventAppended adds an event to the log and to the topic index.
type EventAppended struct {
	Tenant hark.TenantID
	Bucket Bucket
	Offset hark.Offset
	Topic  string
	Head   []byte // from [AppendEventHead]
	Data   []byte // the event's own, which is copied only into the batch

	// Of data in parts (see [PartsOf]): where they are, and how many are written already.
	Anchor  hark.Offset
	Part    uint32
	Written uint32

	outside place // where the data is, if it is in the files; see values.go
}

func (r *EventAppended) apply(b *pebble.Batch) {
	if r.outside.length > 0 {
		r.applyOutside(b)
	} else {
		r.applyInside(b)
	}
	op := b.SetDeferred(9+len(r.Topic)+9, 0)
	k := op.Key
	k[0] = tableTopic
	binary.BigEndian.PutUint32(k[1:], uint32(r.Tenant))
	binary.BigEndian.PutUint32(k[5:], uint32(r.Bucket))
	end := 9 + copy(k[9:], r.Topic)
	k[end] = 0
	binary.BigEndian.PutUint64(k[end+1:], uint64(r.Offset))
	must(op.Finish())
}

func (r *EventAppended) putKey(k []byte) {
	k[0] = tableEvent
	binary.BigEndian.PutUint32(k[1:], uint32(r.Tenant))
	binary.BigEndian.PutUint64(k[5:], uint64(r.Offset))
}

func (r *EventAppended) applyInside(b *pebble.Batch) {
	n := PartsOf(len(r.Data))
	first := r.Data[:min(len(r.Data), partBytes)]
	op := b.SetDeferred(13, len(r.Head)+len(first))
	r.putKey(op.Key)
	copy(op.Value[copy(op.Value, r.Head):], first)
	if n > 0 {
		binary.BigEndian.PutUint64(op.Value[9:], uint64(r.Anchor))
		binary.BigEndian.PutUint32(op.Value[17:], r.Part)
	}
	must(op.Finish())
	for i := r.Written; i < n; i++ {
		r.PartAt(i).apply(b)
	}
}

func (r *EventAppended) applyOutside(b *pebble.Batch) {
	op := b.SetDeferred(13, len(r.Head)+placeBytes)
	r.putKey(op.Key)
	v := op.Value
	copy(v, r.Head[:9])
	v[0] = eventOutside
	r.outside.put(v[9:])
	copy(v[9+placeBytes:], r.Head[9:])
	must(op.Finish())
}

// PartAt is the i-th of the event's parts, of [PartsOf].
func (r *EventAppended) PartAt(i uint32) *EventPart {
	at := int(i+1) * partBytes
	return &EventPart{Tenant: r.Tenant, Anchor: r.Anchor, Part: r.Part + i, Data: r.Data[at:min(len(r.Data), at+partBytes)]}
}

// EventPart is a part of an event's data. It may be written before its event, whose offset
// is not known then. So parts stand under an anchor: an offset at most that of their event
// and greater than those of all events of the tenant before it, with which they go. Parts
// that no event came to refer to are written over by the tenant's next request, whose commit
// takes what is left of them away ([PartsForgotten]); after a crash they go with its next events.
type EventPart struct {
	Tenant hark.TenantID
	Anchor hark.Offset
	Part   uint32
	Data   []byte
}

func (r *EventPart) apply(b *pebble.Batch) {
	op := b.SetDeferred(17, len(r.Data))
	op.Key[0] = tablePart
	binary.BigEndian.PutUint32(op.Key[1:], uint32(r.Tenant))
	binary.BigEndian.PutUint64(op.Key[5:], uint64(r.Anchor))
	binary.BigEndian.PutUint32(op.Key[13:], r.Part)
	copy(op.Value, r.Data)
	must(op.Finish())
}

// PartsForgotten takes the parts under an anchor away, from the From-th on.
type PartsForgotten struct {
	Tenant hark.TenantID
	Anchor hark.Offset
	From   uint32
}

func (r *PartsForgotten) apply(b *pebble.Batch) {
	must(b.DeleteRange(partKey(r.Tenant, r.Anchor, r.From), partKey(r.Tenant, r.Anchor+1, 0), nil))
}

// IncarnationStarted says from which offset on ids carry a new incarnation.
type IncarnationStarted struct {
	Incarnation uint64
	First       hark.Offset
}

func (r *IncarnationStarted) apply(b *pebble.Batch) {
	set(b, newKey(tableIncarnation).u64(r.Incarnation), key(nil).off(r.First))
}

// BucketStarted opens the next stretch of the log.
type BucketStarted struct {
	Bucket Bucket
	First  hark.Offset
	Start  int64 // Unix ms
}

func (r *BucketStarted) apply(b *pebble.Batch) {
	set(b, newKey(tableBucket).u32(uint32(r.Bucket)), key(nil).off(r.First).u64(uint64(r.Start)))
}

// Usage is what a tenant holds in one bucket: of events, or of deliveries.
type Usage struct {
	Count uint64
	Bytes uint64
	// First and Last are the tenant's outermost offsets in the bucket; events only.
	First, Last hark.Offset
	// Newest is the received time of the last one, Unix ms; events only.
	Newest int64
}

func (u Usage) value() key {
	return u.appendTo(make(key, 0, 40))
}

func (u Usage) appendTo(k key) key {
	return k.u64(u.Count).u64(u.Bytes).off(u.First).off(u.Last).u64(uint64(u.Newest))
}

func readUsage(v []byte) Usage {
	r := reader{b: v}
	return Usage{Count: r.u64(), Bytes: r.u64(), First: r.off(), Last: r.off(), Newest: int64(r.u64())}
}

// EventUsage sets the running total of a tenant's events in a bucket.
type EventUsage struct {
	Tenant hark.TenantID
	Bucket Bucket
	Usage  Usage
}

func (r *EventUsage) apply(b *pebble.Batch) {
	op := b.SetDeferred(9, 40) // one for each tenant of a group: no garbage
	op.Key[0] = tableUsage
	binary.BigEndian.PutUint32(op.Key[1:], uint32(r.Tenant))
	binary.BigEndian.PutUint32(op.Key[5:], uint32(r.Bucket))
	r.Usage.appendTo(op.Value[:0])
	must(op.Finish())
}

// DeliveryUsage sets the running total of a tenant's delivery rows in a bucket.
type DeliveryUsage struct {
	Tenant hark.TenantID
	Bucket Bucket
	Usage  Usage
}

func (r *DeliveryUsage) apply(b *pebble.Batch) {
	set(b, bucketKey(tableDeliveryUse, r.Tenant, r.Bucket), r.Usage.value())
}

// EventNamed makes an event findable by an id that its publisher gave it. The name
// goes with its bucket. In one bucket the last event of a name is found.
type EventNamed struct {
	Tenant hark.TenantID
	Bucket Bucket
	Name   [16]byte // hash of the id
	Offset hark.Offset
}

func (r *EventNamed) apply(b *pebble.Batch) {
	set(b, eventNameKey(r.Tenant, r.Bucket, r.Name), key(nil).off(r.Offset))
}

// EventsRemoved takes a tenant's events of one bucket away, with their topic
// index and names, and remembers the last offset that is gone.
type EventsRemoved struct {
	Tenant hark.TenantID
	Bucket Bucket
	Usage  Usage // what was there
}

func (r *EventsRemoved) apply(b *pebble.Batch) {
	must(b.DeleteRange(eventKey(r.Tenant, r.Usage.First), eventKey(r.Tenant, r.Usage.Last+1), nil))
	must(b.DeleteRange(partKey(r.Tenant, 0, 0), partKey(r.Tenant, r.Usage.Last+1, 0), nil))
	index := bucketKey(tableTopic, r.Tenant, r.Bucket)
	must(b.DeleteRange(index, index.after(), nil))
	names := bucketKey(tableEventName, r.Tenant, r.Bucket)
	must(b.DeleteRange(names, names.after(), nil))
	must(b.Delete(bucketKey(tableUsage, r.Tenant, r.Bucket), nil))
	must(b.Delete(bucketKey(tableValues, r.Tenant, r.Bucket), nil))
	set(b, tenantKey(tableLost, r.Tenant), key(nil).off(r.Usage.Last))
}

// DeliveriesRemoved takes a tenant's delivery rows, attempts, indexes, outcomes of pushes and ended batches of one bucket away.
type DeliveriesRemoved struct {
	Tenant hark.TenantID
	Bucket Bucket
}

func (r *DeliveriesRemoved) apply(b *pebble.Batch) {
	for _, table := range []byte{tableDelivery, tableByEvent, tableByState, tableAttempt, tableBatch, tableBatchName, tablePushOutcome} {
		k := bucketKey(table, r.Tenant, r.Bucket)
		must(b.DeleteRange(k, k.after(), nil))
	}
	must(b.Delete(bucketKey(tableDeliveryUse, r.Tenant, r.Bucket), nil))
}

// BucketForgotten removes a bucket that no tenant has anything in.
type BucketForgotten struct{ Bucket Bucket }

func (r *BucketForgotten) apply(b *pebble.Batch) {
	must(b.Delete(newKey(tableBucket).u32(uint32(r.Bucket)), nil))
}

// Idempotency is what one remembered key led to.
type Idempotency struct {
	Body  [16]byte // hash of the request
	First hark.Offset
	Count int
}

// IdempotencyStored remembers a key in the same batch as its events.
type IdempotencyStored struct {
	Tenant hark.TenantID
	Window uint32 // number of the time window it was made in
	Hash   [16]byte
	Value  Idempotency
}

func (r *IdempotencyStored) apply(b *pebble.Batch) {
	k := append(tenantKey(tableIdempotency, r.Tenant).u32(r.Window), r.Hash[:]...)
	v := append(make(key, 0, 28), r.Value.Body[:]...)
	set(b, k, v.off(r.Value.First).u32(uint32(r.Value.Count)))
}

// IdempotencyForgotten drops every key of a tenant made before a window.
type IdempotencyForgotten struct {
	Tenant hark.TenantID
	Before uint32
}

func (r *IdempotencyForgotten) apply(b *pebble.Batch) {
	from := tenantKey(tableIdempotency, r.Tenant)
	must(b.DeleteRange(from, from.clone().u32(r.Before), nil))
}

// TenantErased takes away everything a tenant has. What stays is how far the
// shard's log had come: were the newest events the tenant's, their offsets would
// be given out again after a restart.
type TenantErased struct {
	Tenant hark.TenantID
	// End is the log's end when the tenant could no longer publish; see eventlog.Log.Erase.
	End hark.Offset
}

func (r *TenantErased) apply(b *pebble.Batch) {
	for _, table := range []byte{tableEvent, tableTopic, tableIdempotency, tableEventName, tableUsage, tableLost, tablePart, tableValues, tableDelivery,
		tableByEvent, tableByState, tableAttempt, tableDeliveryUse, tableCursor, tableReplay, tableGap, tableFiltered, tableHealth,
		tableCapture, tableCaptureBody, tableCaptureUse,
		tableBatch, tableBatchName, tableOpenBatch, tableOwedBatch,
		tableDevice, tableDeviceUser, tableDeviceTopic, tableDeviceTarget, tablePushJob, tablePushRetry, tablePushOutcome,
		tableScheduled, tableScheduledSize} {
		k := tenantKey(table, r.Tenant)
		must(b.DeleteRange(k, k.after(), nil))
	}
	if r.End > 0 {
		set(b, tenantKey(tableLost, r.Tenant), key(nil).off(r.End))
	}
}

func set(b *pebble.Batch, k, v key) { must(b.Set(k, v, nil)) }

// must: writing to a batch fails only for a batch already committed or closed,
// which is a fault in this package.
func must(err error) {
	if err != nil {
		panic("store: batch: " + err.Error())
	}
}
