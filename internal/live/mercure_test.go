package live

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/mercure"
	"github.com/harkhq/hark/internal/store"
)

// guest is a caller whose rights are what a test says.
type guest struct {
	claim        *mercure.Claim
	shown, local bool
	reach        []hark.Pattern
}

func (g *guest) TenantID() hark.TenantID      { return hark.DefaultTenant }
func (g *guest) Reach() []hark.Pattern        { return g.reach }
func (g *guest) Until() time.Time             { return time.Time{} }
func (g *guest) Recheck() error               { return nil }
func (g *guest) MercureClaim() *mercure.Claim { return g.claim }
func (g *guest) Credential() (bool, bool)     { return g.shown, g.local }

func (g *guest) MaySubscribe(asked []hark.Pattern) error {
	for _, q := range asked {
		if len(g.reach) == 0 || !g.reach[0].Covers(q) {
			return errors.New("no")
		}
	}
	return nil
}

func (g *guest) MayPublish(topic string) error {
	if g.local || hark.MatchAny(g.reach, topic) {
		return nil
	}
	return errors.New("no")
}

// hubbub is a Mercure hub on a log in memory.
type hubbub struct {
	*testing.T
	log     *eventlog.Log
	hub     *Hub
	m       *Mercure
	url     string
	handler http.Handler
	as      map[string]*guest // by the header As
}

func openMercure(t *testing.T, cfg MercureConfig, logs eventlog.Config) *hubbub {
	t.Helper()
	db, err := store.Open(store.Options{FS: vfs.NewMem(), Dir: "data"})
	if err != nil {
		t.Fatal(err)
	}
	logs.Store, logs.DiskFloor, logs.RetainEvery = db, -1, time.Hour
	log, err := eventlog.Open(logs)
	if err != nil {
		t.Fatal(err)
	}
	b := &hubbub{T: t, log: log, as: map[string]*guest{"": {}}}
	callerOf := func(ctx context.Context) *guest { return ctx.Value(hubbub{}.url).(*guest) }
	b.hub, err = New(Config{Log: log, CallerOf: func(ctx context.Context) Caller { return callerOf(ctx) }})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Hub, cfg.Log, cfg.CallerOf = b.hub, log, func(ctx context.Context) MercureCaller { return callerOf(ctx) }
	b.m = NewMercure(cfg)
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r = r.WithContext(context.WithValue(r.Context(), hubbub{}.url, b.as[r.Header.Get("As")]))
			if err := h(w, r); err != nil {
				http.Error(w, err.Error(), 400+int(hark.KindOf(err)))
			}
		})
	}
	handle("POST "+mercure.Path, b.m.Publish)
	handle("GET "+mercure.Path, b.m.Subscribe)
	handle("GET "+mercure.SubscriptionsPath, b.m.Subscriptions)
	handle("GET "+mercure.SubscriptionsPath+"/{topic}/{subscriber}", b.m.Subscriptions)
	srv := httptest.NewServer(mux)
	b.url, b.handler = srv.URL, mux
	ctx, cancel := context.WithCancel(context.Background())
	late, stop := context.WithCancel(context.Background())
	var wg, logWG sync.WaitGroup
	logWG.Go(func() { _ = log.Run(late) })
	wg.Go(func() { _ = b.hub.Run(ctx) })
	wg.Go(func() { _ = b.m.Run(ctx) })
	t.Cleanup(func() {
		srv.CloseClientConnections()
		cancel()
		wg.Wait()
		stop()
		logWG.Wait()
		srv.Close()
		db.Close()
	})
	return b
}

func (b *hubbub) post(as string, form url.Values) (int, string) {
	b.Helper()
	req, _ := http.NewRequest("POST", b.url+mercure.Path, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("As", as)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// listen opens a stream and returns its head and a function that reads the next block.
func (b *hubbub) listen(as string, query url.Values, headers ...string) (*http.Response, func() string) {
	b.Helper()
	req, _ := http.NewRequestWithContext(b.Context(), "GET", b.url+mercure.Path+"?"+query.Encode(), nil)
	req.Header.Set("As", as)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { resp.Body.Close() })
	in := bufio.NewReader(resp.Body)
	return resp, func() string {
		b.Helper()
		var block strings.Builder
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				b.Fatalf("after %q: %v", block.String(), err)
			}
			if line == "\n" {
				return block.String()
			}
			if line != ":\n" && !strings.HasPrefix(line, "retry: ") {
				block.WriteString(line)
			}
		}
	}
}

func publisher() *guest {
	return &guest{shown: true, claim: &mercure.Claim{Publish: []string{"*"}, Subscribe: []string{"*"}}}
}

// TestMercureWho: what callers may, by what they show.
func TestMercureWho(t *testing.T) {
	b := openMercure(t, MercureConfig{}, eventlog.Config{})
	b.as["pub"], b.as["local"], b.as["narrow"] = publisher(), &guest{local: true, reach: []hark.Pattern{">"}}, &guest{shown: true}
	b.as["key"] = &guest{shown: true, reach: []hark.Pattern{"mercure.topic.a"}}
	b.as["broken"] = &guest{shown: true, claim: &mercure.Claim{Subscribe: []string{"hark:.."}}}
	const unauthenticated, forbidden = 400 + int(hark.Unauthenticated), 400 + int(hark.Forbidden)
	for as, want := range map[string][2]int{"": {unauthenticated, unauthenticated}, "pub": {200, 200}, "local": {200, 200}, "narrow": {forbidden, 200}, "key": {200, 200}, "broken": {unauthenticated, unauthenticated}} {
		status, body := b.post(as, url.Values{"topic": {"a"}})
		resp, _ := b.listen(as, url.Values{"topic": {"a"}})
		if status != want[0] || resp.StatusCode != want[1] {
			t.Errorf("%q: %d %s, %d; want %v", as, status, body, resp.StatusCode, want)
		}
	}
	// Local callers publish anything and see what anyone sees.
	_, next := b.listen("local", url.Values{"topic": {"p"}})
	_, keyed := b.listen("key", url.Values{"topic": {"p", "a"}})
	b.post("local", url.Values{"topic": {"p"}, "private": {""}, "data": {"secret"}})
	b.post("local", url.Values{"topic": {"a"}, "private": {""}, "data": {"by key"}})
	b.post("local", url.Values{"topic": {"p"}, "data": {"public"}, "id": {"1"}})
	if got := next(); got != "id: 1\ndata: public\n" {
		t.Errorf("a local caller sees %q", got)
	}
	if got := keyed(); !strings.HasSuffix(got, "data: by key\n") {
		t.Errorf("a key sees %q", got)
	}
}

// TestMercureResume: each kind of last event id, and what the answer says of it.
func TestMercureResume(t *testing.T) {
	clock := time.Now()
	var mu sync.Mutex
	b := openMercure(t, MercureConfig{Anonymous: true}, eventlog.Config{
		Now:    func() time.Time { mu.Lock(); defer mu.Unlock(); return clock },
		Policy: func(hark.TenantID) eventlog.Policy { return eventlog.Policy{MaxAge: time.Hour} }})
	b.as["pub"] = publisher()
	publish := func(form url.Values) string {
		t.Helper()
		status, id := b.post("pub", form)
		if status != 200 {
			t.Fatal(status, id)
		}
		return id
	}
	check := func(what string, query url.Values, header []string, before, first string) {
		t.Helper()
		query.Add("topic", "a")
		resp, next := b.listen("", query, header...)
		if resp.Header.Get("Last-Event-ID") != before {
			t.Errorf("%s: the answer says %q, want %q", what, resp.Header.Get("Last-Event-ID"), before)
		}
		if got := next(); !strings.HasPrefix(got, first) {
			t.Errorf("%s: it begins with %q, want %q", what, got, first)
		}
	}
	old := publish(url.Values{"topic": {"a"}, "data": {"old"}, "id": {"old"}})
	mu.Lock()
	clock = clock.Add(2 * time.Hour)
	mu.Unlock()
	publish(url.Values{"topic": {"a"}, "data": {"1"}, "id": {"one"}})
	if err := b.log.Retain(clock); err != nil {
		t.Fatal(err)
	}
	two := publish(url.Values{"topic": {"b", "a"}, "data": {"2"}})
	publish(url.Values{"topic": {"a", "z"}, "data": {"3"}, "id": {"three"}})
	publish(url.Values{"topic": {"a"}, "data": {"4"}, "id": {"four"}})
	const first, last = "id: one\ndata: 1\n", "id: three\ndata: 3\n"
	id := func(v string) url.Values { return url.Values{"lastEventID": {v}} }
	check("the publisher's id", id("one"), nil, "one", "id: "+two+"\ndata: 2\n")
	check("Hark's id", id(two), nil, two, last)
	check("the header first", id("one"), []string{"Last-Event-ID", two}, two, last)
	check("the old parameter", url.Values{"Last-Event-ID": {two}}, nil, two, last)
	check("an update with copies", id("three"), nil, "three", "id: four\ndata: 4\n")
	check("earliest", id("earliest"), nil, "earliest", first)
	check("unknown", id("urn:uuid:whatever"), nil, "earliest", first)
	check("gone", id(old), nil, "earliest", first)
	check("another log's", id("evt_"+strings.Repeat("0", 20)+"1000"), nil, "earliest", "event: hark.gap\n")
	resp, _ := b.listen("", url.Values{"topic": {"a"}})
	if _, ok := resp.Header["Last-Event-Id"]; ok {
		t.Error("an answer to no id tells one")
	}
}

// TestMercureBrowser: only a browser's own EventSource is told where it stands.
func TestMercureBrowser(t *testing.T) {
	b := openMercure(t, MercureConfig{Anonymous: true}, eventlog.Config{})
	b.as["pub"] = publisher()
	at := b.log.EndCursor().String()
	_, browser := b.listen("", url.Values{"topic": {"a"}}, "User-Agent", "Mozilla/5.0", "Sec-Fetch-Mode", "cors", "Cache-Control", "no-cache")
	_, fetch := b.listen("", url.Values{"topic": {"a"}}, "User-Agent", "Mozilla/5.0", "Sec-Fetch-Mode", "cors")
	_, library := b.listen("", url.Values{"topic": {"a"}}, "Cache-Control", "no-cache")
	b.post("pub", url.Values{"topic": {"a"}, "data": {"x"}, "id": {"1"}})
	const update = "id: 1\ndata: x\n"
	if got := browser(); got != "event: hark.cursor\nid: "+at+"\ndata: {}\n" {
		t.Errorf("a browser is told %q", got)
	}
	for _, next := range []func() string{browser, fetch, library} {
		if got := next(); got != update {
			t.Errorf("%q", got)
		}
	}
}

// TestMercurePresence: what is told of subscribers, also when streams end with the server.
func TestMercurePresence(t *testing.T) {
	b := openMercure(t, MercureConfig{Anonymous: true, Subscriptions: true}, eventlog.Config{})
	b.as["pub"] = publisher()
	_, next := b.listen("pub", url.Values{"topic": {mercure.SubscriptionsPath + "/{topic}/{subscriber}"}})
	told := func() (topic string, active bool) {
		t.Helper()
		_, data, _ := strings.Cut(next(), "data: ")
		var d struct {
			Topic  string
			Active bool
		}
		if err := json.Unmarshal([]byte(data), &d); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		return d.Topic, d.Active
	}
	told() // of itself
	resp, _ := b.listen("", url.Values{"topic": {"a"}})
	if topic, active := told(); topic != "a" || !active {
		t.Error(topic, active)
	}
	resp.Body.Close()
	if topic, active := told(); topic != "a" || active {
		t.Error(topic, active)
	}
	b.listen("", url.Values{"topic": {"b"}})
	if topic, active := told(); topic != "b" || !active {
		t.Error(topic, active)
	}
	b.hub.Drain(time.Second)
	deadline := time.Now().Add(time.Minute)
	for {
		found, _ := b.m.presence.subscriptions(hark.DefaultTenant, "", "")
		if len(found) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d subscriptions are left after all streams ended", len(found))
		}
		time.Sleep(time.Millisecond)
	}
	// A stream that is refused leaves nobody behind.
	resp, _ = b.listen("", url.Values{"topic": {"c"}})
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Error(err)
	}
	if found, _ := b.m.presence.subscriptions(hark.DefaultTenant, "", ""); len(found) != 0 {
		t.Errorf("%d of streams that were refused", len(found))
	}
}

// TestMercureServed: over HTTP/2, where a handler serves the stream, it is the same.
func TestMercureServed(t *testing.T) {
	b := openMercure(t, MercureConfig{Anonymous: true, Subscriptions: true}, eventlog.Config{})
	b.as["pub"] = publisher()
	_, watch := b.listen("pub", url.Values{"topic": {mercure.SubscriptionsPath + "/{topic}/{subscriber}"}})
	watch() // itself
	tls := httptest.NewUnstartedServer(b.handler)
	tls.EnableHTTP2 = true
	tls.StartTLS()
	defer tls.Close()
	resp, err := tls.Client().Get(tls.URL + mercure.Path + "?topic=a&lastEventID=earliest")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.Header.Get("Last-Event-ID") != "earliest" {
		t.Errorf("%s %v", resp.Proto, resp.Header)
	}
	if got := watch(); !strings.Contains(got, `"topic":"a","active":true`) {
		t.Errorf("%q", got)
	}
	b.post("pub", url.Values{"topic": {"x", "a"}, "data": {"1"}, "id": {"one"}})
	in := bufio.NewReader(resp.Body)
	for line := ""; line != "id: one\n"; {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	resp.Body.Close()
	if got := watch(); !strings.Contains(got, `"topic":"a","active":false`) {
		t.Errorf("%q", got)
	}
}

// TestPresenceIsBounded: subscribers who come and go faster than the log takes the news of
// them do not fill memory, however many topics each has, and what is left out is said to be.
func TestPresenceIsBounded(t *testing.T) {
	var p presence
	failed := 0
	p.init(MercureConfig{Failed: func(n int, _ error) { failed += n }})
	topics := make([]string, mercure.MaxSelectors)
	for i := range topics {
		topics[i] = strings.Repeat("t", i+1)
	}
	want, err := mercure.ParseSelectors("topic", topics)
	if err != nil {
		t.Fatal(err)
	}
	const came = 1000
	for range came {
		p.join(hark.DefaultTenant, want, nil)()
	}
	kept := 0
	for _, n := range p.news {
		kept += len(n.all)
	}
	if kept > maxNews || kept+failed != 2*came*len(want) || len(p.tenants) != 0 {
		t.Errorf("%d wait, %d were left out, %d tenants have some", kept, failed, len(p.tenants))
	}
}
