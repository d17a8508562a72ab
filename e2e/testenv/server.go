package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Setup says how to run a server. The zero value is "hark serve" on a free
// loopback port, which may send to loopback.
type Setup struct {
	// Verb is "serve" (default) or "dev".
	Verb string
	// Data is the data folder; required.
	Data string
	// Addr defaults to a free loopback port.
	Addr string
	// Key is the admin key of a folder that has one already.
	Key string
	// Flags are added after the verb.
	Flags []string
	// Env is added to this process's environment, without its HARK_* variables.
	Env []string
	// Ready bounds the wait for /readyz; default one minute.
	Ready time.Duration
	// Log receives a copy of what the server prints, while it prints.
	Log io.Writer
}

// Server is a running hark.
type Server struct {
	Setup Setup
	URL   string
	// Key is the admin key that the first start printed, or Setup.Key.
	Key string
	// Took is how long it took to be ready.
	Took time.Duration

	bin    string
	cmd    *exec.Cmd
	log    *logTail
	exited chan struct{} // closed when the process is gone; err is set before
	err    error
}

// Build compiles the binary into dir.
func Build(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "hark")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, "github.com/harkhq/hark/cmd/hark")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/hark: %w\n%s", err, out)
	}
	return bin, nil
}

// ports are those that [FreePort] gave, each with the name that says so to other processes: a
// socket of Linux's abstract space, which goes with this one.
var ports struct {
	mu    sync.Mutex // guards below
	given []net.Listener
}

// FreePort returns a loopback address that nobody listens on. Its port is none of those that
// the kernel gives to who asks for any, and no other FreePort gives it while this process
// lives: tests of several packages run at once, and a server takes a while to listen.
func FreePort() (string, error) {
	for {
		port := 10000 + rand.IntN(20000)
		name, err := net.Listen("unix", fmt.Sprintf("@hark test port %d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return "", err
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			name.Close()
			if errors.Is(err, syscall.EADDRINUSE) {
				continue
			}
			return "", err
		}
		defer l.Close()
		ports.mu.Lock()
		defer ports.mu.Unlock()
		ports.given = append(ports.given, name)
		return l.Addr().String(), nil
	}
}

// Start runs the binary and returns when /readyz answers 200.
func Start(ctx context.Context, bin string, setup Setup) (*Server, error) {
	s, err := Launch(bin, setup)
	if err != nil {
		return nil, err
	}
	if err := s.WaitReady(ctx); err != nil {
		s.Kill()
		return nil, fmt.Errorf("%w\n%s", err, s.Output())
	}
	return s, nil
}

// Launch runs the binary and returns at once.
func Launch(bin string, setup Setup) (*Server, error) {
	if setup.Verb == "" {
		setup.Verb = "serve"
	}
	if setup.Ready == 0 {
		setup.Ready = time.Minute
	}
	if setup.Addr == "" {
		addr, err := FreePort()
		if err != nil {
			return nil, err
		}
		setup.Addr = addr
	}
	args := []string{setup.Verb, "--addr=" + setup.Addr, "--data=" + setup.Data}
	if setup.Verb == "serve" {
		args = append(args, "--allow-cidr=127.0.0.0/8")
	}
	s := &Server{
		Setup: setup, URL: "http://" + setup.Addr, Key: setup.Key,
		bin: bin, log: &logTail{copy: setup.Log}, exited: make(chan struct{}),
	}
	s.cmd = exec.Command(bin, append(args, setup.Flags...)...)
	// How full this machine's disk is shall not matter.
	s.cmd.Env = append(append(environ(), "HARK_DISK_FLOOR=-1"), setup.Env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	return s, nil
}

// environ is ours without settings meant for another hark.
func environ() []string {
	var out []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HARK_") {
			out = append(out, v)
		}
	}
	return out
}

var keyText = regexp.MustCompile(`\bhk_[A-Za-z0-9_-]{16,}`)

// WaitReady returns when /readyz answers 200, and learns the first admin key.
func (s *Server) WaitReady(ctx context.Context) error {
	start := time.Now()
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		resp, err := client.Get(s.URL + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
			err = errors.New(resp.Status)
		}
		switch {
		case s.gone():
			return fmt.Errorf("hark %s ended before it was ready: %v", s.Setup.Verb, s.err)
		case time.Since(start) > s.Setup.Ready:
			return fmt.Errorf("hark %s is not ready after %v: %w", s.Setup.Verb, s.Setup.Ready, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.Took = time.Since(start)
	// The key is printed beside "listening", which may come just after readiness.
	for end := time.Now().Add(30 * time.Second); s.Setup.Verb == "serve" && s.Key == ""; {
		s.Key = keyText.FindString(s.Output())
		if s.Key == "" && time.Now().After(end) {
			return errors.New("hark serve printed no first admin key (hk_…)")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

func (s *Server) gone() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// Gone is closed when the process has ended.
func (s *Server) Gone() <-chan struct{} { return s.exited }

// PID is the process's id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Output is the end of what the server printed.
func (s *Server) Output() string { return s.log.String() }

// Kill ends the process at once (SIGKILL) and returns when it is gone.
func (s *Server) Kill() error {
	if s.gone() {
		return fmt.Errorf("hark had ended by itself: %v", s.err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-s.exited
	return nil
}

// Signal sends the process a signal and returns at once.
func (s *Server) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// Stop asks the process to end (SIGTERM). It is an error if it takes longer
// than within or ends with anything but 0.
func (s *Server) Stop(within time.Duration) error {
	if s.gone() {
		return fmt.Errorf("hark had ended by itself: %v", s.err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
	case <-time.After(within):
		s.cmd.Process.Signal(syscall.SIGKILL)
		<-s.exited
		return fmt.Errorf("hark did not stop within %v of SIGTERM", within)
	}
	if s.err != nil {
		return fmt.Errorf("hark stopped with %w", s.err)
	}
	return nil
}

// Wait returns the exit code of a process that ends by itself.
func (s *Server) Wait(within time.Duration) (int, error) {
	select {
	case <-s.exited:
		return s.cmd.ProcessState.ExitCode(), nil
	case <-time.After(within):
		return 0, fmt.Errorf("hark %s still runs after %v", s.Setup.Verb, within)
	}
}

// Next is the setup that starts the same server again.
func (s *Server) Next() Setup {
	setup := s.Setup
	setup.Key = s.Key
	return setup
}

// Again starts the same server again: same folder, address and key.
func (s *Server) Again(ctx context.Context) (*Server, error) { return Start(ctx, s.bin, s.Next()) }

// Run runs the binary with another verb to its end, against this server.
func (s *Server) Run(ctx context.Context, args ...string) (string, error) {
	return Run(ctx, s.bin, []string{"HARK_URL=" + s.URL, "HARK_KEY=" + s.Key}, args...)
}

// Run runs the binary to its end and returns what it printed.
func Run(ctx context.Context, bin string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("hark %s: %w", strings.Join(args, " "), err)
	}
	return string(out), err
}

// logTail keeps the first and the last part of what it is given: the first
// holds the key, the last what went wrong.
type logTail struct {
	copy io.Writer

	mu   sync.Mutex // guards below
	head []byte
	tail []byte
	lost bool
}

const (
	logHead = 16 << 10
	logEnd  = 64 << 10
)

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	if l.copy != nil {
		l.copy.Write(p)
	}
	if room := logHead - len(l.head); room > 0 {
		take := min(room, len(p))
		l.head, p = append(l.head, p[:take]...), p[take:]
	}
	l.tail = append(l.tail, p...)
	if over := len(l.tail) - logEnd; over > logEnd {
		l.tail, l.lost = append(l.tail[:0], l.tail[over:]...), true
	}
	return n, nil
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost {
		return string(l.head) + "\n… (log cut) …\n" + string(l.tail)
	}
	return string(l.head) + string(l.tail)
}
