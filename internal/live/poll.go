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
	etag := `"` + h.log.Cursor(page.Next).String() + `"`
	head := w.Header()
	head.Set("ETag", etag)
	head.Set("Cache-Control", "private, no-cache")
	if page.Gap != nil {
		head.Set("Hark-Gap", gapHeader(page.Gap))
	}
	if len(page.Events) == 0 && page.Gap == nil && slices.Contains(r.Header.Values("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
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

// poll reads the next page, and waits for one that is not empty if it was asked to.
func (h *Hub) poll(ctx context.Context, c Caller, a *asked, p polling) (eventlog.Page, error) {
	query := eventlog.Query{Patterns: a.patterns, After: a.after, Limit: p.limit}
	page, err := h.readOn(c.TenantID(), query)
	if err != nil {
		return page, err
	}
	if page.Gap == nil {
		page.Gap = a.gap
	}
	if p.wait == 0 || len(page.Events) > 0 || page.Gap != nil || page.More || h.drain.begun() {
		return page, nil
	}
	moved := make(chan struct{}, 1)
	reader := h.NewReader(Query{Tenant: c.TenantID(), Patterns: a.patterns, Variant: List}, page.Next, func() {
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
		query.After = page.Next
		if page, err = h.readOn(c.TenantID(), query); over || err != nil || len(page.Events) > 0 || page.Gap != nil || page.More {
			return page, err
		}
		select {
		case <-moved:
			reader.told.Store(false)
		case <-patience.C:
			over = true // the cursor moves on all the same
		case <-ends.why:
			return page, c.Recheck()
		case <-ctx.Done():
			return page, nil
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

func (h *Hub) appendPage(b []byte, page eventlog.Page) []byte {
	b = append(b, `{"events":[`...)
	for i, e := range page.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = hark.AppendEventJSON(b, e)
	}
	b = append(b, `],"cursor":"`...)
	b = append(b, h.log.Cursor(page.Next).String()...)
	b = append(b, `","gap":`...)
	if page.Gap != nil {
		b = appendGap(b, page.Gap)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"more":`...)
	b = strconv.AppendBool(b, page.More)
	return append(b, '}', '\n')
}
