package deliver

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Query chooses deliveries. Empty fields choose all.
type Query struct {
	Destination hark.DestinationID
	Event       hark.EventID
	State       hark.State
	Topic       hark.Pattern
	// Since and Until bound when the event was received.
	Since, Until time.Time
	// Text is looked for in topic, first attempt and the event's data.
	Text string
	// After is where the page before ended: its Next.
	After string
	// Limit bounds the page; 0 for 50, at most [hark.MaxPageSize].
	Limit int
}

// Deliveries is a page of a list. A page may hold few or none and still have a
// Next: each looks at a bounded number of rows.
type Deliveries struct {
	Deliveries []hark.Delivery
	// Next is what to ask the next page with; empty at the end.
	Next string
}

// Bounds of one page.
const (
	listRows = 5000 // rows looked at
	textRows = 500  // events searched for text
)

// place of a row in a list; where the next page goes on.
type listPlace struct {
	bucket store.Bucket
	dest   hark.DestinationID
	offset hark.Offset
}

func (p listPlace) String() string {
	return fmt.Sprintf("%x.%x.%x", p.bucket, uint64(p.dest), p.offset)
}

func parsePlace(s string) (p listPlace, err error) {
	if s == "" {
		return p, nil
	}
	var dest uint64
	if n, err := fmt.Sscanf(s, "%x.%x.%x", &p.bucket, &dest, &p.offset); err != nil || n != 3 || p.String() == "" {
		return p, hark.Invalidf("after", "is not where a page of this list ended: repeat what \"next\" said")
	}
	p.dest = hark.DestinationID(dest)
	return p, nil
}

// lister collects one page.
type lister struct {
	d      *Deliverer
	t      hark.TenantID
	q      Query
	page   Deliveries
	rows   int // still to look at
	events int // still to search
	failed error
}

// List returns a page of a tenant's deliveries, the newest stretch of the log
// first. Of one destination, and of all in any state or delivered, the newest
// come first; of all destinations in another state they come by destination.
func (d *Deliverer) List(t hark.TenantID, q Query) (Deliveries, error) {
	if q.Limit <= 0 {
		q.Limit = 50
	}
	q.Limit = min(q.Limit, hark.MaxPageSize)
	from, err := parsePlace(q.After)
	if err != nil {
		return Deliveries{}, err
	}
	l := &lister{d: d, t: t, q: q, rows: listRows, events: textRows}
	if !q.Event.IsZero() {
		err = l.ofEvent(from)
	} else {
		err = l.byBucket(from)
	}
	if err == nil {
		err = l.failed
	}
	return l.page, err
}

func (l *lister) ofEvent(from listPlace) error {
	o, err := l.d.cfg.Log.Locate(l.q.Event)
	if err != nil {
		return err
	}
	bucket := l.d.cfg.Log.Bucket(o)
	if l.q.Destination != 0 {
		row, ok, err := l.d.cfg.Store.Delivery(l.t, bucket, l.q.Destination, o)
		if ok {
			l.look(listPlace{bucket, l.q.Destination, o}, &row)
		}
		l.page.Next = ""
		return err
	}
	more, err := l.d.cfg.Store.DeliveriesOfEvent(l.t, bucket, o, from.dest, l.rows, func(id hark.DestinationID, row store.DeliveryRow) bool {
		return l.look(listPlace{bucket, id, o}, &row)
	})
	if !more {
		l.page.Next = ""
	}
	return err
}

func (l *lister) byBucket(from listPlace) error {
	buckets := l.d.cfg.Log.Buckets()
	slices.Reverse(buckets)
	for i, b := range buckets {
		if from.bucket != 0 && b.Bucket > from.bucket || !l.inTime(buckets, i) {
			continue
		}
		if b.Bucket != from.bucket {
			from = listPlace{}
		}
		more, err := l.inBucket(b.Bucket, from)
		if err != nil || more {
			return err
		}
	}
	l.page.Next = ""
	return nil
}

// inTime reports whether a bucket, of buckets newest first, may hold events of the time asked for.
func (l *lister) inTime(buckets []store.BucketStarted, i int) bool {
	if !l.q.Until.IsZero() && time.UnixMilli(buckets[i].Start).After(l.q.Until) {
		return false
	}
	return l.q.Since.IsZero() || i == 0 || !time.UnixMilli(buckets[i-1].Start).Before(l.q.Since)
}

func (l *lister) inBucket(b store.Bucket, from listPlace) (more bool, err error) {
	s := l.d.cfg.Store
	switch {
	case l.q.Destination != 0:
		return l.inDestination(b, l.q.Destination, from.offset)
	case l.q.State == 0 || l.q.State == hark.Delivered:
		more, err := s.DeliveriesByTime(l.t, b, from.offset, from.dest, l.rows, func(o hark.Offset, id hark.DestinationID, row store.DeliveryRow) bool {
			return l.look(listPlace{b, id, o}, &row)
		})
		return more, err
	}
	var ids []hark.DestinationID
	err = s.DestinationsOf(l.t, b, l.q.State, func(id hark.DestinationID) bool {
		if id >= from.dest {
			ids = append(ids, id)
		}
		return len(ids) < listRows
	})
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		before := hark.Offset(0)
		if id == from.dest {
			before = from.offset
		}
		if more, err := l.inDestination(b, id, before); err != nil || more {
			return more, err
		}
	}
	return false, nil
}

func (l *lister) inDestination(b store.Bucket, id hark.DestinationID, before hark.Offset) (bool, error) {
	return l.d.cfg.Store.Deliveries(store.DeliveryList{Tenant: l.t, Bucket: b, Destination: id, State: l.q.State, Before: before, Limit: l.rows},
		func(o hark.Offset, row store.DeliveryRow) bool { return l.look(listPlace{b, id, o}, &row) })
}

// look takes a row into the page if it is asked for, and reports whether there is room for more.
func (l *lister) look(at listPlace, row *store.DeliveryRow) bool {
	l.rows--
	l.page.Next = at.String()
	if ok := l.wants(at, row); ok {
		x := l.d.delivery(at.dest, at.offset, row)
		if x.Attempts > 1 || x.Attempts == 1 && x.Last == nil {
			later, err := l.d.cfg.Store.Attempts(l.t, at.bucket, at.dest, at.offset, maxAttempts)
			if n := len(later); n > 0 {
				x.Last = &later[n-1]
			}
			l.failed = err
		}
		l.page.Deliveries = append(l.page.Deliveries, x)
	}
	return len(l.page.Deliveries) < l.q.Limit && l.rows > 0 && l.events > 0 && l.failed == nil
}

func (l *lister) wants(at listPlace, row *store.DeliveryRow) bool {
	q := &l.q
	received := time.UnixMilli(row.Received)
	switch {
	case q.State != 0 && row.State != q.State:
		return false
	case q.Topic != "" && !q.Topic.Match(row.Topic):
		return false
	case !q.Since.IsZero() && received.Before(q.Since), !q.Until.IsZero() && received.After(q.Until):
		return false
	case q.Text == "":
		return true
	case strings.Contains(row.Topic, q.Text), strings.Contains(row.First.Error, q.Text), bytes.Contains(row.First.Snippet, []byte(q.Text)):
		return true
	}
	l.events--
	e, err := l.d.cfg.Log.Event(l.t, at.offset)
	if err != nil {
		if k := hark.KindOf(err); k != hark.Gone && k != hark.NotFound {
			l.failed = err
		}
		return false
	}
	return bytes.Contains(e.Data, []byte(q.Text))
}

// delivery is a row as users see it.
func (d *Deliverer) delivery(id hark.DestinationID, o hark.Offset, row *store.DeliveryRow) hark.Delivery {
	event := d.cfg.Log.ID(o)
	x := hark.Delivery{ID: hark.DeliveryID{Destination: id, Event: event}, Event: event, Destination: id, Topic: row.Topic,
		State: row.State, Run: max(1, row.Run), Attempts: row.Attempts}
	if row.Next > 0 && !row.State.Finished() {
		x.Next = time.UnixMilli(row.Next).UTC()
	}
	if row.First.Number > 0 {
		first := row.First
		x.Last = &first
	}
	return x
}

// Get returns one delivery with its attempts.
func (d *Deliverer) Get(t hark.TenantID, id hark.DeliveryID) (hark.Delivery, error) {
	o, err := d.cfg.Log.Locate(id.Event)
	if err != nil {
		return hark.Delivery{}, hark.NoSuch("delivery", id.String())
	}
	d.mu.Lock()
	var fresh map[hark.Offset]Row
	state, held := hark.State(0), false
	var meta Meta
	if tg := d.targets[id.Destination]; tg != nil && tg.dest.Tenant == t && d.core != nil {
		fresh = d.uncommitted(id.Destination)
		if state, held = d.core.Holds(id.Destination, o); held {
			meta = d.core.dests[id.Destination].all[o].Meta
		}
	}
	row, err := d.row(t, id.Destination, o, fresh)
	d.mu.Unlock()
	if err != nil {
		return hark.Delivery{}, err
	}
	if row.State == 0 {
		if !held {
			return hark.Delivery{}, hark.NoSuch("delivery", id.String())
		}
		row = Row{Meta: meta, State: state, Run: 1}
	}
	saved := toRow(&row)
	x := d.delivery(id.Destination, o, &saved)
	if held {
		x.State = state
	}
	if saved.First.Number > 0 {
		x.Log = append(x.Log, saved.First)
	}
	later, err := d.cfg.Store.Attempts(t, d.cfg.Log.Bucket(o), id.Destination, o, maxAttempts)
	x.Log = append(x.Log, later...)
	if n := len(x.Log); n > 0 {
		x.Last = &x.Log[n-1]
	}
	return x, err
}

// maxAttempts bounds what Get shows of one delivery.
const maxAttempts = 500
