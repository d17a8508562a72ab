package deliver

import (
	"maps"
	"slices"

	"github.com/harkhq/hark"
)

// simWatch is a stretch that somebody watches at one destination. It outlives crashes,
// as the rows of batches do.
type simWatch struct {
	first, last hark.Offset
	asked       bool // in this epoch
}

// watch has what was just published watched, a moment later, as a batch would.
func (w *world) watch(first, last hark.Offset) {
	for _, id := range w.ids {
		if _, there := w.eff.cfg[id]; there {
			w.watches[simKey{id, first}] = &simWatch{first: first, last: last}
		}
	}
	w.inEpoch(int64(w.rng.IntN(40)), func() {
		if w.chance(50) {
			w.dispatch() // it may be over before it is asked for
		}
		w.askWatches()
	})
}

// askWatches asks for what is not asked for yet, as after a restart.
func (w *world) askWatches() {
	for _, k := range slices.SortedFunc(maps.Keys(w.watches), func(a, b simKey) int {
		return int(a.d)*1_000_000 + int(a.o) - int(b.d)*1_000_000 - int(b.o)
	}) {
		x := w.watches[k]
		if x == nil || x.asked {
			continue
		}
		cfg, there := w.eff.cfg[k.d]
		if !there {
			delete(w.watches, k) // deleted: passed
			continue
		}
		x.asked = true
		if w.chance(3) { // given up, as by a deadline
			w.core.Watch(w.now, k.d, &cfg.set, x.first, x.last)
			w.core.Unwatch(w.now, k.d, x.first)
			w.drain()
			delete(w.watches, k)
			continue
		}
		set := cfg.set
		w.core.Watch(w.now, k.d, &set, x.first, x.last)
		w.drain()
	}
}

// passed checks that a destination is really done with a stretch, durably.
func (w *world) passed(p Passed) {
	k := simKey{p.Dest, p.First}
	x := w.watches[k]
	if x == nil {
		w.fail("dst %d: told of %d, which nobody asked for or which was told", p.Dest, p.First)
		return
	}
	delete(w.watches, k)
	w.stats.passed++
	cfg, there := w.eff.cfg[p.Dest]
	if !there || w.removed[p.Dest] {
		return
	}
	w.commit(len(w.pending)) // who is told waits until it is durable
	for _, e := range w.log[x.first-1 : x.last] {
		row := w.durable.rows[simKey{p.Dest, e.o}]
		if cfg.matches(e) && !row.State.Finished() && row.Run <= 1 && !w.inGap(w.durable, p.Dest, e.o) { // of a later run: reopened in the very same moment
			w.fail("dst %d: told of %d-%d while %d is %v", p.Dest, x.first, x.last, e.o, row.State)
		}
	}
}

// checkWatches: in the end, everybody was told.
func (w *world) checkWatches() {
	for k, x := range w.watches {
		cfg, there := w.durable.cfg[k.d]
		if there && cfg.set.Pull && w.core.Status(k.d).Position < x.last {
			continue // what nobody pulls, nobody passes
		}
		if there && x.asked {
			w.fail("dst %d: never told of %d-%d", k.d, x.first, x.last)
		}
	}
	for _, d := range w.core.watched {
		if w.core.dests[d.id] == d && !d.own && !d.gone && d.unpassed < len(d.watches) {
			w.fail("dst %d at the mark has not passed what is watched", d.id)
		}
	}
}
