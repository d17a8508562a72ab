package store

import (
	"encoding/binary"

	"github.com/harkhq/hark"
)

// Bucket numbers a stretch of the shard's log, from 1.
type Bucket uint32

const (
	tableMeta        = 0x01
	tableIncarnation = 0x02
	tableBucket      = 0x03
	tableEvent       = 0x10
	tableTopic       = 0x11
	tableIdempotency = 0x12
	tableEventName   = 0x13
	tableUsage       = 0x14
	tableLost        = 0x15
	tablePart        = 0x16
	tableValues      = 0x17
	tableRegistry    = 0x20
	tableDelivery    = 0x30
	tableByEvent     = 0x31
	tableByState     = 0x32
	tableAttempt     = 0x33
	tableDeliveryUse = 0x34
	tableBatch       = 0x38
	tableBatchName   = 0x39
	tableCursor      = 0x40
	tableReplay      = 0x41
	tableGap         = 0x42
	tableFiltered    = 0x43
	tableHealth      = 0x44
	tableOpenBatch   = 0x48
	tableOwedBatch   = 0x49
	tableCapture     = 0x50
	tableCaptureBody = 0x51
	tableCaptureUse  = 0x52

	tableDevice           = 0x60
	tableDeviceUser       = 0x61
	tableDeviceTopic      = 0x62
	tableDeviceTarget     = 0x63
	tablePushJob          = 0x64
	tablePushRetry        = 0x65
	tablePushOutcome      = 0x66
	tableVendorToken      = 0x67
	tablePushSecret       = 0x68
	tablePushAgent        = 0x69
	tablePushEndpoint     = 0x6a
	tablePushSubscription = 0x6b
	tablePushMessage      = 0x6c
	tablePushTopic        = 0x6d
	tablePushDue          = 0x6e
	tablePushReceipt      = 0x6f
	tableScheduled        = 0x70
	tableScheduledSize    = 0x71
)

// key builds keys without reflection; each method appends big endian.
type key []byte

func newKey(table byte) key { return append(make(key, 0, 40), table) }

func (k key) u8(v byte) key         { return append(k, v) }
func (k key) u32(v uint32) key      { return binary.BigEndian.AppendUint32(k, v) }
func (k key) u64(v uint64) key      { return binary.BigEndian.AppendUint64(k, v) }
func (k key) text(s string) key     { return append(k, s...) }
func (k key) clone() key            { return append(make(key, 0, len(k)+16), k...) }
func (k key) off(v hark.Offset) key { return k.u64(uint64(v)) }

// after returns the first key that does not begin with k.
func (k key) after() key {
	end := k.clone()
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

func tenantKey(table byte, t hark.TenantID) key { return newKey(table).u32(uint32(t)) }

func bucketKey(table byte, t hark.TenantID, b Bucket) key {
	return tenantKey(table, t).u32(uint32(b))
}

func eventKey(t hark.TenantID, o hark.Offset) key { return tenantKey(tableEvent, t).off(o) }

func partKey(t hark.TenantID, anchor hark.Offset, n uint32) key {
	return tenantKey(tablePart, t).off(anchor).u32(n)
}

func topicKey(t hark.TenantID, b Bucket, topic string, o hark.Offset) key {
	k := make(key, 0, 9+len(topic)+9)
	return append(k, tableTopic).u32(uint32(t)).u32(uint32(b)).text(topic).u8(0).off(o)
}

func eventNameKey(t hark.TenantID, b Bucket, name [16]byte) key {
	return append(bucketKey(tableEventName, t, b), name[:]...)
}

func deliveryKey(t hark.TenantID, b Bucket, d hark.DestinationID, o hark.Offset) key {
	return bucketKey(tableDelivery, t, b).u64(uint64(d)).off(o)
}

func byEventKey(t hark.TenantID, b Bucket, o hark.Offset, d hark.DestinationID) key {
	return bucketKey(tableByEvent, t, b).off(o).u64(uint64(d))
}

func byStateKey(t hark.TenantID, b Bucket, s hark.State, d hark.DestinationID, o hark.Offset) key {
	return bucketKey(tableByState, t, b).u8(byte(s)).u64(uint64(d)).off(o)
}

func attemptKey(t hark.TenantID, b Bucket, d hark.DestinationID, o hark.Offset, number int) key {
	return bucketKey(tableAttempt, t, b).u64(uint64(d)).off(o).u32(uint32(number))
}

func destinationKey(table byte, t hark.TenantID, d hark.DestinationID) key {
	return tenantKey(table, t).u64(uint64(d))
}

// reader takes a key or value apart. A short one sets bad and yields zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || len(r.b) < n {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) off() hark.Offset { return hark.Offset(r.u64()) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes reads a length and that many bytes, still inside the buffer.
func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	return r.take(int(n))
}

func appendBytes[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}
