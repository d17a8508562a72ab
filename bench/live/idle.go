package main

import (
	"context"
	"fmt"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

const (
	parked    = 15_000
	parkedTLS = 5_000
	// quiet is longer than two keep-alives.
	quiet = 42 * time.Second
)

// idle parks streams and lets them be: what each costs in memory, and all of them in processor
// time, with their keep-alives. The bound is a plain net/http handler, which parks a goroutine with its buffers.
func (b *bench) idle(ctx context.Context) error {
	rss := func(t *target, name string, count int, bar rig.Bar, cpu bool) error {
		per, used, err := b.park(ctx, t, count, cpu)
		if err != nil {
			return err
		}
		b.note(t, name, "KB each", bar, per)
		if cpu {
			b.note(t, fmt.Sprintf("  processor there, keep-alives, %v", quiet), "% of a core", rig.Bar{AtMost: 2}, used)
		}
		return nil
	}
	name := fmt.Sprintf("memory of a parked SSE stream, %s of them", rig.Number(parked))
	t, err := b.bareLive(rig.BareLive{Mode: rig.LiveEach})
	if err != nil {
		return err
	}
	per, _, err := b.park(ctx, t, parked, false)
	t.close()
	if err != nil {
		return err
	}
	if err := b.pair(ctx, rig.BareLive{Mode: rig.LivePlain}, func(t *target) error {
		return rss(t, name, parked, rig.Bar{AtMost: 4}, true)
	}); err != nil {
		return err
	}
	b.figure(name, "", rig.Bar{}).Note = fmt.Sprintf("bound: a plain net/http handler; hijacked and nothing else: %s KB", rig.Number(per))
	return b.pairTLS(ctx, func(t *target) error {
		return rss(t, fmt.Sprintf("  over TLS, %s of them", rig.Number(parkedTLS)), parkedTLS, rig.Bar{}, false)
	})
}

// park connects streams and returns the growth of the server's memory for each, in KB, and the
// share of a core that it uses while nothing happens, in percent.
func (b *bench) park(ctx context.Context, t *target, count int, cpu bool) (per, used float64, err error) {
	before, err := testenv.RSS(t.pid)
	if err != nil {
		return 0, 0, err
	}
	subs, err := b.subscribers(t, rig.Subscribers{Count: count, Topics: 1})
	if err != nil {
		return 0, 0, err
	}
	defer subs.Close()
	if err := rig.Sleep(ctx, 2*time.Second); err != nil {
		return 0, 0, err
	}
	after, err := testenv.RSS(t.pid)
	if err != nil {
		return 0, 0, err
	}
	per = float64(after-before) / 1024 / float64(count)
	if !cpu {
		return per, 0, nil
	}
	window := quiet
	if b.Short {
		window = 21 * time.Second
	}
	if _, err := subs.Mark(); err != nil {
		return 0, 0, err
	}
	start, err := testenv.CPU(t.pid)
	if err != nil {
		return 0, 0, err
	}
	profiled := b.profileServer(ctx, t, window)
	if err := rig.Sleep(ctx, window); err != nil {
		return 0, 0, err
	}
	<-profiled
	end, err := testenv.CPU(t.pid)
	if err != nil {
		return 0, 0, err
	}
	r, err := subs.Report()
	if err != nil {
		return 0, 0, err
	}
	// Every 15 to 20 s of silence: a server that sends none is idle for the wrong reason.
	if least := uint64(count) * uint64(window/(20*time.Second)); r.Comments < least || r.Lost > 0 || r.Bad > 0 {
		return 0, 0, fmt.Errorf("%d keep-alives came in %v to %d streams, want %d; %d streams ended: %s %s", r.Comments, window, count, least, r.Lost, r.Why, r.Example)
	}
	return per, (end - start) / window.Seconds() * 100, nil
}
