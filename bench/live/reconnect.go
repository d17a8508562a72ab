package main

import (
	"context"
	"fmt"
	"time"

	"github.com/harkhq/hark/bench/rig"
)

// reconnect opens streams and closes each when its head and first block have come. Each comes
// with a token that the server has never seen. The bound is a plain net/http handler, which verifies nothing.
func (b *bench) reconnect(ctx context.Context) error {
	count := pick(0, b.short, 40_000, 15_000)
	name := "reconnects with an API key"
	if err := b.pair(ctx, rig.BareLive{Mode: rig.LivePlain}, func(t *target) error {
		rate, p99, err := b.churn(ctx, t, rig.Subscribers{Churn: count})
		if err != nil {
			return err
		}
		b.note(t, name, "per second", rig.Bar{}, rate)
		b.figure(name, "", rig.Bar{}).Note = fmt.Sprintf("p99 %s ms", rig.Number(p99))
		return nil
	}); err != nil {
		return err
	}
	return nil
}

// churn lets subscribers come and go, 64 at a time, and returns how many a second.
func (b *bench) churn(ctx context.Context, t *target, setup rig.Subscribers) (rate, p99 float64, err error) {
	setup.Count, setup.Topics, setup.Pending = 64, 1, 64
	subs, err := b.newSubscribers(t, setup)
	if err != nil {
		return 0, 0, err
	}
	defer subs.Close()
	profiled := b.profileServer(ctx, t, 4*time.Second)
	if err := subs.Connect(); err != nil {
		return 0, 0, err
	}
	r, err := subs.Until(100*time.Second, func(r rig.SubscriberReport) bool { return r.Churned == setup.Churn })
	if err != nil {
		return 0, 0, err
	}
	<-profiled
	return float64(r.Churned) / (float64(r.Done-r.Started) / 1e9), rig.Milliseconds(r.Latency.Quantile(0.99)), nil
}
