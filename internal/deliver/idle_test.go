package deliver

import (
	"runtime"
	"testing"

	"github.com/harkhq/hark"
)

// TestIdleDestinationsCostTheCoreNothing: 100,000 destinations at the mark cost
// their settings and their place in the topic index.
func TestIdleDestinationsCostTheCoreNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 100,000 destinations")
	}
	n := newNode(t, okay)
	for i := range 100_000 {
		n.dests = append(n.dests, dst(hark.DestinationID(i+1), "orders.paid", hark.Pattern("t."+hark.DestinationID(i+1).String())))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n.start()
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d MiB more for 100,000 destinations", (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>20)
	if got := n.d.Load().Known; got != 0 {
		t.Errorf("%d have state", got)
	}
	n.publish("t."+hark.DestinationID(5).String(), 1)
	n.eventually("it passed", func() bool { return n.d.Load().Mark == 1 && n.d.Load().InFlight == 0 })
	if got := n.d.Load().Known; got != 1 {
		t.Errorf("%d have state, one is in use", got)
	}
}
