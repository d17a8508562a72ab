package registry

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

func TestIDsAreNeverUsedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows := newRows()
		r := open(t, rows)
		time.Sleep(time.Hour)
		d := mustCreate(t, r, sample())
		ten, err := r.CreateTenant(&Tenant{Name: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.DeleteDestination(dt, d.ID, 0); err != nil {
			t.Fatal(err)
		}
		if err := r.DeleteTenant(ten.ID, 0); err != nil {
			t.Fatal(err)
		}
		last, lastTenant := d.ID, ten.ID

		r = open(t, rows)
		r.top.ID += 1 << 40 // as if the clock had been far ahead
		ahead := mustCreate(t, r, sample())
		if err := r.DeleteDestination(dt, ahead.ID, 0); err != nil {
			t.Fatal(err)
		}
		r = open(t, rows)
		if d := mustCreate(t, r, sample()); d.ID <= ahead.ID || d.ID <= last {
			t.Errorf("%v after %v", d.ID, ahead.ID)
		}
		if again, err := r.CreateTenant(&Tenant{Name: "a"}); err != nil || again.ID <= lastTenant {
			t.Error(again, err)
		}
	})
}

func TestTenants(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	var erased []string
	r.AttachTenant(func(old, new *Tenant) ([]store.Record, func(bool)) {
		if new == nil {
			return []store.Record{&store.TenantErased{Tenant: old.ID}}, func(ok bool) { erased = append(erased, old.Name) }
		}
		return nil, nil
	})
	a, err := r.CreateTenant(&Tenant{Name: "acme.eu", QuotaBytes: 5, OverQuota: OverQuotaTrim, RetentionAge: hark.Duration(time.Hour), PublishRate: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []*Tenant{{Name: "acme.eu"}, {Name: ""}, {Name: "a b"}, {Name: "hark.x"}, {Name: "hark"}, {Name: "*"},
		{Name: "b", QuotaBytes: -1}, {Name: "b", OverQuota: "x"}, {Name: "b", RetentionAge: 1}, {Name: "b", PublishRate: -1},
		{Name: "b", MaxKeys: -1}, {Name: "b", MaxDestinations: -1}} {
		if _, err := r.CreateTenant(bad); len(hark.Faults(err)) != 1 {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := r.UpdateTenant(dt, 0, func(t *Tenant) error { t.Name = "x"; return nil }); err == nil {
		t.Error("the default tenant got another name")
	}
	b, err := r.UpdateTenant(a.ID, a.Revision, func(t *Tenant) error { t.Name = "acme"; return nil })
	if err != nil || b.Revision != 2 {
		t.Fatal(b, err)
	}
	for range 3 {
		if _, err := r.CreateDestination(a.ID, sample()); err != nil {
			t.Fatal(err)
		}
	}
	k, err := r.CreateKey(a.ID, &Key{Hash: [32]byte{1}, Scopes: ScopePublish})
	if err != nil {
		t.Fatal(err)
	}
	r = open(t, rows)
	if got, err := r.TenantByName("acme"); err != nil || !reflect.DeepEqual(got, b) {
		t.Error(got, err)
	}
	r.AttachTenant(func(old, new *Tenant) ([]store.Record, func(bool)) {
		return []store.Record{&store.TenantErased{Tenant: old.ID}}, nil
	})
	if page, more := r.Tenants(0, 1); len(page) != 1 || !more || page[0].ID != dt {
		t.Error(page, more)
	}
	var gone int
	r.Watch(func(c Change) {
		if c.Destination.New == nil && c.Tenant.New == nil && c.Key.New == nil {
			gone++
		}
	})
	if err := r.DeleteTenant(a.ID, 0); err != nil || gone != 5 {
		t.Error(err, gone)
	}
	if r.KeyByHash(k.Hash) != nil || len(rows.m) != 2 || len(rows.other) != 1 {
		t.Error("something is left:", rows.m, rows.other)
	}
	if err := r.DeleteTenant(dt, 0); hark.KindOf(err) != hark.Conflict {
		t.Error(err)
	}
	if _, err := r.Tenant(a.ID); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
}

func TestKeys(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	given := &Key{Name: "ci", Hash: [32]byte{1}, Hint: "hk_ab", Scopes: ScopePublish | ScopeSubscribe,
		Publish: []hark.Pattern{"a.>"}, Expires: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	k, err := r.CreateKey(dt, given)
	if err != nil {
		t.Fatal(err)
	}
	if r.KeyByHash(k.Hash) != k {
		t.Error("not found by hash")
	}
	if _, err := r.CreateKey(dt, given); err == nil {
		t.Error("one hash, two keys")
	}
	used := time.Now().Add(time.Minute)
	if err := r.TouchKeys(map[[32]byte]time.Time{k.Hash: used, {9}: used}); err != nil {
		t.Fatal(err)
	}
	before := rows.commits
	if err := r.TouchKeys(map[[32]byte]time.Time{k.Hash: used.Add(-time.Hour)}); err != nil || rows.commits != before {
		t.Error("last use went back", err)
	}
	k, _ = r.Key(dt, k.ID)
	got, err := open(t, rows).Key(dt, k.ID)
	if err != nil || !reflect.DeepEqual(got, k) || got.LastUsed.Unix() != used.Unix() {
		t.Errorf("%+v\n%+v %v", got, k, err)
	}
	for _, bad := range []*Key{{}, {Scopes: 16}, {Scopes: ScopeManage, Publish: []hark.Pattern{"a"}}, {Scopes: ScopePublish, Publish: []hark.Pattern{""}},
		{Scopes: ScopeAdmin, Subscribe: []hark.Pattern{"a"}}, {Scopes: ScopePublish, RateLimit: -1},
		{Scopes: ScopePublish, Expires: time.Unix(1, 0)}, {Scopes: ScopePublish, Name: "\x00"}} {
		bad.Hash = [32]byte{2}
		if _, err := r.CreateKey(dt, bad); len(hark.Faults(err)) != 1 {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	k, err = r.UpdateKey(dt, k.ID, k.Revision, func(k *Key) error { k.Name, k.Hash = "x", [32]byte{7}; return nil })
	if err != nil || k.Hash != given.Hash || k.Name != "x" || r.KeyByHash(k.Hash) != k {
		t.Error(k, err)
	}
	if page, more := r.Keys(dt, 0, 0); len(page) != 1 || more {
		t.Error(page)
	}
	if err := r.DeleteKey(dt, k.ID, 0); err != nil || r.KeyByHash(k.Hash) != nil {
		t.Error(err)
	}
	if _, err := ParseScopes([]string{"publish", "root"}); err == nil {
		t.Error("root")
	}
	if s, _ := ParseScopes([]string{"manage"}); s.Has(ScopeAdmin) || !ScopeAdmin.Has(s) {
		t.Error("manage and admin")
	}
}

func TestNewerRowsAreRefused(t *testing.T) {
	rows := newRows()
	open(t, rows)
	for k, v := range rows.m {
		rows.m[k] = []byte(strings.Replace(string(v), `"v":1`, `"v":2`, 1))
	}
	if _, err := Open(Config{Store: rows, Kinds: &hooks{}}); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Error(err)
	}
}

// TestModel does random things and compares with what a second registry reads from
// the same rows.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	rows := newRows()
	r := open(t, rows)
	uids := []string{"", "", "a", "b", "c", "d"}
	for range 3000 {
		page, _ := r.Destinations(dt, DestinationQuery{})
		var any hark.DestinationID
		if len(page) > 0 {
			any = page[rnd.IntN(len(page))].ID
		}
		d := sample()
		d.UID = uids[rnd.IntN(len(uids))]
		d.Topics[0] = hark.Pattern(fmt.Sprint("t", rnd.IntN(5)))
		switch n := rnd.IntN(6); {
		case n == 0:
			_, _ = r.CreateDestination(dt, d)
		case n == 1 && d.UID != "":
			_, _, _ = r.PutDestination(dt, 0, d)
		case n == 2:
			_, _ = r.UpdateDestination(dt, any, 0, func(c *hark.Destination) error { c.UID, c.Topics = d.UID, d.Topics; return nil })
		case n == 3:
			_, _ = r.SetDestinationState(dt, any, 0, hark.DestinationPaused, "p")
		case n == 4:
			_ = r.DeleteDestination(dt, any, 0)
		default:
			_, _ = r.RotateSecret(dt, any, "", time.Hour)
		}
	}
	s := open(t, rows)
	if !reflect.DeepEqual(r.destinations, s.destinations) || !reflect.DeepEqual(r.tenants[dt].uids, s.tenants[dt].uids) ||
		!slices.EqualFunc(r.tenants[dt].destinations, s.tenants[dt].destinations, func(a, b *hark.Destination) bool { return reflect.DeepEqual(a, b) }) {
		t.Error("memory and disk differ")
	}
}

// TestManyDestinations measures what many take: 100,000 must fit in 80 MB.
func TestManyDestinations(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	const n = 20_000
	rows := newRows()
	r := open(t, rows)
	for i := range n {
		d := sample()
		d.UID, d.Name = fmt.Sprintf("customer-%08d", i), fmt.Sprintf("Customer %d", i)
		d.Topics = []hark.Pattern{hark.Pattern(fmt.Sprintf("user.%d.>", i)), "orders.*"}
		d.Settings = fmt.Appendf(nil, `{"url":"https://hooks-%d.example.com/v1/receive/%d"}`, i%1000, i)
		mustCreate(t, r, d)
	}
	r = nil
	before := heap()
	start := time.Now()
	r = open(t, rows)
	took := time.Since(start)
	used := heap() - before
	t.Logf("%d destinations: %.1f MB in memory (%d bytes each), opened in %v", n, float64(used)/1e6, used/n, took.Round(time.Millisecond))
	if used/n > 800 {
		t.Errorf("%d bytes each", used/n)
	}
	runtime.KeepAlive(r)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestOnTheRealStore: rows survive closing and opening the folder.
func TestOnTheRealStore(t *testing.T) {
	dir := t.TempDir()
	var d *hark.Destination
	for round := range 2 {
		s, err := store.Open(store.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		r := open(t, s)
		if round == 0 {
			d = mustCreate(t, r, sample())
		} else if got, err := r.Destination(dt, d.ID); err != nil || !reflect.DeepEqual(got, d) {
			t.Error(got, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkKeyByHash(b *testing.B) {
	r := open(b, newRows())
	k, err := r.CreateKey(dt, &Key{Hash: [32]byte{1}, Scopes: ScopePublish})
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if r.KeyByHash(k.Hash) == nil {
				b.Fatal("lost")
			}
		}
	})
}
