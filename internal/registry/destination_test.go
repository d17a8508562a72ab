package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

const dt = hark.DefaultTenant

func TestDestinationLife(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	given := sample()
	given.UID, given.Name, given.Retry = "u1", "Ünï", &hark.Retry{Schedule: []hark.Duration{0, hark.Duration(time.Second)}}
	d := mustCreate(t, r, given)
	if d.ID == 0 || d.Tenant != dt || d.Revision != 1 || d.State != hark.DestinationActive || len(d.Secrets) != 1 ||
		string(d.Settings) != `{"url":"https://example.com/hook"}` || d.Created.IsZero() {
		t.Fatalf("created %+v", d)
	}

	e, err := r.UpdateDestination(dt, d.ID, d.Revision, func(d *hark.Destination) error {
		d.Topics = append(d.Topics, "a", "a", "orders.*")
		d.ID, d.Revision, d.State = 9, 9, hark.DestinationDisabled // put back
		d.UID = "u2"
		return nil
	})
	if err != nil || e.ID != d.ID || e.Revision != 2 || e.State != hark.DestinationActive || len(e.Topics) != 2 {
		t.Fatalf("updated %+v, %v", e, err)
	}
	if len(d.Topics) != 1 || d.UID != "u1" {
		t.Error("a snapshot changed")
	}
	if _, err := r.DestinationByUID(dt, "u1"); hark.KindOf(err) != hark.NotFound {
		t.Error("the old uid still leads somewhere:", err)
	}
	if got, _ := r.DestinationByUID(dt, "u2"); got != e {
		t.Error("the new uid leads to", got)
	}

	p, err := r.SetDestinationState(dt, d.ID, 0, hark.DestinationPaused, "lunch")
	if err != nil || p.State != hark.DestinationPaused || p.Reason != "lunch" {
		t.Fatal(p, err)
	}
	again := open(t, rows)
	if got, err := again.Destination(dt, d.ID); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("reopened:\n%+v\nwant\n%+v, %v", got, p, err)
	}
	if q, err := r.SetDestinationState(dt, d.ID, 0, hark.DestinationActive, "x"); err != nil || q.Reason != "" {
		t.Error(q, err)
	}
	if err := r.DeleteDestination(dt, d.ID, 1); hark.KindOf(err) != hark.Conflict {
		t.Error("deleted at an old revision:", err)
	}
	if err := r.DeleteDestination(dt, d.ID, 0); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"get":    second(r.Destination(dt, d.ID)),
		"uid":    second(r.DestinationByUID(dt, "u2")),
		"delete": r.DeleteDestination(dt, d.ID, 0),
		"state":  second(r.SetDestinationState(dt, d.ID, 0, hark.DestinationActive, "")),
		"rotate": second(r.RotateSecret(dt, d.ID, "", 0)),
	} {
		if hark.KindOf(err) != hark.NotFound {
			t.Error(what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestOtherTenantsAreUnknown(t *testing.T) {
	r := open(t, newRows())
	other, err := r.CreateTenant(&Tenant{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	given := sample()
	given.UID = "u"
	d := mustCreate(t, r, given)
	if _, err := r.Destination(other.ID, d.ID); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
	if err := r.DeleteDestination(other.ID, d.ID, 0); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
	if _, created, err := r.PutDestination(other.ID, 0, given); err != nil || !created {
		t.Error("the uid of another tenant is taken:", err)
	}
	if page, _ := r.Destinations(other.ID, DestinationQuery{}); len(page) != 1 || page[0].ID == d.ID {
		t.Error(page)
	}
	if _, err := r.CreateDestination(99, given); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	r := open(t, newRows())
	d := &hark.Destination{Kind: "nope", Topics: []hark.Pattern{"ok", "a..b", ">.x"}, Settings: json.RawMessage(`{"bad":1}`),
		Name: strings.Repeat("x", 256), UID: "a\nb", RateLimit: math.Inf(1), Concurrency: 300, OnDead: "later",
		Retry: &hark.Retry{MaxDeliveries: -1}, Filter: json.RawMessage(`[`)}
	_, err := r.CreateDestination(dt, d)
	var fields []string
	for _, f := range hark.Faults(err) {
		fields = append(fields, f.Field)
		if f.Msg == "" || f.Kind != hark.Mismatch {
			t.Errorf("%+v", f)
		}
	}
	want := []string{"name", "uid", "topics[1]", "topics[2]", "filter", "retry.max_deliveries", "rate_limit", "concurrency", "on_dead", "kind", "settings.bad"}
	if !reflect.DeepEqual(fields, want) {
		t.Errorf("got %v\nwant %v", fields, want)
	}
	for _, settings := range []string{`[]`, `1`, `{`, `"x"`, "{\"a\":\"\xff\"}"} {
		d := sample()
		d.Settings = json.RawMessage(settings)
		if _, err := r.CreateDestination(dt, d); len(hark.Faults(err)) != 1 || hark.Faults(err)[0].Field != "settings" {
			t.Error(settings, err)
		}
	}
	if page, _ := r.Destinations(dt, DestinationQuery{}); len(page) != 0 {
		t.Error("something was made:", page)
	}
}

func TestFilterIsRefusedWithoutACheck(t *testing.T) {
	r, err := Open(Config{Store: newRows(), Kinds: &hooks{}})
	if err != nil {
		t.Fatal(err)
	}
	d := sample()
	d.Filter = json.RawMessage(`{"a":1}`)
	if _, err := r.CreateDestination(dt, d); hark.KindOf(err) != hark.Mismatch {
		t.Error(err)
	}
	d.Filter = json.RawMessage(`null`)
	if _, err := r.CreateDestination(dt, d); err != nil {
		t.Error(err)
	}
}

func TestPutByUID(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	d := sample()
	d.UID = "u"
	const twins = 16
	var created, total sync.Map
	var wg sync.WaitGroup
	for i := range twins {
		wg.Go(func() {
			got, made, err := r.PutDestination(dt, 0, d)
			if err != nil {
				t.Error(err)
				return
			}
			total.Store(got.ID, true)
			if made {
				created.Store(i, true)
			}
		})
	}
	wg.Wait()
	if n, c := size(&total), size(&created); n != 1 || c != 1 {
		t.Fatalf("%d destinations, %d times created", n, c)
	}
	before := rows.commits
	first, _ := r.DestinationByUID(dt, "u")
	if got, _, err := r.PutDestination(dt, 0, d); err != nil || got != first || rows.commits != before {
		t.Error("a repeat changed something:", err)
	}
	if _, err := r.SetDestinationState(dt, first.ID, 0, hark.DestinationPaused, "why"); err != nil {
		t.Fatal(err)
	}
	d.Topics = []hark.Pattern{"b"}
	got, made, err := r.PutDestination(dt, 0, d)
	if err != nil || made || got.Topics[0] != "b" || got.State != hark.DestinationPaused || got.Reason != "why" ||
		got.Secrets[0].Value != first.Secrets[0].Value {
		t.Errorf("%+v %v %v", got, made, err)
	}
	if _, _, err := r.PutDestination(dt, 1, d); hark.KindOf(err) != hark.Conflict {
		t.Error(err)
	}
	d.Kind = "pull"
	if _, _, err := r.PutDestination(dt, 0, d); hark.KindOf(err) != hark.Conflict {
		t.Error("the kind changed:", err)
	}
	e := sample()
	e.UID = "u"
	if _, err := r.CreateDestination(dt, e); hark.KindOf(err) != hark.Conflict {
		t.Error("the uid was given twice:", err)
	}
	e.UID = "new"
	if _, _, err := r.PutDestination(dt, 7, e); hark.KindOf(err) != hark.NotFound {
		t.Error("If-Match made a new one:", err)
	}
}

// TestReadersWhileWriting is for the race detector.
func TestReadersWhileWriting(t *testing.T) {
	r := open(t, newRows())
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				page, _ := r.Destinations(dt, DestinationQuery{})
				for _, d := range page {
					if d.ID == 0 || len(d.Topics) == 0 || d.Revision == 0 {
						t.Error("half made:", d)
					}
					_, _ = r.DestinationByUID(dt, d.UID)
				}
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			d := sample()
			d.UID = fmt.Sprint(w)
			for range 100 {
				got, _, err := r.PutDestination(dt, 0, d)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := r.SetDestinationState(dt, got.ID, got.Revision, hark.DestinationPaused, "x"); err != nil {
					t.Error(err)
				}
				if err := r.DeleteDestination(dt, got.ID, 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

func size(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

func TestPages(t *testing.T) {
	r := open(t, newRows())
	for i := range 25 {
		d := sample()
		if i%5 == 0 {
			d.Kind = "pull"
		}
		d.UID = fmt.Sprint("u", i)
		mustCreate(t, r, d)
	}
	for _, c := range []struct {
		q    DestinationQuery
		want int
	}{{DestinationQuery{Limit: 7}, 25}, {DestinationQuery{}, 25}, {DestinationQuery{Limit: 1, Kind: "pull"}, 5},
		{DestinationQuery{Limit: 2, Kind: "pull", State: hark.DestinationPaused}, 0},
		{DestinationQuery{UID: "u3"}, 1}, {DestinationQuery{UID: "u3", Kind: "pull"}, 0}, {DestinationQuery{UID: "x"}, 0}} {
		seen := map[hark.DestinationID]bool{}
		for q := c.q; ; {
			page, more := r.Destinations(dt, q)
			for _, d := range page {
				if seen[d.ID] || d.ID <= q.After {
					t.Fatal("twice or out of order")
				}
				seen[d.ID] = true
			}
			if !more {
				break
			}
			if len(page) != q.Limit {
				t.Fatal("a short page in the middle")
			}
			q.After = page[len(page)-1].ID
		}
		if len(seen) != c.want {
			t.Errorf("%+v: %d, want %d", c.q, len(seen), c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	r, err := Open(Config{Store: newRows(), Kinds: &hooks{}, Limits: Limits{Tenants: 2, Destinations: 1, Keys: 1}})
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, r, sample())
	if _, err := r.CreateDestination(dt, sample()); hark.KindOf(err) != hark.Conflict {
		t.Error(err)
	}
	if _, err := r.UpdateTenant(dt, 0, func(t *Tenant) error { t.MaxDestinations = 2; return nil }); err != nil {
		t.Error(err)
	}
	mustCreate(t, r, sample())
	if _, err := r.CreateTenant(&Tenant{Name: "a"}); err != nil {
		t.Error(err)
	}
	if _, err := r.CreateTenant(&Tenant{Name: "b"}); hark.KindOf(err) != hark.Conflict {
		t.Error(err)
	}
}

func TestSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, newRows())
		d := mustCreate(t, r, sample())
		first := d.Secrets[0].Value
		d, err := r.RotateSecret(dt, d.ID, "", hark.RotationOverlap)
		if err != nil || len(d.Secrets) != 2 || d.Secrets[1].Value != first || d.Secrets[0].Value == first ||
			!d.Secrets[0].Expires.IsZero() || !d.Secrets[1].Expires.Equal(time.Now().Add(24*time.Hour)) {
			t.Fatalf("%#v %v", d.Secrets, err)
		}
		time.Sleep(time.Hour)
		d, _ = r.UpdateDestination(dt, d.ID, 0, func(d *hark.Destination) error { d.Name = "x"; return nil })
		if len(d.Secrets) != 2 || !d.Secrets[1].Expires.Equal(time.Now().Add(23*time.Hour)) {
			t.Fatal("a change moved the end of a secret")
		}
		// A new secret by PATCH or PUT rotates too; the earlier end stays.
		d, err = r.UpdateDestination(dt, d.ID, 0, func(d *hark.Destination) error {
			d.Secrets = []hark.SigningSecret{{Value: "whsec_mine"}}
			return nil
		})
		if err != nil || len(d.Secrets) != 3 || d.Secrets[0].Value != "whsec_mine" || d.Secrets[2].Value != first ||
			!d.Secrets[2].Expires.Equal(time.Now().Add(23*time.Hour)) {
			t.Fatalf("%v %v", d.Secrets, err)
		}
		// The same one again, without its prefix, is no change.
		same, err := r.UpdateDestination(dt, d.ID, 0, func(d *hark.Destination) error {
			d.Secrets = []hark.SigningSecret{{Value: "mine"}}
			return nil
		})
		if err != nil || same != d {
			t.Fatalf("%v %v", same, err)
		}
		time.Sleep(25 * time.Hour)
		d, _ = r.UpdateDestination(dt, d.ID, 0, func(d *hark.Destination) error { d.Name = "y"; return nil })
		if len(d.Secrets) != 1 {
			t.Fatal("an expired secret stayed")
		}
		for range MaxSecrets - 1 {
			if _, err = r.RotateSecret(dt, d.ID, "", time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if _, err = r.RotateSecret(dt, d.ID, "", time.Hour); hark.KindOf(err) != hark.Conflict {
			t.Error("an eleventh secret:", err)
		}
		if d, err = r.RotateSecret(dt, d.ID, "", 0); err != nil || len(d.Secrets) != 1 {
			t.Error(d, err)
		}
		pull := sample()
		pull.Kind = "pull"
		p := mustCreate(t, r, pull)
		if _, err := r.RotateSecret(dt, p.ID, "", 0); hark.KindOf(err) != hark.Conflict || p.Secrets != nil {
			t.Error(err)
		}
	})
}

func TestFailedCommitLeavesNothing(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	d := mustCreate(t, r, sample())
	told := 0
	r.Watch(func(Change) { told++ })
	had := told
	var done []bool
	r.Attach(func(_, _ *hark.Destination) ([]store.Record, func(bool)) {
		return nil, func(ok bool) { done = append(done, ok) }
	})
	rows.fail = errors.New("disk")
	other := sample()
	other.UID = "u"
	for what, err := range map[string]error{
		"create": second(r.CreateDestination(dt, other)),
		"update": second(r.UpdateDestination(dt, d.ID, 0, func(d *hark.Destination) error { d.Name = "x"; return nil })),
		"delete": r.DeleteDestination(dt, d.ID, 0),
		"tenant": second(r.CreateTenant(&Tenant{Name: "a"})),
	} {
		if !errors.Is(err, rows.fail) {
			t.Error(what, err)
		}
	}
	rows.fail = nil
	if got, err := r.Destination(dt, d.ID); err != nil || got != d || told != had || !reflect.DeepEqual(done, []bool{false, false, false}) {
		t.Error(got, err, told, done)
	}
	if _, err := r.CreateDestination(dt, other); err != nil {
		t.Error(err)
	}
}

func TestAttachAndWatch(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	var log []string
	r.Attach(func(old, new *hark.Destination) ([]store.Record, func(bool)) {
		log = append(log, "attach")
		return []store.Record{&store.TenantErased{Tenant: 7}}, func(ok bool) { log = append(log, fmt.Sprint("done ", ok)) }
	})
	r.Watch(func(c Change) {
		if c.Destination.New != nil {
			if got, _ := r.Destination(dt, c.Destination.New.ID); got != c.Destination.New {
				t.Error("a watcher hears of what readers cannot see")
			}
			log = append(log, fmt.Sprint("watch ", c.Destination.New.Revision))
		}
	})
	own := func(old, new *hark.Destination) ([]store.Record, func(bool)) {
		if old != nil || new.ID == 0 {
			t.Error(old, new)
		}
		log = append(log, "own")
		return []store.Record{&store.TenantErased{Tenant: 8}}, nil
	}
	d, err := r.CreateDestination(dt, sample(), own)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpdateDestination(dt, d.ID, 0, func(d *hark.Destination) error { d.Topics[0] = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpdateDestination(dt, d.ID, 0, func(*hark.Destination) error { return nil }); err != nil {
		t.Fatal(err)
	}
	want := []string{"attach", "own", "watch 1", "done true", "attach", "watch 2", "done true"}
	if !reflect.DeepEqual(log, want) {
		t.Errorf("got %q\nwant %q", log, want)
	}
	if len(rows.other) != 3 || rows.commits != 3 {
		t.Errorf("%d attached records in %d commits", len(rows.other), rows.commits)
	}
	var seen []string
	r.Watch(func(c Change) {
		seen = append(seen, fmt.Sprint(c.Tenant.New != nil, c.Destination.New != nil, c.Destination.Old != nil))
	})
	if want := []string{"true false false", "false true false"}; !reflect.DeepEqual(seen, want) {
		t.Errorf("a new watcher hears %q", seen)
	}
}
