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
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

// options are the flags.
type options struct {
	short   bool
	runs    int
	steady  time.Duration
	only    string
	json    string
	bin     string
	dir     string
	flags   string
	profile string
	threads int
	bare    bool
	verbose bool
}

func parseOptions() options {
	var o options
	flag.BoolVar(&o.short, "short", false, "a first look: 1 run, 4 s measurements")
	flag.IntVar(&o.runs, "runs", 0, "runs; the medians count (3; 1 if short)")
	flag.DurationVar(&o.steady, "steady", 0, "how long each measurement of a load is (8s; 4s if short)")
	flag.StringVar(&o.only, "only", strings.Join(names(), ","), "which scenarios to run")
	flag.StringVar(&o.json, "json", "", "also write the result, with every run, to this file")
	flag.StringVar(&o.bin, "bin", "", "the hark binary (built when empty)")
	flag.StringVar(&o.dir, "dir", "", "folder for data (a temporary one when empty)")
	flag.StringVar(&o.flags, "flags", "", "more flags for hark serve, apart by spaces")
	flag.StringVar(&o.profile, "profile", "", "write processor profiles of the server to this folder")
	flag.IntVar(&o.threads, "threads", 2, "threads that the subscribers read with")
	flag.BoolVar(&o.bare, "bare", false, "measure the bare programs only")
	flag.BoolVar(&o.verbose, "v", false, "show the server's log")
	flag.Parse()
	o.runs = pick(o.runs, o.short, 3, 1)
	o.steady = pick(o.steady, o.short, 8*time.Second, 4*time.Second)
	for _, name := range strings.Split(o.only, ",") {
		if !slices.Contains(names(), name) {
			fmt.Fprintf(os.Stderr, "-only: %q is none of %s\n", name, strings.Join(names(), ", "))
			os.Exit(2)
		}
	}
	return o
}

func pick[T comparable](given T, short bool, long, brief T) T {
	var zero T
	switch {
	case given != zero:
		return given
	case short:
		return brief
	}
	return long
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
		fmt.Fprintln(os.Stderr, "bench/live:", err)
		os.Exit(1)
	}
	if n := result.Failed(); n > 0 {
		fmt.Printf("\n%d figures fail\n", n)
		os.Exit(1)
	}
}

// bench is what the scenarios share.
type bench struct {
	options
	counters *rig.Counters
	path     string // of the counters
	debug    string // address of the server's profiles
	cert     string
	key      string
	starts   int
	profiles int
	name     string // of the scenario that runs

	figures []*rig.Figure
	others  rig.Figure
}

func measure(ctx context.Context, o options) (*rig.Result, error) {
	dir, err := os.MkdirTemp(o.dir, "hark-bench-live-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, path: dir + "/counters", cert: dir + "/cert.pem", key: dir + "/key.pem",
		others: rig.Figure{Name: "other programs meanwhile", Unit: "cores", Note: "figures are only good when this is near 0"}}
	b.dir = dir
	if b.counters, err = rig.OpenCounters(b.path); err != nil {
		return nil, err
	}
	if err := rig.WriteCert(b.cert, b.key); err != nil {
		return nil, err
	}
	if b.bin == "" && !b.bare {
		if b.bin, err = testenv.Build(ctx, dir); err != nil {
			return nil, err
		}
	}
	result := &rig.Result{Machine: rig.ThisMachine(dir),
		Setup: fmt.Sprintf("hark serve, events of %d B, subscribers on %d threads; %d runs of %v", eventSize, b.threads, b.runs, b.steady)}
	for _, s := range scenarios {
		if slices.Contains(strings.Split(b.only, ","), s.name) {
			b.scenario(ctx, s)
		}
	}
	result.Figures = append(b.figures, &b.others)
	return result, context.Cause(ctx)
}

// scenario runs one so many times. What goes wrong is a row that fails: the others are measured all the same.
func (b *bench) scenario(ctx context.Context, s scenario) {
	b.name, b.profiles = s.name, 0
	for run := range b.runs {
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
