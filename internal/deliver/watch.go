package deliver

import (
	"cmp"
	"slices"

	"github.com/harkhq/hark"
)

// watch is a stretch of the log that somebody wants to know of: when the destination
// has passed it and holds nothing of it any more.
type watch struct {
	first, last hark.Offset
	held        int32 // unfinished deliveries of the stretch
	passed      bool  // by the destination's position
	told        bool
}

// watching is the part of a destination that is watched. A destination that is not
// pays a look at the length of watches when a delivery begins and ends; one that is,
// a binary search: nothing here walks the stretches.
type watching struct {
	watches   []*watch // disjoint, in log order; those told stay until they are the larger part
	unpassed  int      // the first of watches that the position has not passed
	told      int
	inWatched bool // in Core.watched
}

// Watch asks for a Passed when the destination has passed first to last and holds
// nothing of it. Stretches of one destination must not overlap.
func (c *Core) Watch(now int64, id hark.DestinationID, set *Settings, first, last hark.Offset) {
	c.advance(now)
	defer c.settleUp()
	d := c.dest(id, set)
	if d.gone {
		c.out.Passed = append(c.out.Passed, Passed{id, first})
		return
	}
	w := &watch{first: first, last: last, held: d.heldIn(first, last)}
	i, _ := slices.BinarySearchFunc(d.watches, first, func(w *watch, o hark.Offset) int { return cmp.Compare(w.first, o) })
	if c.position(d) >= last {
		if w.passed = true; w.held == 0 {
			c.out.Passed = append(c.out.Passed, Passed{id, first})
			c.nudge(d)
			return
		}
		if i <= d.unpassed {
			d.unpassed++
		}
	} else {
		d.unpassed = min(d.unpassed, i)
	}
	d.watches = slices.Insert(d.watches, i, w)
	c.awaitMark(d)
	c.nudge(d)
}

// Unwatch takes a Watch back.
func (c *Core) Unwatch(now int64, id hark.DestinationID, first hark.Offset) {
	c.advance(now)
	defer c.settleUp()
	d := c.dests[id]
	if d == nil {
		return
	}
	if w := d.watchAt(first); w != nil && w.first == first {
		w.told = true
		d.told++
		d.compactWatches()
	}
	c.nudge(d)
}

// awaitMark has a destination at the mark looked at when the mark moves, until it has
// passed what is watched: for as long as the dispatcher takes.
func (c *Core) awaitMark(d *dest) {
	if !d.own && !d.inWatched && d.unpassed < len(d.watches) {
		d.inWatched = true
		c.watched = append(c.watched, d)
	}
}

// heldIn counts unfinished deliveries of a stretch.
func (d *dest) heldIn(first, last hark.Offset) (n int32) {
	if uint64(len(d.all)) <= uint64(last-first) {
		for o := range d.all { // a count: order does not show
			if first <= o && o <= last {
				n++
			}
		}
		return n
	}
	for o := first; o <= last; o++ {
		if d.all[o] != nil {
			n++
		}
	}
	return n
}

// watchAt returns the watch over an offset; nil for none.
func (d *dest) watchAt(o hark.Offset) *watch {
	i, found := slices.BinarySearchFunc(d.watches, o, func(w *watch, o hark.Offset) int { return cmp.Compare(w.first, o) })
	if !found {
		i--
	}
	if i < 0 || d.watches[i].last < o || d.watches[i].told {
		return nil
	}
	return d.watches[i]
}

func (d *dest) watchHeld(o hark.Offset) {
	if w := d.watchAt(o); w != nil {
		w.held++
	}
}

func (c *Core) watchDropped(d *dest, o hark.Offset) {
	if w := d.watchAt(o); w != nil {
		w.held--
		c.tell(d, w)
	}
}

// tell tells of a stretch that is done.
func (c *Core) tell(d *dest, w *watch) {
	if w.told || !w.passed || w.held > 0 {
		return
	}
	w.told = true
	d.told++
	c.out.Passed = append(c.out.Passed, Passed{d.id, w.first})
	d.compactWatches()
}

// passWatches notes how far the position has come.
func (c *Core) passWatches(d *dest) {
	if d.unpassed >= len(d.watches) {
		return
	}
	at := c.position(d)
	for d.unpassed < len(d.watches) && d.watches[d.unpassed].last <= at {
		w := d.watches[d.unpassed]
		w.passed = true
		d.unpassed++
		c.tell(d, w)
	}
}

// compactWatches drops those told once they are the larger part.
func (d *dest) compactWatches() {
	if 2*d.told <= len(d.watches) {
		return
	}
	kept, unpassed := d.watches[:0], d.unpassed
	for i, w := range d.watches {
		switch {
		case !w.told:
			kept = append(kept, w)
		case i < unpassed:
			d.unpassed--
		}
	}
	clear(d.watches[len(kept):])
	if d.watches, d.told = kept, 0; len(kept) == 0 {
		d.watches = nil
	}
}

// markPassed looks at those at the mark after it moved. Who is behind is looked at
// when its own cursor moves.
func (c *Core) markPassed() {
	c.watched = slices.DeleteFunc(c.watched, func(d *dest) bool {
		if c.dests[d.id] != d || d.gone || d.own {
			d.inWatched = false
			return true
		}
		c.passWatches(d)
		d.inWatched = d.unpassed < len(d.watches)
		c.restOrWake(d)
		return !d.inWatched
	})
}

// passAll ends the watching of a destination that is going away.
func (c *Core) passAll(d *dest) {
	for _, w := range d.watches {
		if !w.told {
			c.out.Passed = append(c.out.Passed, Passed{d.id, w.first})
		}
	}
	d.watching = watching{inWatched: d.inWatched}
}
