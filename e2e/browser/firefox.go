package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// prefs keep a Firefox quiet: a port of its own choice for Marionette, nothing it asks of others.
const prefs = `user_pref("marionette.port", 0);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.homepage_override.mstone", "ignore");
user_pref("browser.tabs.remote.separatePrivilegedContentProcess", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("app.normandy.enabled", false);
user_pref("app.update.enabled", false);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("services.settings.server", "data:,#remote-settings-dummy/v1");
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("dom.min_background_timeout_value", 100);
user_pref("dom.ipc.processCount", 2);
`

// Firefox is a running Firefox, driven over Marionette: length-prefixed JSON on a loopback port.
type Firefox struct {
	cmd     *exec.Cmd
	profile string
	conn    net.Conn
	in      *bufio.Reader

	base string // the tab that is always there

	mu   sync.Mutex // one command at a time; guards below
	next int
	tab  string // that commands go to
}

// StartFirefox starts one with a profile of its own, and with more preferences, each a line of
// user.js.
func StartFirefox(ctx context.Context, more ...string) (*Firefox, error) {
	profile, err := os.MkdirTemp("", "hark-firefox-")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs+strings.Join(more, "\n")), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(profile, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	f := &Firefox{profile: profile}
	f.cmd = exec.Command("firefox-esr", "--headless", "--no-remote", "--marionette", "--remote-allow-system-access", "--profile", profile, "about:blank")
	f.cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_CRASHREPORTER_DISABLE=1", "MOZ_DISABLE_CONTENT_SANDBOX=1")
	f.cmd.Stdout, f.cmd.Stderr = log, log
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := f.cmd.Start(); err != nil {
		return nil, fmt.Errorf("Firefox does not start: %w", err)
	}
	if err := f.connect(ctx); err != nil {
		text, _ := os.ReadFile(log.Name())
		f.Close()
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return f, nil
}

// connect finds the port that it chose, and begins a session.
func (f *Firefox) connect(ctx context.Context) error {
	for {
		if text, err := os.ReadFile(filepath.Join(f.profile, "MarionetteActivePort")); err == nil && len(text) > 0 {
			conn, err := net.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(string(text)))
			if err == nil {
				f.conn, f.in = conn, bufio.NewReader(conn)
				break
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("Firefox opens no port: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if _, err := f.read(); err != nil { // who it is
		return err
	}
	if err := f.call(ctx, "WebDriver:NewSession", map[string]any{"capabilities": map[string]any{}}, nil); err != nil {
		return err
	}
	var base struct{ Value string }
	err := f.call(ctx, "WebDriver:GetWindowHandle", map[string]any{}, &base)
	f.base, f.tab = base.Value, base.Value
	return err
}

// Close ends the browser and what it started.
func (f *Firefox) Close() {
	syscall.Kill(-f.cmd.Process.Pid, syscall.SIGKILL)
	f.cmd.Wait()
	if f.conn != nil {
		f.conn.Close()
	}
	os.RemoveAll(f.profile)
}

func (f *Firefox) read() (json.RawMessage, error) {
	length, err := f.in.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil {
		return nil, err
	}
	text := make([]byte, n)
	_, err = io.ReadFull(f.in, text)
	return text, err
}

// call sends a command and reads its result. The caller holds mu, or is alone.
func (f *Firefox) call(ctx context.Context, command string, params map[string]any, out any) error {
	f.next++
	text, err := json.Marshal([]any{0, f.next, command, params})
	if err != nil {
		return err
	}
	f.conn.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := fmt.Fprintf(f.conn, "%d:%s", len(text), text); err != nil {
		return err
	}
	answer, err := f.read()
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	var failed *struct {
		Error, Message string
	}
	var result json.RawMessage
	if err := json.Unmarshal(answer, &[]any{new(int), new(int), &failed, &result}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("%s: %s: %s", command, failed.Error, failed.Message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(result, out)
}

// alert finds the notification with a title: without a desktop Firefox draws it itself, in a
// window of its own.
const alert = `const alert = [...Services.wm.getEnumerator("alert:alert")].find((w) => w.document.getElementById("alertTitleLabel").value === arguments[0]);
	if (!alert) return null;
	`

// ClickNotification clicks the notification with a title, as the user does.
func (f *Firefox) ClickNotification(ctx context.Context, title string) error {
	var ok bool
	err := f.Chrome(ctx, alert+`alert.document.getElementById("alertBox").click(); return true;`, &ok, title)
	if err == nil && !ok {
		err = fmt.Errorf("Firefox shows no notification %q", title)
	}
	return err
}

// NotificationPicture returns the notification with a title as PNG, enlarged by scale.
func (f *Firefox) NotificationPicture(ctx context.Context, title string, scale float64) ([]byte, error) {
	var text string
	err := f.Chrome(ctx, alert+`const { innerWidth: width, innerHeight: height } = alert;
		return alert.browsingContext.currentWindowGlobal.drawSnapshot(new alert.DOMRect(0, 0, width, height), arguments[1], "transparent").then((bitmap) => {
			const canvas = alert.document.createElementNS("http://www.w3.org/1999/xhtml", "canvas");
			[canvas.width, canvas.height] = [bitmap.width, bitmap.height];
			canvas.getContext("2d").drawImage(bitmap, 0, 0);
			return canvas.toDataURL("image/png");
		});`, &text, title, scale)
	_, data, ok := strings.Cut(text, "base64,")
	if err == nil && !ok {
		err = fmt.Errorf("Firefox shows no notification %q", title)
	}
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(data)
}

// FirefoxTab is one tab.
type FirefoxTab struct {
	f      *Firefox
	handle string
}

// Open opens a tab on a URL and waits until it has loaded.
func (f *Firefox) Open(ctx context.Context, url string) (*FirefoxTab, error) {
	var made struct{ Handle string }
	base := &FirefoxTab{f, f.base} // a closed one cannot open others
	if err := base.do(ctx, "WebDriver:NewWindow", map[string]any{"type": "tab", "focus": true}, &made); err != nil {
		return nil, err
	}
	t := &FirefoxTab{f, made.Handle}
	return t, t.Go(ctx, url)
}

// do sends a command to this tab.
func (t *FirefoxTab) do(ctx context.Context, command string, params map[string]any, out any) error {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err // a command that is cut short would be the last
	}
	if t.f.tab != t.handle {
		if err := t.f.call(ctx, "WebDriver:SwitchToWindow", map[string]any{"handle": t.handle, "focus": false}, nil); err != nil {
			return err
		}
		t.f.tab = t.handle
	}
	return t.f.call(ctx, command, params, out)
}

// Go goes to a URL and waits until it has loaded.
func (t *FirefoxTab) Go(ctx context.Context, url string) error {
	return t.do(ctx, "WebDriver:Navigate", map[string]any{"url": url}, nil)
}

// Picture returns what is to be seen of the page, as PNG.
func (t *FirefoxTab) Picture(ctx context.Context) ([]byte, error) {
	var got struct{ Value string }
	if err := t.do(ctx, "WebDriver:TakeScreenshot", map[string]any{"full": false}, &got); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(got.Value)
}

// Look changes the size of what is to be seen, in CSS pixels.
func (t *FirefoxTab) Look(ctx context.Context, width, height int) error {
	var frame struct{ W, H int }
	if err := t.Eval(ctx, `({ W: outerWidth - innerWidth, H: outerHeight - innerHeight })`, &frame); err != nil {
		return err
	}
	return t.do(ctx, "WebDriver:SetWindowRect", map[string]any{"width": width + frame.W, "height": height + frame.H}, nil)
}

// Reload loads the page anew.
func (t *FirefoxTab) Reload(ctx context.Context) error {
	return t.do(ctx, "WebDriver:Refresh", map[string]any{}, nil)
}

// Close closes the tab.
func (t *FirefoxTab) Close(ctx context.Context) error {
	return t.do(ctx, "WebDriver:CloseWindow", map[string]any{}, nil)
}

// Chrome runs script, the body of a function, in the browser itself, as far as that is a window:
// what it returns, or promises, is read into out, unless that is nil.
func (f *Firefox) Chrome(ctx context.Context, script string, out any, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.call(ctx, "Marionette:SetContext", map[string]any{"value": "chrome"}, nil); err != nil {
		return err
	}
	var got struct {
		Value json.RawMessage `json:"value"`
	}
	err := f.call(ctx, "WebDriver:ExecuteScript", map[string]any{"script": script, "args": append([]any{}, args...)}, &got)
	if back := f.call(ctx, "Marionette:SetContext", map[string]any{"value": "content"}, nil); err == nil {
		err = back
	}
	if err != nil || out == nil || len(got.Value) == 0 {
		return err
	}
	return json.Unmarshal(got.Value, out)
}

// Eval runs script, an expression, and reads its value into out, unless that is nil.
func (t *FirefoxTab) Eval(ctx context.Context, script string, out any) error {
	var got struct {
		Value json.RawMessage `json:"value"`
	}
	err := t.do(ctx, "WebDriver:ExecuteScript", map[string]any{"script": "return (" + script + ")", "args": []any{}}, &got)
	if err != nil || out == nil || len(got.Value) == 0 {
		return err
	}
	return json.Unmarshal(got.Value, out)
}
