package capture

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// TestKeptSurvivesPowerLoss: what Keep answered for is there after the power went.
func TestKeptSurvivesPowerLoss(t *testing.T) {
	fs := vfs.NewCrashableMem()
	db := openStore(t, fs)
	r, stop := start(t, Config{Store: db})
	src := bin(7, 1000, 1<<20)
	var ids []hark.CaptureID
	for i := range 20 {
		ids = append(ids, keep(t, r, src, request(i, "body")))
	}
	after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
	stop()
	db.Close()
	db = openStore(t, after)
	defer db.Close()
	r, stop = start(t, Config{Store: db})
	defer stop()
	got := all(t, r, src, Query{Bodies: true})
	if len(got) != len(ids) {
		t.Fatalf("%d captures are left of %d", len(got), len(ids))
	}
	if next := keep(t, r, src, request(99, "")); next <= ids[len(ids)-1] {
		t.Errorf("id %s after %s", next, ids[len(ids)-1])
	}
}

// TestWholeCapture: everything comes back as it was.
func TestWholeCapture(t *testing.T) {
	r := newRings(t, Config{})
	src := bin(7, 10, 1<<20)
	c := &hark.Capture{Received: time.UnixMicro(1_800_000_000_000_001).UTC(), Remote: "2001:db8::1", Method: "PROPFIND", Target: "/in/x/a%2F?b", Proto: "HTTP/1.1",
		Head: []byte("PROPFIND /in/x HTTP/1.1\r\nx: \xff\r\nX: 2\r\n\r\n"), Header: []hark.HeaderField{{Name: "x", Value: "\xff"}, {Name: "X", Value: "2"}},
		Body: []byte("\x00\xff"), Truncated: true, Scheme: "github", Reason: "no-secret-matches", Detail: "look", Event: hark.EventID{Shard: 1, Incarnation: 2, Offset: 3},
		Duplicate: true, Status: 401, ReplayOf: 5}
	id := keep(t, r, src, c)
	got, err := r.Get(tenantA, 7, id)
	want := *c
	want.ID, want.Source, want.BodySize = id, 7, 2
	if err != nil || !reflect.DeepEqual(got, &want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, &want)
	}
	for _, other := range []struct {
		t  hark.TenantID
		s  hark.SourceID
		id hark.CaptureID
	}{{2, 7, id}, {1, 8, id}, {1, 7, id + 1}, {1, 7, id - 1}, {1, 7, 0}} {
		if c, err := r.Get(other.t, other.s, other.id); hark.KindOf(err) != hark.NotFound {
			t.Errorf("%+v: %v, %v", other, c, err)
		}
	}
}

// TestFilter: each field alone, and that all must match.
func TestFilter(t *testing.T) {
	r := newRings(t, Config{})
	src := bin(7, 100, 1<<20)
	a, b := request(1, `{"Name":"Ada"}`), request(2, "nothing")
	b.Method, b.Reason, b.Status, b.Detail = "GET", "timestamp-too-old", 401, "The signed time is 9 min old"
	b.Header = append(b.Header, hark.HeaderField{Name: "User-Agent", Value: "GitHub-Hookshot/1"})
	a.Received = a.Received.Add(-time.Hour)
	keep(t, r, src, a)
	keep(t, r, src, b)
	for _, c := range []struct {
		name string
		f    Filter
		want string
	}{
		{"all", Filter{}, "21"},
		{"method", Filter{Method: "get"}, "2"},
		{"path", Filter{Path: "/IN/x/1"}, "1"},
		{"header name", Filter{Header: "user-agent"}, "2"},
		{"header value", Filter{Header: "User-Agent: hookSHOT"}, "2"},
		{"header no value", Filter{Header: "User-Agent: curl"}, ""},
		{"body", Filter{Body: `"Ada"`}, "1"},
		{"body case", Filter{Body: `"ada"`}, ""},
		{"reason", Filter{Reason: "timestamp-too-old"}, "2"},
		{"rejected", Filter{Reason: Rejected}, "2"},
		{"ok", Filter{Reason: "ok"}, "1"},
		{"status", Filter{Status: 401}, "2"},
		{"text in detail", Filter{Text: "9 MIN"}, "2"},
		{"text in header", Filter{Text: "hookshot"}, "2"},
		{"text in body", Filter{Text: "Ada"}, "1"},
		{"text in target", Filter{Text: "x/1"}, "1"},
		{"since", Filter{Since: a.Received.Add(time.Minute)}, "2"},
		{"until", Filter{Until: a.Received.Add(time.Minute)}, "1"},
		{"both", Filter{Method: "POST", Body: "nothing"}, ""},
	} {
		got := ""
		for _, one := range all(t, r, src, Query{Filter: c.f, Limit: 1}) {
			got += one.Target[len("/in/x/"):]
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if _, err := r.Captures(t.Context(), tenantA, 7, Query{Filter: Filter{Header: " : x"}}); hark.KindOf(err) != hark.Mismatch {
		t.Errorf("a header filter without a name: %v", err)
	}
}

// TestWatchMissesNothing: while many write, each watcher sees every capture once, in order.
func TestWatchMissesNothing(t *testing.T) {
	r := newRings(t, Config{})
	src := bin(7, 100_000, 64<<20)
	const writers, each, watchers = 8, 100, 5
	var group sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	started := make(chan struct{}, watchers)
	for range watchers {
		group.Go(func() {
			w, err := r.Watch(tenantA, 7)
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
			seen, after := map[string]bool{}, hark.CaptureID(0)
			started <- struct{}{}
			for len(seen) < writers*each {
				changed, _ := w.Next()
				p, err := r.Captures(ctx, tenantA, 7, Query{Forward: true, After: after, Limit: 7})
				if err != nil || p.Gap {
					t.Errorf("%v, gap %v", err, p.Gap)
					return
				}
				for _, c := range p.Captures {
					if c.ID <= after || seen[c.Target] {
						t.Errorf("%s after %s, again: %v", c.ID, after, seen[c.Target])
					}
					after = c.ID
					seen[c.Target] = true
				}
				if p.More || len(seen) == writers*each {
					continue
				}
				select {
				case <-changed:
				case <-ctx.Done():
					t.Errorf("after a minute %d of %d", len(seen), writers*each)
					return
				}
			}
		})
	}
	for range watchers {
		<-started
	}
	for w := range writers {
		group.Go(func() {
			for i := range each {
				if err := r.Keep(ctx, src, request(w*each+i, "x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if r.watches != 0 {
		t.Errorf("%d watches are left", r.watches)
	}
}

// TestGapIsTold: who was away while the ring went round hears of it; who merely meets
// what its owner deleted does not.
func TestGapIsTold(t *testing.T) {
	r := newRings(t, Config{})
	src := bin(7, 5, 1<<20)
	first := keep(t, r, src, request(0, ""))
	for i := range 5 {
		keep(t, r, src, request(i, ""))
	}
	p, err := r.Captures(t.Context(), tenantA, 7, Query{Forward: true, After: first})
	if err != nil || p.Gap || len(p.Captures) != 5 {
		t.Errorf("nothing after %s is gone: gap %v, %d captures, %v", first, p.Gap, len(p.Captures), err)
	}
	keep(t, r, src, request(9, ""))
	if p, _ = r.Captures(t.Context(), tenantA, 7, Query{Forward: true, After: first}); !p.Gap || len(p.Captures) != 5 {
		t.Errorf("one after %s is gone: gap %v, %d captures", first, p.Gap, len(p.Captures))
	}
	last := p.Next
	if err := r.Clear(t.Context(), tenantA, 7); err != nil {
		t.Fatal(err)
	}
	keep(t, r, src, request(10, ""))
	if p, _ = r.Captures(t.Context(), tenantA, 7, Query{Forward: true, After: last}); p.Gap || len(p.Captures) != 1 {
		t.Errorf("after clearing: gap %v, %d captures", p.Gap, len(p.Captures))
	}
}

// TestTenantBound: rings of one tenant together stay below its bound, and the fullest pays.
func TestTenantBound(t *testing.T) {
	r := newRings(t, Config{TenantBytes: 200_000})
	small, large := bin(1, 1000, 1<<20), bin(2, 1000, 1<<20)
	other := bin(3, 1000, 1<<20)
	other.Tenant = 2
	keep(t, r, small, request(0, "keep me"))
	keep(t, r, other, request(0, "and me"))
	for i := range 300 {
		keep(t, r, large, request(i, strings.Repeat("x", 1000)))
	}
	total := r.Usage(tenantA, 1).Bytes + r.Usage(tenantA, 2).Bytes
	if total > 200_000 || total < 150_000 {
		t.Errorf("the tenant holds %d bytes", total)
	}
	if r.Usage(tenantA, 1).Requests != 1 || r.Usage(2, 3).Requests != 1 {
		t.Error("a small ring, or another tenant's, paid")
	}
	if c := all(t, r, large, Query{Limit: 1}); len(c) == 0 || c[0].Target != "/in/x/299" {
		t.Error("the newest is gone")
	}
}

// TestLargeRequestFits: a body larger than the whole ring is cut, and says so.
func TestLargeRequestFits(t *testing.T) {
	r := newRings(t, Config{})
	src := bin(1, 10, 4096)
	id := keep(t, r, src, request(1, strings.Repeat("x", 10_000)))
	c, err := r.Get(tenantA, 1, id)
	if err != nil || !c.Truncated || len(c.Body) < 3000 || c.Size() > 4096 {
		t.Fatalf("%v: %d bytes, truncated %v", err, len(c.Body), c.Truncated)
	}
}

// gate is a store whose commits wait.
type gate struct {
	*store.Store
	open chan struct{}
	fail error
}

func (g *gate) Commit(recs ...store.Record) error {
	<-g.open
	if g.fail != nil {
		return g.fail
	}
	return g.Store.Commit(recs...)
}

func (g *gate) Write(recs ...store.Record) (uint64, error) {
	<-g.open
	return g.Store.Write(recs...)
}

// TestOrdinarySourcesAreLossy: a store that stands still never holds the sender up, and
// what was lost is counted.
func TestOrdinarySourcesAreLossy(t *testing.T) {
	db := openStore(t, vfs.NewMem())
	defer db.Close()
	g := &gate{Store: db, open: make(chan struct{})}
	dropped := 0
	r, stop := start(t, Config{Store: g, Hooks: Hooks{Dropped: func() { dropped++ }}})
	src := &hark.Source{ID: 7, Tenant: tenantA}
	body := strings.Repeat("x", 1<<20)
	for i := range 40 {
		if err := r.Keep(t.Context(), src, request(i, body)); err != nil {
			t.Fatal(err)
		}
	}
	close(g.open)
	stop()
	u := r.Usage(tenantA, 7)
	if dropped < 20 || u.Dropped != uint64(dropped) || u.Requests != 3 { // 4 MiB hold three of a little over 1 MiB
		t.Errorf("dropped %d, usage %+v", dropped, u)
	}
	if err := r.Keep(t.Context(), bin(8, 1, 1000), request(1, "")); !errors.Is(err, errStopped) {
		t.Errorf("after the stop: %v", err)
	}
}

// TestFailedCommit: who waited hears of it and the ring is as it was.
func TestFailedCommit(t *testing.T) {
	db := openStore(t, vfs.NewMem())
	defer db.Close()
	g := &gate{Store: db, open: make(chan struct{})}
	close(g.open)
	r, stop := start(t, Config{Store: g})
	defer stop()
	src := bin(7, 3, 1<<20)
	for i := range 5 {
		keep(t, r, src, request(i, "x"))
	}
	before := all(t, r, src, Query{})
	g.fail = errors.New("no")
	if err := r.Keep(t.Context(), src, request(6, "x")); err == nil {
		t.Fatal("kept all the same")
	}
	if got := all(t, r, src, Query{}); !reflect.DeepEqual(got, before) {
		t.Errorf("the ring changed: %d, %d", len(got), len(before))
	}
	g.fail = nil
	keep(t, r, src, request(7, "x"))
	if got := all(t, r, src, Query{}); len(got) != 3 || got[0].Target != "/in/x/7" {
		t.Errorf("after recovery: %d, newest %s", len(got), got[0].Target)
	}
}

// TestErase: what goes with a source does not come back, and watchers hear of it.
func TestErase(t *testing.T) {
	db := openStore(t, vfs.NewMem())
	defer db.Close()
	r, stop := start(t, Config{Store: db})
	src, other := bin(7, 10, 1<<20), bin(8, 10, 1<<20)
	keep(t, r, src, request(1, "x"))
	keep(t, r, other, request(1, "x"))
	w, err := r.Watch(tenantA, 7)
	if err != nil {
		t.Fatal(err)
	}
	changed, _ := w.Next()
	rec, done := r.Erase(tenantA, 7)
	if err := db.Commit(rec); err != nil {
		t.Fatal(err)
	}
	done(true)
	<-changed
	if !w.Gone() {
		t.Error("the watcher is not told")
	}
	if err := r.Keep(t.Context(), src, request(2, "x")); hark.KindOf(err) != hark.NotFound {
		t.Errorf("kept after the end: %v", err)
	}
	stop()
	again, err := Open(Config{Store: db})
	if err != nil {
		t.Fatal(err)
	}
	if u := again.Usage(tenantA, 7); u.Requests != 0 {
		t.Errorf("usage after a restart: %+v", u)
	}
	if u := again.Usage(tenantA, 8); u.Requests != 1 {
		t.Errorf("the other's usage: %+v", u)
	}
	if err := db.Commit(&store.TenantErased{Tenant: tenantA}); err != nil {
		t.Fatal(err)
	}
	if again, _ = Open(Config{Store: db}); len(again.tenants) != 0 {
		t.Error("something is left of an erased tenant")
	}
}

// fakeBins is a registry of bins.
type fakeBins struct {
	mu   sync.Mutex
	bins map[hark.SourceID]*hark.Source
	log  []string
}

func (f *fakeBins) EachBin(fn func(*hark.Source)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.bins {
		fn(s)
	}
}

func (f *fakeBins) MoveExpiry(_ hark.TenantID, id hark.SourceID, expires time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, b := *f.bins[id], *f.bins[id].Bin
	b.Expires = expires
	s.Bin = &b
	f.bins[id] = &s
	f.log = append(f.log, fmt.Sprintf("move %d", id))
	return nil
}

func (f *fakeBins) DeleteBin(_ hark.TenantID, id hark.SourceID, _ uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bins, id)
	f.log = append(f.log, fmt.Sprintf("delete %d", id))
	return nil
}

// TestReap: a bin that is used lives on, one that is not goes, and the registry is not
// written to for each request.
func TestReap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Rings{tenants: map[hark.TenantID]*tenant{}, touched: map[hark.SourceID]touch{}}
		bins := &fakeBins{bins: map[hark.SourceID]*hark.Source{}}
		for id := range hark.SourceID(2) {
			bins.bins[id] = &hark.Source{ID: id, Tenant: tenantA, Bin: &hark.Bin{TTL: hark.Duration(time.Hour), Expires: time.Now().Add(time.Hour)}}
		}
		bins.bins[2] = &hark.Source{ID: 2, Tenant: tenantA, Bin: &hark.Bin{TTL: hark.Duration(time.Minute), Expires: time.Now().Add(time.Minute)}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Reap(ctx, bins, func(err error) { t.Error(err) }) }()
		for range 90 * 60 { // every second for one and a half hours
			time.Sleep(time.Second)
			bins.mu.Lock()
			hour, minute := bins.bins[0], bins.bins[2]
			bins.mu.Unlock()
			if minute == nil || !minute.Bin.Expires.After(time.Now()) {
				t.Fatal("a bin of a minute expired though it is used each second")
			}
			r.touch(hour)
			r.touch(minute)
		}
		cancel()
		<-done
		moves, deletes := 0, ""
		for _, line := range bins.log {
			switch {
			case line == "move 0":
				moves++
			case strings.HasPrefix(line, "delete"):
				deletes += line
			}
		}
		if moves < 60 || moves > 91 || deletes != "delete 1" {
			t.Errorf("%d moves; %q", moves, deletes)
		}
	})
}
