package main

import (
	"context"
	"fmt"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

// debtWatch follows what the store's compactions still have to move, by
// /metrics. A nil one only waits.
type debtWatch struct {
	api     testenv.API
	samples []debtSample // one a second
}

type debtSample struct{ debt, written float64 }

// debtWindow is how many samples at the end tell whether the debt grows.
const debtWindow = 30

// watch samples each second for a time.
func (d *debtWatch) watch(ctx context.Context, steady time.Duration) error {
	if d == nil {
		return rig.Sleep(ctx, steady)
	}
	start := time.Now()
	for left := steady; left > 0; left = steady - time.Since(start) {
		if err := rig.Sleep(ctx, min(left, time.Second)); err != nil {
			return err
		}
		metrics, err := rig.Scrape(ctx, d.api)
		if err != nil {
			return err
		}
		debt, ok := metrics["hark_store_compaction_debt_bytes"]
		written, alsoOK := metrics["hark_store_wal_bytes"]
		if ok && alsoOK {
			d.samples = append(d.samples, debtSample{debt, written})
		}
	}
	return nil
}

// growth is the share of what was written in the last 30 s by which the debt
// grew meanwhile, on a line through the samples: debt comes and goes in steps of
// a compaction. None if the server does not tell.
func (d *debtWatch) growth() []float64 {
	if d == nil || len(d.samples) < 2 {
		return nil
	}
	last := d.samples[max(0, len(d.samples)-debtWindow):]
	written := last[len(last)-1].written - last[0].written
	if written <= 0 {
		return nil
	}
	var n, x, y, xx, xy float64
	for i, s := range last {
		t := float64(i)
		n, x, y, xx, xy = n+1, x+t, y+s.debt, xx+t*t, xy+t*s.debt
	}
	slope := (n*xy - x*y) / (n*xx - x*x)
	return []float64{100 * slope * (n - 1) / written}
}

// String tells the debt through the measurement, in ten steps.
func (d *debtWatch) String() string {
	if d == nil || len(d.samples) == 0 {
		return "the server tells none"
	}
	text := "MiB:"
	for i := range 10 {
		text += fmt.Sprintf(" %.0f", d.samples[i*(len(d.samples)-1)/9].debt/megabyte)
	}
	return text
}
