package device

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/store"
)

const aMessage = `{"title":"Ann","body":"hi"}`

// TestEachDeviceOnce: every device that wants an event gets it, however many of its
// patterns match, and nobody else.
func TestEachDeviceOnce(t *testing.T) {
	w := newWorld(t)
	var batch []*hark.Device
	for i := range 900 {
		topics := []hark.Pattern{hark.Pattern(fmt.Sprintf("user.%d.>", i))}
		switch i % 3 {
		case 0:
			topics = append(topics, "news.*", "news.>", ">")
		case 1:
			topics = append(topics, "news.today")
		}
		batch = append(batch, &hark.Device{Kind: "fcm", Token: hark.Secret(fmt.Sprint("t", i)), Topics: topics})
	}
	if _, _, err := w.Register(theTenant, batch); err != nil {
		t.Fatal(err)
	}
	e := w.publish("news.today", aMessage)
	if tally := w.push(e); tally != (Tally{Devices: 600, Accepted: 600}) {
		t.Errorf("%+v", tally)
	}
	for i := range 900 {
		want := 1
		if i%3 == 2 {
			want = 0
		}
		if n := w.fake.times(fmt.Sprint("t", i), e.ID); n != want {
			t.Errorf("device %d: %d times", i, n)
		}
	}
	if tally := w.push(w.publish("user.8.x", aMessage)); tally != (Tally{Devices: 301, Accepted: 301}) {
		t.Errorf("%+v", tally)
	}
	// What came of each is found, in pages.
	seen := map[hark.DeviceID]bool{}
	for after := ""; ; {
		page, next, err := w.Outcomes(theTenant, hark.DeliveryID{Destination: theAudience, Event: e.ID}, after, 70)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page {
			if seen[o.Device] || o.Outcome != "accepted" || o.Status != 201 || o.Try != 1 || o.At.IsZero() {
				t.Fatalf("%+v", o)
			}
			seen[o.Device] = true
		}
		if after = next; after == "" {
			break
		}
	}
	if len(seen) != 600 {
		t.Error(len(seen))
	}
	if d, err := w.Get(theTenant, batch[0].ID); err != nil || time.Since(d.Pushed) > 2*time.Hour {
		t.Errorf("%v %v", d, err)
	}
}

// TestRetried: what failed for a while is tried again, on its own, and never holds up the
// delivery; what asked for a wait gets it.
func TestRetried(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.device(fmt.Sprint("t", i), "", "news")
	}
	var failing atomic.Bool
	failing.Store(true)
	w.fake.set(func(_ *hark.Destination, d *hark.Device, _ *push.Composed) push.Result {
		if failing.Load() && strings.HasSuffix(d.Token.Reveal(), "7") {
			return push.Result{Outcome: push.RetryAt, Status: 503}
		}
		return push.Result{Outcome: push.Accepted, Status: 201}
	})
	e := w.publish("news", aMessage)
	if tally := w.push(e); tally != (Tally{Devices: 100, Accepted: 90, Retrying: 10}) {
		t.Errorf("%+v", tally)
	}
	eventually(t, "several tries", func() bool { w.fake.mu.Lock(); defer w.fake.mu.Unlock(); return len(w.fake.tries) > 130 })
	if n := w.Waiting(); n == 0 || n > 10 {
		t.Error(n)
	}
	failing.Store(false)
	eventually(t, "all delivered", func() bool { return w.Waiting() == 0 })
	for i := range 100 {
		if n := w.fake.times(fmt.Sprint("t", i), e.ID); n != 1 {
			t.Errorf("device %d: %d times", i, n)
		}
	}
}

// TestExpires: a message is not tried beyond its time to live.
func TestExpires(t *testing.T) {
	w := newWorld(t)
	w.device("t", "", "news")
	w.fake.set(func(*hark.Destination, *hark.Device, *push.Composed) push.Result {
		return push.Result{Outcome: push.RetryAt, After: time.Hour}
	})
	e := w.publish("news", `{"title":"a","ttl":"30m"}`)
	if tally := w.push(e); tally != (Tally{Devices: 1, Expired: 1}) || w.Waiting() != 0 {
		t.Errorf("%+v", tally)
	}
}

// TestGone: a device goes when its push service says so, it is told once, and one that
// registered since stays.
func TestGone(t *testing.T) {
	w := newWorld(t)
	gone, back, old := w.device("gone", "1", "news"), w.device("back", "2", "news"), w.device("old", "3", "news")
	w.fake.set(func(_ *hark.Destination, d *hark.Device, _ *push.Composed) push.Result {
		switch d.Token {
		case "back": // registers again while the answer is on its way
			if d.Registered.Equal(back.Registered) {
				again := *back
				time.Sleep(2 * time.Millisecond)
				if _, _, err := w.Register(theTenant, []*hark.Device{&again}); err != nil {
					t.Error(err)
				}
				return push.Result{Outcome: push.TargetGone, Status: 410}
			}
			return push.Result{Outcome: push.Accepted, Status: 201}
		case "old": // the word is older than its registration
			return push.Result{Outcome: push.TargetGone, Status: 410, GoneSince: old.Registered.Add(-time.Hour)}
		}
		return push.Result{Outcome: push.TargetGone, Status: 410, Code: "UNREGISTERED"}
	})
	e := w.publish("news", aMessage)
	if tally := w.push(e); tally != (Tally{Devices: 3, Gone: 1, Retrying: 1, Suspect: 1}) {
		t.Errorf("%+v", tally)
	}
	if _, err := w.Get(theTenant, gone.ID); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
	eventually(t, "the one that came back has it", func() bool { return w.fake.times("back", e.ID) == 1 })
	if d, err := w.Get(theTenant, old.ID); err != nil || d.State != hark.DeviceSuspect || d.Strikes != 1 {
		t.Errorf("%+v %v", d, err)
	}
	told := w.told(goneTopic)
	if len(told) != 1 || !strings.Contains(told[0], gone.ID.String()) || !strings.Contains(told[0], "UNREGISTERED") || !strings.Contains(told[0], `"user":"1"`) {
		t.Error(told)
	}
	if w.Count(theTenant) != 2 {
		t.Error(w.Count(theTenant))
	}
}

// TestSuspect: a device that is refused is left alone for a while, is told of once, and goes
// only after three refusals over a day; one success clears it.
func TestSuspect(t *testing.T) {
	w := newWorld(t)
	d := w.device("bad", "1", "news")
	refuse := func(*hark.Destination, *hark.Device, *push.Composed) push.Result {
		return push.Result{Outcome: push.TargetSuspect, Status: 403, Code: "SENDER_ID_MISMATCH"}
	}
	w.fake.set(refuse)
	push1 := func() { w.push(w.publish("news", aMessage)) }
	push1()
	push1() // in quarantine: not sent
	if n := len(w.fake.tries); n != 1 {
		t.Error(n, "tries")
	}
	// Time passes: as if the first refusal were longer ago.
	age := func(by time.Duration) {
		x, err := w.Get(theTenant, d.ID)
		if err != nil {
			t.Fatal(err)
		}
		y := *x
		y.Suspected = y.Suspected.Add(-by)
		if err := w.save(x, &y); err != nil {
			t.Fatal(err)
		}
	}
	age(13 * time.Hour)
	push1()
	if x, err := w.Get(theTenant, d.ID); err != nil || x.Strikes != 2 {
		t.Fatalf("%+v %v", x, err)
	}
	age(6 * time.Hour)
	push1() // 19 h and two strikes: still in quarantine
	if n := len(w.fake.tries); n != 2 {
		t.Error(n, "tries")
	}
	age(6 * time.Hour)
	push1()
	if _, err := w.Get(theTenant, d.ID); hark.KindOf(err) != hark.NotFound {
		t.Errorf("three strikes over a day: %v", err)
	}
	if s, g := w.told(suspectTopic), w.told(goneTopic); len(s) != 1 || len(g) != 1 {
		t.Error(s, g)
	}

	d = w.device("bad", "1", "news")
	push1()
	age(13 * time.Hour)
	w.fake.set(nil)
	push1()
	if x, err := w.Get(theTenant, d.ID); err != nil || x.State != hark.DeviceActive || x.Strikes != 0 || !x.Suspected.IsZero() || x.Reason != "" {
		t.Errorf("%+v %v", x, err)
	}
}

// TestHeld: a platform whose credentials are refused is left alone, its messages wait, and
// all go when it works again, or at once when the settings change.
func TestHeld(t *testing.T) {
	for _, byChange := range []bool{false, true} {
		w := openWorld(t, vfs.NewMem(), newDirectory(), newFake(), func() Limits {
			l := quick
			if byChange {
				l.HoldFor = time.Hour
			}
			return l
		}())
		for i := range 300 {
			w.device(fmt.Sprint("t", i), "", "news")
		}
		var broken atomic.Bool
		broken.Store(true)
		var refused atomic.Int32
		w.fake.set(func(*hark.Destination, *hark.Device, *push.Composed) push.Result {
			if broken.Load() {
				refused.Add(1)
				return push.Result{Outcome: push.ConfigError, Status: 401, Code: "UNAUTHENTICATED", Error: "the key is refused", Wide: true}
			}
			return push.Result{Outcome: push.Accepted, Status: 200}
		})
		e := w.publish("news", aMessage)
		if tally := w.push(e); tally != (Tally{Devices: 300, Retrying: 300}) {
			t.Errorf("%+v", tally)
		}
		eventually(t, "it is told", func() bool { return len(w.told(configTopic)) == 1 })
		if n := refused.Load(); n > 200 {
			t.Errorf("%d tries of a platform that is refused", n)
		}
		if w.Waiting() != 300 {
			t.Error(w.Waiting())
		}
		broken.Store(false)
		if byChange {
			w.dir.change(theAudience, func(*hark.Destination) {})
			w.Changed(w.audience())
		}
		eventually(t, "all have it", func() bool { return w.Waiting() == 0 })
		for i := range 300 {
			if n := w.fake.times(fmt.Sprint("t", i), e.ID); n != 1 {
				t.Errorf("device %d: %d times", i, n)
			}
		}
		if told := w.told(configTopic); len(told) != 1 || !strings.Contains(told[0], "the key is refused") {
			t.Error(told)
		}
		w.stop()
	}
}

// TestShut: a push service that lets nobody through is no try: neither does the back-off grow,
// nor does it end the hold of a platform whose credentials were refused.
func TestShut(t *testing.T) {
	w := newWorld(t)
	const devices = 300
	for i := range devices {
		w.device(fmt.Sprint("t", i), "", "news")
	}
	type phase = int32
	const (
		refuses phase = iota
		shut
		works
	)
	var now, probes atomic.Int32
	var mu sync.Mutex
	refused := map[hark.DeviceID]int{}
	w.fake.set(func(_ *hark.Destination, d *hark.Device, _ *push.Composed) push.Result {
		switch now.Load() {
		case refuses:
			mu.Lock()
			refused[d.ID]++
			mu.Unlock()
			return push.Result{Outcome: push.ConfigError, Status: 403, Code: "InvalidProviderToken", Wide: true}
		case shut:
			probes.Add(1)
			return push.Result{Outcome: push.RetryAt, Code: "held", After: 20 * time.Millisecond, Shut: true}
		}
		return push.Result{Outcome: push.Accepted, Status: 200}
	})
	e := w.publish("news", aMessage)
	w.push(e)
	now.Store(shut)
	eventually(t, "it is tried again", func() bool { return probes.Load() >= 5 })
	if n := probes.Load(); w.holds.until(w.audience(), "fcm").IsZero() || n > devices/2 {
		t.Errorf("%d tries of a service that is shut: the hold is over", n)
	}
	now.Store(works)
	eventually(t, "all have it", func() bool { return w.Waiting() == 0 })
	for i := range devices {
		if n := w.fake.times(fmt.Sprint("t", i), e.ID); n != 1 {
			t.Errorf("device %d: %d times", i, n)
		}
	}
	all, _, err := w.Outcomes(theTenant, hark.DeliveryID{Event: e.ID, Destination: theAudience}, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	shuts := 0
	for _, o := range all {
		if o.Code == "held" && o.Outcome == "retrying" {
			shuts++
		}
		if o.Try > refused[o.Device]+1 { // those that were refused themselves, and then worked
			t.Errorf("%+v, refused %d times", o, refused[o.Device])
		}
	}
	if shuts < 5 {
		t.Errorf("%d outcomes of a service that is shut", shuts)
	}
}

// TestAnyDevice: of each user's devices the one that was there last gets it, and another
// only if that one is gone.
func TestAnyDevice(t *testing.T) {
	w := newWorld(t)
	for u := range 40 {
		for i := range 3 {
			w.device(fmt.Sprintf("u%d-%d", u, i), fmt.Sprint(u), "news")
		}
	}
	w.device("nobodys", "", "news")
	time.Sleep(2 * time.Millisecond)
	w.device("u3-0", "3", "news") // there again: the last that was
	w.fake.set(func(_ *hark.Destination, d *hark.Device, _ *push.Composed) push.Result {
		switch {
		case d.User == "5" && d.Token != "u5-0":
			return push.Result{Outcome: push.TargetGone, Status: 410}
		case d.User == "6":
			return push.Result{Outcome: push.RetryAt, Status: 503}
		}
		return push.Result{Outcome: push.Accepted}
	})
	e := w.publish("news", `{"title":"a","devices":"any"}`)
	if tally := w.push(e); tally != (Tally{Devices: 43, Accepted: 40, Gone: 2, Retrying: 1}) {
		t.Errorf("%+v", tally)
	}
	w.fake.set(func(_ *hark.Destination, d *hark.Device, _ *push.Composed) push.Result {
		if d.Token == "u6-2" {
			return push.Result{Outcome: push.TargetGone, Status: 410}
		}
		return push.Result{Outcome: push.Accepted}
	})
	eventually(t, "all have it", func() bool { return w.Waiting() == 0 })
	for u := range 40 {
		want := [3]int{0, 0, 1}
		switch u {
		case 3, 5:
			want = [3]int{1, 0, 0}
		case 6:
			want = [3]int{0, 1, 0}
		}
		for i := range 3 {
			if n := w.fake.times(fmt.Sprintf("u%d-%d", u, i), e.ID); n != want[i] {
				t.Errorf("user %d, device %d: %d times", u, i, n)
			}
		}
	}
}

// TestSlowDevice: one that does not answer holds up its page for a moment only, and what
// comes of it at last takes the place of its retry.
func TestSlowDevice(t *testing.T) {
	for name, patience := range map[string]time.Duration{"left with the others": commitEvery / 2, "left behind them": 3 * commitEvery} {
		t.Run(name, func(t *testing.T) { testSlowDevice(t, patience) })
	}
}

func testSlowDevice(t *testing.T, patience time.Duration) {
	impatient := quick
	impatient.Patience, impatient.Lease = patience, time.Hour
	w := openWorld(t, vfs.NewMem(), newDirectory(), newFake(), impatient)
	for i := range 500 {
		w.device(fmt.Sprint("t", i), "", "news")
	}
	hang := make(chan struct{})
	w.fake.set(func(_ *hark.Destination, d *hark.Device, _ *push.Composed) push.Result {
		if d.Token == "t3" || d.Token == "t499" {
			<-hang
		}
		return push.Result{Outcome: push.Accepted}
	})
	e := w.publish("news", aMessage)
	held := time.AfterFunc(time.Minute, func() {
		t.Error("the push waits for a device")
		close(hang)
	})
	tally := w.push(e)
	if !held.Stop() {
		return
	}
	if tally.Devices != 500 || tally.Retrying < 2 || tally.Accepted+tally.Retrying != 500 {
		t.Errorf("%+v", tally)
	}
	if w.Waiting() < 2 {
		t.Error(w.Waiting())
	}
	close(hang)
	eventually(t, "what came late is committed", func() bool { return w.Waiting() == 0 })
	if n := w.fake.times("t3", e.ID); n != 1 {
		t.Error(n)
	}
}

// TestSlowHead: also a page that is nearly full waits for its first device no longer.
func TestSlowHead(t *testing.T) {
	const page = 64
	now := time.Now()
	for n := range page {
		w := &window{a: &Audiences{lim: Limits{Page: page, Patience: time.Second}}, begun: n + 1}
		for range w.begun {
			w.ring = append(w.ring, &entry{state: done})
		}
		w.ring[0].state, w.ring[0].started = sending, now.Add(-2*time.Second)
		if room := !w.full(); room == (w.ready(now) > 0) {
			t.Errorf("%d entries: there is room %v, and %d of them can be committed", w.begun, room, w.ready(now))
		}
	}
}

// TestStopAndResume: a stop gives a job back, and the next start goes on behind what was done.
func TestStopAndResume(t *testing.T) {
	fs, dir, fake := vfs.NewMem(), newDirectory(), newFake()
	w := openWorld(t, fs, dir, fake, quick)
	for i := range 400 {
		w.device(fmt.Sprint("t", i), "", "news")
	}
	e := w.publish("news", aMessage)
	var n atomic.Int32
	stopAt := make(chan struct{})
	fake.set(func(*hark.Destination, *hark.Device, *push.Composed) push.Result {
		if n.Add(1) == 150 {
			close(stopAt)
		}
		time.Sleep(time.Millisecond)
		return push.Result{Outcome: push.Accepted}
	})
	got := make(chan Result)
	go func() { got <- w.Push(context.Background(), w.audience(), e) }()
	<-stopAt
	w.stop()
	if r := <-got; !r.Ours || r.Outcome == hark.OK {
		t.Fatalf("%+v", r)
	}
	before := n.Load()
	if before >= 400 {
		t.Fatal("it was done before it could be stopped")
	}
	w = openWorld(t, fs, dir, fake, quick)
	w.device("new", "", "news") // was not there when the job began
	if tally := w.push(e); tally != (Tally{Devices: 400, Accepted: 400}) {
		t.Errorf("%+v", tally)
	}
	for i := range 400 {
		if n := fake.times(fmt.Sprint("t", i), e.ID); n != 1 {
			t.Errorf("device %d: %d times", i, n)
		}
	}
	if fake.times("new", e.ID) != 0 {
		t.Error("a device that came after the event got it")
	}
	if _, found, _ := w.store.PushJob(theTenant, theAudience, e.ID.Offset); found {
		t.Error("a row of the job is left")
	}
}

// TestPausedMeanwhile: pausing an audience stops its job, which goes on after.
func TestPausedMeanwhile(t *testing.T) {
	w := newWorld(t)
	for i := range 600 {
		w.device(fmt.Sprint("t", i), "", "news")
	}
	e := w.publish("news", aMessage)
	var n atomic.Int32
	w.fake.set(func(*hark.Destination, *hark.Device, *push.Composed) push.Result {
		if n.Add(1) == 100 {
			w.dir.change(theAudience, func(d *hark.Destination) { d.State = hark.DestinationPaused })
		}
		return push.Result{Outcome: push.Accepted}
	})
	if r := w.Push(context.Background(), w.audience(), e); !r.Ours {
		t.Fatalf("%+v", r)
	}
	if n.Load() == 600 {
		t.Fatal("it was not stopped")
	}
	w.dir.change(theAudience, func(d *hark.Destination) { d.State = hark.DestinationActive })
	if tally := w.push(e); tally != (Tally{Devices: 600, Accepted: 600}) || n.Load() != 600 {
		t.Errorf("%+v after %d", tally, n.Load())
	}
}

// TestErasedTenant: nothing of a tenant is written after it went.
func TestErasedTenant(t *testing.T) {
	w := newWorld(t)
	w.device("t", "1", "news")
	w.fake.set(func(*hark.Destination, *hark.Device, *push.Composed) push.Result {
		return push.Result{Outcome: push.RetryAt}
	})
	e := w.publish("news", aMessage)
	w.push(e)
	done := w.Erase(theTenant)
	if err := w.store.Commit(&store.TenantErased{Tenant: theTenant}); err != nil {
		t.Fatal(err)
	}
	done(true)
	if _, _, err := w.Register(theTenant, []*hark.Device{{Kind: "fcm", Token: "x", Topics: []hark.Pattern{"a"}}}); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
	if w.Count(theTenant) != 0 || w.Wants(theTenant, hark.DefaultApp, "news") {
		t.Error("it is remembered")
	}
}

// TestDeletedMeanwhile: of an audience that is deleted while it pushes nothing is written after
// it, neither of the job under way nor of what was to be pushed again; its devices stay.
func TestDeletedMeanwhile(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.device(fmt.Sprint("t", i), "", "news")
	}
	started, proceed := make(chan struct{}, 3), make(chan struct{})
	var blocks atomic.Bool
	w.fake.set(func(*hark.Destination, *hark.Device, *push.Composed) push.Result {
		if blocks.Load() {
			started <- struct{}{}
			<-proceed
			return push.Result{Outcome: push.RetryAt}
		}
		return push.Result{Outcome: push.RetryAt, After: time.Hour}
	})
	w.push(w.publish("news", aMessage))
	if n := w.Waiting(); n != 3 {
		t.Fatal(n)
	}
	blocks.Store(true)
	e := w.publish("news", aMessage)
	a := w.audience()
	came := make(chan Result, 1)
	go func() { came <- w.Push(context.Background(), a, e) }()
	for range 3 {
		<-started
	}
	recs, done := w.Remove(a)
	if err := w.store.Commit(recs...); err != nil {
		t.Fatal(err)
	}
	w.dir.mu.Lock()
	delete(w.dir.all, a.ID)
	w.dir.mu.Unlock()
	done(true)
	close(proceed)
	if r := <-came; !r.Ours {
		t.Errorf("%+v", r)
	}
	w.Changed(a)
	eventually(t, "nothing waits", func() bool { return w.Waiting() == 0 })
	if err := w.store.AllPushRetries(func(k store.PushRetryKey) { t.Errorf("left: %+v", k) }); err != nil {
		t.Error(err)
	}
	if _, found, err := w.store.PushJob(a.Tenant, a.ID, e.ID.Offset); found || err != nil {
		t.Errorf("a job is left: %v", err)
	}
	if n := w.Count(theTenant); n != 3 {
		t.Errorf("%d devices", n)
	}
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatal(err)
	}
}

// TestCutInJob: of what devices have taken, no more than a page is not durable at any moment, also
// when nobody else's commits make it so.
func TestCutInJob(t *testing.T) {
	const devices, every = 600, 40
	fs := vfs.NewCrashableMem()
	fake := newFake()
	w := openWorld(t, fs, newDirectory(), fake, quick)
	for i := range devices {
		w.device(fmt.Sprint("t", i), "", "news")
	}
	type cut struct {
		taken int64
		fs    vfs.FS
	}
	var taken atomic.Int64
	var mu sync.Mutex
	var cuts []cut
	fake.set(func(*hark.Destination, *hark.Device, *push.Composed) push.Result {
		if n := taken.Add(1); n%every == 0 {
			after := fs.CrashClone(vfs.CrashCloneCfg{})
			mu.Lock()
			cuts = append(cuts, cut{n, after})
			mu.Unlock()
		}
		return push.Result{Outcome: push.Accepted, Status: 201}
	})
	e := w.publish("news", aMessage)
	w.push(e)
	if len(cuts) != devices/every {
		t.Fatalf("%d cuts", len(cuts))
	}
	for _, c := range cuts {
		s, err := store.Open(store.Options{FS: c.fs, Dir: "data"})
		if err != nil {
			t.Fatal(err)
		}
		var j job
		row, ok, err := s.PushJob(theTenant, theAudience, e.ID.Offset)
		if ok {
			j, err = decodeJob(row)
		}
		if err != nil {
			t.Fatal(err)
		}
		if lost := c.taken - int64(j.tally.Devices); lost > int64(quick.Page) {
			t.Errorf("when %d devices had taken it, %d were durable", c.taken, j.tally.Devices)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
