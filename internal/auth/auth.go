package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
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
	// Issuer is who else may sign tokens; the zero one is nobody.
	Issuer Issuer
	// Fetch gets the issuer's published keys; only needed if it publishes some.
	Fetch Fetch
	// Origin is our own, "https://hark.example", where requests do not tell it by their
	// Host; "" for none.
	Origin string
	// Origins are those of other web pages that may read with a cookie here, such as
	// "https://app.example.com".
	Origins []string
	// Anonymous holds what anyone may subscribe to in the default tenant, on live routes;
	// empty for nothing.
	Anonymous []hark.Pattern
	// RateLimit is in requests per second of one key, for keys without their own; 0 for none.
	RateLimit float64
	// Burst is how many requests of a limited key may come at once; 0 for two
	// seconds' worth, at least 10.
	Burst int
	// TokenRate is in requests per second of one token; 0 for none.
	TokenRate float64
	Hooks     Hooks
}

// Hooks tell what happens; nil ones are left out.
type Hooks struct {
	// WriteFailed is called when the times of last use could not be written, or what
	// cannot matter any more not be forgotten; it is tried again.
	WriteFailed func(err error)
	// KeysFailed is called when the issuer's published keys could not be fetched; those
	// that there are go on.
	KeysFailed func(err error)
	// Refused is called for each credential that is refused, or missing, with the code
	// of the error.
	Refused func(code string)
}

// Authenticator says who is calling. It is safe for concurrent use.
type Authenticator struct {
	registry  *registry.Registry
	tokens    *tokens
	origin    string
	origins   []string
	anonymous []hark.Pattern
	hooks     Hooks
	devPort   atomic.Pointer[string]
	meters    meters

	mu       sync.Mutex // guards watchers
	watchers []func()
}

// New makes an Authenticator.
func New(c Config) *Authenticator {
	a := &Authenticator{registry: c.Registry, tokens: newTokens(c.Registry, c.Issuer, c.Fetch), origin: c.Origin, origins: c.Origins, anonymous: c.Anonymous,
		hooks: c.Hooks, meters: meters{rate: c.RateLimit, burst: c.Burst, m: make(map[hark.KeyID]*meter)}}
	a.tokens.rate, a.tokens.keyRate = c.TokenRate, c.RateLimit
	a.tokens.keys.changed = func() { a.tokens.cache.clear(); a.tell() }
	if c.Hooks.KeysFailed != nil {
		a.tokens.keys.failed = c.Hooks.KeysFailed
	}
	a.registry.Watch(a.changed)
	return a
}

// AllowLocal turns hark dev's rule on: a request without a credential that
// [CheckLocal] believes is an administrator's. Port is the listener's. The listener
// must be bound to loopback only.
func (a *Authenticator) AllowLocal(port string) { a.devPort.Store(&port) }

// Authenticate says who sent r; ways are where its credential may be, besides the
// header Authorization. Its errors are [hark.Unauthenticated], [hark.Forbidden],
// [hark.TooMany], [hark.Unavailable] or, for a tenant that is not there, [hark.NotFound].
func (a *Authenticator) Authenticate(r *http.Request, ways ...Way) (Principal, error) {
	p, err := a.identify(r, ways)
	if names := r.Header[TenantHeader]; err == nil && len(names) > 0 {
		err = a.actFor(&p, names)
	}
	if err != nil {
		return Principal{}, a.refused(err)
	}
	return p, nil
}

// refused tells the hook of an error, and returns it.
func (a *Authenticator) refused(err error) error {
	if e, ok := errors.AsType[*hark.Error](err); ok && a.hooks.Refused != nil {
		a.hooks.Refused(e.Code)
	}
	return err
}

// AuthenticateToken says whose a key or token is that came by itself, such as in the
// first frame of a WebSocket. Its errors are those of Authenticate.
func (a *Authenticator) AuthenticateToken(token string) (Principal, error) {
	p, err := a.byText(token)
	if err != nil {
		return Principal{}, a.refused(err)
	}
	return p, nil
}

// byText says whose a key or token is.
func (a *Authenticator) byText(token string) (Principal, error) {
	if !strings.HasPrefix(token, tokenPrefix) && strings.Contains(token, ".") {
		p, err := a.tokens.authenticate(token, time.Now())
		if err == nil {
			a.addAnonymous(&p)
		}
		return p, err
	}
	return a.byKey(token, time.Now())
}

func (a *Authenticator) identify(r *http.Request, ways []Way) (Principal, error) {
	c, err := a.credential(r, ways)
	switch {
	case err != nil:
		return Principal{}, err
	case c.token == "" && c.from == fromNowhere:
		return a.withoutCredential(r, ways)
	}
	p, err := a.byText(c.token)
	if err == nil && c.from != fromHeader && p.Scopes&^(registry.ScopePublish|registry.ScopeSubscribe) != 0 {
		return Principal{}, unauthenticated("bad-authorization", "a key that manages goes into the header Authorization only: cookies and URLs leak; mint a token with POST /v1/tokens")
	}
	if c.reads {
		p.reads = true
		p.Scopes &^= registry.ScopePublish
	}
	return p, err
}

// withoutCredential is hark dev's user, or anyone.
func (a *Authenticator) withoutCredential(r *http.Request, ways []Way) (Principal, error) {
	p, err := a.local(r)
	if err == nil || !slices.Contains(ways, Anyone) && (len(ways) == 0 || len(a.anonymous) == 0) {
		return p, err
	}
	anyone := Principal{Tenant: hark.DefaultTenant, Name: "anonymous", Anonymous: true, narrow: true}
	a.addAnonymous(&anyone)
	return anyone, nil
}

// addAnonymous gives a token of the default tenant what anyone has there.
func (a *Authenticator) addAnonymous(p *Principal) {
	if len(a.anonymous) > 0 && p.Tenant == hark.DefaultTenant {
		p.Scopes |= registry.ScopeSubscribe
		p.Subscribe = append(p.Subscribe[:len(p.Subscribe):len(p.Subscribe)], a.anonymous...)
	}
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
	if _, err := a.registry.Tenant(p.Tenant); err != nil {
		return unauthenticated("unknown-key", "the tenant was deleted")
	}
	if p.token != nil {
		return a.tokens.recheck(p, now)
	}
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

// Spend counts one more request of p, made where none is authenticated: by a frame of a
// connection that is open. It refuses what no longer holds, and what is too often.
func (a *Authenticator) Spend(p *Principal) error {
	if err := a.Recheck(p); err != nil {
		return err
	}
	now := time.Now()
	if p.token != nil {
		return a.tokens.spend(p, now)
	}
	if k := a.registry.KeyByID(p.Key); k != nil {
		return a.meters.use(k, now)
	}
	return nil
}

// Watch calls fn after every change by which a credential that held may hold no more: a
// key or token revoked, a signing key gone, a tenant deleted. Who has streams then asks
// [Authenticator.Recheck] for each. Fn must be quick, and must not change the registry.
func (a *Authenticator) Watch(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watchers = append(a.watchers, fn)
}

func (a *Authenticator) changed(c registry.Change) {
	if c.Key.Old != nil || c.TokenKey.Old != nil || c.Revocation.New != nil || c.Tenant.Old != nil && c.Tenant.New == nil {
		a.tell()
	}
}

func (a *Authenticator) tell() {
	a.mu.Lock()
	watchers := a.watchers
	a.mu.Unlock()
	for _, fn := range watchers {
		fn()
	}
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

// Run writes when keys were last used, once a minute and at its end, forgets the meters
// of idle keys and what tokens no more need, and fetches the issuer's keys now and then.
// It returns when ctx ends.
func (a *Authenticator) Run(ctx context.Context) error {
	a.tokens.keys.keep()
	tick, keep := time.NewTicker(writeEvery), time.NewTicker(keepEvery)
	defer tick.Stop()
	defer keep.Stop()
	for {
		select {
		case <-tick.C:
			a.write()
		case <-keep.C:
			a.tokens.keys.keep()
			if _, err := a.registry.ForgetTokens(time.Now()); err != nil && a.hooks.WriteFailed != nil {
				a.hooks.WriteFailed(err)
			}
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
