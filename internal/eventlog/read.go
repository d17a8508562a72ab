package eventlog

import (
	"context"
	"slices"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Query asks for a tenant's events after a position whose topic matches one of Patterns.
type Query struct {
	Patterns []hark.Pattern
	After    hark.Offset
	// Limit is how many events to return at most; 0 for 100, at most [hark.MaxPageSize].
	Limit int
	// Stretch is how much of what is stored a read through the topic index may pass over, in
	// bytes, about; 0 for as much as it takes to find Limit events. Reads for several that
	// are at one place, in short stretches and in turn, find what they need in memory.
	Stretch int
}

// Page is one bounded read.
type Page struct {
	Events []*hark.Event
	// Next is the position to go on from: past everything this read looked at,
	// matching or not. It may move although Events is empty.
	Next hark.Offset
	// Gap tells that retention took events after Query.After, of which some may have matched.
	Gap *hark.Gap
	// More says that the read stopped before the end of the log.
	More bool
}

// Bounds of one read: what it looks at, whatever it finds.
const (
	readBytes   = 1 << 20
	readTail    = 8192 // events of the tail
	readKeys    = 8192 // keys on disk
	mergeTopics = 64   // topics whose index entries are merged; beyond that the events are scanned
	seekTopics  = 256  // distinct topics looked at to find those
)

// Read returns the next page of a query. It never blocks for new events.
func (l *Log) Read(t hark.TenantID, q Query) (Page, error) {
	q.Limit = min(max(q.Limit, 0), hark.MaxPageSize)
	def(&q.Limit, 100)
	for {
		lost := l.index.lost(t)
		p, err := l.readFrom(t, q, lost)
		if err != nil {
			return Page{}, err
		}
		// Retention moves the floor before it deletes: if the floor did not move,
		// nothing was taken from under this read.
		if l.index.lost(t) == lost {
			p.More = p.Next < l.End()
			return p, nil
		}
	}
}

func (l *Log) readFrom(t hark.TenantID, q Query, lost hark.Offset) (Page, error) {
	p := Page{Next: q.After}
	if q.After < lost {
		p.Gap = &hark.Gap{From: l.Cursor(q.After), To: l.Cursor(lost), Reason: hark.GapRetention}
		p.Next = lost
	}
	end := l.End()
	if p.Next >= end {
		return p, nil
	}
	if events, ok := l.tail.slice(nil, p.Next, readTail); ok {
		l.readTail(t, q, events, &p)
		return p, nil
	}
	return p, l.readDisk(t, q, end, &p)
}

// readTail filters what memory holds.
func (l *Log) readTail(t hark.TenantID, q Query, events []*hark.Event, p *Page) {
	size := 0
	for _, e := range events {
		if e.Tenant == t && hark.MatchAny(q.Patterns, e.Topic) {
			if len(p.Events) == q.Limit || len(p.Events) > 0 && size+e.Size() > readBytes {
				return
			}
			size += e.Size()
			p.Events = append(p.Events, e)
		}
		p.Next = e.ID.Offset
	}
}

// budget is what is left of one read.
type budget struct{ events, bytes, keys int }

func (b budget) spent() bool { return b.events <= 0 || b.bytes <= 0 || b.keys <= 0 }

// readDisk goes from bucket to bucket, through the topic index where the
// patterns name few topics, else through the events.
func (l *Log) readDisk(t hark.TenantID, q Query, end hark.Offset, p *Page) error {
	left := budget{events: q.Limit, bytes: readBytes, keys: readKeys}
	for !left.spent() && p.Next < end {
		s, ok := l.nextStretch(t, p.Next, end)
		if !ok {
			p.Next = end
			return nil
		}
		topics, few, err := l.topicsOf(t, s.bucket, q.Patterns)
		if err != nil {
			return err
		}
		if few {
			if s.cut(q.Stretch) {
				left.keys = 0 // it is the last of this read
			}
			err = l.readTopics(t, s.bucket, topics, s.from, s.to, &left, p)
		} else {
			err = l.readEvents(t, q.Patterns, s.from, s.to, &left, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stretch is where a tenant has events: offsets in [from, to) of a bucket, and what it has
// there in all.
type stretch struct {
	bucket   store.Bucket
	from, to hark.Offset
	usage    store.Usage
}

// cut makes a stretch shorter that holds more than some bytes, about; 0 is no bound.
func (s *stretch) cut(bytes int) bool {
	if bytes == 0 {
		return false
	}
	size := max(s.usage.Bytes, 1) / uint64(s.usage.Last-s.usage.First+1) // of an offset
	if n := uint64(bytes) / max(size, 1); uint64(s.to-s.from) > n {
		s.to = s.from + hark.Offset(max(n, 1))
		return true
	}
	return false
}

// nextStretch returns where the tenant's next events are in [after+1, end].
func (l *Log) nextStretch(t hark.TenantID, after, end hark.Offset) (s stretch, ok bool) {
	for {
		cur, next, ok := l.index.bucketOf(after + 1)
		if !ok {
			return s, false
		}
		held, ok := l.index.nextHeld(t, cur.Bucket)
		if !ok || held.usage.First > end {
			return s, false
		}
		from, to := max(after+1, held.usage.First), min(held.usage.Last, end)+1
		if from < to {
			return stretch{held.bucket, from, to, held.usage}, true
		}
		if next > end { // past what the tenant has in the newest bucket
			return s, false
		}
		after = next - 1
	}
}

// topicsOf lists the topics of a bucket that match; few is false when there are
// too many to merge or to look for.
func (l *Log) topicsOf(t hark.TenantID, b store.Bucket, patterns []hark.Pattern) (topics []string, few bool, err error) {
	if slices.Contains(patterns, ">") { // about everything: the index would only cost
		return nil, false, nil
	}
	seen := map[string]bool{}
	seeks := 0
	for _, p := range patterns {
		if p.IsLiteral() {
			seen[string(p)] = true
			continue
		}
		err = l.store.Topics(t, b, p.Prefix(), func(topic string) bool {
			seeks++
			if p.Match(topic) {
				seen[topic] = true
			}
			return seeks < seekTopics && len(seen) <= mergeTopics
		})
		if err != nil {
			return nil, false, err
		}
	}
	if seeks >= seekTopics || len(seen) > mergeTopics {
		return nil, false, nil
	}
	for topic := range seen {
		topics = append(topics, topic)
	}
	return topics, true, nil
}

// readTopics merges the index entries of a few topics in [from, to).
func (l *Log) readTopics(t hark.TenantID, b store.Bucket, topics []string, from, to hark.Offset, left *budget, p *Page) error {
	var offsets []hark.Offset
	horizon := to // beyond it some topic was not read to its end
	for _, topic := range topics {
		last := from
		more, err := l.store.TopicOffsets(t, b, topic, from, to, left.events, func(o hark.Offset) bool {
			offsets = append(offsets, o)
			last = o + 1
			return true
		})
		if err != nil {
			return err
		}
		if more {
			horizon = min(horizon, last)
		}
	}
	left.keys -= len(offsets)
	slices.Sort(offsets)
	n, _ := slices.BinarySearch(offsets, horizon)
	all := n <= left.events
	offsets = offsets[:min(n, left.events)]
	err := l.store.EventsAt(t, offsets, func(e *hark.Event) bool {
		if len(p.Events) > 0 && e.Size() > left.bytes {
			left.bytes, all = 0, false
			return false
		}
		e.ID = l.ID(e.ID.Offset)
		p.Events = append(p.Events, e)
		p.Next = e.ID.Offset
		left.events--
		left.bytes -= e.Size()
		return true
	})
	switch {
	case err != nil:
		return err
	case all:
		p.Next = horizon - 1
	case left.bytes > 0: // offsets whose event is gone were passed over too
		p.Next = max(p.Next, offsets[len(offsets)-1])
	}
	return nil
}

// readEvents scans the events themselves.
func (l *Log) readEvents(t hark.TenantID, patterns []hark.Pattern, from, to hark.Offset, left *budget, p *Page) error {
	refused := false // the event at last did not fit any more
	last, more, err := l.store.Events(t, from, to, min(left.keys, 1000),
		func(topic string) bool { left.keys--; return hark.MatchAny(patterns, topic) },
		func(e *hark.Event) bool {
			if left.events == 0 || len(p.Events) > 0 && e.Size() > left.bytes {
				left.bytes, refused = 0, true
				return false
			}
			e.ID = l.ID(e.ID.Offset)
			p.Events = append(p.Events, e)
			left.events--
			left.bytes -= e.Size()
			return true
		})
	switch {
	case err != nil:
		return err
	case refused:
		p.Next = max(last-1, p.Next)
	case more:
		p.Next = max(last, p.Next)
	default:
		p.Next = to - 1
	}
	return nil
}

// Event returns one event of a tenant: hark.Gone when retention took it.
func (l *Log) Event(t hark.TenantID, o hark.Offset) (*hark.Event, error) {
	if o > l.End() { // perhaps on disk, but not yet synced
		return nil, hark.NoSuch("event", l.ID(o).String())
	}
	if e := l.tail.get(o); e != nil && e.Tenant == t && o > l.index.lost(t) {
		return e, nil
	}
	e, ok, err := l.store.Event(t, o)
	if err != nil {
		return nil, err
	}
	if o <= l.index.lost(t) {
		return nil, &hark.Error{Kind: hark.Gone, Code: "event-expired", Msg: "event " + l.ID(o).String() + " is older than retention keeps"}
	}
	if !ok {
		return nil, hark.NoSuch("event", l.ID(o).String())
	}
	e.ID = l.ID(o)
	return e, nil
}

// Next returns events of all tenants in log order after an offset, at least one
// and at most limit, blocking until there is one. Offsets that it leaves out are
// of events that retention took; [Log.Floor] tells so by the time Next returns.
// Errors: the context's, or that the log stopped.
func (l *Log) Next(ctx context.Context, after hark.Offset, limit int) ([]*hark.Event, error) {
	var events []*hark.Event
	limit = max(limit, 1)
	for {
		var ok bool
		events, ok = l.tail.slice(events, after, limit)
		switch {
		case len(events) > 0:
			return events, nil
		case ok:
			if err := l.wait(ctx, after); err != nil {
				return nil, err
			}
		default:
			var err error
			if events, after, err = l.window(after, limit); err != nil || len(events) > 0 {
				return events, err
			}
		}
	}
}

// windowBytes is about how much one window of all tenants may hold.
const windowBytes = 4 << 20

// window reads a short stretch of the log from disk, all tenants, and returns its last offset.
func (l *Log) window(after hark.Offset, limit int) ([]*hark.Event, hark.Offset, error) {
	end := l.End()
	after = max(after, min(l.index.firstHeld(after+1)-1, end)) // over what retention took
	w := window{to: min(after+hark.Offset(limit), end)}
	for _, t := range l.index.holders(after+1, w.to+1) {
		for from, more := after+1, true; more && from <= w.to; {
			last, left, err := l.store.Events(t, from, w.to+1, limit, nil, func(e *hark.Event) bool {
				e.ID = l.ID(e.ID.Offset)
				w.events = append(w.events, e)
				w.bytes += e.Size() + eventOverhead
				return true
			})
			if err != nil {
				return nil, after, err
			}
			from, more = last+1, left
			w.shrink()
		}
	}
	w.sort()
	return w.events, w.to, nil
}

// window is a stretch of the log that ends at to.
type window struct {
	events []*hark.Event
	bytes  int
	to     hark.Offset
}

func (w *window) sort() {
	slices.SortFunc(w.events, func(a, b *hark.Event) int { return a.ID.Compare(b.ID) })
}

// shrink makes a stretch shorter whose events are too large to be held together.
func (w *window) shrink() {
	if w.bytes <= 2*windowBytes {
		return
	}
	w.sort()
	n, bytes := 0, 0
	for n < len(w.events) && (n == 0 || bytes < windowBytes) {
		bytes += w.events[n].Size() + eventOverhead
		n++
	}
	w.to = w.events[n-1].ID.Offset
	clear(w.events[n:])
	w.events, w.bytes = w.events[:n], bytes
}

// Bucket returns the bucket that an offset is or was in.
func (l *Log) Bucket(o hark.Offset) store.Bucket {
	b, _, _ := l.index.bucketOf(o)
	return b.Bucket
}

// Buckets returns every bucket, oldest first, for walks over what is kept by bucket.
func (l *Log) Buckets() []store.BucketStarted {
	l.index.mu.RLock()
	defer l.index.mu.RUnlock()
	return slices.Clone(l.index.buckets)
}

// Floor returns the first offset of a tenant that retention has not taken.
func (l *Log) Floor(t hark.TenantID) hark.Offset { return l.index.lost(t) + 1 }

// Usage returns what a tenant holds.
func (l *Log) Usage(t hark.TenantID) store.Usage { return l.index.total(t) }

// FindTime returns the position before the tenant's first event received at or after a time.
func (l *Log) FindTime(t hark.TenantID, at time.Time) (hark.Offset, error) {
	lo, hi := l.index.lost(t)+1, l.End()+1 // the answer's event is in [lo, hi]
	for _, b := range l.Buckets() {
		start := time.UnixMilli(b.Start) // its first event was received up to a millisecond later
		if !start.Before(at) {
			hi = min(hi, b.First)
			break
		}
		if !start.Add(time.Millisecond).After(at) {
			lo = max(lo, b.First)
		}
	}
	for lo < hi {
		mid := lo + (hi-lo)/2
		o, received, ok, err := l.store.FirstEvent(t, mid, hi)
		switch {
		case err != nil:
			return 0, err
		case !ok || !received.Before(at):
			hi = mid
		default:
			lo = o + 1
		}
	}
	return lo - 1, nil
}
