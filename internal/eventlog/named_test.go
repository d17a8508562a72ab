package eventlog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

func (r *running) named(t testing.TB, tenant hark.TenantID, id string, n int) hark.EventID {
	t.Helper()
	done, err := r.AppendWith(t.Context(), tenant, make1(n), Idempotency{}, Name(tenant, "mercure", id, n-1))
	if err != nil {
		t.Fatal(err)
	}
	return done.ID(n - 1)
}

func (r *running) wantNamed(t *testing.T, tenant hark.TenantID, scope, id string, want hark.Offset) {
	t.Helper()
	o, ok, err := r.Named(tenant, scope, id)
	if err != nil || ok != (want != 0) || o != want {
		t.Errorf("%s of tenant %d is %d, %v, %v; want %d", id, tenant, o, ok, err, want)
	}
}

// TestNamed: ids that publishers gave find the newest event that has them, after a
// restart too, in their own tenant and scope only, as long as it is kept.
func TestNamed(t *testing.T) {
	clock := newClock()
	fs := vfs.NewMem()
	cfg := Config{Now: clock.now, Policy: func(hark.TenantID) Policy { return Policy{MaxAge: 2 * time.Hour} }}
	r := start(t, store.Options{FS: fs}, cfg)
	r.wantNamed(t, 1, "mercure", "a", 0)
	first := r.named(t, 1, "a", 1)
	three := r.named(t, 1, "three", 3)
	again := r.named(t, 1, "a", 1)
	r.must1(t, 2, "x", "y")
	if three.Offset != 4 || first.Offset != 1 {
		t.Fatal(three, first)
	}
	check := func() {
		t.Helper()
		r.wantNamed(t, 1, "mercure", "a", again.Offset)
		r.wantNamed(t, 1, "mercure", "three", three.Offset)
		r.wantNamed(t, 1, "other", "a", 0)
		r.wantNamed(t, 2, "mercure", "a", 0)
		r.wantNamed(t, 9, "mercure", "a", 0)
	}
	check()
	clock.advance(90 * time.Minute)
	later := r.named(t, 1, "later", 1) // another bucket
	check()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, store.Options{FS: fs}, cfg)
	check()
	r.wantNamed(t, 1, "mercure", "later", later.Offset)

	clock.advance(time.Hour)
	if err := r.Retain(clock.now()); err != nil {
		t.Fatal(err)
	}
	r.wantNamed(t, 1, "mercure", "a", 0)
	r.wantNamed(t, 1, "mercure", "later", later.Offset)
	rec, done, err := r.Erase(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.Commit(rec); err != nil {
		t.Fatal(err)
	}
	done(true)
	r.wantNamed(t, 1, "mercure", "later", 0)
	for b := store.Bucket(1); b < 5; b++ { // nor on disk
		for _, id := range []string{"a", "three", "later"} {
			if o, ok, err := r.store.EventNamed(1, b, nameHash("mercure", id)); ok || err != nil {
				t.Errorf("%s is left in bucket %d: %d, %v", id, b, o, err)
			}
		}
	}
}

// TestNamedAmongMany: the look-up does not depend on how many events there are.
func TestNamedAmongMany(t *testing.T) {
	r := start(t, store.Options{}, Config{BucketBytes: 200 << 10, TailEvents: 16})
	var at [30]hark.Offset
	for i := range at {
		at[i] = r.named(t, 1, fmt.Sprint("n", i), 1).Offset
		if _, err := r.Append(t.Context(), 1, []hark.Event{event("bulk", strings.Repeat("x", 50<<10))}, Idempotency{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.Buckets()); n < 3 {
		t.Fatalf("%d buckets: the test proves nothing", n)
	}
	for i := range at {
		r.wantNamed(t, 1, "mercure", fmt.Sprint("n", i), at[i])
	}
}
