package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestNewcomer types the README's own commands, in the order of its blocks that
// are marked <!-- newcomer: name -->, and expects a first verified delivery
// within two minutes of "listening".
func TestNewcomer(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:8080", "127.0.0.1:9000"} {
		eventually(t, 2*time.Minute, func() string {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				return fmt.Sprintf("the README's commands need %s: %v", addr, err)
			}
			l.Close()
			return ""
		})
	}
	blocks := readmeBlocks(t)
	c := clone{data: filepath.Join(t.TempDir(), "data")}
	server := c.terminal(t, blocks["server"])
	server.expect(t, "listening", 3*time.Minute) // a cold build cache is not hark's time
	listening := time.Now()
	if out := server.output(); !strings.Contains(out, "publish") {
		t.Errorf("hark dev does not print what to type next:\n%s", out)
	}
	receiver := c.terminal(t, blocks["receiver"])
	receiver.expect(t, "receiving", 2*time.Minute)
	for line := range strings.Lines(blocks["publish"]) {
		cmd := c.shell(t, line)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("$ %s%v\n%s", line, err, out)
		}
	}
	receiver.expect(t, "1042", 20*time.Second)
	receiver.expect(t, "verified", 20*time.Second)
	if out := receiver.output(); strings.Contains(out, "not verified") {
		t.Errorf("the first delivery is not verified:\n%s", out)
	}
	if took := time.Since(listening); took > 2*time.Minute {
		t.Errorf("the first delivery took %v", took)
	}
}

var newcomerBlock = regexp.MustCompile("(?s)<!-- newcomer: (\\w+) -->\n```\\w*\n(.*?)```")

func readmeBlocks(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, m := range newcomerBlock.FindAllStringSubmatch(string(text), -1) {
		blocks[m[1]] = m[2]
	}
	for _, name := range []string{"server", "receiver", "publish"} {
		if blocks[name] == "" {
			t.Fatalf("README.md has no block <!-- newcomer: %s -->", name)
		}
	}
	return blocks
}

// session is a command that goes on, as in a terminal of its own.
type session struct {
	mu   sync.Mutex // guards below
	text strings.Builder
}

// clone is where a newcomer types: the top of this tree. Only the data folder is
// another, so that the tree stays clean.
type clone struct{ data string }

// shell makes a command line as a newcomer types it.
func (c clone) shell(t *testing.T, line string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", line)
	cmd.Dir = ".."
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HARK_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "HARK_DATA="+c.data, "HARK_DISK_FLOOR=-1") // how full this disk is shall not matter
	return cmd
}

// terminal starts a command that goes on, and ends with the test.
func (c clone) terminal(t *testing.T, line string) *session {
	t.Helper()
	cmd := c.shell(t, line)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	// "go run" has a child: the group is ours to end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	s := &session{}
	go s.read(out)
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		context.AfterFunc(ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		cmd.Wait()
		if t.Failed() {
			t.Logf("$ %s%s", line, s.output())
		}
	})
	return s
}

func (s *session) read(out io.Reader) {
	for r := bufio.NewReader(out); ; {
		line, err := r.ReadString('\n')
		s.mu.Lock()
		s.text.WriteString(line)
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *session) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *session) expect(t *testing.T, word string, within time.Duration) {
	t.Helper()
	eventually(t, within, func() string {
		if !strings.Contains(strings.ToLower(s.output()), word) {
			return "no " + word + " in " + s.output()
		}
		return ""
	})
}
