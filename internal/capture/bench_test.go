package capture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// largeBin fills a bin on disk with 100,000 requests of 1 KB and returns it.
func largeBin(b *testing.B) (*Rings, *hark.Source) {
	b.Helper()
	db, err := store.Open(store.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	r, _ := start(b, Config{Store: db, TenantBytes: 1 << 30})
	src := bin(7, 100_000, 1<<30)
	rng := rand.New(rand.NewPCG(1, 2))
	body := make([]byte, 1000)
	waiting := make(chan struct{}, 256)
	for i := range 100_000 {
		for j := range body {
			body[j] = "abcdefghijklmnopqrstuvwxyz0123456789"[rng.IntN(36)]
		}
		c := request(i, string(body))
		c.Header = append(c.Header, hark.HeaderField{Name: "Content-Type", Value: "application/json"}, hark.HeaderField{Name: "User-Agent", Value: "bench/1"})
		waiting <- struct{}{}
		go func() {
			defer func() { <-waiting }()
			if err := r.Keep(context.Background(), src, c); err != nil {
				b.Error(err)
			}
		}()
	}
	for range cap(waiting) {
		waiting <- struct{}{}
	}
	if n := r.Usage(src.Tenant, src.ID).Requests; n != 100_000 {
		b.Fatalf("%d requests", n)
	}
	return r, src
}

// BenchmarkLargeBin: a page of a bin of 100,000 requests of 1 KB takes at most 20 ms, and a
// full search that finds nothing at most 1 s: in bodies, in headers, and anywhere.
func BenchmarkLargeBin(b *testing.B) {
	r, src := largeBin(b)
	middle := all(b, r, src, Query{Limit: 1, Filter: Filter{Path: "/in/x/50000"}})[0].ID
	measure := func(name string, bound time.Duration, q Query, want int) {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				got, ask := 0, q
				for {
					p, err := r.Captures(b.Context(), src.Tenant, src.ID, ask)
					if err != nil {
						b.Fatal(err)
					}
					got += len(p.Captures)
					if want > 0 || p.Next == 0 {
						break
					}
					ask.Before = p.Next
				}
				took = append(took, time.Since(began))
				if got != want {
					b.Fatalf("%d found, want %d", got, want)
				}
			}
			sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
			p99 := took[len(took)*99/100]
			b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
			if p99 > bound {
				b.Errorf("p99 %v, at most %v", p99, bound)
			}
		})
	}
	const page, full = 20 * time.Millisecond, time.Second
	measure("page/newest", page, Query{Limit: 50}, 50)
	measure("page/middle", page, Query{Limit: 50, Before: middle}, 50)
	measure("page/bodies", page, Query{Limit: 50, Bodies: true}, 50)
	measure("search/body", full, Query{Filter: Filter{Body: "no such text"}}, 0)
	measure("search/header", full, Query{Filter: Filter{Header: "x-n: none"}}, 0)
	measure("search/anywhere", full, Query{Filter: Filter{Text: "no such text"}}, 0)
	measure("search/oldest", full, Query{Filter: Filter{Path: "/in/x/0"}, Limit: 1}, 1)
}

// BenchmarkKeep: what a bin costs its sender, by how many send at once.
func BenchmarkKeep(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(fmt.Sprintf("full=%v", full), func(b *testing.B) {
			db, err := store.Open(store.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { db.Close() })
			r, _ := start(b, Config{Store: db})
			src := bin(7, 100_000, 128<<20)
			if full {
				src.Bin.MaxRequests = 1000
			}
			c := request(1, strings.Repeat("x", 1000))
			b.SetParallelism(32)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := r.Keep(context.Background(), src, c); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
