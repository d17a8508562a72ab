package registry

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"slices"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Schemes is what the registry asks of the table of verification schemes.
type Schemes interface {
	// Check checks d's scheme, settings and secrets, and reports all faults at once
	// (joined). It may rewrite d.Settings. Old is what d replaces, nil at creation.
	Check(old, d *hark.Source) error
	// NewSecret makes a secret for d; it is empty where the provider makes it, and
	// where there is none.
	NewSecret(d *hark.Source) hark.Secret
}

// AttachSource is [Attach] for sources and bins: what the store holds of a bin can go
// in the commit that deletes it.
type AttachSource func(old, new *hark.Source) (recs []store.Record, done func(committed bool))

// AttachSource registers a function that adds records to changes of sources.
func (r *Registry) AttachSource(fn AttachSource) {
	r.write.Lock()
	defer r.write.Unlock()
	r.attachSource = append(r.attachSource, fn)
}

// tokenBytes hold a token of 20 characters, 100 bits, of which the last 4 are cut off.
const (
	tokenBytes = 13
	tokenChars = 20
)

var tokenText = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// newToken makes what stands in a URL that only who was told it can know.
func newToken() string {
	var b [tokenBytes]byte
	rand.Read(b[:]) // never fails
	return tokenText.EncodeToString(b[:])[:tokenChars]
}

// Source returns a source or bin, or [hark.NoSuch]: also when it is another tenant's.
func (r *Registry) Source(t hark.TenantID, id hark.SourceID) (*hark.Source, error) {
	r.mu.RLock()
	d := r.sources[id]
	r.mu.RUnlock()
	if d == nil || d.Tenant != t {
		return nil, hark.NoSuch("source", id.String())
	}
	return d, nil
}

// SourceByToken returns the source or bin, of any tenant, whose URL holds token, or
// nil. It is on the path of every inbound request. The look-up is by a hash: how long
// it takes tells nothing of the tokens there are.
func (r *Registry) SourceByToken(token string) *hark.Source {
	if len(token) != tokenChars {
		return nil
	}
	hash := sha256.Sum256([]byte(token))
	r.mu.RLock()
	d := r.tokens[hash]
	r.mu.RUnlock()
	return d
}

// BinByID returns a bin of any tenant, or nil: for whoever comes with the capability to
// see it, which says nothing of a tenant.
func (r *Registry) BinByID(id hark.SourceID) *hark.Source {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if d := r.sources[id]; d != nil && d.Bin != nil {
		return d
	}
	return nil
}

// EachBin calls fn for every bin there is.
func (r *Registry) EachBin(fn func(*hark.Source)) {
	r.mu.RLock()
	all := make([]*hark.Source, 0, 64)
	for _, d := range r.sources {
		if d.Bin != nil {
			all = append(all, d)
		}
	}
	r.mu.RUnlock()
	for _, d := range all {
		fn(d)
	}
}

// SourceByUID returns a source or bin by its owner's name for it.
func (r *Registry) SourceByUID(t hark.TenantID, uid string) (*hark.Source, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if home := r.tenants[t]; home != nil && uid != "" {
		if id, ok := home.sourceUIDs[uid]; ok {
			return r.sources[id], nil
		}
	}
	return nil, hark.NoSuch("source with uid", uid)
}

// SourceQuery chooses sources, or bins. Empty fields choose all.
type SourceQuery struct {
	// Bins chooses request bins, and not the other sources.
	Bins bool
	// After is the id to go on after: the last one of the page before.
	After hark.SourceID
	// Limit bounds the page; 0 and more than [hark.MaxPageSize] are that.
	Limit  int
	Scheme string
	State  hark.SourceState
	UID    string
	// Creator chooses bins that an API key made.
	Creator string
}

func (q *SourceQuery) wants(d *hark.Source) bool {
	return q.Bins == (d.Bin != nil) && (q.Scheme == "" || q.Scheme == d.Scheme) && (q.State == "" || q.State == d.State) &&
		(q.UID == "" || q.UID == d.UID) && (q.Creator == "" || d.Bin != nil && d.Bin.Creator == q.Creator)
}

// Sources returns a page, oldest first, and whether there is more.
func (r *Registry) Sources(t hark.TenantID, q SourceQuery) (page []*hark.Source, more bool) {
	limit := pageSize(q.Limit)
	r.mu.RLock()
	defer r.mu.RUnlock()
	home := r.tenants[t]
	if home == nil {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(home.sources, q.After+1, bySourceID)
	for _, d := range home.sources[i:] {
		if !q.wants(d) {
			continue
		}
		if len(page) == limit {
			return page, true
		}
		page = append(page, d)
	}
	return page, false
}

// CreateSource makes a source of given, a bin if it has Bin, and answers with it as it
// is now. Id, token, times and revision are the registry's. One whose scheme can make
// secrets gets one if it brings none; a bin gets a view capability and an end, its TTL
// ahead, if it brings none.
func (r *Registry) CreateSource(t hark.TenantID, given *hark.Source) (*hark.Source, error) {
	r.write.Lock()
	defer r.write.Unlock()
	return r.createSource(t, given)
}

func (r *Registry) createSource(t hark.TenantID, given *hark.Source) (*hark.Source, error) {
	home := r.tenants[t]
	if home == nil {
		return nil, hark.NoSuch("tenant", "")
	}
	d, at := cloneSource(given), now()
	d.ID, d.Tenant, d.Created, d.Updated, d.Revision = 0, t, at, at, 1
	d.State = cmp.Or(d.State, hark.SourceActive)
	d.Secrets = unexpired(d.Secrets, at)
	if d.Bin != nil {
		if d.Bin.Expires.IsZero() {
			d.Bin.Expires = at.Add(time.Duration(d.Bin.TTL))
		}
		if d.Bin.View == "" {
			d.Bin.View = hark.Secret(newToken())
		}
	}
	if err := r.checkSource(home, nil, d); err != nil {
		return nil, err
	}
	if err := r.roomForSource(home, d); err != nil {
		return nil, err
	}
	r.fillSecret(d)
	d.ID = hark.SourceID(r.nextID())
	for d.Token = newToken(); r.tokens[sha256.Sum256([]byte(d.Token))] != nil; d.Token = newToken() {
	}
	m := r.changeSource(nil, d)
	m.recs = append(m.recs, r.topRecord())
	if err := r.commit(m); err != nil {
		return nil, err
	}
	return d, nil
}

// roomForSource tells whether there may be one more like d.
func (r *Registry) roomForSource(home *tenant, d *hark.Source) error {
	alike, sameCreator := 0, 0
	for _, other := range home.sources {
		if (other.Bin != nil) != (d.Bin != nil) {
			continue
		}
		alike++
		if d.Bin != nil && d.Bin.Creator != "" && d.Bin.Creator == other.Bin.Creator {
			sameCreator++
		}
	}
	switch {
	case d.Bin == nil && alike >= limitOf(home.row.MaxSources, r.limits.Sources):
		return tooMany("sources", alike)
	case d.Bin != nil && alike >= limitOf(home.row.MaxBins, r.limits.Bins):
		return tooMany("bins", alike)
	case sameCreator >= r.limits.BinsPerCreator:
		return tooMany("bins of your key", sameCreator)
	}
	return nil
}

// fillSecret makes a first secret where the scheme can, and where the settings let it:
// one that only takes keys of a certain form may get none.
func (r *Registry) fillSecret(d *hark.Source) {
	if len(d.Secrets) > 0 {
		return
	}
	if s := r.schemes.NewSecret(d); s != "" {
		d.Secrets = []hark.SigningSecret{{Value: s}}
		if r.schemes.Check(nil, d) != nil {
			d.Secrets = nil
		}
	}
}

// UpdateSource changes one, as [Registry.UpdateDestination] does; its token stays, and
// a bin stays a bin. Secrets that the edit adds verify at once; those that it leaves
// out verify for another [hark.RotationOverlap]. With another scheme only the secrets
// and settings stay that the edit leaves in place.
func (r *Registry) UpdateSource(t hark.TenantID, id hark.SourceID, revision uint64, edit func(d *hark.Source) error) (*hark.Source, error) {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Source(t, id)
	if err != nil {
		return nil, err
	}
	return r.updateSource(old, revision, edit)
}

func (r *Registry) updateSource(old *hark.Source, revision uint64, edit func(d *hark.Source) error) (*hark.Source, error) {
	if err := checkRevision(revision, old.Revision); err != nil {
		return nil, err
	}
	d, at := cloneSource(old), now()
	if err := edit(d); err != nil {
		return nil, err
	}
	if d.Scheme != old.Scheme {
		r.fillSecret(d)
	} else if len(d.Secrets) == 0 {
		d.Secrets = slices.Clone(old.Secrets)
	} else if d.Secrets = succeed(old.Secrets, d.Secrets, at, hark.RotationOverlap); len(d.Secrets) > MaxSecrets {
		return nil, tooManySecrets()
	}
	d.State = old.State
	return r.replaceSource(old, d, at)
}

// replaceSource checks and commits d in place of old. The caller holds write.
func (r *Registry) replaceSource(old, d *hark.Source, at time.Time) (*hark.Source, error) {
	d.ID, d.Tenant, d.Token, d.Created, d.Updated, d.Revision = old.ID, old.Tenant, old.Token, old.Created, old.Updated, old.Revision
	switch {
	case old.Bin == nil:
		d.Bin = nil
	case d.Bin == nil:
		d.Bin = new(*old.Bin)
	default:
		d.Bin.Creator = old.Bin.Creator
	}
	if err := r.checkSource(r.tenants[old.Tenant], old, d); err != nil {
		return nil, err
	}
	if bytes.Equal(encode(d), encode(old)) {
		return old, nil
	}
	d.Secrets = unexpired(d.Secrets, at)
	d.Updated, d.Revision = at, old.Revision+1
	if err := r.commit(r.changeSource(old, d)); err != nil {
		return nil, err
	}
	return d, nil
}

// PutSource makes the source with d.UID, or changes the one that has it to be like d:
// the same request twice, also at the same moment, gives one. Token and state are
// kept; so are secrets, unless d brings some or another scheme. May tells whether the
// one that is there may be changed; nil for always.
func (r *Registry) PutSource(t hark.TenantID, revision uint64, d *hark.Source, may func(old *hark.Source) error) (now *hark.Source, created bool, err error) {
	if d.UID == "" {
		return nil, false, hark.Invalidf("uid", "is needed to create or replace by it")
	}
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.SourceByUID(t, d.UID)
	if err != nil {
		if revision != 0 {
			return nil, false, err
		}
		now, err = r.createSource(t, d)
		return now, err == nil, err
	}
	if (old.Bin != nil) != (d.Bin != nil) {
		return nil, false, uidTaken(old.ID.String())
	}
	if may != nil {
		if err := may(old); err != nil {
			return nil, false, err
		}
	}
	now, err = r.updateSource(old, revision, func(c *hark.Source) error {
		*c = *cloneSource(d)
		return nil
	})
	return now, false, err
}

// SetSourceState pauses or resumes a source.
func (r *Registry) SetSourceState(t hark.TenantID, id hark.SourceID, revision uint64, state hark.SourceState) (*hark.Source, error) {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Source(t, id)
	if err != nil {
		return nil, err
	}
	if err := checkRevision(revision, old.Revision); err != nil {
		return nil, err
	}
	d := cloneSource(old)
	d.State = state
	return r.replaceSource(old, d, now())
}

// RotateSourceSecret puts a new secret first; those before it verify for another
// overlap at most (0 ends them at once). Without a given secret it makes one.
func (r *Registry) RotateSourceSecret(t hark.TenantID, id hark.SourceID, given hark.Secret, overlap time.Duration) (*hark.Source, error) {
	if err := checkOverlap(overlap); err != nil {
		return nil, err
	}
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Source(t, id)
	if err != nil {
		return nil, err
	}
	d := cloneSource(old)
	if given == "" {
		if given = r.schemes.NewSecret(d); given == "" {
			return nil, hark.Invalidf("secret", "is needed: in scheme "+d.Scheme+" Hark cannot make one")
		}
	}
	at := now()
	d.Secrets = succeed(old.Secrets, []hark.SigningSecret{{Value: given}}, at, overlap)
	if len(d.Secrets) > MaxSecrets {
		return nil, tooManySecrets()
	}
	return r.replaceSource(old, d, at)
}

// TouchBin moves the end of a bin. It is no change of the bin's: its revision stays
// and nobody is told. An end that would move back, or a bin that is gone, is ignored.
func (r *Registry) TouchBin(id hark.SourceID, expires time.Time) error {
	r.write.Lock()
	defer r.write.Unlock()
	old := r.sources[id]
	expires = expires.UTC().Truncate(time.Millisecond)
	if old == nil || old.Bin == nil || !expires.After(old.Bin.Expires) {
		return nil
	}
	d := cloneSource(old)
	d.Bin.Expires = expires
	return r.commit(&mutation{recs: []store.Record{sourceRecord(d)}, swap: []func(){func() { r.putSource(old, d) }}})
}

// DeleteSource removes one. What the store holds of it is for attach functions and
// retention.
func (r *Registry) DeleteSource(t hark.TenantID, id hark.SourceID, revision uint64) error {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Source(t, id)
	if err != nil {
		return err
	}
	if err := checkRevision(revision, old.Revision); err != nil {
		return err
	}
	return r.commit(r.changeSource(old, nil))
}

// changeSource makes the commit of a change; either may be nil. The caller holds write.
func (r *Registry) changeSource(old, d *hark.Source) *mutation {
	m := &mutation{changes: []Change{{Source: Pair[hark.Source]{old, d}}}}
	if d != nil {
		m.recs = append(m.recs, sourceRecord(d))
		m.swap = append(m.swap, func() { r.putSource(old, d) })
	} else {
		m.recs = append(m.recs, &store.RegistryDeleted{Noun: store.NounSource, Tenant: old.Tenant, ID: uint64(old.ID)})
		m.swap = append(m.swap, func() { r.dropSource(old) })
	}
	for _, fn := range r.attachSource {
		m.attached(fn(old, d))
	}
	return m
}

// putSource swaps d in. The caller holds write and mu, or is opening.
func (r *Registry) putSource(old, d *hark.Source) {
	home := r.tenants[d.Tenant]
	home.sources = putByID(home.sources, d, d.ID, bySourceID)
	if old != nil && old.UID != "" {
		delete(home.sourceUIDs, old.UID)
	}
	if d.UID != "" {
		home.sourceUIDs[d.UID] = d.ID
	}
	r.sources[d.ID] = d
	r.tokens[sha256.Sum256([]byte(d.Token))] = d
}

func (r *Registry) dropSource(old *hark.Source) {
	delete(r.sources, old.ID)
	delete(r.tokens, sha256.Sum256([]byte(old.Token)))
	home := r.tenants[old.Tenant]
	if home == nil { // the tenant went in the same commit
		return
	}
	home.sources = withoutID(home.sources, old.ID, bySourceID)
	if old.UID != "" {
		delete(home.sourceUIDs, old.UID)
	}
}

func bySourceID(d *hark.Source, id hark.SourceID) int { return cmp.Compare(d.ID, id) }

func cloneSource(d *hark.Source) *hark.Source {
	c := *d
	c.Settings, c.Secrets, c.Attributes = bytes.Clone(d.Settings), slices.Clone(d.Secrets), maps.Clone(d.Attributes)
	c.AllowIPs, c.CORSOrigins = slices.Clone(d.AllowIPs), slices.Clone(d.CORSOrigins)
	if d.Response != nil {
		c.Response = new(*d.Response)
		c.Response.Headers = maps.Clone(d.Response.Headers)
	}
	if d.Bin != nil {
		c.Bin = new(*d.Bin)
	}
	return &c
}

// succeed is what verifies after given secrets took the place of old ones: the given,
// then what is left of the old, for overlap at most.
func succeed(old, given []hark.SigningSecret, at time.Time, overlap time.Duration) []hark.SigningSecret {
	secrets := slices.Clone(given)
	for _, s := range unexpired(old, at) {
		if slices.ContainsFunc(given, func(g hark.SigningSecret) bool { return g.Value == s.Value }) {
			continue
		}
		if end := at.Add(overlap); s.Expires.IsZero() || s.Expires.After(end) {
			s.Expires = end
		}
		if s.Expires.After(at) {
			secrets = append(secrets, s)
		}
	}
	return secrets
}
