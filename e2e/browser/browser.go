// Package browser drives a real Chromium for the tests and pictures of Hark's pages,
// over the DevTools protocol on a pipe: no port, no WebSocket, no driver to install, and its
// service workers (worker.go); and a real Firefox (firefox.go), as far as the tests of the
// JavaScript client and of push need it.
// Every browser has a profile of its own and ends with its process group.
package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Flags keep a browser quiet: no sandbox (tests run in containers), no network of its own.
var Flags = []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
	"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
	"--hide-scrollbars", "--force-color-profile=srgb"}

// Browser is a running Chromium.
type Browser struct {
	cmd     *exec.Cmd
	profile string
	in      io.WriteCloser

	mu      sync.Mutex // guards below, and writing
	next    int
	waiting map[int]chan answer
	pages   map[string]*Page // by session
	err     error            // why it is gone
}

type answer struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Start starts a browser; the environment is added to that of this process.
func Start(env ...string) (*Browser, error) {
	profile, err := os.MkdirTemp("", "hark-browser-")
	if err != nil {
		return nil, err
	}
	toBrowser, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, fromBrowser, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	b := &Browser{profile: profile, in: in, waiting: map[int]chan answer{}, pages: map[string]*Page{}}
	log, err := os.Create(filepath.Join(profile, "log"))
	if err != nil {
		return nil, err
	}
	b.cmd = exec.Command("chromium", append(Flags, "--remote-debugging-pipe", "--user-data-dir="+profile, "about:blank")...)
	b.cmd.Env = append(os.Environ(), env...)
	b.cmd.ExtraFiles = []*os.File{toBrowser, fromBrowser} // 3 and 4
	b.cmd.Stdout, b.cmd.Stderr = log, log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = b.cmd.Start()
	toBrowser.Close()
	fromBrowser.Close()
	log.Close()
	if err != nil {
		return nil, fmt.Errorf("the browser does not start: %w", err)
	}
	go b.read(out)
	return b, nil
}

// Close ends the browser and what it started.
func (b *Browser) Close() {
	syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
	b.cmd.Wait()
	b.in.Close()
	os.RemoveAll(b.profile)
}

// read takes answers and events until the browser is gone.
func (b *Browser) read(out io.ReadCloser) {
	defer out.Close()
	r := bufio.NewReaderSize(out, 1<<20)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			b.err = errors.New("the browser is gone")
			for _, c := range b.waiting {
				close(c)
			}
			b.waiting = nil
			b.mu.Unlock()
			return
		}
		var m struct {
			answer
			ID      int             `json:"id"`
			Method  string          `json:"method"`
			Session string          `json:"sessionId"`
			Params  json.RawMessage `json:"params"`
		}
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		if c := b.waiting[m.ID]; c != nil {
			delete(b.waiting, m.ID)
			c <- m.answer
		} else if p := b.pages[m.Session]; p != nil {
			p.event(m.Method, m.Params)
		}
		b.mu.Unlock()
	}
}

// call sends a command and reads its result into out, unless that is nil.
func (b *Browser) call(ctx context.Context, session, method string, params, out any) error {
	b.mu.Lock()
	if b.err != nil {
		defer b.mu.Unlock()
		return b.err
	}
	b.next++
	id, c := b.next, make(chan answer, 1)
	b.waiting[id] = c
	text, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params, "sessionId": session})
	if session == "" {
		text, err = json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	}
	if err == nil {
		_, err = b.in.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case a, ok := <-c:
		if !ok {
			return b.err
		}
		if a.Error != nil {
			return fmt.Errorf("%s: %s", method, a.Error.Message)
		}
		if out == nil {
			return nil
		}
		return json.Unmarshal(a.Result, out)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// Allow grants permissions, such as clipboardReadWrite, to every page.
func (b *Browser) Allow(ctx context.Context, permissions ...string) error {
	return b.call(ctx, "", "Browser.grantPermissions", map[string]any{"permissions": permissions}, nil)
}

// Allow grants permissions to every page of the browser, and no others.
func (p *Page) Allow(ctx context.Context, permissions ...string) error {
	return p.b.Allow(ctx, permissions...)
}

// View is how a page looks at the world.
type View struct {
	Width, Height int
	Dark, Mobile  bool
	NoScript      bool
	// Still is for those who want no motion.
	Still bool
	// Scale is device pixels per CSS pixel; 0 for 1.
	Scale float64
}

// Page is one tab.
type Page struct {
	b       *Browser
	session string
	target  string

	// Guarded by the browser's mu.
	said    []string // uncaught exceptions, refused loads, dialogs
	fetched []string // URLs
	// registrations are ids of service workers, by origin.
	registrations map[string]string
}

// Open opens a tab on a URL and waits until it has loaded.
func (b *Browser) Open(ctx context.Context, v View, url string) (*Page, error) {
	var target struct{ TargetID string }
	if err := b.call(ctx, "", "Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return nil, err
	}
	var session struct{ SessionID string }
	if err := b.call(ctx, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session); err != nil {
		return nil, err
	}
	p := &Page{b: b, session: session.SessionID, target: target.TargetID}
	b.mu.Lock()
	b.pages[p.session] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page.enable", "Runtime.enable", "Log.enable", "Network.enable"} {
		if err := p.Do(ctx, domain, nil, nil); err != nil {
			return nil, err
		}
	}
	if err := p.Look(ctx, v); err != nil {
		return nil, err
	}
	return p, p.Go(ctx, url)
}

// Look changes the view.
func (p *Page) Look(ctx context.Context, v View) error {
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	motion := "no-preference"
	if v.Still {
		motion = "reduce"
	}
	if v.Scale == 0 {
		v.Scale = 1
	}
	for _, c := range []struct {
		method string
		params map[string]any
	}{
		{"Emulation.setDeviceMetricsOverride", map[string]any{"width": v.Width, "height": v.Height, "deviceScaleFactor": v.Scale, "mobile": v.Mobile}},
		{"Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme},
			{"name": "prefers-reduced-motion", "value": motion}}}},
		{"Emulation.setScriptExecutionDisabled", map[string]any{"value": v.NoScript}},
		{"Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true}},
	} {
		if err := p.Do(ctx, c.method, c.params, nil); err != nil {
			return err
		}
	}
	return nil
}

// Do sends a command of the DevTools protocol.
func (p *Page) Do(ctx context.Context, method string, params map[string]any, out any) error {
	if params == nil {
		params = map[string]any{}
	}
	return p.b.call(ctx, p.session, method, params, out)
}

// Go goes to a URL and waits until it has loaded.
func (p *Page) Go(ctx context.Context, url string) error {
	var went struct{ ErrorText string }
	if err := p.Do(ctx, "Page.navigate", map[string]any{"url": url}, &went); err != nil {
		return err
	}
	if went.ErrorText != "" {
		return errors.New(url + ": " + went.ErrorText)
	}
	return p.Until(ctx, `document.readyState === "complete"`)
}

// Reload loads the page anew.
func (p *Page) Reload(ctx context.Context) error {
	if err := p.Eval(ctx, "window.leaving = true", nil); err != nil {
		return err
	}
	if err := p.Do(ctx, "Page.reload", nil, nil); err != nil {
		return err
	}
	return p.Until(ctx, `!window.leaving && document.readyState === "complete"`)
}

// Close closes the tab.
func (p *Page) Close(ctx context.Context) error {
	return p.b.call(ctx, "", "Target.closeTarget", map[string]any{"targetId": p.target}, nil)
}

// Crash ends the process of the tab, and with it all tabs of that process.
func (p *Page) Crash(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	p.Do(ctx, "Page.crash", nil, nil) // it does not answer any more
}

// Eval runs script, waits for its promise, and reads its value into out, unless that is nil.
func (p *Page) Eval(ctx context.Context, script string, out any) error {
	var got struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := p.Do(ctx, "Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &got)
	if err != nil {
		return err
	}
	if e := got.ExceptionDetails; e != nil {
		return errors.New(e.Text + " " + e.Exception.Description)
	}
	if out == nil || got.Result.Value == nil {
		return nil
	}
	return json.Unmarshal(got.Result.Value, out)
}

// Until waits until script, or what it promises, is true.
func (p *Page) Until(ctx context.Context, script string) error {
	for {
		var ok bool
		err := p.Eval(ctx, "(async () => !!(await ("+script+")))()", &ok)
		if err == nil && ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", script, errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Click clicks what a selector finds, with the mouse, at its middle.
func (p *Page) Click(ctx context.Context, selector string) error {
	var at struct{ X, Y float64 }
	quoted, _ := json.Marshal(selector)
	script := `(() => { const e = document.querySelector(` + string(quoted) + `); e.scrollIntoView({block: "nearest"}); const r = e.getBoundingClientRect(); return {X: r.x + r.width / 2, Y: r.y + r.height / 2}; })()`
	if err := p.Eval(ctx, script, &at); err != nil {
		return fmt.Errorf("click %s: %w", selector, err)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		if err := p.Do(ctx, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Key presses a key: a character, or a name such as "Escape".
func (p *Page) Key(ctx context.Context, key string) error {
	down := map[string]any{"type": "keyDown", "key": key}
	if len(key) == 1 {
		down["text"] = key
	}
	if code := map[string]int{"Enter": 13, "Escape": 27, "Tab": 9, "ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39}[key]; code != 0 {
		down["windowsVirtualKeyCode"] = code
		if key == "Enter" {
			down["text"] = "\r"
		}
	}
	if err := p.Do(ctx, "Input.dispatchKeyEvent", down, nil); err != nil {
		return err
	}
	return p.Do(ctx, "Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key}, nil)
}

// Type puts text where the focus is.
func (p *Page) Type(ctx context.Context, text string) error {
	return p.Do(ctx, "Input.insertText", map[string]any{"text": text}, nil)
}

// Picture returns what is to be seen, as PNG.
func (p *Page) Picture(ctx context.Context) ([]byte, error) {
	var got struct{ Data string }
	if err := p.Do(ctx, "Page.captureScreenshot", map[string]any{"format": "png"}, &got); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(got.Data)
}

// Said returns what went wrong on the page so far: exceptions, refusals, dialogs.
func (p *Page) Said() []string {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	return append([]string(nil), p.said...)
}

// Fetched returns every URL that the page asked for.
func (p *Page) Fetched() []string {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	return append([]string(nil), p.fetched...)
}

// event is called with the browser's mu held.
func (p *Page) event(method string, params json.RawMessage) {
	var e struct {
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
		Entry   struct{ Level, Text, URL string }
		Request struct{ URL string }
		Message string
	}
	json.Unmarshal(params, &e)
	switch method {
	case "ServiceWorker.workerRegistrationUpdated":
		p.registered(params)
	case "Runtime.exceptionThrown":
		p.said = append(p.said, "exception: "+e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
	case "Log.entryAdded":
		if e.Entry.Level == "error" {
			p.said = append(p.said, "error: "+e.Entry.Text+" "+e.Entry.URL)
		}
	case "Page.javascriptDialogOpening":
		p.said = append(p.said, "dialog: "+e.Message)
	case "Network.requestWillBeSent":
		p.fetched = append(p.fetched, e.Request.URL)
	}
}
