package deliver

import (
	stdheap "container/heap"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

var (
	simSeed = flag.Uint64("deliver.seed", 0, "run one simulation with this seed, and print what happens")
	simRuns = flag.Int("deliver.runs", 0, "how many simulations; 0 for the default")
)

// TestSimulation drives the core through random faults, crashes and changes in
// virtual time and checks what is promised. A failure prints its seed.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		simulate(t, *simSeed, true)
		return
	}
	runs := *simRuns
	if runs == 0 {
		runs = 3000
		if testing.Short() {
			runs = 300
		}
	}
	base := uint64(time.Now().UnixNano())
	t.Logf("%d runs from seed %d", runs, base)
	var sum simStats
	for i := range uint64(runs) {
		sum.add(simulate(t, base+i, false))
		if t.Failed() {
			t.Fatalf("replay with: go test ./internal/deliver -run TestSimulation -deliver.seed=%d", base+i)
		}
	}
	t.Logf("%+v", sum)
}

// simStore is durable state as the store would keep it.
type simStore struct {
	mark    hark.Offset
	cursors map[hark.DestinationID]hark.Offset
	rows    map[simKey]Row
	tries   map[simKey]int // highest attempt number recorded
	replays map[hark.DestinationID]ReplayRange
	gaps    map[hark.DestinationID][][2]hark.Offset
	health  map[hark.DestinationID]Health
	cfg     map[hark.DestinationID]simCfg
	// serial counts a destination's replays, reopened says which one last reopened a delivery.
	serial   map[hark.DestinationID]int
	reopened map[simKey]int
}

type simKey struct {
	d hark.DestinationID
	o hark.Offset
}

type simCfg struct {
	set    Settings
	start  hark.Offset
	topics []simTopics // which topics matched from which position on
}

type simTopics struct {
	after hark.Offset
	set   string
}

func (c simCfg) matches(e simEvent) bool {
	if e.o <= c.start || e.tenant != c.set.Tenant {
		return false
	}
	set := ""
	for _, h := range c.topics {
		if e.o > h.after {
			set = h.set
		}
	}
	return strings.Contains(set, e.topic)
}

func (s *simStore) clone() *simStore {
	return &simStore{mark: s.mark, cursors: maps.Clone(s.cursors), rows: maps.Clone(s.rows), tries: maps.Clone(s.tries),
		replays: maps.Clone(s.replays), gaps: maps.Clone(s.gaps), health: maps.Clone(s.health), cfg: maps.Clone(s.cfg), serial: maps.Clone(s.serial), reopened: maps.Clone(s.reopened)}
}

func (s *simStore) position(d hark.DestinationID) hark.Offset {
	if o, own := s.cursors[d]; own {
		return o
	}
	return s.mark
}

// apply checks a record against the rules of the store and keeps it.
func (s *simStore) apply(r *Record) error {
	k := simKey{r.Dest, r.Offset}
	switch r.Kind {
	case RecDelivery:
		old := s.rows[k]
		if old.State != r.Prev {
			return fmt.Errorf("dst %d offset %d: record says the row was %v, it is %v", r.Dest, r.Offset, r.Prev, old.State)
		}
		if old.State == hark.Sending && r.Row.State == hark.Sending && old.Token != r.Row.Token {
			return fmt.Errorf("dst %d offset %d: leased while it is leased", r.Dest, r.Offset)
		}
		if !slices.Contains(hark.Moves[old.State], r.Row.State) {
			return fmt.Errorf("dst %d offset %d: illegal move %v -> %v", r.Dest, r.Offset, old.State, r.Row.State)
		}
		if r.Row.Run < old.Run || r.Row.Attempts < old.Attempts {
			return fmt.Errorf("dst %d offset %d: run or attempts went back: %+v -> %+v", r.Dest, r.Offset, old, r.Row)
		}
		if a := r.Row.First; a != nil {
			if a.Number != 1 || s.tries[k] >= 1 {
				return fmt.Errorf("dst %d offset %d: inline attempt %d after %d", r.Dest, r.Offset, a.Number, s.tries[k])
			}
			s.tries[k] = 1
		}
		if r.Row.Attempts != s.tries[k] {
			return fmt.Errorf("dst %d offset %d: row counts %d attempts, %d recorded", r.Dest, r.Offset, r.Row.Attempts, s.tries[k])
		}
		if r.Row.Lane == LaneReplay && r.Row.State == hark.Due && (r.Prev == 0 || r.Prev.Finished()) {
			if s.reopened[k] == s.serial[r.Dest] {
				return fmt.Errorf("dst %d offset %d: one replay reopened it twice", r.Dest, r.Offset)
			}
			s.reopened[k] = s.serial[r.Dest]
		}
		s.rows[k] = r.Row
	case RecAttempt:
		inline := s.rows[k].First
		if r.Attempt.Number != s.tries[k]+1 && !(inline != nil && r.Attempt.Number == 1 && s.tries[k] == 1) {
			return fmt.Errorf("dst %d offset %d: attempt %d recorded after %d", r.Dest, r.Offset, r.Attempt.Number, s.tries[k])
		}
		s.tries[k] = r.Attempt.Number
	case RecMark:
		if r.Offset < s.mark {
			return fmt.Errorf("mark moved back from %d to %d", s.mark, r.Offset)
		}
		s.mark = r.Offset
	case RecCursor:
		s.cursors[r.Dest] = r.Offset
	case RecJoined:
		delete(s.cursors, r.Dest)
	case RecReplay:
		if _, under := s.replays[r.Dest]; !under {
			s.serial[r.Dest]++
		}
		s.replays[r.Dest] = ReplayRange{From: r.From, To: r.To, At: r.Offset}
	case RecReplayDone:
		delete(s.replays, r.Dest)
	case RecGap:
		s.gaps[r.Dest] = append(slices.Clone(s.gaps[r.Dest]), [2]hark.Offset{r.From, r.To})
	case RecHealth:
		s.health[r.Dest] = r.Health
	case RecErased:
		delete(s.cursors, r.Dest)
		delete(s.replays, r.Dest)
		delete(s.health, r.Dest)
	}
	return nil
}

type simEvent struct {
	o      hark.Offset
	tenant hark.TenantID
	topic  string
	key    uint64
	size   int32
	at     int64
}

func (e simEvent) meta() Meta {
	return Meta{Offset: e.o, Key: e.key, Received: e.at, Topic: "t." + e.topic, Size: e.size}
}

// simDest is the outside world of a destination.
type simDest struct {
	mood      string
	every     hark.Offset // rejects each event whose offset it divides
	toggled   bool        // ordered was switched: no order can be checked
	lastFirst hark.Offset // of first attempts in this epoch
	flight    map[simKey]simFlight
	urgent    int
	tokens    float64
	refilled  int64
	checked   hark.Offset // durable position rule holds up to here
}

type simFlight struct {
	e     simEvent
	class int8
	host  string
	live  bool
}

type simLease struct {
	token    uint64
	deadline int64
}

type simBatch struct {
	recs    []Record
	answers []Answer
}

type action struct {
	at  int64
	seq int
	do  func()
}

type actions []action

func (q actions) Len() int { return len(q) }
func (q actions) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q actions) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *actions) Push(x any)   { *q = append(*q, x.(action)) }
func (q *actions) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

type world struct {
	t       *testing.T
	rng     *rand.Rand
	verbose bool
	now     int64
	seq     int
	queue   actions
	epoch   int

	core    *Core
	lim     Limits
	log     []simEvent
	floor   map[hark.TenantID]hark.Offset
	dests   map[hark.DestinationID]*simDest
	ids     []hark.DestinationID
	removed map[hark.DestinationID]bool
	watches map[simKey]*simWatch // by destination and first offset

	eff, durable *simStore
	pending      []simBatch

	flights [2]int
	bytes   int
	leases  map[simKey]simLease
	acked   map[simKey]bool
	waiters map[uint64]func(Answer)
	req     uint64
	healthy bool
	dead    bool // the machine is down
	moved   bool // a destination changed its host
	stats   simStats
}

type simStats struct{ sends, crashes, pages, replays, gaps, grants, disables, passed int }

func (s *simStats) add(o simStats) {
	s.sends += o.sends
	s.crashes += o.crashes
	s.pages += o.pages
	s.replays += o.replays
	s.gaps += o.gaps
	s.grants += o.grants
	s.disables += o.disables
	s.passed += o.passed
}

const simStart = 1_700_000_000_000

func simulate(t *testing.T, seed uint64, verbose bool) (stats simStats) {
	t.Helper()
	w := newWorld(t, seed, verbose)
	defer func() { stats = w.stats }()
	defer func() {
		if r := recover(); r != nil {
			if _, ours := r.(simFailure); !ours {
				t.Errorf("seed %d: panic: %v", seed, r)
				panic(r)
			}
		}
	}()
	w.run()
	return
}

type simFailure struct{}

func (w *world) fail(format string, args ...any) {
	w.t.Errorf("at +%dms epoch %d: %s", w.now-simStart, w.epoch, fmt.Sprintf(format, args...))
	panic(simFailure{})
}

func (w *world) say(format string, args ...any) {
	if w.verbose {
		fmt.Printf("+%7dms e%d  %s\n", w.now-simStart, w.epoch, fmt.Sprintf(format, args...))
	}
}

func (w *world) in(ms int64, do func()) {
	w.seq++
	stdheap.Push(&w.queue, action{w.now + ms, w.seq, do})
}

// inEpoch schedules something that a crash forgets.
func (w *world) inEpoch(ms int64, do func()) {
	epoch := w.epoch
	w.in(ms, func() {
		if w.epoch == epoch && !w.dead {
			do()
		}
	})
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func newWorld(t *testing.T, seed uint64, verbose bool) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{t: t, rng: rng, verbose: verbose, now: simStart,
		floor: map[hark.TenantID]hark.Offset{}, dests: map[hark.DestinationID]*simDest{}, removed: map[hark.DestinationID]bool{},
		durable: &simStore{cursors: map[hark.DestinationID]hark.Offset{}, rows: map[simKey]Row{}, tries: map[simKey]int{},
			replays: map[hark.DestinationID]ReplayRange{}, gaps: map[hark.DestinationID][][2]hark.Offset{},
			health: map[hark.DestinationID]Health{}, cfg: map[hark.DestinationID]simCfg{},
			serial: map[hark.DestinationID]int{}, reopened: map[simKey]int{}},
		watches: map[simKey]*simWatch{}, leases: map[simKey]simLease{}, acked: map[simKey]bool{}, waiters: map[uint64]func(Answer){}}
	w.lim = Limits{Window: 3 + rng.IntN(20), SmallWindow: 2, Held: 40 + rng.IntN(60), TenantHeld: 20 + rng.IntN(60), PullWindow: 3 + rng.IntN(20),
		PullAhead: 5 + rng.IntN(20), ManualWindow: 1 + rng.IntN(5), ReplayWindow: 2 + rng.IntN(6), Flight: 4 + rng.IntN(20), TenantFlight: 2 + rng.IntN(10),
		HostFlight: 2 + rng.IntN(8), Bytes: 2000 + rng.IntN(8000), TenantBytes: 1000 + rng.IntN(3000), StartConcurrency: 1 + rng.IntN(6),
		MaxConcurrency: 8, CheckpointMillis: int64(20 + rng.IntN(500)), CheckpointEvents: 5 + rng.IntN(100), IdleMillis: 3000, IdleCount: 1 + rng.IntN(5)}
	w.lim = w.lim.withDefaults()
	w.eff = w.durable.clone()
	w.core = NewCore(w.lim, 0, w.now)
	for range 2 + rng.IntN(5) {
		w.addDest()
	}
	return w
}

func (w *world) addDest() {
	id := hark.DestinationID(len(w.ids) + 1)
	rng := w.rng
	set := Settings{Tenant: hark.TenantID(1 + rng.IntN(2)), Active: true, Pull: w.chance(20), Ordered: w.chance(35),
		Waits: [][]int64{{0}, {0, 100, 1000}, {0, 1000, 5000, 20000}, {0, 0, 0}, {50, 100}}[rng.IntN(5)], MaxDeliveries: 1 + rng.IntN(4)}
	if w.chance(50) {
		set.Host = string(rune('a' + rng.IntN(2)))
	}
	if w.chance(20) {
		set.Concurrency = 1 + rng.IntN(4)
	}
	if w.chance(15) {
		set.Rate = float64(2 + rng.IntN(50))
	}
	set.StopOnDead = set.Ordered && w.chance(20)
	at := hark.Offset(len(w.log))
	if len(w.log) > 0 && w.chance(20) {
		at = max(hark.Offset(rng.IntN(len(w.log))), w.floor[set.Tenant])
	}
	w.ids = append(w.ids, id)
	w.dests[id] = &simDest{mood: "up", flight: map[simKey]simFlight{}, checked: at}
	w.reset(w.dests[id], &set)
	cfg := simCfg{set: set, start: at, topics: []simTopics{{0, w.someTopics()}}}
	w.say("add dst %d at %d %+v", id, at, set)
	w.eff.cfg[id] = cfg
	w.core.Add(w.now, id, &set, at)
	w.drain()
	w.commit(len(w.pending))
	w.durable.cfg[id] = cfg
}

func (w *world) reset(d *simDest, set *Settings) {
	d.tokens, d.refilled = burst(set), w.now
}

func (w *world) someTopics() string { return []string{"abc", "ab", "c", "a", "bc"}[w.rng.IntN(5)] }

// drain takes the core's commands and begins to carry them out.
func (w *world) drain() {
	out := w.core.Drain(Out{})
	if len(out.Records)+len(out.Answers) > 0 {
		for i := range out.Records {
			r := &out.Records[i]
			if err := w.eff.apply(r); err != nil {
				w.fail("%v", err)
			}
			if r.Kind == RecDelivery && r.Prev == hark.Delivered { // a new run
				delete(w.acked, simKey{r.Dest, r.Offset})
			}
		}
		w.pending = append(w.pending, simBatch{out.Records, out.Answers})
		w.inEpoch(int64(w.rng.IntN(10)), func() { w.commit(w.rng.IntN(len(w.pending) + 1)) })
		w.inEpoch(10, func() { w.commit(len(w.pending)) })
	}
	for _, s := range out.Sends {
		w.send(s)
	}
	for _, r := range out.Reads {
		w.stats.pages++
		if r.Replay {
			w.inEpoch(int64(w.rng.IntN(30)), func() { w.answerReplay(r) })
		} else {
			page := w.page(r) // the log is read now, the answer comes later
			w.inEpoch(int64(w.rng.IntN(30)), func() {
				w.core.Page(w.now, r.Dest, r.Gen, page)
				w.drain()
			})
		}
	}
	for _, p := range out.Passed {
		w.passed(p)
	}
	for _, dis := range out.Disables {
		w.stats.disables++
		w.inEpoch(int64(w.rng.IntN(20)), func() { w.setActive(dis.Dest, false) })
	}
	for _, n := range out.Notices {
		w.say("notice %s dst %d x%d %s", n.Kind.Topic(), n.Dest, n.Count, n.Reason)
	}
	w.checkCaps()
}

// commit makes the first n batches durable.
func (w *world) commit(n int) {
	n = min(n, len(w.pending))
	batches := w.pending[:n]
	w.pending = w.pending[n:]
	for i := range batches {
		for j := range batches[i].recs {
			if err := w.durable.apply(&batches[i].recs[j]); err != nil {
				w.fail("%v", err)
			}
		}
		w.checkPositions()
	}
	for i := range batches {
		for _, a := range batches[i].answers {
			if fn := w.waiters[a.Req]; fn != nil {
				delete(w.waiters, a.Req)
				fn(a)
			}
		}
	}
}

// checkPositions: a durable position never passes a matching event without a row.
func (w *world) checkPositions() {
	for _, id := range w.ids {
		cfg, ok := w.durable.cfg[id]
		if !ok || w.removed[id] {
			continue
		}
		at, d := w.durable.position(id), w.dests[id]
		for o := d.checked + 1; o <= at && int(o) <= len(w.log); o++ {
			if e := w.log[o-1]; cfg.matches(e) && w.durable.rows[simKey{id, o}].State == 0 && !w.inGap(w.durable, id, o) {
				w.fail("durable position %d of dst %d passed event %d, which has no row", at, id, o)
			}
		}
		d.checked = max(d.checked, at)
	}
}

func (w *world) inGap(s *simStore, id hark.DestinationID, o hark.Offset) bool {
	for _, g := range s.gaps[id] {
		if o > g[0] && o <= g[1] {
			return true
		}
	}
	return false
}

func (w *world) checkCaps() {
	total, tenants, hosts, bytes, tb := [2]int{}, map[hark.TenantID][2]int{}, map[string][2]int{}, 0, map[hark.TenantID]int{}
	for _, id := range w.ids {
		d, x := w.dests[id], w.core.dests[id]
		for _, f := range d.flight {
			total[f.class]++
			n := tenants[f.e.tenant]
			n[f.class]++
			tenants[f.e.tenant] = n
			bytes += int(f.e.size)
			tb[f.e.tenant] += int(f.e.size)
			if f.host != "" {
				n := hosts[f.host]
				n[f.class]++
				hosts[f.host] = n
			}
		}
		if x != nil && !x.gone {
			if limit := int(x.ceiling(w.core)) + d.urgent; len(d.flight) > limit && x.set.Concurrency == 0 {
				w.fail("dst %d has %d in flight, limit %d", id, len(d.flight), limit)
			}
			if n := x.lanes[LaneLive]; n > w.lim.Window && !x.set.Pull {
				w.fail("dst %d holds %d exceptions, W is %d", id, n, w.lim.Window)
			}
			if x.pull != nil && x.pull.leased > w.lim.PullWindow {
				w.fail("dst %d has %d leased, limit %d", id, x.pull.leased, w.lim.PullWindow)
			}
		}
	}
	over := func(what string, n [2]int, limit int) {
		if n[0]+n[1] > limit || n[back] > max(1, limit/2) {
			w.fail("%s: %v in flight, limit %d", what, n, limit)
		}
	}
	over("node", total, w.lim.Flight)
	for t, n := range tenants {
		over(fmt.Sprint("tenant ", t), n, w.lim.TenantFlight)
		if tb[t] > w.lim.TenantBytes && n[0]+n[1] > 1 {
			w.fail("tenant %d has %d bytes in flight", t, tb[t])
		}
	}
	for h, n := range hosts {
		if !w.moved { // a destination may move to a full host with attempts in flight
			over("host "+h, n, w.lim.HostFlight)
		}
	}
	if bytes > w.lim.Bytes && total[0]+total[1] > 1 {
		w.fail("%d bytes in flight", bytes)
	}
}

func (w *world) send(s Send) {
	w.stats.sends++
	id, d, e := s.Dest, w.dests[s.Dest], w.log[s.Offset-1]
	k := simKey{id, s.Offset}
	x := w.core.dests[id].all[s.Offset]
	cfg := w.eff.cfg[id]
	w.say("send dst %d offset %d attempt %d lane %d", id, s.Offset, s.Attempt, x.lane)
	row := w.eff.rows[k]
	switch {
	case w.removed[id]:
		w.fail("send to removed dst %d", id)
	case d.flight[k].e.o != 0:
		w.fail("dst %d offset %d is in flight twice", id, s.Offset)
	case row.State.Finished():
		w.fail("dst %d offset %d is sent though it is %v", id, s.Offset, row.State)
	case w.eff.tries[k] >= s.Attempt:
		w.fail("dst %d offset %d: attempt %d is sent though its result is known", id, s.Offset, s.Attempt)
	case !cfg.set.Active && !x.urgent && w.core.dests[id].active():
		w.fail("dst %d is paused and sends %d", id, s.Offset)
	case x.lane == LaneLive && !cfg.matches(e) && row.State == 0: // with a row it matched when a lost position passed it
		w.fail("dst %d gets event %d, which does not match", id, s.Offset)
	case cfg.set.Pull:
		w.fail("push to pull dst %d", id)
	}
	urgent := x.urgent || x.probe || w.core.dests[id].open // a wish or a probe goes out of line
	if x.lane == LaneLive && s.Attempt == 1 && !d.toggled && cfg.set.Waits[0] == 0 && !urgent {
		if cfg.set.Ordered {
			w.checkOrder(id, e)
		} else if s.Offset < d.lastFirst && row.State == 0 {
			w.fail("dst %d: first attempt of %d after that of %d", id, s.Offset, d.lastFirst)
		}
		d.lastFirst = max(d.lastFirst, s.Offset)
	} else if x.lane == LaneLive && cfg.set.Ordered && !d.toggled {
		w.checkOrder(id, e)
	}
	d.flight[k] = simFlight{e, x.class, w.core.dests[id].set.Host, x.lane == LaneLive}
	took := int64(1 + w.rng.IntN(20))
	switch {
	case w.healthy:
	case d.mood == "slow":
		took = int64(500 + w.rng.IntN(3000))
	case d.mood == "down" && w.chance(50):
		took = 2000
	}
	w.inEpoch(took, func() {
		delete(d.flight, k)
		w.core.Done(w.now, id, s.Offset, s.Attempt, w.outcome(id, e))
		w.drain()
	})
}

// checkOrder: nothing of the key that comes before in the log may be unfinished.
func (w *world) checkOrder(id hark.DestinationID, e simEvent) {
	cfg := w.eff.cfg[id]
	for _, f := range w.dests[id].flight {
		if f.live && f.e.key == e.key {
			w.fail("dst %d: two in flight with key %d: %d and %d", id, e.key, f.e.o, e.o)
		}
	}
	for _, before := range w.log[:e.o-1] {
		k := simKey{id, before.o}
		row := w.eff.rows[k]
		if before.key != e.key || !cfg.matches(before) || row.State.Finished() || w.inGap(w.eff, id, before.o) {
			continue
		}
		if x := w.core.dests[id].all[before.o]; x != nil && x.lane != LaneLive {
			continue
		}
		w.fail("dst %d sends %d of key %d before %d is finished (%v)", id, e.o, e.key, before.o, row.State)
	}
}

func (w *world) outcome(id hark.DestinationID, e simEvent) Result {
	d := w.dests[id]
	r := Result{Outcome: hark.OK, Status: 200, Started: time.UnixMilli(w.now), Duration: time.Millisecond}
	switch {
	case e.o <= w.floor[e.tenant]:
		return Result{Gone: true}
	case w.healthy:
	case d.every > 0 && e.o%d.every == 0:
		r.Outcome = hark.Rejected
	case d.mood == "down":
		r.Outcome = []hark.Outcome{hark.ConnectError, hark.TimedOut, hark.Overloaded}[w.rng.IntN(3)]
	case d.mood == "throttle":
		r.Outcome = hark.Throttled
		r.RetryAfter = time.Duration(w.rng.IntN(3)) * time.Second
	case d.mood == "reject":
		r.Outcome = hark.Rejected
	case d.mood == "flaky" && w.chance(5):
		r.Outcome, r.Ours = hark.ConnectError, true
	case d.mood == "flaky" && w.chance(50):
		r.Outcome = hark.Outcome(hark.Rejected + hark.Outcome(w.rng.IntN(int(hark.Unsendable-hark.Rejected)+1)))
		if r.Outcome == hark.Unsubscribed && w.chance(80) {
			r.Outcome = hark.Overloaded
		}
	}
	w.say("result dst %d offset %d %v", id, e.o, r.Outcome)
	return r
}

// page reads the log for a destination, with its topics of now.
func (w *world) page(r Read) (p Page) {
	cfg := w.eff.cfg[r.Dest]
	p.Next = r.After
	if f := w.floor[cfg.set.Tenant]; f > r.After {
		for _, e := range w.log[r.After:f] {
			if e.tenant == cfg.set.Tenant {
				p.GapTo, p.Next = f, f
				w.stats.gaps++
				break
			}
		}
	}
	for _, e := range w.log[min(int(p.Next), len(w.log)):] {
		if len(p.Metas) == r.Limit {
			return p
		}
		if w.nowMatches(cfg, e) {
			p.Metas = append(p.Metas, e.meta())
		}
		p.Next = e.o
	}
	p.End = true
	return p
}

func (w *world) nowMatches(cfg simCfg, e simEvent) bool {
	return e.tenant == cfg.set.Tenant && e.o > w.floor[e.tenant] && strings.Contains(cfg.topics[len(cfg.topics)-1].set, e.topic)
}

func (w *world) answerReplay(r Read) {
	w.stats.replays++
	cfg := w.eff.cfg[r.Dest]
	var page []Replayed
	next, end := r.Upto, true
	for _, e := range w.log[r.After:r.Upto] {
		if len(page) == r.Limit {
			end = false
			break
		}
		if w.nowMatches(cfg, e) {
			row := w.eff.rows[simKey{r.Dest, e.o}]
			page = append(page, Replayed{e.meta(), row})
		}
		next = e.o
	}
	w.core.ReplayPage(w.now, r.Dest, r.Gen, page, next, end)
	w.drain()
}
