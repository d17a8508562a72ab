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
	"time"

	"github.com/harkhq/hark/bench/rig"
)

// options are the flags.
type options struct {
	rig.Common
	warm   time.Duration
	rest   time.Duration
	conns  int
	window int
	idle   int
	stored int64
}

var parts = []string{"single", "batch", "latency", "fanout", "idle", "restart", "rest"}

func parseOptions() options {
	var o options
	o.Define("8 s measurements, 10,000 idle destinations, 10 s of rest", parts...)
	flag.IntVar(&o.Runs, "runs", 5, "runs; the medians count")
	flag.DurationVar(&o.Steady, "steady", 0, "how long each measurement of throughput is (60s; 8s if short)")
	flag.DurationVar(&o.warm, "warm", 0, "load before each measurement (5s; 2s if short)")
	flag.DurationVar(&o.rest, "rest", 0, "rest before memory is measured again (2m; 10s if short)")
	flag.IntVar(&o.conns, "conns", 64, "publisher connections with one event per request")
	flag.IntVar(&o.window, "window", 10000, "most events acknowledged and not yet delivered; 0 for flat out")
	flag.IntVar(&o.idle, "idle", 0, "idle destinations for the memory figure (100,000; 10,000 if short)")
	flag.Int64Var(&o.stored, "stored", 0, "bytes stored when the server is killed and started again (10 GiB; 512 MiB if short)")
	o.DefineProfile()
	o.Parse()
	o.Steady = rig.Pick(o.Steady, o.Short, 60*time.Second, 8*time.Second)
	o.warm = rig.Pick(o.warm, o.Short, 5*time.Second, 2*time.Second)
	o.rest = rig.Pick(o.rest, o.Short, 2*time.Minute, 10*time.Second)
	o.idle = rig.Pick(o.idle, o.Short, 100_000, 10_000)
	o.stored = rig.Pick(o.stored, o.Short, 10<<30, 512<<20)
	return o
}

func main() {
	rig.Roles()
	o := parseOptions()
	o.Main("webhooks", func(ctx context.Context) (*rig.Result, error) { return measure(ctx, o) })
}
