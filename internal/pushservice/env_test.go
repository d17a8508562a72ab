package pushservice

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/coder/websocket"
	"github.com/harkhq/hark/internal/store"
	"github.com/harkhq/hark/internal/webpush"
)

// world is a push service and a server in front of it.
type world struct {
	testing.TB
	fs      *vfs.MemFS
	store   *store.Store
	service *Service
	http    *httptest.Server
	ahead   time.Duration // how far the service's clock is ahead
	mu      sync.Mutex    // guards ahead and ends
	ends    map[End]int
	failed  []error
	stop    func()
}

// newWorld opens a world on a new disk.
func newWorld(t testing.TB, cfg Config) *world {
	t.Helper()
	return openWorld(t, vfs.NewCrashableMem(), cfg)
}

func openWorld(t testing.TB, fs *vfs.MemFS, cfg Config) *world {
	t.Helper()
	st, err := store.Open(store.Options{FS: fs, Dir: "data"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, fs: fs, store: st, ends: map[End]int{}}
	cfg.Store = st
	cfg.Client = func(r *http.Request) netip.Addr { return netip.MustParseAddrPort(r.RemoteAddr).Addr() }
	cfg.Base = func(r *http.Request) string {
		if r.TLS != nil {
			return "https://" + r.Host
		}
		return "http://" + r.Host
	}
	cfg.Hooks.Ended = func(how End) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ends[how]++
	}
	cfg.Hooks.Failed = func(what string, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failed = append(w.failed, err)
	}
	if w.service, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	w.service.now = w.now
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.service.Run(ctx) }()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /push/{$}", w.service.ServeWebSocket)
	mux.HandleFunc("POST /push/w/{token}", w.service.ServeSend)
	mux.HandleFunc("GET /push/w/{token}", w.service.ServeDiscovery)
	mux.HandleFunc("POST /push/subscribe", w.service.ServeSubscribe)
	mux.HandleFunc("GET /push/s/{subscription}", w.service.ServeMonitor)
	mux.HandleFunc("DELETE /push/s/{subscription}", w.service.ServeUnsubscribe)
	mux.HandleFunc("GET /push/m/{message}", w.service.ServeMessage)
	mux.HandleFunc("DELETE /push/m/{message}", w.service.ServeEnd)
	mux.HandleFunc("GET /push/r/{receipt}", w.service.ServeReceipts)
	mux.HandleFunc("DELETE /push/r/{receipt}", w.service.ServeForgetReceipts)
	w.http = httptest.NewUnstartedServer(mux)
	w.http.Config.Protocols = new(http.Protocols)
	w.http.Config.Protocols.SetHTTP1(true)
	w.http.Config.Protocols.SetUnencryptedHTTP2(true)
	w.http.Start()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.http.CloseClientConnections()
		w.http.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, err := range w.failed {
			t.Errorf("the service failed: %v", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

// pass lets time go by for the service.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.ahead += d
	w.mu.Unlock()
}

// browser is a user agent that speaks the WebSocket protocol.
type browser struct {
	testing.TB
	world *world
	conn  *websocket.Conn
	uaid  string
	subs  map[string]*subscribed
}

// subscribed is a subscription of a browser.
type subscribed struct {
	channel, endpoint string
	keys              *webpush.ReceiverKey
	sub               webpush.Subscription
}

// message is what a browser hears.
type message struct {
	Type     string            `json:"messageType"`
	UAID     string            `json:"uaid"`
	Status   int               `json:"status"`
	Channel  string            `json:"channelID"`
	Endpoint string            `json:"pushEndpoint"`
	Version  string            `json:"version"`
	Data     string            `json:"data"`
	Headers  map[string]string `json:"headers"`
	Error    string            `json:"error"`
	Retry    int               `json:"retry_after"`
	WebPush  bool              `json:"use_webpush"`
}

// open connects without a word.
func (w *world) open(t testing.TB) *browser {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(w.http.URL, "http")+"/push/", &websocket.DialOptions{Subprotocols: []string{"push-notification"}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { conn.CloseNow() })
	return &browser{TB: t, world: w, conn: conn, subs: map[string]*subscribed{}}
}

// visit is a browser that said hello for the first time.
func (w *world) visit(t testing.TB) *browser {
	t.Helper()
	b := w.open(t)
	b.hello("")
	return b
}

// again is the same browser, connected anew.
func (b *browser) again() *browser {
	b.Helper()
	next := b.world.open(b.TB)
	next.subs = b.subs
	next.hello(b.uaid)
	return next
}

func (b *browser) say(v any) {
	b.Helper()
	text, ok := v.(string)
	if !ok {
		j, err := json.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		text = string(j)
	}
	if err := b.conn.Write(b.Context(), websocket.MessageText, []byte(text)); err != nil {
		b.Fatal(err)
	}
}

// hear returns the next message.
func (b *browser) hear() message {
	b.Helper()
	m, err := b.listen(time.Minute)
	if err != nil {
		b.Fatalf("nothing came: %v", err)
	}
	return m
}

func (b *browser) listen(within time.Duration) (m message, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), within)
	defer cancel()
	_, text, err := b.conn.Read(ctx)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}

// quiet asserts that nothing is on its way: a ping is answered next.
func (b *browser) quiet() {
	b.Helper()
	b.say("{}")
	if m := b.hear(); m.Type != "" {
		b.Fatalf("%+v came", m)
	}
}

func (b *browser) hello(uaid string) {
	b.Helper()
	said := map[string]any{"messageType": "hello", "use_webpush": true, "broadcasts": map[string]string{}}
	if uaid != "" {
		said["uaid"] = uaid
	}
	b.say(said)
	m := b.hear()
	if m.Type != "hello" || m.Status != 200 || m.UAID == "" || len(m.UAID) > 128 || !m.WebPush {
		b.Fatalf("hello was answered with %+v", m)
	}
	b.uaid = m.UAID
}

func newChannelText() string { return string(appendChannel(nil, newChannel())) }

// subscribe makes a subscription, restricted to a VAPID key perhaps.
func (b *browser) subscribe(key *webpush.Key) *subscribed {
	b.Helper()
	channel := newChannelText()
	said := map[string]any{"messageType": "register", "channelID": channel}
	if key != nil {
		said["key"] = key.Public() + "=" // as Firefox pads it
	}
	b.say(said)
	m := b.hear()
	if m.Type != "register" || m.Status != 200 || m.Channel != channel || m.Endpoint == "" {
		b.Fatalf("register was answered with %+v", m)
	}
	s := &subscribed{channel: channel, endpoint: m.Endpoint, keys: webpush.NewReceiverKey()}
	s.sub = s.keys.Subscription(s.endpoint)
	b.subs[channel] = s
	return s
}

// notified returns the next message, which must be a notification.
func (b *browser) notified() message {
	b.Helper()
	m := b.hear()
	if m.Type != "notification" || m.Version == "" {
		b.Fatalf("%+v came instead of a notification", m)
	}
	return m
}

func (b *browser) ack(all ...message) { b.ackAs(100, all...) }

func (b *browser) ackAs(code int, all ...message) {
	b.Helper()
	var updates []map[string]any
	for _, m := range all {
		updates = append(updates, map[string]any{"channelID": m.Channel, "version": m.Version, "code": code})
	}
	b.say(map[string]any{"messageType": "ack", "updates": updates})
}

// leave closes the connection and waits until the service knows.
func (b *browser) leave() {
	b.Helper()
	b.conn.Close(websocket.StatusNormalClosure, "")
	b.conn.CloseNow()
	b.world.until("it is gone", func() bool {
		s := b.world.service
		s.mu.Lock()
		agents := slices.Collect(maps.Values(s.agents))
		s.mu.Unlock()
		return !slices.ContainsFunc(agents, func(a *agent) bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.row.Secret == mustUAID(b.uaid).hash() && len(a.outlets) > 0
		})
	})
}

func mustUAID(text string) secret {
	x, ok := parseUAID(text)
	if !ok {
		panic(text)
	}
	return x
}

// until waits for something that happens soon.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			w.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// text decrypts a notification.
func (b *browser) text(m message) string {
	b.Helper()
	if m.Data == "" {
		return ""
	}
	body, err := base64.RawURLEncoding.DecodeString(m.Data)
	if err != nil {
		b.Fatal(err)
	}
	plain, err := b.subs[m.Channel].keys.Open(webpush.Encrypted{Encoding: m.Headers["encoding"], Encryption: m.Headers["encryption"], CryptoKey: m.Headers["crypto_key"], Body: body})
	if err != nil {
		b.Fatalf("%v: %+v", err, m)
	}
	return string(plain)
}

var sealer = webpush.NewSealer(0)

// send sends a text to a subscription; headers are pairs of name and value.
func (w *world) send(s *subscribed, text string, headers ...string) *http.Response {
	w.Helper()
	var body []byte
	if text != "" {
		var err error
		if body, err = sealer.Seal(nil, &s.sub, []byte(text), 0); err != nil {
			w.Fatal(err)
		}
		headers = append([]string{"Content-Encoding", "aes128gcm"}, headers...)
	}
	return w.post(s.endpoint, body, append([]string{"TTL", "60"}, headers...)...)
}

// post sends bytes to an endpoint. A later header replaces an earlier one; an empty value takes it away.
func (w *world) post(endpoint string, body []byte, headers ...string) *http.Response {
	w.Helper()
	r, err := http.NewRequest("POST", endpoint, bytes.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	return w.do(r)
}

// do makes a request, and reads its answer to its end.
func (w *world) do(r *http.Request) *http.Response {
	w.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp
}

func (w *world) request(method, url string) *http.Response {
	w.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		w.Fatal(err)
	}
	return w.do(r)
}

// wants fails when an answer has another status.
func (w *world) wants(resp *http.Response, status int) *http.Response {
	w.Helper()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != status {
		w.Fatalf("%s %s was answered with %d, not %d: %s", resp.Request.Method, resp.Request.URL.Path, resp.StatusCode, status, text)
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
