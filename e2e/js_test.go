package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

// The JavaScript client in real browsers: pages of a site behind whose proxy Hark is, as
// in production, and where the network is what the test makes of it.

// page is one tab of either browser.
type page interface {
	Eval(ctx context.Context, script string, out any) error
	Reload(ctx context.Context) error
	Close(ctx context.Context) error
}

// site serves the page and passes everything else on to Hark.
type site struct {
	*world
	url     string
	streams atomic.Int64 // open now
	most    atomic.Int64 // open at once since it was set to 0
	down    atomic.Bool  // no answer at all
	deaf    atomic.Bool  // streams are held back, WebSockets refused
	vain    atomic.Int64 // how many, in all
	ttl     time.Duration

	mu   sync.Mutex // guards below
	cuts map[*http.Request]context.CancelFunc
}

func startSite(t *testing.T, flags ...string) *site {
	t.Helper()
	setup(t)
	s := &site{world: start(t, testenv.Setup{Flags: append([]string{"--anonymous-topic=open.>"}, flags...)}), cuts: map[*http.Request]context.CancelFunc{}, ttl: time.Hour}
	hark, err := url.Parse(s.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(hark); r.Out.Header.Del("Origin") },
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	s.url = "http://" + serve(t, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, proxy) })
	return s
}

func (s *site) answer(w http.ResponseWriter, r *http.Request, proxy http.Handler) {
	long := r.URL.Path == "/v1/stream" || r.URL.Path == "/v1/ws"
	if long && s.deaf.Load() {
		s.vain.Add(1)
	}
	switch {
	case s.down.Load():
		panic(http.ErrAbortHandler)
	case r.URL.Path == "/page":
		http.ServeFile(w, r, "page/client.html")
	case r.URL.Path == "/token":
		var minted struct{ Token string }
		user := r.FormValue("user")
		s.post("/v1/tokens", map[string]any{"user": user, "subscribe": []string{"user." + user + ".>"}, "ttl": s.ttl.String()}, &minted)
		fmt.Fprint(w, minted.Token)
	case s.deaf.Load() && r.URL.Path == "/v1/ws":
		http.Error(w, "what is that?", http.StatusBadRequest)
	case s.deaf.Load() && long:
		<-r.Context().Done()
	default:
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		s.mu.Lock()
		s.cuts[r] = cancel
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			delete(s.cuts, r)
			s.mu.Unlock()
		}()
		if long {
			n := s.streams.Add(1)
			defer s.streams.Add(-1)
			for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
			}
		}
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}
}

// cut ends every connection to Hark in the middle.
func (s *site) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.cuts {
		cancel()
	}
}

// TestJS runs every promise in both browsers: one of each for all, since what pages share
// they share by origin, and each has a site of its own.
func TestJS(t *testing.T) {
	t.Parallel()
	t.Run("chromium", func(t *testing.T) {
		t.Parallel()
		promises(t, chromium(t), func(t *testing.T) opener { return chromium(t) })
	})
	t.Run("firefox", func(t *testing.T) {
		t.Parallel()
		f, err := browser.StartFirefox(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		open := func(t *testing.T, url string) page {
			p, err := f.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		promises(t, open, func(*testing.T) opener { return open })
	})
}

// opener opens a tab.
type opener func(t *testing.T, url string) page

func chromium(t *testing.T) opener {
	b, err := browser.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return func(t *testing.T, url string) page {
		p, err := b.Open(t.Context(), browser.View{Width: 400, Height: 400}, url)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// promises are kept in a browser; another is one whose processes may die.
func promises(t *testing.T, open opener, another func(*testing.T) opener) {
	for name, test := range map[string]func(*testing.T, opener){
		"worker": jsWorker, "back": jsBack, "offline": jsOffline, "fallback": jsFallback, "tokens": jsTokens, "elsewhere": jsElsewhere,
		"leader": func(t *testing.T, _ opener) { jsLeader(t, another(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
}

// follower is a page that follows, and what it must be handed.
type follower struct {
	page
	t    *testing.T
	name string
	want []string
}

// follow is the URL of a page that subscribes.
func (s *site) follow(topics, options string, more ...string) string {
	q := url.Values{"follow": strings.Fields(topics), "options": {options}}
	for i := 0; i < len(more); i += 2 {
		q.Add(more[i], more[i+1])
	}
	return s.url + "/page?" + q.Encode()
}

func (f *follower) eval(script string, out any) {
	f.t.Helper()
	if err := f.Eval(f.t.Context(), script, out); err != nil {
		f.t.Fatalf("%s: %s: %v", f.name, script, err)
	}
}

func (f *follower) until(script string) {
	f.t.Helper()
	eventually(f.t, enough, func() string {
		var ok bool
		if err := f.Eval(f.t.Context(), "!!("+script+")", &ok); err == nil && ok {
			return ""
		}
		var states []string
		f.Eval(f.t.Context(), "window.states", &states)
		return fmt.Sprintf("%s: not %s; states %q", f.name, script, states)
	})
}

// lives tells where the connection is.
func (f *follower) lives() (where string) {
	f.t.Helper()
	f.eval("sub.shared", &where)
	return where
}

func (f *follower) live(shared string) {
	f.t.Helper()
	f.until(`window.sub?.state === "live"`)
	if got := f.lives(); !strings.Contains(shared, got) {
		f.t.Fatalf("%s: its connection is in the %s, not %s", f.name, got, shared)
	}
}

// judge waits until all is there, and that nothing else is.
func (f *follower) judge() {
	f.t.Helper()
	f.until(fmt.Sprintf("window.got?.length >= %d", len(f.want)))
	var got []string
	if f.eval("window.got", &got); !slices.Equal(got, f.want) {
		f.t.Fatalf("%s was handed %d events, not these %d:\n%q\n%q", f.name, len(got), len(f.want), got, f.want)
	}
}

// say publishes to a topic, for those who should hear it.
func (s *site) say(topic, what string, hear ...*follower) {
	s.Helper()
	s.publish(topic, what)
	for _, f := range hear {
		f.want = append(f.want, what)
	}
}

// jsWorker: tabs with different topics share one connection in a SharedWorker; each is
// handed its own, over a cut, a reload, a crash of the server; one that comes later reads
// on its own what it missed.
func jsWorker(t *testing.T, open opener) {
	s := startSite(t)
	at := func(name, url string) *follower { return &follower{page: open(t, url), t: t, name: name} }
	a := at("a", s.follow("open.a.>", `{"storageKey":"pos"}`))
	b := at("b", s.follow("open.b.* open.a.both", `{}`))
	a.live("worker")
	b.live("worker")
	var cursor string
	b.eval("sub.cursor", &cursor)
	s.most.Store(0)
	s.mixed(a, b, 30)
	a.judge()
	b.judge()
	s.cut()
	s.mixed(a, b, 10)
	a.judge()
	b.judge()

	// One comes later, from before all that; the others are live meanwhile.
	c := at("c", s.follow("open.b.* open.c", fmt.Sprintf(`{"after":%q}`, cursor)))
	c.want = slices.DeleteFunc(slices.Clone(b.want), func(what string) bool { return strings.Contains(what, "both") })
	c.judge()
	s.say("open.c", "c1", c)
	s.say("open.b.x", "c2", c, b)
	c.judge()
	b.judge()

	// What comes while a page is loaded anew is there afterwards.
	var loaded sync.WaitGroup
	loaded.Go(func() { a.Reload(t.Context()) })
	for i := range 20 {
		s.say("open.a.x", fmt.Sprint("reload ", i), a)
	}
	loaded.Wait()
	a.judge()
	a.live("worker")

	// The server is killed and comes back.
	s.server.Kill()
	s.again()
	s.mixed(a, b, 10)
	c.want = append(c.want, slices.DeleteFunc(slices.Clone(b.want[len(b.want)-10:]), func(what string) bool { return strings.Contains(what, "both") })...)
	a.judge()
	b.judge()
	if n := s.most.Load(); n > 2 { // a second one while the first is replaced
		t.Errorf("%d connections at once", n)
	}
	eventually(t, enough, func() string {
		if n := s.streams.Load(); n != 1 {
			return fmt.Sprintf("%d connections for three tabs", n)
		}
		return ""
	})
	for _, f := range []*follower{a, b, c} {
		f.Close(t.Context())
	}
	eventually(t, enough, func() string {
		if n := s.streams.Load(); n != 0 {
			return fmt.Sprintf("%d connections for no tab", n)
		}
		return ""
	})
}

// mixed publishes n times to a, b, both and neither.
func (s *site) mixed(a, b *follower, n int) {
	s.Helper()
	for i := range n {
		switch i % 4 {
		case 0:
			s.say("open.a.x", fmt.Sprint("a ", len(a.want)), a)
		case 1:
			s.say("open.b.x", fmt.Sprint("b ", len(b.want)), b)
		case 2:
			s.say("open.a.both", fmt.Sprint("both ", len(a.want)), a, b)
		default:
			s.say("open.nobody", "nobody")
		}
	}
}

// jsLeader: without SharedWorker one tab leads and the others follow; when it is closed,
// or its process dies, another leads on, and nothing is lost or doubled.
func jsLeader(t *testing.T, open opener) {
	s := startSite(t)
	var all []*follower
	for i, topics := range []string{"open.a.>", "open.b.* open.a.both", "open.>"} {
		f := &follower{page: open(t, s.follow(topics, `{}`, "without", "SharedWorker")), t: t, name: fmt.Sprint("tab ", i)}
		f.live([]string{"leader", "follower", "follower"}[i])
		all = append(all, f)
	}
	s.frozen(all)
	s.most.Store(0)
	for round := range 2 {
		for i := range 20 {
			s.say("open.a.both", fmt.Sprint(round, " ", i), all...)
			if i == 10 {
				if p, ok := all[0].page.(*browser.Page); ok && round == 1 {
					p.Crash(t.Context())
				} else {
					all[0].Close(t.Context())
				}
				all = all[1:]
			}
		}
		for _, f := range all {
			f.judge()
			f.live("leader follower")
		}
		if n := s.most.Load(); n > 2 {
			t.Errorf("%d connections at once", n)
		}
	}
	all[0].live("leader")
}

// frozen: a tab that leads is told that its browser puts it to sleep (only told: neither
// browser does it to a tab without windows); others lead on, and when it wakes up it is
// handed what it missed.
func (s *site) frozen(all []*follower) {
	s.Helper()
	all[0].eval(`document.dispatchEvent(new Event("freeze"))`, nil)
	s.say("open.a.both", "frozen", all...)
	for _, f := range all[1:] {
		f.judge()
	}
	all[0].eval(`document.dispatchEvent(new Event("resume"))`, nil)
	all[0].judge()
	all[0].live("follower")
	all[1], all[0] = all[0], all[1]
	if all[0].lives() != "leader" {
		all[2], all[0] = all[0], all[2]
	}
	all[0].live("leader")
}

// jsBack: who goes on to another page and comes back finds everything, whether the browser
// kept the page or loads it anew.
func jsBack(t *testing.T, open opener) {
	s := startSite(t)
	f := &follower{page: open(t, s.follow("open.>", `{"storageKey":"pos"}`)), t: t, name: "tab"}
	f.live("worker")
	s.say("open.a", "before", f)
	f.judge()
	f.eval(fmt.Sprintf("void (location.href = %q)", s.url+"/page"), nil)
	f.until("window.ready && !window.sub")
	s.say("open.a", "away", f)
	f.eval("history.back()", nil)
	f.judge()
	f.live("worker")
	s.say("open.a", "back", f)
	f.judge()
}

// jsOffline: a page whose network goes away waits, and is back as soon as the network is.
func jsOffline(t *testing.T, open opener) {
	s := startSite(t)
	f := &follower{page: open(t, s.follow("open.>", `{"share":false}`)), t: t, name: "tab"}
	f.live("page")
	s.say("open.a", "before", f)
	f.judge()
	s.down.Store(true)
	s.cut()
	offline := func(is bool) {
		if p, ok := f.page.(*browser.Page); ok {
			if err := p.Do(t.Context(), "Network.emulateNetworkConditions", map[string]any{"offline": is, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	offline(true)
	f.until(`states.filter((s) => s.startsWith("waiting")).length >= 3`)
	s.say("open.a", "meanwhile", f)
	s.down.Store(false)
	offline(false)
	if _, ok := f.page.(*browser.Page); !ok {
		f.eval(`dispatchEvent(new Event("online"))`, nil)
	}
	f.judge()
	f.live("page")
}

// jsFallback: a proxy that holds streams back and knows no WebSocket; long polls do, and
// the next page begins with them.
func jsFallback(t *testing.T, open opener) {
	s := startSite(t)
	s.deaf.Store(true)
	f := &follower{page: open(t, s.follow("open.>", `{"storageKey":"pos"}`)), t: t, name: "tab"}
	f.live("worker")
	s.say("open.a", "one", f)
	f.judge()
	f.until(`sub.transport === "longpoll"`)
	vain := s.vain.Load()
	f.Reload(t.Context())
	f.live("worker")
	s.say("open.a", "two", f)
	f.judge()
	if n := s.vain.Load(); vain == 0 || n != vain {
		t.Errorf("%d streams in vain, then %d more by the next page: what worked is forgotten", vain, n-vain)
	}
}

// jsTokens: tokens that live for seconds are replaced by the page, for the worker; another user's tab is a connection of its own, and hears nothing of the first.
func jsTokens(t *testing.T, open opener) {
	s := startSite(t)
	s.ttl = 3 * time.Second
	a := &follower{page: open(t, s.follow("user.1.>", `{}`, "tokens", "1")), t: t, name: "user 1"}
	a.live("worker")
	b := &follower{page: open(t, s.follow("user.2.>", `{"transport":"websocket"}`, "tokens", "2")), t: t, name: "user 2"}
	b.live("worker")
	for i := range 40 {
		s.say("user.1.x", fmt.Sprint("one ", i), a)
		s.say("user.2.x", fmt.Sprint("two ", i), b)
		time.Sleep(100 * time.Millisecond) // longer than a token lives, in all
	}
	a.judge()
	b.judge()
	for _, options := range []string{`{}`, `{"transport":"websocket"}`} {
		stranger := &follower{page: open(t, s.follow("user.1.>", options, "tokens", "2")), t: t, name: "stranger"}
		stranger.until(`sub.state === "refused" && sub.error.status === 403`)
	}
	s.say("user.1.x", "end", a)
	s.say("user.2.x", "end", b)
	for _, f := range []*follower{a, b} {
		f.judge()
		var states []string
		if f.eval("states", &states); slices.ContainsFunc(states, func(s string) bool { return strings.HasPrefix(s, "refused") }) {
			t.Errorf("%s: refused on the way: %q", f.name, states)
		}
	}
}

// jsElsewhere: a page of another origin loads /hark.js from Hark and shares without a worker.
func jsElsewhere(t *testing.T, open opener) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "page/client.html") })
	s := startSite(t, "--cors-origin=http://"+addr)
	options, _ := json.Marshal(map[string]any{"url": s.server.URL})
	q := url.Values{"follow": {"open.>"}, "options": {string(options)}, "script": {s.server.URL + "/hark.js"}}
	for _, transport := range []string{"sse", "websocket", "longpoll", "poll"} {
		f := &follower{page: open(t, "http://"+addr+"/page?"+q.Encode()), t: t, name: transport}
		f.live("leader")
		f.eval(fmt.Sprintf(`sub.close(), follow("open.>", {url: %q, transport: %q, pollInterval: 500})`, s.server.URL, transport), nil)
		f.live("leader")
		s.say("open.a", transport, f)
		f.judge()
		f.Close(t.Context())
	}
}
