package eventlog

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/harkhq/hark"
)

func keyHashOf(n int) [16]byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return [16]byte(sum[:16])
}

// TestSeen: a key that was added is never called absent; of those that were not,
// nearly all are; and a window that did not begin here is unknown.
func TestSeen(t *testing.T) {
	var s seen
	s.init()
	const keys = 300_000
	for n := range keys {
		s.add(1, 7, keyHashOf(n), func() bool { return n == 0 })
		s.add(1, 6, keyHashOf(n), func() bool { return false })
	}
	wrong := 0
	for n := range keys {
		if s.absent(1, 7, keyHashOf(n)) {
			t.Fatalf("key %d of %d is called absent", n, keys)
		}
		if !s.absent(1, 7, keyHashOf(keys+n)) {
			wrong++
		}
		if s.absent(1, 6, keyHashOf(keys+n)) || s.absent(2, 7, keyHashOf(keys+n)) {
			t.Fatal("something is known of a window that did not begin here")
		}
	}
	if wrong > keys/50 {
		t.Errorf("%d of %d new keys are taken for known ones", wrong, keys)
	}
	if s.bytes < 2*keys || s.bytes > 5*keys {
		t.Errorf("%d bytes for %d keys", s.bytes, keys)
	}
	s.forget(1, 7)
	if s.absent(1, 7, keyHashOf(keys)) == false {
		t.Error("the window itself was forgotten, not those before it")
	}
	if s.forget(1, 8); s.absent(1, 7, keyHashOf(keys)) || s.bytes != 0 || len(s.sets) != 0 {
		t.Errorf("%d bytes are left of %d windows", s.bytes, len(s.sets))
	}
}

// TestSeenBound: many tenants' filters stay within the bound, and those that are
// dropped are unknown, never wrong.
func TestSeenBound(t *testing.T) {
	var s seen
	s.init()
	for tenant := range hark.TenantID(300_000) {
		s.add(tenant, 1, keyHashOf(1), func() bool { return true })
		if s.bytes > seenBytes {
			t.Fatalf("%d bytes", s.bytes)
		}
	}
	if !s.absent(1, 1, keyHashOf(2)) || s.absent(1, 1, keyHashOf(1)) {
		t.Error("an early tenant's filter is wrong")
	}
	if s.absent(299_999, 1, keyHashOf(2)) {
		t.Error("a filter beyond the bound is used")
	}
}
