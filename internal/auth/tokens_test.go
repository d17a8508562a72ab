package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// refusedAs checks that a token is refused, with a code, and that nothing of it is shown.
func refusedAs(t *testing.T, a *Authenticator, token, code, what string) {
	t.Helper()
	p, err := a.AuthenticateToken(token)
	e, ok := errors.AsType[*hark.Error](err)
	if !ok || e.Kind != hark.Unauthenticated || e.Code != code || p.Scopes != 0 || p.Mercure != nil {
		t.Errorf("%s: %v, %+v", what, err, p)
	} else if len(token) > 40 && strings.Contains(e.Error(), token[len(token)-20:]) {
		t.Errorf("%s: the error shows the token: %v", what, err)
	}
}

func TestTokenOfEachAlgorithm(t *testing.T) {
	all := signers()
	a, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, all)}})
	for alg, s := range all {
		for range 2 { // the second comes from the cache
			p, err := a.AuthenticateToken(s.sign(claimsOf(listens)))
			if err != nil || p.User != "42" || p.Tenant != hark.DefaultTenant || p.Scopes != registry.ScopeSubscribe {
				t.Fatalf("%s: %+v %v", alg, p, err)
			}
			if p.MayRead("user.42.a") != nil || p.MayRead("user.43.a") == nil || p.MayPublish("user.42.a") == nil || p.Everywhere() {
				t.Errorf("%s: %+v", alg, p)
			}
			if left := time.Until(p.Expires); left < 59*time.Minute || left > time.Hour {
				t.Error(alg, left)
			}
			if err := a.Recheck(&p); err != nil {
				t.Error(alg, err)
			}
		}
	}
	p, err := a.AuthenticateToken(all["EdDSA"].raw(`{"alg":"Ed25519"}`, claimsOf(listens)))
	if err != nil {
		t.Errorf("by its newer name: %+v %v", p, err)
	}
}

// TestTokenAttacks: what gets around a careless verifier.
func TestTokenAttacks(t *testing.T) {
	all, others := signers(), signers()
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	others["RS256"].private = foreign
	a, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, all)}})
	good := all["ES256"].sign(claimsOf(listens))
	parts := strings.Split(good, ".")
	none := b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(claimsOf(listens))) + "."
	refusedAs(t, a, none, "bad-token", "alg none")
	for _, alg := range []string{"None", "NONE", "nOnE", "", "HS384", "HS512", "RS384", "PS256", "ES384", "hs256", "HS256 ", "dir"} {
		refusedAs(t, a, all["HS256"].raw(fmt.Sprintf(`{"alg":%q}`, alg), claimsOf(listens)), "bad-token", "alg "+alg)
	}
	refusedAs(t, a, all["HS256"].raw(`{}`, claimsOf(listens)), "bad-token", "no alg")

	// The public key, which everybody has, as a secret: in every form that it is written.
	for _, name := range []string{"RS256", "ES256", "EdDSA"} {
		s := all[name]
		der, err := x509.MarshalPKIXPublicKey(s.private.Public())
		if err != nil {
			t.Fatal(err)
		}
		text := s.pem()
		for _, secret := range [][]byte{text, []byte(strings.TrimSpace(string(text))), der, []byte(s.jwk())} {
			confused := signer{alg: "HS256", secret: secret}
			refusedAs(t, a, confused.sign(claimsOf(listens)), "bad-token", "HS256 with the public key of "+name)
		}
		// Another key of the same kind, and a header that names another algorithm.
		refusedAs(t, a, others[name].sign(claimsOf(listens)), "bad-token", name+" of another")
		for _, alg := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
			if alg != name {
				refusedAs(t, a, s.raw(fmt.Sprintf(`{"alg":%q}`, alg), claimsOf(listens)), "bad-token", name+" called "+alg)
			}
		}
	}
	refusedAs(t, a, others["HS256"].sign(claimsOf(listens)), "bad-token", "another secret")
	if _, err := ParseSecret(all["RS256"].pem()); err == nil {
		t.Error("a public key is taken for a secret")
	}

	// The signature of other claims, none, cut, longer; ES256 as ASN.1; zeros.
	refusedAs(t, a, parts[0]+"."+b64([]byte(claimsOf(`,"hark":{"subscribe":[">"]}`)))+"."+parts[2], "bad-token", "other claims")
	for what, signature := range map[string]string{"none": "", "cut": parts[2][:40], "longer": parts[2] + "AAAA", "zeros": b64(make([]byte, 64)), "half": b64(make([]byte, 32))} {
		refusedAs(t, a, parts[0]+"."+parts[1]+"."+signature, "bad-token", "signature "+what)
	}
	// One signature, one spelling.
	last := parts[2][len(parts[2])-1]
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		if byte(c) != last {
			refusedAs(t, a, good[:len(good)-1]+string(c), "bad-token", "another last character")
		}
	}
	for what, token := range map[string]string{
		"padding": good + "=", "line break": good + "\n", "line break inside": parts[0] + ".\n" + parts[1] + "." + parts[2], "space": " " + good,
		"standard base64": parts[0] + "." + parts[1] + "." + strings.Repeat("+/", 43), "four parts": good + ".e30", "two parts": parts[0] + "." + parts[1],
		"JWE": strings.Repeat(good+".", 2), "only dots": "..", "one dot": ".", "NUL": good[:10] + "\x00" + good[11:], "high": strings.Repeat("\xff", 20) + "." + parts[1] + "." + parts[2],
		"header not JSON": b64([]byte("hello")) + "." + parts[1] + "." + parts[2], "header a list": b64([]byte("[]")) + "." + parts[1] + "." + parts[2],
		"huge": parts[0] + "." + strings.Repeat("A", 20<<20) + "." + parts[2], "just too large": strings.Repeat("A", maxJWT-1) + "..",
	} {
		refusedAs(t, a, token, "bad-token", what)
	}
	for i := range len(good) {
		if p, err := a.AuthenticateToken(good[:i]); err == nil {
			t.Fatalf("cut at %d: %+v", i, p)
		}
	}
	// Headers that ask for what nobody understands, or say things twice or oddly.
	for what, header := range map[string]string{
		"crit": `{"alg":"HS256","crit":["exp"]}`, "empty crit": `{"alg":"HS256","crit":[]}`, "b64": `{"alg":"HS256","b64":false,"crit":["b64"]}`,
		"two algs": `{"alg":"HS256","alg":"HS256"}`, "none then HS256": `{"alg":"none","alg":"HS256"}`, "ALG": `{"ALG":"HS256"}`, "alg a list": `{"alg":["HS256"]}`, "alg null": `{"alg":null}`,
		"kid a number": `{"alg":"HS256","kid":1}`, "long kid": `{"alg":"HS256","kid":"` + strings.Repeat("k", 256) + `"}`, "not UTF-8": "{\"alg\":\"HS256\",\"x\":\"\xff\"}",
		"trailing": `{"alg":"HS256"} {}`, "escaped name": `{"\u0061lg":"HS256"}`,
	} {
		refusedAs(t, a, all["HS256"].raw(header, claimsOf(listens)), "bad-token", what)
	}
	// Keys that a token brings along or points at are not looked at.
	for _, header := range []string{`{"alg":"ES256","jwk":` + others["ES256"].jwk() + `}`, `{"alg":"ES256","jku":"https://evil.example/jwks"}`, `{"alg":"RS256","x5u":"https://evil.example"}`} {
		alg := header[8:13]
		refusedAs(t, a, others[alg].raw(header, claimsOf(listens)), "bad-token", header)
	}
}

func TestTokenClaims(t *testing.T) {
	s := signers()["HS256"]
	a, reg, _ := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s})}})
	if _, err := reg.CreateTenant(&registry.Tenant{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	many := func(n int) string {
		return `["a` + strings.Repeat(`","a`, n-1) + `"]`
	}
	for what, c := range map[string]struct{ claims, code string }{
		"no exp":             {`{"sub":"1"}`, "bad-token"},
		"exp null":           {`{"sub":"1","exp":null}`, "bad-token"},
		"expired":            {fmt.Sprintf(`{"exp":%d}`, now), "expired-token"},
		"expired long ago":   {`{"exp":1}`, "expired-token"},
		"exp 0":              {`{"exp":0}`, "expired-token"},
		"exp negative":       {`{"exp":-5}`, "expired-token"},
		"exp a text":         {fmt.Sprintf(`{"exp":"%d"}`, now+60), "bad-token"},
		"exp a list":         {fmt.Sprintf(`{"exp":[%d]}`, now+60), "bad-token"},
		"exp true":           {`{"exp":true}`, "bad-token"},
		"exp huge":           {`{"exp":1e400}`, "bad-token"},
		"exp far":            {`{"exp":1e11}`, "bad-token"},
		"exp in ms":          {fmt.Sprintf(`{"exp":%d}`, (now+60)*1000), "bad-token"},
		"too long":           {fmt.Sprintf(`{"exp":%d}`, now+25*3600), "bad-token"},
		"too long, from iat": {fmt.Sprintf(`{"iat":%d,"exp":%d}`, now-23*3600, now+2*3600), "bad-token"},
		"other case":         {fmt.Sprintf(`{"EXP":%d}`, now+60), "bad-token"},
		"exp twice":          {fmt.Sprintf(`{"exp":1,"exp":%d}`, now+60), "bad-token"},
		"exp twice, escaped": {fmt.Sprintf(`{"exp":1,"\u0065xp":%d}`, now+60), "bad-token"},
		"not yet":            {fmt.Sprintf(`{"nbf":%d,"exp":%d}`, now+60, now+600), "bad-token"},
		"minted later":       {fmt.Sprintf(`{"iat":%d,"exp":%d}`, now+60, now+600), "bad-token"},
		"sub a number":       {claimsOf("")[:1] + `"jti":"x",` + strings.Replace(claimsOf("")[1:], `"42"`, `42`, 1), "bad-token"},
		"long sub":           {strings.Replace(claimsOf(""), "42", strings.Repeat("u", 256), 1), "bad-token"},
		"long jti":           {claimsOf(`,"jti":"` + strings.Repeat("j", 256) + `"`), "bad-token"},
		"hark a list":        {claimsOf(`,"hark":["a"]`), "bad-token"},
		"hark a text":        {claimsOf(`,"hark":"a"`), "bad-token"},
		"subscribe a text":   {claimsOf(`,"hark":{"subscribe":"a"}`), "bad-token"},
		"subscribe numbers":  {claimsOf(`,"hark":{"subscribe":[1]}`), "bad-token"},
		"subscribe nested":   {claimsOf(`,"hark":{"subscribe":[["a"]]}`), "bad-token"},
		"subscribe twice":    {claimsOf(`,"hark":{"subscribe":["a"],"subscribe":[">"]}`), "bad-token"},
		"hark twice":         {claimsOf(`,"hark":{"subscribe":["a"]},"hark":{"subscribe":[">"]}`), "bad-token"},
		"bad pattern":        {claimsOf(`,"hark":{"subscribe":["a..b"]}`), "bad-token"},
		"empty pattern":      {claimsOf(`,"hark":{"subscribe":[""]}`), "bad-token"},
		"65 patterns":        {claimsOf(`,"hark":{"publish":` + many(65) + `}`), "bad-token"},
		"tenant of others":   {claimsOf(`,"hark":{"tenant":"acme","subscribe":["a"]}`), "bad-token"},
		"mercure a list":     {claimsOf(`,"mercure":[]`), "bad-token"},
		"mercure numbers":    {claimsOf(`,"mercure":{"publish":[1]}`), "bad-token"},
		"not JSON":           {`hello`, "bad-token"},
		"a list":             {`[]`, "bad-token"},
		"two objects":        {claimsOf("") + "{}", "bad-token"},
		"empty":              {``, "bad-token"},
		"not UTF-8":          {claimsOf(",\"x\":\"\xff\""), "bad-token"},
		"bomb":               {strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000), "bad-token"},
		"bomb in hark":       {claimsOf(`,"hark":` + strings.Repeat(`[`, 2500) + strings.Repeat("]", 2500)), "bad-token"},
		"bomb with escapes":  {claimsOf(`,"\u0068ark":` + strings.Repeat(`{"\u0061":`, 400) + "1" + strings.Repeat("}", 400)), "none"},
		"10,000 patterns":    {claimsOf(`,"hark":{"subscribe":` + many(10000) + `}`), "bad-token"},
	} {
		if c.code == "none" {
			if p, err := a.AuthenticateToken(s.sign(c.claims)); err != nil || p.Scopes != 0 {
				t.Errorf("%s: %+v %v", what, p, err)
			}
			continue
		}
		refusedAs(t, a, s.sign(c.claims), c.code, what)
	}
	for what, claims := range map[string]string{
		"64 patterns": claimsOf(`,"hark":{"subscribe":` + many(64) + `}`), "clock ahead": fmt.Sprintf(`{"iat":%d,"nbf":%d,"exp":%d,"hark":{"subscribe":["a"]}}`, now+20, now+20, now+60),
		"fractions": fmt.Sprintf(`{"exp":%d.75,"hark":{"subscribe":["a"]}}`, now+60), "exponent": `{"exp":` + strings.Replace(fmt.Sprintf("%.9e", float64(now+600)), "+", "", 1) + `,"hark":{"subscribe":["a"]}}`,
		"escapes": claimsOf(`,"https:\/\/example.com\/x":"\u00e9","hark":{"subscribe":["\u0061"]}`), "nulls": claimsOf(`,"aud":null,"nbf":null,"hark":{"publish":null,"subscribe":["a"]}`),
		"others' claims": claimsOf(`,"roles":["x"],"address":{"a":[1,{"b":null}]},"hark":{"subscribe":["a"],"more":1}`),
	} {
		if p, err := a.AuthenticateToken(s.sign(claims)); err != nil || p.Scopes != registry.ScopeSubscribe || p.MayRead("a") != nil {
			t.Errorf("%s: %+v %v", what, p, err)
		}
	}
}

// TestTokenHasNoRightThatItDoesNotName: unlike a key's, empty lists are nothing.
func TestTokenHasNoRightThatItDoesNotName(t *testing.T) {
	s := signers()["HS256"]
	a, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s})}})
	for _, more := range []string{"", `,"hark":{}`, `,"hark":null`, `,"hark":{"subscribe":[],"publish":[]}`, `,"scopes":["admin"],"scope":"admin"`, `,"mercure":{"publish":["*"],"subscribe":["*"]}`} {
		p, err := a.AuthenticateToken(s.sign(claimsOf(more)))
		if err != nil {
			t.Fatal(more, err)
		}
		for what, err := range map[string]error{
			"publish": p.MayPublish("a"), "read": p.MayRead("a"), "subscribe": p.MaySubscribe([]hark.Pattern{"a"}), "subscribe to nothing": p.MaySubscribe(nil),
			"route": p.MayRoute(nil), "feed": p.MayFeed("a"), "manage": p.Require(registry.ScopeManage), "admin": p.Require(registry.ScopeAdmin),
		} {
			if hark.KindOf(err) != hark.Forbidden {
				t.Errorf("%s: may %s: %v", more, what, err)
			}
		}
		if p.Everywhere() {
			t.Errorf("%s is everywhere", more)
		}
	}
}

func TestMercureClaim(t *testing.T) {
	s := signers()["HS256"]
	a, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s})}})
	p, err := a.AuthenticateToken(s.sign(claimsOf(`,"mercure":{"publish":["*"],"subscribe":["https://example.com/books/{id}","a"],"payload":{"name":["x"]}}`)))
	if err != nil || p.Mercure == nil || len(p.Mercure.Publish) != 1 || p.Mercure.Subscribe[0] != "https://example.com/books/{id}" || string(p.Mercure.Payload) != `{"name":["x"]}` {
		t.Fatalf("%+v %v", p.Mercure, err)
	}
	if p, _ := a.AuthenticateToken(s.sign(claimsOf(listens))); p.Mercure != nil {
		t.Error("without a claim")
	}
	if p, err := a.AuthenticateToken(s.sign(claimsOf(`,"https://mercure.rocks/":{"publish":["b"]}`))); err != nil || p.Mercure == nil || p.Mercure.Subscribe != nil {
		t.Errorf("by its longer name: %+v %v", p.Mercure, err)
	}
	// Its publishers' tokens often never end: only if that was said.
	eternal := s.sign(`{"mercure":{"publish":["*"]}}`)
	refusedAs(t, a, eternal, "bad-token", "without exp")
	lax, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s}), OptionalExp: true}})
	if p, err := lax.AuthenticateToken(eternal); err != nil || !p.Expires.IsZero() || p.Mercure == nil {
		t.Error(p, err)
	}
	refusedAs(t, lax, s.sign(`{"exp":0,"mercure":{}}`), "expired-token", "exp 0 where none is needed")
	refusedAs(t, lax, s.sign(`{"exp":null,"mercure":{}}`), "bad-token", "exp null where none is needed")
}

func TestIssuer(t *testing.T) {
	s := signers()["HS256"]
	a, reg, _ := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s}), Name: "https://login.example.com", Audiences: []string{"hark", "https://hark.example"}, AnyTenant: true}})
	if _, err := reg.CreateTenant(&registry.Tenant{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	const iss, aud = `,"iss":"https://login.example.com"`, `,"aud":"hark"`
	for more, want := range map[string]string{
		iss + aud: "default", iss + `,"aud":["x","https://hark.example"]`: "default", iss + aud + `,"hark":{"tenant":"acme"}`: "acme",
		iss + aud + `,"hark":{"tenant":"default"}`: "default", iss + aud + `,"hark":{"tenant":""}`: "default",
		iss: "", aud: "", "": "", `,"iss":"https://login.example.com/"` + aud: "", `,"iss":["https://login.example.com"]` + aud: "", iss + `,"aud":"Hark"`: "", iss + `,"aud":[]`: "",
		iss + `,"aud":["x"]`: "", iss + `,"aud":{"hark":1}`: "", iss + `,"aud":[["hark"]]`: "", iss + `,"aud":["` + strings.Repeat(`x","`, 32) + `hark"]`: "",
		iss + aud + `,"hark":{"tenant":"nope"}`: "", iss + aud + `,"hark":{"tenant":["acme"]}`: "",
	} {
		p, err := a.AuthenticateToken(s.sign(claimsOf(more)))
		got := ""
		if err == nil {
			row, _ := reg.Tenant(p.Tenant)
			got = row.Name
		}
		if got != want || err != nil && hark.KindOf(err) != hark.Unauthenticated {
			t.Errorf("%s: %q %v", more, got, err)
		}
	}
}

// TestMintedTokens are as good as their word: of one tenant, bound to a key, refused by
// other servers.
func TestMintedTokens(t *testing.T) {
	s := signers()["HS256"]
	a, reg, m := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s}), Name: "someone", Audiences: []string{"else"}, AnyTenant: true}})
	acme, err := reg.CreateTenant(&registry.Tenant{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	ps := []hark.Pattern{"a"}
	made, err := a.MintToken(Mint{Tenant: acme.ID, User: "7", Subscribe: ps})
	if err != nil {
		t.Fatal(err)
	}
	commits := m.commits
	text := made.Text.Reveal()
	p, err := a.AuthenticateToken(text)
	if err != nil || p.Tenant != acme.ID || p.User != "7" || p.token.id != made.ID || !p.Expires.Equal(made.Expires) || p.Scopes != registry.ScopeSubscribe {
		t.Fatalf("%+v %v", p, err)
	}
	if fmt.Sprint(made) == "" || strings.Contains(fmt.Sprintf("%v %+v", made, made), text) {
		t.Error("the token shows itself")
	}
	if _, err := a.MintToken(Mint{Tenant: acme.ID, User: "8", Subscribe: ps}); err != nil || m.commits != commits {
		t.Error("minting writes:", err)
	}
	// A secret that is replaced verifies for the overlap, and not longer.
	long, err := a.MintToken(Mint{Tenant: acme.ID, User: "9", Subscribe: ps, TTL: MaxTokenTTL})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := a.AuthenticateToken(long.Text.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.RotateTokenKey(acme.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]bool{0: true, 59 * time.Minute: true, 61 * time.Minute: false} {
		if err := a.tokens.recheck(&stream, time.Now().Add(after)); (err == nil) != want {
			t.Errorf("%v after the secret was replaced: %v", after, err)
		}
	}
	elsewhere, _, _ := newAuth(t, Config{})
	refusedAs(t, elsewhere, text, "unknown-token-key", "another server's")
	// Whoever holds an issuer's key cannot speak for the server, nor choose its key id.
	key, _ := reg.SigningKey(acme.ID)
	forged := s.raw(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, key.ID), claimsOf(`,"iss":"someone","aud":"else"`+listens))
	refusedAs(t, a, forged, "bad-token", "an issuer's token with our key id")
	for _, kid := range []string{"tkey_", "tkey_x", "tkey_0000000000002", "tkey_" + strings.Repeat("v", 13)} {
		refusedAs(t, a, s.raw(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, kid), claimsOf("")), "unknown-token-key", kid)
	}
	// "by" counts in our own only: another's word for it changes nothing.
	if _, err := a.AuthenticateToken(s.sign(claimsOf(`,"iss":"someone","aud":"else","hark":{"by":"key_0000000000002","subscribe":["a"]}`))); err != nil {
		t.Error(err)
	}
	// The key's end is the token's.
	end := time.Now().Add(10 * time.Minute)
	_, k := keyIn(t, a, acme.ID, registry.Key{Scopes: registry.ScopeManage, Expires: end})
	bound, err := a.MintToken(Mint{Tenant: acme.ID, By: k.ID, User: "7", Subscribe: ps})
	if err != nil || bound.Expires.After(end) {
		t.Error(bound, err)
	}
	if _, err := a.AuthenticateToken(bound.Text.Reveal()); err != nil {
		t.Error(err)
	}
	if err := reg.DeleteKey(acme.ID, k.ID, 0); err != nil {
		t.Fatal(err)
	}
	refusedAs(t, a, bound.Text.Reveal(), "revoked-token", "minted by a key that was revoked")
	if err := reg.DeleteTenant(acme.ID, 0); err != nil {
		t.Fatal(err)
	}
	refusedAs(t, a, text, "unknown-token-key", "of a tenant that was deleted")
	if err := a.Recheck(&p); hark.KindOf(err) != hark.Unauthenticated {
		t.Error("its stream goes on:", err)
	}
	for _, bad := range []Mint{{User: "", Subscribe: ps}, {User: "1"}, {User: strings.Repeat("u", 256), Subscribe: ps}, {User: "\xff", Subscribe: ps}, {User: "1", Subscribe: ps, TTL: -1}, {User: "1", Subscribe: ps, TTL: MaxTokenTTL + 1}} {
		bad.Tenant = hark.DefaultTenant
		if _, err := a.MintToken(bad); hark.KindOf(err) != hark.Mismatch {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func keyIn(t testing.TB, a *Authenticator, tenant hark.TenantID, k registry.Key) (string, *registry.Key) {
	t.Helper()
	text, made, err := a.CreateKey(tenant, &k)
	if err != nil {
		t.Fatal(err)
	}
	return text, made
}

// TestRevocation ends tokens, also those that were verified before, and tells.
func TestRevocation(t *testing.T) {
	s := signers()["HS256"]
	a, reg, m := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s}), AnyTenant: true}})
	acme, err := reg.CreateTenant(&registry.Tenant{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	a.Watch(func() { told++ })
	token := func(more string) string { return s.sign(claimsOf(more)) }
	one, two, theirs := token(`,"jti":"one"`), token(`,"jti":"two"`), token(`,"jti":"one","hark":{"tenant":"acme"}`)
	var streams []Principal
	for _, text := range []string{one, two, theirs} {
		p, err := a.AuthenticateToken(text)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, p)
	}
	holds := func(what string, want ...bool) {
		t.Helper()
		for i, text := range []string{one, two, theirs} {
			_, err := a.AuthenticateToken(text)
			if (err == nil) != want[i] || (a.Recheck(&streams[i]) == nil) != want[i] {
				t.Errorf("%s, token %d: %v, its stream: %v", what, i, err, a.Recheck(&streams[i]))
			}
		}
	}
	if _, err := a.Revoke(hark.DefaultTenant, "one", ""); err != nil || told != 1 {
		t.Fatal(told, err)
	}
	holds("by id", false, true, true)
	if _, err := a.Revoke(acme.ID, "", "42"); err != nil || told != 2 {
		t.Fatal(told, err)
	}
	holds("by user, in another tenant", false, true, false)
	if _, err := a.Revoke(hark.DefaultTenant, "", "42"); err != nil || told != 3 {
		t.Fatal(told, err)
	}
	holds("by user", false, false, false)
	fresh := s.sign(fmt.Sprintf(`{"sub":"42","iat":%d,"exp":%d}`, time.Now().Unix()+5, time.Now().Unix()+60))
	if _, err := a.AuthenticateToken(fresh); err != nil {
		t.Error("a token that was minted after it:", err)
	}
	refusedAs(t, a, s.sign(fmt.Sprintf(`{"sub":"42","exp":%d}`, time.Now().Unix()+60)), "revoked-token", "one that does not say when it was minted")
	if _, err := a.AuthenticateToken(s.sign(fmt.Sprintf(`{"sub":"43","exp":%d}`, time.Now().Unix()+60))); err != nil {
		t.Error("another user's:", err)
	}
	// A token that the server mints at once holds at once.
	for range 50 {
		if _, err := a.Revoke(hark.DefaultTenant, "", "9"); err != nil {
			t.Fatal(err)
		}
		made, err := a.MintToken(Mint{Tenant: hark.DefaultTenant, User: "9", Subscribe: []hark.Pattern{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.AuthenticateToken(made.Text.Reveal()); err != nil {
			t.Fatal("born dead:", err)
		}
	}
	// What cannot be written is not revoked, and whoever asked hears so.
	m.fail = errors.New("disk")
	if _, err := a.Revoke(hark.DefaultTenant, "x", ""); err == nil {
		t.Error("a revocation that is not on disk")
	}
	m.fail = nil
	// Nobody needs them once all that they ended has ended by itself.
	if n, err := reg.ForgetTokens(time.Now().Add(DefaultMaxAge)); n != 0 || err != nil {
		t.Error("forgotten too early:", n, err)
	}
	if n, err := reg.ForgetTokens(time.Now().Add(DefaultMaxAge + time.Hour)); n != 4 || err != nil {
		t.Error(n, err)
	}
}

func TestWatchTellsOfKeysToo(t *testing.T) {
	a, reg, _ := newAuth(t, Config{})
	_, k := key(t, a, registry.Key{Scopes: registry.ScopePublish})
	told := 0
	a.Watch(func() { told++ })
	key(t, a, registry.Key{Scopes: registry.ScopePublish})
	if _, err := a.MintToken(Mint{Tenant: hark.DefaultTenant, User: "1", Subscribe: []hark.Pattern{"a"}}); err != nil || told != 0 {
		t.Error("told of what ends nothing:", told, err)
	}
	if err := reg.DeleteKey(hark.DefaultTenant, k.ID, 0); err != nil || told != 1 {
		t.Error(told, err)
	}
	if _, err := reg.RotateTokenKey(hark.DefaultTenant, 0); err != nil || told != 2 {
		t.Error(told, err)
	}
}

func TestAnonymous(t *testing.T) {
	s := signers()["HS256"]
	a, _, _ := newAuth(t, Config{Anonymous: []hark.Pattern{"news.>"}, Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s})}})
	r := bearer("")
	delete(r.Header, "Authorization")
	r.Method = "GET"
	if _, err := a.Authenticate(r); hark.KindOf(err) != hark.Unauthenticated {
		t.Error("on a route that is not for browsers:", err)
	}
	p, err := a.Authenticate(r, Cookie, Query)
	if err != nil || !p.Anonymous || p.MayRead("news.a") != nil || p.MayRead("a") == nil || p.MayPublish("news.a") == nil || p.Everywhere() || a.Recheck(&p) != nil {
		t.Errorf("%+v %v", p, err)
	}
	if err := p.MaySubscribe([]hark.Pattern{">"}); hark.KindOf(err) != hark.Forbidden {
		t.Error(err)
	}
	// Whoever shows a token has what anyone has; whoever shows a bad one has nothing.
	p, err = a.AuthenticateToken(s.sign(claimsOf(listens)))
	if err != nil || p.MaySubscribe([]hark.Pattern{"news.a", "user.42.x"}) != nil || p.MayRead("x") == nil {
		t.Errorf("%+v %v", p, err)
	}
	r.Header.Set("Authorization", "Bearer x.y.z")
	if _, err := a.Authenticate(r, Cookie, Query, Anyone); hark.KindOf(err) != hark.Unauthenticated {
		t.Error(err)
	}
	none, _, _ := newAuth(t, Config{})
	delete(r.Header, "Authorization")
	if _, err := none.Authenticate(r, Cookie, Query); hark.KindOf(err) != hark.Unauthenticated {
		t.Error(err)
	}
	p, err = none.Authenticate(r, Cookie, Query, Anyone)
	if err != nil || !p.Anonymous || hark.KindOf(p.MayRead("news.a")) != hark.Unauthenticated {
		t.Errorf("%+v %v", p, err)
	}
}

func TestTokenRate(t *testing.T) {
	s := signers()["HS256"]
	var codes []string
	a, _, _ := newAuth(t, Config{TokenRate: 5, Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s})}, Hooks: Hooks{Refused: func(code string) { codes = append(codes, code) }}})
	one, two, now := s.sign(claimsOf(`,"jti":"1"`)), s.sign(claimsOf(`,"jti":"2"`)), time.Now()
	for i := range 23 { // the first is free: it made the bucket
		_, err := a.tokens.authenticate(one, now)
		if (err == nil) != (i < 21) {
			t.Fatal(i, err)
		}
		if e, ok := errors.AsType[*hark.Error](err); ok && (e.Kind != hark.TooMany || e.RetryAfter != 200*time.Millisecond) {
			t.Errorf("%+v", e)
		}
	}
	if _, err := a.tokens.authenticate(two, now); err != nil {
		t.Error("one token's rate is another's:", err)
	}
	if _, err := a.tokens.authenticate(one, now.Add(201*time.Millisecond)); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"x.y.z", "hk_x"} {
		if _, err := a.AuthenticateToken(text); err == nil {
			t.Error(text)
		}
	}
	if _, err := a.Authenticate(request("GET", "http://hark.example/")); err == nil || fmt.Sprint(codes) != "[bad-token bad-key no-credential]" {
		t.Error(codes)
	}
}

// FuzzToken: no text is taken that the key did not sign, and none panics.
func FuzzToken(f *testing.F) {
	s := &signer{alg: "HS256", secret: []byte(strings.Repeat("k", 32))}
	key, _ := ParseSecret(s.secret)
	good := s.sign(`{"sub":"42","exp":4102444800,"hark":{"subscribe":["a.*"],"publish":[]},"mercure":{"publish":["*"]},"aud":["x"]}`)
	f.Add(good)
	for _, seed := range []string{"..", "eyJhbGciOiJub25lIn0.e30.", good[:60], strings.Replace(good, ".", "..", 1)} {
		f.Add(seed)
	}
	a, _, _ := newAuth(f, Config{Issuer: Issuer{Keys: []*Key{key}, MaxAge: 100 * 365 * 24 * time.Hour}})
	f.Fuzz(func(t *testing.T, token string) {
		p, err := a.AuthenticateToken(token)
		if err == nil && token != good {
			t.Fatalf("%q is %+v", token, p)
		}
		if err != nil && hark.KindOf(err) != hark.Unauthenticated {
			t.Fatal(err)
		}
	})
}

// FuzzClaims: what the parser takes, encoding/json reads alike.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{claimsOf(listens), `{"sub":"\u00e9","exp":1.5e9,"aud":["a","b"],"hark":{"publish":["x.>"],"tenant":"t"}}`, `{"mercure":{"payload":{"a":[1]}},"https:\/\/x":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseClaims(raw)
		if err != nil {
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("%q is no JSON: %v", raw, err)
		}
		var user string
		if v, ok := m["sub"]; ok && (json.Unmarshal(v, &user) != nil || user != c.user) {
			t.Fatalf("%q: sub %q, not %q", raw, c.user, user)
		}
		var rights struct{ Subscribe, Publish []string }
		if v, ok := m["hark"]; ok && string(v) != "null" {
			if err := json.Unmarshal(v, &rights); err == nil && (len(rights.Subscribe) < len(c.subscribe) || len(rights.Publish) < len(c.publish)) {
				t.Fatalf("%q: %+v", raw, c)
			}
		}
	})
}

func FuzzKeys(f *testing.F) {
	for _, s := range signers() {
		f.Add([]byte(s.jwk()))
		f.Add([]byte(`{"keys":[` + s.jwk() + `]}`))
		if s.private != nil {
			f.Add(s.pem())
		}
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}))
	f.Fuzz(func(t *testing.T, file []byte) {
		keys, err := ParseKeys(file)
		if err == nil && len(keys) == 0 {
			t.Fatal("no keys and no error")
		}
		for _, k := range keys {
			if k.verify("a.b", make([]byte, 64)) {
				t.Fatal("zeros verify")
			}
		}
	})
}

// BenchmarkToken is the cost of one request with a token.
func BenchmarkToken(b *testing.B) {
	all := signers()
	a, _, _ := newAuth(b, Config{TokenRate: 1e6, Issuer: Issuer{Keys: keysOf(b, all)}})
	for alg, s := range all {
		tokens := make([]string, 512)
		for i := range tokens {
			tokens[i] = s.sign(claimsOf(fmt.Sprintf(`,"jti":"%d"`, i) + listens))
		}
		for name, clear := range map[string]bool{"cold": true, "warm": false} {
			b.Run(alg+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if i++; clear && i%len(tokens) == 0 {
						a.tokens.cache.clear()
					}
					if _, err := a.AuthenticateToken(tokens[i%len(tokens)]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
