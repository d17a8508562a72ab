package live

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// fake is a server that keeps the contract, unless it is told to break it.
type fake struct {
	*httptest.Server
	fault string

	mu     sync.Mutex // guards below
	log    []fakeEvent
	floor  int // log[:floor] is gone
	news   chan struct{}
	halted bool // streams end politely
	busy   int  // so many WebSockets are ended before they began
}

type fakeEvent struct {
	id, topic string
	text      []byte
}

func newFake(t *testing.T, fault string) *fake {
	f := &fake{fault: fault, news: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/events", f.publish)
	mux.HandleFunc("GET /v1/events", f.page)
	mux.HandleFunc("GET /v1/events/{id}", f.one)
	mux.HandleFunc("GET /v1/stream", f.stream)
	mux.HandleFunc("GET /v1/ws", f.socket)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func fakeID(n int) string { return fmt.Sprintf("evt_%024d", n) }

func fakeOffset(id string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(id, "evt_"))
	return n
}

func (f *fake) publish(w http.ResponseWriter, r *http.Request) {
	var body json.RawMessage
	json.NewDecoder(r.Body).Decode(&body)
	var many []struct {
		Topic string          `json:"topic"`
		Data  json.RawMessage `json:"data"`
	}
	if body[0] != '[' {
		body = slices.Concat([]byte("["), body, []byte("]"))
	}
	json.Unmarshal(body, &many)
	f.mu.Lock()
	var ids []string
	for _, e := range many {
		id := fakeID(len(f.log) + 1)
		text, _ := json.Marshal(map[string]any{"id": id, "topic": e.Topic, "data": e.Data})
		f.log, ids = append(f.log, fakeEvent{id, e.Topic, text}), append(ids, id)
	}
	close(f.news)
	f.news = make(chan struct{})
	f.mu.Unlock()
	w.WriteHeader(201)
	json.NewEncoder(w).Encode(map[string]any{"ids": ids})
}

func (f *fake) one(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := fakeOffset(r.PathValue("id")); n <= f.floor || n > len(f.log) {
		w.WriteHeader(404)
	}
}

// read is one step of a reader: what is there after a position. Here the faults are.
func (f *fake) read(topics []string, after int) (events []fakeEvent, cursor int, gap *Gap, news chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cursor = after
	if after < f.floor {
		gap = &Gap{fakeID(after), fakeID(f.floor), "retention"}
		cursor = f.floor
		if f.fault == "a missed gap" {
			gap = nil
		}
	}
	if f.fault == "a false gap" && len(f.log) > 8 && after == 5 {
		gap, cursor = &Gap{fakeID(5), fakeID(6), "retention"}, 6
	}
	for _, e := range f.log[min(cursor, len(f.log)):] {
		n := fakeOffset(e.id)
		switch {
		case !matches(topics, e.topic):
		case f.fault == "loss" && n == 7:
		case f.fault == "a repeat" && n == 7:
			events = append(events, e, e)
		case f.fault == "an invention" && n == 7:
			e.text = []byte(strings.Replace(string(e.text), `"t`, `"other`, 1))
			events = append(events, e)
		default:
			events = append(events, e)
		}
		cursor = n
	}
	if f.fault == "disorder" && len(events) > 1 {
		events[0], events[1] = events[1], events[0]
	}
	if f.fault == "a foreign topic" {
		events = slices.Clone(f.log[min(after, len(f.log)):])
	}
	if f.fault == "a cursor that skips" && cursor == 5 && len(f.log) == 5 {
		cursor = 6
	}
	return events, cursor, gap, f.news
}

// position is where a request starts.
func (f *fake) position(r *http.Request) int {
	q := r.URL.Query()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.Header.Get("Last-Event-ID") != "":
		return fakeOffset(r.Header.Get("Last-Event-ID"))
	case q.Get("after") != "":
		return fakeOffset(q.Get("after"))
	case q.Get("from") == "earliest":
		return f.floor
	}
	return len(f.log)
}

func (f *fake) page(w http.ResponseWriter, r *http.Request) {
	after, end := f.position(r), time.After(500*time.Millisecond)
	for {
		events, cursor, gap, news := f.read(r.URL.Query()["topic"], after)
		if len(events) == 0 && gap == nil && r.URL.Query().Get("wait") != "" {
			select {
			case <-news:
				continue
			case <-end:
			case <-r.Context().Done():
				return
			}
		}
		texts := []json.RawMessage{}
		for _, e := range events {
			texts = append(texts, e.text)
		}
		w.Header().Set("Cache-Control", "private, no-cache")
		w.Header().Set("ETag", `"`+fakeID(cursor)+`"`)
		if gap != nil && f.fault != "a gap without header" {
			w.Header().Set("Hark-Gap", gap.From+" "+gap.To+" "+gap.Reason)
		}
		if r.Header.Get("If-None-Match") == `"`+fakeID(cursor)+`"` {
			w.WriteHeader(304)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"events": texts, "cursor": fakeID(cursor), "gap": gap, "more": false})
		return
	}
}

// words are how a stream says things.
type words struct {
	start, cursor, gap, event, end func(text, id string) string
}

var streamWords = map[bool]words{
	false: {
		start:  func(_, id string) string { return "retry: 2000\nid: " + id + "\n\n" },
		cursor: func(_, id string) string { return "id: " + id + "\n\n" },
		gap:    func(text, id string) string { return "event: gap\nid: " + id + "\ndata: " + text + "\n\n" },
		event:  func(text, id string) string { return "id: " + id + "\ndata: " + text + "\n\n" },
		end:    func(text, _ string) string { return "event: end\nretry: 30\ndata: " + text + "\n\n" },
	},
	true: {
		start:  func(_, id string) string { return `{"cursor":"` + id + `"}` + "\n" },
		cursor: func(_, id string) string { return `{"cursor":"` + id + `"}` + "\n" },
		gap:    func(text, _ string) string { return `{"gap":` + text + "}\n" },
		event:  func(text, _ string) string { return text + "\n" },
		end:    func(text, _ string) string { return `{"end":` + text + "}\n" },
	},
}

func (f *fake) stream(w http.ResponseWriter, r *http.Request) {
	nd := r.Header.Get("Accept") == "application/x-ndjson"
	say, after := streamWords[nd], f.position(r)
	h := w.Header()
	h.Set("Content-Type", map[bool]string{false: "text/event-stream; charset=utf-8", true: "application/x-ndjson; charset=utf-8"}[nd])
	h.Set("Cache-Control", cacheControl)
	h.Set("X-Accel-Buffering", "no")
	h.Set("Hark-Cursor", fakeID(after))
	if _, _, gap, _ := f.read(r.URL.Query()["topic"], after); gap != nil && f.fault != "a gap without header" {
		h.Set("Hark-Gap", gap.From+" "+gap.To+" "+gap.Reason)
	}
	fmt.Fprint(w, say.start("", fakeID(after)))
	f.follow(r, r.URL.Query()["topic"], after, func(kind, text, id string) error {
		switch kind {
		case "gap":
			text = say.gap(text, id)
		case "event":
			text = say.event(text, id)
		case "cursor":
			text = say.cursor(text, id)
		case "end":
			text = say.end(text, id)
		}
		if _, err := fmt.Fprint(w, text); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
}

// follow tells a stream what it has to say.
func (f *fake) follow(r *http.Request, topics []string, after int, say func(kind, text, id string) error) {
	for {
		events, cursor, gap, news := f.read(topics, after)
		var err error
		if gap != nil {
			text, _ := json.Marshal(gap)
			err = say("gap", string(text), gap.To)
		}
		for _, e := range events {
			if err == nil {
				err = say("event", string(e.text), e.id)
			}
		}
		if err == nil {
			err = say("cursor", "", fakeID(cursor))
		}
		after = cursor
		f.mu.Lock()
		halted := f.halted
		f.mu.Unlock()
		if halted {
			say("end", `{"reason":"stopping","reconnect_ms":30}`, "")
			return
		}
		if err != nil {
			return
		}
		select {
		case <-news:
		case <-r.Context().Done():
			return
		}
	}
}

func (f *fake) socket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"hark.v1"}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	send := func(v any) error {
		text, _ := json.Marshal(v)
		return c.Write(r.Context(), websocket.MessageText, text)
	}
	f.mu.Lock()
	busy := f.busy > 0
	f.busy--
	f.mu.Unlock()
	if busy {
		send(Frame{Type: "end", Reason: "overloaded", ReconnectMS: 30})
		c.Close(4003, "overloaded")
		return
	}
	send(Frame{Type: "hello", Version: 1, PingMS: 25000})
	_, text, err := c.Read(r.Context())
	var sub Frame
	if err != nil || json.Unmarshal(text, &sub) != nil {
		return
	}
	ctx := c.CloseRead(r.Context())
	r = r.WithContext(ctx)
	if sub.After != "" {
		r.Header.Set("Last-Event-ID", sub.After)
	}
	if sub.From != "" {
		r.URL.RawQuery = "from=" + sub.From
	}
	after := f.position(r)
	send(Frame{Type: "subscribed", Sub: sub.Sub, Cursor: fakeID(after)})
	f.follow(r, sub.Topics, after, func(kind, text, id string) error {
		switch kind {
		case "gap":
			g := &Gap{}
			json.Unmarshal([]byte(text), g)
			return send(Frame{Type: "gap", Sub: sub.Sub, Gap: g})
		case "event":
			return send(Frame{Type: "events", Sub: sub.Sub, Events: []json.RawMessage{json.RawMessage(text)}, Cursor: id})
		case "end":
			send(Frame{Type: "end", Reason: "stopping", ReconnectMS: 30})
			return c.Close(1001, "stopping")
		}
		return send(Frame{Type: "cursor", Sub: sub.Sub, Cursor: id})
	})
}

// halt ends every stream politely, and lets new ones in.
func (f *fake) halt() {
	f.mu.Lock()
	f.halted = true
	close(f.news)
	f.news = make(chan struct{})
	f.mu.Unlock()
}
