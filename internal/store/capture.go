package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/harkhq/hark"
)

const captureVersion = 1

const (
	captureTruncated = 1 << iota
	captureDuplicate
)

// EncodeCapture returns the stored form of c but for its body, which is a value of
// its own so that lists and searches by header never read it:
//
//	version 1, received (Unix µs) 8, flags 1, replay of 8, event (shard, incarnation,
//	offset), then varints and texts: size, status, remote, method, target, proto,
//	scheme, reason, detail, head, fields (count, then name and value each), body length
func EncodeCapture(c *hark.Capture) []byte {
	b := make([]byte, 0, 64+c.Size()-len(c.Body)+4*len(c.Header))
	b = append(b, captureVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Received.UnixMicro()))
	flags := byte(0)
	if c.Truncated {
		flags |= captureTruncated
	}
	if c.Duplicate {
		flags |= captureDuplicate
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(c.ReplayOf))
	b = binary.AppendUvarint(b, uint64(c.Event.Shard))
	b = binary.AppendUvarint(b, c.Event.Incarnation)
	b = binary.AppendUvarint(b, uint64(c.Event.Offset))
	b = binary.AppendUvarint(b, uint64(c.Size()))
	b = binary.AppendUvarint(b, uint64(c.Status))
	for _, s := range []string{c.Remote, c.Method, c.Target, c.Proto, c.Scheme, c.Reason, c.Detail} {
		b = appendBytes(b, s)
	}
	b = appendBytes(b, c.Head)
	b = binary.AppendUvarint(b, uint64(len(c.Header)))
	for _, f := range c.Header {
		b = appendBytes(b, f.Name)
		b = appendBytes(b, f.Value)
	}
	return binary.AppendUvarint(b, uint64(len(c.Body)))
}

// CaptureView is a stored capture that nothing was copied of yet: its slices are
// valid during the call that handed it out only.
type CaptureView struct {
	ID        hark.CaptureID
	Received  int64 // Unix µs
	Truncated bool
	Duplicate bool
	ReplayOf  hark.CaptureID
	Event     hark.EventID
	Size      int // logical
	Status    int

	Remote, Method, Target, Proto, Scheme, Reason, Detail, Head []byte

	// BodySize is the body's length, Body the body itself where it was asked for.
	BodySize int
	Body     []byte

	fields uint64
	header []byte
}

func viewCapture(id hark.CaptureID, v []byte) (CaptureView, error) {
	r := reader{b: v}
	if version := r.u8(); version != captureVersion {
		return CaptureView{}, fmt.Errorf("capture version %d: %w", version, errCorrupt)
	}
	c := CaptureView{ID: id, Received: int64(r.u64())}
	flags := r.u8()
	c.Truncated, c.Duplicate = flags&captureTruncated != 0, flags&captureDuplicate != 0
	c.ReplayOf = hark.CaptureID(r.u64())
	c.Event = hark.EventID{Shard: uint16(r.uvarint()), Incarnation: r.uvarint(), Offset: hark.Offset(r.uvarint())}
	c.Size, c.Status = int(r.uvarint()), int(r.uvarint())
	for _, field := range []*[]byte{&c.Remote, &c.Method, &c.Target, &c.Proto, &c.Scheme, &c.Reason, &c.Detail, &c.Head} {
		*field = r.bytes()
	}
	c.fields = r.uvarint()
	c.header = r.b
	for i := uint64(0); i < c.fields && !r.bad; i++ {
		r.bytes()
		r.bytes()
	}
	c.header = c.header[:len(c.header)-len(r.b)]
	c.BodySize = int(r.uvarint())
	if r.bad || c.Size < 0 || c.BodySize < 0 {
		return CaptureView{}, fmt.Errorf("capture: %w", errCorrupt)
	}
	return c, nil
}

// Fields calls fn for each header field, in order, until it returns false.
func (c *CaptureView) Fields(fn func(name, value []byte) bool) {
	r := reader{b: c.header}
	for range c.fields {
		if !fn(r.bytes(), r.bytes()) {
			return
		}
	}
}

// Capture copies the view. Its source is for the caller to set.
func (c *CaptureView) Capture() *hark.Capture {
	out := &hark.Capture{ID: c.ID, Received: time.UnixMicro(c.Received).UTC(), Remote: string(c.Remote), Method: string(c.Method),
		Target: string(c.Target), Proto: string(c.Proto), BodySize: c.BodySize, Truncated: c.Truncated, Scheme: string(c.Scheme), Reason: string(c.Reason),
		Detail: string(c.Detail), Event: c.Event, Duplicate: c.Duplicate, Status: c.Status, ReplayOf: c.ReplayOf}
	if len(c.Head) > 0 {
		out.Head = slices.Clone(c.Head)
	}
	if len(c.Body) > 0 {
		out.Body = slices.Clone(c.Body)
	}
	c.Fields(func(name, value []byte) bool {
		out.Header = append(out.Header, hark.HeaderField{Name: string(name), Value: string(value)})
		return true
	})
	return out
}

func captureKey(table byte, t hark.TenantID, s hark.SourceID, id hark.CaptureID) key {
	return tenantKey(table, t).u64(uint64(s)).u64(uint64(id))
}

// CaptureAdded keeps a captured request.
type CaptureAdded struct {
	Tenant hark.TenantID
	Source hark.SourceID
	ID     hark.CaptureID
	Value  []byte // from [EncodeCapture]
	Body   []byte
}

func (r *CaptureAdded) apply(b *pebble.Batch) {
	set(b, captureKey(tableCapture, r.Tenant, r.Source, r.ID), r.Value)
	if len(r.Body) > 0 {
		set(b, captureKey(tableCaptureBody, r.Tenant, r.Source, r.ID), r.Body)
	}
}

// CaptureUsage is what a source holds of captured requests.
type CaptureUsage struct {
	Count uint64
	Bytes uint64
	// Floor is the least id that is still there: what is below is gone, though its keys
	// may wait, from Removed on, for a range deletion that is worth its while.
	Floor, Removed hark.CaptureID
	Newest         hark.CaptureID
	// Lost is the newest that went because the ring was full, not because its owner said so.
	Lost hark.CaptureID
}

// CaptureUsed sets the running total of a source's captures.
type CaptureUsed struct {
	Tenant hark.TenantID
	Source hark.SourceID
	Usage  CaptureUsage
}

func (r *CaptureUsed) apply(b *pebble.Batch) {
	u := r.Usage
	set(b, tenantKey(tableCaptureUse, r.Tenant).u64(uint64(r.Source)),
		key(nil).u64(u.Count).u64(u.Bytes).u64(uint64(u.Floor)).u64(uint64(u.Removed)).u64(uint64(u.Newest)).u64(uint64(u.Lost)))
}

// CapturesRemoved takes a source's captures with ids in [From, To) away.
type CapturesRemoved struct {
	Tenant   hark.TenantID
	Source   hark.SourceID
	From, To hark.CaptureID
}

func (r *CapturesRemoved) apply(b *pebble.Batch) {
	for _, table := range []byte{tableCapture, tableCaptureBody} {
		if r.To == r.From+1 {
			must(b.Delete(captureKey(table, r.Tenant, r.Source, r.From), nil))
			continue
		}
		must(b.DeleteRange(captureKey(table, r.Tenant, r.Source, r.From), captureKey(table, r.Tenant, r.Source, r.To), nil))
	}
}

// CapturesErased takes all that a source has captured away, with its usage.
type CapturesErased struct {
	Tenant hark.TenantID
	Source hark.SourceID
}

func (r *CapturesErased) apply(b *pebble.Batch) {
	for _, table := range []byte{tableCapture, tableCaptureBody} {
		k := tenantKey(table, r.Tenant).u64(uint64(r.Source))
		must(b.DeleteRange(k, k.after(), nil))
	}
	must(b.Delete(tenantKey(tableCaptureUse, r.Tenant).u64(uint64(r.Source)), nil))
}

// CaptureUsages calls fn for every source that captured something.
func (s *Store) CaptureUsages(fn func(t hark.TenantID, s hark.SourceID, u CaptureUsage)) error {
	prefix := newKey(tableCaptureUse)
	return s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		rk, rv := reader{b: k[1:]}, reader{b: v}
		fn(hark.TenantID(rk.u32()), hark.SourceID(rk.u64()), CaptureUsage{Count: rv.u64(), Bytes: rv.u64(),
			Floor: hark.CaptureID(rv.u64()), Removed: hark.CaptureID(rv.u64()), Newest: hark.CaptureID(rv.u64()), Lost: hark.CaptureID(rv.u64())})
		return true
	})
}

// Capture returns one with its body.
func (s *Store) Capture(t hark.TenantID, src hark.SourceID, id hark.CaptureID) (*hark.Capture, bool, error) {
	v, closer, err := s.getUnsafe(captureKey(tableCapture, t, src, id))
	if closer == nil {
		return nil, false, err
	}
	defer closer.Close()
	view, err := viewCapture(id, v)
	if err != nil {
		return nil, false, err
	}
	if view.BodySize > 0 {
		body, bodyCloser, err := s.getUnsafe(captureKey(tableCaptureBody, t, src, id))
		if bodyCloser == nil { // removed between the two
			return nil, false, err
		}
		defer bodyCloser.Close()
		view.Body = body
	}
	c := view.Capture()
	c.Source = src
	return c, true, nil
}

// CaptureScan is one bounded read over captures with ids in [From, To).
type CaptureScan struct {
	From, To hark.CaptureID
	// Back reads from the newest to the oldest.
	Back bool
	// Bodies reads bodies too.
	Bodies bool
}

// ScanCaptures calls fn for captures in order until it returns false, or
// [scanLimit] keys or [scanBytes] were read; more is true when some may be left. A
// view is valid during the call only.
func (s *Store) ScanCaptures(t hark.TenantID, src hark.SourceID, q CaptureScan, fn func(*CaptureView) bool) (more bool, err error) {
	if q.From >= q.To {
		return false, nil
	}
	bodies := &bodyCursor{back: q.Back}
	if q.Bodies {
		bodies.it, err = s.iter(captureKey(tableCaptureBody, t, src, q.From), captureKey(tableCaptureBody, t, src, q.To))
		if err != nil {
			return false, err
		}
		defer bodies.it.Close()
	}
	var failed error
	size := 0
	step := func(k, v []byte) bool {
		if size >= scanBytes {
			return false
		}
		id := hark.CaptureID(binary.BigEndian.Uint64(k[len(k)-8:]))
		view, err := viewCapture(id, v)
		if err != nil {
			failed = err
			return false
		}
		if q.Bodies && view.BodySize > 0 {
			view.Body = bodies.at(k)
		}
		size += len(v) + len(view.Body)
		return fn(&view)
	}
	lower, upper := captureKey(tableCapture, t, src, q.From), captureKey(tableCapture, t, src, q.To)
	if q.Back {
		more, err = s.scanBack(lower, upper, scanLimit, step)
	} else {
		more, err = s.scan(lower, upper, scanLimit, step)
	}
	if err == nil {
		err = failed
	}
	if err == nil && bodies.it != nil {
		err = bodies.it.Error()
	}
	return more, err
}

// bodyCursor walks the bodies beside the captures, both in the same order.
type bodyCursor struct {
	it     *pebble.Iterator
	back   bool
	placed bool
}

// at returns the body of the capture with key k, nil when it is gone.
func (c *bodyCursor) at(k []byte) []byte {
	want := k[1:] // the tables differ in the first byte only
	if !c.placed {
		c.placed = true
		if c.back {
			c.it.Last()
		} else {
			c.it.First()
		}
	}
	for c.it.Valid() {
		order := slices.Compare(c.it.Key()[1:], want)
		switch {
		case order == 0:
			return c.it.Value()
		case c.back && order < 0 || !c.back && order > 0:
			return nil
		}
		if c.back {
			c.it.Prev()
		} else {
			c.it.Next()
		}
	}
	return nil
}
