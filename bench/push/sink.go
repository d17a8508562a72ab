package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

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
func (s *sink) taken() (n int64, err error) { return s.until(0) }

// until returns how many messages it has taken when they are so many.
func (s *sink) until(least int64) (n int64, err error) {
	if _, err := fmt.Fprintln(s.in, least); err != nil {
		return 0, err
	}
	return n, s.out.Decode(&n)
}

func (s *sink) close() {
	s.in.Close()
	s.cmd.Wait()
}

// serveSink is the child's part: it answers each line with its count, when that is as much as the
// line says, and leaves when there are no more.
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
	bodies := sync.Pool{New: func() any { return new([8 << 10]byte) }}
	server := &http.Server{
		ErrorLog:  log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 250},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		}),
	}
	go server.ServeTLS(l, "", "")
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(sink{Addr: l.Addr().String(), Cert: block.Bytes}); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		least, err := strconv.ParseInt(in.Text(), 10, 64)
		if err != nil {
			return err
		}
		for n.Load() < least {
			time.Sleep(5 * time.Millisecond)
		}
		if err := out.Encode(n.Load()); err != nil {
			return err
		}
	}
	return server.Close()
}
