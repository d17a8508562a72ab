package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// shot is one request to a bin. Each is sent once.
type shot struct {
	token      string
	begin, end time.Time // end is zero without an answer
	id         string    // once it was seen
}

// shotBody is what is sent with a token: any bytes.
func shotBody(token string) []byte {
	random := rand.New(rand.NewPCG(hash(token), 5))
	body := make([]byte, random.IntN(1500))
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	return body
}

func shotPath(b *crashBin, token string) string { return b.path + "/a%2Fb//" + token + "?t=" + token }

// crashBin is a bin and what must be in it.
type crashBin struct {
	id, path, name string
	maxRequests    int
	maxBytes       int64

	mu    sync.Mutex // guards live and shots
	live  []*shot    // that may be in the ring
	shots map[string]*shot

	ids    map[string]string // of all that were ever listed, to the token
	newest string            // of the last look
}

func newCrashBin(w *world, settings map[string]any) *crashBin {
	w.Helper()
	var made struct {
		ID, URL     string
		MaxRequests int   `json:"max_requests"`
		MaxBytes    int64 `json:"max_bytes"`
	}
	w.post("/v1/bins", settings, &made)
	return &crashBin{id: made.ID, path: made.URL[strings.Index(made.URL, "/in/"):], name: settings["name"].(string),
		maxRequests: made.MaxRequests, maxBytes: made.MaxBytes, shots: map[string]*shot{}, ids: map[string]string{}}
}

// shoot sends one request.
func (b *crashBin) shoot(ctx context.Context, api testenv.API, l *ledger, random *rand.Rand) (answered bool) {
	l.mu.Lock()
	s := &shot{token: l.next("s")}
	l.mu.Unlock()
	b.mu.Lock()
	b.live, b.shots[s.token] = append(b.live, s), s
	b.mu.Unlock()
	api.Key = ""
	begin := time.Now()
	answer, err := api.Do(ctx, []string{"POST", "PUT", "DELETE"}[random.IntN(3)], shotPath(b, s.token),
		testenv.Raw{Type: "application/octet-stream", Body: shotBody(s.token)}, "X-Token", s.token)
	b.mu.Lock()
	defer b.mu.Unlock()
	s.begin = begin
	if err != nil {
		return false
	}
	if answer.Status != 200 {
		l.complain("a request to the bin %s was answered %s", b.name, answer)
		return true
	}
	s.end = time.Now()
	return true
}

// captured is one request in the bin's list.
type captured struct {
	ID         string
	Method     string
	Target     string
	Header     []struct{ Name, Value string }
	Head       []byte `json:"head_base64"`
	Body       *string
	BodyBase64 []byte `json:"body_base64"`
	Status     int
	Event      string
	Duplicate  bool
	Reason     string
}

func (c *captured) header(name string) string {
	for _, f := range c.Header {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

func (c *captured) bytes() []byte {
	if c.Body != nil {
		return []byte(*c.Body)
	}
	return c.BodyBase64
}

// requests lists what a bin or source holds, oldest first.
func (w *world) requests(path string) (list []captured) {
	w.Helper()
	after := ""
	for {
		var page struct {
			Requests []captured
			Next     string
			More     bool
		}
		w.get(path+"/requests?bodies=true&limit=500&after="+after, &page)
		list = append(list, page.Requests...)
		if !page.More {
			return list
		}
		after = page.Next
	}
}

// inspect looks at a bin while nobody sends: what was answered is there unless the ring
// was full, then the newest are; each is what was sent; and ids rise.
func (b *crashBin) inspect(w *world) {
	w.Helper()
	list := w.requests("/v1/bins/" + b.id)
	var view struct {
		Requests int
		Bytes    int64
		Newest   string
	}
	w.get("/v1/bins/"+b.id, &view)
	if view.Requests != len(list) || view.Requests > b.maxRequests || view.Bytes > b.maxBytes || len(list) > 0 && view.Newest != list[len(list)-1].ID {
		w.Errorf("bin %s says that it holds %d with %d bytes up to %s, and lists %d", b.name, view.Requests, view.Bytes, view.Newest, len(list))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	there := make([]*shot, 0, len(list))
	last, latest := "", &shot{}
	for i := range list {
		got := &list[i]
		s := b.shots[got.header("X-Token")]
		if s == nil {
			w.Errorf("bin %s: %s was never sent, or is twice there, or had gone: %s %s", b.name, got.ID, got.Method, got.Target)
			continue
		}
		if s.id == "" && got.ID <= b.newest || got.ID <= last || s.id != "" && s.id != got.ID {
			w.Errorf("bin %s: %s has id %s (before %q), after %s; the newest was %s", b.name, s.token, got.ID, s.id, last, b.newest)
		}
		s.id, last, b.ids[got.ID] = got.ID, got.ID, s.token
		if latest.begin.Before(s.begin) {
			latest = s
		}
		if !s.end.IsZero() && s.end.Before(latest.begin) {
			w.Errorf("bin %s: %s was answered before %s was sent, and has the higher id", b.name, s.token, latest.token)
		}
		if got.Target != shotPath(b, s.token) || !bytes.Equal(got.bytes(), shotBody(s.token)) || !bytes.HasPrefix(got.Head, []byte(got.Method+" "+got.Target+" HTTP/1.1\r\n")) {
			w.Errorf("bin %s: %s of %s is not what was sent: %s %s, %d bytes", b.name, got.ID, s.token, got.Method, got.Target, len(got.bytes()))
		}
		delete(b.shots, s.token) // a second one would be found to be unknown
		there = append(there, s)
	}
	full := len(list) == b.maxRequests || view.Bytes+4096 > b.maxBytes
	oldest := slices.IndexFunc(there, func(s *shot) bool { return !s.end.IsZero() })
	for _, s := range b.live {
		if s.end.IsZero() || b.shots[s.token] == nil {
			continue // open, or there
		}
		if !full {
			w.Errorf("bin %s lost %s, which was answered, and has room: %d requests, %d bytes", b.name, s.token, len(list), view.Bytes)
		} else if oldest < 0 || s.begin.After(there[oldest].end) {
			w.Errorf("bin %s lost %s, and keeps older ones", b.name, s.token)
		}
	}
	// What is not there now never will be.
	b.live, b.newest = there, view.Newest
	clear(b.shots)
	for _, s := range there {
		b.shots[s.token] = s
	}
}

// reader follows a bin's live feed, and comes back with its position after each start.
type reader struct {
	bin  string
	last string
	seen []string
}

// follow reads until the stream ends or has shown the request until.
func (r *reader) follow(ctx context.Context, api testenv.API, l *ledger, until string) {
	req, err := http.NewRequestWithContext(ctx, "GET", api.Base+"/v1/bins/"+r.bin+"/live?after=", nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+api.Key)
	if r.last != "" {
		req.Header.Set("Last-Event-ID", r.last)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return // killed
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		l.complain("the live feed was answered %s", resp.Status)
	}
	id := ""
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "event: "); ok && name != "request" {
			l.complain("the live feed tells %s after %s", name, r.last)
		}
		if text, ok := strings.CutPrefix(line, "id: "); ok {
			id = text
		}
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			var c captured
			if err := json.Unmarshal([]byte(text), &c); err != nil {
				return // cut off
			}
			if c.ID != id || c.ID <= r.last {
				l.complain("the live feed tells %s with id %s after %s", c.ID, id, r.last)
			}
			r.last = c.ID
			if r.seen = append(r.seen, c.ID); c.ID == until {
				return
			}
		}
	}
}

// finish reads to the end.
func (r *reader) finish(w *world, newest string) {
	ctx, cancel := context.WithTimeout(w.ctx, enough)
	defer cancel()
	var l ledger
	if r.last < newest {
		r.follow(ctx, w.api, &l, newest)
	}
	for _, s := range l.said {
		w.Error(s)
	}
}

// judge: it saw everything that was ever there, once, and nothing that was not.
func (r *reader) judge(w *world, ids map[string]string) {
	listed := slices.Sorted(maps.Keys(ids))
	if slices.Equal(listed, r.seen) {
		return
	}
	for _, id := range r.seen {
		if ids[id] == "" {
			w.Errorf("the live feed told %s, which was not there afterwards", id)
		}
	}
	for _, id := range listed {
		if _, ok := slices.BinarySearch(r.seen, id); !ok {
			w.Errorf("the live feed never told %s (%s)", id, ids[id])
		}
	}
}

// owner changes settings while the server is killed.
type owner struct {
	source, url  string
	tried, acked int // of the source's names
	bins         []*ownBin
}

// ownBin is a bin that the owner makes, and later removes.
type ownBin struct {
	uid            string
	made, removing bool // it was answered that it is there; it may be gone
	removed        bool // it was answered that it is gone
	path           string
}

func newOwner(w *world) *owner {
	w.Helper()
	var made struct{ ID, URL string }
	w.post("/v1/sources", map[string]any{"scheme": "none", "name": "0"}, &made)
	return &owner{source: made.ID, url: made.URL}
}

// change changes one thing.
func (o *owner) change(ctx context.Context, api testenv.API, random *rand.Rand) (answered bool) {
	oldest := slices.IndexFunc(o.bins, func(b *ownBin) bool { return b.made && !b.removing })
	switch n := random.IntN(8); {
	case n == 0 && oldest >= 0:
		b := o.bins[oldest]
		b.removing = true
		err := error(nil)
		answered, err = o.call(ctx, api, "DELETE", "/v1/bins/"+b.uid, nil, nil)
		b.removed = answered && err == nil
	case n < 3:
		b := &ownBin{}
		var made struct{ ID, URL string }
		o.bins = append(o.bins, b)
		err := error(nil)
		answered, err = o.call(ctx, api, "POST", "/v1/bins", map[string]any{"name": "own"}, &made)
		if b.made = answered && err == nil; b.made {
			b.uid, b.path = made.ID, made.URL[strings.Index(made.URL, "/in/"):]
		}
	default:
		o.tried++
		err := error(nil)
		answered, err = o.call(ctx, api, "PATCH", "/v1/sources/"+o.source, map[string]any{"name": fmt.Sprint(o.tried), "response": map[string]any{"status": 200 + o.tried%90}}, nil)
		if answered && err == nil {
			o.acked = o.tried
		}
	}
	return answered
}

func (o *owner) call(ctx context.Context, api testenv.API, method, path string, in, out any) (answered bool, err error) {
	answer, err := api.Do(ctx, method, path, in)
	if err != nil {
		return false, err
	}
	if !answer.OK() {
		return true, fmt.Errorf("%s %s: %s", method, path, answer)
	}
	if out != nil {
		err = json.Unmarshal(answer.Body, out)
	}
	return true, err
}

// inspect: what was acknowledged is there, whole; what was not may be.
func (o *owner) inspect(w *world) {
	w.Helper()
	var now struct {
		Name, URL string
		Response  struct{ Status int }
	}
	w.get("/v1/sources/"+o.source, &now)
	n := 0
	fmt.Sscan(now.Name, &n)
	if n < o.acked || n > o.tried || n > 0 && now.Response.Status != 200+n%90 || now.URL != o.url {
		w.Errorf("the source is %+v; change %d was acknowledged, %d was tried", now, o.acked, o.tried)
	}
	o.acked = n
	for _, b := range o.bins {
		if !b.made {
			continue // nobody knows its id
		}
		answer, err := w.api.Do(w.ctx, "POST", b.path, nil)
		if err != nil {
			w.Fatal(err)
		}
		switch there := answer.Status == 200; {
		case !there && answer.Status != 404, there && b.removed, !there && !b.removing:
			w.Errorf("bin %s: made; removing %v, removed %v; its URL answers %s", b.uid, b.removing, b.removed, answer)
		default:
			b.removing, b.removed = !there, !there
		}
	}
	o.bins = slices.DeleteFunc(o.bins, func(b *ownBin) bool { return !b.made || b.removed })
}
