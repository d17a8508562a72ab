package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// Issuer is who else than this server may sign tokens, and for whom they then are. The
// zero Issuer is nobody.
type Issuer struct {
	// Keys are those from files, JWKS the URL of a published set of more; "" for none.
	Keys []*Key
	JWKS string
	// Name must be the token's "iss"; "" takes any.
	Name string
	// Audiences holds what the token's "aud" must name one of; empty takes any.
	Audiences []string
	// Tenant is whom its tokens are for, by name; "" for the default tenant. AnyTenant
	// lets the claim hark.tenant choose.
	Tenant    string
	AnyTenant bool
	// MaxAge bounds how long a token may live, from "iat" (or now) to "exp"; 0 for 24 h.
	MaxAge time.Duration
	// OptionalExp takes tokens that never end, too.
	OptionalExp bool
}

func (i *Issuer) none() bool { return len(i.Keys) == 0 && i.JWKS == "" }

// DefaultMaxAge is the longest life of a token that is taken, unless an Issuer says otherwise.
const DefaultMaxAge = 24 * time.Hour

// tokens verifies JWTs: those that this server minted, and those of an [Issuer].
type tokens struct {
	registry *registry.Registry
	issuer   Issuer
	keys     *keySet
	cache    tokenCache
	// rate is in requests per second of one token, keyRate of one key; 0 for any.
	rate, keyRate float64
}

// facts are what a verified token adds to its Principal for later questions. But for
// limit, they never change.
type facts struct {
	tenant hark.TenantID // of the token, whomever it acts for
	user   string
	id     string
	issued time.Time
	// key is an issuer's; own the server's. One of them is set.
	key *Key
	own hark.TokenKeyID
	by  hark.KeyID // who minted it

	limit atomic.Pointer[limit] // of requests; only from the second on
}

func newTokens(r *registry.Registry, issuer Issuer, fetch Fetch) *tokens {
	if issuer.MaxAge == 0 {
		issuer.MaxAge = DefaultMaxAge
	}
	t := &tokens{registry: r, issuer: issuer, keys: newKeySet(issuer.Keys, issuer.JWKS, fetch)}
	return t
}

// authenticate says whose token it is. Verified ones are remembered for as long as they
// hold: whether they still do is asked each time.
func (ts *tokens) authenticate(token string, now time.Time) (Principal, error) {
	if len(token) > maxJWT { // before anything that costs
		return Principal{}, badToken("it is larger than 8 KiB")
	}
	hash := sha256.Sum256([]byte(token))
	if p := ts.cache.get(hash); p != nil {
		if err := ts.recheck(p, now); err != nil {
			ts.cache.drop(hash)
			return Principal{}, err
		}
		if err := ts.spend(p, now); err != nil {
			return Principal{}, err
		}
		return *p, nil
	}
	p, err := ts.verify(token, now)
	if err != nil {
		return Principal{}, err
	}
	if err := ts.recheck(p, now); err != nil {
		return Principal{}, err
	}
	ts.cache.put(hash, p)
	return *p, nil
}

// spend counts a request with a token.
func (ts *tokens) spend(p *Principal, now time.Time) error {
	perSecond := ts.rate
	if p.Mercure != nil && len(p.Mercure.Publish) > 0 { // a Mercure publisher is a program, as who has a key
		perSecond = ts.keyRate
	}
	return take(&p.token.limit, perSecond, max(20, int(2*perSecond)), now, "token")
}

// recheck tells whether a token that was verified holds now.
func (ts *tokens) recheck(p *Principal, now time.Time) error {
	f := p.token
	if !p.Expires.IsZero() && !now.Before(p.Expires) {
		return unauthenticated("expired-token", "the token ended at "+p.Expires.UTC().Format(time.RFC3339)+": get a new one")
	}
	if f.key != nil && f.key.dropped.Load() {
		return unknownKey()
	}
	if f.own != 0 {
		if k := ts.registry.TokenKey(f.own); k == nil || k.Tenant != f.tenant || !k.Holds(now) {
			return unknownKey()
		}
	}
	if ts.registry.IsRevoked(f.tenant, f.id, f.user, f.issued) {
		return unauthenticated("revoked-token", "the token was revoked: get a new one")
	}
	if f.by != 0 {
		if k := ts.registry.KeyByID(f.by); k == nil || !k.Expires.IsZero() && !now.Before(k.Expires) {
			return unauthenticated("revoked-token", "the key that minted the token was revoked, or ended: get a new one")
		}
	}
	return nil
}

func unknownKey() error {
	return unauthenticated("unknown-token-key", "the key that signed the token is none of this server's, or not any more: is the token for another server?")
}

// verify takes a token apart, asks the keys that may have signed it, and only then
// believes what it says.
func (ts *tokens) verify(token string, now time.Time) (*Principal, error) {
	t, err := splitJWT(token)
	if err != nil {
		return nil, err
	}
	switch t.alg {
	case algHS256, algES256, algRS256, algEdDSA, "Ed25519":
	default:
		return nil, badToken("its algorithm is none of HS256, ES256, EdDSA and RS256")
	}
	f := &facts{}
	if strings.HasPrefix(t.kid, hark.TokenKeyPrefix) {
		err = ts.verifyOwn(&t, f)
	} else {
		f.key, err = ts.keys.verify(&t)
	}
	if err != nil {
		return nil, err
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(t.claims)
	if err != nil {
		return nil, badToken("its claims are not base64url")
	}
	c, err := parseClaims(raw)
	if err != nil {
		return nil, err
	}
	if err := ts.check(c, f, now); err != nil {
		return nil, err
	}
	return principalOf(c, f), nil
}

func (ts *tokens) verifyOwn(t *jwt, f *facts) error {
	id, err := hark.ParseTokenKeyID(t.kid)
	if err != nil {
		return unknownKey()
	}
	own := ts.registry.TokenKey(id)
	if own == nil || t.alg != algHS256 {
		return unknownKey()
	}
	if !secretKey("", own.Secret).verify(t.signed, t.signature) {
		return badSignature()
	}
	f.own, f.tenant = id, own.Tenant
	return nil
}

func badSignature() error { return badToken("its signature is wrong") }

// check holds verified claims against the clock and against whom they are for.
func (ts *tokens) check(c *claims, f *facts, now time.Time) error {
	if err := ts.checkTime(c, f, now); err != nil {
		return err
	}
	f.user, f.id, f.by = c.user, c.id, c.by
	if f.own != 0 {
		return nil
	}
	f.by = 0 // only our own word counts
	if ts.issuer.Name != "" && c.issuer != ts.issuer.Name {
		return badToken("its issuer (iss) is not the one that this server trusts")
	}
	if len(ts.issuer.Audiences) > 0 && !slices.ContainsFunc(c.audiences, func(a string) bool { return slices.Contains(ts.issuer.Audiences, a) }) {
		return badToken("it is not for this server: its audience (aud) is another")
	}
	name := ts.issuer.Tenant
	if c.tenant != "" && c.tenant != name {
		if !ts.issuer.AnyTenant {
			return badToken("its claim hark.tenant names another tenant than the one that such tokens are for")
		}
		name = c.tenant
	}
	if name == "" {
		f.tenant = hark.DefaultTenant
		return nil
	}
	t, err := ts.registry.TenantByName(name)
	if err != nil {
		return badToken("the tenant that it is for does not exist")
	}
	f.tenant = t.ID
	return nil
}

func (ts *tokens) checkTime(c *claims, f *facts, now time.Time) error {
	if c.issued != 0 {
		if f.issued = at(c.issued); f.issued.After(now.Add(leeway)) {
			return badToken("it was minted in the future (iat): is a clock wrong?")
		}
	}
	if c.notBefore != 0 && at(c.notBefore).After(now.Add(leeway)) {
		return badToken("it does not hold yet (nbf)")
	}
	most := ts.issuer.MaxAge
	if f.own != 0 {
		most = MaxTokenTTL
	}
	if !c.ends {
		if f.own == 0 && ts.issuer.OptionalExp {
			return nil
		}
		return badToken("it never ends: it needs the claim exp")
	}
	from := now
	if c.issued != 0 && f.issued.Before(now) {
		from = f.issued
	}
	if at(c.expires).Sub(from) > most+leeway {
		return badToken("it lives longer than " + most.String() + ", which is the most that is taken (--jwt-max-age)")
	}
	return nil
}

// principalOf is what a token may: what it says, and nothing that it does not say.
func principalOf(c *claims, f *facts) *Principal {
	p := &Principal{Tenant: f.tenant, Name: c.user, User: c.user, Subscribe: c.subscribe, Publish: c.publish,
		Mercure: c.mercure, narrow: true, token: f}
	if c.ends {
		p.Expires = at(c.expires)
	}
	if len(c.subscribe) > 0 {
		p.Scopes |= registry.ScopeSubscribe
	}
	if len(c.publish) > 0 {
		p.Scopes |= registry.ScopePublish
	}
	return p
}
