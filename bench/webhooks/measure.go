package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

// destinations is how many share the load: each event goes to one of them.
const (
	destinations = 100
	fanOut       = 10
	eventSize    = 512
	batchSize    = 100
	batchConns   = 4
	megabyte     = 1 << 20
)

// bench is one run of this program.
type bench struct {
	options
	*figures
	sink     *rig.Sink
	counters string
}

func measure(ctx context.Context, o options) (*rig.Result, error) {
	done, err := o.Prepare(ctx, "webhooks")
	if err != nil {
		return nil, err
	}
	defer done()
	dir := o.Dir
	b := &bench{options: o, figures: newFigures(o), counters: dir + "/counters"}
	if b.sink, err = rig.StartSink(rig.SinkSetup{Counters: b.counters}); err != nil {
		return nil, err
	}
	defer b.sink.Close()
	result := &rig.Result{Machine: rig.ThisMachine(dir), Setup: o.describe()}
	for run := range o.Runs {
		last := run == o.Runs-1
		if err = b.run(ctx, run, last); err != nil {
			err = fmt.Errorf("run %d: %w", run+1, err)
			break
		}
	}
	if err == nil && o.Wants("idle") {
		err = b.idleDestinations(ctx)
	}
	if err == nil && o.Wants("restart") {
		err = b.restart(ctx)
	}
	result.Figures = b.rows(o)
	return result, err
}

func (o *options) describe() string {
	return fmt.Sprintf("hark serve, %d destinations, %d B of JSON, synced, keys and attempts on; %d runs of %v, window %d",
		destinations, eventSize, o.Runs, o.Steady, o.window)
}

// run measures every chosen part once, ours and its bound in turn.
func (b *bench) run(ctx context.Context, run int, last bool) error {
	s, err := b.start(ctx, run)
	if err != nil {
		return err
	}
	defer func() { s.Kill() }()
	steps := []struct {
		part string
		do   func(context.Context, *testenv.Server) error
	}{
		// Latencies first: what a disk still writes back of a load is not theirs.
		{"latency", b.latencies}, {"single", b.singles}, {"batch", b.batches}, {"fanout", b.fanouts},
	}
	for _, step := range steps {
		if !b.Wants(step.part) {
			continue
		}
		if err := step.do(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", step.part, err)
		}
	}
	if last && b.Wants("rest") {
		b.say("resting %v", b.rest)
		if err := rig.Sleep(ctx, b.rest); err != nil {
			return err
		}
		return b.memory(s, &b.rssRest)
	}
	return nil
}

// start runs a server on a new folder, and measures its memory before any load.
func (b *bench) start(ctx context.Context, run int) (*testenv.Server, error) {
	data := fmt.Sprintf("%s/run%d", b.Dir, run)
	if run > 0 {
		os.RemoveAll(fmt.Sprintf("%s/run%d", b.Dir, run-1))
	}
	s, err := b.Start(ctx, data, "--key-rate=-1")
	if err != nil {
		return nil, err
	}
	if err := rig.Sleep(ctx, 2*time.Second); err != nil {
		return s, err
	}
	return s, b.memory(s, &b.rssStart)
}

func (b *bench) memory(s *testenv.Server, f *rig.Figure) error {
	rss, err := testenv.RSS(s.PID())
	f.Ours = append(f.Ours, float64(rss)/megabyte)
	return err
}

// singles: one event per request, at saturation.
func (b *bench) singles(ctx context.Context, s *testenv.Server) error {
	if err := b.addDestinations(ctx, s, "single", destinations, 1); err != nil {
		return err
	}
	b.say("one event per request, hark")
	m, err := b.load(ctx, s, rig.Load{Prefix: "single", Topics: destinations, Batch: 1, Conns: b.conns, Window: b.window}, b.Steady)
	if err != nil {
		return err
	}
	b.cpuSaturated.Ours = append(b.cpuSaturated.Ours, m.cpu)
	b.single.Ours = append(b.single.Ours, m.rate)
	b.singleLag.Ours = append(b.singleLag.Ours, m.lag.Seconds())
	b.debt.Ours, b.debt.Note = append(b.debt.Ours, m.debtGrowth...), m.debtNote
	b.single.Note = fmt.Sprintf("%s; publish p99 %.1f ms, commits p99 ≤ %.1f, max ≤ %.0f ms, held back %.0f %%",
		boundNote, rig.Milliseconds(m.publish.Quantile(0.99)), 1000*m.commit, 1000*m.commitMax, 100*m.held)
	b.say("one event per request, bare")
	bound, err := b.bareLoad(ctx, rig.Load{Topics: destinations, Batch: 1, Conns: b.conns, Bare: true}, b.boundTime())
	b.single.Bound = append(b.single.Bound, bound.rate)
	return err
}

const boundNote = "bound: publisher → bare net/http server → sink"

// batches of 100 per request; the bound is a client loop with as many connections as ours had.
func (b *bench) batches(ctx context.Context, s *testenv.Server) error {
	if err := b.addDestinations(ctx, s, "batch", destinations, 1); err != nil {
		return err
	}
	b.say("batches of %d, hark", batchSize)
	m, err := b.load(ctx, s, rig.Load{Prefix: "batch", Topics: destinations, Batch: batchSize, Conns: batchConns,
		Window: b.window}, b.Steady)
	if err != nil {
		return err
	}
	b.batch.Ours = append(b.batch.Ours, m.rate)
	b.batchLag.Ours = append(b.batchLag.Ours, m.lag.Seconds())
	conns := int(max(m.conns, 1))
	b.batch.Note = fmt.Sprintf("bound: net/http client loop on %d connections; %.2f s per 1000", conns, m.cpu)
	b.say("client loop on %d connections", conns)
	bound, err := b.clientLoop(ctx, conns, b.boundTime())
	b.batch.Bound = append(b.batch.Bound, bound)
	return err
}

// latencies at fixed rates, ours and the bare program's.
func (b *bench) latencies(ctx context.Context, s *testenv.Server) error {
	if err := b.addDestinations(ctx, s, "calm", destinations, 1); err != nil {
		return err
	}
	for _, step := range []struct {
		rate float64
		to   *rig.Figure
		cpu  *rig.Figure
	}{{200, &b.calm, &b.cpuCalm}, {1000, &b.brisk, nil}} {
		load := rig.Load{Prefix: "calm", Topics: destinations, Batch: 1, Conns: 32, Rate: step.rate}
		b.say("%.0f/s, hark", step.rate)
		m, err := b.load(ctx, s, load, b.boundTime())
		if err != nil {
			return err
		}
		step.to.Ours = append(step.to.Ours, rig.Milliseconds(m.latency.Quantile(0.99)))
		step.to.Note = fmt.Sprintf("p50 %.2f ms; held %.0f/s; commits p99 ≤ %.1f, max ≤ %.0f ms", rig.Milliseconds(m.latency.Quantile(0.5)), m.rate, 1000*m.commit, 1000*m.commitMax)
		if step.cpu != nil {
			step.cpu.Ours = append(step.cpu.Ours, m.cpu)
		}
		load.Bare = true
		b.say("%.0f/s, bare", step.rate)
		bound, err := b.bareLoad(ctx, load, b.boundTime())
		if err != nil {
			return err
		}
		step.to.Bound = append(step.to.Bound, rig.Milliseconds(bound.latency.Quantile(0.99)))
		step.to.Note += fmt.Sprintf("; bare p50 %.2f ms", rig.Milliseconds(bound.latency.Quantile(0.5)))
	}
	return nil
}

// fanouts: each event goes to ten destinations.
func (b *bench) fanouts(ctx context.Context, s *testenv.Server) error {
	if err := b.addDestinations(ctx, s, "fan", destinations, fanOut); err != nil {
		return err
	}
	b.say("fan-out to %d, hark", fanOut)
	m, err := b.load(ctx, s, rig.Load{Prefix: "fan", Topics: destinations / fanOut, Batch: 1, Conns: b.conns,
		Window: b.window, FanOut: fanOut}, b.boundTime())
	if err != nil {
		return err
	}
	b.fanout.Ours = append(b.fanout.Ours, m.rate)
	b.fanoutLag.Ours = append(b.fanoutLag.Ours, m.lag.Seconds())
	b.fanout.Note = fmt.Sprintf("%.2f s of processor per 1000", m.cpu)
	return nil
}

// boundTime is shorter: bounds have no state that ages, and latencies need few samples.
func (b *bench) boundTime() time.Duration { return max(b.Steady/3, min(b.Steady, 5*time.Second)) }

func (b *bench) say(format string, args ...any) { rig.Say(format, args...) }
