package capture

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

const tenantA = hark.TenantID(1)

func openStore(t testing.TB, fs vfs.FS) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{Dir: "data", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start opens rings and runs their committer until the test ends or stop is called.
func start(t testing.TB, c Config) (r *Rings, stop func()) {
	t.Helper()
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return r, stop
}

func newRings(t testing.TB, c Config) *Rings {
	t.Helper()
	s := openStore(t, vfs.NewMem())
	t.Cleanup(func() { s.Close() })
	c.Store = s
	r, _ := start(t, c)
	return r
}

func bin(id hark.SourceID, requests int, bytes int64) *hark.Source {
	return &hark.Source{ID: id, Tenant: tenantA, Bin: &hark.Bin{MaxRequests: requests, MaxBytes: bytes}}
}

func request(i int, body string) *hark.Capture {
	return &hark.Capture{Received: time.Now().UTC().Truncate(time.Microsecond), Remote: "203.0.113.7", Method: "POST", Target: fmt.Sprintf("/in/x/%d", i),
		Proto: "HTTP/1.1", Header: []hark.HeaderField{{Name: "X-N", Value: fmt.Sprint(i)}}, Body: []byte(body), Scheme: "none", Reason: "ok", Status: 200}
}

func keep(t testing.TB, r *Rings, src *hark.Source, c *hark.Capture) hark.CaptureID {
	t.Helper()
	id, err := r.KeepSynced(context.Background(), src, c)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// all reads every capture, newest first, page by page.
func all(t testing.TB, r *Rings, src *hark.Source, q Query) (found []*hark.Capture) {
	t.Helper()
	for {
		p, err := r.Captures(context.Background(), src.Tenant, src.ID, q)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, p.Captures...)
		if p.Next == 0 {
			return found
		}
		q.Before = p.Next
	}
}
