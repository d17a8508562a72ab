package auth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// TenantHeader names the tenant an admin key acts for.
const TenantHeader = "Hark-Tenant"

// Config is what an [Authenticator] is made of.
type Config struct {
	Registry *registry.Registry
	// Tokens checks bearer credentials that are not API keys; nil refuses them.
	Tokens Tokens
	// RateLimit is in requests per second of one key, for keys without their own; 0 for none.
	RateLimit float64
	// Burst is how many requests of a limited key may come at once; 0 for two
	// seconds' worth, at least 10.
	Burst int
	Hooks Hooks
}

// Hooks tell what happens; nil ones are left out.
type Hooks struct {
	// WriteFailed is called when the times of last use could not be written; they
	// are tried again a minute later.
	WriteFailed func(err error)
}

// Tokens checks credentials other than API keys, such as JWTs.
type Tokens interface {
	// Authenticate returns whose token it is, or a [hark.Unauthenticated] error.
	Authenticate(token string) (Principal, error)
}

// Authenticator says who is calling. It is safe for concurrent use.
type Authenticator struct {
	registry *registry.Registry
	tokens   Tokens
	hooks    Hooks
	devPort  atomic.Pointer[string]
	meters   meters
}

// New makes an Authenticator.
func New(c Config) *Authenticator {
	return &Authenticator{registry: c.Registry, tokens: c.Tokens, hooks: c.Hooks, meters: meters{
		rate: c.RateLimit, burst: c.Burst, m: make(map[hark.KeyID]*meter)}}
}

// AllowLocal turns hark dev's rule on: a request without a credential that
// [CheckLocal] believes is an administrator's. Port is the listener's. The listener
// must be bound to loopback only.
func (a *Authenticator) AllowLocal(port string) { a.devPort.Store(&port) }

// Authenticate says who sent r. Its errors are [hark.Unauthenticated],
// [hark.Forbidden], [hark.TooMany] or, for a tenant that is not there, [hark.NotFound].
func (a *Authenticator) Authenticate(r *http.Request) (Principal, error) {
	p, err := a.identify(r)
	if err != nil {
		return Principal{}, err
	}
	if names := r.Header[TenantHeader]; len(names) > 0 {
		if err := a.actFor(&p, names); err != nil {
			return Principal{}, err
		}
	}
	return p, nil
}

func (a *Authenticator) identify(r *http.Request) (Principal, error) {
	credentials := r.Header["Authorization"]
	switch {
	case len(credentials) == 0:
		return a.local(r)
	case len(credentials) > 1:
		return Principal{}, unauthenticated("bad-authorization", "there are several Authorization headers: send one")
	}
	scheme, token, _ := strings.Cut(credentials[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, unauthenticated("bad-authorization", "send the key as \"Authorization: Bearer hk_…\"")
	}
	token = strings.TrimSpace(token)
	if !strings.HasPrefix(token, tokenPrefix) && a.tokens != nil {
		return a.tokens.Authenticate(token)
	}
	return a.byKey(token, time.Now())
}

func (a *Authenticator) local(r *http.Request) (Principal, error) {
	port := a.devPort.Load()
	if port == nil {
		return Principal{}, unauthenticated("no-credential",
			"send \"Authorization: Bearer hk_…\"; \"hark key create\" makes a key")
	}
	if err := CheckLocal(r, *port); err != nil {
		return Principal{}, err
	}
	return Principal{Tenant: hark.DefaultTenant, Name: "dev", Scopes: registry.ScopeAdmin}, nil
}

func (a *Authenticator) byKey(token string, now time.Time) (Principal, error) {
	if len(token) != tokenLength {
		return Principal{}, CheckToken(token)
	}
	hash := HashToken(token)
	k := a.registry.KeyByHash(hash)
	if k == nil { // what is found needs no check of its form
		if err := CheckToken(token); err != nil {
			return Principal{}, err
		}
	}
	if err := checkKey(k, &hash, now); err != nil {
		return Principal{}, err
	}
	if err := a.meters.use(k, now); err != nil {
		return Principal{}, err
	}
	return Principal{Tenant: k.Tenant, Key: k.ID, Name: k.Name, Scopes: k.Scopes,
		Publish: k.Publish, Subscribe: k.Subscribe, Expires: k.Expires, hash: hash}, nil
}

func checkKey(k *registry.Key, hash *[32]byte, now time.Time) error {
	if k == nil || subtle.ConstantTimeCompare(k.Hash[:], hash[:]) != 1 {
		return unauthenticated("unknown-key", "there is no such key, or it was revoked: \"hark key list\" shows those there are")
	}
	if !k.Expires.IsZero() && !now.Before(k.Expires) {
		return unauthenticated("expired-key", "this key ended at "+k.Expires.UTC().Format(time.RFC3339)+": make a new one with \"hark key create\"")
	}
	return nil
}

func (a *Authenticator) actFor(p *Principal, names []string) error {
	if p.Scopes&registry.ScopeAdmin == 0 {
		return forbidden("tenant-forbidden", "only a key with the scope admin may act for another tenant: leave the header "+TenantHeader+" out")
	}
	if len(names) > 1 {
		return forbidden("tenant-forbidden", "there are several "+TenantHeader+" headers: send one")
	}
	t, err := a.registry.TenantByName(names[0])
	if err != nil {
		return err
	}
	p.Tenant = t.ID
	return nil
}

// Recheck tells whether p's credential still holds: a stream asks this when keys
// change, and from time to time. It does not count against a rate.
func (a *Authenticator) Recheck(p *Principal) error {
	now := time.Now()
	if p.Key != 0 {
		k := a.registry.KeyByHash(p.hash)
		if err := checkKey(k, &p.hash, now); err != nil {
			return err
		}
		if k.Scopes&p.Scopes != p.Scopes {
			return forbidden("missing-scope", "the key lost a scope: connect again")
		}
	}
	if !p.Expires.IsZero() && !now.Before(p.Expires) {
		return unauthenticated("expired", "the credential has expired: connect again with a new one")
	}
	return nil
}

// CreateKey makes a key of given (name, scopes, patterns, rate, end) and returns its
// text, which nobody can show again.
func (a *Authenticator) CreateKey(t hark.TenantID, given *registry.Key) (text string, k *registry.Key, err error) {
	text = NewToken()
	c := *given
	c.Hash, c.Hint = HashToken(text), text[:hintLength]
	k, err = a.registry.CreateKey(t, &c)
	if err != nil {
		return "", nil, err
	}
	return text, k, nil
}

// EnsureFirstKey makes an admin key and returns its text, once: when no admin key
// that still holds exists. Otherwise the text is empty. Whoever revoked the last one
// gets in again by a restart.
func (a *Authenticator) EnsureFirstKey() (text string, err error) {
	now := time.Now()
	if a.registry.HasKey(func(k *registry.Key) bool {
		return k.Scopes&registry.ScopeAdmin != 0 && (k.Expires.IsZero() || now.Before(k.Expires))
	}) {
		return "", nil
	}
	text, _, err = a.CreateKey(hark.DefaultTenant, &registry.Key{Name: "first admin key", Scopes: registry.ScopeAdmin})
	if err != nil {
		return "", fmt.Errorf("making the first admin key: %w", err)
	}
	return text, nil
}

// Run writes when keys were last used, once a minute and at its end, and forgets the
// meters of idle keys. It returns when ctx ends.
func (a *Authenticator) Run(ctx context.Context) error {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.write()
		case <-ctx.Done():
			a.write()
			return nil
		}
	}
}

func (a *Authenticator) write() {
	used := a.meters.take(time.Now())
	if len(used) == 0 {
		return
	}
	if err := a.registry.TouchKeys(used); err != nil {
		a.meters.putBack(used)
		if a.hooks.WriteFailed != nil {
			a.hooks.WriteFailed(err)
		}
	}
}
