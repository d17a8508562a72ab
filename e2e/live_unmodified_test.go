package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestLiveUnmodified: clients that know nothing of Hark (curl, the npm package
// eventsource, EventSource in Chromium and in Firefox) come back by themselves after
// kill -9 and after a stop, and miss nothing, as often as it happens.
func TestLiveUnmodified(t *testing.T) {
	t.Parallel()
	setup(t)
	pages := newPages(t)
	a := hear(t, chance(t), testenv.Setup{Flags: []string{"--cors-origin=" + pages.URL, "--drain-window=2s"}})
	start := a.say(0, "a.start")
	address := func(c *live.Client) string {
		c.Stand(start)
		return a.server.URL + "/v1/stream?" + url.Values{"topic": {"a.>"}, "after": {start}, "token": {a.mint("42", "1h", "a.>").Token}}.Encode()
	}
	for name, run := range map[string]func(*testing.T, string, func(io.Reader)){
		"npm eventsource": runNode, "Chromium": pages.chromium, "Firefox": pages.firefox,
	} {
		c := a.client(name, "a.>")
		run(t, address(c), func(lines io.Reader) { a.wg.Go(func() { a.witness(c, lines) }) })
	}
	c := a.client("curl", "a.>")
	c.Stand(start)
	a.wg.Go(func() { a.curl(c) })
	ctx := a.ctx
	for _, c := range a.clients {
		if err := c.WaitOpen(ctx, 1); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 4 {
		for range 20 {
			a.say(50, "a.one", "other", "a.two")
		}
		a.settle()
		a.restart(round%2 == 0)
		for range 20 {
			a.say(50, "a.three", "other")
		}
		a.settle()
	}
	a.judge()
	for _, c := range a.clients {
		if n := len(c.Connections()); n != 5 {
			t.Errorf("%s: %d connections, want 5", c.Name, n)
		}
	}
}

// TestLivePageMissesNothing: a page whose connection breaks before anything came to it gets
// what was published before the browser is back, after kill -9 and after a stop. Firefox takes
// no id from a block without data, so this fails when the cursor comes in one.
func TestLivePageMissesNothing(t *testing.T) {
	t.Parallel()
	setup(t)
	pages := newPages(t)
	a := hear(t, chance(t), testenv.Setup{Flags: []string{"--cors-origin=" + pages.URL, "--drain-window=2s"}})
	start := a.say(0, "a.before")
	for name, run := range map[string]func(*testing.T, string, func(io.Reader)){"Chromium": pages.chromium, "Firefox": pages.firefox} {
		c := a.client(name, "a.>")
		c.Stand(start)
		run(t, a.server.URL+"/v1/stream?"+url.Values{"topic": {"a.>"}, "token": {a.mint("42", "1h", "a.>").Token}}.Encode(),
			func(lines io.Reader) { a.wg.Go(func() { a.witness(c, lines) }) })
	}
	for round := range 3 {
		for _, c := range a.clients {
			if err := c.WaitOpen(a.ctx, round+1); err != nil {
				t.Fatal(err)
			}
		}
		a.restart(round != 1)
		a.say(0, "a.meanwhile", "other")
		a.settle()
	}
	a.judge()
}

// witness takes what another client says that it was told, one JSON object a line.
func (a *audience) witness(c *live.Client, lines io.Reader) {
	in := bufio.NewScanner(lines)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l struct{ What, ID, Data string }
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			a.Errorf("%s said %q: %v", c.Name, in.Bytes(), err)
			return
		}
		var note live.Note
		switch l.What {
		case "open":
			note.Opened = http.Header{}
		case "message":
			c.Saw(a.ctx, live.SSE, l.ID, l.Data)
			continue
		case "gap":
			note.Gap = &live.Gap{}
			json.Unmarshal([]byte(l.Data), note.Gap)
		case "end":
			note.End = &live.End{}
			json.Unmarshal([]byte(l.Data), note.End)
		default:
			if l.Data == "2" { // closed for good
				a.Errorf("%s gave up", c.Name)
			}
			continue
		}
		c.Tell(a.ctx, live.SSE, note)
	}
}

// curl runs curl as somebody at a terminal would, again when it ends.
func (a *audience) curl(c *live.Client) {
	for a.ctx.Err() == nil {
		cmd := exec.CommandContext(a.ctx, "curl", "-sN", "-H", "Authorization: Bearer "+c.Target.Token,
			"-H", "Last-Event-ID: "+c.Cursor(), c.Target.URL+"/v1/stream?topic=a.%3E")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			a.Error(err)
			return
		}
		blocks := live.NewBlocks(out)
		for n := 0; ; n++ {
			b, err := blocks.Next()
			if err != nil {
				break
			}
			note, err := b.Note(n == 0)
			if err != nil {
				a.Errorf("curl: %v", err)
			}
			if n == 0 {
				c.Tell(a.ctx, live.SSE, live.Note{Opened: http.Header{}})
			}
			c.Tell(a.ctx, live.SSE, note)
		}
		cmd.Wait()
		time.Sleep(50 * time.Millisecond)
	}
}

// runNode runs npm/eventsource.mjs until the test ends.
func runNode(t *testing.T, url string, read func(io.Reader)) {
	t.Helper()
	cmd := exec.Command("node", "npm/eventsource.mjs", url)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	read(out)
}

// pages serves page/eventsource.html, and takes what the page says.
type pages struct {
	*httptest.Server
	mu    sync.Mutex // guards below
	lines map[string]io.Writer
}

func newPages(t *testing.T) *pages {
	t.Helper()
	p := &pages{lines: map[string]io.Writer{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{name}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "page/eventsource.html")
	})
	mux.HandleFunc("POST /saw", func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		from, _ := url.Parse(r.Referer())
		p.mu.Lock()
		to := p.lines[from.Path]
		p.mu.Unlock()
		if to != nil {
			fmt.Fprintf(to, "%s\n", text)
		}
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// page returns the address of a page that follows url; what it says is read.
func (p *pages) page(t *testing.T, name, follow string, read func(io.Reader)) string {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	p.mu.Lock()
	p.lines["/"+name] = w
	p.mu.Unlock()
	read(r)
	return p.URL + "/" + name + "?" + url.Values{"url": {follow}}.Encode()
}

func (p *pages) chromium(t *testing.T, follow string, read func(io.Reader)) {
	t.Helper()
	b, err := browser.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	page, err := b.Open(t.Context(), browser.View{Width: 400, Height: 400}, p.page(t, "chromium", follow, read))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, said := range page.Said() {
			if t.Failed() && !strings.Contains(said, "ERR_CONNECTION") {
				t.Logf("the page: %s", said)
			}
		}
	})
}

func (p *pages) firefox(t *testing.T, follow string, read func(io.Reader)) {
	t.Helper()
	profile, err := os.MkdirTemp("", "hark-firefox-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("firefox-esr", "--headless", "--no-remote", "--profile", profile, p.page(t, "firefox", follow, read))
	cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_CRASHREPORTER_DISABLE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("Firefox does not start: %v", err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		os.RemoveAll(profile)
	})
}
