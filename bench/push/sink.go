package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/internal/push/post"
)

// sink is a push service that takes everything, in a process of its own.
type sink struct {
	Addr string
	Cert []byte // DER

	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startSink(ctx context.Context) (*sink, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, roleArg, `{"Role":"sink"}`)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &sink{cmd: cmd, in: in, out: json.NewDecoder(bufio.NewReader(out))}
	return s, s.out.Decode(s)
}

// taken returns how many messages it has taken.
func (s *sink) taken() (n int64, err error) {
	if _, err := s.in.Write([]byte("\n")); err != nil {
		return 0, err
	}
	return n, s.out.Decode(&n)
}

func (s *sink) close() {
	s.in.Close()
	s.cmd.Wait()
}

// serveSink is the child's part: it answers each line with its count, and leaves when there are
// no more.
func serveSink() error {
	// In truth it runs on another machine: it goes last on the processors of this one.
	if err := post.Lowest(); err != nil {
		return err
	}
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(512 << 20)
	dir, err := os.MkdirTemp("", "hark-bench-sink-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	certFile, keyFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	if err := rig.WriteCert(certFile, keyFile); err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(certFile)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var n atomic.Int64
	server := &http.Server{
		ErrorLog:  log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 250},
		Handler:   takeAll(&n),
	}
	go server.ServeTLS(l, "", "")
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(sink{Addr: l.Addr().String(), Cert: block.Bytes}); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := out.Encode(n.Load()); err != nil {
			return err
		}
	}
	return server.Close()
}

// takeAll takes and counts messages, and looks only whether they could be some.
func takeAll(n *atomic.Int64) http.HandlerFunc {
	bodies := sync.Pool{New: func() any { return new([8 << 10]byte) }}
	return func(w http.ResponseWriter, r *http.Request) {
		buf := bodies.Get().(*[8 << 10]byte)
		defer bodies.Put(buf)
		size, err := io.ReadFull(r.Body, buf[:])
		if size < 103 || !errors.Is(err, io.ErrUnexpectedEOF) || r.Header.Get("TTL") == "" || r.Header.Get("Authorization") == "" {
			http.Error(w, "not a push message", http.StatusBadRequest)
			return
		}
		n.Add(1)
		post.Yield()
		w.Header()["Location"] = []string{"/m/1"}
		w.WriteHeader(http.StatusCreated)
	}
}
