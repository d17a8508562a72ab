package destination

import (
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/setting"
)

// pullKind hands events to workers that come for them. Package deliver keeps leases;
// how often one event is handed out is the retry policy's max_deliveries.
var pullKind = Kind{
	Name: "pull", Title: "Pull queue", Mode: Pull,
	Help: "A message queue: workers fetch events under a lease and acknowledge them.",
	Fields: []setting.Field{
		{Key: "lease", Type: setting.Duration, Title: "Lease", Default: "30s", Min: 1, Max: int64(hark.MaxLease / time.Second),
			Help: "How long a worker has an event before another may get it, unless the worker asks for another time."},
	},
}

// Lease returns the default lease of a pull destination.
func Lease(d *hark.Destination) time.Duration {
	if d.Kind == pullKind.Name {
		if lease := pullKind.parse(&setting.Check{}, d.Settings).Duration("lease"); lease > 0 {
			return lease
		}
	}
	return hark.DefaultLease
}
