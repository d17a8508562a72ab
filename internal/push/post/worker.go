package post

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark/internal/webpush"
)

const (
	// workerKeys are as many one-shot keys as the worker makes ahead.
	workerKeys = 1024
	// workerIdle is how long a goroutine waits for its next message: its stack has grown to what
	// a request needs.
	workerIdle = 5 * time.Second
	// gather is how long frames wait for others to be written with: the fewer times the other
	// side is woken, the less it disturbs what else goes on.
	gather = time.Millisecond
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
	w := &worker{here: &Here{client: client, sealer: webpush.NewSealer(workerKeys)}, conn: conn, tasks: make(chan task), wake: make(chan struct{}, 1), ctx: ctx}
	go w.here.Run(ctx)
	go w.write()
	go w.tell()
	w.send(func(b []byte) []byte { return frame(b, func(b []byte) []byte { return b }) })
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

// ended is the error of a socket that ended: none, if it was orderly.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
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
	conn  net.Conn
	tasks chan task // to a goroutine that waits
	wake  chan struct{}
	ctx   context.Context
	begun atomic.Uint64
	ended atomic.Uint64

	mu  sync.Mutex // guards out
	out []byte
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
	w.send(func(b []byte) []byte { return appendAnswer(b, t.id, w.begun.Load(), &a) })
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
			w.send(func(b []byte) []byte { return appendBegun(b, n) })
		}
	}
}

// send has a frame written.
func (w *worker) send(add func([]byte) []byte) {
	w.mu.Lock()
	w.out = add(w.out)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) write() {
	var spare []byte
	for {
		select {
		case <-w.wake:
		case <-w.ctx.Done():
			return
		}
		time.Sleep(gather)
		w.mu.Lock()
		b := w.out
		w.out = spare[:0]
		w.mu.Unlock()
		if _, err := w.conn.Write(b); err != nil {
			w.conn.Close() // which ends Serve
			return
		}
		if spare = b; cap(spare) > 1<<20 {
			spare = nil
		}
	}
}
