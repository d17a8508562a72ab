package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/harkhq/hark"
)

// The tables of devices and of what is pushed to them:
//
//	60 device       tenant 4, id 8                       → row, see EncodeDevice
//	                tenant 4, id 8, 01                   → hour of the last message it took, uvarint
//	61 by user      tenant 4, user, 00, id 8             → app
//	62 by topic     tenant 4, app, 00, pattern, 00, id 8 → nothing
//	63 by target    tenant 4, hash 16                    → id 8
//	64 push job     tenant 4, destination 8, offset 8    → value of package device
//	65 push retry   tenant 4, destination 8, line 1, due 8, offset 8, device 8 → value of package device
//	66 outcomes     tenant 4, bucket 4, destination 8, offset 8, number 8 → value of package device
//	67 vendor token name                                 → value
//
// A user and an app hold no NUL.

const deviceVersion = 1

// EncodeDevice returns the stored form of a device but for Pushed, which changes more
// often than the rest:
//
//	version 1, created, registered, suspected (Unix ms, varints; 0 for none), strikes,
//	then texts: state, reason, app, kind, user, locale, name, subscription, VAPID key,
//	token, fid, environment; topics (count, then each)
func EncodeDevice(d *hark.Device) []byte {
	texts := [...]string{string(d.State), d.Reason, d.App, d.Kind, d.User, d.Locale, d.Name, string(d.Subscription), d.VAPIDKey,
		d.Token.Reveal(), d.FID.Reveal(), d.Environment}
	n := 32
	for _, s := range texts {
		n += len(s) + 2
	}
	for _, p := range d.Topics {
		n += len(p) + 2
	}
	b := append(make([]byte, 0, n), deviceVersion)
	for _, t := range [...]time.Time{d.Created, d.Registered, d.Suspected} {
		b = binary.AppendVarint(b, millis(t))
	}
	b = binary.AppendUvarint(b, uint64(d.Strikes))
	for _, s := range texts {
		b = appendBytes(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(d.Topics)))
	for _, p := range d.Topics {
		b = appendBytes(b, string(p))
	}
	return b
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func decodeDevice(t hark.TenantID, id hark.DeviceID, v []byte) (*hark.Device, error) {
	r := reader{b: v}
	if version := r.u8(); version != deviceVersion {
		return nil, fmt.Errorf("device version %d: %w", version, errCorrupt)
	}
	d := &hark.Device{ID: id, Tenant: t, Created: fromMillis(r.varint()), Registered: fromMillis(r.varint()), Suspected: fromMillis(r.varint()),
		Strikes: int(r.uvarint())}
	before := r.b
	for range 7 {
		r.bytes()
	}
	text := textsOf(before[:len(before)-len(r.b)])
	d.State, d.Reason, d.App, d.Kind = hark.DeviceState(text.next()), text.next(), text.next(), text.next()
	d.User, d.Locale, d.Name = text.next(), text.next(), text.next()
	if s := r.bytes(); len(s) > 0 { // the longest, so it is not among the texts as well
		d.Subscription = append(json.RawMessage(nil), s...)
	}
	text = textsOf(r.b)
	d.VAPIDKey, d.Token, d.FID, d.Environment = text.next(), hark.Secret(text.next()), hark.Secret(text.next()), text.next()
	n := text.uvarint()
	if r.bad || text.bad || n > hark.MaxPatterns {
		return nil, fmt.Errorf("device: %w", errCorrupt)
	}
	d.Topics = make([]hark.Pattern, n)
	for i := range d.Topics {
		d.Topics[i] = hark.Pattern(text.next())
	}
	if text.bad || d.App == "" {
		return nil, fmt.Errorf("device: %w", errCorrupt)
	}
	return d, nil
}

// texts reads texts, all of which share one copy of what is read.
type texts struct {
	reader
	all string
}

func textsOf(b []byte) texts { return texts{reader{b: b}, string(b)} }

func (t *texts) next() string {
	b := t.bytes()
	end := len(t.all) - len(t.b)
	return t.all[end-len(b) : end]
}

func deviceKey(t hark.TenantID, id hark.DeviceID) key {
	return tenantKey(tableDevice, t).u64(uint64(id))
}

func pushedKey(t hark.TenantID, id hark.DeviceID) key { return deviceKey(t, id).u8(1) }

func userKey(t hark.TenantID, user string) key { return tenantKey(tableDeviceUser, t).text(user).u8(0) }

func deviceTopicKey(t hark.TenantID, app string, p hark.Pattern) key {
	k := append(make(key, 0, 15+len(app)+len(p)), tableDeviceTopic).u32(uint32(t))
	return k.text(app).u8(0).text(string(p)).u8(0)
}

func targetKey(t hark.TenantID, target [16]byte) key {
	return append(tenantKey(tableDeviceTarget, t), target[:]...)
}

// DeviceSaved creates or replaces a device with its index entries. Old is what it
// replaces, nil if it is new; both have the same id and target.
type DeviceSaved struct {
	Old, New *hark.Device
	Target   [16]byte
}

func (r *DeviceSaved) apply(b *pebble.Batch) {
	d, old := r.New, r.Old
	if old == nil {
		old = &hark.Device{}
		set(b, targetKey(d.Tenant, r.Target), key(nil).u64(uint64(d.ID)))
	}
	set(b, deviceKey(d.Tenant, d.ID), EncodeDevice(d))
	if old.User != d.User || old.App != d.App {
		if old.User != "" {
			must(b.Delete(userKey(d.Tenant, old.User).u64(uint64(d.ID)), nil))
		}
		if d.User != "" {
			set(b, userKey(d.Tenant, d.User).u64(uint64(d.ID)), key(d.App))
		}
	}
	for _, p := range old.Topics {
		if !has(d.Topics, p) {
			must(b.Delete(deviceTopicKey(d.Tenant, old.App, p).u64(uint64(d.ID)), nil))
		}
	}
	for _, p := range d.Topics {
		if !has(old.Topics, p) {
			set(b, deviceTopicKey(d.Tenant, d.App, p).u64(uint64(d.ID)), nil)
		}
	}
}

func has(ps []hark.Pattern, p hark.Pattern) bool {
	for _, q := range ps {
		if p == q {
			return true
		}
	}
	return false
}

// DeviceDeleted takes a device away, with its index entries.
type DeviceDeleted struct {
	Device *hark.Device
	Target [16]byte
}

func (r *DeviceDeleted) apply(b *pebble.Batch) {
	d := r.Device
	must(b.Delete(deviceKey(d.Tenant, d.ID), nil))
	must(b.Delete(pushedKey(d.Tenant, d.ID), nil))
	must(b.Delete(targetKey(d.Tenant, r.Target), nil))
	if d.User != "" {
		must(b.Delete(userKey(d.Tenant, d.User).u64(uint64(d.ID)), nil))
	}
	for _, p := range d.Topics {
		must(b.Delete(deviceTopicKey(d.Tenant, d.App, p).u64(uint64(d.ID)), nil))
	}
}

// DevicePushed notes the hour in which a device took a message.
type DevicePushed struct {
	Tenant hark.TenantID
	ID     hark.DeviceID
	Hour   int64 // since 1970
}

func (r *DevicePushed) apply(b *pebble.Batch) {
	set(b, pushedKey(r.Tenant, r.ID), binary.AppendUvarint(nil, uint64(r.Hour)))
}

// DeviceNumbersTaken says up to which number ids of devices and of pages of outcomes may
// have been given away.
type DeviceNumbersTaken struct{ Upto uint64 }

func (r *DeviceNumbersTaken) apply(b *pebble.Batch) {
	set(b, metaKey("device numbers"), key(nil).u64(r.Upto))
}

// PushJobSaved keeps how far the pushing of an event has come.
type PushJobSaved struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
	Offset      hark.Offset
	Value       []byte // nil when it is done
}

func (r *PushJobSaved) apply(b *pebble.Batch) {
	k := destinationKey(tablePushJob, r.Tenant, r.Destination).off(r.Offset)
	if r.Value == nil {
		must(b.Delete(k, nil))
		return
	}
	set(b, k, r.Value)
}

// PushRetryKey is the place of a message that is to be pushed to one device again.
type PushRetryKey struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
	// Line 0 is in order of time; others are held, each for its reason, and stand in the
	// order in which they came.
	Line   uint8
	Due    int64 // Unix ms
	Offset hark.Offset
	Device hark.DeviceID
}

func (k *PushRetryKey) key() key {
	return pushRetryKey(k.Tenant, k.Destination, k.Line).u64(uint64(k.Due)).off(k.Offset).u64(uint64(k.Device))
}

func pushRetryKey(t hark.TenantID, d hark.DestinationID, line uint8) key {
	return append(make(key, 0, 38), tablePushRetry).u32(uint32(t)).u64(uint64(d)).u8(line)
}

// PushRetrySaved keeps a message that is to be pushed again.
type PushRetrySaved struct {
	PushRetryKey
	Value []byte
}

func (r *PushRetrySaved) apply(b *pebble.Batch) { set(b, r.key(), r.Value) }

// PushRetryDone takes one away.
type PushRetryDone struct{ PushRetryKey }

func (r *PushRetryDone) apply(b *pebble.Batch) { must(b.Delete(r.key(), nil)) }

// PushesErased takes away what an audience that is deleted had still to push.
type PushesErased struct {
	Tenant      hark.TenantID
	Destination hark.DestinationID
}

func (r *PushesErased) apply(b *pebble.Batch) {
	for _, table := range []byte{tablePushJob, tablePushRetry} {
		k := destinationKey(table, r.Tenant, r.Destination)
		must(b.DeleteRange(k, k.after(), nil))
	}
}

// PushOutcomes keeps what came of one event for some devices. It goes with the delivery
// rows of its bucket.
type PushOutcomes struct {
	Tenant      hark.TenantID
	Bucket      Bucket // of the event's offset
	Destination hark.DestinationID
	Offset      hark.Offset
	Number      uint64 // rises with time
	Value       []byte
}

func (r *PushOutcomes) apply(b *pebble.Batch) {
	set(b, bucketKey(tablePushOutcome, r.Tenant, r.Bucket).u64(uint64(r.Destination)).off(r.Offset).u64(r.Number), r.Value)
}

// VendorTokenSaved keeps what a push vendor gave or what it must not see changed too often.
// Whoever uses the same credentials shares it, so it is under no tenant: those who delete the
// credentials take it away.
type VendorTokenSaved struct {
	Name  string
	Value []byte
}

func (r *VendorTokenSaved) apply(b *pebble.Batch) {
	set(b, newKey(tableVendorToken).text(r.Name), r.Value)
}

// VendorTokenErased takes one away.
type VendorTokenErased struct{ Name string }

func (r *VendorTokenErased) apply(b *pebble.Batch) {
	must(b.Delete(newKey(tableVendorToken).text(r.Name), nil))
}

// Records are changes that stand or fall together, as one.
type Records []Record

func (rs Records) apply(b *pebble.Batch) {
	for _, r := range rs {
		r.apply(b)
	}
}
