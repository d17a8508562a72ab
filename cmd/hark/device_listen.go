package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/cmd/hark/internal/agent"
	"github.com/harkhq/hark/internal/webpush"
)

type deviceListen struct {
	Topic   []string      `help:"What it wants; may be repeated (everything; with a user's token: all that it may)." placeholder:"PATTERN" short:"t"`
	Exec    string        `help:"Run this command with each message, in JSON on its standard input." placeholder:"CMD"`
	Within  time.Duration `help:"How long the command may take (1m)." default:"1m" placeholder:"DURATION"`
	User    string        `help:"Whose device it is." placeholder:"USER"`
	App     string        `help:"Whose audience it belongs to (default)." placeholder:"APP"`
	Name    string        `help:"A name for people (this machine's)." placeholder:"TEXT"`
	Save    string        `help:"File for its keys: started again with it, it is the same device, and gets what came meanwhile (one of the server's, in the user's configuration)." placeholder:"PATH" type:"path"`
	Forget  bool          `help:"Remove the device when this ends, and keep no file."`
	Service string        `help:"Push service to connect to (the server itself)." placeholder:"WS-URL"`
	Count   int           `help:"End after so many messages." placeholder:"N"`
	remote
}

func (*deviceListen) Help() string {
	return `It connects to the server's push service as a browser does, from behind any NAT,
and gets what is pushed while it is away when it comes back. With --json each
line is one message.

Examples:
  hark device listen --topic 'alarms.>'
  hark device listen --topic 'deploy.*' --exec ./deploy.sh
  hark device listen --user 42 --topic 'user.42.>' --json | jq .title`
}

// listener is a device in a terminal.
type listener struct {
	*deviceListen
	app    *app
	client *client.Client
	topics []hark.Pattern
	key    *client.PushKey
	keys   keyFile
	done   context.CancelFunc
	seen   int
	device *client.Device
}

// keyFile is what is kept between two runs.
type keyFile struct {
	Device string      `json:"device,omitempty"`
	Agent  agent.State `json:"agent"`
	path   string      // "" for nowhere
}

func (d *deviceListen) Run(a *app) error {
	l := &listener{deviceListen: d, app: a}
	var err error
	if l.topics, err = patterns("--topic", d.Topic); err != nil {
		return err
	}
	if len(l.topics) == 0 && strings.Count(d.APIKey, ".") != 2 { // a token says by itself what it may
		l.topics = []hark.Pattern{">"}
	}
	if d.Within <= 0 {
		return wrongUse("--within 1m", "--within must be more than nothing")
	}
	service, web, err := d.service()
	if err != nil {
		return err
	}
	if l.client, err = d.client(); err != nil {
		return err
	}
	if err := l.keys.open(d); err != nil {
		return err
	}
	if l.key, err = l.client.PushKey(a.ctx, d.App); err != nil {
		return err
	}
	ctx, done := context.WithCancel(a.ctx)
	defer done()
	l.done = done
	err = (&agent.Agent{Service: service, HTTP: web, State: &l.keys.Agent, PublicKey: l.key.PublicKey, Keep: l.keys.save,
		Subscribed: l.subscribed, Handle: l.handle, Acknowledged: l.acknowledged, Undecrypted: l.undecrypted, Lost: l.lost}).Run(ctx)
	if d.Forget && l.device != nil {
		bye, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), 10*time.Second)
		defer cancel()
		if err := l.client.DeleteDevice(bye, l.device.ID); err != nil {
			a.note("hark: the device stays: %s", oneLine(err.Error()))
		}
	}
	if a.ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return nil // so many as were wanted
	}
	if errors.Is(err, agent.ErrReplaced) {
		return failed("--save with another file, for a second device", "%v", err)
	}
	return err
}

// service is the WebSocket of the push service, and what dials it.
func (d *deviceListen) service() (address string, h *http.Client, err error) {
	u, err := url.Parse(cmp.Or(d.Service, strings.TrimRight(d.Server, "/")+"/push/"))
	if err == nil {
		u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	}
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return "", nil, wrongUse("--service wss://push.example.com/push/", "--service: %q is not the URL of a push service", cmp.Or(d.Service, d.Server))
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	if d.CA != "" {
		roots, err := readRoots(d.CA)
		if err != nil {
			return "", nil, err
		}
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return u.String(), &http.Client{Transport: t}, nil
}

// open finds the file and reads what is in it.
func (k *keyFile) open(d *deviceListen) error {
	if d.Forget {
		return nil
	}
	k.path = d.Save
	if k.path == "" {
		folder, err := os.UserConfigDir()
		if err != nil {
			return failed("--save with a file, or --forget", "there is no place for keys: %v", err)
		}
		u, err := url.Parse(d.Server)
		if err != nil {
			return err
		}
		name := strings.NewReplacer(":", "_", "/", "_").Replace(cmp.Or(u.Host, "server"))
		if d.App != "" {
			name += "-" + strings.NewReplacer("/", "_").Replace(d.App)
		}
		k.path = filepath.Join(folder, "hark", "device-"+name+".json")
	}
	text, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, k); err != nil {
		return failed("another file with --save, or remove this one: it is another device then", "%s holds no keys of a device: %v", k.path, err)
	}
	return nil
}

// save writes the file anew, so that it is whole whatever happens, and for its owner only.
func (k *keyFile) save() error {
	if k.path == "" {
		return nil
	}
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(k.path), ".hark-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if failed := f.Close(); err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), k.path)
}

// subscribed says to the server that the device is there.
func (l *listener) subscribed(ctx context.Context, s webpush.Subscription) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	name := l.Name
	if name == "" {
		host, _ := os.Hostname()
		name = cmp.Or(host, "hark device listen")
	}
	d, err := l.client.RegisterDevice(ctx, client.DeviceSpec{Kind: "webpush", User: l.User, Topics: l.topics, App: l.App, Name: name, Subscription: text, VAPIDKey: l.key.VAPIDKey})
	if _, away := errors.AsType[*client.UnreachableError](err); away && l.device != nil {
		return nil // it was registered before, and the push service is there
	}
	if err != nil {
		return err
	}
	if before, err := hark.ParseDeviceID(l.keys.Device); err == nil && before != d.ID {
		l.client.DeleteDevice(ctx, before) // its subscription is no more; a push would find that out
	}
	if l.device == nil {
		l.app.note("listening as %s for %s; stop with Ctrl-C", d.ID, join(d.Topics))
	} else {
		l.app.note("hark: connected again")
	}
	l.device, l.keys.Device = d, d.ID.String()
	return l.keys.save()
}

func (l *listener) lost(err error, again time.Duration) {
	l.app.note("hark: %s; again in %s", oneLine(err.Error()), span(again))
}

func (l *listener) undecrypted(id string, err error) {
	l.app.note("hark: message %s is not for this device: %s", harmless(id, 60), oneLine(strings.TrimPrefix(err.Error(), "webpush: ")))
}

// pushed is a message as it is shown, and as a command gets it.
type pushed struct {
	ID    string          `json:"id"`
	Event string          `json:"event,omitempty"`
	Topic string          `json:"topic,omitempty"`
	Title string          `json:"title,omitempty"`
	Body  string          `json:"body,omitempty"`
	Link  string          `json:"link,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
	// Payload is what was pushed, when it is JSON, Text when it is not.
	Payload json.RawMessage `json:"payload,omitempty"`
	Text    string          `json:"text,omitempty"`
}

// readPushed reads a payload: Hark's own and the declarative form, or anything else.
func readPushed(m agent.Message) pushed {
	p := pushed{ID: m.ID}
	if !json.Valid(m.Data) {
		p.Text = string(m.Data)
		return p
	}
	p.Payload = m.Data
	var all struct {
		Title, Body  string
		Notification *struct{ Title, Body, Navigate string }
		Hark         struct {
			Event, Topic string
			Data         json.RawMessage
		}
	}
	if json.Unmarshal(m.Data, &all) != nil {
		return p // JSON of another shape
	}
	p.Event, p.Topic, p.Data, p.Title, p.Body = all.Hark.Event, all.Hark.Topic, all.Hark.Data, all.Title, all.Body
	if n := all.Notification; n != nil {
		p.Title, p.Body, p.Link = n.Title, n.Body, n.Navigate
	}
	if p.Link == "/" { // what a message without a link has: the declarative form must have one
		p.Link = ""
	}
	return p
}

// handle prints a message, or runs the command with it.
func (l *listener) handle(ctx context.Context, m agent.Message) error {
	p := readPushed(m)
	line, err := l.app.pushedJSON(p)
	if err != nil {
		return err
	}
	if l.Exec != "" {
		err = l.run(ctx, line)
	} else if l.app.json {
		_, err = l.app.stdout.Write(line)
	} else {
		l.app.showPushed(p)
	}
	return err
}

func (l *listener) acknowledged() {
	if l.seen++; l.seen == l.Count {
		l.done()
	}
}

func (a *app) pushedJSON(p pushed) ([]byte, error) {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(p)
	return line.Bytes(), err
}

func (a *app) showPushed(p pushed) {
	parts := []string{a.paint(faint, time.Now().Format("15:04:05"))}
	if p.Topic != "" {
		parts = append(parts, a.paint(faint, harmless(p.Topic, 255)))
	}
	for i, text := range []string{p.Title, p.Body, p.Link, p.Text} {
		if text = harmless(strings.Join(strings.Fields(text), " "), 1000); text != "" {
			parts = append(parts, a.paint([]style{bold, "", faint, ""}[i], text))
		}
	}
	if p.Title+p.Body+p.Text == "" {
		if len(p.Data) > 0 {
			parts = append(parts, snippet(p.Data, 1000))
		} else {
			parts = append(parts, cmp.Or(snippet(p.Payload, 1000), a.paint(faint, "(nothing)")))
		}
	}
	a.printf("%s\n", strings.Join(parts, "  "))
}

// run runs the command. What was pushed is on its standard input, and nowhere in its words.
func (l *listener) run(ctx context.Context, line []byte) error {
	ctx, cancel := context.WithTimeout(ctx, l.Within)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell[0], append(shell[1:], l.Exec)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(line), l.app.stdout, l.app.stderr
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return endGroup(cmd.Process) }
	cmd.WaitDelay = time.Second // for what it started and left behind
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // it did its work
	}
	if ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("it was ended after %s", l.Within)
	}
	if err != nil {
		l.app.note("hark: %s: %v", snippet([]byte(l.Exec), 60), err)
	}
	return err
}
