package push

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/push/post"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/internal/webpush"
)

// Config is what a [Sender] is made of.
type Config struct {
	Client Doer
	// Keeper keeps provider tokens over restarts; nil for none.
	Keeper Keeper
	// CheckURL parses a URL and refuses what could never be reached: [egress.Guard.CheckURL].
	CheckURL func(raw string) (*url.URL, error)
	// Version goes into the User-Agent.
	Version string
	// Subject is whom push services may ask about audiences that name nobody; see
	// [webpush.CheckSubject]. Empty for nobody.
	Subject string
	// Receipt returns the URL at which a device tells that it has shown an event; nil for none.
	Receipt func(e *hark.Event, d *hark.Device) string
	// Keys is how many one-shot keys are made ahead; 0 for 2048.
	Keys int
	// Worker is how to have a worker that posts what goes to many browsers; zero for none.
	Worker post.Worker
	// CacheSize bounds how many audiences are kept ready to send; 0 for 1024.
	CacheSize int
}

// timeout bounds one try: a push service that takes longer has trouble.
const timeout = 20 * time.Second

// maxComposed is how many messages are kept ready for devices that are retried.
const maxComposed = 256

// Sender checks what devices register with and sends to them, over every platform. It is safe
// for concurrent use.
type Sender struct {
	env  environment
	here *post.Here // of env.poster
	size int

	mu        sync.RWMutex // guards below
	audiences map[hark.DestinationID]*audience
	gates     map[gateKey]*gate
	composed  map[composedKey]*Composed
}

// gateKey holds the revision: with other settings an origin may think otherwise.
type gateKey struct {
	audience hark.DestinationID
	revision uint64
	origin   string
}

type composedKey struct {
	audience hark.DestinationID
	revision uint64
	event    hark.EventID
}

// audience is one revision of one, ready to send.
type audience struct {
	revision uint64
	options  *Options
	values   setting.Values
	err      error // its settings cannot be read

	mu       sync.Mutex // guards below
	channels map[string]opened
}

type opened struct {
	channel Channel
	err     error
}

// New makes a Sender. It sends at once; Run makes it faster.
func New(c Config) *Sender {
	if c.CheckURL == nil {
		c.CheckURL = (&egress.Guard{}).CheckURL
	}
	here := post.NewHere(c.Client, cmp.Or(c.Keys, 2048))
	return &Sender{
		env: environment{client: c.Client, keeper: c.Keeper, checkURL: c.CheckURL, userAgent: "Hark/" + cmp.Or(c.Version, "dev"),
			subject: c.Subject, receipt: c.Receipt, poster: post.NewApart(here, c.Worker), signer: webpush.NewSigner()},
		here:      here,
		size:      cmp.Or(c.CacheSize, 1024),
		audiences: make(map[hark.DestinationID]*audience),
		gates:     make(map[gateKey]*gate),
		composed:  make(map[composedKey]*Composed),
	}
}

// Run makes one-shot keys ahead while there is nothing to send, and ends a worker that has nothing
// to do, until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { s.env.poster.Run(ctx) })
	defer both.Wait()
	return s.here.Run(ctx)
}

// Register checks what a device gives to push to it and puts it in canonical form. Its error
// names the field, as in the request that registers a device.
func (s *Sender) Register(d *hark.Device) error {
	p := Find(d.Kind)
	if p == nil {
		return hark.Invalidf("kind", "must be one of "+platformNames())
	}
	if err := CheckLocale(d.Locale); err != nil {
		return err
	}
	return p.register(&s.env, d)
}

// Compose says what e says to the devices of audience a. The same event of the same revision
// is composed once, as long as few others are.
func (s *Sender) Compose(a *hark.Destination, e *hark.Event) (*Composed, error) {
	key := composedKey{a.ID, a.Revision, e.ID}
	s.mu.RLock()
	c := s.composed[key]
	s.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	au := s.audience(a)
	if au.err != nil {
		return nil, au.err
	}
	c, err := Compose(e, au.options)
	if err != nil || a.ID == 0 || e.ID.IsZero() {
		return c, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.composed) >= maxComposed {
		for k := range s.composed { // any: a map's order is as good as a clock hand
			delete(s.composed, k)
			break
		}
	}
	s.composed[key] = c
	return c, nil
}

// ready is a message that can go to a device now, if its gate lets it.
type ready struct {
	channel Channel
	payload Payload
	left    time.Duration // of its TTL
	origin  string
	gate    *gate
}

// prepare makes c ready for d, or says what comes of it instead.
func (s *Sender) prepare(a *hark.Destination, d *hark.Device, c *Composed, now time.Time) (ready, *Result) {
	left, ok := c.left(now)
	if !ok {
		return ready{}, &Result{Outcome: Expired, Error: "its time to live is over"}
	}
	ch, err := s.channel(a, d.Kind)
	if err != nil {
		return ready{}, &Result{Outcome: ConfigError, Code: codeNotSetUp, Error: err.Error(), Wide: true}
	}
	p, err := c.payload(ch, d.Locale)
	if err != nil {
		return ready{}, &Result{Outcome: PayloadError, Code: codeOf(err), Error: err.Error()}
	}
	origin := ch.Origin(d)
	return ready{ch, p, left, origin, s.gate(gateKey{a.ID, a.Revision, origin}, now)}, nil
}

// Send tries once to push c to d, a device of audience a. It waits at most a second for its turn,
// and while the device's origin is shut it answers RetryAt at once.
func (s *Sender) Send(ctx context.Context, a *hark.Destination, d *hark.Device, c *Composed, now time.Time) Result {
	m, fault := s.prepare(a, d, c, now)
	if fault != nil {
		return *fault
	}
	if wait, crowded := m.gate.enter(ctx, now); wait > 0 {
		return Result{Outcome: RetryAt, Code: codeHeld, After: wait, Shut: !crowded, ours: true,
			Error: "the push service is failing, or asked for a pause: it is tried again when that is over"}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	r := m.channel.Send(ctx, d, m.payload, m.left)
	cancel()
	m.gate.leave(&r, time.Now())
	return r
}

// Begin is Send that does not wait, where that is possible: done gets the result, from a goroutine
// that it must not hold up. False if it is not, and nothing was begun: then Send is to be used.
func (s *Sender) Begin(ctx context.Context, a *hark.Destination, d *hark.Device, c *Composed, now time.Time, done func(Result)) bool {
	if !s.env.poster.Ready() {
		return false
	}
	m, fault := s.prepare(a, d, c, now)
	if fault != nil {
		return false
	}
	ch, ok := m.channel.(beginner)
	if !ok || !m.gate.tryEnter(now) {
		return false
	}
	if !ch.begin(ctx, d, m.origin, m.payload, m.left, func(r Result) { m.gate.leave(&r, time.Now()); done(r) }) {
		m.gate.leave(&Result{ours: true}, now)
		return false
	}
	return true
}

// Behind is for how long a message has waited until a worker began to seal it; false if there is
// none that Begin would begin with.
func (s *Sender) Behind() (time.Duration, bool) { return s.env.poster.Behind() }

// codeOf is the stable name of an error.
func codeOf(err error) string {
	if e, ok := errors.AsType[*hark.Error](err); ok {
		return e.Code
	}
	return ""
}

// channel returns what sends for this revision of a over a platform.
func (s *Sender) channel(a *hark.Destination, kind string) (Channel, error) {
	p := Find(kind)
	if p == nil {
		return nil, errors.New("this Hark cannot push to a device of kind " + setting.Clip(kind))
	}
	au := s.audience(a)
	if au.err != nil {
		return nil, au.err
	}
	au.mu.Lock()
	defer au.mu.Unlock()
	o, ok := au.channels[kind]
	if !ok {
		o.channel, o.err = p.open(&s.env, a, au.values.Object(kind))
		au.channels[kind] = o
	}
	return o.channel, o.err
}

// audience returns what is known of this revision of a.
func (s *Sender) audience(a *hark.Destination) *audience {
	s.mu.RLock()
	au := s.audiences[a.ID]
	s.mu.RUnlock()
	if au != nil && au.revision == a.Revision {
		return au
	}
	fresh := newAudience(a)
	if a.ID == 0 || a.Revision == 0 {
		return fresh // not the registry's: a draft being tried
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	au = s.audiences[a.ID]
	switch {
	case au != nil && au.revision == a.Revision:
		return au // somebody else was first
	case au != nil && au.revision > a.Revision:
		return fresh // of a send that began before the change
	case au == nil && len(s.audiences) >= s.size:
		for id := range s.audiences {
			delete(s.audiences, id)
			break
		}
	}
	s.audiences[a.ID] = fresh
	return fresh
}

func newAudience(a *hark.Destination) *audience {
	// What the guard refuses at settings time may have been allowed when they were made;
	// whether it is now is decided when we connect.
	c := &setting.Check{CheckURL: url.Parse}
	v := setting.Parse(c, "settings", Fields(), a.Settings)
	if len(c.Faults) == 0 {
		CheckSettings(c, v)
	}
	au := &audience{revision: a.Revision, values: v, channels: map[string]opened{}, err: errors.Join(c.Faults...)}
	if au.err == nil {
		au.options = newOptions(c, v)
	}
	return au
}

// gate returns the gate of an origin.
func (s *Sender) gate(key gateKey, now time.Time) *gate {
	s.mu.RLock()
	g := s.gates[key]
	s.mu.RUnlock()
	if g != nil {
		return g
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g = s.gates[key]; g != nil {
		return g
	}
	if len(s.gates) >= maxGates {
		s.evictLocked()
	}
	g = newGate()
	g.used = now
	key.origin = strings.Clone(key.origin)
	s.gates[key] = g
	return g
}

// evictLocked drops, of some gates that nobody is at, the one where nobody has been for
// longest. Those at which somebody is are as many as there are sends.
func (s *Sender) evictLocked() {
	var oldest gateKey
	var since time.Time
	seen := 0
	for key, g := range s.gates {
		if used, idle := g.idle(); idle && (since.IsZero() || used.Before(since)) {
			oldest, since = key, used
		}
		if seen++; seen == 32 {
			break
		}
	}
	delete(s.gates, oldest)
}
