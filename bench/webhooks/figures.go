package main

import (
	"fmt"
	"time"

	"github.com/harkhq/hark/bench/rig"
)

// figures are all rows of the result, in the order of the table. Each has the
// bar that the project promises.
type figures struct {
	single, singleLag, batch, batchLag rig.Figure
	debt                               rig.Figure
	cpuSaturated, cpuCalm              rig.Figure
	calm, brisk                        rig.Figure
	fanout, fanoutLag                  rig.Figure
	rssStart, rssRest, rssIdle         rig.Figure
	ready                              rig.Figure
	others                             rig.Figure
}

func newFigures(o options) *figures {
	lag := rig.Bar{AtMost: 5}
	f := &figures{
		single: rig.Figure{Name: "one event per request", Unit: "delivered/s", Bar: rig.Bar{RatioAtLeast: 0.6},
			Note: "bound: publisher → bare net/http server → sink"},
		singleLag: rig.Figure{Name: "  lag at the stop", Unit: "s", Bar: lag, Note: "until everything published had arrived"},
		batch: rig.Figure{Name: "batches of 100", Unit: "delivered/s", Bar: rig.Bar{RatioAtLeast: 0.7},
			Note: "bound: net/http client loop, same sink, signing, connections"},
		batchLag:     rig.Figure{Name: "  lag at the stop", Unit: "s", Bar: lag},
		debt:         rig.Figure{Name: "compaction debt's growth in the last 30 s", Unit: "% of written", Bar: rig.Bar{AtMost: 10}},
		cpuSaturated: rig.Figure{Name: "processor at saturation", Unit: "s per 1000", Bar: rig.Bar{AtMost: 0.25}},
		calm:         rig.Figure{Name: "end to end p99 at 200/s", Unit: "ms", Bar: rig.Bar{AtMost: 3, RatioAtMost: 2}},
		cpuCalm:      rig.Figure{Name: "processor at 200/s", Unit: "s per 1000", Bar: rig.Bar{AtMost: 1}},
		brisk:        rig.Figure{Name: "end to end p99 at 1000/s", Unit: "ms", Bar: rig.Bar{AtMost: 10, RatioAtMost: 2}},
		fanout:       rig.Figure{Name: "fan-out of each event to 10", Unit: "deliveries/s", Bar: rig.Bar{AtLeast: 15000}},
		fanoutLag:    rig.Figure{Name: "  lag at the stop", Unit: "s", Bar: lag},
		ready: rig.Figure{Name: fmt.Sprintf("ready after kill -9 with %.1f GiB stored", float64(o.stored)/(1<<30)), Unit: "s",
			Bar: rig.Bar{AtMost: 10}},
		others: rig.Figure{Name: "other programs meanwhile", Unit: "cores",
			Note: "in each measurement; figures are only good when this is near 0"},
		rssStart: rig.Figure{Name: "memory after the start", Unit: "MB", Bar: rig.Bar{AtMost: 60}},
		rssRest:  rig.Figure{Name: fmt.Sprintf("memory after the bench and %v of rest", o.rest), Unit: "MB", Bar: rig.Bar{AtMost: 200}},
		rssIdle: rig.Figure{Name: fmt.Sprintf("memory with %s idle destinations", rig.Number(float64(o.idle))), Unit: "MB",
			Bar: rig.Bar{AtMost: 300}},
	}
	// What a short run cannot show has no bar there.
	if o.Steady < 45*time.Second {
		f.debt.Bar = rig.Bar{} // a new store fills its levels
	}
	if o.rest < 2*time.Minute {
		f.rssRest.Bar, f.rssRest.Note = rig.Bar{}, "too short to judge: ≤ 200 after 2 minutes"
	}
	return f
}

// rows returns those that the chosen parts measure.
func (f *figures) rows(o options) []*rig.Figure {
	byPart := map[string][]*rig.Figure{
		"single":  {&f.single, &f.singleLag, &f.cpuSaturated, &f.debt},
		"batch":   {&f.batch, &f.batchLag},
		"latency": {&f.calm, &f.cpuCalm, &f.brisk},
		"fanout":  {&f.fanout, &f.fanoutLag},
		"idle":    {&f.rssIdle},
		"restart": {&f.ready},
		"rest":    {&f.rssStart, &f.rssRest},
	}
	var rows []*rig.Figure
	for _, part := range parts {
		if o.Wants(part) {
			rows = append(rows, byPart[part]...)
		}
	}
	return append(rows, &f.others)
}
