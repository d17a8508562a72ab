package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/browser"

	"github.com/harkhq/hark/e2e/testenv"
)

// mercureCase is an update, and a subscriber who sees it or not.
type mercureCase struct {
	Name      string   `json:"name"`
	Topics    []string `json:"topics"`
	Selectors []string `json:"selectors"`
	Private   bool     `json:"private,omitempty"`
	Type      string   `json:"type,omitempty"`
	// Claim is what the subscriber's token says; nil for no token.
	Claim []string `json:"-"`
	Seen  bool     `json:"-"`

	ID     string            `json:"id"`
	Data   string            `json:"data"`
	Marker string            `json:"marker"`
	Query  map[string]string `json:"query,omitempty"`
}

// mercureCases covers what the public conformance tests of hubs look at (strings,
// several topics and selectors, URIs and templates, private updates), and what the
// protocol says besides.
func mercureCases(salt string) []mercureCase {
	one := func(s string) []string { return []string{s + "-" + salt} }
	books := "https://example.net/" + salt + "/books/"
	cases := []mercureCase{
		{Name: "a string", Topics: one("a"), Selectors: one("a"), Seen: true},
		{Name: "an alternate topic", Topics: append(one("b1"), one("b2")...), Selectors: one("b2"), Seen: true},
		{Name: "several selectors", Topics: one("c"), Selectors: append(one("c0"), one("c")...), Seen: true},
		{Name: "a URI", Topics: []string{books + "1"}, Selectors: []string{books + "1"}, Seen: true},
		{Name: "a template", Topics: []string{books + "2"}, Selectors: []string{books + "{id}"}, Seen: true},
		{Name: "another string", Topics: one("d"), Selectors: one("e")},
		{Name: "another URI", Topics: []string{books + "3"}, Selectors: []string{books + "4"}},
		{Name: "a template of others", Topics: []string{books + "5}"}, Selectors: []string{books + "{id}"}},
		{Name: "a private string", Topics: one("f"), Selectors: one("f"), Private: true},
		{Name: "a private URI", Topics: []string{books + "6"}, Selectors: []string{books + "6"}, Private: true},
		{Name: "a private template", Topics: []string{books + "7"}, Selectors: []string{books + "{id}"}, Private: true},
		{Name: "everything", Topics: one("g"), Selectors: []string{"*"}, Seen: true},
		{Name: "everything, private", Topics: one("h"), Selectors: []string{"*"}, Private: true},
		{Name: "a type", Topics: one("i"), Selectors: one("i"), Type: "changed", Seen: true},
		{Name: "two topics, both asked for", Topics: append(one("j1"), one("j2")...), Selectors: append(one("j2"), one("j1")...), Seen: true},
		{Name: "a query", Topics: []string{books + "?page=1"}, Selectors: []string{books + "{?page}"}, Seen: true},
		{Name: "other scripts", Topics: one("książki/日本語"), Selectors: one("książki/日本語"), Seen: true},
		{Name: "a long topic", Topics: []string{books + strings.Repeat("x/", 300)}, Selectors: []string{books + strings.Repeat("x/", 300)}, Seen: true},
		{Name: "private with a right", Topics: one("k"), Selectors: one("k"), Private: true, Claim: one("k"), Seen: true},
		{Name: "private with a right to another", Topics: one("l"), Selectors: one("l"), Private: true, Claim: one("m")},
		{Name: "private with a template", Topics: []string{books + "8"}, Selectors: []string{books + "8"}, Private: true, Claim: []string{books + "{id}"}, Seen: true},
		{Name: "private by an alternate topic", Topics: []string{books + "9", "https://example.net/users/7?of=" + url.QueryEscape(books+"9")},
			Selectors: []string{books + "{id}"}, Private: true, Claim: []string{"https://example.net/users/7{?of}"}, Seen: true},
	}
	for i := range cases {
		c := &cases[i]
		c.ID = fmt.Sprintf("urn:test:%s:%d", salt, i)
		c.Data = "about\n\n  " + c.Name
		c.Marker = fmt.Sprintf("marker-%s-%d", salt, i)
		if c.Claim != nil {
			c.Query = map[string]string{"authorization": mercureToken(nil, c.Claim, time.Time{}, nil)}
		}
	}
	return cases
}

// mercureResult is what became of a case.
type mercureResult struct {
	Name     string
	Received *struct{ ID, Data, Type string }
	Status   int
	// ContentType and Body are of the publisher's answer.
	ContentType, Body, Error string
}

func judgeMercure(t *testing.T, cases []mercureCase, results []mercureResult) {
	t.Helper()
	if len(results) != len(cases) {
		t.Fatalf("%d results of %d cases", len(results), len(cases))
	}
	for i, c := range cases {
		r := results[i]
		kind := c.Type
		if kind == "" {
			kind = "message"
		}
		switch {
		case r.Error != "" || r.Name != c.Name:
			t.Errorf("%s: %+v", c.Name, r)
		case r.Status != 200 || !strings.HasPrefix(r.ContentType, "text/plain") || r.Body != c.ID:
			t.Errorf("%s: the publisher was told %d %s %s", c.Name, r.Status, r.ContentType, r.Body)
		case (r.Received != nil) != c.Seen:
			t.Errorf("%s: received is %v", c.Name, r.Received)
		case c.Seen && (r.Received.ID != c.ID || r.Received.Data != c.Data || r.Received.Type != kind):
			t.Errorf("%s: received %+v", c.Name, *r.Received)
		}
	}
}

// TestMercureConformance plays the cases over plain HTTP and in browsers that know
// nothing of Hark: Chromium on Hark's own origin, Firefox on another one with a cookie.
func TestMercureConformance(t *testing.T) {
	t.Parallel()
	setup(t)
	stage := newMercureStage(t)
	h := startHub(t, "--mercure-anonymous", "--cors-origin="+stage.URL)

	t.Run("HTTP", func(t *testing.T) {
		cases := mercureCases("http")
		var results []mercureResult
		for _, c := range cases {
			q := topics(append(c.Selectors, c.Marker)...)
			for name, value := range c.Query {
				q.Set(name, value)
			}
			s := h.subscribe(q)
			pairs := []string{"id", c.ID, "data", c.Data, "type", c.Type}
			for _, topic := range c.Topics {
				pairs = append(pairs, "topic", topic)
			}
			if c.Private {
				pairs = append(pairs, "private", "on")
			}
			r := mercureResult{Name: c.Name}
			var head http.Header
			r.Status, r.Body, head = h.post(mayAll, pairs...)
			r.ContentType = head.Get("Content-Type")
			h.must(mayAll, "topic", c.Marker, "data", c.Marker)
			got := s.upTo(c.Marker)
			if len(got) > 1 {
				r.Error = fmt.Sprintf("%d updates came: %v", len(got), got)
			} else if len(got) == 1 {
				kind := got[0].Type
				if kind == "" {
					kind = "message"
				}
				r.Received = &struct{ ID, Data, Type string }{got[0].ID, got[0].Data, kind}
			}
			s.stop()
			results = append(results, r)
		}
		judgeMercure(t, cases, results)
	})
	t.Run("Chromium", func(t *testing.T) {
		cases := mercureCases("chromium")
		script, err := os.ReadFile("page/mercure.js")
		if err != nil {
			t.Fatal(err)
		}
		b, err := browser.Start()
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		page, err := b.Open(t.Context(), browser.View{Width: 400, Height: 400}, h.server.URL+"/healthz")
		if err != nil {
			t.Fatal(err)
		}
		plan, err := json.Marshal(map[string]any{"hub": h.url, "token": mayAll, "cases": cases})
		if err != nil {
			t.Fatal(err)
		}
		var results []mercureResult
		if err := page.Eval(t.Context(), "(() => {"+string(script)+"; return playMercure("+string(plan)+")})()", &results); err != nil {
			t.Fatal(err, page.Said())
		}
		judgeMercure(t, cases, results)
	})
	t.Run("Firefox", func(t *testing.T) {
		cases := mercureCases("firefox")
		for i := range cases {
			cases[i].Query = nil // its cookie says it all
		}
		cases = slices.DeleteFunc(cases, func(c mercureCase) bool { return c.Private && !c.Seen })
		cookie := mercureToken(nil, []string{"*"}, time.Time{}, nil)
		results := stage.firefox(t, map[string]any{"hub": h.url, "token": mayAll, "cases": cases, "credentials": true, "cookie": cookie})
		judgeMercure(t, cases, results)
	})
}

// TestMercureBrowserMissesNothing: a browser whose connection breaks before anything came
// gets what was published meanwhile all the same, after a kill and after a stop.
func TestMercureBrowserMissesNothing(t *testing.T) {
	t.Parallel()
	setup(t)
	open := map[string]func(*testing.T, string){
		"Chromium": func(t *testing.T, page string) {
			b, err := browser.Start()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			if _, err := b.Open(t.Context(), browser.View{Width: 400, Height: 400}, page); err != nil {
				t.Fatal(err)
			}
		},
		"Firefox": func(t *testing.T, page string) { t.Cleanup(openFirefox(t, page)) },
	}
	for name, open := range open {
		t.Run(name, func(t *testing.T) {
			stage := newMercureStage(t)
			h := startHub(t, "--mercure-anonymous", "--cors-origin="+stage.URL, "--drain-window=2s")
			open(t, stage.URL+"/mercure-wait.html?"+url.Values{"url": {h.url + "?topic=quiet"}}.Encode())
			stage.hears(t, heard{What: "open"})
			if err := h.server.Kill(); err != nil {
				t.Fatal(err)
			}
			h.again()
			h.must(mayAll, "topic", "quiet", "data", "after a kill")
			stage.hears(t, heard{"message", "after a kill"})
			h.stop()
			h.again()
			h.must(mayAll, "topic", "quiet", "data", "after a stop", "id", "urn:stop")
			stage.hears(t, heard{"message", "after a stop"})
			h.stop()
			h.again()
			h.must(mayAll, "topic", "quiet", "data", "at last")
			stage.hears(t, heard{"message", "at last"})
		})
	}
}

// TestMercurePHP: Symfony's publisher and its client of event streams, as applications
// use them, through a kill of the server. It hands every block to its user, so none may be empty.
func TestMercurePHP(t *testing.T) {
	t.Parallel()
	setup(t)
	h := startHub(t)
	publish := func(updates ...map[string]any) []string {
		t.Helper()
		args := []string{"php/mercure.php", "publish", h.url, mayAll}
		for _, u := range updates {
			text, err := json.Marshal(u)
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, string(text))
		}
		out, err := exec.CommandContext(t.Context(), "php", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.Fields(string(out))
	}
	cmd := exec.CommandContext(t.Context(), "php", "php/mercure.php", "follow", h.url+"?"+topics("https://example.com/books/{id}", "b").Encode(), mayAll)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	type said struct {
		Open           bool
		ID, Type, Data string
	}
	lines := make(chan said, 100)
	go func() {
		in := bufio.NewScanner(out)
		for in.Scan() {
			var s said
			if err := json.Unmarshal(in.Bytes(), &s); err != nil {
				t.Errorf("%s: %v", in.Bytes(), err)
			}
			lines <- s
		}
	}()
	next := func() said {
		t.Helper()
		select {
		case s := <-lines:
			return s
		case <-time.After(enough):
			t.Fatal("the client in PHP says nothing more")
			return said{}
		}
	}
	if s := next(); !s.Open {
		t.Fatalf("%+v", s)
	}
	ids := publish(map[string]any{"topics": "https://example.com/books/1", "data": "first\nline", "private": true, "type": "book", "retry": 300},
		map[string]any{"topics": "elsewhere", "data": "x"},
		map[string]any{"topics": []string{"https://example.com/books/2", "b"}, "data": "second", "id": "urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb"})
	if len(ids) != 3 || ids[2] != "urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb" {
		t.Fatalf("%q", ids)
	}
	if s := next(); s != (said{ID: ids[0], Type: "book", Data: "first\nline"}) {
		t.Errorf("%+v", s)
	}
	if s := next(); s != (said{ID: ids[2], Type: "message", Data: "second"}) {
		t.Errorf("%+v", s)
	}
	if err := h.server.Kill(); err != nil {
		t.Fatal(err)
	}
	h.again()
	ids = publish(map[string]any{"topics": "b", "data": "third"})
	if s := next(); s != (said{ID: ids[0], Type: "message", Data: "third"}) {
		t.Errorf("after a kill: %+v", s)
	}
}

// TestMercureNode: the npm package eventsource follows, fetch publishes, through a kill
// of the server and a stop.
func TestMercureNode(t *testing.T) {
	t.Parallel()
	setup(t)
	h := startHub(t, "--drain-window=2s")
	cmd := exec.CommandContext(t.Context(), "node", "npm/mercure.mjs", h.url, topics("https://example.com/books/{id}", "b").Encode(), mayAll)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	type said struct {
		Open, Closed   bool
		ID, Type, Data string
		Published      string
		Status         int
	}
	lines := make(chan said, 100)
	go func() {
		scan := bufio.NewScanner(out)
		for scan.Scan() {
			var s said
			if err := json.Unmarshal(scan.Bytes(), &s); err != nil {
				t.Errorf("%s: %v", scan.Bytes(), err)
			}
			lines <- s
		}
	}()
	// What is published and what comes may be told in either order.
	expect := func(what string, ok func(said) bool, n int) (all []said) {
		t.Helper()
		limit := time.After(enough)
		for len(all) < n {
			select {
			case s := <-lines:
				if s.Closed || !ok(s) {
					t.Fatalf("waiting for %s: %+v", what, s)
				}
				all = append(all, s)
			case <-limit:
				t.Fatalf("waiting for %s: there is %+v", what, all)
			}
		}
		return all
	}
	isOpen := func(s said) bool { return s.Open }
	round := func(form url.Values, kind string) {
		t.Helper()
		fmt.Fprintln(in, form.Encode())
		var id, came string
		for _, s := range expect("an update", func(s said) bool { return s.Status == 200 || s.Data != "" }, 2) {
			if s.Status == 200 {
				id = s.Published
			} else if came = s.ID; s.Data != form.Get("data") || s.Type != kind {
				t.Errorf("%+v", s)
			}
		}
		if id == "" || id != came {
			t.Errorf("published as %q, came as %q", id, came)
		}
	}
	expect("the stream", isOpen, 1)
	round(url.Values{"topic": {"https://example.com/books/1"}, "data": {"one\ntwo"}, "private": {"on"}, "type": {"book"}}, "book")
	round(url.Values{"topic": {"x", "b"}, "data": {"alternate"}, "id": {"urn:mine"}}, "message")
	for i := range 2 {
		if i == 0 {
			if err := h.server.Kill(); err != nil {
				t.Fatal(err)
			}
		} else {
			h.stop()
		}
		h.again()
		id := h.must(mayAll, "topic", "b", "data", "meanwhile")
		got := expect("what was missed", func(s said) bool { return s.Open || s.Data != "" }, 2)
		if !got[0].Open || got[1].ID != id || got[1].Data != "meanwhile" {
			t.Errorf("%+v", got)
		}
	}
}

// TestMercureRefusals: who may not, and what is not a request, is told so as hubs do.
func TestMercureRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	narrow := mercureToken([]string{"a", "https://example.com/{id}"}, []string{"a"}, time.Time{}, nil)
	forged := mayAll[:len(mayAll)-4] + "AAAA"
	for _, c := range []struct {
		name, token string
		pairs       []string
		status      int
	}{
		{"no token", "", []string{"topic", "a"}, 401},
		{"a forged token", forged, []string{"topic", "a"}, 401},
		{"an expired token", mercureToken([]string{"*"}, nil, time.Now().Add(-time.Hour), nil), []string{"topic", "a"}, 401},
		{"nothing to publish by", mercureToken(nil, []string{"*"}, time.Time{}, nil), []string{"topic", "a"}, 403},
		{"an empty claim", mercureToken([]string{}, nil, time.Time{}, nil), []string{"topic", "a"}, 403},
		{"another topic", narrow, []string{"topic", "b"}, 403},
		{"one topic too many", narrow, []string{"topic", "a", "topic", "b"}, 403},
		{"Hark's own topic by *", mayAll, []string{"topic", "hark:orders.paid"}, 403},
		{"the hub's own topic", mayAll, []string{"topic", "/.well-known/mercure/subscriptions/a/b"}, 403},
		{"no topic", mayAll, []string{"data", "x"}, 400},
		{"a forged line", mayAll, []string{"topic", "a", "type", "x\ndata: y"}, 400},
		{"no number", mayAll, []string{"topic", "a", "retry", "x"}, 400},
		{"too large", mayAll, []string{"topic", "a", "data", strings.Repeat("x", 1<<20+1)}, 413},
		{"a topic", narrow, []string{"topic", "a"}, 200},
		{"topics", narrow, []string{"topic", "https://example.com/1", "topic", "a", "private", ""}, 200},
	} {
		if status, body, _ := h.post(c.token, c.pairs...); status != c.status {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
	}
	for _, c := range []struct {
		name   string
		query  url.Values
		header []string
		status int
	}{
		{"no token", topics("a"), nil, 401},
		{"a forged token", topics("a"), bearer(forged), 401},
		{"a forged cookie", topics("a"), []string{"Cookie", "mercureAuthorization=" + forged}, 401},
		{"no topic", nil, bearer(mayAll), 400},
		{"1.0", url.Values{"match": {"a"}}, bearer(mayAll), 400},
		{"Hark's own topics by *", topics("hark:>"), bearer(mayAll), 403},
		{"subscriptions are not told", nil, bearer(mayAll), 400},
		{"a cookie", topics("a"), []string{"Cookie", "mercureAuthorization=" + mayAll}, 200},
		{"a parameter", url.Values{"topic": {"a"}, "authorization": {mayAll}}, []string{"Cookie", "mercureAuthorization=" + forged}, 200},
		{"Hark's own topics", topics("hark:a.>"), bearer(mercureToken(nil, []string{"hark:a.>"}, time.Time{}, nil)), 200},
	} {
		s := h.subscribe(c.query, c.header...)
		if s.stop(); s.Status != c.status {
			t.Errorf("%s: %d %s", c.name, s.Status, s.Body)
		}
		if strings.Contains(s.Body+h.server.Output(), "eyJ") {
			t.Errorf("%s: a token is shown", c.name)
		}
	}
	if answer, err := h.api.Do(h.ctx, "GET", "/.well-known/mercure/subscriptions", nil); err != nil || answer.Status != 404 {
		t.Errorf("%s, %v", answer, err)
	}
}

// TestMercureExpiry: a stream ends when its token does.
func TestMercureExpiry(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	s := h.subscribe(topics("a"), bearer(mercureToken(nil, []string{"*"}, time.Now().Add(3*time.Second), nil))...)
	h.must(mayAll, "topic", "a", "data", "x")
	s.upTo("x")
	s.ended()
}

// TestMercureAndNative: an update is an event for everyone else, and events are updates.
func TestMercureAndNative(t *testing.T) {
	t.Parallel()
	h := startHub(t, "--mercure-anonymous")
	h.to("/all", "mercure.topic.>")
	h.to("/books", "mercure.topic.https_3a._.example_2ecom.books.*")
	native := h.open("/v1/stream?topic=mercure.topic.%3E")
	defer native.Body.Close()

	id := h.must(mayAll, "topic", "https://example.com/books/1", "topic", "also", "data", `{"title":"Emma"}`, "type", "book")
	given := h.must(mayAll, "topic", "other", "data", "plain", "id", "urn:mine", "private", "on")
	if given != "urn:mine" || !strings.HasPrefix(id, "evt_") {
		t.Errorf("ids %s and %s", id, given)
	}
	hits := h.wait("/all", 2)
	// Nobody asked for ordered: what is sent at once may come the other way round.
	slices.SortFunc(hits, func(a, b testenv.Hit) int { return strings.Compare(a.ID, b.ID) })
	if len(hits) != 2 || hits[0].ID != id || string(hits[0].Body) != `{"title":"Emma"}` || hits[0].Header.Get("Content-Type") != "application/json" || string(hits[1].Body) != "plain" {
		t.Errorf("webhooks: %+v", hits)
	}
	if hits := h.wait("/books", 1); len(hits) != 1 || hits[0].Topic != "mercure.topic.https_3a._.example_2ecom.books.1" {
		t.Errorf("webhooks: %+v", hits)
	}
	read := h.subscribeTo(native)
	if got := read.until("a native event", func(got []mercureUpdate) bool { return len(got) == 2 }); got[0].ID != id ||
		!strings.Contains(got[0].Data, `"data":{"title":"Emma"}`) || !strings.Contains(got[0].Data, `"mercure-topic":"https://example.com/books/1"`) {
		t.Errorf("a native stream: %+v", got)
	}

	// And back: on the topic's Hark name, and Hark's own topics.
	s := h.subscribe(topics("https://example.com/books/{id}", "hark:orders.*"), bearer(mercureToken(nil, []string{"hark:orders.>"}, time.Time{}, nil))...)
	first := h.publish("mercure.topic.https_3a._.example_2ecom.books.2", map[string]any{"title": "Persuasion"})
	h.publish("mercure.topic.elsewhere", "not for it")
	second := h.publish("orders.paid", map[string]any{"order": 1})
	mark := h.must(mercureToken([]string{"hark:orders.>"}, nil, time.Time{}, nil), "topic", "hark:orders.last", "data", "end")
	got := s.upTo("end")
	if len(got) != 2 || got[0].ID != first || got[0].Data != `{"title":"Persuasion"}` || got[1].ID != second || got[1].Data != `{"order":1}` {
		t.Errorf("updates: %+v", got)
	}
	var e struct{ Topic, Data string }
	h.get("/v1/events/"+mark, &e)
	if e.Topic != "orders.last" || e.Data != "end" {
		t.Errorf("%+v", e)
	}

	// The same id goes on anywhere: an update's is a native cursor, a native cursor is a last event id.
	var page struct{ Events []struct{ ID string } }
	h.get("/v1/events?topic=orders.*&after="+first, &page)
	if len(page.Events) != 2 || page.Events[0].ID != second {
		t.Errorf("%+v", page)
	}
}

// subscribeTo reads any event stream.
func (h *hub) subscribeTo(resp *http.Response) *mercureStream {
	s := &mercureStream{t: h.T, news: make(chan struct{}), stop: func() {}}
	go s.read(resp.Body)
	return s
}

// TestMercureHistory: among 20,000 updates, whoever comes back gets all that was missed
// and nothing else, by the publisher's ids and by Hark's.
func TestMercureHistory(t *testing.T) {
	t.Parallel()
	h := startHub(t, "--mercure-anonymous")
	const n, publishers = 20000, 16
	ids := make([]string, n)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := p; i < n; i += publishers {
				pairs := []string{"topic", "bulk/" + strconv.Itoa(i%100), "data", strconv.Itoa(i)}
				if i%2 == 0 {
					pairs = append(pairs, "id", "urn:n:"+strconv.Itoa(i))
				}
				ids[i] = h.must(mayAll, pairs...)
			}
		})
	}
	wg.Wait()
	h.stop()
	h.again() // nothing of it is in memory
	order := h.subscribe(url.Values{"topic": {"bulk/{x}"}, "lastEventID": {"earliest"}}).until("all of them", func(got []mercureUpdate) bool { return len(got) == n })
	for i, u := range order {
		if k, _ := strconv.Atoi(u.Data); u.ID != ids[k] {
			t.Fatalf("update %d has the id %s, its publisher was told %s", k, u.ID, ids[k])
		}
		if i > 0 && strings.HasPrefix(u.ID, "evt_") && strings.HasPrefix(order[i-1].ID, "evt_") && u.ID <= order[i-1].ID {
			t.Fatalf("%s after %s", u.ID, order[i-1].ID)
		}
	}
	for _, at := range []int{0, 1, n / 2, n - 12, n - 11, n - 2, n - 1} {
		for _, topic := range []string{"bulk/{x}", "bulk/7", "*"} {
			began := time.Now()
			s := h.subscribe(url.Values{"topic": {topic, "mark"}}, "Last-Event-ID", order[at].ID)
			if got := s.Header.Get("Last-Event-ID"); got != order[at].ID {
				t.Errorf("the answer says %s, not %s", got, order[at].ID)
			}
			mark := fmt.Sprint("mark ", at, topic)
			h.must(mayAll, "topic", "mark", "data", mark)
			var want []string
			for _, u := range order[at+1:] {
				if k, _ := strconv.Atoi(u.Data); topic != "bulk/7" || k%100 == 7 {
					want = append(want, u.ID)
				}
			}
			got := slices.DeleteFunc(slices.Clone(s.upTo(mark)), func(u mercureUpdate) bool { return strings.HasPrefix(u.Data, "mark") })
			s.stop()
			if len(got) != len(want) {
				t.Fatalf("after %d, %s: %d updates, want %d", at, topic, len(got), len(want))
			}
			for i := range got {
				if got[i].ID != want[i] {
					t.Fatalf("after %d, %s: update %d is %s, want %s", at, topic, i, got[i].ID, want[i])
				}
			}
			t.Logf("after update %d of %d, %s: %d missed ones in %v", at, n, topic, len(got), time.Since(began).Round(time.Millisecond))
		}
	}
	// An id that nobody gave: all there is, and it is said.
	s := h.subscribe(url.Values{"topic": {"bulk/7"}, "Last-Event-ID": {"urn:unknown"}})
	if s.until("all of a topic", func(got []mercureUpdate) bool { return len(got) == n/100 }); s.Header.Get("Last-Event-ID") != "earliest" {
		t.Errorf("%v", s.Header)
	}
}

// TestMercureKill: subscribers that come back with their last id after kill -9 have each
// acknowledged update once, in the order of the log.
func TestMercureKill(t *testing.T) {
	t.Parallel()
	h := startHub(t, "--mercure-anonymous")
	follower := map[string]url.Values{"exact": topics("kill/1", "kill/2"), "template": topics("kill/{x}"), "alternate": topics("kill-also/1")}
	seen, last := map[string][]mercureUpdate{}, map[string]string{}
	acked := map[string]string{}
	next := 0
	for round := range 5 {
		streams := map[string]*mercureStream{}
		for name, q := range follower {
			var headers []string
			if id := last[name]; id != "" {
				headers = []string{"Last-Event-ID", id}
			}
			streams[name] = h.subscribe(q, headers...)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		killed := make(chan struct{})
		for p := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-killed:
						return
					default:
					}
					data := fmt.Sprintf("%d-%d-%d", round, p, i)
					form := url.Values{"topic": {"kill/" + strconv.Itoa(1+i%2), "kill-also/1"}, "data": {data}}
					if i%3 == 0 {
						form.Set("id", "urn:"+data)
					}
					req, _ := http.NewRequest("POST", h.url, strings.NewReader(form.Encode()))
					req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					req.Header.Set("Authorization", "Bearer "+mayAll)
					resp, err := h.api.Client.Do(req)
					if err != nil {
						return
					}
					body := make([]byte, 200)
					n, _ := resp.Body.Read(body)
					resp.Body.Close()
					if resp.StatusCode == 200 {
						mu.Lock()
						acked[data] = string(body[:n])
						mu.Unlock()
					}
				}
			})
		}
		streams["exact"].until("some updates", func(got []mercureUpdate) bool { return len(got) > 200 })
		if err := h.server.Kill(); err != nil {
			t.Fatal(err)
		}
		close(killed)
		wg.Wait()
		for name, s := range streams {
			s.stop()
			s.mu.Lock()
			seen[name] = append(seen[name], s.got...)
			s.mu.Unlock()
			if n := len(seen[name]); n > 0 {
				last[name] = seen[name][n-1].ID
			}
		}
		h.again()
		next++
	}
	mark := h.must(mayAll, "topic", "kill/1", "topic", "kill-also/1", "data", "mark")
	for name, q := range follower {
		s := h.subscribe(q, "Last-Event-ID", last[name])
		if s.Header.Get("Last-Event-ID") != last[name] {
			t.Errorf("%s: the answer says %s", name, s.Header.Get("Last-Event-ID"))
		}
		seen[name] = append(seen[name], s.upTo("mark")...)
	}
	t.Logf("%d updates acknowledged over %d kills, the last is %s", len(acked), next, mark)
	for name, got := range seen {
		count := map[string]int{}
		for _, u := range got {
			count[u.Data]++
			if count[u.Data] > 1 {
				t.Errorf("%s: %s came twice", name, u.Data)
			}
			if id := acked[u.Data]; id != "" && id != u.ID {
				t.Errorf("%s: %s has the id %s, its publisher was told %s", name, u.Data, u.ID, id)
			}
		}
		for data := range acked {
			if count[data] == 0 {
				t.Errorf("%s: %s was acknowledged and did not come", name, data)
			}
		}
		order := make([]string, 0, len(got))
		for _, u := range got {
			if strings.HasPrefix(u.ID, "evt_") {
				order = append(order, u.ID)
			}
		}
		if !slices.IsSorted(order) {
			t.Errorf("%s: out of order", name)
		}
	}
}

// TestMercureSubscriptions: who is there is told to those who may know, and to nobody else.
func TestMercureSubscriptions(t *testing.T) {
	t.Parallel()
	h := startHub(t, "--mercure-anonymous", "--mercure-subscriptions")
	const all = "/.well-known/mercure/subscriptions{/topic}{/subscriber}"
	watch := bearer(mercureToken(nil, []string{all}, time.Time{}, nil))
	watcher, stranger := h.subscribe(topics(all), watch...), h.subscribe(topics(all))

	topic := "https://example.com/books/{id}"
	s := h.subscribe(topics(topic, "b"), bearer(mercureToken(nil, []string{"x"}, time.Time{}, map[string]any{"user": 7}))...)
	type subscription struct {
		Context                     string `json:"@context"`
		ID, Type, Subscriber, Topic string
		Active                      bool
		Payload                     json.RawMessage
		LastEventID                 string
	}
	parse := func(text string) (d subscription) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return d
	}
	about := func(got []mercureUpdate, topic string, active bool) *subscription {
		for _, u := range got {
			if d := parse(u.Data); d.Topic == topic && d.Active == active {
				return &d
			}
		}
		return nil
	}
	got := watcher.until("the subscriptions", func(got []mercureUpdate) bool { return about(got, topic, true) != nil && about(got, "b", true) != nil })
	d := about(got, topic, true)
	if d.Context != "https://mercure.rocks/" || d.Type != "Subscription" || string(d.Payload) != `{"user":7}` || d.Subscriber != about(got, "b", true).Subscriber ||
		d.ID != "/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2Fbooks%2F%7Bid%7D/"+strings.ReplaceAll(d.Subscriber, ":", "%3A") {
		t.Errorf("%+v", d)
	}

	read := func(path string, headers ...string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequest("GET", h.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := h.api.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Header
	}
	var list struct {
		ID, Type, LastEventID string
		Subscriptions         []subscription
	}
	const collection = "/.well-known/mercure/subscriptions"
	for path, n := range map[string]int{collection: 4, collection + "/b": 1, collection + "/" + strings.Split(d.ID, "/")[4]: 1, collection + "/nobody": 0} {
		status, text, head := read(path, watch...)
		if err := json.Unmarshal([]byte(text), &list); err != nil || status != 200 || len(list.Subscriptions) != n || list.ID != path || list.Type != "Subscriptions" ||
			!strings.HasPrefix(list.LastEventID, "evt_") || head.Get("Content-Type") != "application/ld+json" || !strings.Contains(head.Get("Link"), `rel="mercure"`) {
			t.Errorf("%s: %d %s %v", path, status, text, head)
		}
	}
	status, text, head := read(d.ID, watch...)
	if one := parse(text); status != 200 || one.ID != d.ID || !one.Active || one.LastEventID == "" || string(one.Payload) != `{"user":7}` {
		t.Errorf("%d %s", status, text)
	}
	if status, _, _ := read(d.ID, append(watch, "If-None-Match", head.Get("ETag"))...); status != 304 {
		t.Errorf("nothing changed: %d", status)
	}
	for name, c := range map[string]struct {
		headers []string
		status  int
	}{"nobody": {nil, 401}, "another right": {bearer(mercureToken(nil, []string{"a"}, time.Time{}, nil)), 403}, "everything": {bearer(mayAll), 200}} {
		if status, text, _ := read(collection, c.headers...); status != c.status {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}

	s.stop()
	got = watcher.until("their end", func(got []mercureUpdate) bool {
		return about(got, topic, false) != nil && about(got, "b", false) != nil
	})
	if gone := about(got, topic, false); gone.ID != d.ID || gone.Active {
		t.Errorf("%+v", gone)
	}
	if status, _, _ := read(d.ID, watch...); status != 404 {
		t.Errorf("a subscription that ended: %d", status)
	}
	// The collection's id goes on exactly where it was read.
	h.subscribe(topics("late"))
	later := h.subscribe(url.Values{"topic": {all}, "lastEventID": {list.LastEventID}}, watch...)
	later.until("what came after the collection", func(got []mercureUpdate) bool { return about(got, "late", true) != nil })
	if n := len(stranger.upToNow()); n != 0 {
		t.Errorf("a stranger saw %d of them", n)
	}
}

// upToNow is what came until now.
func (s *mercureStream) upToNow() []mercureUpdate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}
