package deliver

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

// BenchmarkCore measures decisions: match, send, done, with 100 destinations that keep up.
func BenchmarkCore(b *testing.B) {
	c := NewCore(Limits{}, 0, 1)
	set := &Settings{Tenant: 1, Active: true, Waits: defaultWaits}
	out := Out{}
	now, o := int64(1), hark.Offset(0)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; n%100 == 0 {
			now++
		}
		o++
		c.Match(hark.DestinationID(o%100+1), set, Meta{Offset: o, Topic: "a", Size: 512})
		c.Dispatched(now, o, 1)
		out = c.Drain(out)
		for _, s := range out.Sends {
			c.Done(now, s.Dest, s.Offset, s.Attempt, Result{Outcome: hark.OK})
		}
		out.Reset()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// BenchmarkShell measures deliveries a second through a real store and log, each
// commit synced, with a sender that answers at once.
func BenchmarkShell(b *testing.B) {
	for _, fan := range []int{1, 10} {
		b.Run(fmt.Sprintf("destinations=100/each=%d", fan), func(b *testing.B) {
			var done atomic.Int64
			n := newNode(b, func(context.Context, *hark.Destination, *hark.Event, int) Result {
				done.Add(1)
				return Result{Outcome: hark.OK, Status: 200}
			})
			n.start()
			for i := range 100 {
				n.change(nil, dst(hark.DestinationID(i+1), hark.Pattern(fmt.Sprintf("t.%d", i/fan))))
			}
			b.ReportAllocs()
			b.ResetTimer()
			data := make([]byte, 512)
			for sent := 0; sent < b.N; {
				batch := make([]hark.Event, min(100, (b.N-sent+fan-1)/fan))
				for i := range batch {
					batch[i] = hark.Event{Topic: fmt.Sprintf("t.%d", (sent/fan+i)%(100/fan)), Data: data}
				}
				if _, err := n.log.Append(context.Background(), hark.DefaultTenant, batch, eventlog.Idempotency{}); err != nil {
					b.Fatal(err)
				}
				sent += len(batch) * fan
			}
			for done.Load() < int64(b.N) {
				time.Sleep(time.Millisecond)
			}
			if err := n.d.Sync(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}
