// Command eventlog measures eventlog.Append in process, with topic index and
// usage counters, against a bare Pebble group committer that writes the same
// keys and values with the same options. The two run in turn (A B A B …), each
// in a fresh folder on the same disk, and the medians are compared.
//
//	go run ./bench/eventlog            60 s a run
//	go run ./bench/eventlog -short     5 s a run
//	go run ./bench/eventlog -read      5,000 events of one topic among 1,000,000
//	go run ./bench/eventlog -ready 10  time to open after kill -9 with 10 GiB
//
// It exits with status 1 when a bar is missed: at least 80,000 events/s or 0.8 of
// bare, p99 at most 3 ms or twice bare's.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"
)

var (
	seconds = flag.Int("seconds", 60, "length of a run")
	short   = flag.Bool("short", false, "runs of 5 s")
	rounds  = flag.Int("rounds", 3, "runs of each kind")
	writers = flag.Int("writers", 64, "concurrent writers")
	size    = flag.Int("size", 512, "bytes of data in an event")
	only    = flag.String("only", "", "run only \"hark\" or \"bare\"")
	tenants = flag.Int("tenants", 0, "only with so many tenants; 0 for 1 and then 1,000")
	profile = flag.String("profile", "", "write a CPU profile of hark's runs to this file")
	dir     = flag.String("dir", "", "where to put the folders; default the temporary folder")
	read    = flag.Bool("read", false, "measure reading by topic")
	ready   = flag.Float64("ready", 0, "measure opening after kill -9 with so many GiB")
	fill    = flag.Float64("fill", 0, "used by -ready")
)

func main() {
	flag.Parse()
	if *short {
		*seconds = 5
	}
	switch {
	case *fill > 0:
		fillFolder(*dir, *fill)
	case *ready > 0:
		measureReady(*ready)
	case *read:
		measureRead()
	default:
		if !compare() {
			os.Exit(1)
		}
	}
}

func compare() bool {
	ok := true
	for _, n := range []int{1, 1000} {
		if *tenants != 0 && n != *tenants && !(n == 1 && *tenants != 1000) {
			continue
		}
		n = cmp.Or(*tenants, n)
		var hark, bare []result
		for range *rounds {
			if *only != "bare" {
				hark = append(hark, run("hark", n, runHark))
			}
			if *only != "hark" {
				bare = append(bare, run("bare", n, runBare))
			}
		}
		if *only == "" {
			ok = verdict(n, hark, bare) && ok
		}
	}
	return ok
}

// result is one run.
type result struct {
	rate         float64
	p50, p99     time.Duration
	syncs        float64
	cpu          time.Duration // for one event
	debt, growth int64         // compaction debt at the end, and by how much it grew over the second half
	rss          int64
}

func run(kind string, tenants int, measure func(dir string, tenants int) result) result {
	d, err := os.MkdirTemp(*dir, "hark-bench-")
	check(err)
	defer os.RemoveAll(d)
	runtime.GC()
	if *profile != "" && kind == "hark" {
		f, err := os.Create(*profile)
		check(err)
		check(pprof.StartCPUProfile(f))
		defer f.Close()
		defer pprof.StopCPUProfile()
	}
	r := measure(filepath.Join(d, "data"), tenants)
	fmt.Printf("%-4s %4d tenants  %8.0f events/s  p50 %6.2f ms  p99 %6.2f ms  %6.0f syncs/s  cpu %5.2f µs  debt %4d MiB (%+d MiB in the second half)  rss %d MiB\n",
		kind, tenants, r.rate, ms(r.p50), ms(r.p99), r.syncs, float64(r.cpu)/1e3, r.debt>>20, r.growth>>20, r.rss>>20)
	return r
}

func verdict(tenants int, hark, bare []result) bool {
	h, b := median(hark), median(bare)
	rate, p99 := h.rate/b.rate, float64(h.p99)/float64(b.p99)
	ok := (h.rate >= 80_000 || rate >= 0.8) && (h.p99 <= 3*time.Millisecond || p99 <= 2)
	word := map[bool]string{true: "holds", false: "MISSED"}[ok]
	fmt.Printf("medians, %d tenants: hark %.0f/s = %.2f of bare, p99 %.2f ms = %.2f of bare, %.0f syncs/s (bare %.0f), cpu %.2f of bare: %s\n\n",
		tenants, h.rate, rate, ms(h.p99), p99, h.syncs, b.syncs, float64(h.cpu)/float64(b.cpu), word)
	return ok
}

func median(rs []result) result {
	mid := func(of func(result) float64) float64 {
		vs := make([]float64, len(rs))
		for i, r := range rs {
			vs[i] = of(r)
		}
		slices.Sort(vs)
		return vs[len(vs)/2]
	}
	return result{
		rate:  mid(func(r result) float64 { return r.rate }),
		p50:   time.Duration(mid(func(r result) float64 { return float64(r.p50) })),
		p99:   time.Duration(mid(func(r result) float64 { return float64(r.p99) })),
		syncs: mid(func(r result) float64 { return r.syncs }),
		cpu:   time.Duration(mid(func(r result) float64 { return float64(r.cpu) })),
	}
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/eventlog:", err)
		os.Exit(2)
	}
}
