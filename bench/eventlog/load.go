package main

import (
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// histogram counts durations with a resolution of about 3 %.
type histogram [64 * 32]uint64

func (h *histogram) add(d time.Duration) {
	v := uint64(max(d, 1))
	e := bits.Len64(v)
	if e <= 5 {
		h[v]++
		return
	}
	h[(e-5)<<5+int(v>>(e-6))&31]++
}

func (h *histogram) merge(o *histogram) {
	for i := range o {
		h[i] += o[i]
	}
}

func (h *histogram) quantile(q float64) time.Duration {
	n := uint64(0)
	for _, c := range h {
		n += c
	}
	left := uint64(float64(n) * q)
	for i, c := range h {
		if c > left {
			if i < 32 {
				return time.Duration(i)
			}
			e := i>>5 + 5
			return time.Duration((uint64(i&31) | 32) << (e - 6))
		}
		left -= c
	}
	return 0
}

// load has the writers append, one event at a time, for the length of a run.
func load(tenants int, appendOne func(writer, tenant, n int), syncs func() uint64, debt func() uint64) result {
	var wg sync.WaitGroup
	var stop atomic.Bool
	hs := make([]histogram, *writers)
	counts := make([]int, *writers)
	debts := watch(debt, &stop)
	began, firstSync, cpuBefore := time.Now(), syncs(), cpu()
	for w := range *writers {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				start := time.Now()
				appendOne(w, 1+(n**writers+w)%tenants, n)
				hs[w].add(time.Since(start))
				counts[w]++
			}
		})
	}
	time.Sleep(time.Duration(*seconds) * time.Second)
	stop.Store(true)
	wg.Wait()
	took := time.Since(began).Seconds()
	var all histogram
	total := 0
	for w := range hs {
		all.merge(&hs[w])
		total += counts[w]
	}
	ds := <-debts
	return result{rate: float64(total) / took, p50: all.quantile(0.5), p99: all.quantile(0.99), syncs: float64(syncs()-firstSync) / took,
		cpu:  (cpu() - cpuBefore) / time.Duration(max(total, 1)),
		debt: ds[len(ds)-1], growth: ds[len(ds)-1] - ds[len(ds)/2], rss: rss()}
}

func watch(debt func() uint64, stop *atomic.Bool) chan []int64 {
	out := make(chan []int64, 1)
	go func() {
		var ds []int64
		for !stop.Load() {
			ds = append(ds, int64(debt()))
			time.Sleep(250 * time.Millisecond)
		}
		out <- ds
	}()
	return out
}

// rss reads what the process holds in memory; 0 where the system does not tell so.
func rss() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var pages [2]int64
	i := 0
	for _, c := range text {
		switch {
		case c == ' ':
			i++
		case i < 2:
			pages[i] = pages[i]*10 + int64(c-'0')
		}
	}
	return pages[1] * int64(os.Getpagesize())
}

// cpu is the processor time that this process has used, compactions and all.
func cpu() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
