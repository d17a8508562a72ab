package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
	"github.com/harkhq/hark/webhook"
)

type doctorCmd struct {
	Data      string `help:"The data folder to look at (hark-data)." placeholder:"DIR" env:"HARK_DATA" type:"path" default:"hark-data"`
	Addr      string `help:"The address that the server is to listen on (127.0.0.1:8080)." placeholder:"HOST:PORT" env:"HARK_ADDR" default:"127.0.0.1:8080"`
	DiskFloor int64  `help:"The server's --disk-floor (the larger of 1 GiB and 5 percent; negative for none)." placeholder:"BYTES" env:"HARK_DISK_FLOOR"`
	remote
}

func (*doctorCmd) Help() string {
	return "It changes nothing, and fails (exit code 1) when something is wrong.\n\nExample:\n  hark doctor --data /var/lib/hark --server https://hark.example.com"
}

// symptom is what a check found.
type symptom struct {
	Check string `json:"check"`
	// State is ok, warning or wrong.
	State string `json:"state"`
	Found string `json:"found"`
	Try   string `json:"try,omitempty"`
}

func fine(found string, args ...any) symptom {
	return symptom{State: "ok", Found: fmt.Sprintf(found, args...)}
}
func doubtful(try, found string, args ...any) symptom {
	return symptom{State: "warning", Found: fmt.Sprintf(found, args...), Try: try}
}
func wrong(try, found string, args ...any) symptom {
	return symptom{State: "wrong", Found: fmt.Sprintf(found, args...), Try: try}
}

// patient is what the checks look at.
type patient struct {
	*doctorCmd
	app    *app
	client *client.Client
	// clock is the server's, zero when it does not answer.
	clock   time.Time
	reached bool
}

func (d *doctorCmd) Run(a *app) error {
	c, err := d.client()
	if err != nil {
		return err
	}
	p := &patient{doctorCmd: d, app: a, client: c}
	// The server first: what it says decides what the port and the clock mean.
	checks := []struct {
		name string
		look func(context.Context) symptom
	}{{"server", p.server}, {"tls", p.tls}, {"key", p.key}, {"clock", p.checkClock}, {"port", p.port},
		{"data folder", p.folder}, {"disk", p.disk}, {"open files", func(context.Context) symptom { return openFiles() }}}
	report := struct {
		OK     bool      `json:"ok"`
		Checks []symptom `json:"checks"`
	}{OK: true}
	for _, check := range checks {
		s := check.look(a.ctx)
		s.Check = check.name
		report.Checks = append(report.Checks, s)
		report.OK = report.OK && s.State != "wrong"
	}
	if err := a.answer(report, func() { a.showSymptoms(report.Checks) }); err != nil || report.OK {
		return err
	}
	return errQuiet
}

func (a *app) showSymptoms(all []symptom) {
	marks := map[string]cell{"ok": styled(good, "✓"), "warning": styled(warn, "!"), "wrong": styled(bad, "✗")}
	var rows [][]cell
	for _, s := range all {
		rows = append(rows, []cell{marks[s.State], styled(bold, s.Check), plain(s.Found)})
		if s.Try != "" {
			rows = append(rows, []cell{plain(""), plain(""), plain("try: " + s.Try)})
		}
	}
	a.table(rows...)
}

func (p *patient) server(ctx context.Context) symptom {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	clock, err := p.client.Ready(ctx)
	if err == nil {
		p.clock, p.reached = clock, true
		return fine("%s is ready", p.Server)
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		p.reached = true
		if e.Status == http.StatusServiceUnavailable {
			return wrong("wait a moment; then the server's log", "%s answers, but is not ready", p.Server)
		}
		return wrong("--server with the URL of a hark server", "%s answers, but not like a hark server (status %d)", p.Server, e.Status)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return wrong("a firewall on the way? Another --server?", "%s does not answer", p.Server)
	}
	return wrong("hark dev, or hark serve; or --server with another URL", "%v", err)
}

func (p *patient) tls(ctx context.Context) symptom {
	u, err := url.Parse(p.Server)
	if err != nil {
		return wrong("", "%v", err)
	}
	host := u.Hostname()
	if u.Scheme != "https" {
		if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
			return fine("not needed on this machine")
		}
		return doubtful("hark serve --tls-cert … --tls-key …, or a proxy with TLS in front", "keys and events travel in clear to %s", host)
	}
	if !p.reached {
		return doubtful("", "not checked: the server does not answer")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	// Already verified by the request to the server; this only reads the dates.
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true, ServerName: host}}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return doubtful("", "the certificate cannot be read: %v", err)
	}
	defer conn.Close()
	until := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].NotAfter
	if time.Until(until) < 14*24*time.Hour {
		return doubtful("renew it; hark serve reloads it by itself", "the certificate ends %s", ago(until))
	}
	return fine("the certificate is trusted and ends %s", ago(until))
}

func (p *patient) key(ctx context.Context) symptom {
	if !p.reached {
		return doubtful("", "not checked: the server does not answer")
	}
	may := map[string]func() error{
		"read":   func() error { _, err := p.client.EventPage(ctx, client.EventQuery{PageSize: 1}); return err },
		"manage": func() error { return first(p.client.Destinations(ctx, client.DestinationQuery{PageSize: 1})) },
		"admin":  func() error { return first(p.client.Keys(ctx)) },
	}
	var can []string
	for _, what := range []string{"read", "manage", "admin"} {
		err := may[what]()
		e, ok := errors.AsType[*client.Error](err)
		switch {
		case err == nil:
			can = append(can, what)
		case ok && e.Status == http.StatusUnauthorized && p.APIKey == "":
			return wrong("--api-key or HARK_KEY; an admin makes one with: hark key create", "none is given, and the server asks for one")
		case ok && e.Status == http.StatusUnauthorized:
			return wrong("another key; an admin makes one with: hark key create", "refused: %v", err)
		case ok && e.Status == http.StatusForbidden:
		default:
			return doubtful("", "not checked: %v", err)
		}
	}
	if p.APIKey == "" {
		return fine("none is needed: hark dev")
	}
	if len(can) == 0 {
		return fine("valid; it can do nothing but publish")
	}
	return fine("valid; it may %s", strings.Join(can, ", "))
}

// first returns the first error of a list.
func first[T any](list func(func(T, error) bool)) (err error) {
	list(func(_ T, e error) bool { err = e; return false })
	return err
}

func (p *patient) checkClock(context.Context) symptom {
	if p.clock.IsZero() {
		if y := time.Now().Year(); y < 2026 || y > 2100 {
			return wrong("set the clock, and keep it with NTP", "it is the year %d here", y)
		}
		return doubtful("", "not compared: the server does not answer")
	}
	off := time.Since(p.clock).Abs()
	switch {
	case off > webhook.DefaultTolerance/2:
		return wrong("set both clocks with NTP: receivers refuse what is more than 5 minutes off", "%s between here and the server", span(off))
	case off > 5*time.Second:
		return doubtful("keep both clocks with NTP", "%s between here and the server", span(off))
	}
	return fine("the same here and on the server")
}

func (p *patient) port(context.Context) symptom {
	l, err := net.Listen("tcp", p.Addr)
	if err == nil {
		l.Close()
		return fine("%s is free", p.Addr)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		if p.reached && strings.HasSuffix(p.Server, p.Addr[strings.LastIndexByte(p.Addr, ':'):]) {
			return fine("%s is in use, by the server that answers", p.Addr)
		}
		return wrong("stop what uses it, or hark serve --addr with another port", "%s is in use", p.Addr)
	}
	if errors.Is(err, fs.ErrPermission) {
		return wrong("a port above 1023, or the right to use this one", "%s is not allowed to this user", p.Addr)
	}
	return wrong("--addr 127.0.0.1:8080", "%s: %v", p.Addr, plainNet(err))
}

func (p *patient) folder(context.Context) symptom {
	info, err := os.Stat(p.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if s := writable(filepath.Dir(p.Data)); s.State != "ok" {
			return s
		}
		return fine("%s is not there yet; the server makes it", p.Data)
	case err != nil:
		return wrong("", "%v", err)
	case !info.IsDir():
		return wrong("--data with a folder", "%s is a file", p.Data)
	}
	version, err := folderFormat(p.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if entries, _ := os.ReadDir(p.Data); len(entries) > 0 {
			return wrong("--data with another folder", "%s holds something else, not hark's data", p.Data)
		}
	case err != nil:
		return wrong("a backup: hark restore", "%v", err)
	case version > store.FolderFormat:
		return wrong("a newer hark", "%s has format %d, and this hark knows up to %d", p.Data, version, store.FolderFormat)
	}
	return writable(p.Data)
}

func folderFormat(dir string) (version int, err error) {
	f, err := os.Open(filepath.Join(dir, "HARK"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := fmt.Fscanf(f, "hark data folder, format %d\n", &version); err != nil {
		return 0, fmt.Errorf("%s is damaged: it does not say which format the folder has", f.Name())
	}
	return version, nil
}

func writable(dir string) symptom {
	f, err := os.CreateTemp(dir, ".hark-doctor-*")
	if err != nil {
		return wrong("chown or chmod, so that this user may write there", "%s cannot be written: %v", dir, errors.Unwrap(err))
	}
	f.Close()
	os.Remove(f.Name())
	return fine("%s can be written", dir)
}

func (p *patient) disk(context.Context) symptom {
	dir := p.Data
	for {
		if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	free, total, err := diskSpace(dir)
	if err != nil {
		return doubtful("", "not checked: %v", err)
	}
	floor := eventlog.DiskFloor(p.DiskFloor, total)
	switch {
	case free < floor:
		return wrong("make room, or hark serve --disk-floor", "%s free of %s: below %s the server refuses to publish", bytesText(free), bytesText(total), bytesText(floor))
	case free < 2*floor:
		return doubtful("make room soon", "%s free of %s", bytesText(free), bytesText(total))
	}
	return fine("%s free of %s", bytesText(free), bytesText(total))
}
