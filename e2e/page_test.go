package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// diary is what a hostile page must not read.
const diary = "nobody else may read this"

// TestHostilePage opens page/attack.html in a real browser beside hark dev: from
// another port, from another name, and from a name that is rebound to hark's own
// address. The same page attacks a naive server, which shows that its tricks
// work in this browser; on hark none of them may.
func TestHostilePage(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{Verb: "dev"})
	w.publish("diary.today", diary)
	naive := startNaive(t)
	attacker := startAttacker(t)
	hark := w.server.URL
	harkPort, naivePort := portOf(hark), portOf(naive.url)
	toHark, toNaive := startRebinder(t, attacker.addr, w.server.Setup.Addr), startRebinder(t, attacker.addr, naive.addr)

	both := map[string]string{"hark": hark, "naive": naive.url, "hark by name": "http://localhost:" + harkPort}
	visit := attacker.page("http://evil.test:"+attacker.port, plan{Targets: both,
		Next: attacker.page("http://127.0.0.1:"+attacker.port, plan{Targets: both,
			Next: attacker.page("http://naive.test:"+naivePort, plan{Targets: map[string]string{"naive rebound": ""}, Rebind: true,
				Next: attacker.page("http://hark.test:"+harkPort, plan{Targets: map[string]string{"hark rebound": ""}, Rebind: true}),
			})})})
	browse(t, visit, "MAP evil.test 127.0.0.1, MAP naive.test "+toNaive.addr+", MAP hark.test "+toHark.addr)
	reports := attacker.wait(t, 8)

	for _, r := range reports {
		t.Logf("from %s at %s: %v", r.From, r.Target, r.Outcome)
		for what, read := range r.Outcome {
			if strings.Contains(read, diary) && strings.HasPrefix(r.Target, "hark") {
				t.Errorf("%s: the page from %s could read hark's events by %q", r.Target, r.From, what)
			}
		}
	}
	for _, e := range w.storedEvents("%3E") {
		if e.Topic != "diary.today" {
			t.Errorf("the page could publish %s: %v", e.Topic, e.Data)
		}
	}
	naive.judge(t, reports)
	if toHark.later.Load() == 0 {
		t.Error("no rebound request reached hark: the test proves nothing")
	}
}

// TestDevIsForThisMachine: hark dev listens nowhere else, and believes no
// foreign name.
func TestDevIsForThisMachine(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		s, err := testenv.Launch(binary, testenv.Setup{Verb: "dev", Addr: addr, Data: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		code, err := s.Wait(10 * time.Second)
		if err != nil {
			s.Kill()
		}
		if err != nil || code == 0 || !strings.Contains(s.Output(), "loopback") {
			t.Errorf("hark dev --addr %s: code %d %v, says %q", addr, code, err, s.Output())
		}
	}
	w := start(t, testenv.Setup{Verb: "dev"})
	port := portOf(w.server.URL)
	body := raw(asJSON, `{"topic":"evil.x","data":1}`)
	for _, headers := range [][]string{
		{"Host", "evil.test:" + port},
		{"Host", "evil.test"},
		{"Host", "127.0.0.1.evil.test:" + port},
		{"Host", "localhost.evil.test:" + port},
		{"Host", "[::ffff:127.0.0.1]:" + port},
		{"Host", "127.0.0.1:1"},
		{"Origin", "http://evil.test"},
		{"Origin", "null"},
		{"Origin", "http://127.0.0.1:1"},
		{"Origin", "https://127.0.0.1:" + port + ".evil.test"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"X-Forwarded-For", "192.0.2.1"},
		{"Forwarded", "for=192.0.2.1"},
	} {
		answer, err := w.api.Do(w.ctx, "POST", "/v1/events", body, headers...)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != 401 && answer.Status != 403 {
			t.Errorf("%v is answered %s", headers, answer)
		}
	}
	if events := w.storedEvents("evil.%3E"); len(events) > 0 {
		t.Errorf("%d events were published", len(events))
	}
}

func portOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		panic(err)
	}
	return u.Port()
}

// plan is what a page is to do.
type plan struct {
	Targets map[string]string `json:"targets"`
	Report  string            `json:"report"`
	Next    string            `json:"next,omitempty"`
	Rebind  bool              `json:"rebind,omitempty"`
}

// report is what a page says of one target.
type report struct {
	From    string            `json:"from"`
	Target  string            `json:"target"`
	Outcome map[string]string `json:"outcome"`
}

// attacker serves the page and takes its reports.
type attacker struct {
	addr, port string
	reports    chan report
}

func startAttacker(t *testing.T) *attacker {
	t.Helper()
	a := &attacker{reports: make(chan report, 16)}
	a.addr = serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // the next request asks for the address again
		switch r.URL.Path {
		case "/attack":
			http.ServeFile(w, r, "page/attack.html")
		case "/report":
			var got report
			if json.NewDecoder(r.Body).Decode(&got) == nil {
				a.reports <- got
			}
		}
	})
	_, a.port, _ = net.SplitHostPort(a.addr)
	return a
}

// page is the URL of the page at an origin, with its plan.
func (a *attacker) page(origin string, p plan) string {
	p.Report = "http://" + a.addr + "/report"
	text, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return origin + "/attack?plan=" + url.QueryEscape(string(text))
}

func (a *attacker) wait(t *testing.T, n int) (reports []report) {
	t.Helper()
	deadline := time.After(90 * time.Second)
	for len(reports) < n {
		select {
		case r := <-a.reports:
			reports = append(reports, r)
		case <-deadline:
			t.Fatalf("the page sent %d of %d reports: %v", len(reports), n, reports)
		}
	}
	return reports
}

// serve answers on a free loopback port until the test ends.
func serve(t *testing.T, h http.HandlerFunc) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// naive is a server like hark that believes everyone.
type naive struct {
	addr, url string
	mu        sync.Mutex // guards below
	planted   []string
}

func startNaive(t *testing.T) *naive {
	t.Helper()
	n := &naive{}
	n.addr = serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodPost {
			fmt.Fprintf(w, `{"events":[{"data":%q}]}`, diary)
			return
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.planted = append(n.planted, r.URL.Path+" "+string(body))
		fmt.Fprint(w, `{"id":"evt_"}`)
	})
	n.url = "http://" + n.addr
	return n
}

// judge tells whether the tricks worked where nobody was on guard: else the test
// proves nothing.
func (n *naive) judge(t *testing.T, reports []report) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, trick := range []string{"nocorstext", "nocorsform", "corstext", "raw", "beacon", "credentials", "noreferrer", "xhr",
		"formtext", "formurl", "formparts"} {
		if !slices.ContainsFunc(n.planted, func(s string) bool { return strings.Contains(s, "evil."+trick) }) {
			t.Errorf("the trick %q did not even reach the naive server: the test proves nothing of it", trick)
		}
	}
	rebound := slices.IndexFunc(reports, func(r report) bool { return r.Target == "naive rebound" })
	if rebound < 0 || !strings.Contains(reports[rebound].Outcome["read"], diary) {
		t.Error("the rebound page could not read the naive server: the test proves nothing of rebinding")
	}
}

// rebinder is a name whose address changes: connections go to the attacker
// until the page asks for /rebind, then to the victim.
type rebinder struct {
	addr  string
	later atomic.Int64 // connections to the victim
}

func startRebinder(t *testing.T, attacker, victim string) *rebinder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &rebinder{addr: l.Addr().String()}
	var rebound atomic.Bool
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			to := attacker
			if rebound.Load() {
				to = victim
				r.later.Add(1)
			}
			go r.relay(conn, to, &rebound)
		}
	}()
	return r
}

func (r *rebinder) relay(conn net.Conn, to string, rebound *atomic.Bool) {
	defer conn.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		io.Copy(conn, server)
		conn.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if strings.HasPrefix(string(buf[:n]), "GET /rebind ") {
			rebound.Store(true)
		}
		if n > 0 {
			server.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// browse opens a URL in a browser of its own, which ends with the test.
func browse(t *testing.T, url, resolve string) {
	t.Helper()
	profile, err := os.MkdirTemp("", "hark-browser-")
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(profile, "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--host-resolver-rules="+resolve, "--user-data-dir="+profile, url)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("the browser does not start: %v", err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group: the helpers it started too
		cmd.Wait()
		if text, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the browser printed:\n%s", text[max(0, len(text)-4000):])
		}
		os.RemoveAll(profile)
	})
}
