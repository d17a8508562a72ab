package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
	"github.com/harkhq/hark/internal/store"
)

// memory is a store that keeps nothing: what the registry has, it has in memory.
type memory struct {
	commits int
	fail    error
}

func (m *memory) Commit(...store.Record) error { m.commits++; return m.fail }
func (m *memory) ScanRegistry(store.Noun, func(hark.TenantID, uint64, []byte) error) error {
	return nil
}

func newAuth(t testing.TB, c Config) (*Authenticator, *registry.Registry, *memory) {
	t.Helper()
	m := &memory{}
	r, err := registry.Open(registry.Config{Store: m})
	if err != nil {
		t.Fatal(err)
	}
	c.Registry = r
	return New(c), r, m
}

func bearer(token string) *http.Request {
	r := httptest.NewRequest("POST", "http://hark.example/v1/events", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func key(t testing.TB, a *Authenticator, k registry.Key) (string, *registry.Key) {
	t.Helper()
	text, made, err := a.CreateKey(hark.DefaultTenant, &k)
	if err != nil {
		t.Fatal(err)
	}
	return text, made
}

func TestToken(t *testing.T) {
	form := regexp.MustCompile(`^hk_[0-9A-Za-z]{38}$`)
	seen := map[string]bool{}
	for range 200 {
		s := NewToken()
		if !form.MatchString(s) || CheckToken(s) != nil || seen[s] {
			t.Fatal(s)
		}
		seen[s] = true
		for i := range s {
			b := []byte(s)
			b[i] = 'x'
			if string(b) != s && CheckToken(string(b)) == nil {
				t.Fatalf("a typo at %d passes", i)
			}
		}
	}
	for _, s := range []string{"", "hk_", "hk_short", NewToken() + "x", "Bearer", "hk_" + strings.Repeat("\xff", 38)} {
		if err := CheckToken(s); hark.KindOf(err) != hark.Unauthenticated || len(s) > 6 && strings.Contains(err.Error(), s) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	a, reg, _ := newAuth(t, Config{})
	text, k := key(t, a, registry.Key{Name: "ci", Scopes: registry.ScopePublish, Publish: []hark.Pattern{"orders.>"}})
	p, err := a.Authenticate(bearer(text))
	if err != nil || p.Key != k.ID || p.Tenant != hark.DefaultTenant {
		t.Fatalf("%+v %v", p, err)
	}
	if k.Hint != text[:8] || strings.Contains(strings.Join([]string{k.Name, k.Hint}, ""), text) {
		t.Error("hint", k.Hint)
	}
	// Scheme names are case-insensitive, and copying adds spaces.
	r := bearer(text)
	r.Header.Set("Authorization", "bearer  "+text+" ")
	if _, err := a.Authenticate(r); err != nil {
		t.Error(err)
	}
	several := bearer(text)
	several.Header.Add("Authorization", "Bearer "+text)
	basic := bearer(text)
	basic.Header.Set("Authorization", "Basic "+text)
	none := httptest.NewRequest("GET", "/", nil)
	mistyped := []byte(text)
	mistyped[10] ^= 1
	for what, c := range map[string]struct {
		r    *http.Request
		code string
	}{
		"several":  {several, "bad-authorization"},
		"basic":    {basic, "bad-authorization"},
		"none":     {none, "no-credential"},
		"mistyped": {bearer(string(mistyped)), "bad-key"},
		"empty":    {bearer(""), "bad-key"},
		"jwt":      {bearer("eyJhbGciOiJub25lIn0.e30."), "bad-token"},
		"unknown":  {bearer(NewToken()), "unknown-key"},
	} {
		_, err := a.Authenticate(c.r)
		e, ok := errors.AsType[*hark.Error](err)
		if !ok || e.Kind != hark.Unauthenticated || e.Code != c.code || strings.Contains(e.Error(), text[3:]) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := a.Recheck(&p); err != nil {
		t.Error(err)
	}
	if err := reg.DeleteKey(hark.DefaultTenant, k.ID, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Authenticate(bearer(text)); hark.KindOf(err) != hark.Unauthenticated {
		t.Error("a revoked key:", err)
	}
	if err := a.Recheck(&p); hark.KindOf(err) != hark.Unauthenticated {
		t.Error("a revoked key's stream:", err)
	}
}

func TestExpiry(t *testing.T) {
	a, _, _ := newAuth(t, Config{})
	end := time.Now().Add(time.Hour)
	text, k := key(t, a, registry.Key{Scopes: registry.ScopePublish, Expires: end})
	if _, err := a.byKey(text, end.Add(-time.Second)); err != nil {
		t.Error(err)
	}
	if _, err := a.byKey(text, k.Expires); hark.KindOf(err) != hark.Unauthenticated || !strings.Contains(err.Error(), "ended at") {
		t.Error(err)
	}
}

func TestActingForATenant(t *testing.T) {
	a, reg, _ := newAuth(t, Config{})
	acme, err := reg.CreateTenant(&registry.Tenant{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	admin, _ := key(t, a, registry.Key{Scopes: registry.ScopeAdmin})
	manage, _ := key(t, a, registry.Key{Scopes: registry.ScopeManage | registry.ScopePublish | registry.ScopeSubscribe})
	for _, c := range []struct {
		token   string
		tenants []string
		want    hark.Kind
	}{
		{admin, []string{"acme"}, 0}, {admin, []string{"nope"}, hark.NotFound}, {admin, []string{""}, hark.NotFound},
		{admin, []string{"acme", "default"}, hark.Forbidden}, {manage, []string{"acme"}, hark.Forbidden}, {manage, []string{"default"}, hark.Forbidden},
	} {
		r := bearer(c.token)
		r.Header["Hark-Tenant"] = c.tenants
		p, err := a.Authenticate(r)
		if hark.KindOf(err) != c.want && err != nil || (err == nil) != (c.want == 0) || err == nil && p.Tenant != acme.ID {
			t.Errorf("%v: %+v %v", c.tenants, p, err)
		}
	}
	// Its own keys of another tenant act for that one.
	text, _, err := a.CreateKey(acme.ID, &registry.Key{Scopes: registry.ScopePublish})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := a.Authenticate(bearer(text)); err != nil || p.Tenant != acme.ID {
		t.Error(p, err)
	}
	if err := reg.DeleteTenant(acme.ID, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Authenticate(bearer(text)); hark.KindOf(err) != hark.Unauthenticated {
		t.Error("a key outlives its tenant:", err)
	}
}

func TestPrincipal(t *testing.T) {
	const pub, sub, man, adm = registry.ScopePublish, registry.ScopeSubscribe, registry.ScopeManage, registry.ScopeAdmin
	ps := func(s ...hark.Pattern) []hark.Pattern { return s }
	for i, c := range []struct {
		p    Principal
		do   func(p *Principal) error
		want bool
	}{
		{Principal{}, func(p *Principal) error { return p.MayPublish("a") }, false},
		{Principal{Scopes: pub}, func(p *Principal) error { return p.MayPublish("a") }, true},
		{Principal{Scopes: pub, Publish: ps("b.*")}, func(p *Principal) error { return p.MayPublish("a") }, false},
		{Principal{Scopes: pub, Publish: ps("b.*")}, func(p *Principal) error { return p.MayPublish("b.c") }, true},
		{Principal{Scopes: pub}, func(p *Principal) error { return p.MayRead("a") }, false},
		{Principal{Scopes: sub, Subscribe: ps("b.>")}, func(p *Principal) error { return p.MaySubscribe(ps("b.c", "b.*")) }, true},
		{Principal{Scopes: sub, Subscribe: ps("b.>")}, func(p *Principal) error { return p.MaySubscribe(ps("b.c", ">")) }, false},
		{Principal{Scopes: sub, Subscribe: ps(">")}, func(p *Principal) error { return p.MaySubscribe(ps("hark.>")) }, false},
		{Principal{Scopes: sub, Subscribe: ps(">")}, func(p *Principal) error { return p.MayRead("hark.delivery.dead") }, false},
		{Principal{Scopes: sub}, func(p *Principal) error { return p.MaySubscribe(ps("hark.>", ">")) }, true},
		{Principal{Scopes: man}, func(p *Principal) error { return p.Require(adm) }, false},
		{Principal{Scopes: man}, func(p *Principal) error { return p.MayPublish("a") }, false},
		{Principal{Scopes: man}, func(p *Principal) error { return p.MayRoute(ps("a")) }, true},
		{Principal{Scopes: man | sub, Subscribe: ps("b")}, func(p *Principal) error { return p.MayRoute(ps("a")) }, false},
		{Principal{Scopes: sub, Subscribe: ps("b")}, func(p *Principal) error { return p.MayRoute(ps("b")) }, false},
		{Principal{Scopes: adm}, func(p *Principal) error { return p.Require(pub | sub | man | adm) }, true},
		{Principal{Scopes: adm}, func(p *Principal) error { return p.MayPublish("a") }, true},
	} {
		if err := c.do(&c.p); (err == nil) != c.want || err != nil && hark.KindOf(err) != hark.Forbidden {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestRateLimit(t *testing.T) {
	a, reg, _ := newAuth(t, Config{RateLimit: 5, Burst: 3})
	text, _ := key(t, a, registry.Key{Scopes: registry.ScopePublish})
	fast, k := key(t, a, registry.Key{Scopes: registry.ScopePublish, RateLimit: 1e6})
	now := time.Now()
	for i := range 4 {
		_, err := a.byKey(text, now)
		if (err == nil) != (i < 3) {
			t.Fatal(i, err)
		}
		if e, _ := errors.AsType[*hark.Error](err); err != nil && (e.Kind != hark.TooMany || e.RetryAfter != 200*time.Millisecond) {
			t.Errorf("%+v", e)
		}
		if _, err := a.byKey(fast, now); i < 3 && err != nil {
			t.Error("one key's rate is another's:", err)
		}
	}
	if _, err := a.byKey(text, now.Add(201*time.Millisecond)); err != nil {
		t.Error("RetryAfter is too short:", err)
	}
	if _, err := reg.UpdateKey(hark.DefaultTenant, k.ID, 0, func(k *registry.Key) error { k.RateLimit = 0.5; return nil }); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if _, err := a.byKey(fast, now.Add(time.Hour)); (err == nil) != (i < 3) {
			t.Error("a new rate does not hold at once:", i, err)
		}
	}
}

func TestLastUsed(t *testing.T) {
	a, reg, m := newAuth(t, Config{RateLimit: 0.001})
	text, k := key(t, a, registry.Key{Scopes: registry.ScopePublish})
	for range 5 {
		_, _ = a.Authenticate(bearer(text))
	}
	had := m.commits
	m.fail = errors.New("disk")
	var failed error
	a.hooks.WriteFailed = func(err error) { failed = err }
	a.write()
	if !errors.Is(failed, m.fail) {
		t.Error(failed)
	}
	m.fail = nil
	a.write()
	a.write()
	if got, _ := reg.Key(hark.DefaultTenant, k.ID); got.LastUsed.IsZero() || m.commits != had+2 {
		t.Error(got, m.commits-had)
	}
	// The bucket is not full for a long time, and the meter stays so long.
	a.meters.take(time.Now().Add(time.Hour))
	if len(a.meters.m) != 1 {
		t.Error("a bucket was forgotten while it remembers something")
	}
	a.meters.take(time.Now().Add(100 * time.Hour))
	if len(a.meters.m) != 0 {
		t.Error("an idle meter stays")
	}
	for range 1000 {
		_, _ = a.Authenticate(bearer(NewToken()))
	}
	if len(a.meters.m) != 0 {
		t.Error("strangers make meters")
	}
}

func TestFirstKey(t *testing.T) {
	a, reg, _ := newAuth(t, Config{})
	text, err := a.EnsureFirstKey()
	if err != nil || CheckToken(text) != nil {
		t.Fatal(text, err)
	}
	p, err := a.Authenticate(bearer(text))
	if err != nil || p.Require(registry.ScopeAdmin) != nil {
		t.Error(p, err)
	}
	if again, err := a.EnsureFirstKey(); again != "" || err != nil {
		t.Error("a second first key", err)
	}
	if err := reg.DeleteKey(hark.DefaultTenant, p.Key, 0); err != nil {
		t.Fatal(err)
	}
	if again, err := a.EnsureFirstKey(); again == "" || err != nil {
		t.Error("locked out:", err)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	for name, c := range map[string]Config{"free": {}, "limited": {RateLimit: 1e6, Burst: 1 << 30}} {
		b.Run(name, func(b *testing.B) {
			a, _, _ := newAuth(b, c)
			for range 999 {
				key(b, a, registry.Key{Scopes: registry.ScopePublish})
			}
			text, _ := key(b, a, registry.Key{Scopes: registry.ScopePublish})
			r := bearer(text)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Authenticate(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
