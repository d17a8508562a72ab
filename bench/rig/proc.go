package rig

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// Fsync measures synced 4 KiB appends in dir, about 200 a second for two seconds:
// every durable figure stands on them, and latencies on their tail.
func Fsync(dir string) (*Hist, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block, took := make([]byte, 4096), &Hist{}
	for range 400 {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took.Add(time.Since(start))
		time.Sleep(5*time.Millisecond - time.Since(start))
	}
	return took, nil
}

// Median returns the middle of values, 0 for none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
