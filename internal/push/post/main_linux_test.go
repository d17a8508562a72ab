package post

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/webpush"
)

// A worker of these tests is this test program, with a role in its environment.
const workerRole = "POST_TEST_WORKER"

func TestMain(m *testing.M) {
	role := os.Getenv(workerRole)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := playRole(role); err != nil {
		fmt.Fprintln(os.Stderr, "push worker:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func playRole(role string) error {
	switch role {
	case "exit": // at once
		os.Exit(3)
	case "lowest":
		return playLowest()
	}
	file := os.NewFile(3, "server")
	conn, err := net.FileConn(file)
	if err != nil {
		return err
	}
	file.Close()
	switch role {
	case "serve":
		return Serve(conn, func(settings []byte) (Doer, error) { return newService(settings), nil })
	case "refuse":
		return Serve(conn, func([]byte) (Doer, error) { return nil, errors.New("these settings are wrong") })
	case "deaf": // it does not even notice that its server is gone
		time.Sleep(time.Hour)
	}
	return playPuppet(conn, role)
}

// playPuppet plays a worker that answers one message after the other, so that who got an answer
// knows what came before it. Those to "held" it answers just before the next "release". Mute
// begins with none, and mad answers what cannot be read.
func playPuppet(conn net.Conn, role string) error {
	in := bufio.NewReader(conn)
	if _, err := readFrame(in, nil); err != nil {
		return err
	}
	out := frame(nil, func(b []byte) []byte { return b })
	var held []uint64
	for begun := uint64(1); ; begun++ {
		if _, err := conn.Write(out); err != nil {
			return err
		}
		b, err := readFrame(in, nil)
		if err != nil {
			return ended(err)
		}
		if out = nil; role == "mute" {
			continue
		}
		id, _, m, err := decodeRequest(b)
		if err != nil {
			return err
		}
		if role == "mad" {
			out = frame(nil, func(b []byte) []byte { return append(b, 1, 1, 99) })
			continue
		}
		path := strings.TrimPrefix(webpush.EndpointOf(m.To), "https://push.example/")
		if strings.HasPrefix(path, "held") {
			held = append(held, id)
			out = appendBegun(nil, begun)
			continue
		}
		a := &answer{res: egress.Response{Status: 201}}
		if path == "release" {
			for _, id := range held {
				out = appendAnswer(out, id, begun, a)
			}
			out = appendAnswer(out, 1<<60, begun, a) // to nobody
			held = nil
		}
		out = appendAnswer(out, id, begun, a)
	}
}

// command is that of a worker with a role. It does not outlive this process.
func command(role string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerRole+"="+role, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// stage is an Apart that runs, and what it tells.
type stage struct {
	*testing.T
	*Apart
	service *service // of what is posted here
	stop    context.CancelFunc
	ran     chan struct{} // closed when Run has returned

	commands, postedHere, postedApart atomic.Int64
	beside                            atomic.Int64 // what runs beside workers

	mu     sync.Mutex // guards below
	make   func() *exec.Cmd
	failed []error
	// taken and refused are what Begin was tried with.
	taken, refused []*mail
}

func newStage(t *testing.T, role string) *stage {
	t.Helper()
	s := &stage{T: t, service: newService([]byte("here")), ran: make(chan struct{}), make: func() *exec.Cmd { return command(role) }}
	s.Apart = NewApart(NewHere(s.service, 0), Worker{
		Settings: []byte("settings"),
		patience: time.Hour,
		Command: func() *exec.Cmd {
			s.commands.Add(1)
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.make()
		},
		Posted: func(apart bool) {
			if apart {
				s.postedApart.Add(1)
			} else {
				s.postedHere.Add(1)
			}
		},
		Beside: func(ctx context.Context) {
			s.beside.Add(1)
			<-ctx.Done()
			s.beside.Add(-1)
		},
		Failed: func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.failed = append(s.failed, err)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() {
		defer close(s.ran)
		if err := s.Apart.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		s.end()
		s.once()
	})
	return s
}

// once checks, when there is no worker any more, that one thing came of each message that was taken,
// and nothing of the others.
func (s *stage) once() {
	eventually(s.T, "without a worker, and nothing beside it", func() bool { return s.current() == nil && s.beside.Load() == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for want, all := range [][]*mail{s.refused, s.taken} {
		for _, m := range all {
			if m.mu.Lock(); len(m.came) != want {
				s.Errorf("%s: %d answers came, want %d: %v", m.path, len(m.came), want, m.came)
			}
			m.mu.Unlock()
		}
	}
}

// end ends Run, and returns when it has.
func (s *stage) end() {
	s.Helper()
	s.stop()
	select {
	case <-s.ran:
	case <-time.After(enough):
		s.Fatal("Run does not end")
	}
}

// up starts a worker and returns it when it is ready.
func (s *stage) up() *process {
	s.Helper()
	s.start()
	var p *process
	eventually(s.T, "a worker that is ready", func() bool {
		if p = s.current(); p == nil {
			return false
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.ready
	})
	eventually(s.T, "one thing beside it", func() bool { return s.beside.Load() == 1 })
	return p
}

// down waits until there is no worker.
func (s *stage) down(p *process) {
	s.Helper()
	eventually(s.T, "without a worker", func() bool { return s.current() == nil && gone(p) })
}

// gone says whether a worker's process is, and nobody needs to wait for it any more.
func gone(p *process) bool { return syscall.Kill(p.cmd.Process.Pid, 0) == syscall.ESRCH }

// told waits until so many failures were told, and returns the last.
func (s *stage) told(n int) (last error) {
	s.Helper()
	eventually(s.T, fmt.Sprintf("told of %d failures", n), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.failed) > n {
			s.Fatalf("told of %d failures, and there were %d: %v", len(s.failed), n, s.failed)
		}
		if n > 0 && len(s.failed) > 0 {
			last = s.failed[len(s.failed)-1]
		}
		return len(s.failed) == n
	})
	return last
}

// waiting is how many messages the worker has not answered.
func waiting(p *process) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

// settled waits until the worker has begun with all that it was given: it takes any message then.
func settled(t *testing.T, p *process) {
	t.Helper()
	eventually(t, "begun with all messages", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.sent) == 0
	})
}

// mail is a message that was begun with, and what came of it.
type mail struct {
	path string

	mu   sync.Mutex // guards below
	came []answer
}

func (m *mail) done(res egress.Response, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.came = append(m.came, answer{res, err})
}

// begun begins with a message; nil if that was refused, and then nothing may come of it.
func (s *stage) begun(ctx context.Context, path string) *mail {
	m := &mail{path: path}
	ok := s.Begin(ctx, time.Now().Add(time.Hour), to(path), m.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok {
		s.refused = append(s.refused, m)
		return nil
	}
	s.taken = append(s.taken, m)
	return m
}

// begin is begun of a message that must be taken.
func (s *stage) begin(ctx context.Context, path string) *mail {
	s.Helper()
	m := s.begun(ctx, path)
	if m == nil {
		s.Fatalf("%s was refused", path)
	}
	return m
}

// answer waits for what comes of a message.
func (s *stage) answer(m *mail) answer {
	s.Helper()
	eventually(s.T, "answered: "+m.path, func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.came) > 0 })
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.came[0]
}

// faults waits for what comes of messages, which must be no answer, and this fault.
func (s *stage) faults(want egress.Fault, all ...*mail) {
	s.Helper()
	for _, m := range all {
		if a := s.answer(m); egress.FaultOf(a.err) != want {
			s.Errorf("%s was answered with %+v, want %v", m.path, a, want)
		}
	}
}
