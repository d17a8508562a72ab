package rig

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// roleArg is the first argument of a child.
const roleArg = "rig-role"

// Roles must be the first call of a benchmark's main: in a child it plays its
// part and never returns.
func Roles() {
	if len(os.Args) != 3 || os.Args[1] != roleArg {
		return
	}
	roles := map[string]func(*control) error{
		"sink": sinkRole, "publisher": publisherRole, "bare": bareRole, "loop": loopRole, "bare-hook": bareHookRole,
		"subscribers": subscriberRole, "bare-live": bareLiveRole,
	}
	c := &control{in: json.NewDecoder(bufio.NewReader(os.Stdin)), out: json.NewEncoder(os.Stdout)}
	if err := roles[os.Args[2]](c); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[2], err)
		os.Exit(1)
	}
	os.Exit(0)
}

// control is a child's side of the talk.
type control struct {
	in  *json.Decoder
	out *json.Encoder
}

func (c *control) read(v any) error  { return c.in.Decode(v) }
func (c *control) write(v any) error { return c.out.Encode(v) }

// started is a child's first word.
type started struct {
	Addr string `json:"addr,omitempty"`
}

// child is the benchmark's side of the talk.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu  sync.Mutex // guards below: one question at a time
	enc *json.Encoder
	dec *json.Decoder
}

func startChild(role string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, roleArg, role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(bufio.NewReader(out))}, nil
}

func (c *child) ask(question, answer any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enc.Encode(question); err != nil {
		return fmt.Errorf("asking a child: %w", err)
	}
	if err := c.dec.Decode(answer); err != nil {
		return fmt.Errorf("a child's answer: %w", err)
	}
	return nil
}

// PID is the process's id.
func (c *child) PID() int { return c.cmd.Process.Pid }

// Close ends the child: it leaves when its input ends.
func (c *child) Close() {
	c.in.Close()
	timer := time.AfterFunc(3*time.Second, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	c.cmd.Wait()
}
