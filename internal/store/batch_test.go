package store

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

// TestBatchRows walks batches through their life: open, ended, owed, told, and gone
// by hand, with retention and with their tenant.
func TestBatchRows(t *testing.T) {
	s, err := Open(Options{Dir: "data", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	commit := func(recs ...Record) {
		t.Helper()
		if err := s.Commit(recs...); err != nil {
			t.Fatal(err)
		}
	}
	name := [16]byte{1}
	is := func(tenant hark.TenantID, o hark.Offset, want string) {
		t.Helper()
		got := "none"
		b, found, err := s.Batch(tenant, 1, o)
		if err != nil {
			t.Fatal(err)
		}
		if found {
			got = "open " + string(b.Value)
			if b.Ended {
				got = "ended " + string(b.Value)
			}
		}
		if got != want {
			t.Errorf("batch %d of %d is %q, want %q", o, tenant, got, want)
		}
	}
	lists := func(wantOpen, wantOwed []hark.Offset) {
		t.Helper()
		var open, owed []hark.Offset
		if err := s.OpenBatches(func(b SavedBatch) { open = append(open, b.Offset) }); err != nil {
			t.Fatal(err)
		}
		if err := s.OwedBatches(func(_ hark.TenantID, o, told hark.Offset, to hark.DestinationID) {
			if owed = append(owed, o); told != 90+o || to != 7 {
				t.Errorf("owed: told at %d to %d", told, to)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(open, wantOpen) || !slices.Equal(owed, wantOwed) {
			t.Errorf("open %v, owed %v; want %v, %v", open, owed, wantOpen, wantOwed)
		}
	}
	for o := range hark.Offset(4) {
		commit(&BatchOpened{Tenant: 1, Bucket: 1, Offset: o + 1, Name: [16]byte{byte(o + 1)}, Value: []byte("new")})
	}
	commit(&BatchOpened{Tenant: 2, Bucket: 1, Offset: 9, Name: name, Value: []byte("other")})
	lists([]hark.Offset{1, 2, 3, 4, 9}, nil)
	commit(&BatchEnded{Tenant: 1, Bucket: 1, Offset: 1, Value: []byte("done"), Told: 91, To: 7})
	commit(&BatchEnded{Tenant: 1, Bucket: 1, Offset: 2, Value: []byte("done"), Told: 92})
	lists([]hark.Offset{3, 4, 9}, []hark.Offset{1})
	is(1, 1, "ended done")
	is(1, 3, "open new")
	is(2, 9, "open other")
	if o, ok, err := s.BatchNamed(1, 1, name); o != 1 || !ok || err != nil {
		t.Errorf("named: %d %v %v", o, ok, err)
	}
	open, ended, err := s.BatchesBefore(1, 1, 4, 10)
	if err != nil || len(open) != 1 || len(ended) != 2 || ended[0].Offset != 2 || ended[1].Told != 91 {
		t.Errorf("before: %+v %+v %v", open, ended, err)
	}
	commit(&BatchPaid{Tenant: 1, Offset: 1}, &BatchForgotten{Tenant: 1, Bucket: 1, Offset: 3, Name: [16]byte{3}})
	lists([]hark.Offset{4, 9}, nil)
	is(1, 3, "none")
	if _, ok, _ := s.BatchNamed(1, 1, [16]byte{3}); ok {
		t.Error("a forgotten batch keeps its name")
	}
	// Retention takes those that ended, and never one that is waited for.
	commit(&DeliveriesRemoved{Tenant: 1, Bucket: 1})
	is(1, 1, "none")
	is(1, 2, "none")
	is(1, 4, "open new")
	commit(&TenantErased{Tenant: 1})
	is(1, 4, "none")
	is(2, 9, "open other")
}
