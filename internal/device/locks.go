package device

import (
	"slices"
	"sync"
)

const stripes = 512

// locks are mutexes shared by hash, so that changes of different devices commit side by
// side and their syncs are one.
type locks [stripes]sync.Mutex

// lock takes the locks of all keys, in order, each once.
func (l *locks) lock(keys []uint64) (unlock func()) {
	if len(keys) == 0 {
		return func() {}
	}
	at := make([]uint64, len(keys))
	for i, k := range keys {
		at[i] = (k * 0x9e3779b97f4a7c15) >> 32 % stripes
	}
	slices.Sort(at)
	at = slices.Compact(at)
	for _, i := range at {
		l[i].Lock()
	}
	return func() {
		for _, i := range at {
			l[i].Unlock()
		}
	}
}
