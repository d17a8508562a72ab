package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Scopes is what a key may do, a set.
type Scopes uint8

// The scopes. Admin implies all others and reaches every tenant; manage covers
// destinations, sources, devices and deliveries of its tenant, not keys and tenants.
const (
	ScopePublish Scopes = 1 << iota
	ScopeSubscribe
	ScopeManage
	ScopeAdmin
)

var scopeNames = [...]string{"publish", "subscribe", "manage", "admin"}

// Has reports whether s holds all of want; admin holds everything.
func (s Scopes) Has(want Scopes) bool { return s&ScopeAdmin != 0 || s&want == want }

// Names returns the words of the API.
func (s Scopes) Names() []string {
	names := make([]string, 0, len(scopeNames))
	for i, name := range scopeNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String returns the names, joined by commas.
func (s Scopes) String() string { return strings.Join(s.Names(), ",") }

// ParseScopes reads the words of the API.
func ParseScopes(names []string) (Scopes, error) {
	var s Scopes
	for _, name := range names {
		i := slices.Index(scopeNames[:], name)
		if i < 0 {
			return 0, hark.Invalidf("scopes", "each must be one of publish, subscribe, manage, admin")
		}
		s |= 1 << i
	}
	return s, nil
}

// MarshalJSON writes a list of names.
func (s Scopes) MarshalJSON() ([]byte, error) { return json.Marshal(s.Names()) }

// UnmarshalJSON reads a list of names.
func (s *Scopes) UnmarshalJSON(text []byte) error {
	var names []string
	if err := json.Unmarshal(text, &names); err != nil {
		return hark.Invalidf("scopes", "must be a list of publish, subscribe, manage, admin")
	}
	v, err := ParseScopes(names)
	*s = v
	return err
}

// Key is an API key. Its text was shown once and is nowhere: only its hash.
type Key struct {
	ID     hark.KeyID    `json:"id"`
	Tenant hark.TenantID `json:"-"`
	Name   string        `json:"name,omitempty"`
	// Hash is SHA-256 of the key's text. It stays out of JSON.
	Hash [32]byte `json:"-"`
	// Hint is the beginning of the text, to tell keys apart.
	Hint   string `json:"hint,omitempty"`
	Scopes Scopes `json:"scopes"`
	// Publish and Subscribe narrow where those scopes reach; empty for everywhere.
	Publish   []hark.Pattern `json:"publish,omitempty"`
	Subscribe []hark.Pattern `json:"subscribe,omitempty"`
	// RateLimit is in requests per second; 0 takes the server's default.
	RateLimit float64 `json:"rate_limit,omitempty"`
	// Expires is when it ends; zero for never.
	Expires time.Time `json:"expires,omitzero"`
	// LastUsed is written back about once a minute.
	LastUsed time.Time `json:"last_used,omitzero"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Revision uint64    `json:"revision"`
}

// Key returns one, or [hark.NoSuch]: also when it is another tenant's.
func (r *Registry) Key(t hark.TenantID, id hark.KeyID) (*Key, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if home := r.tenants[t]; home != nil {
		if i, found := slices.BinarySearchFunc(home.keys, id, byKeyID); found {
			return home.keys[i], nil
		}
	}
	return nil, hark.NoSuch("key", id.String())
}

// KeyByHash returns the key whose text has this SHA-256, or nil. It is on the path of
// every request.
func (r *Registry) KeyByHash(hash [32]byte) *Key {
	r.mu.RLock()
	k := r.keys[hash]
	r.mu.RUnlock()
	return k
}

// KeyByID returns the key of this id, of any tenant, or nil.
func (r *Registry) KeyByID(id hark.KeyID) *Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.keyIDs[id]
}

// Keys returns a page of a tenant's keys, oldest first, and whether there is more.
func (r *Registry) Keys(t hark.TenantID, after hark.KeyID, limit int) (page []*Key, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	home := r.tenants[t]
	if home == nil {
		return nil, false
	}
	return pageByID(home.keys, after+1, byKeyID, limit)
}

// HasKey reports whether there is a key, of any tenant, for which want is true.
func (r *Registry) HasKey(want func(*Key) bool) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.keys {
		if want(k) {
			return true
		}
	}
	return false
}

// CreateKey makes a key of given, whose hash and hint package auth made of its text.
func (r *Registry) CreateKey(t hark.TenantID, given *Key) (*Key, error) {
	r.write.Lock()
	defer r.write.Unlock()
	home := r.tenants[t]
	if home == nil {
		return nil, hark.NoSuch("tenant", "")
	}
	k, at := cloneKey(given), now()
	k.ID, k.Tenant, k.Created, k.Updated, k.Revision, k.LastUsed = 0, t, at, at, 1, time.Time{}
	if err := checkKey(k, at); err != nil {
		return nil, err
	}
	if k.Hash == ([32]byte{}) || r.keys[k.Hash] != nil {
		return nil, errors.New("registry: a key without a hash of its own")
	}
	if len(home.keys) >= limitOf(home.row.MaxKeys, r.limits.Keys) {
		return nil, tooMany("keys", len(home.keys))
	}
	k.ID = hark.KeyID(r.nextID())
	m := r.changeKey(nil, k)
	m.recs = append(m.recs, r.topRecord())
	if err := r.commit(m); err != nil {
		return nil, err
	}
	return k, nil
}

// UpdateKey changes one, as [Registry.UpdateDestination] does; hash and hint stay.
func (r *Registry) UpdateKey(t hark.TenantID, id hark.KeyID, revision uint64, edit func(k *Key) error) (*Key, error) {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Key(t, id)
	if err != nil {
		return nil, err
	}
	if err := checkRevision(revision, old.Revision); err != nil {
		return nil, err
	}
	k, at := cloneKey(old), now()
	if err := edit(k); err != nil {
		return nil, err
	}
	k.ID, k.Tenant, k.Hash, k.Hint, k.LastUsed = old.ID, old.Tenant, old.Hash, old.Hint, old.LastUsed
	k.Created, k.Updated, k.Revision = old.Created, old.Updated, old.Revision
	if bytes.Equal(encode(k), encode(old)) {
		return old, nil
	}
	if err := checkKey(k, at); err != nil {
		return nil, err
	}
	k.Updated, k.Revision = at, old.Revision+1
	if err := r.commit(r.changeKey(old, k)); err != nil {
		return nil, err
	}
	return k, nil
}

// DeleteKey revokes a key. When it returns, no look-up finds the key any more.
func (r *Registry) DeleteKey(t hark.TenantID, id hark.KeyID, revision uint64) error {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Key(t, id)
	if err != nil {
		return err
	}
	if err := checkRevision(revision, old.Revision); err != nil {
		return err
	}
	return r.commit(r.changeKey(old, nil))
}

// TouchKeys writes when keys were last used, in one commit. It is no change of
// theirs: revisions stay and nobody is told.
func (r *Registry) TouchKeys(used map[[32]byte]time.Time) error {
	r.write.Lock()
	defer r.write.Unlock()
	m := &mutation{}
	for hash, at := range used {
		old := r.keys[hash]
		if old == nil || !at.After(old.LastUsed) {
			continue
		}
		k := *old
		k.LastUsed = at.UTC().Truncate(time.Second)
		m.recs = append(m.recs, keyRecord(&k))
		m.swap = append(m.swap, func() { r.putKey(&k) })
	}
	if len(m.recs) == 0 {
		return nil
	}
	return r.commit(m)
}

func (r *Registry) changeKey(old, k *Key) *mutation {
	m := &mutation{changes: []Change{{Key: Pair[Key]{old, k}}}}
	if k != nil {
		m.recs = append(m.recs, keyRecord(k))
		m.swap = append(m.swap, func() { r.putKey(k) })
		return m
	}
	m.recs = append(m.recs, &store.RegistryDeleted{Noun: store.NounKey, Tenant: old.Tenant, ID: uint64(old.ID)})
	m.swap = append(m.swap, func() {
		delete(r.keys, old.Hash)
		delete(r.keyIDs, old.ID)
		if home := r.tenants[old.Tenant]; home != nil {
			home.keys = withoutID(home.keys, old.ID, byKeyID)
		}
	})
	return m
}

func (r *Registry) putKey(k *Key) {
	home := r.tenants[k.Tenant]
	home.keys = putByID(home.keys, k, k.ID, byKeyID)
	r.keys[k.Hash] = k
	r.keyIDs[k.ID] = k
}

func byKeyID(k *Key, id hark.KeyID) int { return cmp.Compare(k.ID, id) }

func cloneKey(k *Key) *Key {
	c := *k
	c.Publish, c.Subscribe = slices.Clone(k.Publish), slices.Clone(k.Subscribe)
	return &c
}

func checkKey(k *Key, at time.Time) error {
	var faults []error
	if err := checkName("name", k.Name, hark.MaxNameBytes); err != nil {
		faults = append(faults, err)
	}
	if k.Scopes == 0 || k.Scopes >= 1<<len(scopeNames) {
		faults = append(faults, hark.Invalidf("scopes", "must hold at least one of publish, subscribe, manage, admin"))
	}
	faults = append(faults, checkPatterns("publish", k.Publish, 0)...)
	faults = append(faults, checkPatterns("subscribe", k.Subscribe, 0)...)
	if len(k.Publish) > 0 && !k.Scopes.Has(ScopePublish) || len(k.Subscribe) > 0 && !k.Scopes.Has(ScopeSubscribe) {
		faults = append(faults, hark.Invalidf("scopes", "topic patterns need the scope that they narrow: publish or subscribe"))
	}
	if k.Scopes&ScopeAdmin != 0 && len(k.Publish)+len(k.Subscribe) > 0 {
		faults = append(faults, hark.Invalidf("scopes", "an admin key reaches every topic: leave the patterns out, or choose other scopes"))
	}
	if err := checkRate("rate_limit", k.RateLimit); err != nil {
		faults = append(faults, err)
	}
	if !k.Expires.IsZero() && (!k.Expires.After(at) || k.Expires.Year() > 9999) {
		faults = append(faults, hark.Invalidf("expires", "must lie in the future"))
	}
	return errors.Join(faults...)
}
