package main

import (
	"context"
	"fmt"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

const (
	streams = 10_000
	singles = 25
)

// one publishes single events to 10,000 streams: from the publish to the last receipt. The
// bound writes the same frame to each hijacked connection.
func (b *bench) one(ctx context.Context) error {
	name := fmt.Sprintf("one event to %s streams, last receipt", rig.Number(streams))
	if err := b.pair(ctx, rig.BareLive{Mode: rig.LiveEach}, func(t *target) error {
		return b.last(ctx, t, name, rig.Bar{RatioAtMost: 1.3}, rig.Subscribers{Count: streams, Topics: 1, Dense: true})
	}); err != nil {
		return err
	}
	return b.pairTLS(ctx, func(t *target) error {
		return b.last(ctx, t, fmt.Sprintf("  over TLS, %s streams", rig.Number(parkedTLS)), rig.Bar{}, rig.Subscribers{Count: parkedTLS, Topics: 1, Dense: true})
	})
}

// last connects subscribers, publishes single events and notes the median time from a publish to its last receipt.
func (b *bench) last(ctx context.Context, t *target, name string, bar rig.Bar, setup rig.Subscribers) error {
	before, err := testenv.RSS(t.pid)
	if err != nil {
		return err
	}
	subs, err := b.subscribers(t, setup)
	if err != nil {
		return err
	}
	defer subs.Close()
	after, err := testenv.RSS(t.pid)
	if err != nil {
		return err
	}
	one, err := rig.NewOneByOne(b.load(t, rig.Load{}))
	if err != nil {
		return err
	}
	defer one.Close()
	if err := rig.Sleep(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	profiled := b.profileServer(ctx, t, singles*250*time.Millisecond)
	var last, answers []float64
	for i := range singles + 1 {
		sent, answered, err := one.Publish()
		if err != nil {
			return err
		}
		r, err := b.arrived(subs, uint64(setup.Count)*uint64(i+1))
		if err != nil {
			return err
		}
		if i > 0 { // the first one warms up
			last = append(last, float64(r.LastAt-sent.UnixNano())/1e6)
			answers = append(answers, rig.Milliseconds(answered.Sub(sent)))
		}
		if err := rig.Sleep(ctx, 250*time.Millisecond-time.Since(sent)); err != nil {
			return err
		}
	}
	<-profiled
	b.note(t, name, "ms", bar, rig.Median(last))
	if !t.bare {
		b.figure(name, "", bar).Note = fmt.Sprintf("answered after %s ms; memory when connected %s KB each", rig.Number(rig.Median(answers)),
			rig.Number(float64(after-before)/1024/float64(setup.Count)))
	}
	return nil
}

// arrived waits until so many events have been received in all.
func (b *bench) arrived(subs *rig.SubscriberProcess, want uint64) (rig.SubscriberReport, error) {
	for start := time.Now(); b.counters.Delivered.Load() < want && time.Since(start) < 30*time.Second; {
		time.Sleep(time.Millisecond)
	}
	return subs.Until(time.Second, func(r rig.SubscriberReport) bool { return b.counters.Delivered.Load() >= want })
}

// saturate has 16 publishers and 10,000 streams, and at most 32 events under way. The bound joins
// what waits into one write for each connection.
func (b *bench) saturate(ctx context.Context) error {
	return b.pair(ctx, rig.BareLive{Mode: rig.LiveCoalesce}, func(t *target) error {
		subs, err := b.subscribers(t, rig.Subscribers{Count: streams, Topics: 1, Dense: true, Sample: 16})
		if err != nil {
			return err
		}
		defer subs.Close()
		m, err := b.flow(ctx, t, subs, rig.Load{Conns: 16, FanOut: streams, Window: 32 * streams}, streams)
		if err != nil {
			return err
		}
		b.note(t, fmt.Sprintf("saturation: 16 publishers, %s streams", rig.Number(streams)), "deliveries/s", rig.Bar{RatioAtLeast: 0.5}, m.received)
		b.note(t, "  publish to receipt p99", "ms", rig.Bar{}, m.p99)
		b.note(t, "  server processor", "µs per delivery", rig.Bar{}, m.cpu)
		return nil
	})
}

// topics has 10,000 streams on as many topics, and 64 publishers that jump between them. The bound
// appends each to a file and syncs it, in groups, before it writes.
func (b *bench) topics(ctx context.Context) error {
	return b.pair(ctx, rig.BareLive{Mode: rig.LiveSynced}, func(t *target) error {
		subs, err := b.subscribers(t, rig.Subscribers{Count: streams, Topics: streams})
		if err != nil {
			return err
		}
		defer subs.Close()
		m, err := b.flow(ctx, t, subs, rig.Load{Conns: 64, Topics: streams, Shuffle: true}, 1)
		if err != nil {
			return err
		}
		b.note(t, fmt.Sprintf("%s streams on as many topics, 64 publishers", rig.Number(streams)), "publishes/s", rig.Bar{RatioAtLeast: 0.5}, m.published)
		b.note(t, "  publish to receipt p99 there", "ms", rig.Bar{AtMost: 15}, m.p99)
		b.note(t, "  server processor there", "µs per publish", rig.Bar{}, m.cpu)
		return nil
	})
}

// paced sends 1,000 events a second to 100 subscribers.
func (b *bench) paced(ctx context.Context) error {
	at := func(name string, bar rig.Bar) func(*target) error {
		return func(t *target) error {
			subs, err := b.subscribers(t, rig.Subscribers{Count: 100, Topics: 1, Dense: true})
			if err != nil {
				return err
			}
			defer subs.Close()
			m, err := b.flow(ctx, t, subs, pacedLoad, 100)
			if err != nil {
				return err
			}
			b.note(t, name, "ms", bar, m.p99)
			if !t.bare {
				b.figure(name, "", bar).Note = fmt.Sprintf("p50 %s ms", rig.Number(m.p50))
			}
			return nil
		}
	}
	if err := b.pair(ctx, rig.BareLive{Mode: rig.LiveEach}, at("1,000 events/s to 100 subscribers, receipt p99", rig.Bar{AtMost: 10})); err != nil {
		return err
	}
	return b.pairTLS(ctx, at("  over TLS", rig.Bar{}))
}

var pacedLoad = rig.Load{Conns: 16, Rate: 1000}

// flowed is what a load gave.
type flowed struct {
	received, published float64 // per second
	p50, p99            float64 // from publish to receipt, in ms
	cpu                 float64 // the server's, in µs, for each receipt
}

// flow puts a load on the server, measures its steady part, stops it and waits until every event has
// come to each of the subscribers that it is for.
func (b *bench) flow(ctx context.Context, t *target, subs *rig.SubscriberProcess, l rig.Load, each uint64) (m flowed, err error) {
	p, err := rig.StartPublisher(b.load(t, l))
	if err != nil {
		return m, err
	}
	defer p.Close()
	if err := rig.Sleep(ctx, 2*time.Second); err != nil {
		return m, err
	}
	m, err = b.steadyFlow(ctx, t, subs, p)
	if err != nil {
		return m, err
	}
	report, err := p.Stop()
	if err != nil {
		return m, err
	}
	if report.Refused > 0 {
		return m, fmt.Errorf("%d requests were refused: %s", report.Refused, report.Example)
	}
	r, err := b.arrived(subs, b.counters.Published.Load()*each)
	if err != nil {
		return m, fmt.Errorf("after %d events: %w", report.Acked, err)
	}
	if got := b.counters.Delivered.Load(); got != b.counters.Published.Load()*each || each > 1 && r.Least != r.Most {
		return m, fmt.Errorf("%d were received of %d, each subscriber %d to %d", got, b.counters.Published.Load()*each, r.Least, r.Most)
	}
	return m, nil
}

func (b *bench) steadyFlow(ctx context.Context, t *target, subs *rig.SubscriberProcess, p *rig.Publisher) (m flowed, err error) {
	profiled := b.profileServer(ctx, t, b.Steady)
	pub, err := p.Mark()
	if err != nil {
		return m, err
	}
	sub, err := subs.Mark()
	if err != nil {
		return m, err
	}
	server, err := testenv.CPU(t.pid)
	if err != nil {
		return m, err
	}
	busy, err := testenv.Busy()
	if err != nil {
		return m, err
	}
	start := time.Now()
	if err := rig.Sleep(ctx, b.Steady); err != nil {
		return m, err
	}
	subNow, err := subs.Report()
	if err != nil {
		return m, err
	}
	took := time.Since(start).Seconds()
	pubNow, err := p.Report()
	if err != nil {
		return m, err
	}
	serverNow, err := testenv.CPU(t.pid)
	if err != nil {
		return m, fmt.Errorf("the server has ended: %w", err)
	}
	busyNow, err := testenv.Busy()
	if err != nil {
		return m, err
	}
	<-profiled
	if subNow.Events == 0 {
		return m, fmt.Errorf("nothing was received in %.0f s; %d published, %d refused: %s", took, pubNow.Acked, pubNow.Refused, pubNow.Example)
	}
	m.received, m.published = float64(subNow.Events)/took, float64(pubNow.Marked)/took
	m.p50, m.p99 = rig.Milliseconds(subNow.Latency.Quantile(0.5)), rig.Milliseconds(subNow.Latency.Quantile(0.99))
	m.cpu = (serverNow - server) / float64(subNow.Events) * 1e6
	b.others.Ours = append(b.others.Ours, max(0, (busyNow-busy-(serverNow-server)-(subNow.CPU-sub.CPU)-(pubNow.CPU-pub.CPU))/took))
	rig.Say("          processor: server %.2f, subscribers %.2f, publisher %.2f cores", (serverNow-server)/took, (subNow.CPU-sub.CPU)/took, (pubNow.CPU-pub.CPU)/took)
	return m, nil
}
