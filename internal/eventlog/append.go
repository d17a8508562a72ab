package eventlog

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Idempotency makes repeats of one request lead to one set of events. The zero
// value asks for none.
type Idempotency struct {
	// Scope separates who remembers: "api", or a source. The tenant always does.
	Scope string
	Key   string
	// Body identifies the request's content: the same key with another body is refused.
	Body [sha256.Size]byte
	// Window is how long the key is remembered at least; 0 for [hark.PublishIdempotencyWindow].
	Window time.Duration
}

// Appended tells what an append led to: Count events with consecutive offsets from First.
type Appended struct {
	First hark.EventID
	Count int
	// Duplicate says that an earlier request with the same idempotency key made them.
	Duplicate bool
}

// ID returns the id of the i-th event.
func (a Appended) ID(i int) hark.EventID {
	id := a.First
	id.Offset += hark.Offset(i)
	return id
}

// request is one client batch on its way through the committer.
type request struct {
	tenant  hark.TenantID
	events  []hark.Event
	records []store.EventAppended
	buf     []byte // the heads of the records' values
	size    int
	idem    *store.IdempotencyStored
	attach  Attach
	// taken goes from 0 to 1 when the committer takes it or to 2 when its client gives up, whichever is first.
	taken atomic.Int32
	done  chan error
	first hark.EventID // set by the committer before done

	// The queue's, guarded by its mutex.
	lane   *lane
	popped bool // no longer in the queue
	dead   bool // its client gave up and it holds nothing any more
	ahead  ahead
}

const (
	requestTaken   = 1
	requestGivenUp = 2
)

// requests are used again once they were answered: most carry one small event,
// and then an append allocates nothing but what stays in the tail.
var requests = sync.Pool{New: func() any {
	return &request{done: make(chan error, 1), records: make([]store.EventAppended, 0, 1)}
}}

func (r *request) release() {
	if cap(r.buf) > 16<<10 || cap(r.records) > 16 {
		return
	}
	clear(r.records)
	*r = request{done: r.done, records: r.records[:0], buf: r.buf[:0]}
	requests.Put(r)
}

// Append adds events to the log as one atomic batch, in order, and returns after
// the sync. It takes ownership of events and all they refer to. Errors: what is
// wrong with an event ([hark.Mismatch], [hark.TooLarge]), a key reused for
// another body ([hark.Mismatch]), quota or a full queue of the tenant
// ([hark.TooMany]), no room on disk, stopping, or no turn before ctx ended
// ([hark.Unavailable]); after each of them nothing was appended.
func (l *Log) Append(ctx context.Context, t hark.TenantID, events []hark.Event, idem Idempotency) (Appended, error) {
	return l.AppendWith(ctx, t, events, idem, nil)
}

// Attach returns what is to become durable in the very commit that appends events,
// now that it is known where they begin. The one writer calls it: it must be quick,
// and it is not called for a repetition.
type Attach func(first hark.EventID, b store.Bucket) store.Record

// AppendWith is [Log.Append] with a record beside the events: either both are there
// after a crash, or neither.
func (l *Log) AppendWith(ctx context.Context, t hark.TenantID, events []hark.Event, idem Idempotency, attach Attach) (Appended, error) {
	if ctx.Err() != nil {
		return Appended{}, errTooBusy(ctx)
	}
	r, err := l.prepare(t, events)
	if err != nil {
		return Appended{}, err
	}
	r.attach = attach
	if idem.Key == "" {
		return l.submit(ctx, r)
	}
	return l.once(ctx, t, idem, func(remember *store.IdempotencyStored) (Appended, error) {
		remember.Value.Count = len(r.events)
		r.idem = remember
		return l.submit(ctx, r)
	})
}

// Once has a request that appends nothing, though it may later, be carried out once for its
// idempotency key, which is one with those of appends. Commit is called for the first, with
// the record that remembers it, to be committed with what it does. A repetition is told as
// Duplicate; it was an append if its First is not zero.
func (l *Log) Once(ctx context.Context, t hark.TenantID, idem Idempotency, commit func(remember store.Record) error) (Appended, error) {
	return l.once(ctx, t, idem, func(remember *store.IdempotencyStored) (Appended, error) {
		return Appended{}, commit(remember)
	})
}

// prepare validates and encodes in the publisher's goroutine, so that the one
// writer has little left to do.
func (l *Log) prepare(t hark.TenantID, events []hark.Event) (*request, error) {
	if len(events) == 0 {
		return nil, hark.Invalidf("", "the batch is empty; it must hold at least one event")
	}
	if len(events) > hark.MaxBatchEvents {
		return nil, &hark.Error{Kind: hark.TooLarge, Code: "batch-too-large",
			Msg: fmt.Sprintf("a batch holds 1 to %d events, this one %d", hark.MaxBatchEvents, len(events))}
	}
	bound, size := 0, 0
	for i := range events {
		e := &events[i]
		if err := e.Check(l.cfg.MaxEventBytes); err != nil {
			if len(events) > 1 {
				return nil, fmt.Errorf("event %d of the batch: %w", i, err)
			}
			return nil, err
		}
		normalise(e, t)
		bound += store.EventHeadBound(e)
		size += e.Size()
	}
	if size > hark.MaxBatchBytes && len(events) > 1 {
		return nil, &hark.Error{Kind: hark.TooLarge, Code: "batch-too-large",
			Msg: fmt.Sprintf("the batch has %d bytes and the limit is %d: split it", size, hark.MaxBatchBytes)}
	}
	r := requests.Get().(*request)
	r.tenant, r.events = t, events
	r.buf, r.records = slices.Grow(r.buf, bound), slices.Grow(r.records, len(events))
	part := uint32(0)
	for i := range events {
		began := len(r.buf)
		e := &events[i]
		r.buf = store.AppendEventHead(r.buf, e)
		r.records = append(r.records, store.EventAppended{Tenant: t, Topic: e.Topic, Head: r.buf[began:len(r.buf):len(r.buf)], Data: e.Data, Part: part})
		r.size += len(e.Data)
		part += store.PartsOf(len(e.Data))
	}
	r.size += len(r.buf)
	return r, nil
}

// normalise gives an event the form it will have when it is read from disk, so
// that a reader cannot tell whether it came from there or from the tail.
func normalise(e *hark.Event, t hark.TenantID) {
	e.Tenant = t
	if e.Time.IsZero() {
		e.Time = time.Time{}
	} else {
		e.Time = e.Time.UTC().Round(0)
	}
	if e.Data == nil {
		e.Data = []byte{}
	}
	if len(e.Attributes) == 0 {
		e.Attributes = nil
	}
}

// submit joins the queue and waits for the sync.
func (l *Log) submit(ctx context.Context, r *request) (Appended, error) {
	if err := l.admit(r); err != nil {
		return Appended{}, err
	}
	if err := l.queue.push(r); err != nil {
		return Appended{}, err
	}
	var err error
	select {
	case err = <-r.done:
	case <-ctx.Done():
		if r.taken.CompareAndSwap(0, requestGivenUp) {
			l.queue.giveUp(r)
			return Appended{}, errTooBusy(ctx)
		}
		err = <-r.done // it is being committed: the outcome must be told as it is
	}
	res := Appended{First: r.first, Count: len(r.events)}
	r.release()
	if err != nil {
		return Appended{}, err
	}
	return res, nil
}

func errTooBusy(ctx context.Context) error {
	return &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second,
		Msg: "the log had no turn for this request in time; try again", Err: context.Cause(ctx)}
}

var errDiskFloor = &hark.Error{Kind: hark.Unavailable, Code: "disk-floor", RetryAfter: 10 * time.Second,
	Msg: "the server is low on disk space and takes no new events until some is freed"}

// admit refuses what the disk or the tenant's quota has no room for.
func (l *Log) admit(r *request) error {
	if l.disk.low.Load() {
		return errDiskFloor
	}
	if p := l.cfg.Policy(r.tenant); p.Reject && p.MaxBytes > 0 && l.index.total(r.tenant).Bytes+uint64(r.size) > p.MaxBytes {
		return &hark.Error{Kind: hark.TooMany, Code: "quota", RetryAfter: time.Minute,
			Msg: fmt.Sprintf("the tenant holds its quota of %d bytes of events; raise it, shorten retention or wait", p.MaxBytes)}
	}
	return nil
}

// twins lets concurrent requests with one idempotency key meet: the first does
// the work and the others wait for its outcome.
type twins struct {
	mu     sync.Mutex
	flying map[twinKey]*flight
}

type twinKey struct {
	tenant hark.TenantID
	hash   [16]byte
}

type flight struct {
	done chan struct{}
	body [16]byte
	res  Appended
	err  error
}

func (t *twins) init() { t.flying = make(map[twinKey]*flight) }

// idempotencyWindow is the grain in which remembered keys are kept and dropped.
const idempotencyWindow = 6 * time.Hour

func windowOf(t time.Time) uint32 { return uint32(t.Unix() / int64(idempotencyWindow/time.Second)) }

// first is what the first request with a key does.
type first func(remember *store.IdempotencyStored) (Appended, error)

func (l *Log) once(ctx context.Context, t hark.TenantID, idem Idempotency, do first) (Appended, error) {
	if len(idem.Key) > hark.MaxIdempotency {
		return Appended{}, hark.Invalidf("Idempotency-Key", fmt.Sprintf("at most %d bytes", hark.MaxIdempotency))
	}
	sum := sha256.Sum256([]byte(idem.Scope + "\x00" + idem.Key))
	k := twinKey{tenant: t, hash: [16]byte(sum[:16])}
	body := [16]byte(idem.Body[:16])
	for {
		l.twins.mu.Lock()
		f, twin := l.twins.flying[k]
		if !twin {
			f = &flight{done: make(chan struct{}), body: body}
			l.twins.flying[k] = f
		}
		l.twins.mu.Unlock()
		if !twin {
			return l.fly(k, f, idem, do)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return Appended{}, &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second,
				Msg: "a request with the same Idempotency-Key is still under way; try again", Err: context.Cause(ctx)}
		}
		if f.err != nil {
			continue // the first failed and left nothing: this one is the first now
		}
		if f.body != body {
			return Appended{}, errOtherBody()
		}
		res := f.res
		res.Duplicate = true
		return res, nil
	}
}

// fly is the first of twins at work. The others are let go whatever happens to it.
func (l *Log) fly(k twinKey, f *flight, idem Idempotency, do first) (Appended, error) {
	f.err = errStopped // what twins see of a panic: they try for themselves
	defer func() {
		l.twins.mu.Lock()
		delete(l.twins.flying, k)
		l.twins.mu.Unlock()
		close(f.done)
	}()
	res, err := l.lookOr(k, f.body, idem, do)
	f.res, f.err = res, err
	return res, err
}

// lookOr returns what a key stands for, or does what it is to stand for.
func (l *Log) lookOr(k twinKey, body [16]byte, idem Idempotency, do first) (Appended, error) {
	now, window := windowOf(l.cfg.Now()), idem.Window
	def(&window, hark.PublishIdempotencyWindow)
	back := uint32((window + idempotencyWindow - 1) / idempotencyWindow)
	for _, w := range l.index.windows(k.tenant, now-min(now, back)) {
		if l.seen.absent(k.tenant, w, k.hash) {
			continue
		}
		found, ok, err := l.store.Idempotency(k.tenant, w, k.hash)
		if err != nil {
			return Appended{}, err
		}
		if !ok {
			continue
		}
		if found.Body != body {
			return Appended{}, errOtherBody()
		}
		res := Appended{Count: found.Count, Duplicate: true}
		if found.First > 0 {
			res.First = l.ID(found.First)
		}
		return res, nil
	}
	l.seen.add(k.tenant, now, k.hash, func() bool { return l.index.rememberWindow(k.tenant, now) })
	return do(&store.IdempotencyStored{Tenant: k.tenant, Window: now, Hash: k.hash, Value: store.Idempotency{Body: body}})
}

func errOtherBody() error {
	return &hark.Error{Kind: hark.Mismatch, Code: "idempotency-key-reused", Field: "Idempotency-Key",
		Msg: "this key was used for another request; use a new key for new content"}
}
