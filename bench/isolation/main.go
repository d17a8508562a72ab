// Command isolation measures what bad destinations and bad tenants do to good
// ones: the same good load alone, and beside the bad one, in turn.
//
//	go run ./bench/isolation                  # about 25 minutes
//	go run ./bench/isolation -short -runs 1   # about 3 minutes, a first look
//
// The rows compare p99s: "ours" is beside the bad load, "bound" is alone, and at
// most twice as much passes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

type options struct {
	rig.Common
	backlog int
	hanging int
	rate    float64
}

var parts = []string{"hang", "both", "dead", "tenant"}

func parseOptions() options {
	var o options
	o.Define("8 s measurements, a backlog of 100,000, 1,000 hanging destinations", parts...)
	flag.IntVar(&o.Runs, "runs", 3, "runs; the medians count")
	flag.DurationVar(&o.Steady, "steady", 0, "how long each measurement is (30s; 8s if short)")
	flag.IntVar(&o.backlog, "backlog", 0, "events behind the dead endpoint (1,000,000; 100,000 if short)")
	flag.IntVar(&o.hanging, "hanging", 0, "hanging destinations of the bad tenant (5,000; 1,000 if short)")
	flag.Float64Var(&o.rate, "rate", 200, "good events per second")
	o.Parse()
	o.Steady = rig.Pick(o.Steady, o.Short, 30*time.Second, 8*time.Second)
	o.backlog = rig.Pick(o.backlog, o.Short, 1_000_000, 100_000)
	o.hanging = rig.Pick(o.hanging, o.Short, 5_000, 1_000)
	return o
}

func main() {
	rig.Roles()
	o := parseOptions()
	o.Main("isolation", func(ctx context.Context) (*rig.Result, error) { return measure(ctx, o) })
}

// bench is one run of this program.
type bench struct {
	options
	sink     *rig.Sink
	counters string
	starts   int
	// piled is how many events lie behind the dead endpoint.
	piled uint64

	hang, both                    rig.Figure
	deadBeside, deadMemory        rig.Figure
	deadRevived, deadDrained      rig.Figure
	tenantPublish, tenantDelivery rig.Figure
	others                        rig.Figure
}

func newBench(o options) *bench {
	twice := rig.Bar{RatioAtMost: 2}
	return &bench{options: o,
		hang: rig.Figure{Name: "healthy p99, as much traffic to one that hangs 30 s", Unit: "ms", Bar: twice},
		both: rig.Figure{Name: "healthy p99, each event also to one that hangs 30 s", Unit: "ms", Bar: twice},
		deadBeside: rig.Figure{Name: fmt.Sprintf("neighbour p99 while %s pile up behind a dead one", rig.Number(float64(o.backlog))),
			Unit: "ms", Bar: twice},
		deadMemory:     rig.Figure{Name: "  memory added by its second half", Unit: "MB", Bar: rig.Bar{AtMost: 64}},
		deadRevived:    rig.Figure{Name: "  first delivery after it is revived", Unit: "s", Bar: rig.Bar{AtMost: 300}},
		deadDrained:    rig.Figure{Name: "  then drains at", Unit: "deliveries/s", Bar: rig.Bar{AtLeast: 1000}},
		tenantPublish:  rig.Figure{Name: fmt.Sprintf("publish p99 beside %d hanging and 1 MiB flat out", o.hanging), Unit: "ms", Bar: twice},
		tenantDelivery: rig.Figure{Name: "  delivery p99", Unit: "ms", Bar: twice},
		others:         rig.Others(),
	}
}

func (b *bench) rows() []*rig.Figure {
	byPart := map[string][]*rig.Figure{
		"hang": {&b.hang}, "both": {&b.both},
		"dead":   {&b.deadBeside, &b.deadMemory, &b.deadRevived, &b.deadDrained},
		"tenant": {&b.tenantPublish, &b.tenantDelivery},
	}
	var rows []*rig.Figure
	for _, part := range parts {
		if b.Wants(part) {
			rows = append(rows, byPart[part]...)
		}
	}
	return append(rows, &b.others)
}

func measure(ctx context.Context, o options) (*rig.Result, error) {
	done, err := o.Prepare(ctx, "isolation")
	if err != nil {
		return nil, err
	}
	defer done()
	b := newBench(o)
	b.counters = o.Dir + "/counters"
	if b.sink, err = rig.StartSink(rig.SinkSetup{Counters: b.counters, Classes: map[string]rig.Behaviour{
		"hang": {Hang: 30 * time.Second}, "dead": {Status: 503},
	}}); err != nil {
		return nil, err
	}
	defer b.sink.Close()
	result := &rig.Result{Machine: rig.ThisMachine(o.Dir),
		Setup: fmt.Sprintf("hark serve, %.0f good events/s of 512 B; %d runs of %v", o.rate, o.Runs, o.Steady)}
	for run := range o.Runs {
		if err = b.run(ctx); err != nil {
			err = fmt.Errorf("run %d: %w", run+1, err)
			break
		}
	}
	result.Figures = b.rows()
	return result, err
}

func (b *bench) run(ctx context.Context) error {
	steps := []struct {
		part string
		do   func(context.Context, *testenv.Server) error
	}{{"hang", b.hangs}, {"both", b.hangsToo}, {"dead", b.dead}, {"tenant", b.tenants}}
	for _, step := range steps {
		if !b.Wants(step.part) {
			continue
		}
		if err := b.onNewServer(ctx, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.part, err)
		}
	}
	return nil
}

// onNewServer runs one scenario on a server and a folder of its own.
func (b *bench) onNewServer(ctx context.Context, do func(context.Context, *testenv.Server) error) error {
	b.starts++
	data := fmt.Sprintf("%s/data%d", b.Dir, b.starts)
	defer os.RemoveAll(data)
	s, err := b.Start(ctx, data, "--key-rate=-1")
	if err != nil {
		return err
	}
	defer s.Kill()
	if _, err := b.sink.Reset(); err != nil {
		return err
	}
	return do(ctx, s)
}
