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
//	          another tenant that publishes meanwhile, beside what a bare loop of 0.8 of post's
//	          rate, in another process, does to it
package main

import (
	"flag"
	"time"

	"github.com/harkhq/hark/bench/rig"
)

func main() {
	playRole()
	rig.Roles()
	b := &bench{}
	b.Define("1 run of 2 s a part", "seal", "post", "audience")
	b.DefineProfile()
	flag.IntVar(&b.Runs, "runs", 0, "runs; the medians count (5; 1 if short)")
	flag.DurationVar(&b.Steady, "steady", 0, "how long each measurement is (6s; 2s if short)")
	flag.IntVar(&b.workers, "workers", 128, "messages under way at once")
	flag.IntVar(&b.devices, "devices", 0, "devices of the audience (200,000; 20,000 if short)")
	flag.Float64Var(&b.rate, "rate", 200, "events a second of the other tenant")
	b.Parse()
	b.Runs = rig.Pick(b.Runs, b.Short, 5, 1)
	b.Steady = rig.Pick(b.Steady, b.Short, 6*time.Second, 2*time.Second)
	b.devices = rig.Pick(b.devices, b.Short, 200_000, 20_000)
	b.Main("push", b.measure)
}
