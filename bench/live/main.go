// Command live measures the way out to browsers: parked streams, fan-out, resume, reconnects.
// Each figure stands beside a bare program that is measured in the same run with the same
// subscribers and the same publishers, and every subscriber checks what it receives: in order,
// nothing twice, nothing lost.
//
//	go run ./bench/live                 # everything, medians of 3 runs: about 20 minutes
//	go run ./bench/live -short          # 1 shorter run of each: about 5 minutes
//	go run ./bench/live -only one,topics
//
// bench/README.md says what the scenarios are and what bounds them.
package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/harkhq/hark/bench/rig"
)

// options are the flags.
type options struct {
	rig.Common
	threads int
	bare    bool
}

func parseOptions() options {
	var o options
	o.Define("1 run, 4 s measurements", names()...)
	flag.IntVar(&o.Runs, "runs", 0, "runs; the medians count (3; 1 if short)")
	flag.DurationVar(&o.Steady, "steady", 0, "how long each measurement of a load is (8s; 4s if short)")
	flag.IntVar(&o.threads, "threads", 2, "threads that the subscribers read with")
	flag.BoolVar(&o.bare, "bare", false, "measure the bare programs only")
	o.DefineProfile()
	o.Parse()
	o.Runs = rig.Pick(o.Runs, o.Short, 3, 1)
	o.Steady = rig.Pick(o.Steady, o.Short, 8*time.Second, 4*time.Second)
	return o
}

// scenario is one line of measurements. It is run so many times, each with bare programs and servers of its own.
type scenario struct {
	name string
	once bool // however many runs are asked for
	run  func(*bench, context.Context) error
}

var scenarios = []scenario{
	{"idle", true, (*bench).idle},
	{"one", false, (*bench).one},
	{"saturate", false, (*bench).saturate},
	{"topics", false, (*bench).topics},
	{"paced", false, (*bench).paced},
	{"resume", false, (*bench).resume},
	{"spread", true, (*bench).spread},
	{"reconnect", false, (*bench).reconnect},
	{"stalled", false, (*bench).stalled},
	{"longpoll", false, (*bench).longPoll},
	{"websocket", false, (*bench).webSocket},
}

func names() (out []string) {
	for _, s := range scenarios {
		out = append(out, s.name)
	}
	return out
}

func main() {
	rig.Roles()
	o := parseOptions()
	o.Main("live", func(ctx context.Context) (*rig.Result, error) { return measure(ctx, o) })
}

// bench is what the scenarios share.
type bench struct {
	options
	counters *rig.Counters
	path     string // of the counters
	cert     string
	key      string
	starts   int
	profiles int
	name     string // of the scenario that runs

	figures []*rig.Figure
	others  rig.Figure
}

func measure(ctx context.Context, o options) (*rig.Result, error) {
	if o.bare {
		o.Bin = "none"
	}
	done, err := o.Prepare(ctx, "live")
	if err != nil {
		return nil, err
	}
	defer done()
	dir := o.Dir
	b := &bench{options: o, path: dir + "/counters", cert: dir + "/cert.pem", key: dir + "/key.pem",
		others: rig.Others()}
	if b.counters, err = rig.OpenCounters(b.path); err != nil {
		return nil, err
	}
	if err := rig.WriteCert(b.cert, b.key); err != nil {
		return nil, err
	}
	result := &rig.Result{Machine: rig.ThisMachine(dir),
		Setup: fmt.Sprintf("hark serve, events of %d B, subscribers on %d threads; %d runs of %v", eventSize, b.threads, b.Runs, b.Steady)}
	for _, s := range scenarios {
		if b.Wants(s.name) {
			b.scenario(ctx, s)
		}
	}
	result.Figures = append(b.figures, &b.others)
	return result, context.Cause(ctx)
}

// scenario runs one so many times. What goes wrong is a row that fails: the others are measured all the same.
func (b *bench) scenario(ctx context.Context, s scenario) {
	b.name, b.profiles = s.name, 0
	for run := range b.Runs {
		if s.once && run > 0 || ctx.Err() != nil {
			return
		}
		rig.Say("%s, run %d", s.name, run+1)
		if err := s.run(b, ctx); err != nil {
			rig.Say("%s: %v", s.name, err)
			b.figures = append(b.figures, &rig.Figure{Name: s.name + " came to no end", Bar: rig.Bar{Zero: true}, Note: err.Error()})
			return
		}
	}
}

// figure is the row of that name.
func (b *bench) figure(name, unit string, bar rig.Bar) *rig.Figure {
	for _, f := range b.figures {
		if f.Name == name {
			return f
		}
	}
	f := &rig.Figure{Name: name, Unit: unit, Bar: bar}
	b.figures = append(b.figures, f)
	return f
}

// ours adds a value to a row; bound adds its bound.
func (b *bench) ours(name, unit string, bar rig.Bar, v float64) *rig.Figure {
	f := b.figure(name, unit, bar)
	f.Ours = append(f.Ours, v)
	rig.Say("          %s: %s %s", strings.TrimSpace(name), rig.Number(v), unit)
	return f
}

func (b *bench) bound(name, unit string, bar rig.Bar, v float64) {
	f := b.figure(name, unit, bar)
	f.Bound = append(f.Bound, v)
	rig.Say("   bound  %s: %s %s", strings.TrimSpace(name), rig.Number(v), unit)
}
