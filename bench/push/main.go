// Command push measures Web Push: what a message costs, against webpush-go, and how many go out to
// a push service, against what the same machine can do at most. Each run measures ours and the
// bounds in turn, each in a process of its own, with the same sink.
//
//	go run ./bench/push             # medians of 5 runs of 6 s a part
//	go run ./bench/push -short      # 1 run of 2 s a part, a first look
//
// Parts (-only):
//
//	seal      messages made on one core, network not included: sealing and signing (and, in a
//	          row of its own, all of a send) against github.com/SherClockHolmes/webpush-go
//	post      seal + sign + POST to a sink that speaks HTTP/2 over TLS, on all cores, through the
//	          sender and the client that Hark sends with. The bound is sealing alone and a bare
//	          net/http loop that posts the same bytes, one after the other: 1/(1/seal + 1/loop)
//	audience  one event to -devices browsers of an audience of the whole program: its memory, how many
//	          messages go out (the bound is post, without store, outcomes and log), and what that does to
//	          another tenant that publishes meanwhile
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
	workers int
	devices int
	rate    float64
	only    string
	json    string
	bin     string
	dir     string
	profile string
}

var parts = []string{"seal", "post", "audience"}

func parseOptions() options {
	var o options
	flag.BoolVar(&o.short, "short", false, "a first look: 1 run of 2 s a part")
	flag.IntVar(&o.runs, "runs", 5, "runs; the medians count")
	flag.DurationVar(&o.steady, "steady", 6*time.Second, "how long each measurement is")
	flag.IntVar(&o.workers, "workers", 128, "messages under way at once")
	flag.IntVar(&o.devices, "devices", 0, "devices of the audience (200,000; 20,000 if short)")
	flag.Float64Var(&o.rate, "rate", 200, "events a second of the other tenant")
	flag.StringVar(&o.only, "only", strings.Join(parts, ","), "which parts to run")
	flag.StringVar(&o.json, "json", "", "also write the result, with every run, to this file")
	flag.StringVar(&o.bin, "bin", "", "the hark binary (built when empty)")
	flag.StringVar(&o.dir, "dir", "", "folder for data (a temporary one when empty)")
	flag.StringVar(&o.profile, "profile", "", "write processor profiles of our parts into this folder")
	flag.Parse()
	if o.devices == 0 {
		o.devices = 200_000
		if o.short {
			o.devices = 20_000
		}
	}
	if o.short {
		o.runs, o.steady = 1, 2*time.Second
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
	playRole()
	rig.Roles()
	o := parseOptions()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	result, err := measure(ctx, o)
	if result != nil {
		result.WriteTable(os.Stdout)
		if o.json != "" && err == nil {
			err = result.WriteFile(o.json)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/push:", err)
		os.Exit(1)
	}
	if n := result.Failed(); n > 0 {
		fmt.Printf("\n%d figures fail\n", n)
		os.Exit(1)
	}
}
