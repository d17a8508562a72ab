package pushservice

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark/internal/store"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "seed of the simulation; 0 for one of the time")
	simSteps = flag.Int("sim.steps", 0, "steps of the simulation; 0 for 3000, or 600 if short")
)

// TestSimulation: senders, user agents that come and go, power cuts, at random. No message that
// was acknowledged to its sender is lost before its TTL is over; none is sent again after it was
// acknowledged by its user agent, but when a power cut may have taken that; none that was
// replaced, withdrawn or unsubscribed is sent; and each has one version.
func TestSimulation(t *testing.T) {
	seed := *simSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-sim.seed=%d", seed)
	steps := *simSteps
	if steps == 0 {
		if steps = 3000; testing.Short() {
			steps = 600
		}
	}
	m := &sim{T: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewCrashableMem(), clock: time.Unix(1_800_000_000, 0), receipt: store.PushReceipt{7}}
	m.open()
	if err := m.store.Commit(&store.PushReceiptKept{Receipt: m.receipt, Expiry: m.clock.Add(365 * day).Unix()}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		m.agents = append(m.agents, &simAgent{secret: newSecret()})
	}
	for i := range steps {
		if m.step(); t.Failed() {
			t.Fatalf("at step %d", i)
		}
	}
	m.settle()
	m.close()
}

// sim is a service and what is known of it.
type sim struct {
	*testing.T
	rng     *rand.Rand
	fs      *vfs.MemFS
	store   *store.Store
	service *Service
	receipt store.PushReceipt
	agents  []*simAgent

	mu    sync.Mutex // guards below
	clock time.Time
	all   []*simMessage
	asked int // sends that began since the last power cut
}

type simAgent struct {
	secret  secret
	known   bool // it subscribed once
	subs    []*simSub
	urgency byte

	// While it is connected:
	agent  *agent
	outlet *outlet
	sent   map[uint64]bool // over this connection
}

type simSub struct {
	agent    *simAgent
	channel  store.PushChannel
	endpoint secret
	ended    bool
}

// certainty is what is known of something that happens: a power cut makes what was not
// synced uncertain.
type certainty int

const (
	no certainty = iota
	unsynced
	maybe
	yes
)

type simMessage struct {
	n        int
	sub      *simSub
	topic    string
	expiry   time.Time
	urgency  byte
	accepted certainty
	ended    certainty // acknowledged, withdrawn, replaced, or its subscription ended
	why      string
	sequence uint64
	version  messageID
	told     uint16
}

func (m *sim) open() {
	st, err := store.Open(store.Options{FS: m.fs, Dir: "data"})
	if err != nil {
		m.Fatal(err)
	}
	m.store = st
	m.service, err = New(Config{Store: st, Limits: Limits{NewAgents: -1, NewSubscriptions: -1, SendRate: -1, Messages: 1000, Subscriptions: 1000},
		Hooks: Hooks{Failed: func(what string, err error) { m.Errorf("%s: %v", what, err) }}})
	if err != nil {
		m.Fatal(err)
	}
	m.service.now = func() time.Time {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.clock
	}
}

func (m *sim) close() {
	m.service.sockets.Close()
	if err := m.store.Close(); err != nil {
		m.Error(err)
	}
}

func (m *sim) step() {
	a := m.agents[m.rng.IntN(len(m.agents))]
	switch n := m.rng.IntN(100); {
	case n < 30:
		m.send(a)
	case n < 55:
		m.deliver(a)
	case n < 65:
		m.connect(a)
	case n < 70:
		m.disconnect(a)
	case n < 76:
		m.subscribe(a)
	case n < 78:
		m.unsubscribe(a)
	case n < 82:
		m.withdraw()
	case n < 84:
		m.setUrgency(a, byte(m.rng.IntN(4)))
	case n < 92:
		m.mu.Lock()
		m.clock = m.clock.Add(time.Duration(m.rng.IntN(40)) * time.Second)
		m.mu.Unlock()
	case n < 94:
		if err := m.service.sweep(m.Context()); err != nil {
			m.Error(err)
		}
	case n < 96:
		m.service.syncOnce()
		m.synced()
	case n < 98:
		m.burst()
	default:
		m.powerCut(nil)
	}
}

// synced: all that was written before is durable.
func (m *sim) synced() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.all {
		if x.ended == unsynced {
			x.ended = yes
		}
	}
}

func (m *sim) connect(a *simAgent) {
	if a.agent != nil {
		m.disconnect(a)
	}
	s := m.service
	found, err := s.meet(a.secret)
	if err != nil {
		m.Fatal(err)
	}
	if found == nil {
		if a.known {
			m.Fatal("a user agent that has subscriptions is not known any more")
		}
		found = s.newAgent(a.secret)
	}
	o := &outlet{window: window, wake: func() {}, replace: func() {}}
	s.attach(found, o)
	s.keep(found)
	s.release(found)
	a.agent, a.outlet, a.sent = found, o, map[uint64]bool{}
}

func (m *sim) disconnect(a *simAgent) {
	if a.agent == nil {
		return
	}
	m.service.detach(a.outlet)
	m.service.drop(a.agent)
	a.agent, a.outlet = nil, nil
}

func (m *sim) subscribe(a *simAgent) {
	if len(a.subs) > 5 {
		return
	}
	if a.agent == nil {
		m.connect(a)
	}
	sub := &simSub{agent: a, channel: newChannel()}
	a.agent.mu.Lock()
	made, no := m.service.subscribe(wish{agent: a.agent, secret: a.secret, channel: sub.channel, from: netip.MustParsePrefix("192.0.2.1/32")})
	a.agent.mu.Unlock()
	if no != nil {
		m.Fatal(no)
	}
	sub.endpoint = a.secret.derive(toSend, made.Made)
	a.known = true
	a.subs = append(a.subs, sub)
	m.synced()
}

func (m *sim) unsubscribe(a *simAgent) {
	if len(a.subs) == 0 {
		return
	}
	i := m.rng.IntN(len(a.subs))
	sub := a.subs[i]
	if a.agent == nil {
		m.connect(a)
	}
	a.agent.mu.Lock()
	row, ok, err := m.store.PushSubscription(a.agent.number, sub.channel)
	if err != nil || !ok {
		m.Fatalf("subscription: %v, %v", ok, err)
	}
	err = m.service.unsubscribe(a.agent, row)
	a.agent.mu.Unlock()
	if err != nil {
		m.Fatal(err)
	}
	a.subs = slices.Delete(a.subs, i, i+1)
	sub.ended = true
	m.synced()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.all {
		if x.sub == sub && x.ended != yes {
			x.ended, x.why = yes, "unsubscribed"
		}
	}
}

func (m *sim) setUrgency(a *simAgent, level byte) {
	if a.agent == nil || !a.known {
		return
	}
	a.agent.mu.Lock()
	defer a.agent.mu.Unlock()
	if err := m.service.setUrgency(a.agent, level); err != nil {
		m.Fatal(err)
	}
	a.urgency = level
	m.synced()
}

// send sends one message to one of a's subscriptions.
func (m *sim) send(a *simAgent) {
	if len(a.subs) == 0 {
		return
	}
	m.post(m.message(a))
	m.synced()
}

// message makes one up.
func (m *sim) message(a *simAgent) *simMessage {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := &simMessage{n: len(m.all), sub: a.subs[m.rng.IntN(len(a.subs))], urgency: byte(m.rng.IntN(4))}
	if m.rng.IntN(2) == 0 {
		x.topic = fmt.Sprint("t", m.rng.IntN(3))
	}
	x.expiry = m.clock.Add(time.Duration(1+m.rng.IntN(200)) * time.Second)
	m.all = append(m.all, x)
	return x
}

// post sends x. Its twin of the same topic is uncertain while it is under way.
func (m *sim) post(x *simMessage) {
	e, no := m.service.find(x.sub.endpoint.text(), store.PushToSend)
	if no != nil {
		m.Errorf("the endpoint of a subscription: %v", no)
		return
	}
	m.mu.Lock()
	x.accepted = maybe
	for _, old := range m.all {
		if x.replaces(old, m.clock) && old.ended != yes && old.accepted != maybe {
			old.ended, old.why = maybe, "being replaced"
		}
	}
	ttl := x.expiry.Sub(m.clock)
	m.mu.Unlock()
	msg := &store.PushMessage{Urgency: x.urgency, Topic: x.topic, Receipt: m.receipt, Encoding: "aes128gcm", Body: fmt.Append(nil, x.n)}
	id, no := m.service.accept(e, msg, ttl)
	if no != nil {
		m.Errorf("message %d was refused: %v", x.n, no)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, x.sequence, _ = m.service.place(id)
	x.accepted = yes
	for _, old := range m.all { // those that came before it
		if x.replaces(old, m.clock) && old.sequence != 0 && old.sequence < x.sequence && old.ended != yes {
			old.ended, old.why = yes, fmt.Sprint("replaced by ", x.n)
		}
		if x.replaces(old, m.clock) && old.sequence > x.sequence {
			x.ended, x.why = yes, fmt.Sprint("replaced by ", old.n)
		}
	}
}

// replaces reports whether of x and another message only the later one is to be sent.
func (x *simMessage) replaces(old *simMessage, now time.Time) bool {
	return old != x && old.sub == x.sub && old.topic == x.topic && x.topic != "" && old.expiry.After(now)
}

// deliver has a connected user agent receive, and acknowledge some.
func (m *sim) deliver(a *simAgent) {
	if a.agent == nil {
		return
	}
	batch, err := m.service.take(a.outlet)
	if err != nil {
		m.Fatal(err)
	}
	for _, got := range batch {
		if !m.service.maySend(a.outlet, got) {
			continue
		}
		m.receive(a, got)
		if m.rng.IntN(4) > 0 {
			m.acknowledge(a, got.Sequence)
		}
	}
	if m.rng.IntN(3) == 0 { // late ones
		for sequence := range a.sent {
			if m.rng.IntN(3) == 0 {
				m.acknowledge(a, sequence)
			}
		}
	}
}

// receive judges what a user agent is sent.
func (m *sim) receive(a *simAgent, got *store.PushMessage) {
	var n int
	fmt.Sscan(string(got.Body), &n)
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.all[n]
	version := m.service.messageID(got.Agent, got.Sequence, forAgent)
	switch {
	case x.ended == yes || x.ended == unsynced:
		m.Errorf("message %d was sent, though it is done with: %s", n, x.why)
	case x.sub.agent != a || x.sub.channel != got.Channel:
		m.Errorf("message %d was sent to somebody else", n)
	case !x.expiry.After(m.clock):
		m.Errorf("message %d was sent at %v and had expired at %v", n, m.clock, x.expiry)
	case a.sent[got.Sequence]:
		m.Errorf("message %d was sent twice over one connection", n)
	case got.Urgency < a.urgency || got.Urgency != x.urgency:
		m.Errorf("message %d has urgency %d, and %d is wanted", n, got.Urgency, a.urgency)
	case x.version != messageID{} && x.version != version:
		m.Errorf("message %d has another version", n)
	}
	if x.accepted == maybe { // it was stored, though nobody was told
		x.accepted, x.sequence = yes, got.Sequence
	}
	if x.ended == maybe { // it was not done with, after all
		x.ended, x.why = no, ""
	}
	x.version = version
	a.sent[got.Sequence] = true
}

func (m *sim) acknowledge(a *simAgent, sequence uint64) {
	a.agent.mu.Lock()
	_, err := m.service.acknowledge(a.agent, sequence, Delivered, false)
	a.agent.mu.Unlock()
	if err != nil {
		m.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.all {
		if x.sequence == sequence && x.sub.agent == a && x.ended != yes {
			x.ended, x.why = unsynced, "acknowledged"
		}
	}
}

func (m *sim) withdraw() {
	m.mu.Lock()
	var waiting []*simMessage
	for _, x := range m.all {
		if x.accepted == yes && x.ended == no && x.expiry.After(m.clock) {
			waiting = append(waiting, x)
		}
	}
	m.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	x := waiting[m.rng.IntN(len(waiting))]
	number, ok, err := m.store.PushAgentOf(x.sub.agent.secret.hash())
	if err != nil || !ok {
		m.Fatalf("user agent: %v, %v", ok, err)
	}
	if no := m.service.end(m.service.messageID(number, x.sequence, forSender).String()); no != nil {
		m.Errorf("message %d waits, and cannot be withdrawn: %v", x.n, no)
	}
	m.synced()
	m.mu.Lock()
	defer m.mu.Unlock()
	x.ended, x.why = yes, "withdrawn"
}

// burst sends from many sides at once, and cuts the power in the midst of it, perhaps.
func (m *sim) burst() {
	var sends []*simMessage
	for range 1 + m.rng.IntN(30) {
		if a := m.agents[m.rng.IntN(len(m.agents))]; len(a.subs) > 0 {
			sends = append(sends, m.message(a))
		}
	}
	var wg sync.WaitGroup
	for _, x := range sends {
		wg.Go(func() { m.post(x) })
	}
	if m.rng.IntN(2) == 0 {
		m.powerCut(&wg)
		return
	}
	wg.Wait()
	m.synced()
}

// powerCut goes on with what the disk holds after one; sends may be under way.
func (m *sim) powerCut(under *sync.WaitGroup) {
	m.mu.Lock()
	before := m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: m.rng.IntN(101), RNG: rand.New(rand.NewPCG(m.rng.Uint64(), 2))})
	known := map[*simMessage]simMessage{}
	for _, x := range m.all {
		if x.ended == unsynced {
			x.ended = maybe
		}
		known[x] = *x
	}
	m.mu.Unlock()
	if under != nil {
		under.Wait()
	}
	for _, a := range m.agents {
		m.disconnect(a)
	}
	m.close()
	m.mu.Lock()
	for _, x := range m.all { // what happened after the cut did not
		*x = known[x]
	}
	m.mu.Unlock()
	m.fs = before
	m.open()
}

// settle lets everybody come and take all, and looks at what is missing.
func (m *sim) settle() {
	m.powerCut(nil)
	for _, a := range m.agents {
		if !a.known {
			continue
		}
		m.connect(a)
		m.setUrgency(a, 0)
		for {
			batch, err := m.service.take(a.outlet)
			if err != nil {
				m.Fatal(err)
			}
			if len(batch) == 0 {
				break
			}
			for _, got := range batch {
				if !m.service.maySend(a.outlet, got) {
					m.Errorf("message %s may not be sent", got.Body)
				}
				m.receive(a, got)
				m.acknowledge(a, got.Sequence)
			}
		}
	}
	delivered := 0
	for _, x := range m.all {
		switch {
		case x.accepted == yes && x.ended == no && x.expiry.After(m.clock):
			m.Errorf("message %d (topic %q) is lost", x.n, x.topic)
		case x.why == "acknowledged":
			delivered++
		}
	}
	m.Logf("%d messages, %d delivered", len(m.all), delivered)
	m.judgeReceipts()
	m.clock = m.clock.Add(time.Hour)
	if err := m.service.sweep(m.Context()); err != nil {
		m.Fatal(err)
	}
	if st := m.service.Stats(); st.Messages != 0 || st.MessageBytes != 0 {
		m.Errorf("nothing waits, and yet: %+v", st)
	}
}

// judgeReceipts: senders are told the truth, and of what was replaced or withdrawn nothing.
func (m *sim) judgeReceipts() {
	told := map[messageID]uint16{}
	err := m.store.PushReceipts(m.receipt, func(id [16]byte, status uint16) bool {
		told[id] = status
		return true
	})
	if err != nil {
		m.Fatal(err)
	}
	for _, a := range m.agents {
		if !a.known {
			continue
		}
		number, _, err := m.store.PushAgentOf(a.secret.hash())
		if err != nil {
			m.Fatal(err)
		}
		for _, x := range m.all {
			if x.sub.agent != a || x.accepted != yes {
				continue
			}
			status := told[m.service.messageID(number, x.sequence, forSender)]
			switch {
			case x.why == "acknowledged" && x.ended == unsynced && status != 204:
				m.Errorf("message %d was acknowledged, and its sender told %d", x.n, status)
			case x.why == "withdrawn" && status != 0, len(x.why) > 8 && x.why[:8] == "replaced" && x.ended == yes && x.version == messageID{} && status != 0:
				m.Errorf("message %d was %s, and its sender told %d", x.n, x.why, status)
			}
		}
	}
}
