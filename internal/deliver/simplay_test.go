package deliver

import (
	stdheap "container/heap"
	"fmt"
	"slices"

	"github.com/harkhq/hark"
)

// What happens in a simulation, and what must hold at its end. The world it
// happens in is in sim_test.go.

func (w *world) setActive(id hark.DestinationID, active bool) {
	w.change(id, func(s *Settings) { s.Active = active })
}

// change is a change of settings that does not touch topics: the registry commits
// it by itself, then tells.
func (w *world) change(id hark.DestinationID, edit func(*Settings)) {
	cfg, ok := w.durable.cfg[id]
	if !ok || w.removed[id] {
		return
	}
	set := cfg.set
	edit(&set)
	cfg.set = set
	w.durable.cfg[id], w.eff.cfg[id] = cfg, cfg
	w.say("configure dst %d %+v", id, set)
	w.core.Configure(w.now, id, &set)
	w.drain()
}

func (w *world) retopic(id hark.DestinationID) {
	cfg, ok := w.durable.cfg[id]
	if !ok || w.removed[id] {
		return
	}
	set := cfg.set
	w.core.Retopic(w.now, id, &set)
	at := w.core.Status(id).Position
	for k := range w.eff.rows {
		if k.d == id && k.o > at { // handed out ahead of the cursor, or known from before a crash: events before it may match only now
			w.dests[id].toggled = true
		}
	}
	cfg.topics = append(slices.Clone(cfg.topics), simTopics{at, w.someTopics()})
	w.say("retopic dst %d after %d: %v", id, at, cfg.topics)
	w.eff.cfg[id], w.durable.cfg[id] = cfg, cfg
	w.drain()
	w.commit(len(w.pending)) // one batch with the settings
}

func (w *world) remove(id hark.DestinationID) {
	if w.removed[id] {
		return
	}
	w.say("remove dst %d", id)
	set := w.eff.cfg[id].set
	w.core.Remove(w.now, id, &set)
	w.removed[id] = true
	w.drain()
	w.commit(len(w.pending))
	delete(w.durable.cfg, id)
	delete(w.eff.cfg, id)
}

func (w *world) publish() {
	first := hark.Offset(len(w.log) + 1)
	defer func() {
		if w.chance(40) {
			w.watch(first, hark.Offset(len(w.log)))
		}
	}()
	for range 1 + w.rng.IntN(8) {
		e := simEvent{o: hark.Offset(len(w.log) + 1), tenant: hark.TenantID(1 + w.rng.IntN(2)), topic: string(rune('a' + w.rng.IntN(3))),
			key: uint64(w.rng.IntN(4)), size: int32(10 + w.rng.IntN(300)), at: w.now}
		w.log = append(w.log, e)
	}
	w.in(int64(w.rng.IntN(5)), w.dispatch)
}

// retain removes a tenant's events up to f, which may be beyond the mark.
func (w *world) retain(t hark.TenantID, f hark.Offset) {
	w.say("retention of tenant %d to %d, the mark is at %d", t, f, w.core.Mark())
	if f > w.core.Mark() {
		for _, id := range w.ids {
			if cfg, ok := w.eff.cfg[id]; ok && cfg.set.Tenant == t {
				set := cfg.set
				w.core.Overtaken(w.now, id, &set)
			}
		}
		w.drain()
	}
	w.floor[t] = f
}

func (w *world) dispatch() {
	if w.dead {
		return
	}
	from := w.core.Mark()
	upto := min(int(from)+1+w.rng.IntN(20), len(w.log))
	if int(from) >= len(w.log) {
		return
	}
	for _, e := range w.log[from:upto] {
		for _, id := range w.ids {
			cfg, ok := w.eff.cfg[id]
			if ok && w.nowMatches(cfg, e) && w.core.Wants(id) {
				set := cfg.set
				w.core.Match(id, &set, e.meta())
			}
		}
	}
	w.core.Dispatched(w.now, hark.Offset(upto), upto-int(from))
	w.drain()
	if upto < len(w.log) {
		w.in(int64(w.rng.IntN(5)), w.dispatch)
	}
}

func (w *world) crash() {
	w.stats.crashes++
	w.say("CRASH, %d batches lost", len(w.pending))
	if w.chance(50) {
		w.commit(w.rng.IntN(len(w.pending) + 1))
	}
	w.epoch++
	w.pending, w.waiters = nil, map[uint64]func(Answer){}
	w.eff = w.durable.clone()
	for _, d := range w.dests {
		d.flight, d.lastFirst, d.urgent = map[simKey]simFlight{}, 0, 0
	}
	w.dead = true
	w.in(int64(w.rng.IntN(3000)), w.restart)
}

func (w *world) restart() {
	w.dead = false
	w.say("restart at mark %d", w.durable.mark)
	w.core = NewCore(w.lim, w.durable.mark, w.now)
	for _, id := range w.ids {
		cfg, ok := w.durable.cfg[id]
		if !ok {
			continue
		}
		set := cfg.set
		w.reset(w.dests[id], &set)
		r := Restored{Settings: &set, Health: w.durable.health[id]}
		r.Cursor, r.Own = w.durable.cursors[id]
		at := w.durable.position(id)
		r.Hole = w.floor[set.Tenant] > at
		for _, e := range w.log {
			row, ok := w.durable.rows[simKey{id, e.o}]
			switch {
			case !ok:
			case !row.State.Finished():
				r.Rows = append(r.Rows, row)
			case e.o > at:
				r.Done = append(r.Done, e.o)
			}
		}
		if rr, ok := w.durable.replays[id]; ok {
			r.Replay = &rr
		}
		if r.Own || r.Hole || !set.Active || set.Pull || len(r.Rows)+len(r.Done) > 0 || r.Replay != nil || r.Health != (Health{}) {
			w.core.Restore(w.now, id, r)
		}
	}
	for _, x := range w.watches {
		x.asked = false
	}
	w.askWatches()
	w.core.Tick(w.now)
	w.drain()
	w.dispatch()
}

func (w *world) pull(id hark.DestinationID) {
	cfg, ok := w.eff.cfg[id]
	if !ok || !cfg.set.Pull || w.removed[id] {
		return
	}
	w.req++
	w.waiters[w.req] = func(a Answer) { w.granted(id, a) }
	set := cfg.set
	w.core.Pull(w.now, id, &set, w.req, 1+w.rng.IntN(6), int64(50+w.rng.IntN(2000)), w.rng.Uint64())
	w.drain()
}

func (w *world) granted(id hark.DestinationID, a Answer) {
	keys := map[uint64]bool{}
	if w.removed[id] {
		return
	}
	for _, g := range a.Grants {
		w.stats.grants++
		k, e := simKey{id, g.Offset}, w.log[g.Offset-1]
		w.say("granted dst %d offset %d attempt %d until +%d", id, g.Offset, g.Attempt, g.Deadline-simStart)
		if l, ok := w.leases[k]; ok && w.now < l.deadline {
			w.fail("dst %d offset %d is leased twice", id, g.Offset)
		}
		if w.acked[k] {
			w.fail("dst %d offset %d is handed out after its ack", id, g.Offset)
		}
		x := w.core.dests[id].all[g.Offset]
		if w.eff.cfg[id].set.Ordered && !w.dests[id].toggled && x != nil && x.lane == LaneLive {
			if keys[e.key] {
				w.fail("dst %d: two of key %d in one pull", id, e.key)
			}
			keys[e.key] = true
			w.checkOrder(id, e)
		}
		w.leases[k] = simLease{g.Token, g.Deadline}
		if e.o <= w.floor[e.tenant] {
			delete(w.leases, k)
			w.core.Vanish(w.now, id, g.Offset, g.Token)
			w.drain()
			continue
		}
		w.in(int64(w.rng.IntN(1000)), func() { w.settle(k, g.Token) })
	}
}

func (w *world) settle(k simKey, token uint64) {
	if w.dead || w.chance(10) && !w.healthy {
		return // the worker died
	}
	v := Verdict(w.rng.IntN(3))
	if w.healthy || w.chance(50) {
		v = Ack
	}
	epoch := w.epoch
	l := w.leases[k]
	err := w.core.Settle(w.now, k.d, k.o, token, v, int64(w.rng.IntN(500)))
	w.say("verdict %d dst %d offset %d: %v", v, k.d, k.o, err)
	if err == nil {
		if l.token != token {
			w.fail("dst %d offset %d: a stale token was accepted", k.d, k.o)
		}
		delete(w.leases, k)
	}
	w.drain()
	if err != nil {
		return
	}
	if v == Extend {
		x := w.core.dests[k.d].all[k.o]
		w.leases[k] = simLease{token, x.next}
		w.in(int64(w.rng.IntN(300)), func() { w.settle(k, token) })
	}
	w.in(11, func() { // after its sync
		if v == Ack && w.epoch == epoch && w.eff.rows[k].State == hark.Delivered {
			w.acked[k] = true
		}
	})
}

func (w *world) ask() {
	if len(w.log) == 0 {
		return
	}
	id := w.ids[w.rng.IntN(len(w.ids))]
	e := w.log[w.rng.IntN(len(w.log))]
	cfg, ok := w.eff.cfg[id]
	if !ok || e.tenant != cfg.set.Tenant || e.o <= w.floor[e.tenant] {
		return
	}
	set := cfg.set
	k := simKey{id, e.o}
	a := Ask{Meta: e.meta(), Row: w.eff.rows[k], Alone: w.chance(50), Test: w.chance(20)}
	if w.chance(50) {
		w.req++
		a.Req = w.req
		w.waiters[a.Req] = func(Answer) {}
	}
	err := w.core.Ask(w.now, id, &set, a)
	w.say("ask dst %d offset %d %+v: %v", id, e.o, a.Row.State, err)
	if err == nil {
		w.dests[id].urgent++
		w.dests[id].lastFirst = 0
	}
	w.drain()
}

// mischief does one random thing.
func (w *world) mischief() {
	id := w.ids[w.rng.IntN(len(w.ids))]
	d := w.dests[id]
	switch w.rng.IntN(24) {
	case 0, 1, 2, 3, 4, 5:
		w.publish()
	case 6, 7:
		d.mood = []string{"up", "up", "down", "slow", "flaky", "throttle", "reject"}[w.rng.IntN(7)]
		d.every = hark.Offset(w.rng.IntN(2) * (2 + w.rng.IntN(5)))
		w.say("mood of dst %d: %s", id, d.mood)
	case 8:
		w.setActive(id, w.chance(70))
	case 9:
		w.retopic(id)
	case 10:
		w.change(id, func(s *Settings) {
			switch w.rng.IntN(4) {
			case 0:
				s.Ordered = !s.Ordered
				d.toggled = true
			case 1:
				s.Host = []string{"", "a", "b"}[w.rng.IntN(3)]
				w.moved = true
			case 2:
				s.Concurrency = w.rng.IntN(4)
			case 3:
				s.Waits = []int64{0, int64(w.rng.IntN(1000)), 2000}
			}
		})
	case 11, 12:
		w.ask()
	case 13:
		if len(w.log) > 0 {
			w.say("cancel")
			w.core.Cancel(w.now, id, w.log[w.rng.IntN(len(w.log))].o)
			w.drain()
		}
	case 14:
		if cfg, ok := w.eff.cfg[id]; ok && len(w.log) > 0 {
			set := cfg.set
			rr, err := w.core.Replay(w.now, id, &set, hark.Offset(w.rng.IntN(len(w.log))), 0)
			w.say("replay dst %d %v %v", id, rr, err)
			w.drain()
		}
	case 15:
		if w.chance(30) {
			w.core.StopReplay(w.now, id)
			w.drain()
		}
	case 16, 17, 18:
		w.pull(id)
	case 19:
		if w.chance(40) {
			w.crash()
		}
	case 20:
		t := hark.TenantID(1 + w.rng.IntN(2))
		most := int(w.core.Mark())
		if w.chance(30) { // a quota does not wait for the dispatcher
			most = len(w.log)
		}
		if f := hark.Offset(w.rng.IntN(most + 1)); w.chance(30) && f > w.floor[t] {
			w.retain(t, f)
		}
	case 21:
		if w.chance(15) {
			w.remove(id)
		} else if w.chance(15) && len(w.ids) < 9 {
			w.addDest()
		}
	case 22:
		w.dispatch()
	case 23:
		w.in(0, func() { w.now += int64(w.rng.IntN(20_000)) }) // a quiet time
	}
}

// step does what comes next in virtual time. It reports false when nothing will.
func (w *world) step(until int64) bool {
	at := int64(never)
	if len(w.queue) > 0 {
		at = w.queue[0].at
	}
	wake := int64(never)
	if !w.dead {
		wake = w.core.NextWake()
	}
	if min(at, wake) > until {
		w.now = max(w.now, until)
		return false
	}
	if wake <= at {
		w.now = max(w.now, wake)
		w.core.Tick(w.now)
		if again := w.core.NextWake(); again <= w.now && again != never {
			w.core.Tick(w.now)
			if again := w.core.NextWake(); again <= w.now {
				w.fail("the core asks to be woken at once, for ever")
			}
		}
		w.drain()
		return true
	}
	a := stdheap.Pop(&w.queue).(action)
	w.now = max(w.now, a.at)
	a.do()
	return true
}

func (w *world) run() {
	for range 40 + w.rng.IntN(160) {
		until := w.now + int64(w.rng.IntN(400))
		for w.step(until) {
		}
		if !w.dead {
			w.mischief()
		}
	}
	w.recover()
}

// recover makes everything well; then everything must come to an end.
func (w *world) recover() {
	for w.dead {
		w.step(never - 1)
	}
	w.say("ALL IS WELL")
	w.healthy = true
	for _, id := range w.ids {
		if cfg, ok := w.eff.cfg[id]; ok && !cfg.set.Active {
			w.setActive(id, true)
		}
	}
	w.dispatch()
	end := w.now + 3600_000
	for w.now < end {
		if w.done() {
			w.verify()
			return
		}
		until := w.now + 100
		for w.step(until) {
		}
		for _, id := range w.ids {
			w.pull(id)
			if cfg, ok := w.eff.cfg[id]; ok && !cfg.set.Active { // disabled while it recovered
				w.setActive(id, true)
			}
		}
		w.dispatch()
	}
	if w.verbose {
		for _, id := range w.ids {
			if w.core.dests[id] != nil {
				w.dump(id)
			}
		}
	}
	w.fail("stuck: %s", w.undone())
}

func (w *world) done() bool { return int(w.core.Mark()) == len(w.log) && w.undone() == "" }

// undone names what is not finished.
func (w *world) undone() string {
	for _, id := range w.ids {
		cfg, ok := w.eff.cfg[id]
		if !ok {
			continue
		}
		s := w.core.Status(id)
		if int(s.Position) < len(w.log) && w.anyAfter(cfg, s.Position) || s.Waiting+s.InFlight > 0 || s.Replay != nil {
			return fmt.Sprintf("dst %d %+v: %+v (log ends at %d, floor %d)", id, cfg.set, s, len(w.log), w.floor[cfg.set.Tenant])
		}
		for _, e := range w.log {
			row := w.eff.rows[simKey{id, e.o}]
			if cfg.matches(e) && !row.State.Finished() && !w.inGap(w.eff, id, e.o) {
				return fmt.Sprintf("dst %d offset %d: %v, status %+v", id, e.o, row.State, s)
			}
		}
	}
	return ""
}

func (w *world) anyAfter(cfg simCfg, at hark.Offset) bool {
	for _, e := range w.log[at:] {
		if cfg.matches(e) {
			return true
		}
	}
	return false
}

// verify checks the end: nothing lost, no state left behind.
func (w *world) verify() {
	for range 200 { // let checkpoints, notices and idle memory pass
		until := w.now + 1000
		for w.step(until) {
		}
	}
	w.commit(len(w.pending))
	w.checkPositions()
	w.checkWatches()
	for _, id := range w.ids {
		cfg, ok := w.durable.cfg[id]
		if !ok {
			continue
		}
		for _, e := range w.log {
			k := simKey{id, e.o}
			row := w.durable.rows[k]
			if cfg.matches(e) && !row.State.Finished() && !w.inGap(w.durable, id, e.o) {
				w.fail("lost: dst %d offset %d is %v", id, e.o, row.State)
			}
			if w.acked[k] && row.State != hark.Delivered {
				w.fail("dst %d offset %d was acked and is %v", id, e.o, row.State)
			}
		}
		if x := w.core.dests[id]; x != nil && !x.set.Pull && x.health == (Health{}) {
			w.fail("idle dst %d still has state: own %v cursor %d mark %d all %d open %v known %d", id, x.own, x.cursor, w.core.Mark(), len(x.all), x.open, len(x.known))
		}
	}
	if w.core.flight.total() != 0 || w.core.flight.bytes != [2]int{} || w.core.rowlessN != 0 {
		w.fail("counters left: %+v rowless %d", w.core.flight, w.core.rowlessN)
	}
	for _, tn := range w.core.tenants {
		if tn.total() != 0 {
			w.fail("tenant %d counts %+v", tn.id, tn.share)
		}
	}
	held := 0
	for _, d := range w.core.dests {
		held += len(d.all)
	}
	if held != w.core.held {
		w.fail("held %d, counted %d", held, w.core.held)
	}
}

func (w *world) dump(id hark.DestinationID) {
	d := w.core.dests[id]
	w.say("now %d startsAt %d notBefore %d open %v limit %v flight %d in %v atHost %v parked %v fresh %d ready %d manual %d waiting %d timer %d wake %d set %+v", w.now, w.core.startsAt(d), d.notBefore, d.open, d.limit, d.flight, d.in, d.atHost, d.tenant.parked, len(d.fresh.s), d.ready.n, d.manual.n, len(d.waiting.s), d.timer, d.wake, d.set)
	w.say("core %+v rings %d %d, tenant %+v in %v rings %d %d same %v", w.core.flight, w.core.rings[0].n, w.core.rings[1].n, d.tenant.share, d.tenant.in, d.tenant.rings[0].n, d.tenant.rings[1].n, w.core.tenants[d.set.Tenant] == d.tenant)
	for k, q := range d.keys {
		w.say("  key %d holders %d blocked %d", k, q.holders, q.blocked.n)
	}
}
