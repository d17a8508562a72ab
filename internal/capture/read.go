package capture

import (
	"context"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Bounds of one read. Beyond them a page ends early and says where to go on.
const (
	maxPage      = 500
	maxPageBytes = 4 << 20
	maxScanned   = 200_000
	maxScanTime  = 2 * time.Second
)

// Query chooses a page of a source's captures.
type Query struct {
	Filter
	// Before is the id to go on before, newest first; 0 for the newest. With Forward it
	// is After that counts, oldest first.
	Before  hark.CaptureID
	Forward bool
	After   hark.CaptureID
	// Limit bounds the page; 0 for 100, at most 500.
	Limit int
	// Bodies returns bodies too. Without it Body is nil and BodySize says how long it is.
	Bodies bool
}

// Page is what a read found.
type Page struct {
	Captures []*hark.Capture
	// Next is where to go on: the Before (or After) of the next read. 0 at the end when
	// reading back; reading forward it is always the position reached.
	Next hark.CaptureID
	// More tells that the read ended at a bound, not at the end.
	More bool
	// Gap tells, when reading forward, that the ring let go of captures after After.
	Gap bool
}

// Captures reads a page. A full search of a large ring may take several: a page can
// hold nothing and still say where to go on.
func (r *Rings) Captures(ctx context.Context, t hark.TenantID, s hark.SourceID, q Query) (Page, error) {
	if err := q.Check(); err != nil {
		return Page{}, err
	}
	release, err := r.enter(ctx, t)
	if err != nil {
		return Page{}, err
	}
	defer release()
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	rd := &reading{ctx: ctx, m: q.matcher(), limit: min(limit, maxPage), bodies: q.Bodies, source: s, ends: time.Now().Add(maxScanTime)}
	rd.scan = store.CaptureScan{Back: !q.Forward, Bodies: q.Bodies || q.bodies()}
	seen := r.seen(t, s)
	rd.scan.From, rd.scan.To = seen.Floor, seen.Newest+1
	if q.Forward {
		rd.page.Next = max(q.After, seen.Floor-min(seen.Floor, 1))
		rd.page.Gap = q.After < seen.Lost
		rd.scan.From = max(rd.scan.From, q.After+1)
	} else if q.Before != 0 {
		rd.scan.To = min(rd.scan.To, q.Before)
	}
	if !q.Since.IsZero() { // ids are given after receipt, so none of them is less
		rd.scan.From = max(rd.scan.From, hark.CaptureID(max(0, q.Since.UnixMicro())))
	}
	if seen.Count == 0 {
		return rd.page, nil
	}
	err = rd.run(r.store, t)
	return rd.page, err
}

// enter waits for a place to read: first one of the tenant's, then one of all, so that
// those who wait for a tenant's own hold up nobody else.
func (r *Rings) enter(ctx context.Context, t hark.TenantID) (release func(), err error) {
	places := []chan struct{}{r.searches}
	r.mu.Lock()
	if home := r.tenants[t]; home != nil {
		places = []chan struct{}{home.searches, r.searches}
	}
	r.mu.Unlock()
	for i, place := range places {
		select {
		case place <- struct{}{}:
		case <-ctx.Done():
			leave(places[:i])
			return nil, &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second, Msg: "too many searches run at once; try again", Err: ctx.Err()}
		}
	}
	return func() { leave(places) }, nil
}

func leave(places []chan struct{}) {
	for _, place := range places {
		<-place
	}
}

// reading is one page in the making.
type reading struct {
	ctx     context.Context
	m       *matcher
	source  hark.SourceID
	scan    store.CaptureScan
	limit   int
	bodies  bool
	ends    time.Time
	scanned int
	bytes   int
	page    Page
}

func (rd *reading) run(s Store, t hark.TenantID) error {
	for {
		full := false
		last := hark.CaptureID(0)
		more, err := s.ScanCaptures(t, rd.source, rd.scan, func(c *store.CaptureView) bool {
			if full = len(rd.page.Captures) >= rd.limit || rd.bytes >= maxPageBytes; full {
				return false
			}
			last = c.ID
			rd.scanned++
			if rd.m.match(c) {
				rd.take(c)
			}
			return true
		})
		if err != nil {
			return err
		}
		if last != 0 {
			rd.page.Next = last
			if rd.scan.Back {
				rd.scan.To = last
			} else {
				rd.scan.From = last + 1
			}
		}
		if !more {
			if rd.scan.Back {
				rd.page.Next = 0
			}
			return nil
		}
		if full || rd.scanned >= maxScanned || time.Now().After(rd.ends) {
			rd.page.More = true
			return nil
		}
		if err := rd.ctx.Err(); err != nil {
			return err
		}
	}
}

func (rd *reading) take(c *store.CaptureView) {
	if !rd.bodies {
		c.Body = nil
	}
	one := c.Capture()
	one.Source = rd.source
	rd.page.Captures = append(rd.page.Captures, one)
	rd.bytes += c.Size - c.BodySize + len(c.Body)
}

// seen returns what readers may see of a source.
func (r *Rings) seen(t hark.TenantID, s hark.SourceID) store.CaptureUsage {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one := r.find(t, s); one != nil && one.gone.IsZero() {
		return one.seen
	}
	return store.CaptureUsage{}
}

// Get returns one capture with its body.
func (r *Rings) Get(t hark.TenantID, s hark.SourceID, id hark.CaptureID) (*hark.Capture, error) {
	seen := r.seen(t, s)
	if seen.Count > 0 && id >= seen.Floor && id <= seen.Newest {
		if c, ok, err := r.store.Capture(t, s, id); ok || err != nil {
			return c, err
		}
	}
	return nil, hark.NoSuch("captured request", id.String())
}

// Watch is someone who waits for a source's captures. It holds no captures: it says
// that there may be some, and [Rings.Captures] reads them from the watcher's position.
type Watch struct {
	rings  *Rings
	ring   *ring
	closed bool
}

// Watch starts one. Close it.
func (r *Rings) Watch(t hark.TenantID, s hark.SourceID) (*Watch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.ring(t, s)
	if one.watches >= maxWatchesOfOne || r.watches >= maxWatches {
		return nil, &hark.Error{Kind: hark.TooMany, Code: "too-many-watchers", RetryAfter: 5 * time.Second,
			Msg: "too many watch this source live already; close some, or read the list"}
	}
	one.watches++
	r.watches++
	return &Watch{rings: r, ring: one}, nil
}

// Next returns a channel that is closed at the next change after now, and the newest
// id of now. Take it before reading: then nothing falls between.
func (w *Watch) Next() (changed <-chan struct{}, newest hark.CaptureID) {
	w.rings.mu.Lock()
	defer w.rings.mu.Unlock()
	if w.ring.changed == nil {
		w.ring.changed = make(chan struct{})
	}
	return w.ring.changed, w.ring.seen.Newest
}

// Gone reports whether the source was deleted.
func (w *Watch) Gone() bool {
	w.rings.mu.Lock()
	defer w.rings.mu.Unlock()
	return !w.ring.gone.IsZero()
}

// Close ends the watch.
func (w *Watch) Close() {
	w.rings.mu.Lock()
	defer w.rings.mu.Unlock()
	if !w.closed {
		w.closed = true
		w.ring.watches--
		w.rings.watches--
	}
}
