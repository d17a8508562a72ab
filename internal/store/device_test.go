package store

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

func aDevice() *hark.Device {
	at := time.UnixMilli(1_800_000_000_123).UTC()
	return &hark.Device{ID: 9, Tenant: 3, App: "shop", Kind: "webpush", User: "ann \u00e9", Topics: []hark.Pattern{"user.1.>", "news"}, Locale: "de-AT", Name: "phone",
		Subscription: []byte(`{"endpoint":"https://x/1"}`), VAPIDKey: "k", State: hark.DeviceActive, Created: at, Registered: at.Add(time.Second)}
}

// TestDeviceRows: a device is found by everything it is indexed by, and by nothing after it
// changed or went.
func TestDeviceRows(t *testing.T) {
	s := open(t, Options{})
	d := aDevice()
	target := [16]byte{1, 2}
	byTopic := func(app string, p hark.Pattern) []hark.DeviceID {
		ids, err := s.DevicesByTopic(nil, 3, app, p, 0, ^hark.DeviceID(0)-1, 100)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	byUser := func(user string) (ids []hark.DeviceID) {
		if err := s.DevicesOfUser(3, user, 0, func(id hark.DeviceID, app string) bool { ids = append(ids, id); return app == "shop" }); err != nil {
			t.Fatal(err)
		}
		return ids
	}
	commit(t, s, &DeviceSaved{New: d, Target: target}, &DevicePushed{Tenant: 3, ID: 9, Hour: 500_000})
	got, found, err := s.Device(3, 9)
	want := *d
	want.Pushed = time.Unix(500_000*3600, 0).UTC()
	if err != nil || !found || !reflect.DeepEqual(got, &want) {
		t.Errorf("%+v %v", got, err)
	}
	for _, other := range []struct {
		t  hark.TenantID
		id hark.DeviceID
	}{{3, 8}, {3, 10}, {2, 9}} {
		if _, found, err := s.Device(other.t, other.id); found || err != nil {
			t.Errorf("%v: %v %v", other, found, err)
		}
	}
	one := []hark.DeviceID{9}
	if !slices.Equal(byTopic("shop", "news"), one) || !slices.Equal(byTopic("shop", "user.1.>"), one) || byTopic("default", "news") != nil || byTopic("shop", "new") != nil {
		t.Error("by topic")
	}
	if !slices.Equal(byUser("ann \u00e9"), one) || byUser("ann") != nil {
		t.Error("by user")
	}
	if id, found, err := s.DeviceAt(3, target); err != nil || !found || id != 9 {
		t.Error(id, found, err)
	}
	now := *d
	now.User, now.Topics, now.State, now.Strikes, now.Suspected = "bob", []hark.Pattern{"news", "a"}, hark.DeviceSuspect, 2, d.Created
	commit(t, s, &DeviceSaved{Old: d, New: &now, Target: target})
	if byTopic("shop", "user.1.>") != nil || !slices.Equal(byTopic("shop", "a"), one) || byUser("ann \u00e9") != nil || !slices.Equal(byUser("bob"), one) {
		t.Error("after a change")
	}
	if got, _, _ := s.Device(3, 9); got.Strikes != 2 || got.State != hark.DeviceSuspect || got.Pushed.IsZero() {
		t.Errorf("%+v", got)
	}
	commit(t, s, &DeviceDeleted{Device: &now, Target: target})
	left := 0
	if err := s.scanAll(newKey(tableDevice), newKey(tableDeviceTarget).after(), func(_, _ []byte) bool { left++; return true }); err != nil || left != 0 {
		t.Errorf("%d keys are left, %v", left, err)
	}
}

// TestTenantErasedDevices: nothing of devices and pushes outlives its tenant.
func TestTenantErasedDevices(t *testing.T) {
	s := open(t, Options{})
	for _, tenant := range []hark.TenantID{3, 4} {
		d := aDevice()
		d.Tenant = tenant
		commit(t, s, &DeviceSaved{New: d, Target: [16]byte{1}}, &DevicePushed{Tenant: tenant, ID: 9, Hour: 1},
			&PushJobSaved{Tenant: tenant, Destination: 7, Offset: 5, Value: []byte{1}},
			&PushRetrySaved{PushRetryKey: PushRetryKey{Tenant: tenant, Destination: 7, Due: 5, Offset: 5, Device: 9}, Value: []byte{1, 1}},
			&PushOutcomes{Tenant: tenant, Bucket: 1, Destination: 7, Offset: 5, Number: 1, Value: []byte{1}})
	}
	commit(t, s, &TenantErased{Tenant: 3})
	n := 0
	if err := s.scanAll(newKey(tableDevice), newKey(tablePushOutcome).after(), func(k, _ []byte) bool {
		r := reader{b: k[1:]}
		if tenant := r.u32(); tenant != 4 {
			t.Errorf("table %x: tenant %d", k[0], tenant)
		}
		n++
		return true
	}); err != nil || n != 9 {
		t.Error(n, err)
	}
	commit(t, s, &DeliveriesRemoved{Tenant: 4, Bucket: 1}, &PushesErased{Tenant: 4, Destination: 7})
	for _, table := range []byte{tablePushJob, tablePushRetry, tablePushOutcome} {
		if err := s.scanAll(newKey(table), newKey(table).after(), func(_, _ []byte) bool { t.Errorf("table %x", table); return true }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPushRetriesInOrder: of a line they come in order of time, and of no other line.
func TestPushRetriesInOrder(t *testing.T) {
	s := open(t, Options{})
	for i := range 50 {
		commit(t, s, &PushRetrySaved{PushRetryKey: PushRetryKey{Tenant: 3, Destination: 7, Line: uint8(i % 2), Due: int64(1000 - i), Offset: 5, Device: hark.DeviceID(i)}, Value: []byte{1, byte(i)}})
	}
	last, n := int64(0), 0
	more, err := s.PushRetries(3, 7, 1, 0, 980, 100, func(k PushRetryKey, v []byte) bool {
		if k.Due < last || k.Line != 1 || k.Due > 980 || byte(k.Device) != v[1] {
			t.Errorf("%+v after %d", k, last)
		}
		last = k.Due
		n++
		return true
	})
	if err != nil || more || n != 15 {
		t.Error(n, more, err)
	}
}

func FuzzDeviceRow(f *testing.F) {
	f.Add(EncodeDevice(aDevice()))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeDevice(3, 9, b)
		if err != nil {
			return
		}
		again, err := decodeDevice(3, 9, EncodeDevice(d))
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("%+v became %+v, %v", d, again, err)
		}
	})
}
