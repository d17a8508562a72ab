package device

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/push"
)

var (
	simSeed = flag.Uint64("device.seed", 0, "run one simulation with this seed")
	simRuns = flag.Int("device.runs", 4, "how many simulations")
)

// TestSimulation: devices come, change, die and come back, push services fail in every way,
// settings change and the power is cut, while events are pushed. In the end nothing is lost
// or stuck, nothing is doubled but what was not committed at a cut, who was deleted was told
// to be gone, once, and nobody else was.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		simulate(t, *simSeed)
		return
	}
	base := uint64(time.Now().UnixNano())
	for i := range uint64(*simRuns) {
		simulate(t, base+i)
		if t.Failed() {
			t.Fatalf("again with: go test ./internal/device -run TestSimulation -device.seed=%d", base+i)
		}
	}
}

// ledger is what the world outside knows.
type ledger struct {
	mu      sync.Mutex
	tokens  map[string]*simDevice
	events  []*simEvent
	answers map[hark.DeviceID]bool // by id: a push service said that it is gone
	removed map[hark.DeviceID]bool // its owner took it away
}

// simDevice is one token, as its owner sees it.
type simDevice struct {
	dead       bool // its push service does not know it
	id         hark.DeviceID
	registered bool
	// Since when, without a break, it has had its topic and has been there; an event that was
	// published after it must arrive. Unsure says that a change was under way.
	since  hark.Offset
	topic  hark.Pattern
	unsure bool
	life   int // of those that it has had: each end of it counts
}

type simEvent struct {
	event  *hark.Event
	wanted []wanted // who must get it
	done   bool
}

func (l *ledger) copy() *ledger {
	c := &ledger{tokens: map[string]*simDevice{}, answers: maps.Clone(l.answers), removed: maps.Clone(l.removed)}
	for token, d := range l.tokens {
		x := *d
		c.tokens[token] = &x
	}
	for _, e := range l.events {
		x := *e
		c.events = append(c.events, &x)
	}
	return c
}

// wanted is a token in one of its lives.
type wanted struct {
	token string
	life  int
}

const (
	simTokens = 60
	simJobs   = 3
	simLives  = 3
)

type sim struct {
	t     *testing.T
	rng   *rand.Rand
	w     *world
	book  *ledger
	fake  *fakeSender
	calm  bool
	mu    sync.Mutex // guards rng where many use it
	cuts  int
	dir   *fakeDirectory
	fs    *vfs.MemFS
	topic func(*rand.Rand) string
}

func (s *sim) chance(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n) == 0
}

func (s *sim) random() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Uint64()
}

// answer is a push service that is never well.
func (s *sim) answer(_ *hark.Destination, d *hark.Device, _ *push.Composed) push.Result {
	token := d.Token.Reveal()
	s.book.mu.Lock()
	dead := s.book.tokens[token].dead
	if dead {
		s.book.answers[d.ID] = true
	}
	calm := s.calm
	s.book.mu.Unlock()
	switch {
	case dead:
		return push.Result{Outcome: push.TargetGone, Status: 410}
	case calm:
	case s.chance(5):
		return push.Result{Outcome: push.RetryAt, Status: 503}
	case s.chance(40):
		time.Sleep(80 * time.Millisecond) // longer than its page waits
		return push.Result{Outcome: push.Accepted, Status: 201}
	case s.chance(60):
		return push.Result{Outcome: push.ConfigError, Status: 401, Wide: true}
	case s.chance(60):
		return push.Result{Outcome: push.ConfigError, Status: 403}
	case s.chance(80):
		time.Sleep(time.Millisecond)
		return push.Result{Outcome: push.RetryAt, Status: 429, After: 20 * time.Millisecond}
	}
	return push.Result{Outcome: push.Accepted, Status: 201}
}

// owner does something with one of its tokens.
func (s *sim) owner(rng *rand.Rand, token string) {
	s.book.mu.Lock()
	d := s.book.tokens[token]
	was := *d
	d.unsure = true
	s.book.mu.Unlock()
	w := s.w
	finish := func(change func()) {
		s.book.mu.Lock()
		defer s.book.mu.Unlock()
		d.unsure = false
		d.since = w.log.End()
		change()
	}
	switch rng.IntN(6) {
	case 0, 1, 2: // registers, perhaps after it was dead
		s.book.mu.Lock()
		d.dead = false
		s.book.mu.Unlock()
		topic := hark.Pattern(s.topic(rng))
		made, _, err := w.Register(theTenant, []*hark.Device{{Kind: "fcm", Token: hark.Secret(token), User: token, Topics: []hark.Pattern{topic, "extra." + hark.Pattern(token)}}})
		if err != nil {
			s.t.Error(err)
			return
		}
		finish(func() { d.registered, d.topic, d.id = true, topic, made[0].ID })
	case 3: // changes its topic
		if !was.registered {
			finish(func() {})
			return
		}
		topic := hark.Pattern(s.topic(rng))
		_, err := w.Update(theTenant, was.id, Patch{Topics: []hark.Pattern{topic}}, nil)
		finish(func() {
			if d.topic = topic; err != nil {
				d.registered = false // it was dead, and went
				d.life++
			}
		})
	case 4: // is taken away
		if !was.registered || rng.IntN(3) > 0 {
			finish(func() { d.since = was.since })
			return
		}
		err := w.Delete(theTenant, was.id, nil)
		finish(func() {
			d.registered = false
			d.life++
			if err == nil {
				s.book.removed[was.id] = true
			}
		})
	case 5: // dies
		finish(func() {
			if was.registered && rng.IntN(4) == 0 {
				d.dead = true
				d.life++
			}
		})
	}
}

// publish appends an event and notes who must get it.
func (s *sim) publish(rng *rand.Rand) {
	topic := strings.NewReplacer("*", "x", ">", "y.z").Replace(s.topic(rng))
	done, err := s.w.log.Append(context.Background(), theTenant, []hark.Event{{Topic: topic, ContentType: "application/json", Data: []byte(aMessage)}}, eventlog.Idempotency{})
	if err != nil {
		s.t.Error(err)
		return
	}
	e, err := s.w.log.Event(theTenant, done.First.Offset)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	s.book.events = append(s.book.events, &simEvent{event: e})
}

// job pushes an event until it is done, as package deliver would.
func (s *sim) job(ctx context.Context, e *simEvent) {
	for ctx.Err() == nil {
		// Who had the topic when it was published, and keeps it until the push is over, must have it.
		s.book.mu.Lock()
		before := map[string]simDevice{}
		for token, d := range s.book.tokens {
			if d.registered && !d.unsure && !d.dead && d.since < e.event.ID.Offset && d.topic.Match(e.event.Topic) {
				before[token] = *d
			}
		}
		s.book.mu.Unlock()
		r := s.w.Push(ctx, s.w.audience(), e.event)
		if r.Ours {
			time.Sleep(time.Millisecond)
			continue
		}
		s.book.mu.Lock()
		defer s.book.mu.Unlock()
		e.done = true
		for token, was := range before {
			if d := s.book.tokens[token]; !d.unsure && d.registered && d.since == was.since && d.id == was.id && !d.dead {
				e.wanted = append(e.wanted, wanted{token, d.life})
			}
		}
		return
	}
}

// live goes on until the power is cut, and returns the disk and the ledger of that moment.
func (s *sim) live() (*vfs.MemFS, *ledger) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for g := range 4 {
		rng := rand.New(rand.NewPCG(s.random(), uint64(g)))
		wg.Go(func() {
			for ctx.Err() == nil {
				s.owner(rng, fmt.Sprint("t", g+4*rng.IntN(simTokens/4)))
				time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
			}
		})
	}
	publisher := rand.New(rand.NewPCG(s.random(), 9))
	wg.Go(func() {
		for ctx.Err() == nil {
			s.publish(publisher)
			if publisher.IntN(10) == 0 {
				s.dir.change(theAudience, func(*hark.Destination) {})
				s.w.Changed(nil)
			}
			time.Sleep(time.Duration(publisher.IntN(20)) * time.Millisecond)
		}
	})
	wg.Go(func() { s.jobs(ctx) })
	s.mu.Lock()
	pause := time.Duration(50+s.rng.IntN(300)) * time.Millisecond
	percent, seed := s.rng.IntN(101), s.rng.Uint64()
	s.mu.Unlock()
	time.Sleep(pause)
	s.book.mu.Lock()
	told := s.book.copy()
	s.book.mu.Unlock()
	after := s.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 3))})
	s.book.mu.Lock()
	for token, d := range s.book.tokens { // what was begun, or done, meanwhile may be on that disk
		if *d != *told.tokens[token] {
			told.tokens[token].unsure = true
		}
	}
	s.book.mu.Unlock()
	cancel()
	wg.Wait()
	s.w.stop()
	return after, told
}

// jobs keeps some pushes going.
func (s *sim) jobs(ctx context.Context) {
	var wg sync.WaitGroup
	room := make(chan struct{}, simJobs)
	begun := map[hark.EventID]bool{}
	for ctx.Err() == nil {
		s.book.mu.Lock()
		var next *simEvent
		for _, e := range s.book.events {
			if !e.done && !begun[e.event.ID] {
				next = e
				break
			}
		}
		calm := s.calm
		s.book.mu.Unlock()
		if next == nil {
			if calm {
				break
			}
			time.Sleep(time.Millisecond)
			continue
		}
		begun[next.event.ID] = true
		room <- struct{}{}
		wg.Go(func() { s.job(ctx, next); <-room })
	}
	wg.Wait()
}

func simulate(t *testing.T, seed uint64) {
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fake: newFake(), dir: newDirectory(), fs: vfs.NewCrashableMem(),
		book: &ledger{tokens: map[string]*simDevice{}, answers: map[hark.DeviceID]bool{}, removed: map[hark.DeviceID]bool{}},
		topic: func(rng *rand.Rand) string {
			return [...]string{"news", "news.*", "news.>", "a.b.c", "a.*.c", "a.>"}[rng.IntN(6)]
		}}
	for i := range simTokens {
		s.book.tokens[fmt.Sprint("t", i)] = &simDevice{}
	}
	s.fake.set(s.answer)
	lim := quick
	lim.Page, lim.Patience, lim.Lease = 32, 50*time.Millisecond, 2*time.Second // nobody is pushed to again for being slow
	gentle := seed%4 == 0                                                      // it is stopped, not cut: then nothing at all may be doubled
	for range simLives {
		s.w = openWorld(t, s.fs, s.dir, s.fake, lim)
		s.look()
		if fs, told := s.live(); !gentle {
			s.cuts++
			s.fs, s.book = fs, told
		}
		if t.Failed() {
			return
		}
	}
	s.settle(lim)
	s.w.stop()
}

// look has owners look how it stands with what they were about when the power went.
func (s *sim) look() {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for token, d := range s.book.tokens {
		if !d.unsure {
			continue
		}
		id, found, err := s.w.store.DeviceAt(theTenant, s.w.targetOf(&hark.Device{App: hark.DefaultApp, Token: hark.Secret(token)}))
		if err != nil {
			s.t.Fatal(err)
		}
		if d.registered && (!found || id != d.id) {
			s.book.removed[d.id] = true
		}
		if d.registered, d.id = found, id; found {
			x, err := s.w.Get(theTenant, id)
			if err != nil {
				s.t.Fatal(err)
			}
			d.topic = x.Topics[0]
		}
		d.unsure, d.since, d.life = false, s.w.log.End(), d.life+1
	}
}

// settle lets everything come to its end in peace, and checks what is promised.
func (s *sim) settle(lim Limits) {
	t := s.t
	// What was under way when the power went may be there or not.
	s.w = openWorld(t, s.fs, s.dir, s.fake, lim)
	s.look()
	s.book.calm(s)
	s.checkRegistered()
	s.jobs(context.Background())
	s.w.Changed(nil)
	eventually(t, "what failed is pushed again", func() bool { return s.w.Waiting() == 0 })
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	s.checkDelivered()
	s.checkGone()
}

// checkRegistered: whoever registered and was told so is there.
func (s *sim) checkRegistered() {
	t := s.t
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for token, d := range s.book.tokens {
		if id, found, err := s.w.store.DeviceAt(theTenant, s.w.targetOf(&hark.Device{App: hark.DefaultApp, Token: hark.Secret(token)})); err != nil {
			t.Fatal(err)
		} else if d.registered && !d.unsure && !d.dead && !s.book.answers[d.id] && (!found || id != d.id) {
			t.Errorf("%s was registered as %v and is %v", token, d.id, id)
		}
	}
}

func (l *ledger) calm(s *sim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.calm = true
}

// checkDelivered: who had to get an event has it; nobody more often than cuts explain.
func (s *sim) checkDelivered() {
	total, doubled := 0, 0
	for _, e := range s.book.events {
		for _, x := range e.wanted {
			token := x.token
			if d := s.book.tokens[token]; d.life != x.life || d.unsure {
				continue // it was taken away, or died, before what had failed was tried again
			}
			if s.fake.times(token, e.event.ID) == 0 {
				s.t.Errorf("%s (%+v) never got %v of %s: %s", token, *s.book.tokens[token], e.event.ID, e.event.Topic, s.outcomes(token, e))
			}
		}
		total += len(e.wanted)
	}
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	for token, of := range s.fake.taken {
		for id, n := range of {
			if doubled += n - 1; n > 1+s.cuts {
				s.t.Errorf("%s got %v %d times", token, id, n)
			}
		}
	}
	// At a cut, of each job and of the batch of retries at most a page is not committed,
	// and for each slow one a retry stands in its place.
	if most := s.cuts * (simJobs + 2) * 32; doubled > most {
		s.t.Errorf("%d doubled, at most %d", doubled, most)
	}
	s.t.Logf("%d events, %d deliveries that had to be, %d doubled at %d cuts", len(s.book.events), total, doubled, s.cuts)
}

// outcomes is what is known of an event and a token.
func (s *sim) outcomes(token string, e *simEvent) (text string) {
	page, _, err := s.w.Outcomes(theTenant, hark.DeliveryID{Destination: theAudience, Event: e.event.ID}, "", 1000)
	if err != nil {
		return err.Error()
	}
	for _, o := range page {
		if o.Device == s.book.tokens[token].id {
			text += fmt.Sprintf("\n\t%v %s %s %d try %d", o.At.Format("05.000"), o.Outcome, o.Code, o.Status, o.Try)
		}
	}
	for _, x := range s.fake.tries {
		if x.token == token && x.event == e.event.ID {
			text += "\n\tsent " + x.at.UTC().Format("05.000000")
		}
	}
	return text
}

// checkGone: every device that is not there was taken away by its owner or told to be gone,
// by an event that tells of it once.
func (s *sim) checkGone() {
	told := map[string]int{}
	for _, data := range s.w.told(goneTopic) {
		var x struct{ Devices []toldDevice }
		unmarshal(s.t, data, &x)
		for _, d := range x.Devices {
			told[d.Device.String()]++
			if !s.book.answers[d.Device] {
				s.t.Errorf("%v is told to be gone, and no push service said so", d.Device)
			}
			if _, err := s.w.Get(theTenant, d.Device); hark.KindOf(err) != hark.NotFound {
				s.t.Errorf("%v is told to be gone, and is there: %v", d.Device, err)
			}
		}
	}
	for id, n := range told {
		if n != 1 {
			s.t.Errorf("%s is told to be gone %d times", id, n)
		}
	}
	for token, d := range s.book.tokens {
		if !d.registered || d.unsure || s.book.removed[d.id] {
			continue
		}
		_, err := s.w.Get(theTenant, d.id)
		switch missing := hark.KindOf(err) == hark.NotFound; {
		case err != nil && !missing:
			s.t.Error(err)
		case missing && told[d.id.String()] != 1:
			s.t.Errorf("%s (%v) is not there, and nothing tells why", token, d.id)
		case missing && !d.dead && !s.book.answers[d.id]:
			s.t.Errorf("%s (%v) was deleted and lives", token, d.id)
		}
	}
}
