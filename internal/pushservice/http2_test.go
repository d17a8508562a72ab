package pushservice

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/webpush"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// receiver is a client of HTTP/2 that takes what is pushed: as RFC 8030 has user agents and
// senders who want receipts. Its requests stay open.
type receiver struct {
	testing.TB
	conn   net.Conn
	framer *http2.Framer
	buf    bytes.Buffer
	enc    *hpack.Encoder
	next   uint32
	mu     sync.Mutex // guards what is written
	events chan pushed
}

// pushed is a response: a promised one, or the request's own (path is then "").
type pushed struct {
	path   string
	status string
	header http.Header
	body   []byte
}

func (w *world) receiver(t testing.TB) *receiver { return w.receiverOf(t, 100) }

// receiverOf is one that takes so many promised responses at once.
func (w *world) receiverOf(t testing.TB, streams uint32) *receiver {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.http.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r := &receiver{TB: t, conn: conn, framer: http2.NewFramer(conn, conn), next: 1, events: make(chan pushed, 2000)}
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.enc = hpack.NewEncoder(&r.buf)
	io.WriteString(conn, http2.ClientPreface)
	r.must(r.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: streams}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	r.must(r.framer.WriteWindowUpdate(0, 1<<24))
	go r.read()
	return r
}

func (r *receiver) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// read collects responses until the connection ends.
func (r *receiver) read() {
	streams := map[uint32]*pushed{}
	open := 0 // promised ones; who is told that nothing is left waits for these
	var last *pushed
	ended := func(p *pushed) {
		if p.path == "" {
			last = p
		} else {
			open--
			r.events <- *p
		}
		if last != nil && open == 0 {
			r.events <- *last
			last = nil
		}
	}
	for {
		f, err := r.framer.ReadFrame()
		if err != nil {
			close(r.events)
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				r.mu.Lock()
				r.framer.WriteSettingsAck()
				r.mu.Unlock()
			}
		case *http2.PushPromiseFrame:
			p := &pushed{header: http.Header{}}
			r.framer.ReadMetaHeaders.SetEmitFunc(func(h hpack.HeaderField) {
				if h.Name == ":path" {
					p.path = h.Value
				}
			})
			r.framer.ReadMetaHeaders.Write(f.HeaderBlockFragment())
			streams[f.PromiseID] = p
			open++
		case *http2.MetaHeadersFrame:
			p := streams[f.StreamID]
			if p == nil {
				p = &pushed{header: http.Header{}}
				streams[f.StreamID] = p
			}
			for _, h := range f.Fields {
				if h.Name == ":status" {
					p.status = h.Value
				} else {
					p.header.Add(h.Name, h.Value)
				}
			}
			if f.StreamEnded() {
				ended(p)
			}
		case *http2.DataFrame:
			p := streams[f.StreamID]
			p.body = append(p.body, f.Data()...)
			if f.StreamEnded() {
				ended(p)
			}
		}
	}
}

// get begins a GET.
func (r *receiver) get(at string, headers ...string) {
	r.Helper()
	u, err := url.Parse(at)
	r.must(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf.Reset()
	fields := append([]string{":method", "GET", ":scheme", "http", ":authority", u.Host, ":path", u.Path}, headers...)
	for i := 0; i < len(fields); i += 2 {
		r.must(r.enc.WriteField(hpack.HeaderField{Name: strings.ToLower(fields[i]), Value: fields[i+1]}))
	}
	r.must(r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: r.next, BlockFragment: r.buf.Bytes(), EndStream: true, EndHeaders: true}))
	r.next += 2
}

// hear returns the next response.
func (r *receiver) hear() pushed {
	r.Helper()
	select {
	case p, ok := <-r.events:
		if !ok {
			r.Fatal("the connection ended")
		}
		return p
	case <-time.After(time.Minute):
		r.Fatal("nothing came")
	}
	return pushed{}
}

// over asserts that the request itself is what ends next.
func (r *receiver) over() {
	r.Helper()
	if p := r.hear(); p.path != "" || p.status != "204" {
		r.Fatalf("%+v came", p)
	}
}

// links are the targets of a header Link, by relation.
func links(h http.Header) map[string]string {
	all := map[string]string{}
	for _, line := range h["Link"] {
		target, rel, _ := strings.Cut(line, `>; rel="`)
		all[strings.TrimSuffix(rel, `"`)] = strings.TrimPrefix(target, "<")
	}
	return all
}

// agent subscribes by HTTP; set is that of an earlier one, or "".
func (w *world) agent(set string, options string) (s *subscribed, at, ofSet string) {
	w.Helper()
	r, err := http.NewRequest("POST", w.http.URL+"/push/subscribe", strings.NewReader(options))
	if err != nil {
		w.Fatal(err)
	}
	if options != "" {
		r.Header.Set("Content-Type", "application/webpush-options+json")
	}
	if set != "" {
		r.Header.Set("Link", `<`+set+`>; rel="urn:ietf:params:push:set"`)
	}
	resp := w.wants(w.do(r), 201)
	of := links(resp.Header)
	s = &subscribed{endpoint: of[relPush], keys: webpush.NewReceiverKey()}
	s.sub = s.keys.Subscription(s.endpoint)
	if at, ofSet = resp.Header.Get("Location"), of[relSet]; at == "" || ofSet == "" || s.endpoint == "" {
		w.Fatalf("subscribed with %v", resp.Header)
	}
	return s, at, ofSet
}

func (p pushed) text(t testing.TB, s *subscribed) string {
	t.Helper()
	plain, err := s.keys.Open(webpush.Encrypted{Encoding: p.header.Get("Content-Encoding"), Body: p.body})
	if err != nil {
		t.Fatalf("%v: %+v", err, p)
	}
	return string(plain)
}

// TestMonitor: what is stored is promised first, then what comes; acknowledged by DELETE.
func TestMonitor(t *testing.T) {
	w := newWorld(t, Config{})
	s, at, _ := w.agent("", "")
	w.wants(w.send(s, "stored"), 201)
	r := w.receiver(t)
	r.get(at)
	first := r.hear()
	if first.status != "200" || first.text(t, s) != "stored" || !strings.HasPrefix(first.path, "/push/m/") {
		t.Errorf("got %+v", first)
	}
	if first.header.Get("Topic")+first.header.Get("Urgency") != "" {
		t.Errorf("a user agent is told %v", first.header)
	}
	w.wants(w.send(s, "live"), 201)
	second := r.hear()
	if second.text(t, s) != "live" {
		t.Errorf("got %+v", second)
	}
	w.wants(w.request("DELETE", w.http.URL+first.path), 204)
	w.wants(w.request("DELETE", w.http.URL+first.path), 404)

	// Who asks again gets what is not acknowledged; the older request ends.
	again := w.receiver(t)
	again.get(at, "Prefer", "wait=0")
	if p := again.hear(); p.path != second.path {
		t.Errorf("got %+v", p)
	}
	again.over()
	r.over()
	w.wants(w.request("DELETE", w.http.URL+second.path), 204)
	again.get(at, "Prefer", "wait=0")
	again.over()
}

// TestMonitorMany: more than a client takes at once.
func TestMonitorMany(t *testing.T) {
	w := newWorld(t, Config{})
	s, at, _ := w.agent("", "")
	const n = 250
	for range n {
		w.wants(w.send(s, "x"), 201)
	}
	r := w.receiver(t)
	r.get(at, "Prefer", "wait=0")
	seen := map[string]bool{}
	for range n {
		p := r.hear()
		if p.status != "200" || p.path == "" || seen[p.path] {
			t.Fatalf("got %+v", p)
		}
		seen[p.path] = true
	}
	r.over()
}

// TestSets: one request for several subscriptions; each is its own all the same.
func TestSets(t *testing.T) {
	w := newWorld(t, Config{})
	a, atA, set := w.agent("", "")
	b, atB, again := w.agent(set, "")
	if set != again || a.endpoint == b.endpoint {
		t.Errorf("sets %s and %s", set, again)
	}
	r, one := w.receiver(t), w.receiver(t)
	r.get(set)
	one.get(atB)
	w.wants(w.send(a, "for a"), 201)
	w.wants(w.send(b, "for b"), 201)
	got := map[string]bool{}
	for range 2 {
		p := r.hear()
		s := a
		if _, err := b.keys.Open(webpush.Encrypted{Encoding: "aes128gcm", Body: p.body}); err == nil {
			s = b
		}
		got[p.text(t, s)] = true
	}
	if !got["for a"] || !got["for b"] {
		t.Errorf("got %v", got)
	}
	if p := one.hear(); p.text(t, b) != "for b" {
		t.Errorf("got %+v", p)
	}
	w.wants(w.request("DELETE", atA), 204)
	w.wants(w.send(a, "x"), 410)
	w.wants(w.request("GET", atA), 410)
	w.wants(w.send(b, "last"), 201)
	if p := r.hear(); p.text(t, b) != "last" {
		t.Errorf("got %+v", p)
	}
	w.wants(w.request("DELETE", set), 204)
	w.wants(w.send(b, "x"), 410)
	r.over()

	bad, _ := http.NewRequest("POST", w.http.URL+"/push/subscribe", nil)
	bad.Header.Set("Link", `<`+w.http.URL+`/push/s/`+newSecret().text()+`>; rel="urn:ietf:params:push:set"`)
	refused(t, w.do(bad), 400, 111)
}

// TestMonitorUrgency: a request may want what is urgent only.
func TestMonitorUrgency(t *testing.T) {
	w := newWorld(t, Config{})
	s, at, _ := w.agent("", "")
	w.wants(w.send(s, "low", "Urgency", "low"), 201)
	w.wants(w.send(s, "high", "Urgency", "high"), 201)
	r := w.receiver(t)
	r.get(at, "Prefer", "wait=0", "Urgency", "high")
	if p := r.hear(); p.text(t, s) != "high" {
		t.Errorf("got %+v", p)
	}
	r.over()
	r.get(at, "Prefer", "wait=0")
	if p := r.hear(); p.text(t, s) != "low" && p.text(t, s) != "high" {
		t.Errorf("got %+v", p)
	}
	r.hear()
	r.over()
	r.get(at, "Urgency", "x")
	if p := r.hear(); p.status != "400" {
		t.Errorf("got %+v", p)
	}
}

// TestRestrictedByOptions: RFC 8292 section 4.1.
func TestRestrictedByOptions(t *testing.T) {
	w := newWorld(t, Config{})
	key := webpush.GenerateKey()
	s, _, _ := w.agent("", `{"vapid":"`+key.Public()+`"}`)
	refused(t, w.send(s, "x"), 401, 109)
	w.wants(w.send(s, "x", "Authorization", vapid(t, key, w.http.URL, time.Now())), 201)
	for _, options := range []string{`{`, `{"vapid":7}`, `{"vapid":"x"}`} {
		r, _ := http.NewRequest("POST", w.http.URL+"/push/subscribe", strings.NewReader(options))
		r.Header.Set("Content-Type", "application/webpush-options+json")
		refused(t, w.do(r), 400, 110)
	}
}

// TestReceipts: who asks is told, once, of each message; of one that was replaced, never.
func TestReceipts(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	resp := w.wants(w.send(s, "read", "Prefer", "respond-async"), 202)
	receipt, read := links(resp.Header)[relReceipt], resp.Header.Get("Location")
	more := func(text string, headers ...string) string {
		t.Helper()
		headers = append(headers, "Prefer", "respond-async", "Link", `<`+receipt+`>; rel="urn:ietf:params:push:receipt"`)
		resp := w.wants(w.send(s, text, headers...), 202)
		if got := links(resp.Header)[relReceipt]; got != receipt {
			t.Fatalf("the receipt is at %s, not at %s", got, receipt)
		}
		return resp.Header.Get("Location")
	}
	r := w.receiver(t)
	r.get(receipt)
	b.ack(b.notified())
	told := func(at, status string) {
		t.Helper()
		if p := r.hear(); w.http.URL+p.path != at || p.status != status || len(p.body) > 0 {
			t.Errorf("got %+v, not %s of %s", p, status, at)
		}
	}
	told(read, "204")
	garbled := more("garbled")
	b.ackAs(101, b.notified())
	told(garbled, "410")
	b.leave()
	old := more("old", "Topic", "t")
	newer := more("new", "Topic", "t")
	short := more("short", "TTL", "1")
	never := more("never", "TTL", "0")
	told(never, "410")
	w.pass(30 * time.Second)
	b = b.again() // meets the one that has expired
	told(short, "410")
	b.ack(b.notified())
	told(newer, "204")
	if old == newer {
		t.Error("two messages have one URL")
	}
	// What becomes of a message while nobody asks is told later, once.
	r.conn.Close()
	last := more("last")
	b.ack(b.notified())
	b.quiet()
	r = w.receiver(t)
	r.get(receipt, "Prefer", "wait=0")
	p := r.hear()
	if w.http.URL+p.path == newer { // told to a connection that was lost: it may come twice
		p = r.hear()
	}
	if w.http.URL+p.path != last || p.status != "204" {
		t.Errorf("got %+v", p)
	}
	r.over()
	r.get(receipt, "Prefer", "wait=0")
	r.over()
	w.wants(w.request("DELETE", receipt), 204)
	w.wants(w.request("DELETE", receipt), 404)
	refused(t, w.request("GET", w.http.URL+"/push/r/"+newSecret().text()), 404, 102)
}

// TestReceiptOfTheUnregistered: a message that went out, of a subscription that ended before it
// was acknowledged, never will be, whether it was stored or not.
func TestReceiptOfTheUnregistered(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.visit(t)
	s := b.subscribe(nil)
	for _, ttl := range []string{"0", "60"} {
		resp := w.wants(w.send(s, "x", "TTL", ttl, "Prefer", "respond-async"), 202)
		receipt, at := links(resp.Header)[relReceipt], resp.Header.Get("Location")
		m := b.notified()
		b.say(map[string]any{"messageType": "unregister", "channelID": s.channel, "code": 200})
		if m := b.hear(); m.Type != "unregister" || m.Status != 200 {
			t.Fatalf("answered with %+v", m)
		}
		r := w.receiver(t)
		r.get(receipt)
		if p := r.hear(); w.http.URL+p.path != at || p.status != "410" {
			t.Errorf("TTL %s: got %+v, not 410 of %s", ttl, p, at)
		}
		b.ack(m) // too late
		b.quiet()
		s = b.subscribe(nil)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends[Dropped] != 2 || len(w.ends) != 1 {
		t.Errorf("messages ended as %v", w.ends)
	}
}

// TestReceiptsPileUp: who never reads them is not told of more, and harms nobody else.
func TestReceiptsPileUp(t *testing.T) {
	w := newWorld(t, Config{Limits: Limits{SendRate: -1}})
	b := w.visit(t)
	s := b.subscribe(nil)
	b.leave()
	async := []string{"TTL", "0", "Prefer", "respond-async"} // nobody is there: each is 410
	receipt := links(w.wants(w.post(s.endpoint, nil, async...), 202).Header)[relReceipt]
	same := append(async, "Link", `<`+receipt+`>; rel="`+relReceipt+`"`)
	told := 1
	resp := w.post(s.endpoint, nil, same...)
	for ; resp.StatusCode == 202 && told < 2*maxReceipts; told++ {
		resp = w.post(s.endpoint, nil, same...)
	}
	if told != maxReceipts {
		t.Errorf("%d receipts wait", told)
	}
	if resp.Header.Get("Retry-After") == "" || resp.Header.Get("Link") != "" {
		t.Errorf("429 with %v", resp.Header)
	}
	refused(t, resp, 429, 201)
	w.wants(w.post(s.endpoint, nil, "TTL", "60"), 201)
	w.wants(w.post(s.endpoint, nil, async...), 202) // a receipt subscription of its own
	r := w.receiver(t)
	r.get(receipt, "Prefer", "wait=0")
	for range told {
		if p := r.hear(); p.status != "410" {
			t.Fatalf("got %+v", p)
		}
	}
	r.over()
	w.wants(w.post(s.endpoint, nil, same...), 202)
}

// noPusher is a connection on which what is promised is not asked for by itself.
type noPusher struct{ err error }

func (p noPusher) Push(string, *http.PushOptions) error { return p.err }

// TestPromisesOfOneMessage: two requests may be told of the same, on one connection or on two;
// each keeps count of its own, and nobody else gets what is not stored.
func TestPromisesOfOneMessage(t *testing.T) {
	w := newWorld(t, Config{})
	s := w.service
	id := s.messageID(1, 2, forSender)
	asked := func(from string) *http.Request {
		r := httptest.NewRequest("GET", messagePath+id.String(), nil)
		r.SetPathValue("message", id.String())
		r.RemoteAddr = from
		return r
	}
	answered := func(from string) int {
		rec := httptest.NewRecorder()
		s.ServeMessage(rec, asked(from))
		return rec.Code
	}
	const one, two, three = "192.0.2.1:1", "192.0.2.1:2", "192.0.2.3:1"
	var monitors []*monitor
	for i, from := range []string{one, one, two} {
		m := &monitor{pusher: noPusher{}, more: make(chan struct{}, 1), over: make(chan struct{})}
		monitors = append(monitors, m)
		if !s.push(asked(from), id, promise{monitor: m, status: uint16(204 + 206*(i&1))}) {
			t.Fatal("it takes no promise")
		}
	}
	gone := &monitor{pusher: noPusher{http.ErrNotSupported}, more: make(chan struct{}, 1), over: make(chan struct{})}
	if s.push(asked(one), id, promise{monitor: gone, status: 410}) {
		t.Fatal("a promise was made that was refused")
	}
	monitors = append(monitors, gone)
	for _, c := range []struct {
		from   string
		status int
	}{{three, 404}, {two, 204}, {one, 204}, {one, 410}, {one, 404}, {two, 404}} {
		if got := answered(c.from); got != c.status {
			t.Errorf("%s was answered with %d, not %d", c.from, got, c.status)
		}
	}
	for i, m := range monitors {
		if m.pending != 0 {
			t.Errorf("%d promises of request %d are under way", m.pending, i)
		}
	}
	if len(s.promises) > 0 {
		t.Errorf("promises stay: %v", s.promises)
	}
}

// TestNoRoomForPromises: a client that allows no promised responses is told that this is all,
// which is no failure of ours.
func TestNoRoomForPromises(t *testing.T) {
	w := newWorld(t, Config{})
	s, at, _ := w.agent("", "")
	w.wants(w.send(s, "x"), 201)
	r := w.receiverOf(t, 0)
	r.get(at)
	r.over()
	r = w.receiver(t)
	r.get(at, "Prefer", "wait=0")
	if p := r.hear(); p.text(t, s) != "x" {
		t.Errorf("got %+v", p)
	}
	r.over()
}

// TestNoPush: over HTTP/1.1 nothing can be promised, and that is said.
func TestNoPush(t *testing.T) {
	w := newWorld(t, Config{})
	_, at, _ := w.agent("", "")
	refused(t, w.request("GET", at), 505, 111)
	for _, path := range []string{"/push/s/x", "/push/s/" + newSecret().text(), "/push/m/x", "/push/m/" + newSecret().text()[:22], "/push/r/x"} {
		refused(t, w.request("GET", w.http.URL+path), 404, 102)
		refused(t, w.request("DELETE", w.http.URL+path), 404, 102)
	}
}
