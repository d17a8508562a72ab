package device

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/store"
)

// world is a store, a log and devices over it, with a fake in the place of push services.
type world struct {
	*Audiences
	t    testing.TB
	fs   vfs.FS
	log  *eventlog.Log
	dir  *fakeDirectory
	fake *fakeSender
	stop func()
}

// fakeDirectory holds audiences.
type fakeDirectory struct {
	mu  sync.Mutex
	all map[hark.DestinationID]*hark.Destination
}

func (f *fakeDirectory) Audience(t hark.TenantID, app string) (*hark.Destination, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.all {
		if d.Tenant == t && App(d) == app {
			return d, nil
		}
	}
	return nil, hark.NoSuch("audience", app)
}

func (f *fakeDirectory) Destination(t hark.TenantID, id hark.DestinationID) (*hark.Destination, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.all[id]; d != nil && d.Tenant == t {
		return d, nil
	}
	return nil, hark.NoSuch("destination", id.String())
}

func (f *fakeDirectory) change(id hark.DestinationID, edit func(*hark.Destination)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := *f.all[id]
	edit(&d)
	d.Revision++
	f.all[id] = &d
}

// fakePlatforms takes devices of every kind whose token is their target.
type fakePlatforms struct{}

func (fakePlatforms) Register(d *hark.Device) error {
	if d.Token == "" {
		return hark.Invalidf("token", "is needed")
	}
	return nil
}

func (fakePlatforms) Target(d *hark.Device) [32]byte { return sha256.Sum256([]byte(d.Token)) }

func (fakePlatforms) Keys(*hark.Destination) []VAPIDKey { return nil }

// sent is one push that a fake took.
type sent struct {
	token string
	event hark.EventID
	at    time.Time
}

// fakeSender answers as it is told, and remembers what it accepted.
type fakeSender struct {
	mu sync.Mutex
	// answer says what comes of a try; nil accepts.
	answer func(a *hark.Destination, d *hark.Device, c *push.Composed) push.Result
	tries  []sent
	taken  map[string]map[hark.EventID]int // by token
	asked  atomic.Int64                    // to Begin
}

func (f *fakeSender) Compose(_ *hark.Destination, e *hark.Event) (*push.Composed, error) {
	return push.Compose(e, nil)
}

func (f *fakeSender) Send(ctx context.Context, a *hark.Destination, d *hark.Device, c *push.Composed, now time.Time) push.Result {
	r := push.Result{Outcome: push.Accepted, Status: 201}
	f.mu.Lock()
	answer := f.answer
	f.tries = append(f.tries, sent{d.Token.Reveal(), c.Event().ID, now})
	f.mu.Unlock()
	if answer != nil {
		r = answer(a, d, c)
	}
	if r.Outcome == push.Accepted {
		f.mu.Lock()
		of := f.taken[d.Token.Reveal()]
		if of == nil {
			of = map[hark.EventID]int{}
			f.taken[d.Token.Reveal()] = of
		}
		of[c.Event().ID]++
		f.mu.Unlock()
	}
	return r
}

// Begin implements Beginner: every second time it does not.
func (f *fakeSender) Begin(ctx context.Context, a *hark.Destination, d *hark.Device, c *push.Composed, now time.Time, done func(push.Result)) bool {
	if f.asked.Add(1)%2 == 0 {
		return false
	}
	go func() { done(f.Send(ctx, a, d, c, now)) }()
	return true
}

// Behind implements Beginner.
func (f *fakeSender) Behind() (time.Duration, bool) { return 0, f.asked.Load()%4 < 2 }

func (f *fakeSender) times(token string, e hark.EventID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken[token][e]
}

func (f *fakeSender) set(answer func(*hark.Destination, *hark.Device, *push.Composed) push.Result) {
	f.mu.Lock()
	f.answer = answer
	f.mu.Unlock()
}

func newFake() *fakeSender { return &fakeSender{taken: map[string]map[hark.EventID]int{}} }

const (
	theTenant   = hark.DefaultTenant
	theAudience = hark.DestinationID(7)
)

func newDirectory() *fakeDirectory {
	return &fakeDirectory{all: map[hark.DestinationID]*hark.Destination{
		theAudience: {ID: theAudience, Tenant: theTenant, Kind: hark.AudienceKind, UID: hark.AudienceUID + hark.DefaultApp,
			Topics: []hark.Pattern{">"}, State: hark.DestinationActive, Revision: 1}}}
}

var quick = Limits{Page: 64, Patience: 10 * time.Second, HoldFor: 100 * time.Millisecond, Narrow: 20 * time.Millisecond, Lease: 400 * time.Millisecond,
	MinWait: 5 * time.Millisecond, BaseWait: 10 * time.Millisecond, MaxWait: 40 * time.Millisecond, Stop: time.Second}

// open starts a world on a file system; it ends with the test, or before by stop.
func openWorld(t testing.TB, fs vfs.FS, dir *fakeDirectory, fake *fakeSender, lim Limits) *world {
	t.Helper()
	s, err := store.Open(store.Options{FS: fs, Dir: "data", ValueBytes: 20})
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Open(eventlog.Config{Store: s, Policy: func(hark.TenantID) eventlog.Policy { return eventlog.Policy{} }})
	if err != nil {
		t.Fatal(err)
	}
	devices, err := Open(Config{Store: s, Directory: dir, Platforms: fakePlatforms{}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAudiences(AudienceConfig{Devices: devices, Log: log, Sender: fake, Limits: lim, Hooks: Hooks{
		Failed: func(what string, err error) { t.Errorf("%s: %v", what, err) }}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Audiences: a, t: t, fs: fs, log: log, dir: dir, fake: fake}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	logCtx, stopLog := context.WithCancel(context.Background())
	running.Go(func() { log.Run(logCtx) })
	ran := make(chan struct{})
	go func() { a.Run(ctx); close(ran) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-ran
		stopLog()
		running.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func newWorld(t testing.TB) *world {
	return openWorld(t, vfs.NewMem(), newDirectory(), newFake(), quick)
}

// publish appends an event.
func (w *world) publish(topic, data string) *hark.Event {
	w.t.Helper()
	done, err := w.log.Append(context.Background(), theTenant, []hark.Event{{Topic: topic, ContentType: "application/json", Data: []byte(data)}}, eventlog.Idempotency{})
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := w.log.Event(theTenant, done.First.Offset)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) audience() *hark.Destination {
	d, err := w.dir.Destination(theTenant, theAudience)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// push pushes an event, and returns the tally.
func (w *world) push(e *hark.Event) (tally Tally) {
	w.t.Helper()
	r := w.Push(context.Background(), w.audience(), e)
	if err := json.Unmarshal(r.Snippet, &tally); err != nil || r.Outcome != hark.OK || r.Ours {
		w.t.Fatalf("%+v", r)
	}
	return tally
}

// device registers one.
func (w *world) device(token, user string, topics ...hark.Pattern) *hark.Device {
	w.t.Helper()
	made, _, err := w.Register(theTenant, []*hark.Device{{Kind: "fcm", Token: hark.Secret(token), User: user, Topics: topics}})
	if err != nil {
		w.t.Fatal(err)
	}
	return made[0]
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// told returns the operational events of a topic.
func (w *world) told(topic string) (data []string) {
	w.t.Helper()
	page, err := w.log.Read(theTenant, eventlog.Query{Patterns: []hark.Pattern{hark.Pattern(topic)}, Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range page.Events {
		data = append(data, string(e.Data))
	}
	return data
}
