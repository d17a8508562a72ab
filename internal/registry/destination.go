package registry

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// MaxSecrets is how many secrets of one destination may sign at once.
const MaxSecrets = 10

// Destination returns one, or [hark.NoSuch]: also when it is another tenant's.
func (r *Registry) Destination(t hark.TenantID, id hark.DestinationID) (*hark.Destination, error) {
	r.mu.RLock()
	d := r.destinations[id]
	r.mu.RUnlock()
	if d == nil || d.Tenant != t {
		return nil, hark.NoSuch("destination", id.String())
	}
	return d, nil
}

// DestinationByUID returns one by its owner's name for it.
func (r *Registry) DestinationByUID(t hark.TenantID, uid string) (*hark.Destination, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if home := r.tenants[t]; home != nil && uid != "" {
		if id, ok := home.uids[uid]; ok {
			return r.destinations[id], nil
		}
	}
	return nil, hark.NoSuch("destination with uid", uid)
}

// DestinationQuery chooses destinations. Empty fields choose all.
type DestinationQuery struct {
	// After is the id to go on after: the last one of the page before.
	After hark.DestinationID
	// Limit bounds the page; 0 and more than [hark.MaxPageSize] are that.
	Limit int
	Kind  string
	State hark.DestinationState
	UID   string
}

// Destinations returns a page, oldest first, and whether there is more.
func (r *Registry) Destinations(t hark.TenantID, q DestinationQuery) (page []*hark.Destination, more bool) {
	limit := pageSize(q.Limit)
	r.mu.RLock()
	defer r.mu.RUnlock()
	home := r.tenants[t]
	if home == nil {
		return nil, false
	}
	if q.UID != "" { // at most one
		d := r.destinations[home.uids[q.UID]]
		if d != nil && d.ID > q.After && q.wants(d) {
			page = append(page, d)
		}
		return page, false
	}
	i, _ := slices.BinarySearchFunc(home.destinations, q.After+1, byDestinationID)
	for _, d := range home.destinations[i:] {
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

func (q *DestinationQuery) wants(d *hark.Destination) bool {
	return (q.Kind == "" || q.Kind == d.Kind) && (q.State == "" || q.State == d.State)
}

func pageSize(n int) int {
	if n <= 0 || n > hark.MaxPageSize {
		return hark.MaxPageSize
	}
	return n
}

// CreateDestination makes a destination of d and answers with it as it is now. Id,
// state, times and revision are the registry's; a kind that signs gets a secret if d
// brings none. Attach functions given here run after the registered ones.
func (r *Registry) CreateDestination(t hark.TenantID, d *hark.Destination, attach ...Attach) (*hark.Destination, error) {
	r.write.Lock()
	defer r.write.Unlock()
	return r.create(t, d, attach)
}

func (r *Registry) create(t hark.TenantID, given *hark.Destination, attach []Attach) (*hark.Destination, error) {
	home := r.tenants[t]
	if home == nil {
		return nil, hark.NoSuch("tenant", "")
	}
	d := cloneDestination(given)
	at := now()
	d.ID, d.Tenant, d.State, d.Reason, d.Created, d.Updated, d.Revision = 0, t, hark.DestinationActive, "", at, at, 1
	if given.State == hark.DestinationPaused {
		d.State, d.Reason = given.State, given.Reason
	}
	d.Secrets = unexpired(d.Secrets, at)
	if err := r.check(home, nil, d); err != nil {
		return nil, err
	}
	if len(home.destinations) >= limitOf(home.row.MaxDestinations, r.limits.Destinations) {
		return nil, tooMany("destinations", len(home.destinations))
	}
	if len(d.Secrets) == 0 {
		if s := r.kinds.NewSecret(d); s != "" {
			d.Secrets = []hark.SigningSecret{{Value: s}}
		}
	}
	d.ID = hark.DestinationID(r.nextID())
	d = r.lean(d)
	m := r.changeDestination(nil, d, attach)
	m.recs = append(m.recs, r.topRecord())
	if err := r.commit(m); err != nil {
		return nil, err
	}
	return d, nil
}

// UpdateDestination changes one. Edit gets a copy of its own and changes it; what it
// may not change is put back. A given revision other than 0 must be the present one.
// An edit that changes nothing commits nothing. A new first secret is rotated in: the
// one before it signs for another [hark.RotationOverlap].
func (r *Registry) UpdateDestination(t hark.TenantID, id hark.DestinationID, revision uint64,
	edit func(d *hark.Destination) error, attach ...Attach) (*hark.Destination, error) {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Destination(t, id)
	if err != nil {
		return nil, err
	}
	return r.update(old, revision, edit, attach)
}

func (r *Registry) update(old *hark.Destination, revision uint64, edit func(*hark.Destination) error, attach []Attach) (*hark.Destination, error) {
	if err := checkRevision(revision, old.Revision); err != nil {
		return nil, err
	}
	d := cloneDestination(old)
	if err := edit(d); err != nil {
		return nil, err
	}
	at := now()
	if len(d.Secrets) > 0 {
		d.Secrets[0].Value = r.fullSecret(old, d.Secrets[0].Value)
	}
	secrets, err := mergeSecrets(old.Secrets, d.Secrets, at, r.overlap(d, KindOverlap))
	if err != nil {
		return nil, err
	}
	d.Secrets = secrets
	if d.Kind != old.Kind {
		return nil, &hark.Error{Kind: hark.Conflict, Code: "kind-is-fixed", Field: "kind",
			Msg: "the kind of a destination cannot change from " + old.Kind + ": delete it, or make another"}
	}
	d.State, d.Reason = old.State, old.Reason
	return r.replace(old, d, at, attach)
}

// replace checks and commits d in place of old. The caller holds write.
func (r *Registry) replace(old, d *hark.Destination, at time.Time, attach []Attach) (*hark.Destination, error) {
	d.ID, d.Tenant, d.Kind, d.Created, d.Callback = old.ID, old.Tenant, old.Kind, old.Created, old.Callback
	d.Updated, d.Revision = old.Updated, old.Revision
	if err := r.check(r.tenants[old.Tenant], old, d); err != nil {
		return nil, err
	}
	if bytes.Equal(encode(d), encode(old)) {
		return old, nil
	}
	d.Secrets = unexpired(d.Secrets, at)
	d.Updated, d.Revision = at, old.Revision+1
	d = r.lean(d)
	if err := r.commit(r.changeDestination(old, d, attach)); err != nil {
		return nil, err
	}
	return d, nil
}

// PutDestination makes the destination with d.UID, or changes the one that has it to
// be like d: the same request twice, also at the same moment, gives one. State is
// kept; so are secrets, unless d brings one.
func (r *Registry) PutDestination(t hark.TenantID, revision uint64, d *hark.Destination, attach ...Attach) (now *hark.Destination, created bool, err error) {
	if d.UID == "" {
		return nil, false, hark.Invalidf("uid", "is needed to create or replace by it")
	}
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.DestinationByUID(t, d.UID)
	if err != nil {
		if revision != 0 {
			return nil, false, err
		}
		now, err = r.create(t, d, attach)
		return now, err == nil, err
	}
	now, err = r.update(old, revision, func(c *hark.Destination) error {
		secrets := c.Secrets
		*c = *cloneDestination(d)
		if len(c.Secrets) == 0 {
			c.Secrets = secrets
		}
		return nil
	}, attach)
	return now, false, err
}

// EnsureCallback returns the destination that callbacks with d.UID go to, and makes it
// of d if it is not there; one that is there stays as it is.
func (r *Registry) EnsureCallback(t hark.TenantID, d *hark.Destination) (now *hark.Destination, created bool, err error) {
	r.write.Lock()
	defer r.write.Unlock()
	if old, err := r.DestinationByUID(t, d.UID); err == nil {
		return old, false, nil
	}
	if home := r.tenants[t]; home != nil {
		n := 0
		for _, x := range home.destinations {
			if x.Callback {
				n++
			}
		}
		if n >= r.limits.Callbacks {
			return nil, false, tooMany("destinations for callbacks", n)
		}
	}
	d = cloneDestination(d)
	d.Callback = true
	now, err = r.create(t, d, nil)
	return now, err == nil, err
}

// SetDestinationState pauses, disables or (active) resumes, with a reason for people.
func (r *Registry) SetDestinationState(t hark.TenantID, id hark.DestinationID, revision uint64,
	state hark.DestinationState, reason string, attach ...Attach) (*hark.Destination, error) {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Destination(t, id)
	if err != nil {
		return nil, err
	}
	if err := checkRevision(revision, old.Revision); err != nil {
		return nil, err
	}
	d := cloneDestination(old)
	d.State, d.Reason = state, reason
	if state == hark.DestinationActive {
		d.Reason = ""
	}
	return r.replace(old, d, now(), attach)
}

// Ensure returns the destination with d.UID, and makes it of d if it is not there; one that
// is there stays as it is.
func (r *Registry) Ensure(t hark.TenantID, d *hark.Destination) (*hark.Destination, error) {
	if old, err := r.DestinationByUID(t, d.UID); err == nil {
		return old, nil
	}
	r.write.Lock()
	defer r.write.Unlock()
	if old, err := r.DestinationByUID(t, d.UID); err == nil {
		return old, nil
	}
	return r.create(t, d, nil)
}

// KindOverlap is the overlap that a destination's kind says: [hark.RotationOverlap], or no
// end at all.
const KindOverlap time.Duration = -1

// forEver is an overlap without an end.
const forEver time.Duration = math.MaxInt64

func (r *Registry) overlap(d *hark.Destination, asked time.Duration) time.Duration {
	switch {
	case asked != KindOverlap:
		return asked
	case r.kinds.KeepsSecrets(d):
		return forEver
	}
	return hark.RotationOverlap
}

// RotateSecret puts a new secret first; those before it sign for another overlap at
// most (0 ends them at once, [KindOverlap] is what is usual for the kind). Without a given
// secret it makes one.
func (r *Registry) RotateSecret(t hark.TenantID, id hark.DestinationID, given hark.Secret, overlap time.Duration) (*hark.Destination, error) {
	if overlap != KindOverlap {
		if err := checkOverlap(overlap); err != nil {
			return nil, err
		}
	}
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Destination(t, id)
	if err != nil {
		return nil, err
	}
	d := cloneDestination(old)
	if given == "" {
		if given = r.kinds.NewSecret(d); given == "" {
			return nil, &hark.Error{Kind: hark.Conflict, Code: "no-secret", Msg: "a destination of kind " + d.Kind + " does not sign"}
		}
	}
	at := now()
	if d.Secrets, err = rotate(d.Secrets, r.fullSecret(old, given), at, r.overlap(d, overlap)); err != nil {
		return nil, err
	}
	return r.replace(old, d, at, nil)
}

// DeleteDestination removes one. What the store holds of it is for attach functions
// and retention.
func (r *Registry) DeleteDestination(t hark.TenantID, id hark.DestinationID, revision uint64, attach ...Attach) error {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Destination(t, id)
	if err != nil {
		return err
	}
	if err := checkRevision(revision, old.Revision); err != nil {
		return err
	}
	return r.commit(r.changeDestination(old, nil, attach))
}

// changeDestination makes the commit of a change; either may be nil. The caller holds write.
func (r *Registry) changeDestination(old, d *hark.Destination, attach []Attach) *mutation {
	m := &mutation{changes: []Change{{Destination: Pair[hark.Destination]{old, d}}}}
	if d != nil {
		m.recs = append(m.recs, destinationRecord(d))
		m.swap = append(m.swap, func() { r.putDestination(old, d) })
	} else {
		m.recs = append(m.recs, &store.RegistryDeleted{Noun: store.NounDestination, Tenant: old.Tenant, ID: uint64(old.ID)})
		m.swap = append(m.swap, func() { r.dropDestination(old) })
	}
	for _, fns := range [][]Attach{r.attach, attach} {
		for _, fn := range fns {
			if fn != nil {
				m.attached(fn(old, d))
			}
		}
	}
	return m
}

// putDestination swaps d in. The caller holds write and mu, or is opening.
func (r *Registry) putDestination(old, d *hark.Destination) {
	home := r.tenants[d.Tenant]
	home.destinations = putByID(home.destinations, d, d.ID, byDestinationID)
	if old != nil && old.UID != "" {
		delete(home.uids, old.UID)
	}
	if d.UID != "" {
		home.uids[d.UID] = d.ID
	}
	r.destinations[d.ID] = d
}

func (r *Registry) dropDestination(old *hark.Destination) {
	delete(r.destinations, old.ID)
	home := r.tenants[old.Tenant]
	if home == nil { // the tenant went in the same commit
		return
	}
	home.destinations = withoutID(home.destinations, old.ID, byDestinationID)
	if old.UID != "" {
		delete(home.uids, old.UID)
	}
}

func byDestinationID(d *hark.Destination, id hark.DestinationID) int { return cmp.Compare(d.ID, id) }

func cloneDestination(d *hark.Destination) *hark.Destination {
	c := *d
	c.Topics, c.Filter, c.Settings, c.Secrets = slices.Clone(d.Topics), bytes.Clone(d.Filter), bytes.Clone(d.Settings), slices.Clone(d.Secrets)
	if d.Retry != nil {
		retry := *d.Retry
		retry.Schedule = slices.Clone(retry.Schedule)
		c.Retry = &retry
	}
	return &c
}

// fullSecret returns a given secret as it would be stored: it may come without its
// prefix, and must be known again when it comes twice. One that is refused is
// returned as it is, and refused when the whole is checked.
func (r *Registry) fullSecret(old *hark.Destination, given hark.Secret) hark.Secret {
	d := cloneDestination(old)
	d.Secrets = []hark.SigningSecret{{Value: given}}
	if r.kinds.Prepare(old, d) != nil {
		return given
	}
	return d.Secrets[0].Value
}

// mergeSecrets is what an edit may do to secrets: bring a new first one.
func mergeSecrets(old, given []hark.SigningSecret, at time.Time, overlap time.Duration) ([]hark.SigningSecret, error) {
	if len(given) == 0 || len(old) > 0 && given[0].Value == old[0].Value {
		return slices.Clone(old), nil
	}
	return rotate(old, given[0].Value, at, overlap)
}

func rotate(old []hark.SigningSecret, first hark.Secret, at time.Time, overlap time.Duration) ([]hark.SigningSecret, error) {
	secrets := []hark.SigningSecret{{Value: first}}
	for _, s := range unexpired(old, at) {
		if end := at.Add(overlap); overlap != forEver && (s.Expires.IsZero() || s.Expires.After(end)) {
			s.Expires = end
		}
		if s.Value != first && (s.Expires.IsZero() || s.Expires.After(at)) {
			secrets = append(secrets, s)
		}
	}
	if len(secrets) > MaxSecrets {
		return nil, tooManySecrets()
	}
	return secrets, nil
}

func checkOverlap(overlap time.Duration) error {
	if overlap < 0 || overlap > 30*24*time.Hour {
		return hark.Invalidf("overlap", "must be between 0s and 720h")
	}
	return nil
}

func tooManySecrets() error {
	return &hark.Error{Kind: hark.Conflict, Code: "too-many-secrets",
		Msg: "10 secrets of it are still valid: wait until one expires, or rotate with overlap 0s"}
}

func unexpired(secrets []hark.SigningSecret, at time.Time) []hark.SigningSecret {
	return slices.DeleteFunc(slices.Clone(secrets), func(s hark.SigningSecret) bool {
		return !s.Expires.IsZero() && !s.Expires.After(at)
	})
}
