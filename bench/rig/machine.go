package rig

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// ThisMachine measures what figures depend on; dir is where data will be.
func ThisMachine(dir string) Machine {
	fsync, err := Fsync(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fsync:", err)
		fsync = &Hist{}
	}
	kernel := ""
	var u syscall.Utsname
	if syscall.Uname(&u) == nil {
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			kernel += string(rune(c))
		}
	}
	return Machine{Cores: runtime.NumCPU(), FsyncP50: Milliseconds(fsync.Quantile(0.5)), FsyncP99: Milliseconds(fsync.Quantile(0.99)),
		FsyncMax: Milliseconds(fsync.Quantile(1)), Go: runtime.Version(), Kernel: kernel}
}

// AddDestinations makes n destinations, some at a time.
func AddDestinations(ctx context.Context, api testenv.API, n int, describe func(i int) testenv.Destination) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if _, err := api.AddDestination(ctx, describe(i)); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// Say tells on stderr what is going on.
func Say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// Milliseconds writes a duration as a number.
func Milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

// Sleep waits, unless ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
