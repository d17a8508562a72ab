package store

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/harkhq/hark"
)

// Noun names a kind of registry row on disk; numbers are never reused.
type Noun byte

// The nouns.
const (
	NounTenant      Noun = 1
	NounDestination Noun = 2
	NounKey         Noun = 3
	NounSource      Noun = 4
	NounRevocation  Noun = 5
	NounTokenKey    Noun = 6
)

// RegistryPut creates or replaces a registry row.
type RegistryPut struct {
	Noun   Noun
	Tenant hark.TenantID
	ID     uint64
	Value  []byte
}

func (r *RegistryPut) apply(b *pebble.Batch) {
	set(b, registryKey(r.Noun, r.Tenant, r.ID), r.Value)
}

// RegistryDeleted removes a registry row.
type RegistryDeleted struct {
	Noun   Noun
	Tenant hark.TenantID
	ID     uint64
}

func (r *RegistryDeleted) apply(b *pebble.Batch) {
	must(b.Delete(registryKey(r.Noun, r.Tenant, r.ID), nil))
}

func registryKey(n Noun, t hark.TenantID, id uint64) key {
	return newKey(tableRegistry).u8(byte(n)).u32(uint32(t)).u64(id)
}

// ScanRegistry calls fn for every row of a noun, by tenant and id. The value is
// valid during the call only.
func (s *Store) ScanRegistry(n Noun, fn func(t hark.TenantID, id uint64, value []byte) error) error {
	prefix := newKey(tableRegistry).u8(byte(n))
	var failed error
	err := s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		r := reader{b: k[2:]}
		failed = fn(hark.TenantID(r.u32()), r.u64(), v)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}
