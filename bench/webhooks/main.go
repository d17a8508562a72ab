// Command webhooks measures Hark as a sender of webhooks, against what the same
// machine can do at most: server, publishers and sink share its cores, and each
// run measures the bare programs beside Hark, in turn, with the same sink and
// the same publisher.
//
//	go run ./bench/webhooks                  # about 50 minutes: medians of 5 runs of 60 s
//	go run ./bench/webhooks -short -runs 1   # about 2 minutes, a first look
//	go run ./bench/webhooks -only single,batch -json result.json
//
// Throughput is what is sustained without a growing backlog: the publisher holds
// back while more than -window events are acknowledged and not yet delivered.
// After each measurement it stops, and everything published must have arrived
// within seconds. Flat-out publishing is -window 0.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/harkhq/hark/bench/rig"
)

// options are the flags.
type options struct {
	short   bool
	runs    int
	steady  time.Duration
	warm    time.Duration
	rest    time.Duration
	only    string
	conns   int
	window  int
	idle    int
	stored  int64
	json    string
	bin     string
	flags   string
	dir     string
	profile string
	verbose bool
}

var parts = []string{"single", "batch", "latency", "fanout", "idle", "restart", "rest"}

func parseOptions() options {
	var o options
	flag.BoolVar(&o.short, "short", false, "a first look: 8 s measurements, 10,000 idle destinations, 10 s of rest")
	flag.IntVar(&o.runs, "runs", 5, "runs; the medians count")
	flag.DurationVar(&o.steady, "steady", 0, "how long each measurement of throughput is (60s; 8s if short)")
	flag.DurationVar(&o.warm, "warm", 0, "load before each measurement (5s; 2s if short)")
	flag.DurationVar(&o.rest, "rest", 0, "rest before memory is measured again (2m; 10s if short)")
	flag.StringVar(&o.only, "only", strings.Join(parts, ","), "which parts to run")
	flag.IntVar(&o.conns, "conns", 64, "publisher connections with one event per request")
	flag.IntVar(&o.window, "window", 10000, "most events acknowledged and not yet delivered; 0 for flat out")
	flag.IntVar(&o.idle, "idle", 0, "idle destinations for the memory figure (100,000; 10,000 if short)")
	flag.Int64Var(&o.stored, "stored", 0, "bytes stored when the server is killed and started again (10 GiB; 512 MiB if short)")
	flag.StringVar(&o.json, "json", "", "also write the result, with every run, to this file")
	flag.StringVar(&o.bin, "bin", "", "the hark binary (built when empty)")
	flag.StringVar(&o.flags, "flags", "", "more flags for hark serve, apart by spaces")
	flag.StringVar(&o.dir, "dir", "", "folder for data (a temporary one when empty)")
	flag.StringVar(&o.profile, "profile", "", "write a processor profile of the server for each load into this folder")
	flag.BoolVar(&o.verbose, "v", false, "show the server's log")
	flag.Parse()
	def := func(v *time.Duration, long, short time.Duration) {
		if *v == 0 {
			*v = long
			if o.short {
				*v = short
			}
		}
	}
	def(&o.steady, 60*time.Second, 8*time.Second)
	def(&o.warm, 5*time.Second, 2*time.Second)
	def(&o.rest, 2*time.Minute, 10*time.Second)
	if o.idle == 0 {
		o.idle = 100_000
		if o.short {
			o.idle = 10_000
		}
	}
	if o.stored == 0 {
		o.stored = 10 << 30
		if o.short {
			o.stored = 512 << 20
		}
	}
	for _, part := range strings.Split(o.only, ",") {
		if !slices.Contains(parts, part) {
			fmt.Fprintf(os.Stderr, "-only: %q is none of %s\n", part, strings.Join(parts, ", "))
			os.Exit(2)
		}
	}
	return o
}

func (o *options) wants(part string) bool { return slices.Contains(strings.Split(o.only, ","), part) }

func main() {
	rig.Roles()
	o := parseOptions()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	result, err := measure(ctx, o)
	if result != nil {
		result.WriteTable(os.Stdout)
		if o.json != "" {
			if writeErr := result.WriteFile(o.json); err == nil {
				err = writeErr
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/webhooks:", err)
		os.Exit(1)
	}
	if n := result.Failed(); n > 0 {
		fmt.Printf("\n%d figures fail\n", n)
		os.Exit(1)
	}
}
