package live

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

// MaxWait is the longest a poll is held: longer ones do not get through what is between
// (RFC 6202 section 5.5).
const MaxWait = 30 * time.Second

// List is the variant of transports that send several events at once: each is preceded by
// a comma.
var List = &Variant{Name: "list", Append: func(dst []byte, _ *hark.Event, line []byte) []byte {
	return append(append(dst, ','), line...)
}}

// ServePoll answers GET /v1/events: what is behind a cursor, at once or, with wait, as soon as
// there is something.
func (h *Hub) ServePoll(w http.ResponseWriter, r *http.Request) error {
	c, q := h.cfg.CallerOf(r.Context()), r.URL.Query()
	p, err := pollOf(q)
	if err != nil {
		return err
	}
	a, err := h.askedBy(r, c, q, "limit", "wait")
	if err != nil {
		return err
	}
	page, err := h.poll(r.Context(), c, a, p)
	if err != nil {
		return err
	}
	etag := `"` + h.log.Cursor(page.next).String() + `"`
	head := w.Header()
	head.Set("ETag", etag)
	head.Set("Cache-Control", "private, no-cache")
	if page.gap != nil {
		head.Set("Hark-Gap", gapHeader(page.gap))
	}
	if len(page.events) == 0 && page.gap == nil {
		if err := h.impatient.meet(h.cfg.ClientOf(r), a, p.wait); err != nil {
			return err
		}
		if slices.Contains(r.Header.Values("If-None-Match"), etag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	head.Set("Content-Type", "application/json")
	_, _ = w.Write(h.appendPage(nil, page)) // a client that went away gets no answer
	return nil
}

// polling is what a poll is asked for besides topics and start.
type polling struct {
	limit int
	wait  time.Duration
}

func pollOf(q url.Values) (p polling, err error) {
	p.limit = 100
	if text := q.Get("limit"); text != "" {
		if p.limit, err = strconv.Atoi(text); err != nil || p.limit < 1 || p.limit > hark.MaxPageSize {
			return p, hark.Invalidf("limit", "must be a number from 1 to "+strconv.Itoa(hark.MaxPageSize))
		}
	}
	if text := q.Get("wait"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0) || n > MaxWait.Seconds() {
			return p, hark.Invalidf("wait", "must be seconds from 0 to "+strconv.Itoa(int(MaxWait.Seconds())))
		}
		p.wait = time.Duration(n * float64(time.Second))
	}
	return p, nil
}

// answer is what a poll is answered with.
type answer struct {
	events []byte // of [List]
	next   hark.Offset
	gap    *hark.Gap
	more   bool
}

// pollBytes is about how much one answer holds.
const pollBytes = 1 << 20

// poll reads the next page, and waits for one that is not empty if it was asked to.
func (h *Hub) poll(ctx context.Context, c Caller, a *asked, p polling) (*answer, error) {
	page, err := h.readOn(c.TenantID(), eventlog.Query{Patterns: a.patterns, After: a.after, Limit: p.limit})
	if err != nil {
		return nil, err
	}
	got := &answer{next: page.Next, gap: page.Gap, more: page.More}
	if a.gap != nil {
		if page.Gap != nil { // retention took more meanwhile
			a.gap.To = page.Gap.To
		}
		got.gap = a.gap
	}
	for _, e := range page.Events {
		got.events = hark.AppendEventJSONLine(append(got.events, ','), e)
	}
	if p.wait == 0 || len(got.events) > 0 || got.gap != nil || got.more || h.drain.begun() {
		return got, nil
	}
	return h.await(ctx, c, a, p, page.Next)
}

// maxPolls bounds the polls that wait: each holds a connection and a goroutine.
const maxPolls = 4096

// await holds a poll. Those that wait for the same share the bytes they are answered with.
func (h *Hub) await(ctx context.Context, c Caller, a *asked, p polling, after hark.Offset) (*answer, error) {
	if !h.polls.take(c.TenantID(), 1) {
		return nil, &hark.Error{Kind: hark.TooMany, Code: "too-many-waiting", RetryAfter: 5 * time.Second,
			Msg: "too many requests wait for events already: poll without wait, or use a stream, which costs less"}
	}
	defer h.polls.leave(c.TenantID(), 1)
	moved := make(chan struct{}, 1)
	reader := h.NewReader(Query{Tenant: c.TenantID(), Patterns: a.patterns, Variant: List}, after, func() {
		select {
		case moved <- struct{}{}:
		default:
		}
	})
	defer reader.Close()
	ends := h.drain.watch(c)
	defer ends.stop()
	patience := time.NewTimer(p.wait)
	defer patience.Stop()
	for over := false; ; {
		events, n, more, err := reader.TakeSome(nil, pollBytes, p.limit)
		got := &answer{events: events, next: reader.Position(), gap: reader.Gap(), more: more && n > 0}
		if over || err != nil || n > 0 || got.gap != nil {
			return got, err
		}
		if more {
			continue
		}
		select {
		case <-moved:
		case <-patience.C:
			over = true // the cursor moves on all the same
		case <-ends.why:
			return got, c.Recheck()
		case <-ctx.Done():
			return got, nil
		}
	}
}

// pollReads is how many reads without a match one poll makes at most.
const pollReads = 32

// readOn reads until there is something to tell.
func (h *Hub) readOn(t hark.TenantID, q eventlog.Query) (page eventlog.Page, err error) {
	for range pollReads {
		if page, err = h.log.Read(t, q); err != nil || len(page.Events) > 0 || page.Gap != nil || !page.More {
			return page, err
		}
		q.After = page.Next
	}
	return page, nil
}

func (h *Hub) appendPage(b []byte, a *answer) []byte {
	b = append(b, `{"events":[`...)
	if len(a.events) > 0 {
		b = append(b, a.events[1:]...)
	}
	b = append(b, `],"cursor":"`...)
	b = append(b, h.log.Cursor(a.next).String()...)
	b = append(b, `","gap":`...)
	if a.gap != nil {
		b = appendGap(b, a.gap)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"more":`...)
	b = strconv.AppendBool(b, a.more)
	return append(b, '}', '\n')
}
