package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
	"golang.org/x/sys/unix"
)

const resuming = 1000

// resume has 1,000 clients come back at once, each with 2,000 missed events, and with 20,000. The
// bound sends the same bytes to the same clients from memory.
func (b *bench) resume(ctx context.Context) error {
	few, many := 2000, 20_000
	name := func(events int) string {
		return fmt.Sprintf("%s clients resume, %s missed events each", rig.Number(resuming), rig.Number(float64(events)))
	}
	fewBar, manyBar := rig.Bar{AtMost: 3, RatioAtMost: 1.5}, rig.Bar{}
	for _, events := range []int{few, many} {
		t, err := b.bareLive(rig.BareLive{Mode: rig.LiveReplay, Events: events, Size: eventSize})
		if err != nil {
			return err
		}
		took, err := b.comeBack(ctx, t, rig.Subscribers{Count: resuming, Topics: 1, Dense: true, Want: events})
		t.close()
		if err != nil {
			return fmt.Errorf("bare, %d events: %w", events, err)
		}
		b.bound(name(events), "s", pickBar(events == few, fewBar, manyBar), took)
	}
	return b.onHark(ctx, func(t *target) error {
		after, err := b.publishAll(ctx, t, few, 1)
		if err != nil {
			return err
		}
		setup := rig.Subscribers{Count: resuming, Topics: 1, Dense: true, Want: few, Header: t.header + "Last-Event-ID: " + after + "\r\n"}
		took, err := b.comeBack(ctx, t, setup)
		if err != nil {
			return fmt.Errorf("%d events: %w", few, err)
		}
		b.ours(name(few), "s", fewBar, took)
		if _, err := b.publishAll(ctx, t, many, 1); err != nil {
			return err
		}
		// The marker of the second batch is an event of another topic: ids are not dense any more.
		setup.Want, setup.Dense = few+many, false
		peak := watchMemory(t)
		took, err = b.comeBack(ctx, t, setup)
		growth := peak()
		if err != nil {
			return fmt.Errorf("%d events: %w", few+many, err)
		}
		b.ours(name(many), "s", manyBar, took*float64(many)/float64(few+many)).Note = "to the end, in order, once"
		b.ours("  memory grows by", "MB", rig.Bar{AtMost: 200}, growth)
		return nil
	})
}

func pickBar(first bool, a, b rig.Bar) rig.Bar {
	if first {
		return a
	}
	return b
}

// comeBack connects subscribers, all at once, and returns the seconds until the last has what it wants.
func (b *bench) comeBack(ctx context.Context, t *target, setup rig.Subscribers) (float64, error) {
	setup.Pending, setup.Counters = setup.Count, b.path+"-resume"
	setup.Sample = 1 << 30
	subs, err := b.newSubscribers(t, setup)
	if err != nil {
		return 0, err
	}
	defer subs.Close()
	profiled := b.profileServer(ctx, t, 5*time.Second)
	if err := subs.Connect(); err != nil {
		return 0, err
	}
	r, err := subs.Until(110*time.Second, func(r rig.SubscriberReport) bool { return r.Wanted == setup.Count })
	if err != nil {
		return 0, err
	}
	<-profiled
	if r, err = subs.Report(); err == nil && (r.Bad > 0 || r.Least != r.Most) {
		err = fmt.Errorf("each received %d to %d of %d events; %s", r.Least, r.Most, setup.Want, r.Example)
	}
	return float64(r.Done-r.Started) / 1e9, err
}

// watchMemory samples the server's memory, until the function it returns tells by how many MB it grew at most.
func watchMemory(t *target) func() float64 {
	before, err := testenv.RSS(t.pid)
	var peak atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if rss, err := testenv.RSS(t.pid); err == nil {
				peak.Store(max(peak.Load(), rss))
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-stop:
				return
			}
		}
	}()
	return func() float64 {
		close(stop)
		<-done
		if err != nil {
			return 1e9
		}
		return float64(peak.Load()-before) / 1e6
	}
}

const (
	spreadEvents = 1_000_000
	spreadTopics = 200
	spreadEach   = spreadEvents / spreadTopics
	spreadBurst  = 100
)

// spread resumes on one topic, whose 5,000 events lie evenly among 1,000,000: alone, and 100 such
// clients, each of another topic, beside a live load.
func (b *bench) spread(ctx context.Context) error {
	repeats := rig.Pick(0, b.Short, 5, 2)
	name := fmt.Sprintf("%s missed events of one topic among %s, warm", rig.Number(spreadEach), rig.Number(spreadEvents))
	bar := rig.Bar{AtMost: 100}
	t, err := b.bareLive(rig.BareLive{Mode: rig.LiveReplay, Events: spreadEach, Size: eventSize})
	if err != nil {
		return err
	}
	for range repeats {
		took, err := b.comeBack(ctx, t, rig.Subscribers{Count: 1, Topics: 1, Dense: true, Want: spreadEach})
		if err != nil {
			t.close()
			return fmt.Errorf("bare: %w", err)
		}
		b.bound(name, "ms", bar, took*1000)
	}
	t.close()
	return b.onHark(ctx, func(t *target) error {
		after, err := b.publishAll(ctx, t, spreadEvents, spreadTopics)
		if err != nil {
			return err
		}
		alone := rig.Subscribers{Count: 1, Topics: spreadTopics, First: 17, Want: spreadEach, Header: t.header + "Last-Event-ID: " + after + "\r\n"}
		// The disk still writes what was just stored, which delays every sync.
		unix.Sync()
		if err := rig.Sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		// The store is warm; each reads another topic, whose frames nobody has asked for yet.
		for i := range repeats {
			alone.First = i
			took, err := b.comeBack(ctx, t, alone)
			if err != nil {
				return err
			}
			b.ours(name, "ms", bar, took*1000)
		}
		again, err := b.comeBack(ctx, t, alone)
		if err != nil {
			return err
		}
		b.figure(name, "", bar).Note = fmt.Sprintf("the same topic once more: %s ms", rig.Number(again*1000))
		burst := alone
		burst.Count, burst.First = spreadBurst, 50
		return b.besideLive(ctx, t, burst, repeats)
	})
}

// besideLive measures a live load's p99 alone, and while clients resume.
func (b *bench) besideLive(ctx context.Context, t *target, burst rig.Subscribers, repeats int) error {
	// Live events are of a topic beyond those that are resumed.
	subs, err := b.subscribers(t, rig.Subscribers{Count: 100, Topics: 1_000_000, First: 90_000, Any: true, Target: "/v1/stream?topic=" + prefix + ".now.00000"})
	if err != nil {
		return err
	}
	defer subs.Close()
	l := b.load(t, pacedLoad)
	l.Prefix = prefix + ".now"
	p, err := rig.StartPublisher(l)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := rig.Sleep(ctx, time.Second); err != nil {
		return err
	}
	var with, without rig.Hist
	name := fmt.Sprintf("  live p99 while %d such resume at once", spreadBurst)
	longest := 0.0
	for range repeats {
		// Alone first: what a burst delays is still arriving for a while after it.
		if err := rig.Sleep(ctx, 3*time.Second); err != nil {
			return err
		}
		if _, err := subs.Mark(); err != nil {
			return err
		}
		if err := rig.Sleep(ctx, 3*time.Second); err != nil {
			return err
		}
		alone, err := subs.Report()
		if err != nil {
			return err
		}
		without.Merge(alone.Latency)
		if _, err := subs.Mark(); err != nil {
			return err
		}
		took, err := b.comeBack(ctx, t, burst)
		if err != nil {
			return fmt.Errorf("%d at once: %w", spreadBurst, err)
		}
		longest = max(longest, took)
		r, err := subs.Report()
		if err != nil {
			return err
		}
		if r.Bad > 0 || r.Lost > 0 {
			return fmt.Errorf("live: %d wrong, %d lost: %s %s", r.Bad, r.Lost, r.Example, r.Why)
		}
		with.Merge(r.Latency)
	}
	bar := rig.Bar{AtMost: 10, RatioAtMost: 1.5}
	b.ours(name, "ms", bar, rig.Milliseconds(with.Quantile(0.99)))
	b.bound(name, "ms", bar, rig.Milliseconds(without.Quantile(0.99)))
	b.figure(name, "", bar).Note = fmt.Sprintf("bound: without them; the longest took %s ms", rig.Number(longest*1000))
	return nil
}
