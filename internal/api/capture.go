package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/capture"
)

// Times of what waits for captures.
const (
	// beatEvery is the pause after which a live stream says that it lives.
	beatEvery = 15 * time.Second
	// beatTimeout is how long a reader may take no byte.
	beatTimeout = 30 * time.Second
	maxWait     = 2 * time.Minute
	defaultWait = 30 * time.Second
)

// capturing returns the source that a path names: under /v1/bins a bin, under
// /v1/sources any other, if the caller may see its events: what it captured holds them.
func (a *API) capturing(r *http.Request) (*hark.Source, error) {
	bin := strings.HasPrefix(r.URL.Path, "/v1/bins/")
	if bin {
		return a.bin(r.Context(), &BinPath{ID: r.PathValue("id")})
	}
	id, err := hark.ParseSourceID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	d, err := a.Bins.Source(tenantOf(r.Context()), id)
	if err != nil || d.Bin != nil {
		return nil, hark.NoSuch("source", id.String())
	}
	topics := cmp.Or(a.topicsOf(d), ">")
	return d, callerOf(r.Context()).MayRoute([]hark.Pattern{topics})
}

func (a *API) captured(r *http.Request) (*hark.Source, *hark.Capture, error) {
	d, err := a.capturing(r)
	if err != nil {
		return nil, nil, err
	}
	id, err := hark.ParseCaptureID(r.PathValue("capture"))
	if err != nil {
		return nil, nil, err
	}
	c, err := a.Captures.Get(d.Tenant, d.ID, id)
	return d, c, err
}

var filterNames = []string{"q", "method", "path", "header", "body", "reason", "status", "since", "until"}

// filterOf reads the search of a query string: q is the language, the others are its
// words on their own, and all must match.
func filterOf(q url.Values) (f capture.Filter, err error) {
	if f, err = capture.ParseSearch(q.Get("q")); err != nil {
		return f, err
	}
	for name, to := range map[string]*string{"method": &f.Method, "path": &f.Path, "header": &f.Header, "body": &f.Body, "reason": &f.Reason} {
		given := q.Get(name)
		if given != "" && *to != "" {
			return f, hark.Invalidf(name, "stands in q too")
		}
		if given != "" {
			*to = given
		}
	}
	if q.Has("status") {
		if f.Status, err = intOf(q, "status", 0, 100, 599); err != nil {
			return f, err
		}
	}
	for name, to := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if text := q.Get(name); text != "" {
			if *to, err = time.Parse(time.RFC3339, text); err != nil {
				return f, hark.Invalidf(name, "must be a time such as 2026-01-31T15:04:05Z")
			}
		}
	}
	return f, f.Check()
}

func captureIDOf(q url.Values, name string) (id hark.CaptureID, err error) {
	if text := q.Get(name); text != "" {
		id, err = hark.ParseCaptureID(text)
	}
	return id, err
}

func boolOf(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, hark.Invalidf(name, "must be true or false")
}

// ListCaptures answers GET …/requests: newest first, or with after oldest first.
func (a *API) ListCaptures(w http.ResponseWriter, r *http.Request) error {
	d, err := a.capturing(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if err := knownQuery(q, slices.Concat(filterNames, []string{"before", "after", "limit", "bodies"})...); err != nil {
		return err
	}
	ask := capture.Query{Forward: q.Has("after")}
	if ask.Filter, err = filterOf(q); err != nil {
		return err
	}
	if ask.Before, err = captureIDOf(q, "before"); err != nil {
		return err
	}
	if ask.After, err = captureIDOf(q, "after"); err != nil {
		return err
	}
	if ask.Forward && q.Has("before") {
		return hark.Invalidf("before", "and after are two directions: give one")
	}
	if ask.Limit, err = intOf(q, "limit", 50, 1, 500); err != nil {
		return err
	}
	if ask.Bodies, err = boolOf(q, "bodies"); err != nil {
		return err
	}
	p, err := a.Captures.Captures(r.Context(), d.Tenant, d.ID, ask)
	if err != nil {
		return err
	}
	if p.Captures == nil {
		p.Captures = []*hark.Capture{}
	}
	return answerJSON(w, &capturePage{Requests: p.Captures, Next: p.Next, More: p.More, Gap: p.Gap, Total: a.Captures.Usage(d.Tenant, d.ID).Requests})
}

// capturePage is the answer of a list.
type capturePage struct {
	Requests []*hark.Capture `json:"requests"`
	// Next is where to go on; in a list from the newest it is missing at the end.
	Next  hark.CaptureID `json:"next,omitempty"`
	More  bool           `json:"more,omitempty"`
	Gap   bool           `json:"gap,omitempty"`
	Total uint64         `json:"total"`
}

func answerJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	return answerMade(w, http.StatusOK, "", v)
}

// GetCapture answers GET …/requests/{capture} with everything of it.
func (a *API) GetCapture(w http.ResponseWriter, r *http.Request) error {
	_, c, err := a.captured(r)
	if err != nil {
		return err
	}
	return answerJSON(w, c)
}

// setInert keeps a browser from making anything of what a stranger sent.
func setInert(h http.Header, contentType, file string) {
	h.Set("Content-Type", contentType)
	h.Set("Content-Disposition", `attachment; filename="`+file+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// GetCaptureBody answers GET …/requests/{capture}/body: the bytes, as a file.
func (a *API) GetCaptureBody(w http.ResponseWriter, r *http.Request) error {
	_, c, err := a.captured(r)
	if err != nil {
		return err
	}
	setInert(w.Header(), "application/octet-stream", c.ID.String()+".bin")
	_, err = w.Write(c.Body)
	return ignoreWrite(err)
}

// GetCaptureCurl answers GET …/requests/{capture}/curl: a command line that sends it
// again, to where it was sent unless url says otherwise.
func (a *API) GetCaptureCurl(w http.ResponseWriter, r *http.Request) error {
	_, c, err := a.captured(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if err := knownQuery(q, "url"); err != nil {
		return err
	}
	to := a.base(r.Context()) + c.Target
	if given := q.Get("url"); given != "" {
		if to, err = httpURL("url", given); err != nil {
			return err
		}
	}
	setInert(w.Header(), "text/plain; charset=utf-8", c.ID.String()+".sh")
	_, err = w.Write([]byte(capture.Curl(c, to)))
	return ignoreWrite(err)
}

func httpURL(field, given string) (string, error) {
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", hark.Invalidf(field, "must be an http or https URL")
	}
	return given, nil
}

// ExportCapture answers GET …/requests/{capture}/export: one line of JSON.
func (a *API) ExportCapture(w http.ResponseWriter, r *http.Request) error {
	_, c, err := a.captured(r)
	if err != nil {
		return err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	setInert(w.Header(), "application/x-ndjson", c.ID.String()+".jsonl")
	_, err = w.Write(append(text, '\n'))
	return ignoreWrite(err)
}

// ExportCaptures answers GET …/export: everything that matches, oldest first, a line of
// JSON each. What comes in meanwhile is not in it.
func (a *API) ExportCaptures(w http.ResponseWriter, r *http.Request) error {
	d, err := a.capturing(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if err := knownQuery(q, filterNames...); err != nil {
		return err
	}
	ask := capture.Query{Forward: true, Bodies: true, Limit: 100}
	if ask.Filter, err = filterOf(q); err != nil {
		return err
	}
	until := a.Captures.Usage(d.Tenant, d.ID).Newest
	control := http.NewResponseController(w)
	setInert(w.Header(), "application/x-ndjson", d.ID.String()+".jsonl")
	for {
		p, err := a.Captures.Captures(r.Context(), d.Tenant, d.ID, ask)
		if err != nil {
			return cutOff(w, err)
		}
		control.SetWriteDeadline(time.Now().Add(beatTimeout))
		for _, c := range p.Captures {
			if c.ID > until {
				return nil
			}
			text, err := json.Marshal(c)
			if err != nil {
				return cutOff(w, err)
			}
			if _, err := w.Write(append(text, '\n')); err != nil {
				return nil
			}
		}
		if !p.More {
			return nil
		}
		ask.After = p.Next
	}
}

// cutOff ends an answer that has begun: only a cut connection can tell that it is not whole.
func cutOff(w http.ResponseWriter, err error) error {
	NoteError(w, err)
	panic(http.ErrAbortHandler)
}

// DeleteCapture answers DELETE …/requests/{capture}.
func (a *API) DeleteCapture(w http.ResponseWriter, r *http.Request) error {
	d, err := a.capturing(r)
	if err != nil {
		return err
	}
	id, err := hark.ParseCaptureID(r.PathValue("capture"))
	if err == nil {
		err = a.Captures.Delete(r.Context(), d.Tenant, d.ID, id)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// ClearCaptures answers DELETE …/requests: all of them.
func (a *API) ClearCaptures(w http.ResponseWriter, r *http.Request) error {
	d, err := a.capturing(r)
	if err == nil {
		err = a.Captures.Clear(r.Context(), d.Tenant, d.ID)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// WaitCapture answers GET …/wait with the first capture after a position that matches,
// as soon as there is one, or with none when the time is over. What is there already
// counts, unless after says otherwise.
func (a *API) WaitCapture(w http.ResponseWriter, r *http.Request) error {
	d, err := a.capturing(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if err := knownQuery(q, slices.Concat(filterNames, []string{"after", "timeout"})...); err != nil {
		return err
	}
	ask := capture.Query{Forward: true, Bodies: true, Limit: 1}
	if ask.Filter, err = filterOf(q); err != nil {
		return err
	}
	timeout, err := durationOf(q.Get("timeout"), "timeout", defaultWait, 0, maxWait)
	if err != nil {
		return err
	}
	f, err := a.follow(d, &ask, q.Get("after"))
	if err != nil {
		return err
	}
	defer f.watch.Close()
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Time{}) // it is the whole request's, and would end the wait
	control.SetWriteDeadline(time.Now().Add(timeout + beatTimeout))
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	for {
		changed, p, err := f.read(r.Context())
		if err != nil {
			return err
		}
		if len(p.Captures) > 0 {
			return answerJSON(w, &waited{Request: p.Captures[0], Next: p.Captures[0].ID})
		}
		if p.More {
			continue
		}
		select {
		case <-changed:
		case <-a.Stopping:
			return answerJSON(w, &waited{Next: f.ask.After})
		case <-ctx.Done():
			return answerJSON(w, &waited{Next: f.ask.After})
		}
	}
}

// waited is what came of waiting. Next is the after of the next wait.
type waited struct {
	Request *hark.Capture  `json:"request"`
	Next    hark.CaptureID `json:"next,omitempty"`
}

// follower reads a source's captures in order from a position on.
type follower struct {
	a     *API
	d     *hark.Source
	ask   capture.Query
	watch *capture.Watch
}

// follow starts at a position: an id, "now", or "" for the oldest there is. Close its watch.
func (a *API) follow(d *hark.Source, ask *capture.Query, after string) (*follower, error) {
	f := &follower{a: a, d: d, ask: *ask}
	var err error
	if after != "" && after != "now" {
		if f.ask.After, err = hark.ParseCaptureID(after); err != nil {
			return nil, err
		}
	}
	if f.watch, err = a.Captures.Watch(d.Tenant, d.ID); err != nil {
		return nil, err
	}
	_, newest := f.watch.Next()
	if after == "now" {
		f.ask.After = newest
	}
	return f, nil
}

// read returns what comes next, and a channel that tells when it is worth reading again.
func (f *follower) read(ctx context.Context) (<-chan struct{}, capture.Page, error) {
	changed, _ := f.watch.Next() // before reading: nothing falls between
	if f.watch.Gone() {
		return nil, capture.Page{}, hark.NoSuch("source", f.d.ID.String())
	}
	p, err := f.a.Captures.Captures(ctx, f.d.Tenant, f.d.ID, f.ask)
	if p.Next > f.ask.After {
		f.ask.After = p.Next
	}
	return changed, p, err
}

// LiveCaptures answers GET …/live with Server-Sent Events (WHATWG HTML section 9.2):
// one "request" for each capture, its id the position to resume from. "gap" tells that
// the ring let go of some that this reader never saw, "gone" that the bin was deleted.
func (a *API) LiveCaptures(w http.ResponseWriter, r *http.Request) error {
	d, err := a.capturing(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if err := knownQuery(q, slices.Concat(filterNames, []string{"after", "bodies"})...); err != nil {
		return err
	}
	ask := capture.Query{Forward: true, Limit: 100}
	if ask.Filter, err = filterOf(q); err != nil {
		return err
	}
	if ask.Bodies, err = boolOf(q, "bodies"); err != nil {
		return err
	}
	after := "now"
	if q.Has("after") {
		after = q.Get("after")
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		after = id
	}
	f, err := a.follow(d, &ask, after)
	if err != nil {
		return err
	}
	defer f.watch.Close()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no")
	s := &stream{w: w, control: http.NewResponseController(w)}
	s.control.SetReadDeadline(time.Time{}) // it is the whole request's, and would end the stream
	if f.ask.After != 0 {
		s.frame("id: " + f.ask.After.String() + "\n: live\n\n") // a reconnect before the first request loses nothing
	} else {
		s.frame(": live\n\n")
	}
	return ignoreWrite(f.stream(r.Context(), s))
}

// stream writes what comes until the reader leaves.
func (f *follower) stream(ctx context.Context, s *stream) error {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for s.err == nil {
		changed, p, err := f.read(ctx)
		if hark.KindOf(err) == hark.NotFound {
			s.frame("event: gone\ndata: {}\n\n")
			return nil
		}
		if err != nil {
			return err // the reader comes back with its position
		}
		if p.Gap {
			s.frame("event: gap\ndata: {}\n\n")
		}
		for _, c := range p.Captures {
			text, err := json.Marshal(c)
			if err != nil {
				return err
			}
			s.frame("id: " + c.ID.String() + "\nevent: request\ndata: " + string(text) + "\n\n")
		}
		if p.More {
			continue
		}
		select {
		case <-changed:
		case <-beat.C:
			s.frame(": beat\n\n")
		case <-f.a.Stopping:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.err
}

// stream is an answer without an end. A reader that takes nothing is cut off.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
}

func (s *stream) frame(text string) {
	if s.err != nil {
		return
	}
	s.control.SetWriteDeadline(time.Now().Add(beatTimeout))
	if _, s.err = s.w.Write([]byte(text)); s.err == nil {
		s.err = s.control.Flush()
	}
}
