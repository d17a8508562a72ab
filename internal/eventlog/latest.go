package eventlog

import "github.com/harkhq/hark"

// Bounds of [Log.Latest]: the first stretch it looks at, and how many pages it reads before
// it is content with fewer.
const (
	latestStretch = 4096
	latestPages   = 64
)

// Latest returns the position before the newest n events of a tenant that match: where
// "the last n, then what comes" begins. When matches are so rare that it would have to
// read much of the log, it may stop at fewer than n.
func (l *Log) Latest(t hark.TenantID, patterns []hark.Pattern, n int) (hark.Offset, error) {
	end := l.End()
	floor := l.index.lost(t)
	pages := latestPages
	for hi, stretch := end, hark.Offset(latestStretch); n > 0 && hi > floor && pages > 0; stretch *= 4 {
		lo := floor
		if hi-floor > stretch {
			lo = hi - stretch
		}
		found, err := l.offsetsIn(t, patterns, lo, hi, &pages)
		if err != nil {
			return 0, err
		}
		if len(found) >= n {
			return found[len(found)-n] - 1, nil
		}
		n -= len(found)
		if len(found) > 0 {
			end = found[0] - 1
		}
		hi = lo
	}
	return end, nil
}

// offsetsIn lists the matching events in (lo, hi].
func (l *Log) offsetsIn(t hark.TenantID, patterns []hark.Pattern, lo, hi hark.Offset, pages *int) (found []hark.Offset, err error) {
	for lo < hi && *pages > 0 {
		*pages--
		p, err := l.Read(t, Query{Patterns: patterns, After: lo, Limit: hark.MaxPageSize})
		if err != nil {
			return nil, err
		}
		for _, e := range p.Events {
			if e.ID.Offset <= hi {
				found = append(found, e.ID.Offset)
			}
		}
		if p.Next <= lo {
			break
		}
		lo = p.Next
	}
	return found, nil
}
