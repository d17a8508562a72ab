package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

// measured is what one load gave.
type measured struct {
	rate    float64 // distinct deliveries per second
	latency *rig.Hist
	publish *rig.Hist
	cpu     float64 // the server's, in seconds per 1000 delivered
	conns   int64   // from the server to the sink, at the end
	held    float64
	lag     time.Duration
	// others is how many cores programs that are not part of the measurement
	// used: a disturbed run tells itself.
	others float64
	// commit and commitMax bound the p99 and the longest of the group commits with
	// their syncs, in seconds.
	commit, commitMax float64
	// debtGrowth is the compaction debt's mean over the last half of the
	// measurement by that over the half before; none if the server tells none.
	debtGrowth []float64
	debtNote   string
}

// lagLimit is how long everything published may take to arrive after the stop
// before it counts as lost.
const lagLimit = 30 * time.Second

// load puts a load on the server, measures its steady part, stops it and waits
// until everything acknowledged has arrived.
func (b *bench) load(ctx context.Context, s *testenv.Server, l rig.Load, steady time.Duration) (measured, error) {
	l.Addr, l.Key, l.Counters, l.Size = s.Setup.Addr, s.Key, b.counters, eventSize
	if _, err := b.sink.Reset(); err != nil {
		return measured{}, err
	}
	p, err := rig.StartPublisher(l)
	if err != nil {
		return measured{}, err
	}
	defer p.Close()
	if err := rig.Sleep(ctx, b.warm); err != nil {
		return measured{}, err
	}
	before, err := rig.Scrape(ctx, s.API())
	if err != nil {
		return measured{}, err
	}
	debt := &debtWatch{api: s.API()}
	if l.Rate > 0 {
		debt = nil // reading metrics is work too
	}
	name := l.Prefix
	if l.Rate > 0 {
		name += fmt.Sprintf("-%.0f", l.Rate)
	}
	profiled := b.ProfileServer(ctx, name, steady)
	m, err := b.steadyState(ctx, p, steady, s.PID(), l.Prefix, debt)
	if err != nil {
		return m, err
	}
	<-profiled
	after, err := rig.Scrape(ctx, s.API())
	if err != nil {
		return m, err
	}
	m.commit = after.Quantile(before, commitMetric, 0.99)
	m.commitMax = after.Quantile(before, commitMetric, 1)
	m.debtGrowth, m.debtNote = debt.growth(), debt.String()
	stopped := time.Now()
	report, err := p.Stop()
	if err != nil {
		return m, err
	}
	if report.Refused > 0 {
		fmt.Fprintf(os.Stderr, "          %d requests refused: %s\n", report.Refused, report.Example)
	}
	m.lag, err = b.drained(ctx, l.Prefix, report.Acked*uint64(max(l.FanOut, 1)), stopped)
	return m, err
}

// bareLoad puts the same load on the bare server.
func (b *bench) bareLoad(ctx context.Context, l rig.Load, steady time.Duration) (measured, error) {
	bare, err := rig.StartBareServer(rig.BareSetup{Sink: b.sink.Addr, Topics: destinations})
	if err != nil {
		return measured{}, err
	}
	defer bare.Close()
	l.Addr, l.Counters, l.Size = bare.Addr, b.counters, eventSize
	if _, err := b.sink.Reset(); err != nil {
		return measured{}, err
	}
	p, err := rig.StartPublisher(l)
	if err != nil {
		return measured{}, err
	}
	defer p.Close()
	if err := rig.Sleep(ctx, min(b.warm, 2*time.Second)); err != nil {
		return measured{}, err
	}
	m, err := b.steadyState(ctx, p, steady, bare.PID(), "bare", nil)
	if err != nil {
		return m, err
	}
	report, err := p.Stop()
	if err == nil && report.Refused > 0 {
		err = fmt.Errorf("the bare server refused %d requests: %s", report.Refused, report.Example)
	}
	return m, err
}

// usage is processor time used so far: by the machine, by the server, by the
// sink and the publisher.
type usage struct{ machine, server, rig float64 }

func usageOf(pid int, state rig.SinkState, report rig.LoadReport) (u usage, err error) {
	if u.server, err = testenv.CPU(pid); err != nil {
		return u, fmt.Errorf("the server has ended: %w", err)
	}
	u.rig = state.CPU + report.CPU
	u.machine, err = testenv.Busy()
	return u, err
}

// steadyState measures the load of p for a time.
func (b *bench) steadyState(ctx context.Context, p *rig.Publisher, steady time.Duration, pid int, class string, debt *debtWatch) (measured, error) {
	var m measured
	report, err := p.Mark()
	if err != nil {
		return m, err
	}
	state, err := b.sink.Mark()
	if err != nil {
		return m, err
	}
	before, err := usageOf(pid, state, report)
	if err != nil {
		return m, err
	}
	start := time.Now()
	if err := debt.watch(ctx, steady); err != nil {
		return m, err
	}
	if state, err = b.sink.Report(); err != nil {
		return m, err
	}
	took := time.Since(start).Seconds()
	if report, err = p.Report(); err != nil {
		return m, err
	}
	after, err := usageOf(pid, state, report)
	if err != nil {
		return m, err
	}
	seen := state.Classes[class]
	if seen.Unsigned > 0 {
		return m, fmt.Errorf("%d requests came without a signature", seen.Unsigned)
	}
	if seen.Delivered == 0 {
		return m, fmt.Errorf("nothing was delivered in %.0f s; %d published, refused: %d %s", took, report.Acked, report.Refused, report.Example)
	}
	m.rate = float64(seen.Delivered) / took
	m.cpu = (after.server - before.server) / float64(seen.Delivered) * 1000
	m.others = max(0, after.machine-before.machine-(after.server-before.server)-(after.rig-before.rig)) / took
	m.latency, m.publish, m.held, m.conns = seen.Latency, report.Latency, report.Held, state.Conns
	b.others.Ours = append(b.others.Ours, m.others)
	return m, nil
}

// drained waits until the sink has seen want distinct deliveries.
func (b *bench) drained(ctx context.Context, class string, want uint64, since time.Time) (time.Duration, error) {
	for {
		state, err := b.sink.Report()
		if err != nil {
			return 0, err
		}
		got, lag := state.Classes[class].Distinct, time.Since(since)
		switch {
		case got == want:
			return lag, nil
		case got > want && lag > 2*time.Second: // an answer may have been lost with its connection
			return lag, fmt.Errorf("%d deliveries arrived of %d published", got, want)
		case lag > lagLimit:
			return lag, fmt.Errorf("%d of %d deliveries have not arrived %v after the stop", want-got, want, lagLimit)
		}
		if err := rig.Sleep(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// clientLoop measures the bare client loop.
func (b *bench) clientLoop(ctx context.Context, conns int, steady time.Duration) (float64, error) {
	if _, err := b.sink.Reset(); err != nil {
		return 0, err
	}
	loop, err := rig.StartClientLoop(rig.BareSetup{Sink: b.sink.Addr, Topics: destinations, Conns: conns, Size: eventSize})
	if err != nil {
		return 0, err
	}
	defer loop.Close()
	if err := rig.Sleep(ctx, min(b.warm, 2*time.Second)); err != nil {
		return 0, err
	}
	if _, err := b.sink.Mark(); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := rig.Sleep(ctx, steady); err != nil {
		return 0, err
	}
	state, err := b.sink.Report()
	return float64(state.Classes["bare"].Delivered) / time.Since(start).Seconds(), err
}

// addDestinations makes n webhook destinations of one class. Topic i of the
// class goes to the each destinations whose number is i modulo n/each.
func (b *bench) addDestinations(ctx context.Context, s *testenv.Server, class string, n, each int) error {
	return rig.AddDestinations(ctx, s.API(), n, func(i int) testenv.Destination {
		return testenv.Webhook(fmt.Sprintf("http://%s/%s/%d", b.sink.Addr, class, i), fmt.Sprintf("%s.%05d", class, i%(n/each)))
	})
}

// idleDestinations measures memory with many destinations that get nothing.
func (b *bench) idleDestinations(ctx context.Context) error {
	s, err := b.start(ctx, b.Runs)
	if err != nil {
		return err
	}
	defer s.Kill()
	b.say("%d idle destinations", b.idle)
	start := time.Now()
	if err := b.addDestinations(ctx, s, "idle", b.idle, 1); err != nil {
		return err
	}
	made := time.Since(start)
	if err := rig.Sleep(ctx, min(b.rest, 20*time.Second)); err != nil {
		return err
	}
	b.rssIdle.Note = fmt.Sprintf("made in %.0f s", made.Seconds())
	return b.memory(s, &b.rssIdle)
}

// restart fills a folder, kills the server under load and starts it again.
func (b *bench) restart(ctx context.Context) error {
	s, err := b.start(ctx, b.Runs+1)
	if err != nil {
		return err
	}
	defer func() { s.Kill() }()
	if err := b.addDestinations(ctx, s, "stored", destinations, 1); err != nil {
		return err
	}
	b.say("storing %.1f GiB", float64(b.stored)/(1<<30))
	p, err := rig.StartPublisher(rig.Load{Counters: b.counters, Addr: s.Setup.Addr, Key: s.Key, Prefix: "heap", Topics: 1000,
		Size: 4 << 10, Batch: batchSize, Conns: batchConns})
	if err != nil {
		return err
	}
	defer p.Close()
	for begin := time.Now(); ; {
		metrics, err := rig.Scrape(ctx, s.API())
		if err != nil {
			return err
		}
		if metrics["hark_log_bytes_total"] >= float64(b.stored) {
			b.ready.Note = fmt.Sprintf("stored in %.0f s", time.Since(begin).Seconds())
			break
		}
		if err := rig.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if err := s.Kill(); err != nil {
		return err
	}
	again, err := s.Again(ctx)
	if err != nil {
		return err
	}
	s = again
	b.ready.Ours = append(b.ready.Ours, s.Took.Seconds())
	return nil
}

const commitMetric = "hark_log_commit_seconds"
