package main

import (
	"context"
	"fmt"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

// good is the load whose p99 counts; it goes to the sink's class of this name.
const good = "good"

// tails are the p99s of the good load.
type tails struct{ publish, delivery float64 }

func (b *bench) goodLoad(s *testenv.Server) rig.Load {
	return rig.Load{Counters: b.counters, Addr: s.Setup.Addr, Key: s.Key, Prefix: good, Topics: 1, Size: 512, Batch: 1,
		Conns: 16, Rate: b.rate}
}

// measureGood publishes the load and measures its steady part.
func (b *bench) measureGood(ctx context.Context, s *testenv.Server, load rig.Load) (t tails, err error) {
	p, err := rig.StartPublisher(load)
	if err != nil {
		return t, err
	}
	defer p.Stop()
	if err := rig.Sleep(ctx, 2*time.Second); err != nil {
		return t, err
	}
	before, err := p.Mark()
	if err != nil {
		return t, err
	}
	state, err := b.sink.Mark()
	if err != nil {
		return t, err
	}
	machine, server, start := b.usage(s)
	if err := rig.Sleep(ctx, b.Steady); err != nil {
		return t, err
	}
	report, err := p.Report()
	if err != nil {
		return t, err
	}
	rigCPU := report.CPU - before.CPU - state.CPU
	if state, err = b.sink.Report(); err != nil {
		return t, err
	}
	seen := state.Classes[good]
	if report.Refused > 0 || seen.Delivered == 0 || float64(seen.Delivered) < 0.9*float64(report.Marked) {
		return t, fmt.Errorf("of %d good events %d arrived in time; %d publishes refused: %s",
			report.Marked, seen.Delivered, report.Refused, report.Example)
	}
	machineNow, serverNow, now := b.usage(s)
	b.others.Ours = append(b.others.Ours, max(0, machineNow-machine-(serverNow-server)-rigCPU-state.CPU)/now.Sub(start).Seconds())
	return tails{rig.Milliseconds(report.Latency.Quantile(0.99)), rig.Milliseconds(seen.Latency.Quantile(0.99))}, nil
}

func (b *bench) usage(s *testenv.Server) (machine, server float64, at time.Time) {
	machine, _ = testenv.Busy()
	server, _ = testenv.CPU(s.PID())
	return machine, server, time.Now()
}

// to makes a destination at the sink.
func (b *bench) to(ctx context.Context, api testenv.API, path string, topics ...string) error {
	_, err := api.AddDestination(ctx, testenv.Webhook("http://"+b.sink.Addr+path, topics...))
	return err
}

// hangs: half of all traffic goes to an endpoint that hangs.
func (b *bench) hangs(ctx context.Context, s *testenv.Server) error {
	if err := b.to(ctx, s.API(), "/good/1", good+".>"); err != nil {
		return err
	}
	rig.Say("alone")
	alone, err := b.measureGood(ctx, s, b.goodLoad(s))
	if err != nil {
		return err
	}
	if err := b.to(ctx, s.API(), "/hang/1", "bad.>"); err != nil {
		return err
	}
	bad := b.goodLoad(s)
	bad.Prefix = "bad"
	rig.Say("half of the traffic hangs")
	beside, err := b.beside(ctx, s, b.goodLoad(s), bad)
	b.hang.Ours, b.hang.Bound = append(b.hang.Ours, beside.delivery), append(b.hang.Bound, alone.delivery)
	return err
}

// beside measures a load beside others.
func (b *bench) beside(ctx context.Context, s *testenv.Server, load rig.Load, others ...rig.Load) (tails, error) {
	for _, other := range others {
		p, err := rig.StartPublisher(other)
		if err != nil {
			return tails{}, err
		}
		defer p.Stop()
	}
	if err := rig.Sleep(ctx, 3*time.Second); err != nil {
		return tails{}, err
	}
	return b.measureGood(ctx, s, load)
}

// hangsToo: each event goes to both.
func (b *bench) hangsToo(ctx context.Context, s *testenv.Server) error {
	if err := b.to(ctx, s.API(), "/good/1", good+".>"); err != nil {
		return err
	}
	rig.Say("alone")
	alone, err := b.measureGood(ctx, s, b.goodLoad(s))
	if err != nil {
		return err
	}
	if err := b.to(ctx, s.API(), "/hang/1", good+".>"); err != nil {
		return err
	}
	rig.Say("each event also goes to one that hangs")
	beside, err := b.measureGood(ctx, s, b.goodLoad(s))
	b.both.Ours, b.both.Bound = append(b.both.Ours, beside.delivery), append(b.both.Bound, alone.delivery)
	return err
}

// dead: events pile up behind a dead endpoint while a neighbour is served; it is
// revived and drains.
func (b *bench) dead(ctx context.Context, s *testenv.Server) error {
	if err := b.sink.Set("dead", rig.Behaviour{Status: 503}); err != nil {
		return err
	}
	if err := b.to(ctx, s.API(), "/good/1", good+".>"); err != nil {
		return err
	}
	rig.Say("alone")
	alone, err := b.measureGood(ctx, s, b.goodLoad(s))
	if err != nil {
		return err
	}
	if err := b.to(ctx, s.API(), "/dead/1", "dead.>"); err != nil {
		return err
	}
	halfway, err := b.pileUp(ctx, s)
	if err != nil {
		return err
	}
	rig.Say("beside the pile")
	beside, err := b.measureGood(ctx, s, b.goodLoad(s))
	if err != nil {
		return err
	}
	b.deadBeside.Ours, b.deadBeside.Bound = append(b.deadBeside.Ours, beside.delivery), append(b.deadBeside.Bound, alone.delivery)
	piled, err := testenv.RSS(s.PID())
	if err != nil {
		return err
	}
	b.deadMemory.Ours = append(b.deadMemory.Ours, float64(piled-halfway)/(1<<20))
	b.deadMemory.Note = fmt.Sprintf("%d MB at the end", piled>>20)
	return b.revive(ctx)
}

// pileUp publishes the backlog, in batches of 100, and returns the memory when
// half of it was there: by then caches and memtables are full.
func (b *bench) pileUp(ctx context.Context, s *testenv.Server) (halfway int64, err error) {
	rig.Say("piling up %d", b.backlog)
	load := b.goodLoad(s)
	load.Prefix, load.Batch, load.Conns, load.Rate = "dead", 100, 4, 0
	p, err := rig.StartPublisher(load)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	for {
		report, err := p.Report()
		if err != nil {
			return 0, err
		}
		if report.Refused > 0 {
			return 0, fmt.Errorf("the server refused: %s", report.Example)
		}
		if halfway == 0 && report.Acked >= uint64(b.backlog)/2 {
			if halfway, err = testenv.RSS(s.PID()); err != nil {
				return 0, err
			}
		}
		if report.Acked >= uint64(b.backlog) {
			break
		}
		if err := rig.Sleep(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
	}
	report, err := p.Stop()
	b.piled = report.Acked
	return halfway, err
}

// revive lets the dead endpoint answer and follows how the pile drains.
func (b *bench) revive(ctx context.Context) error {
	rig.Say("revived")
	if err := b.sink.Set("dead", rig.Behaviour{}); err != nil {
		return err
	}
	begin, first := time.Now(), time.Time{}
	last, moved := uint64(0), time.Now()
	for {
		state, err := b.sink.Report()
		if err != nil {
			return err
		}
		got := state.Classes["dead"].Distinct
		if got > 0 && first.IsZero() {
			first = time.Now()
			b.deadRevived.Ours = append(b.deadRevived.Ours, first.Sub(begin).Seconds())
			rig.Say("first delivery after %.0f s", first.Sub(begin).Seconds())
		}
		if got > last {
			last, moved = got, time.Now()
		}
		if got >= b.piled {
			b.deadDrained.Ours = append(b.deadDrained.Ours, float64(got)/time.Since(first).Seconds())
			return nil
		}
		if time.Since(moved) > 6*time.Minute {
			return fmt.Errorf("%d of %d were delivered, then nothing for %v", got, b.piled, time.Since(moved).Round(time.Second))
		}
		if err := rig.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// tenants: one tenant's destinations all hang, another publishes 1 MiB events
// flat out; a third one is measured.
func (b *bench) tenants(ctx context.Context, s *testenv.Server) error {
	api := s.API()
	keys := map[string]string{}
	for _, name := range []string{"victim", "hanging", "flood"} {
		key, err := newTenant(ctx, api, name)
		if err != nil {
			return err
		}
		keys[name] = key
	}
	as := func(name string) testenv.API {
		api := s.API()
		api.Key = keys[name]
		return api
	}
	if err := b.to(ctx, as("victim"), "/good/1", good+".>"); err != nil {
		return err
	}
	victim := b.goodLoad(s)
	victim.Key = keys["victim"]
	rig.Say("alone")
	alone, err := b.measureGood(ctx, s, victim)
	if err != nil {
		return err
	}
	rig.Say("%d hanging destinations", b.hanging)
	err = rig.AddDestinations(ctx, as("hanging"), b.hanging, func(i int) testenv.Destination {
		return testenv.Webhook(fmt.Sprintf("http://%s/hang/%d", b.sink.Addr, i), fmt.Sprintf("bad.%05d", i))
	})
	if err != nil {
		return err
	}
	bad := b.goodLoad(s)
	bad.Key, bad.Prefix, bad.Topics, bad.Background = keys["hanging"], "bad", b.hanging, true
	flood := b.goodLoad(s)
	flood.Key, flood.Prefix, flood.Size, flood.Conns, flood.Rate, flood.Background = keys["flood"], "flood", 1<<20-1024, 4, 0, true
	beside, err := b.beside(ctx, s, victim, bad, flood)
	b.tenantPublish.Ours, b.tenantPublish.Bound = append(b.tenantPublish.Ours, beside.publish), append(b.tenantPublish.Bound, alone.publish)
	b.tenantDelivery.Ours, b.tenantDelivery.Bound = append(b.tenantDelivery.Ours, beside.delivery), append(b.tenantDelivery.Bound, alone.delivery)
	return err
}

// newTenant makes a tenant and a key of its own.
func newTenant(ctx context.Context, api testenv.API, name string) (key string, err error) {
	if err := api.Call(ctx, "POST", "/v1/tenants", map[string]any{"name": name}, nil); err != nil {
		return "", err
	}
	var made struct {
		Key string `json:"key"`
	}
	err = api.Call(ctx, "POST", "/v1/keys", map[string]any{"tenant": name, "scopes": []string{"publish", "subscribe", "manage"}}, &made)
	return made.Key, err
}
