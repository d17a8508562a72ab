package registry

import (
	"cmp"
	"crypto/rand"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

const (
	tokenSecretBytes = 32
	// maxTokenKeys bounds the keys of a tenant that still verify: who rotates faster
	// ends the oldest early.
	maxTokenKeys = 8
	// maxTokenName bounds a token's id and a user's name.
	maxTokenName = 255
)

// TokenKey signs the tokens that a tenant mints for its users, with HMAC-SHA256. It
// never leaves the server: who has it is every user.
type TokenKey struct {
	ID     hark.TokenKeyID `json:"id"`
	Tenant hark.TenantID   `json:"-"`
	Secret []byte          `json:"-"`
	// Retires is when it ceases to verify; zero for the one that signs.
	Retires time.Time `json:"retires,omitzero"`
	Created time.Time `json:"created"`
}

// Holds reports whether k still verifies.
func (k *TokenKey) Holds(at time.Time) bool { return k.Retires.IsZero() || at.Before(k.Retires) }

// Revocation ends tokens before their time: one, or those of a user that were minted
// before a moment.
type Revocation struct {
	ID     hark.RevocationID `json:"id"`
	Tenant hark.TenantID     `json:"-"`
	// Token is the id of the token (its claim "jti") that it ends. Exactly one of Token
	// and User is set.
	Token string `json:"token_id,omitempty"`
	User  string `json:"user,omitempty"`
	// Before goes with User: tokens that were minted earlier are ended.
	Before  time.Time `json:"before,omitzero"`
	Created time.Time `json:"created"`
	// Until is when nothing that it ends could still be valid: it is forgotten then.
	// Zero for never.
	Until time.Time `json:"until,omitzero"`
}

// TokenKey returns a key by its id, whatever its tenant, or nil.
func (r *Registry) TokenKey(id hark.TokenKeyID) *TokenKey {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tokenKeys[id]
}

// SigningKey returns the key that signs a tenant's tokens; it makes one if there is none.
func (r *Registry) SigningKey(t hark.TenantID) (*TokenKey, error) {
	r.mu.RLock()
	k := r.signingKey(t)
	r.mu.RUnlock()
	if k != nil {
		return k, nil
	}
	return r.replaceTokenKey(t, func(current *TokenKey, _ time.Time) (bool, time.Time) { return current == nil, time.Time{} })
}

// RotateTokenKey makes a new key that signs a tenant's tokens. The one before it
// verifies for overlap longer.
func (r *Registry) RotateTokenKey(t hark.TenantID, overlap time.Duration) (*TokenKey, error) {
	if overlap < 0 {
		return nil, hark.Invalidf("overlap", "must not be negative; 0s ends all tokens of the key before at once")
	}
	return r.replaceTokenKey(t, func(_ *TokenKey, at time.Time) (bool, time.Time) { return true, at.Add(overlap) })
}

func (r *Registry) replaceTokenKey(t hark.TenantID, decide func(current *TokenKey, at time.Time) (replace bool, retires time.Time)) (*TokenKey, error) {
	r.write.Lock()
	defer r.write.Unlock()
	home := r.tenants[t]
	if home == nil {
		return nil, hark.NoSuch("tenant", "")
	}
	at, current := now(), r.signingKey(t)
	replace, retires := decide(current, at)
	if !replace {
		return current, nil
	}
	made := &TokenKey{ID: hark.TokenKeyID(r.nextID()), Tenant: t, Secret: make([]byte, tokenSecretBytes), Created: at}
	rand.Read(made.Secret)
	m := r.changeTokenKey(nil, made)
	m.recs = append(m.recs, r.topRecord())
	if current != nil {
		if retires.After(at) {
			old := *current
			old.Retires = retires
			m.and(r.changeTokenKey(current, &old))
		} else {
			m.and(r.changeTokenKey(current, nil))
		}
	}
	if over := len(home.tokenKeys) + 1 - maxTokenKeys; over > 0 {
		for _, oldest := range home.tokenKeys[:over] {
			m.and(r.changeTokenKey(oldest, nil))
		}
	}
	if err := r.commit(m); err != nil {
		return nil, err
	}
	return made, nil
}

// signingKey is the newest of a tenant. The caller holds write or mu.
func (r *Registry) signingKey(t hark.TenantID) *TokenKey {
	home := r.tenants[t]
	if home == nil || len(home.tokenKeys) == 0 {
		return nil
	}
	if k := home.tokenKeys[len(home.tokenKeys)-1]; k.Retires.IsZero() {
		return k
	}
	return nil
}

// Revoke ends tokens of a tenant, as given says. A user has one revocation: a later
// one moves its time. When it returns, [Registry.IsRevoked] knows.
func (r *Registry) Revoke(t hark.TenantID, given *Revocation) (*Revocation, error) {
	if err := checkRevocation(given); err != nil {
		return nil, err
	}
	r.write.Lock()
	defer r.write.Unlock()
	home := r.tenants[t]
	if home == nil {
		return nil, hark.NoSuch("tenant", "")
	}
	v := *given
	v.Tenant, v.Created = t, now()
	old := home.ended[v.Token]
	if v.User != "" {
		old = home.endedUsers[v.User]
	}
	m := &mutation{}
	if old != nil {
		v.ID, v.Created = old.ID, old.Created
		if old.Before.After(v.Before) {
			v.Before = old.Before
		}
		if old.Until.IsZero() || !v.Until.IsZero() && old.Until.After(v.Until) {
			v.Until = old.Until
		}
	} else {
		if len(home.revocations) >= r.limits.Revocations {
			return nil, tooMany("revocations", len(home.revocations))
		}
		v.ID = hark.RevocationID(r.nextID())
		m.recs = append(m.recs, r.topRecord())
	}
	m.and(r.changeRevocation(old, &v))
	if err := r.commit(m); err != nil {
		return nil, err
	}
	return &v, nil
}

func checkRevocation(v *Revocation) error {
	if (v.Token == "") == (v.User == "") {
		return hark.Invalidf("token_id", "name what is to end: either token_id, or user")
	}
	for field, name := range map[string]string{"token_id": v.Token, "user": v.User} {
		if len(name) > maxTokenName || !utf8.ValidString(name) {
			return hark.Invalidf(field, "must be UTF-8 of at most 255 bytes")
		}
	}
	return nil
}

// IsRevoked reports whether a token of a tenant was ended: by its id, or by its user
// and when it was minted. It is on the path of every request with a token.
func (r *Registry) IsRevoked(t hark.TenantID, token, user string, minted time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	home := r.tenants[t]
	if home == nil {
		return true
	}
	if len(home.revocations) == 0 {
		return false
	}
	if token != "" && home.ended[token] != nil {
		return true
	}
	v := home.endedUsers[user]
	return v != nil && minted.Before(v.Before)
}

// RevokedBefore returns the moment before which a user's tokens were ended; zero for never.
func (r *Registry) RevokedBefore(t hark.TenantID, user string) time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if home := r.tenants[t]; home != nil && home.endedUsers[user] != nil {
		return home.endedUsers[user].Before
	}
	return time.Time{}
}

// Revocations returns a page of a tenant's, oldest first, and whether there is more.
func (r *Registry) Revocations(t hark.TenantID, after hark.RevocationID, limit int) (page []*Revocation, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	home := r.tenants[t]
	if home == nil {
		return nil, false
	}
	return pageByID(home.revocations, after+1, byRevocationID, limit)
}

// ForgetTokens takes away what cannot matter any more at a time: revocations whose
// tokens have all ended, and keys that verify no more. It tells how many rows went; at
// most 200 do in one call, so that nobody waits long for the lock.
func (r *Registry) ForgetTokens(at time.Time) (int, error) {
	const most = 200
	r.write.Lock()
	defer r.write.Unlock()
	m := &mutation{}
	for _, id := range r.tenantIDs() {
		home := r.tenants[id]
		for _, v := range home.revocations {
			if len(m.recs) < most && !v.Until.IsZero() && at.After(v.Until) {
				m.and(r.changeRevocation(v, nil))
			}
		}
		for _, k := range home.tokenKeys {
			if len(m.recs) < most && !k.Holds(at) {
				m.and(r.changeTokenKey(k, nil))
			}
		}
	}
	if len(m.recs) == 0 {
		return 0, nil
	}
	return len(m.recs), r.commit(m)
}

func (r *Registry) changeTokenKey(old, k *TokenKey) *mutation {
	m := &mutation{changes: []Change{{TokenKey: Pair[TokenKey]{old, k}}}}
	if k != nil {
		m.recs = append(m.recs, tokenKeyRecord(k))
		m.swap = append(m.swap, func() { r.putTokenKey(k) })
		return m
	}
	m.recs = append(m.recs, &store.RegistryDeleted{Noun: store.NounTokenKey, Tenant: old.Tenant, ID: uint64(old.ID)})
	m.swap = append(m.swap, func() {
		delete(r.tokenKeys, old.ID)
		if home := r.tenants[old.Tenant]; home != nil {
			home.tokenKeys = withoutID(home.tokenKeys, old.ID, byTokenKeyID)
		}
	})
	return m
}

func (r *Registry) putTokenKey(k *TokenKey) {
	home := r.tenants[k.Tenant]
	home.tokenKeys = putByID(home.tokenKeys, k, k.ID, byTokenKeyID)
	r.tokenKeys[k.ID] = k
}

func (r *Registry) changeRevocation(old, v *Revocation) *mutation {
	m := &mutation{changes: []Change{{Revocation: Pair[Revocation]{old, v}}}}
	if v != nil {
		m.recs = append(m.recs, revocationRecord(v))
		m.swap = append(m.swap, func() { r.putRevocation(v) })
		return m
	}
	m.recs = append(m.recs, &store.RegistryDeleted{Noun: store.NounRevocation, Tenant: old.Tenant, ID: uint64(old.ID)})
	m.swap = append(m.swap, func() {
		if home := r.tenants[old.Tenant]; home != nil {
			home.revocations = withoutID(home.revocations, old.ID, byRevocationID)
			delete(home.ended, old.Token)
			delete(home.endedUsers, old.User)
		}
	})
	return m
}

func (r *Registry) putRevocation(v *Revocation) {
	home := r.tenants[v.Tenant]
	home.revocations = putByID(home.revocations, v, v.ID, byRevocationID)
	if v.Token != "" {
		if home.ended == nil {
			home.ended = make(map[string]*Revocation)
		}
		home.ended[strings.Clone(v.Token)] = v
		return
	}
	if home.endedUsers == nil {
		home.endedUsers = make(map[string]*Revocation)
	}
	home.endedUsers[strings.Clone(v.User)] = v
}

func byTokenKeyID(k *TokenKey, id hark.TokenKeyID) int       { return cmp.Compare(k.ID, id) }
func byRevocationID(v *Revocation, id hark.RevocationID) int { return cmp.Compare(v.ID, id) }
