package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// publisher is an issuer's URL.
type publisher struct {
	mu    sync.Mutex // guards below
	text  string
	fail  error
	delay time.Duration
	asked atomic.Int64
}

func (p *publisher) set(text string, fail error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text, p.fail = text, fail
}

func (p *publisher) fetch(ctx context.Context, url string) ([]byte, error) {
	p.asked.Add(1)
	p.mu.Lock()
	text, fail, delay := p.text, p.fail, p.delay
	p.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if url != "https://login.example.com/jwks" {
		return nil, errors.New("another URL")
	}
	return []byte(text), fail
}

func set(all ...*signer) string {
	texts := make([]string, len(all))
	for i, s := range all {
		texts[i] = s.jwk()
	}
	return `{"keys":[` + strings.Join(texts, ",") + `]}`
}

func named(alg, kid string) *signer {
	s := signers()[alg]
	s.kid = kid
	return s
}

func withJWKS(t *testing.T, p *publisher, keys ...*Key) (*Authenticator, *registry.Registry) {
	a, reg, _ := newAuth(t, Config{Issuer: Issuer{Keys: keys, JWKS: "https://login.example.com/jwks"}, Fetch: p.fetch})
	return a, reg
}

func TestPublishedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, three := named("ES256", "one"), named("RS256", "two"), named("EdDSA", "three")
		p := &publisher{text: set(one, two)}
		a, _ := withJWKS(t, p)
		told := 0
		a.Watch(func() { told++ })
		take := func(s *signer) (Principal, error) { return a.AuthenticateToken(s.sign(claimsOf(listens))) }
		stream, err := take(one)
		if err != nil || p.asked.Load() != 1 {
			t.Fatal(p.asked.Load(), err)
		}
		if _, err := take(two); err != nil || p.asked.Load() != 1 {
			t.Error(p.asked.Load(), err)
		}
		// A new key is found when a token names it, but not more often than every few seconds,
		// whatever strangers send.
		p.set(set(one, two, three), nil)
		if _, err := take(three); hark.KindOf(err) != hark.Unauthenticated || p.asked.Load() != 1 {
			t.Error(p.asked.Load(), err)
		}
		time.Sleep(refreshAfter)
		if _, err := take(three); err != nil || p.asked.Load() != 2 {
			t.Error(p.asked.Load(), err)
		}
		for i := range 1000 {
			refusedAs(t, a, named("HS256", fmt.Sprint("k", i)).sign(claimsOf("")), "unknown-token-key", "a stranger's")
		}
		stranger := named("ES256", "")
		for i := range 100 {
			stranger.kid = fmt.Sprint("k", i)
			time.Sleep(refreshAfter / 50)
			refusedAs(t, a, stranger.sign(claimsOf("")), "unknown-token-key", "a stranger's")
		}
		if n := p.asked.Load(); n > 5 {
			t.Errorf("strangers caused %d fetches", n)
		}
		// While it fails, the keys go on.
		p.set("", errors.New("down"))
		time.Sleep(time.Hour)
		a.tokens.keys.keep()
		if _, err := take(one); err != nil {
			t.Error(err)
		}
		for _, junk := range []string{"<html>", "{}", `{"keys":{}}`, `[]`, `{"keys":[` + strings.Repeat(one.jwk()+",", maxKeys) + one.jwk() + `]}`} {
			p.set(junk, nil)
			time.Sleep(time.Hour)
			a.tokens.keys.keep()
			if _, err := take(one); err != nil || told != 0 {
				t.Errorf("%.20s: %v", junk, err)
			}
		}
		// What is published no more ends: tokens, and the streams that they opened.
		if stream, err = take(one); err != nil {
			t.Fatal(err)
		}
		p.set(set(two, three), nil)
		time.Sleep(refreshEvery)
		a.tokens.keys.keep()
		if _, err := take(one); hark.KindOf(err) != hark.Unauthenticated || told != 1 {
			t.Error(told, err)
		}
		if err := a.Recheck(&stream); hark.KindOf(err) != hark.Unauthenticated {
			t.Error("its stream goes on:", err)
		}
		if _, err := take(two); err != nil {
			t.Error(err)
		}
	})
}

// TestPublishedKeysNeverCame: then it is our fault, not the token's; and whoever needs no
// published key does not wait.
func TestPublishedKeysNeverCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, theirs := named("ES256", ""), named("ES256", "theirs")
		key, err := ParseKeys(own.pem())
		if err != nil {
			t.Fatal(err)
		}
		p := &publisher{fail: errors.New("down"), delay: time.Minute}
		a, _ := withJWKS(t, p, key...)
		began := time.Now()
		own.kid = "unknown to the set"
		for range 3 {
			if _, err := a.AuthenticateToken(own.sign(claimsOf(listens))); err != nil || time.Since(began) != 0 {
				t.Fatal(time.Since(began), err)
			}
		}
		var wg sync.WaitGroup
		var waited, turned atomic.Int64
		for range 600 {
			wg.Go(func() {
				_, err := a.AuthenticateToken(theirs.sign(claimsOf(listens)))
				if e, ok := errors.AsType[*hark.Error](err); !ok || e.Kind != hark.Unavailable || e.Code != "token-keys-unavailable" || e.RetryAfter == 0 {
					t.Error(err)
				}
				if time.Since(began) == 0 {
					turned.Add(1)
				} else {
					waited.Add(1)
				}
			})
		}
		wg.Wait()
		if p.asked.Load() != 1 || time.Since(began) != fetchTimeout || waited.Load() != maxWaiting+1 || turned.Load() != 600-maxWaiting-1 {
			t.Error(p.asked.Load(), time.Since(began), waited.Load(), turned.Load())
		}
		p.set(set(theirs), nil)
		p.mu.Lock()
		p.delay = 0
		p.mu.Unlock()
		time.Sleep(refreshAfter)
		if _, err := a.AuthenticateToken(theirs.sign(claimsOf(listens))); err != nil {
			t.Error(err)
		}
	})
}

// TestKeyIDs: a token that names a key is held against keys of that id, and those that
// have none.
func TestKeyIDs(t *testing.T) {
	one, two, other := named("ES256", "one"), named("ES256", "two"), named("ES256", "one")
	keys := func(files ...string) (all []*Key) {
		for _, text := range files {
			ks, err := ParseKeys([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, ks...)
		}
		return all
	}
	a, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keys(set(one, two), string(other.pem()))}})
	as := func(s *signer, kid string) string {
		c := *s
		c.kid = kid
		return c.sign(claimsOf(listens))
	}
	for what, token := range map[string]string{"its own": as(one, "one"), "none": as(two, ""), "of a key without one": as(other, "one"), "unknown, of a key without one": as(other, "x")} {
		if _, err := a.AuthenticateToken(token); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	refusedAs(t, a, as(one, "two"), "bad-token", "another's key id")
	refusedAs(t, a, as(one, "x"), "bad-token", "an unknown key id")
	strict, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keys(set(one, two))}})
	refusedAs(t, strict, as(one, "x"), "unknown-token-key", "an unknown key id")
	// Several keys of one id, as while one is rotated.
	several, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keys(set(one, other))}})
	for _, s := range []*signer{one, other} {
		if _, err := several.AuthenticateToken(s.sign(claimsOf(listens))); err != nil {
			t.Error(err)
		}
	}
	// A token without a key id is tried on a few only.
	many := make([]*signer, 20)
	for i := range many {
		many[i] = named("EdDSA", fmt.Sprint(i))
	}
	wide, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keys(set(many...))}})
	if _, err := wide.AuthenticateToken(as(many[0], "")); err != nil {
		t.Error(err)
	}
	refusedAs(t, wide, as(many[19], ""), "bad-token", "the twentieth of twenty, without a key id")
}

func TestKeyFiles(t *testing.T) {
	all := signers()
	for alg, s := range all {
		for what, file := range map[string]string{"jwk": s.jwk(), "set": set(s), "jwk, spaces": "\n " + s.jwk()} {
			if keys, err := ParseKeys([]byte(file)); err != nil || len(keys) != 1 || keys[0].alg != alg {
				t.Errorf("%s as %s: %v", alg, what, err)
			}
		}
	}
	rsaJWK, ecJWK, edJWK, octJWK := all["RS256"].jwk(), all["ES256"].jwk(), all["EdDSA"].jwk(), all["HS256"].jwk()
	for what, c := range map[string]struct{ file, says string }{
		"empty": {"", "neither PEM"}, "text": {"hello", "neither PEM"}, "half a JWK": {`{"kty":`, "not JSON"}, "no kty": {`{}`, "verifies none"},
		"for encryption":  {strings.Replace(rsaJWK, `"sig"`, `"enc"`, 1), "not for verifying"},
		"another alg":     {strings.Replace(rsaJWK, `"RS256"`, `"PS256"`, 1), "PS256"},
		"HS256 of an RSA": {strings.Replace(rsaJWK, `"RS256"`, `"HS256"`, 1), "HS256"},
		"RS256 of a text": {strings.Replace(octJWK, `"HS256"`, `"RS256"`, 1), "RS256"},
		"private":         {strings.Replace(edJWK, `"crv"`, `"d":"AAAA","crv"`, 1), "private"},
		"short secret":    {`{"kty":"oct","k":"` + b64(make([]byte, 31)) + `"}`, "at least 32 bytes"},
		"small RSA":       {`{"kty":"RSA","e":"AQAB","n":"` + b64([]byte(strings.Repeat("\xff", 128))) + `"}`, "1024 bits"},
		"huge RSA":        {`{"kty":"RSA","e":"AQAB","n":"` + b64([]byte(strings.Repeat("\xff", 2048))) + `"}`, "verifies none"},
		"RSA of e = 1":    {`{"kty":"RSA","e":"AQ","n":"` + b64([]byte(strings.Repeat("\xff", 256))) + `"}`, "exponent"},
		"off the curve":   {`{"kty":"EC","crv":"P-256","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}`, "no point"},
		"another curve":   {strings.Replace(ecJWK, "P-256", "P-384", 1), "verifies none"},
		"our own key id":  {strings.Replace(strings.Replace(ecJWK, `"kid":""`, `"kid":"tkey_0000000000002"`, 1), "", "", 0), "tkey_"},
		"empty set":       {`{"keys":[]}`, "no key"},
		"only others":     {`{"keys":[{"kty":"RSA","use":"enc"}]}`, "no key"},
		"private PEM":     {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key"},
		"another PEM":     {"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "no public key"},
		"damaged PEM":     {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "damaged"},
	} {
		keys, err := ParseKeys([]byte(c.file))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d keys, %v", what, len(keys), err)
		}
	}
	// Of a set, what is for others is passed over. What a URL publishes is no secret.
	mixed := `{"keys":[{"kty":"XYZ"},` + rsaJWK + `,1,` + octJWK + `]}`
	if keys, err := parseJWKs([]byte(mixed), true); err != nil || len(keys) != 2 {
		t.Error(len(keys), err)
	}
	if keys, err := parseJWKs([]byte(mixed), false); err != nil || len(keys) != 1 || keys[0].alg != algRS256 {
		t.Error(len(keys), err)
	}
	for what, file := range map[string]string{"short": "too short", "public key": string(all["ES256"].pem()), "JWK": octJWK, "long": strings.Repeat("x", 5000), "empty": "\n"} {
		if _, err := ParseSecret([]byte(file)); err == nil {
			t.Errorf("%s is a secret", what)
		}
	}
	text := strings.Repeat("s", 32)
	s := signer{alg: "HS256", secret: []byte(text)}
	for _, file := range []string{text, text + "\n", text + "\r\n"} {
		k, err := ParseSecret([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		a, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: []*Key{k}}})
		if _, err := a.AuthenticateToken(s.sign(claimsOf(""))); err != nil {
			t.Error(err)
		}
	}
}
