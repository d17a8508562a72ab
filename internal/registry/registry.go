package registry

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Store is what the registry needs of the store.
type Store interface {
	// Commit makes all records durable, or none.
	Commit(recs ...store.Record) error
	// ScanRegistry calls fn for every row of a noun; value is valid during the call only.
	ScanRegistry(n store.Noun, fn func(t hark.TenantID, id uint64, value []byte) error) error
}

// Kinds is what the registry asks of the table of destination kinds.
type Kinds interface {
	// Prepare checks d's kind, settings and secrets, and reports all faults at once
	// (joined). It may rewrite d.Settings and give d a uid. Old is what d replaces, nil at creation.
	Prepare(old, d *hark.Destination) error
	// NewSecret makes a signing secret for d; it is empty when the kind does not sign.
	NewSecret(d *hark.Destination) hark.Secret
	// KeepsSecrets reports whether a rotated secret of d goes on signing until it is ended
	// explicitly.
	KeepsSecrets(d *hark.Destination) bool
}

// Config is what a [Registry] is made of.
type Config struct {
	Store Store
	Kinds Kinds
	// CheckFilter tells whether a filter is well formed. Without it every filter is
	// refused: one that is accepted and not applied would send too much.
	CheckFilter func(filter []byte) error
	// Schemes is the table of verification schemes. Without it there are no sources.
	Schemes Schemes
	// CheckTemplate tells whether a template of a source's field (topic, key,
	// attributes.name) is well formed. Without it only literal text is taken.
	CheckTemplate func(field, template string) error
	Limits        Limits
}

// Limits bound how much there may be. A zero takes the default.
type Limits struct {
	Tenants      int // default 10,000
	Destinations int // of one tenant, unless its row says otherwise; default 100,000
	Keys         int // of one tenant, unless its row says otherwise; default 1,000
	Sources      int // of one tenant, without bins, unless its row says otherwise; default 1,000
	Bins         int // of one tenant, unless its row says otherwise; default 1,000
	// BinsPerCreator bounds the bins of one API key; default 100.
	BinsPerCreator int
	// SourceBody is the most that a source may set as its largest body, in bytes;
	// default [hark.MaxEventBytes].
	SourceBody int
	Callbacks  int // of one tenant: destinations that callbacks made; default 1,000
	// Revocations bounds the revocations of one tenant that are remembered; default 50,000.
	Revocations int
}

func (l Limits) withDefaults() Limits {
	l.Tenants = cmp.Or(l.Tenants, 10_000)
	l.Destinations = cmp.Or(l.Destinations, 100_000)
	l.Keys = cmp.Or(l.Keys, 1_000)
	l.Sources = cmp.Or(l.Sources, 1_000)
	l.Bins = cmp.Or(l.Bins, 1_000)
	l.BinsPerCreator = cmp.Or(l.BinsPerCreator, 100)
	l.SourceBody = cmp.Or(l.SourceBody, hark.MaxEventBytes)
	l.Callbacks = cmp.Or(l.Callbacks, 1_000)
	l.Revocations = cmp.Or(l.Revocations, 50_000)
	return l
}

// Attach adds records to the commit of a change to a destination: its position,
// before new topics or a new filter apply; where a new one starts; what to remove
// with a deleted one. Old is nil at creation, new at deletion.
//
// It is called before the commit, in commit order, and may read the registry but
// not change it. Done, if not nil, is called once, after the watchers heard of the
// change, with whether it was committed.
type Attach func(old, new *hark.Destination) (recs []store.Record, done func(committed bool))

// AttachTenant is [Attach] for tenants.
type AttachTenant func(old, new *Tenant) (recs []store.Record, done func(committed bool))

// Pair is a thing before and after a change: Old is nil when it was made, New when
// it was deleted, both when the change is about something else.
type Pair[T any] struct{ Old, New *T }

// Change is one committed change to one thing.
type Change struct {
	Destination Pair[hark.Destination]
	Tenant      Pair[Tenant]
	Key         Pair[Key]
	Source      Pair[hark.Source] // bins too
	TokenKey    Pair[TokenKey]
	Revocation  Pair[Revocation]
}

// Registry holds tenants, destinations, sources, keys, and what tokens need: the keys
// that sign them and their revocations. It is safe for concurrent use.
type Registry struct {
	store    Store
	kinds    Kinds
	schemes  Schemes
	filter   func([]byte) error
	template func(field, template string) error
	limits   Limits

	write        sync.Mutex // held through one change; guards below
	attach       []Attach
	attachTenant []AttachTenant
	attachSource []AttachSource
	watchers     []func(Change)
	top          topIDs

	mu           sync.RWMutex // guards below; writers hold write too, so whoever holds write may read
	tenants      map[hark.TenantID]*tenant
	names        map[string]hark.TenantID
	destinations map[hark.DestinationID]*hark.Destination
	keys         map[[32]byte]*Key // by hash
	keyIDs       map[hark.KeyID]*Key
	tokenKeys    map[hark.TokenKeyID]*TokenKey
	sources      map[hark.SourceID]*hark.Source
	tokens       map[[32]byte]*hark.Source // by hash of the token
	kindNames    map[string]string         // interned
}

// tenant is a tenant and what it has, sorted by id.
type tenant struct {
	row          *Tenant
	destinations []*hark.Destination
	uids         map[string]hark.DestinationID
	keys         []*Key
	sources      []*hark.Source
	sourceUIDs   map[string]hark.SourceID
	tokenKeys    []*TokenKey
	revocations  []*Revocation
	ended        map[string]*Revocation // by the id of the token that it ends
	endedUsers   map[string]*Revocation // by the user whose tokens it ends
}

func newTenant(row *Tenant) *tenant {
	return &tenant{row: row, uids: make(map[string]hark.DestinationID), sourceUIDs: make(map[string]hark.SourceID)}
}

// Open reads everything from the store. The default tenant is made if it is not there.
func Open(c Config) (*Registry, error) {
	r := &Registry{
		store: c.Store, kinds: c.Kinds, schemes: c.Schemes, filter: c.CheckFilter, template: c.CheckTemplate, limits: c.Limits.withDefaults(),
		tenants:      make(map[hark.TenantID]*tenant),
		names:        make(map[string]hark.TenantID),
		destinations: make(map[hark.DestinationID]*hark.Destination),
		keys:         make(map[[32]byte]*Key),
		keyIDs:       make(map[hark.KeyID]*Key),
		tokenKeys:    make(map[hark.TokenKeyID]*TokenKey),
		sources:      make(map[hark.SourceID]*hark.Source),
		tokens:       make(map[[32]byte]*hark.Source),
		kindNames:    make(map[string]string),
	}
	if r.template == nil {
		r.template = literalOnly
	}
	for _, load := range []struct {
		noun store.Noun
		row  func(t hark.TenantID, id uint64, value []byte) error
	}{{store.NounTenant, r.loadTenant}, {store.NounDestination, r.loadDestination}, {store.NounKey, r.loadKey}, {store.NounSource, r.loadSource},
		{store.NounTokenKey, r.loadTokenKey}, {store.NounRevocation, r.loadRevocation}} {
		if err := c.Store.ScanRegistry(load.noun, load.row); err != nil {
			return nil, fmt.Errorf("registry: reading noun %d: %w", load.noun, err)
		}
	}
	if r.tenants[hark.DefaultTenant] == nil {
		now := now()
		row := &Tenant{ID: hark.DefaultTenant, Name: hark.DefaultTenantName, Created: now, Updated: now, Revision: 1}
		r.top.Tenant = max(r.top.Tenant, hark.DefaultTenant)
		if err := r.commit(r.changeTenant(nil, row)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Attach registers a function that adds records to changes of destinations. Call
// it while the program is put together, before changes come.
func (r *Registry) Attach(fn Attach) {
	r.write.Lock()
	defer r.write.Unlock()
	r.attach = append(r.attach, fn)
}

// AttachTenant registers a function that adds records to changes of tenants.
func (r *Registry) AttachTenant(fn AttachTenant) {
	r.write.Lock()
	defer r.write.Unlock()
	r.attachTenant = append(r.attachTenant, fn)
}

// Watch calls fn for everything that is there, tenants first, as if it had just
// been made, and then for every change, in commit order, after readers can see it.
// When Watch returns, fn has heard of all there is; nothing is left out between. Fn
// may read the registry but not change it, and it holds up every change: it must be quick.
func (r *Registry) Watch(fn func(Change)) {
	r.write.Lock()
	defer r.write.Unlock()
	for _, id := range r.tenantIDs() {
		fn(Change{Tenant: Pair[Tenant]{New: r.tenants[id].row}})
	}
	for _, id := range r.tenantIDs() {
		for _, k := range r.tenants[id].keys {
			fn(Change{Key: Pair[Key]{New: k}})
		}
		for _, d := range r.tenants[id].destinations {
			fn(Change{Destination: Pair[hark.Destination]{New: d}})
		}
		for _, d := range r.tenants[id].sources {
			fn(Change{Source: Pair[hark.Source]{New: d}})
		}
		for _, k := range r.tenants[id].tokenKeys {
			fn(Change{TokenKey: Pair[TokenKey]{New: k}})
		}
		for _, v := range r.tenants[id].revocations {
			fn(Change{Revocation: Pair[Revocation]{New: v}})
		}
	}
	r.watchers = append(r.watchers, fn)
}

// tenantIDs returns the ids in order. The caller holds write or mu.
func (r *Registry) tenantIDs() []hark.TenantID {
	ids := make([]hark.TenantID, 0, len(r.tenants))
	for id := range r.tenants {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// mutation is one commit in the making.
type mutation struct {
	recs    []store.Record
	dones   []func(committed bool)
	swap    []func() // under mu
	changes []Change
}

func (m *mutation) attached(recs []store.Record, done func(bool)) {
	m.recs = append(m.recs, recs...)
	if done != nil {
		m.dones = append(m.dones, done)
	}
}

// and joins two mutations into one commit.
func (m *mutation) and(n *mutation) {
	m.recs = append(m.recs, n.recs...)
	m.dones = append(m.dones, n.dones...)
	m.swap = append(m.swap, n.swap...)
	m.changes = append(m.changes, n.changes...)
}

// commit makes m durable, then visible, then known. The caller holds write.
func (r *Registry) commit(m *mutation) error {
	err := r.store.Commit(m.recs...)
	if err == nil {
		r.mu.Lock()
		for _, swap := range m.swap {
			swap()
		}
		r.mu.Unlock()
		for _, c := range m.changes {
			for _, watcher := range r.watchers {
				watcher(c)
			}
		}
	}
	for _, done := range m.dones {
		done(err == nil)
	}
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

// nextID returns an id larger than any before. The caller holds write and commits
// [Registry.topRecord] with what it names; an id that is not committed is skipped.
func (r *Registry) nextID() uint64 {
	r.top.ID = max(r.top.ID+1, uint64(time.Now().UnixMilli())<<20)
	return r.top.ID
}

func (r *Registry) topRecord() store.Record {
	return &store.RegistryPut{Noun: store.NounTenant, Value: encodeTop(r.top)}
}

// now is the time of a change, as precise as it is stored.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func checkRevision(want, have uint64) error {
	if want == 0 || want == have {
		return nil
	}
	return &hark.Error{Kind: hark.Conflict, Code: "revision-mismatch",
		Msg: fmt.Sprintf("it was changed meanwhile: you ask for revision %d and it is at %d; read it again and repeat your change", want, have)}
}

// What a tenant has of one noun is a list sorted by id. Readers get clones of parts of it.

// putByID puts v into its place, in the stead of what has its id.
func putByID[T, I any](list []*T, v *T, id I, by func(*T, I) int) []*T {
	i, found := slices.BinarySearchFunc(list, id, by)
	if found {
		list[i] = v
		return list
	}
	return slices.Insert(list, i, v)
}

func withoutID[T, I any](list []*T, id I, by func(*T, I) int) []*T {
	if i, found := slices.BinarySearchFunc(list, id, by); found {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// pageByID returns a page from an id on, and whether there is more.
func pageByID[T, I any](list []*T, from I, by func(*T, I) int, limit int) (page []*T, more bool) {
	i, _ := slices.BinarySearchFunc(list, from, by)
	rest, limit := list[i:], pageSize(limit)
	return slices.Clone(rest[:min(limit, len(rest))]), len(rest) > limit
}
