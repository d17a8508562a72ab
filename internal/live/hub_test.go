package live_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/live"
	"github.com/harkhq/hark/internal/store"
)

// caller may read everything of a tenant until it is revoked.
type caller struct {
	tenant  hark.TenantID
	until   time.Time
	revoked *atomic.Bool
}

func (c *caller) TenantID() hark.TenantID           { return c.tenant }
func (c *caller) Reach() []hark.Pattern             { return []hark.Pattern{">"} }
func (c *caller) MaySubscribe([]hark.Pattern) error { return nil }
func (c *caller) Until() time.Time                  { return c.until }
func (c *caller) Recheck() error {
	if c.revoked != nil && c.revoked.Load() {
		return errors.New("revoked")
	}
	return nil
}

// world is a log, a hub over it, and a server.
type world struct {
	testing.TB
	log *eventlog.Log
	hub *live.Hub
	url string
	tls *httptest.Server
}

type callerKey struct{}

func newWorld(t testing.TB, cfg live.Config) *world {
	t.Helper()
	return newWorldWith(t, cfg, eventlog.Config{TailEvents: 256, RetainEvery: time.Hour})
}

func newWorldWith(t testing.TB, cfg live.Config, logs eventlog.Config, through ...func(live.Log) live.Log) *world {
	t.Helper()
	st, err := store.Open(store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t}
	logs.Store, logs.DiskFloor = st, -1
	w.log, err = eventlog.Open(logs)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log = w.log
	for _, wrap := range through {
		cfg.Log = wrap(cfg.Log)
	}
	cfg.CallerOf = func(ctx context.Context) live.Caller { return ctx.Value(callerKey{}).(live.Caller) }
	if w.hub, err = live.New(cfg); err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c := &caller{tenant: 1}
		var who live.Caller = c
		if unknown := r.Header.Get("Unknown"); unknown != "" {
			who = &stranger{*c, unknown == "bad"}
		}
		if until := r.Header.Get("Until"); until != "" {
			c.until, _ = time.Parse(time.RFC3339Nano, until)
		}
		if r.Header.Get("Revoked") != "" { // since it was looked at
			c.revoked = new(atomic.Bool)
			c.revoked.Store(true)
		}
		h := w.hub.ServeStream
		if strings.HasSuffix(r.URL.Path, "/events") {
			h = w.hub.ServePoll
		}
		if strings.HasSuffix(r.URL.Path, "/ws") {
			h = w.hub.ServeWebSocket
		}
		if err := h(rw, r.WithContext(context.WithValue(r.Context(), callerKey{}, who))); err != nil {
			http.Error(rw, err.Error(), 400)
		}
	})
	plain := httptest.NewServer(handler)
	w.tls = httptest.NewUnstartedServer(handler)
	w.tls.EnableHTTP2 = true
	w.tls.StartTLS()
	w.url = plain.URL
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.log.Run(ctx) })
	wg.Go(func() { w.hub.Run(ctx) })
	t.Cleanup(func() {
		w.hub.Drain(0)
		plain.CloseClientConnections()
		w.tls.CloseClientConnections()
		plain.Close()
		w.tls.Close()
		cancel()
		wg.Wait()
		st.Close()
	})
	return w
}

// publish appends events with a running number as their data.
func (w *world) publish(topic string, from, n int) {
	w.Helper()
	for n > 0 {
		events := make([]hark.Event, min(n, 500))
		for i := range events {
			events[i] = hark.Event{Tenant: 1, Topic: topic, ContentType: "application/json", Data: fmt.Appendf(nil, `{"n":%d}`, from)}
			from++
			n--
		}
		if _, err := w.log.Append(context.Background(), 1, events, eventlog.Idempotency{}); err != nil {
			w.Fatal(err)
		}
	}
}

// settle waits until retention has taken all that a tenant has beyond its bytes: what it takes
// while somebody reads is a second gap.
func (w *world) settle(most uint64) {
	w.Helper()
	for end := time.Now().Add(time.Minute); w.log.Usage(1).Bytes > most; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%d bytes are left", w.log.Usage(1).Bytes)
		}
	}
}

// frame is one block of SSE.
type frame struct {
	id, event, data string
	retry           string
	n               int // the number in an event's data
}

// sse is a client of one stream.
type sse struct {
	*world
	body io.ReadCloser
	r    *bufio.Reader
	last string
}

func (w *world) open(client *http.Client, url, last string) *sse {
	w.Helper()
	req, _ := http.NewRequest("GET", url, nil)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	if res.StatusCode != 200 {
		b, _ := io.ReadAll(res.Body)
		w.Fatalf("%d: %s", res.StatusCode, b)
	}
	c := &sse{world: w, body: res.Body, r: bufio.NewReader(res.Body), last: last}
	w.Cleanup(func() { res.Body.Close() })
	return c
}

func (w *world) stream(query string) *sse {
	w.Helper()
	return w.open(http.DefaultClient, w.url+"/stream?"+query, "")
}

// next returns the next block that is not a comment.
func (c *sse) next() (f frame, err error) {
	said := false
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return f, err
		}
		line = strings.TrimSuffix(line, "\n")
		switch name, value, _ := strings.Cut(line, ": "); {
		case line == "" && said:
			if f.id != "" {
				c.last = f.id
			}
			if f.event == "" && f.data != "" {
				var e struct {
					ID   string
					Data struct{ N int }
				}
				if err := json.Unmarshal([]byte(f.data), &e); err != nil || e.ID != f.id {
					c.Fatalf("%v: %+v", err, f)
				}
				f.n = e.Data.N
			}
			return f, nil
		case line == "" || line[0] == ':':
			continue
		case name == "id":
			f.id = value
		case name == "event":
			f.event = value
		case name == "data":
			f.data = value
		case name == "retry":
			f.retry = value
		}
		said = true
	}
}

// event returns the next event.
func (c *sse) event() frame {
	c.Helper()
	for {
		f, err := c.next()
		if err != nil {
			c.Fatal(err)
		}
		if f.data != "" {
			return f
		}
	}
}

func (c *sse) want(from, n int) {
	c.Helper()
	for i := from; i < from+n; i++ {
		if f := c.event(); f.n != i || f.event != "" {
			c.Fatalf("want %d: %+v", i, f)
		}
	}
}

// TestResume: whatever was missed comes first, then what is new, each once and in order.
func TestResume(t *testing.T) {
	for _, kind := range []string{"parked", "served"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, live.Config{})
			client, url := http.DefaultClient, w.url
			if kind == "served" {
				client, url = w.tls.Client(), w.tls.URL
			}
			c := w.open(client, url+"/stream?topic=a.>", "")
			prelude, _ := c.next()
			if prelude.retry == "" || prelude.id == "" || prelude.data != "" {
				t.Fatalf("%+v", prelude)
			}
			w.publish("a.x", 0, 10)
			w.publish("b", 0, 3)
			w.publish("a.y", 10, 10)
			c.want(0, 20)
			c.body.Close()
			w.publish("a.x", 20, 3000) // beyond the tail in memory
			again := w.open(client, url+"/stream?topic=a.>&from=earliest", c.last)
			again.want(20, 3000)
			w.publish("a.x", 3020, 5)
			again.want(3020, 5)
		})
	}
}

// TestManyAtOnce: many clients of the same and of different topics come, lose their
// connections at random and come back, while events are published. Each gets all, once, in order.
func TestManyAtOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := newWorld(t, live.Config{PageBytes: 1 << 16})
	const events, clients = 3000, 60
	var wg sync.WaitGroup
	for i := range clients {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		topic := []string{">", "a.>", "a.x", "a.*&topic=a.x"}[i%4]
		client, url := http.DefaultClient, w.url
		if i%5 == 0 {
			client, url = w.tls.Client(), w.tls.URL
		}
		wg.Go(func() {
			last, next := "", 0
			for next < events {
				c := w.open(client, url+"/stream?from=earliest&topic="+topic, last)
				for stay := rnd.IntN(800); stay > 0 && next < events; stay-- {
					f := c.event()
					if f.n != next {
						t.Errorf("client %d wants %d and gets %+v", i, next, f)
						return
					}
					next++
				}
				last = c.last
				c.body.Close()
			}
		})
	}
	rnd := rand.New(rand.NewPCG(seed, 1e6))
	for n := 0; n < events; {
		k := min(1+rnd.IntN(50), events-n)
		w.publish("a.x", n, k)
		n += k
	}
	wg.Wait()
	w.until("streams are left", func() bool { return w.hub.Streams() == 0 })
}

// TestStalledReader: a client that reads nothing holds nobody up, and has lost nothing
// when it reads again.
func TestStalledReader(t *testing.T) {
	w := newWorld(t, live.Config{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(256 << 10)
	fmt.Fprintf(conn, "GET /stream?topic=a HTTP/1.0\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	slow := &sse{world: w, r: bufio.NewReader(res.Body)}
	if f, err := slow.next(); err != nil || f.retry == "" {
		t.Fatal(f, err)
	}
	quick := w.stream("topic=a")
	const rounds, each = 40, 500
	for i := range rounds { // some megabytes
		w.publish("a", i*each, each)
		quick.want(i*each, each)
	}
	slow.want(0, rounds*each)
	w.publish("a", rounds*each, 1)
	slow.want(rounds*each, 1)
}

func TestEnds(t *testing.T) {
	w := newWorld(t, live.Config{MaxStreams: 3})
	req, _ := http.NewRequest("GET", w.url+"/stream", nil)
	req.Header.Set("Until", time.Now().Add(2*time.Second).Format(time.RFC3339Nano))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	expiring := &sse{world: w, r: bufio.NewReader(res.Body)}
	parked, served := w.stream(""), w.open(w.tls.Client(), w.tls.URL+"/stream", "")
	ends := func(c *sse, why string) {
		t.Helper()
		f := c.event()
		if f.event != "end" || !strings.Contains(f.data, `"reason":"`+why+`"`) || f.retry == "" {
			t.Errorf("%s: %+v", why, f)
		}
		if _, err := c.next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: then %v", why, err)
		}
	}
	ends(w.stream(""), "overloaded")
	ends(expiring, "expired")
	w.hub.Drain(time.Minute)
	ends(parked, "stopping")
	ends(served, "stopping")
	ends(w.stream(""), "stopping")
}

// TestRevokedMeanwhile: whose credential is revoked after it was looked at, but before its stream
// was there to be asked, is found out all the same.
func TestRevokedMeanwhile(t *testing.T) {
	w, d := newSocketWorld(t, live.Config{})
	revoked := http.Header{"Revoked": {"yes"}}
	for _, url := range []string{w.url, w.tls.URL} {
		req, _ := http.NewRequest("GET", url+"/stream", nil)
		req.Header = revoked
		res, err := w.tls.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		c := &sse{world: w, body: res.Body, r: bufio.NewReader(res.Body)}
		if f := c.event(); f.event != "end" || !strings.Contains(f.data, `"revoked"`) {
			t.Errorf("%s: %+v", url, f)
		}
		res.Body.Close()
	}
	req, _ := http.NewRequest("GET", w.url+"/events?wait=20", nil)
	req.Header = revoked
	if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode == 200 {
		t.Error(res, err)
	} else {
		res.Body.Close()
	}
	w.dial(&websocket.DialOptions{HTTPHeader: revoked}).wantClose(4401)
	d.revoked.Store(true)
	c := w.dial(&websocket.DialOptions{HTTPHeader: http.Header{"Unknown": {"yes"}}})
	c.say(`{"type":"auth","token":"dies"}`)
	c.wantClose(4401)
}

// TestLongPoll: a poll that waits is answered by the event, one that waits in vain moves on.
func TestLongPoll(t *testing.T) {
	w := newWorld(t, live.Config{})
	type page struct {
		Events []struct{ Data struct{ N int } }
		Cursor string
		More   bool
	}
	get := func(query string) (p page) {
		t.Helper()
		res, err := http.Get(w.url + "/events?" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	begin := get("topic=a")
	answers := make(chan page, 20)
	for range 20 {
		go func() { answers <- get("topic=a&wait=30&after=" + begin.Cursor) }()
	}
	w.publish("b", 0, 5)
	empty := get("topic=a&wait=0.05&after=" + begin.Cursor)
	if len(empty.Events) != 0 || empty.Cursor <= begin.Cursor {
		t.Errorf("%+v", empty)
	}
	w.publish("a", 7, 1)
	for range 20 {
		if p := <-answers; len(p.Events) != 1 || p.Events[0].Data.N != 7 {
			t.Fatalf("%+v", p)
		}
	}
	if p := get("topic=a&last=1"); len(p.Events) != 1 || p.Events[0].Data.N != 7 {
		t.Errorf("%+v", p)
	}
}

// TestPollLimits: an answer holds at most what was asked for and says that there is more; who
// polls in vain many times a second is told to wait, who finds something or waits is not.
func TestPollLimits(t *testing.T) {
	w := newWorld(t, live.Config{})
	get := func(query string) (status int, events int, cursor string, more bool) {
		t.Helper()
		res, err := http.Get(w.url + "/events?" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var p struct {
			Events []json.RawMessage
			Cursor string
			More   bool
		}
		b, _ := io.ReadAll(res.Body)
		if res.StatusCode == 200 {
			if err := json.Unmarshal(b, &p); err != nil {
				t.Fatal(err, string(b))
			}
		} else if !strings.Contains(string(b), "poll") {
			t.Errorf("%d %s", res.StatusCode, b)
		}
		return res.StatusCode, len(p.Events), p.Cursor, p.More
	}
	_, _, cursor, _ := get("topic=a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, n, _, more := get("topic=a&limit=3&wait=20&after=" + cursor)
		if n != 3 || !more {
			t.Errorf("%d events, more %v", n, more)
		}
	}()
	for w.hub.Readers() == 0 {
		time.Sleep(time.Millisecond)
	}
	w.publish("a", 0, 10)
	<-done
	if _, n, _, more := get("topic=a&limit=10&after=" + cursor); n != 10 || more {
		t.Errorf("%d events, more %v", n, more)
	}
	refused := false
	for n := 0; n < 2000 && !refused; n++ { // who is slow may ask longer
		status, _, _, _ := get("topic=quiet")
		refused = status == 400 // as this server writes errors
	}
	if !refused {
		t.Error("nobody is refused")
	}
	for range 150 {
		if status, _, _, _ := get("topic=a&last=1"); status != 200 {
			t.Fatal("who finds something is refused")
		}
	}
}

// TestGap: what retention took is told, on every way to come back, and a topic that had
// nothing taken is as complete as it says.
func TestGap(t *testing.T) {
	w := newWorldWith(t, live.Config{}, eventlog.Config{BucketBytes: 4096, RetainEvery: 10 * time.Millisecond, TailEvents: 64,
		Policy: func(hark.TenantID) eventlog.Policy { return eventlog.Policy{MaxBytes: 64 << 10} }})
	c := w.stream("topic=a")
	prelude, _ := c.next()
	w.publish("a", 0, 1)
	c.want(0, 1)
	old := c.last
	for n := 1; w.log.Floor(1) < 2000; n += 500 {
		w.publish("a", n, 500)
		c.want(n, 500)
		if n > 1e6 {
			t.Fatal("retention takes nothing")
		}
	}
	w.settle(64 << 10)
	for _, client := range []*http.Client{http.DefaultClient, w.tls.Client()} {
		url := w.url
		if client != http.DefaultClient {
			url = w.tls.URL
		}
		for _, from := range []string{old, prelude.id} {
			again := w.open(client, url+"/stream?topic=a", from)
			first := again.event()
			var gap struct{ From, To, Reason string }
			if err := json.Unmarshal([]byte(first.data), &gap); err != nil || first.event != "gap" || gap.From != from || gap.To != first.id || gap.Reason != "retention" {
				t.Fatalf("%+v", first)
			}
			next := again.event()
			if next.n < 1999 || next.id <= gap.To {
				t.Errorf("%+v behind %+v", next, gap)
			}
		}
	}
	recent := w.open(http.DefaultClient, w.url+"/stream?topic=a", c.last)
	w.publish("a", 7, 1)
	if f := recent.event(); f.n != 7 || f.event != "" {
		t.Errorf("%+v", f)
	}
}

// TestBrowserHasACursor: a browser's own EventSource is told where it stands by an event, since
// Firefox forgets the id of a block without data; others by a block without data.
func TestBrowserHasACursor(t *testing.T) {
	w := newWorld(t, live.Config{})
	for _, browser := range []bool{false, true} {
		req, _ := http.NewRequest("GET", w.url+"/stream", nil)
		req.Header.Set("User-Agent", "Mozilla/5.0")
		req.Header.Set("Sec-Fetch-Mode", "cors")
		if browser {
			req.Header.Set("Cache-Control", "no-cache")
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		c := &sse{world: w, r: bufio.NewReader(res.Body)}
		f, err := c.next()
		if err != nil || f.id == "" || f.retry == "" || (f.event == "cursor" && f.data == "{}") != browser || (f.data == "") == browser {
			t.Errorf("browser %v: %+v %v", browser, f, err)
		}
	}
}
