package post

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/harkhq/hark/internal/webpush"
)

const (
	// workerKeys are as many one-shot keys as the worker makes ahead.
	workerKeys = 1024
	// workerIdle is how long a goroutine waits for its next message: its stack has grown to what
	// a request needs.
	workerIdle = 5 * time.Second
)

// Serve is the worker's whole work: it posts what comes over conn until conn ends, which is no
// error. Open makes what it posts with of the settings that come first.
func Serve(conn net.Conn, open func(settings []byte) (Doer, error)) error {
	in := bufio.NewReaderSize(conn, 64<<10)
	settings, err := readFrameUpTo(in, nil, maxSettings)
	if err != nil {
		return ended(err)
	}
	client, err := open(settings)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	// Without turns: nothing else wants this process's processors.
	w := &worker{here: &Here{client: client, sealer: webpush.NewSealer(workerKeys)}, out: newOutbox(), tasks: make(chan task), ctx: ctx}
	go w.here.Run(ctx)
	go func() {
		if w.out.writeTo(conn, ctx.Done()) != nil {
			conn.Close() // which ends the reading
		}
	}()
	go w.tell()
	w.out.add(func(b []byte) []byte { return frame(b, func(b []byte) []byte { return b }) })
	for {
		b, err := readFrame(in, nil)
		if err != nil {
			return ended(err)
		}
		t := task{}
		if t.id, t.deadline, t.message, err = decodeRequest(b); err != nil {
			return err
		}
		select {
		case w.tasks <- t:
		default:
			go w.work(t)
		}
	}
}

// ended is the error of a socket that ended: none, if that was the server's doing. One that leaves
// answers unread resets it.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

type task struct {
	id       uint64
	deadline time.Time
	message  *Message
}

type worker struct {
	here  *Here
	out   *outbox
	tasks chan task // to a goroutine that waits
	ctx   context.Context
	begun atomic.Uint64
	ended atomic.Uint64
}

func (w *worker) work(t task) {
	idle := time.NewTimer(workerIdle)
	defer idle.Stop()
	for {
		w.post(t)
		t = task{}
		idle.Reset(workerIdle)
		select {
		case t = <-w.tasks:
		case <-idle.C:
			return
		}
	}
}

func (w *worker) post(t task) {
	w.begun.Add(1)
	ctx, cancel := context.WithDeadline(w.ctx, t.deadline)
	defer cancel()
	var a answer
	a.res, a.err = w.here.Post(ctx, t.message)
	w.ended.Add(1)
	w.out.add(func(b []byte) []byte { return appendAnswer(b, t.id, w.begun.Load(), &a) })
}

// tell tells again and again that the worker gets on, and how many messages were begun: with a
// slow push service, it would look like one that does not.
func (w *worker) tell() {
	tick := time.NewTicker(starved / 4)
	defer tick.Stop()
	for told := uint64(0); ; {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			return
		}
		if n := w.begun.Load(); n != told || n != w.ended.Load() {
			told = n
			w.out.add(func(b []byte) []byte { return appendBegun(b, n) })
		}
	}
}
