package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

// A real Firefox whose push service is Hark, with nobody else involved: what the demo page
// enables, npm's web-push and Hark itself push to, over TLS with an authority of the test. The
// way between Firefox and the service is a relay that can be cut and turned elsewhere.

// authority makes certificates for localhost. Senders trust file.
type authority struct {
	file string
	cert tls.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Hark's tests"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem"), cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// front serves a server's push service under https, as a proxy does, and returns that origin.
func (a *authority) front(t *testing.T, backend string) string {
	t.Helper()
	to, err := url.Parse(backend)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{a.cert}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, ErrorLog: log.New(io.Discard, "", 0)}, ErrorLog: log.New(io.Discard, "", 0)}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "https://localhost:" + portOf("https://"+l.Addr().String())
}

// relay is the network between Firefox and its push service.
type relay struct {
	addr string

	mu    sync.Mutex // guards below
	to    string     // "" while it is down
	conns []net.Conn
}

func startRelay(t *testing.T) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &relay{addr: l.Addr().String()}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go r.carry(in)
		}
	}()
	return r
}

func (r *relay) carry(in net.Conn) {
	defer in.Close()
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	if to == "" {
		return
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	r.mu.Lock()
	if r.to != to {
		r.mu.Unlock()
		return
	}
	r.conns = append(r.conns, in, out)
	r.mu.Unlock()
	go func() {
		io.Copy(out, in)
		out.Close()
	}()
	io.Copy(in, out)
}

// turn cuts what there is and connects to another address from now on; "" for none.
func (r *relay) turn(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// fox is a Firefox on the demo page.
type fox struct {
	*world
	origin string // the push service's
	relay  *relay
	fire   *browser.Firefox
	tab    *browser.FirefoxTab
	ctx    context.Context
	ca     *authority
	node   *sender
}

func startFox(t *testing.T) *fox {
	t.Helper()
	setup(t)
	f := &fox{ca: newAuthority(t), relay: startRelay(t)}
	f.world, f.origin = f.service(t)
	f.node = startSender(t, f.ca.file)
	f.relay.turn(f.server.Setup.Addr)
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Second)
	t.Cleanup(cancel)
	f.ctx = ctx
	b, err := browser.StartFirefox(ctx, pushPrefs(f.relay.addr)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	f.fire = b
	if f.tab, err = b.Open(ctx, f.server.URL+"/demo/push?user=ada"); err != nil {
		t.Fatal(err)
	}
	return f
}

// pushPrefs make a server a Firefox's push service.
func pushPrefs(addr string) []string {
	return []string{
		`user_pref("dom.push.serverURL", "ws://` + addr + `/push/");`,
		`user_pref("dom.push.testing.allowInsecureServerURL", true);`,
		`user_pref("dom.push.connection.enabled", true);`, // Marionette turns it off
		`user_pref("dom.push.retryBaseInterval", 100);`,
		`user_pref("dom.push.pingInterval", 1000);`, // also the longest pause before it comes back
		`user_pref("dom.push.maxQuotaPerSubscription", 100000);`,
		`user_pref("permissions.default.desktop-notification", 1);`,
		`user_pref("alerts.useSystemBackend", false);`, // without a desktop there is none
	}
}

// service starts a hark dev whose push service has an https origin.
func (f *fox) service(t *testing.T) (*world, string) {
	t.Helper()
	addr, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	origin := f.ca.front(t, "http://"+addr)
	return start(t, testenv.Setup{Verb: "dev", Addr: addr, Flags: []string{"--push-url=" + origin}, Env: []string{"SSL_CERT_FILE=" + f.ca.file}}), origin
}

// eval runs script in the page; what it promises is waited for.
func (f *fox) eval(script string, out any) {
	f.Helper()
	if err := f.tab.Eval(f.ctx, script, out); err != nil {
		f.Fatalf("%s: %v", script, err)
	}
}

// until waits until script is true, and else says what the page looks like.
func (f *fox) until(what, script string) {
	f.Helper()
	for end := time.Now().Add(enough); ; time.Sleep(20 * time.Millisecond) {
		var ok bool
		err := f.tab.Eval(f.ctx, "(async () => !!(await ("+script+")))()", &ok)
		if err == nil && ok {
			return
		}
		if time.Now().After(end) || f.ctx.Err() != nil {
			var text string
			f.tab.Eval(context.WithoutCancel(f.ctx), "document.body.innerText", &text)
			f.Fatalf("waited too long for %s: %v\nthe page says\n%s\nand Hark of its deliveries\n%s", what, err, text, f.deliveries())
		}
	}
}

// deliveries is what Hark says became of its own messages, for who looks for a fault.
func (f *fox) deliveries() string {
	var list struct{ Deliveries []struct{ ID string } }
	if f.api.Call(context.WithoutCancel(f.ctx), "GET", "/v1/deliveries?limit=5", nil, &list) != nil {
		return "nothing"
	}
	var all strings.Builder
	for _, d := range list.Deliveries {
		var one, devices json.RawMessage
		f.api.Call(context.WithoutCancel(f.ctx), "GET", "/v1/deliveries/"+d.ID, nil, &one)
		f.api.Call(context.WithoutCancel(f.ctx), "GET", "/v1/deliveries/"+d.ID+"/devices", nil, &devices)
		fmt.Fprintf(&all, "%s\n  %s\n", one, devices)
	}
	return all.String()
}

// arrived waits until the page was told of a message, and returns the titles of all so far, the
// oldest first.
func (f *fox) arrived(title string) (titles []string) {
	f.Helper()
	const all = `[...document.querySelectorAll("#arrivals .arrived strong")].map((e) => e.textContent).reverse()`
	f.until(title, fmt.Sprintf(`%s.includes(%q)`, all, title))
	f.eval(all, &titles)
	return titles
}

// shown waits until the browser shows a notification.
func (f *fox) shown(title string) {
	f.Helper()
	f.until("the notification "+title, fmt.Sprintf(`navigator.serviceWorker.getRegistration().then((r) => r.getNotifications()).then((all) => all.some((n) => n.title === %q))`, title))
}

func (f *fox) subscription() (s json.RawMessage) {
	f.Helper()
	var text string
	f.eval(`navigator.serviceWorker.getRegistration().then((r) => r.pushManager.getSubscription()).then((s) => JSON.stringify(s))`, &text)
	return json.RawMessage(text)
}

// metric waits until one of a server's metrics has a value, or more.
func (f *fox) metric(w *world, name string, want int) {
	f.Helper()
	eventually(f.T, enough, func() string {
		answer, err := w.api.Do(f.ctx, "GET", "/metrics", nil)
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(answer.Body)) {
			var got int
			if _, err := fmt.Sscanf(line, name+" %d", &got); err == nil && (got == want || got > want && want > 0) {
				return ""
			}
		}
		return fmt.Sprintf("%s is not %d", name, want)
	})
}

// acknowledged waits until Firefox has acknowledged so many messages in all.
func (f *fox) acknowledged(n int) {
	f.Helper()
	f.metric(f.world, `hark_push_service_ended_total{end="delivered"}`, n)
}

// away cuts Firefox from its push service, until it is let back.
func (f *fox) away() (back func()) {
	f.Helper()
	f.relay.turn("")
	f.metric(f.world, "hark_push_service_connections", 0)
	return func() { f.relay.turn(f.server.Setup.Addr) }
}

// sender is npm's web-push.
type sender struct {
	t     *testing.T
	in    io.Writer
	lines *bufio.Scanner
	vapid map[string]string
}

func startSender(t *testing.T, ca string) *sender {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "push.mjs")
	cmd.Dir = "npm"
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return &sender{t: t, in: in, lines: bufio.NewScanner(out)}
}

// use has it sign with the key of an audience, which the subscription is bound to.
func (s *sender) use(w *world) {
	s.t.Helper()
	var list struct {
		Destinations []struct{ ID string }
	}
	w.get("/v1/destinations?uid=audience/default", &list)
	if len(list.Destinations) != 1 {
		s.t.Fatalf("there are %d audiences", len(list.Destinations))
	}
	var audience struct{ Secret string }
	w.get("/v1/destinations/"+list.Destinations[0].ID+"?reveal=true", &audience)
	var key struct {
		PublicKey string `json:"public_key"`
	}
	w.get("/v1/push/key", &key)
	s.vapid = map[string]string{"subject": "mailto:push@example.com", "publicKey": key.PublicKey, "privateKey": strings.TrimPrefix(audience.Secret, "vapid_")}
}

// send sends a message with a title, and must be answered so.
func (s *sender) send(subscription json.RawMessage, title string, want int, options map[string]any) {
	s.t.Helper()
	payload := `{"title":"` + title + `"}`
	if title == "" {
		payload = ""
	}
	all := map[string]any{"vapidDetails": s.vapid, "TTL": 60}
	for name, value := range options {
		all[name] = value
	}
	line, err := json.Marshal(map[string]any{"subscription": subscription, "payload": payload, "options": all})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		s.t.Fatal(err)
	}
	var got struct {
		Status int
		Said   string
	}
	if !s.lines.Scan() || json.Unmarshal(s.lines.Bytes(), &got) != nil || got.Status != want {
		s.t.Fatalf("%q: web-push is answered %d, not %d: %s", title, got.Status, want, got.Said)
	}
}

// TestPushFirefox is the life of a subscription in a real Firefox.
func TestPushFirefox(t *testing.T) {
	t.Parallel()
	f := startFox(t)
	f.until("the button", `!document.querySelector("#enable").disabled`)
	f.eval(`document.querySelector("#enable").click()`, nil)
	f.until("push to be on", `document.querySelector("#state").dataset.state === "live"`)
	subscription := f.subscription()
	if !strings.Contains(string(subscription), `"endpoint":"`+f.origin+"/push/w/") {
		t.Fatalf("Firefox subscribed elsewhere: %s", subscription)
	}
	f.node.use(f.world)

	t.Log("both senders, both encryptions, and nothing to read")
	f.node.send(subscription, "npm aes128gcm", 201, map[string]any{"urgency": "high"})
	f.arrived("npm aes128gcm")
	f.shown("npm aes128gcm")
	f.node.send(subscription, "npm aesgcm", 201, map[string]any{"contentEncoding": "aesgcm"})
	f.arrived("npm aesgcm")
	f.publish("demo.push.ada", map[string]any{"title": "Hark itself", "body": "hello", "link": "/demo/push#x", "receipt": true})
	f.arrived("Hark itself")
	f.shown("Hark itself")
	f.acknowledged(3)

	t.Log("from the page itself: now, and later")
	send := func(title, button string) {
		f.eval(fmt.Sprintf(`(document.querySelector("#title").value = %q, %s.click())`, title, button), nil)
		f.arrived(title)
	}
	send("now", `document.querySelector("#send [value='0']")`)
	f.until("what became of it", `document.querySelector("#sent").textContent === "One device: taken by the push service."`)
	send("later", `Object.assign(document.querySelector("#send [value='10']"), { value: "1" })`)
	f.acknowledged(5)

	t.Log("a click brings the page to the front, and both are told to whoever asked")
	if err := f.fire.ClickNotification(f.ctx, "Hark itself"); err != nil {
		t.Fatal(err)
	}
	f.until("the click", `document.querySelector("#arrivals .clicked strong")?.textContent === "Hark itself"`)
	f.until("the notification to go", `navigator.serviceWorker.getRegistration().then((r) => r.getNotifications()).then((all) => all.every((n) => n.title !== "Hark itself"))`)
	f.told("hark.push.delivered hark.push.delivered hark.push.delivered hark.push.clicked ")

	f.closed()
	f.offline(subscription)
	f.crash(subscription)
	f.moved()

	t.Log("unsubscribed: 410, and the device is gone")
	subscription = f.subscription()
	f.eval(`document.querySelector("#disable").click()`, nil)
	f.until("push to be off", `document.querySelector("#state").dataset.state === "off"`)
	f.until("an empty list", `document.querySelector("#devices").textContent === "None yet."`)
	f.node.send(subscription, "to nobody", 410, nil)
	f.told("hark.push.delivered hark.push.delivered hark.push.delivered hark.push.clicked ") // a click is not followed by a "dismissed"
}

// told waits until receipts made these events, and no others.
func (f *fox) told(want string) {
	f.Helper()
	eventually(f.T, enough, func() string {
		told := ""
		for _, e := range f.storedEvents("hark.push.*") {
			told += e.Topic + " "
		}
		if told != want {
			return "Hark was told " + told
		}
		return ""
	})
}

// closed: what came while the page was not there is listed when it comes back, in the order of the log.
func (f *fox) closed() {
	f.Helper()
	f.Log("the page is closed, and comes back")
	home := f.server.URL + "/demo/push?user=ada"
	if err := f.tab.Go(f.ctx, f.server.URL+"/healthz"); err != nil { // of the same origin, so that it can be asked what is shown
		f.Fatal(err)
	}
	const n = 5
	want := ""
	for i := range n {
		f.publish("demo.push.ada", map[string]any{"title": fmt.Sprint("closed ", i)})
		want = fmt.Sprint("closed ", i, " ") + want // the newest comes first
	}
	for i := range n {
		f.shown(fmt.Sprint("closed ", i))
	}
	if err := f.tab.Go(f.ctx, home); err != nil {
		f.Fatal(err)
	}
	f.until("what was shown meanwhile, in order", fmt.Sprintf(
		`[...document.querySelectorAll("#arrivals .waiting strong")].map((e) => e.textContent + " ").filter((s) => s.startsWith("closed")).join("") === %q`, want))
}

// offline: what is sent while Firefox is away waits for it, unless it is replaced or too late.
func (f *fox) offline(subscription json.RawMessage) {
	f.Helper()
	f.Log("offline: stored, replaced, expired, dropped")
	back := f.away()
	f.node.send(subscription, "weather 1", 201, map[string]any{"topic": "weather"})
	f.node.send(subscription, "too late", 201, map[string]any{"TTL": 1})
	late := time.Now().Add(1500 * time.Millisecond)
	f.node.send(subscription, "now or never", 201, map[string]any{"TTL": 0})
	f.node.send(subscription, "weather 2", 201, map[string]any{"topic": "weather"})
	f.publish("demo.push.ada", map[string]any{"title": "Hark, later"})
	f.node.send(subscription, "last", 201, nil)
	f.metric(f.world, "hark_push_service_messages", 3)
	time.Sleep(time.Until(late)) // a TTL is a matter of the clock
	back()
	titles := f.arrived("last")
	for _, want := range []string{"weather 2", "Hark, later", "last"} {
		f.arrived(want)
	}
	for _, no := range []string{"weather 1", "too late", "now or never"} {
		if slices.Contains(titles, no) {
			f.Errorf("%q arrived: %q", no, titles)
		}
	}
	f.acknowledged(13)

	f.Log("acknowledged: it does not come again")
	f.away()()
	f.metric(f.world, "hark_push_service_connections", 1)
	f.node.send(subscription, "after all", 201, nil)
	f.once(f.arrived("after all"))
}

// once checks that no title is there twice.
func (f *fox) once(titles []string) {
	f.Helper()
	for i, title := range titles {
		if slices.Contains(titles[:i], title) {
			f.Errorf("%q arrived twice: %q", title, titles)
		}
	}
}

// crash: what was answered with 201 survives kill -9.
func (f *fox) crash(subscription json.RawMessage) {
	f.Helper()
	f.Log("kill -9 between 201 and delivery")
	back := f.away()
	for i := range 5 {
		f.node.send(subscription, fmt.Sprintf("survivor %d", i), 201, nil)
	}
	if err := f.server.Kill(); err != nil {
		f.Fatal(err)
	}
	f.again()
	back()
	var titles []string
	for i := range 5 {
		titles = f.arrived(fmt.Sprintf("survivor %d", i))
	}
	f.once(titles)
}

// moved: a push service that does not know Firefox any more, or another one; the service worker
// subscribes there by itself and says so to Hark.
func (f *fox) moved() {
	f.Helper()
	f.Log("pushsubscriptionchange")
	other, origin := f.service(f.T)
	f.relay.turn(other.server.Setup.Addr)
	eventually(f.T, enough, func() string {
		var list struct {
			Devices []struct {
				Origin string `json:"endpoint_origin"`
			}
		}
		f.get("/v1/devices?user=ada", &list)
		if len(list.Devices) != 1 || list.Devices[0].Origin != origin {
			return fmt.Sprintf("the devices are %+v", list.Devices)
		}
		return ""
	})
	f.publish("demo.push.ada", map[string]any{"title": "at the new place"})
	f.arrived("at the new place")
}
