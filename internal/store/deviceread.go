package store

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/harkhq/hark"
)

// Device returns one.
func (s *Store) Device(t hark.TenantID, id hark.DeviceID) (*hark.Device, bool, error) {
	var d *hark.Device
	err := s.devices(t, []hark.DeviceID{id}, func(found *hark.Device) { d = found })
	return d, d != nil, err
}

// Devices calls fn for each of some devices that is there. Ids must rise: they are read
// along one iterator.
func (s *Store) Devices(t hark.TenantID, ids []hark.DeviceID, fn func(*hark.Device)) error {
	for len(ids) > 0 {
		n := min(len(ids), scanLimit)
		if err := s.devices(t, ids[:n], fn); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

func (s *Store) devices(t hark.TenantID, ids []hark.DeviceID, fn func(*hark.Device)) error {
	it, err := s.iter(deviceKey(t, ids[0]), deviceKey(t, ids[len(ids)-1]+1))
	if err != nil {
		return err
	}
	defer it.Close()
	for _, id := range ids {
		k := deviceKey(t, id)
		ok := it.Valid() && bytes.Equal(it.Key(), k)
		if !ok {
			ok = it.SeekGE(k) && bytes.Equal(it.Key(), k)
		}
		if !ok {
			if err := it.Error(); err != nil {
				return err
			}
			continue
		}
		d, err := decodeDevice(t, id, it.Value())
		if err != nil {
			return err
		}
		if it.Next() && len(it.Key()) == len(k)+1 && bytes.HasPrefix(it.Key(), k) {
			d.Pushed = hourOf(it.Value())
			it.Next()
		}
		fn(d)
	}
	return it.Error()
}

func hourOf(v []byte) time.Time {
	hours, n := binary.Uvarint(v)
	if n <= 0 {
		return time.Time{}
	}
	return time.Unix(int64(hours)*3600, 0).UTC()
}

// DeviceAt returns the device with a target.
func (s *Store) DeviceAt(t hark.TenantID, target [16]byte) (hark.DeviceID, bool, error) {
	v, ok, err := s.get(targetKey(t, target))
	if !ok || len(v) != 8 {
		return 0, false, err
	}
	return hark.DeviceID(binary.BigEndian.Uint64(v)), true, nil
}

// DevicesAfter returns the ids of a tenant's devices after one, at most limit, and whether
// there are more.
func (s *Store) DevicesAfter(t hark.TenantID, after hark.DeviceID, limit int) (ids []hark.DeviceID, more bool, err error) {
	limit = min(limit, scanLimit)
	more, err = s.scan(deviceKey(t, after+1), tenantKey(tableDevice, t).after(), 2*limit, func(k, _ []byte) bool {
		if len(k) == 13 {
			if len(ids) == limit {
				return false
			}
			ids = append(ids, hark.DeviceID(binary.BigEndian.Uint64(k[5:])))
		}
		return true
	})
	return ids, more, err
}

// DevicesOfUser calls fn for a user's devices, oldest first, after one, until it returns false.
func (s *Store) DevicesOfUser(t hark.TenantID, user string, after hark.DeviceID, fn func(id hark.DeviceID, app string) bool) error {
	prefix := userKey(t, user)
	_, err := s.scan(prefix.clone().u64(uint64(after)+1), prefix.after(), scanLimit, func(k, v []byte) bool {
		return fn(hark.DeviceID(binary.BigEndian.Uint64(k[len(k)-8:])), string(v))
	})
	return err
}

// DevicesByTopic appends the ids of devices of an app that have a pattern: those after one
// and up to another, in order, at most limit.
func (s *Store) DevicesByTopic(dst []hark.DeviceID, t hark.TenantID, app string, p hark.Pattern, after, upto hark.DeviceID, limit int) ([]hark.DeviceID, error) {
	if after >= upto {
		return dst, nil
	}
	prefix := deviceTopicKey(t, app, p)
	_, err := s.scan(prefix.clone().u64(uint64(after)+1), prefix.clone().u64(uint64(upto)+1), min(limit, scanLimit), func(k, _ []byte) bool {
		dst = append(dst, hark.DeviceID(binary.BigEndian.Uint64(k[len(k)-8:])))
		return true
	})
	return dst, err
}

// DeviceTopics calls fn for every pattern of every device of all tenants. The slices are
// valid during the call only.
func (s *Store) DeviceTopics(fn func(t hark.TenantID, app, pattern []byte)) error {
	prefix := newKey(tableDeviceTopic)
	return s.scanAll(prefix, prefix.after(), func(k, _ []byte) bool {
		r := reader{b: k[1:]}
		t := hark.TenantID(r.u32())
		if app, rest, ok := bytes.Cut(r.b, []byte{0}); ok && len(rest) > 9 {
			fn(t, app, rest[:len(rest)-9])
		}
		return true
	})
}

// DeviceCounts calls fn for every device of all tenants.
func (s *Store) DeviceCounts(fn func(t hark.TenantID)) error {
	prefix := newKey(tableDeviceTarget)
	return s.scanAll(prefix, prefix.after(), func(k, _ []byte) bool {
		r := reader{b: k[1:]}
		fn(hark.TenantID(r.u32()))
		return true
	})
}

// DeviceNumbers returns up to where numbers may have been given away.
func (s *Store) DeviceNumbers() (uint64, error) {
	v, ok, err := s.get(metaKey("device numbers"))
	if !ok || len(v) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// PushJob returns how far the pushing of an event has come.
func (s *Store) PushJob(t hark.TenantID, d hark.DestinationID, o hark.Offset) ([]byte, bool, error) {
	return s.get(destinationKey(tablePushJob, t, d).off(o))
}

// PushRetries calls fn for messages of one line, from a time on and due until another, in
// order, until it returns false; at most limit. The value is valid during the call only.
func (s *Store) PushRetries(t hark.TenantID, d hark.DestinationID, line uint8, from, until int64, limit int, fn func(k PushRetryKey, value []byte) bool) (more bool, err error) {
	prefix := pushRetryKey(t, d, line)
	return s.scan(prefix.clone().u64(uint64(from)), prefix.clone().u64(uint64(until)+1), min(limit, scanLimit), func(k, v []byte) bool {
		r := reader{b: k[len(prefix):]}
		return fn(PushRetryKey{Tenant: t, Destination: d, Line: line, Due: int64(r.u64()), Offset: r.off(), Device: hark.DeviceID(r.u64())}, v)
	})
}

// AllPushRetries calls fn for every message of all tenants that is to be pushed again.
func (s *Store) AllPushRetries(fn func(PushRetryKey)) error {
	prefix := newKey(tablePushRetry)
	return s.scanAll(prefix, prefix.after(), func(k, _ []byte) bool {
		r := reader{b: k[1:]}
		fn(PushRetryKey{Tenant: hark.TenantID(r.u32()), Destination: hark.DestinationID(r.u64()), Line: r.u8(), Due: int64(r.u64()),
			Offset: r.off(), Device: hark.DeviceID(r.u64())})
		return true
	})
}

// Outcomes calls fn for the pages of outcomes of one event, oldest first, from a number on,
// until it returns false. The value is valid during the call only.
func (s *Store) Outcomes(t hark.TenantID, b Bucket, d hark.DestinationID, o hark.Offset, from uint64, fn func(number uint64, value []byte) bool) (more bool, err error) {
	prefix := bucketKey(tablePushOutcome, t, b).u64(uint64(d)).off(o)
	size := 0
	return s.scan(prefix.clone().u64(from), prefix.after(), scanLimit, func(k, v []byte) bool {
		size += len(v)
		return fn(binary.BigEndian.Uint64(k[len(k)-8:]), v) && size < scanBytes
	})
}

// VendorToken returns what is kept under a name.
func (s *Store) VendorToken(name string) ([]byte, bool, error) {
	return s.get(newKey(tableVendorToken).text(name))
}
