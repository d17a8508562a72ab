package live

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// page is an answer of GET /v1/events.
type page struct {
	Events []json.RawMessage `json:"events"`
	Cursor string            `json:"cursor"`
	Gap    *Gap              `json:"gap"`
	More   *bool             `json:"more"`
}

// poll asks again and again. Every answer is told as a connection would be: its
// head once, then gap, events and cursor.
func (f *follower) poll(ctx context.Context) error {
	q, opened := f.query(), false
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Wait == 0 {
		f.Wait = 20 * time.Second
	}
	cursor := f.After
	for n := 1; ; n++ {
		if f.by == LongPoll && cursor != "" { // without a position, the first answer gives one
			q.Set("wait", strconv.Itoa(max(1, int(f.Wait.Seconds()))))
		}
		p, head, err := f.ask(ctx, q, cursor)
		if err != nil {
			return err
		}
		if !opened {
			opened = true
			if err := f.tell(Note{Opened: head}); err != nil {
				return err
			}
		}
		if p == nil { // nothing new
			if err := f.tell(Note{Alive: true}); err != nil {
				return err
			}
		} else {
			if err := f.page(p, head); err != nil {
				return err
			}
			cursor = p.Cursor
			q.Del("from")
			q.Del("last")
			q.Set("after", cursor)
		}
		if n == f.Rounds {
			return io.EOF
		}
		if f.by == Poll && (p == nil || !*p.More) {
			if f.Pause == 0 {
				f.Pause = 50 * time.Millisecond
			}
			select {
			case <-time.After(f.Pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// ask is one request; a nil page is a 304. A 429 is obeyed.
func (f *follower) ask(ctx context.Context, q url.Values, cursor string) (*page, http.Header, error) {
	for {
		req, err := f.request(ctx, "/v1/events", q)
		if err != nil {
			return nil, nil, err
		}
		if f.by == Poll && cursor != "" {
			req.Header.Set("If-None-Match", `"`+cursor+`"`)
		}
		resp, err := f.client.Do(req)
		if err != nil {
			return nil, nil, err
		}
		p, err := f.answer(resp)
		if r, ok := err.(*Refused); ok && r.Status == 429 {
			seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
			if err != nil || seconds < 1 || seconds > 60 {
				return nil, nil, broken("Retry-After of a 429 is %q", r.Header.Get("Retry-After"))
			}
			select {
			case <-time.After(time.Duration(seconds) * time.Second):
				continue
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		if p == nil && err == nil && (f.by != Poll || cursor == "") {
			return nil, nil, broken("a 304 to a request without If-None-Match")
		}
		return p, resp.Header, err
	}
}

// answer reads one; a nil page is a 304.
func (f *follower) answer(resp *http.Response) (*page, error) {
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		if text, _ := io.ReadAll(io.LimitReader(resp.Body, 100)); len(text) > 0 {
			return nil, broken("a 304 has the body %q", text)
		}
		return nil, nil
	}
	if resp.StatusCode != 200 {
		return nil, refusal(resp)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	p := &page{}
	if err := json.Unmarshal(text, p); err != nil || p.Cursor == "" || p.More == nil || p.Events == nil {
		return nil, broken("a page is %.200q: %v", text, err)
	}
	for name, want := range map[string]string{"Etag": `"` + p.Cursor + `"`, "Cache-Control": "private, no-cache"} {
		if got := resp.Header.Get(name); got != want {
			return nil, broken("%s of a page is %q, want %q", name, got, want)
		}
	}
	return p, nil
}

// page tells what is on a page.
func (f *follower) page(p *page, head http.Header) error {
	gap, err := headGap(head)
	if err != nil {
		return err
	}
	if err := sameGap(gap, p.Gap); err != nil {
		return err
	}
	if p.Gap != nil {
		if err := f.tell(Note{Gap: p.Gap}); err != nil {
			return err
		}
	}
	for _, text := range p.Events {
		e, err := event(text)
		if err != nil {
			return err
		}
		if err := f.tell(Note{Event: e}); err != nil {
			return err
		}
	}
	return f.tell(Note{Cursor: p.Cursor})
}
