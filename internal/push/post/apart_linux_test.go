package post

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/webpush"
)

// TestApartAnswers: of thousands of messages at once each gets its own answer, once, and each was
// posted once.
func TestApartAnswers(t *testing.T) {
	s := newStage(t, "serve")
	p := s.up()
	ctx := within(t)
	const n = 2000
	var all sync.WaitGroup
	for i := range n {
		m, want := to(fmt.Sprint("ok/", i)), 201
		switch i % 5 {
		case 3:
			m, want = to(fmt.Sprint("gone/", i)), 410
		case 4:
			m = to(fmt.Sprint("echo/", i))
		}
		check := func(a answer) {
			if a.err != nil || a.res.Status != want || want == 201 && a.res.Header.Get("Location") != fmt.Sprint("/m/", i) {
				t.Errorf("message %d was answered with %+v", i, a)
			}
			if i%50 == 4 && a.err == nil {
				opened(t, &a, m)
			}
		}
		all.Go(func() {
			if i%2 == 0 {
				res, err := s.Post(ctx, m)
				check(answer{res, err})
				return
			}
			var times atomic.Int32
			came := make(chan answer, 1)
			done := func(res egress.Response, err error) {
				if times.Add(1) > 1 {
					t.Errorf("message %d was answered again", i)
					return
				}
				came <- answer{res, err}
			}
			if s.Begin(ctx, time.Now().Add(enough), m, done) {
				check(<-came)
				return
			}
			res, err := s.Post(ctx, m)
			check(answer{res, err})
		})
	}
	all.Wait()
	here, apart := s.postedHere.Load(), s.postedApart.Load()
	if here+apart != n || here != s.service.asked.Load() || apart == 0 {
		t.Errorf("%d posted here and %d apart of %d; %d asked here", here, apart, n, s.service.asked.Load())
	}
	settled(t, p)
	if a := s.answer(s.begin(ctx, "asked")); string(a.res.Snippet) != fmt.Sprint(apart+1) {
		t.Errorf("the worker posted %s of %d", a.res.Snippet, apart+1)
	}
	p.mu.Lock()
	if len(p.calls) > 0 || len(p.sent) > 0 {
		t.Errorf("left: %d calls, %d sent", len(p.calls), len(p.sent))
	}
	p.mu.Unlock()
	t.Logf("%d of %d were posted here", here, n)
	s.told(0)
}

// opened is the request that "echo" answers with; its body must open to the message.
func opened(t *testing.T, a *answer, m *Message) (r seen) {
	t.Helper()
	if err := json.Unmarshal(a.res.Snippet, &r); err != nil {
		t.Fatalf("%+v: %v", a, err)
	}
	plain, err := receiver.Open(webpush.Encrypted{Encoding: r.Header.Get("Content-Encoding"), Body: r.Body})
	if err != nil || string(plain) != string(m.Plaintext) {
		t.Errorf("the body holds %q, %v; want %q", plain, err, m.Plaintext)
	}
	if string(r.Again) != string(r.Body) || r.Length != int64(len(r.Body)) {
		t.Errorf("the body has %d bytes, %d again, and says %d", len(r.Body), len(r.Again), r.Length)
	}
	return r
}

// TestApartSame: a message is the same request, and comes to the same, from here and from a worker.
func TestApartSame(t *testing.T) {
	s := newStage(t, "serve")
	p := s.up()
	ctx := within(t)
	both := func(m *Message) (here, apart answer) {
		t.Helper()
		settled(t, p)
		here.res, here.err = s.here.Post(ctx, m)
		before := s.postedApart.Load()
		if apart.res, apart.err = s.Post(ctx, m); s.postedApart.Load() != before+1 {
			t.Fatal("it was posted here")
		}
		return here, apart
	}

	full, padded, large := to("echo/full"), to("echo/padded"), to("echo/large")
	full.Topic, full.Urgency, full.TTL = "a_b-c", "high", 0
	padded.Padding = webpush.MaxPlaintext
	large.Plaintext = []byte(strings.Repeat("é", webpush.MaxPlaintext/2))
	var lengths []int64
	for _, m := range []*Message{to("echo/plain?a=b%20c"), full, padded, large} {
		a, b := both(m)
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		here, apart := opened(t, &a, m), opened(t, &b, m)
		if late := here.Deadline.Sub(apart.Deadline); late < 0 || late > time.Microsecond {
			t.Errorf("it has until %v here, and until %v apart", here.Deadline, apart.Deadline)
		}
		if string(here.Body) == string(apart.Body) {
			t.Error("two messages have the same body")
		}
		if len(here.Body) != len(apart.Body) {
			t.Errorf("a body has %d bytes here and %d apart", len(here.Body), len(apart.Body))
		}
		lengths = append(lengths, here.Length)
		here.Body, here.Again, here.Deadline, apart.Body, apart.Again, apart.Deadline = nil, nil, time.Time{}, nil, nil, time.Time{}
		if !reflect.DeepEqual(here, apart) {
			t.Errorf("posted here:  %+v\nposted apart: %+v", here, apart)
		}
		want := map[string]string{"Ttl": fmt.Sprint(m.TTL), "Content-Encoding": "aes128gcm", "Content-Type": "application/octet-stream",
			"Authorization": m.Authorization, "User-Agent": m.UserAgent, "Topic": m.Topic, "Urgency": m.Urgency}
		for name, value := range want {
			if here.Header.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, here.Header.Get(name), value)
			}
		}
		if here.Method != "POST" || here.URL != webpush.EndpointOf(m.To) || here.Host != "push.example" {
			t.Errorf("%s %s, host %s", here.Method, here.URL, here.Host)
		}
	}
	if lengths[2] != webpush.MaxBody || lengths[3] < webpush.MaxBody-1 {
		t.Errorf("bodies have %d bytes", lengths)
	}

	messages := unable()
	delete(messages, "less than no padding") // it travels as too much
	for _, path := range []string{"ok/1", "gone/1", "narrow/1", "nowhere"} {
		messages[path] = to(path)
	}
	messages["narrow, padded"] = to("narrow/2")
	messages["narrow, padded"].Padding = 2000
	for f := egress.FaultRefused; f <= egress.FaultCanceled; f++ {
		messages[f.String()] = to(fmt.Sprint("lost/", int(f)))
	}
	refused := 0
	for name, m := range messages {
		here, apart := both(m)
		if !sameAnswer(here, apart) {
			t.Errorf("%s: %+v here, %+v apart", name, here, apart)
		}
		if _, ok := errors.AsType[*webpush.Error](apart.err); ok {
			refused++
		}
	}
	if refused != len(unable())-1 {
		t.Errorf("%d of %d messages were refused", refused, len(unable())-1)
	}
	if a, _ := s.Post(ctx, to("settings")); string(a.Snippet) != "settings" {
		t.Errorf("the worker has settings %q", a.Snippet)
	}
	s.told(0)
}

// TestApartKeeps: a message may be changed when Begin has returned.
func TestApartKeeps(t *testing.T) {
	s := newStage(t, "serve")
	s.up()
	m, came := to("echo/1"), make(chan answer, 1)
	if !s.Begin(within(t), time.Now().Add(enough), m, func(res egress.Response, err error) { came <- answer{res, err} }) {
		t.Fatal("refused")
	}
	clear(m.To)
	clear(m.Plaintext)
	a := <-came
	if a.err != nil {
		t.Fatal(a.err)
	}
	opened(t, &a, to("echo/1"))
}

// TestApartCrowd: a worker is started when a crowd is under way and one more comes, and only one.
func TestApartCrowd(t *testing.T) {
	s := newStage(t, "serve")
	ctx := within(t)
	var posts sync.WaitGroup
	hold := func(i int) {
		t.Helper()
		posts.Go(func() {
			res, err := s.Post(ctx, to(fmt.Sprint("held/", i)))
			if err != nil || res.Header.Get("Location") != fmt.Sprint("/m/", i) {
				t.Errorf("message %d was answered with %+v, %v", i, res, err)
			}
		})
		eventually(t, "under way", func() bool { return s.service.under.Load() == int64(i) })
	}
	for i := 1; i <= crowd; i++ {
		hold(i)
	}
	if s.commands.Load() != 0 || s.Ready() || s.behind() != 0 || s.begun(ctx, "ok/1") != nil {
		t.Fatalf("%d under way, and a worker was started", crowd)
	}
	// Until it is ready, messages are posted here, and no other is started.
	ready := make(chan struct{})
	s.mu.Lock()
	make := s.make
	s.make = func() *exec.Cmd { <-ready; return make() }
	s.mu.Unlock()
	hold(crowd + 1)
	eventually(t, "one command", func() bool { return s.commands.Load() == 1 })
	for i := crowd + 2; i <= 2*crowd; i++ {
		hold(i)
	}
	close(ready)
	p := s.up()
	if _, err := s.Post(ctx, to("ok/1")); err != nil || s.postedApart.Load() != 1 {
		t.Errorf("with a worker: %v, %d posted apart", err, s.postedApart.Load())
	}
	settled(t, p)
	if s.answer(s.begin(ctx, "ok/2")); s.postedApart.Load() != 2 {
		t.Error("what was begun with is not counted")
	}
	for i := range 100 {
		s.Post(ctx, to(fmt.Sprint("ok/", i)))
	}
	if n := s.commands.Load(); n != 1 {
		t.Errorf("%d workers were started", n)
	}
	s.service.release()
	posts.Wait()
	if here, apart := s.postedHere.Load(), s.postedApart.Load(); here < 2*crowd || here+apart != 2*crowd+102 {
		t.Errorf("%d posted here, %d apart", here, apart)
	}
	s.told(0)
}

// TestApartGivesUp: a message that the worker does not answer comes to its end, once, also if the
// answer comes later.
func TestApartGivesUp(t *testing.T) {
	s := newStage(t, "puppet")
	p := s.up()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	canceled := []*mail{s.begin(ctx, "held/1"), s.begin(ctx, "held/2")}
	late := &mail{path: "held/late"}
	settled(t, p)
	if !s.Begin(t.Context(), time.Now().Add(10*time.Millisecond), to(late.path), late.done) {
		t.Fatal("refused")
	}
	settled(t, p)
	kept := s.begin(t.Context(), "held/kept")
	settled(t, p)
	short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	if _, err := s.Post(short, to("held/3")); egress.FaultOf(err) != egress.FaultTimeout || s.postedApart.Load() != 5 {
		t.Errorf("posted, out of time: %v", err)
	}
	s.faults(egress.FaultTimeout, late)
	settled(t, p)
	var posts sync.WaitGroup
	posts.Go(func() {
		if _, err := s.Post(ctx, to("held/4")); egress.FaultOf(err) != egress.FaultCanceled {
			t.Errorf("posted and canceled: %v", err)
		}
	})
	eventually(t, "held", func() bool { return waiting(p) == 4 })
	cancel()
	s.faults(egress.FaultCanceled, canceled...)
	posts.Wait()
	settled(t, p)
	over := s.begin(ctx, "held/over") // begun with when it was over already
	s.faults(egress.FaultCanceled, over)
	for range 3 { // the answers to all of them, and to nobody; the third time there are none left
		settled(t, p)
		if a := s.answer(s.begin(t.Context(), "release")); a.res.Status != 201 {
			t.Fatalf("%+v", a)
		}
	}
	if a := s.answer(kept); a.res.Status != 201 {
		t.Errorf("who had time was answered with %+v", a)
	}
	late.mu.Lock()
	if len(late.came) != 1 {
		t.Errorf("who had no time got %v", late.came)
	}
	late.mu.Unlock()
	if n := waiting(p); n > 0 {
		t.Errorf("%d are left", n)
	}
	s.told(0)
}

// TestApartCanceledMeanwhile: messages that are given up while their answers come end once.
func TestApartCanceledMeanwhile(t *testing.T) {
	s := newStage(t, "serve")
	p := s.up()
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		var both sync.WaitGroup
		m := s.begun(ctx, fmt.Sprint("ok/", i))
		both.Go(func() {
			res, err := s.Post(ctx, to(fmt.Sprint("ok/", i)))
			if f := egress.FaultOf(err); f == egress.FaultCanceled || f == egress.FaultNone && res.Status == 201 {
				return
			}
			t.Errorf("%+v, %v", res, err)
		})
		both.Go(func() {
			time.Sleep(time.Duration(i*10) * time.Microsecond)
			cancel()
		})
		both.Wait()
		if m != nil {
			if a := s.answer(m); a.res.Status != 201 && egress.FaultOf(a.err) != egress.FaultCanceled {
				t.Errorf("%+v", a)
			}
		}
	}
	settled(t, p)
	s.told(0)
}

// TestApartDies: what a worker leaves behind when it dies ends as nobody's fault; the next messages
// are posted here, and after a pause from another worker.
func TestApartDies(t *testing.T) {
	for name, die := range map[string]func(s *stage, p *process){
		"by itself": func(s *stage, p *process) { s.faults(egress.FaultBusy, s.begin(s.Context(), "exit")) },
		"by kill":   func(s *stage, p *process) { p.cmd.Process.Kill() },
		"stopped":   func(s *stage, p *process) { p.cmd.Process.Signal(syscall.SIGSTOP); p.cmd.Process.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, "serve")
			p := s.up()
			var held []*mail
			for i := range 200 {
				if m := s.begun(t.Context(), fmt.Sprint("held/", i)); m != nil {
					held = append(held, m)
				}
			}
			settled(t, p)
			var posts sync.WaitGroup
			for n := range 5 {
				posts.Go(func() {
					_, err := s.Post(t.Context(), to("held/post"))
					if e, ok := errors.AsType[*egress.Error](err); !ok || e.Fault != egress.FaultBusy || e.Fault.Charged() || e.Msg == "" || e.Err == nil {
						t.Errorf("posted: %#v", err)
					}
				})
				eventually(t, "posted apart", func() bool { return waiting(p) == len(held)+n+1 })
				settled(t, p)
			}
			die(s, p)
			s.faults(egress.FaultBusy, held...)
			posts.Wait()
			s.down(p)
			err := s.told(1)
			if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.Success() || name == "by itself" && e.ExitCode() != 3 {
				t.Errorf("told of %v", err)
			}
			here := s.postedHere.Load()
			if res, err := s.Post(t.Context(), to("ok/1")); err != nil || res.Status != 201 || s.postedHere.Load() != here+1 {
				t.Errorf("afterwards: %+v, %v", res, err)
			}
			if s.Ready() || s.behind() != 0 || s.begun(t.Context(), "ok/2") != nil {
				t.Error("a worker that is gone takes messages")
			}
			again := s.pauseOver(leastPause)
			if again == p {
				t.Fatal("the same worker")
			}
			if a := s.answer(s.begin(t.Context(), "ok/3")); a.res.Status != 201 {
				t.Errorf("the next worker: %+v", a)
			}
			s.told(1)
		})
	}
}

// pauseOver checks that no worker is started before its pause is over, and starts one then.
func (s *stage) pauseOver(pause time.Duration) *process {
	s.Helper()
	s.paused(pause)
	return s.up()
}

// paused checks that a pause is kept, and ends it.
func (s *stage) paused(pause time.Duration) {
	s.Helper()
	s.Apart.mu.Lock()
	if left := time.Until(s.after); s.pause != pause || left > pause {
		s.Errorf("the pause is %v, want %v; %v are left", s.pause, pause, left)
	}
	s.after = time.Now().Add(time.Hour) // however slow this machine is
	s.Apart.mu.Unlock()
	before := s.commands.Load()
	s.start()
	s.Apart.mu.Lock()
	if s.starting || s.commands.Load() != before {
		s.Error("a worker was started in the pause")
	}
	s.after = time.Now()
	s.Apart.mu.Unlock()
}

// TestApartCannotStart: whatever is wrong with a worker, everything is posted here, and it is told
// once for each try. Tries come at longer and longer intervals.
func TestApartCannotStart(t *testing.T) {
	for name, c := range map[string]struct {
		make func() *exec.Cmd
		told func(error) bool
	}{
		"no such program": {func() *exec.Cmd { return exec.Command("/no/such/program") }, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		"not a program":   {func() *exec.Cmd { return exec.Command("/dev/null") }, func(err error) bool { return errors.Is(err, os.ErrPermission) }},
		"ends at once":    {func() *exec.Cmd { return command("exit") }, exits(3)},
		"does not serve":  {func() *exec.Cmd { return command("refuse") }, exits(1)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, "")
			s.make = c.make
			fds := openFiles(t)
			for i, pause := range []time.Duration{leastPause, 2 * leastPause, 4 * leastPause} {
				var posts sync.WaitGroup
				for n := range 2 * crowd {
					posts.Go(func() {
						if _, err := s.Post(t.Context(), to("held/1")); err != nil {
							t.Error(err)
						}
					})
					eventually(t, "under way", func() bool { return s.service.under.Load() == int64(n+1) })
				}
				if err := s.told(i + 1); !c.told(err) {
					t.Errorf("told of %v", err)
				}
				s.service.release()
				posts.Wait()
				if s.begun(t.Context(), "ok/1") != nil {
					t.Error("a worker that is none took a message")
				}
				s.paused(pause)
			}
			if n := s.commands.Load(); n != 3 || s.postedApart.Load() != 0 || s.postedHere.Load() != 3*2*crowd {
				t.Errorf("%d tries, %d posted apart, %d here", n, s.postedApart.Load(), s.postedHere.Load())
			}
			s.Apart.mu.Lock()
			s.pause = longestPause - 1
			s.Apart.mu.Unlock()
			s.start()
			s.told(4)
			s.paused(longestPause)
			if n := openFiles(t); n > fds {
				t.Errorf("%d files are open, %d were", n, fds)
			}
		})
	}
}

func exits(code int) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*exec.ExitError](err)
		return ok && e.ExitCode() == code
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestApartNotReady: a worker that does not become ready gets no message, and is ended.
func TestApartNotReady(t *testing.T) {
	s := newStage(t, "deaf")
	s.start()
	eventually(t, "started", func() bool { return s.current() != nil })
	p := s.current()
	if s.begun(t.Context(), "ok/1") != nil {
		t.Error("it took a message")
	}
	if res, err := s.Post(t.Context(), to("ok/1")); err != nil || res.Status != 201 || s.postedHere.Load() != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	p.giveUp() // when its time is over
	s.down(p)
	if err := s.told(1); err == nil {
		t.Error("told of nothing")
	}
	s.Apart.mu.Lock()
	s.Worker("serve")
	s.Apart.mu.Unlock()
	p = s.pauseOver(leastPause)
	p.giveUp() // which is nothing to one that is ready
	if a := s.answer(s.begin(t.Context(), "ok/2")); a.res.Status != 201 {
		t.Errorf("%+v", a)
	}
	s.told(1)
}

// Worker has the next one play a role.
func (s *stage) Worker(role string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.make = func() *exec.Cmd { return command(role) }
}

// TestApartMad: a worker that cannot be understood is ended, and what it had comes to nothing.
func TestApartMad(t *testing.T) {
	s := newStage(t, "mad")
	p := s.up()
	s.faults(egress.FaultBusy, s.begin(t.Context(), "ok/1"))
	s.down(p)
	if err := s.told(1); !errors.Is(err, errFrame) {
		t.Errorf("told of %v", err)
	}
}

// TestApartStarved: messages that come while a worker does not begin with others are posted here;
// those that it has are done when it gets on, and then it is given more.
func TestApartStarved(t *testing.T) {
	s := newStage(t, "serve")
	p := s.up()
	settled(t, p)
	freeze(t, p)
	defer p.cmd.Process.Signal(syscall.SIGCONT)
	given := []*mail{s.begin(t.Context(), "ok/first")}
	for i := range 100 {
		if m := s.begun(t.Context(), fmt.Sprint("ok/", i)); m != nil { // else it is behind by now
			given = append(given, m)
		}
	}
	eventually(t, "behind", s.starved)
	for i := range 50 {
		if s.begun(t.Context(), "ok/no") != nil {
			t.Fatal("a worker that does not begin took a message")
		}
		res, err := s.Post(t.Context(), to(fmt.Sprint("ok/", i)))
		if err != nil || res.Header.Get("Location") != fmt.Sprint("/m/", i) {
			t.Errorf("posted here: %+v, %v", res, err)
		}
	}
	if here, apart := s.postedHere.Load(), s.postedApart.Load(); here != 50 || apart != int64(len(given)) || s.current() != p || s.commands.Load() != 1 {
		t.Errorf("%d posted here, %d apart of %d; %d workers", here, apart, len(given), s.commands.Load())
	}
	for _, m := range given {
		if m.mu.Lock(); len(m.came) > 0 {
			t.Errorf("%s was answered with %v", m.path, m.came)
		}
		m.mu.Unlock()
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, m := range given {
		if a := s.answer(m); a.err != nil || a.res.Header.Get("Location") != strings.Replace(m.path, "ok", "/m", 1) {
			t.Errorf("%s: %+v", m.path, a)
		}
	}
	settled(t, p)
	if a := s.answer(s.begin(t.Context(), "ok/again")); a.res.Status != 201 {
		t.Errorf("%+v", a)
	}
	s.told(0)
}

// TestApartStuck: a worker that had begun and does not get on any more is killed; what it had was
// nobody's fault and can be tried again, and others are posted here.
func TestApartStuck(t *testing.T) {
	s := newStage(t, "serve")
	s.worker.patience = time.Second
	p := s.up()
	settled(t, p)
	held := []*mail{s.begin(t.Context(), "held/1"), s.begin(t.Context(), "held/2")}
	eventually(t, "begun", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.sent) == 0
	})
	time.Sleep(2 * time.Second) // a slow push service is no reason
	if s.current() != p {
		t.Fatal("it was killed while it got on")
	}
	freeze(t, p)
	s.faults(egress.FaultBusy, held...)
	<-p.over
	if res, err := s.Post(t.Context(), to("ok/1")); err != nil || res.Status != 201 {
		t.Errorf("%+v, %v", res, err)
	}
	s.told(1)
}

// TestApartLargeSettings: the settings may hold the certificates of all authorities.
func TestApartLargeSettings(t *testing.T) {
	s := newStage(t, "serve")
	s.worker.Settings = bytes.Repeat([]byte("s"), 2*maxFrame)
	p := s.up()
	settled(t, p)
	s.told(0)
}

// TestServeReset: a server that goes with answers unread is gone, and nothing to complain of.
func TestServeReset(t *testing.T) {
	ours, file, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	ended := make(chan error, 1)
	go func() { ended <- Serve(theirs, func([]byte) (Doer, error) { return newService(nil), nil }) }()
	if _, err := ours.Write(frame(nil, func(b []byte) []byte { return b })); err != nil {
		t.Fatal(err)
	}
	if b, err := readFrame(ours, nil); err != nil || len(b) > 0 {
		t.Fatalf("%q, %v", b, err)
	}
	for id := range uint64(3) {
		if _, err := ours.Write(appendRequest(nil, id, time.Now().Add(time.Hour), to("ok/1"))); err != nil {
			t.Fatal(err)
		}
	}
	var one [1]byte
	if _, err := ours.Read(one[:]); err != nil { // there are more
		t.Fatal(err)
	}
	ours.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// freeze stops a worker as if something else took all processors.
func freeze(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stopped", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		_, state, _ := strings.Cut(string(text), ") ")
		return err == nil && strings.HasPrefix(state, "T")
	})
}

// behind is for how long a message has waited for the worker.
func (s *stage) behind() time.Duration {
	d, takes := s.Behind()
	if takes != (d <= starved) && s.current() != nil {
		s.Errorf("%v behind, takes messages: %v", d, takes)
	}
	return d
}

func (s *stage) starved() bool { return s.behind() > starved }

// TestApartMute: a worker that never begins loses no message either.
func TestApartMute(t *testing.T) {
	s := newStage(t, "mute")
	p := s.up()
	ctx, cancel := context.WithCancel(t.Context())
	given := []*mail{s.begin(ctx, "ok/1")}
	left := s.begun(t.Context(), "ok/2")
	eventually(t, "behind", s.starved)
	if res, err := s.Post(t.Context(), to("ok/3")); err != nil || res.Status != 201 || s.postedHere.Load() != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	cancel()
	s.faults(egress.FaultCanceled, given...)
	p.mu.Lock()
	slow := p.behindLocked(time.Now()) > starved // whoever gave up is still one that it did not begin with
	p.mu.Unlock()
	if !slow || s.begun(t.Context(), "ok/4") != nil {
		t.Error("it took another message")
	}
	s.end()
	if left != nil {
		s.faults(egress.FaultBusy, left)
	}
	s.told(0)
}

// TestApartRun: when Run ends, the worker is gone, and so is what it had under way; nothing starts
// another.
func TestApartRun(t *testing.T) {
	s := newStage(t, "serve")
	p := s.up()
	var held []*mail
	for i := range 50 {
		if m := s.begun(t.Context(), fmt.Sprint("held/", i)); m != nil {
			held = append(held, m)
		}
	}
	start := time.Now()
	s.end()
	if !gone(p) && time.Since(start) < 2*leaveWithin { // with Run, not later
		t.Error("its process is there")
	}
	s.faults(egress.FaultBusy, held...)
	s.down(p)
	s.start()
	if res, err := s.Post(t.Context(), to("ok/1")); err != nil || res.Status != 201 || s.postedHere.Load() != 1 || s.begun(t.Context(), "ok/2") != nil {
		t.Errorf("%+v, %v", res, err)
	}
	s.Apart.mu.Lock()
	if s.starting || s.commands.Load() != 1 {
		t.Error("another was started")
	}
	s.Apart.mu.Unlock()
	s.told(0)
}

// TestApartRunFrozen: Run ends also if the worker gets no processor to end with.
func TestApartRunFrozen(t *testing.T) {
	s := newStage(t, "serve")
	p := s.up()
	settled(t, p)
	m := s.begin(t.Context(), "held/1")
	freeze(t, p)
	s.end()
	s.faults(egress.FaultBusy, m)
	s.down(p)
	s.told(0)
}

// TestApartRetires: a worker that has nothing to do is ended, which is no failure, and the next may
// be started at once.
func TestApartRetires(t *testing.T) {
	s := newStage(t, "puppet")
	s.Apart.mu.Lock()
	s.pause = time.Hour // of failures before it
	s.Apart.mu.Unlock()
	p := s.up()
	settled(t, p)
	m := s.begin(t.Context(), "held/1")
	if p.retire(time.Now().Add(time.Hour)) {
		t.Error("it had a message")
	}
	settled(t, p)
	s.answer(s.begin(t.Context(), "release"))
	s.answer(m)
	if p.retire(time.Now().Add(-time.Hour)) {
		t.Error("it was not idle for that long")
	}
	if !p.retire(time.Now().Add(time.Hour)) || p.retire(time.Now().Add(time.Hour)) {
		t.Error("it is not ended, or again")
	}
	if s.begun(t.Context(), "ok/1") != nil {
		t.Error("it took a message")
	}
	s.down(p)
	s.Apart.mu.Lock()
	if s.pause != 0 {
		t.Errorf("the next pause will be twice %v", s.pause)
	}
	s.Apart.mu.Unlock()
	again := s.up()
	if s.answer(s.begin(t.Context(), "ok/2")); s.commands.Load() != 2 || again == p {
		t.Errorf("%d workers", s.commands.Load())
	}
	s.told(0)
}

// TestApartLeavesNothing: neither goroutines nor files are left of a worker.
func TestApartLeavesNothing(t *testing.T) {
	files, routines := openFiles(t), runtime.NumGoroutine()
	for range 3 {
		s := newStage(t, "serve")
		p := s.up()
		s.answer(s.begin(t.Context(), "ok/1"))
		p.cmd.Process.Kill()
		s.down(p)
		s.told(1)
		p = s.pauseOver(leastPause)
		s.begin(t.Context(), "held/1")
		s.end()
		s.down(p)
	}
	eventually(t, "without goroutines", func() bool { return runtime.NumGoroutine() <= routines })
	eventually(t, "without files", func() bool { return openFiles(t) <= files })
}
