package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/harkhq/hark/cmd/hark/internal/compare"
)

type compareCmd struct {
	Clients int           `help:"How many clients listen at once (100)." default:"100" placeholder:"N"`
	Rate    float64       `help:"Events published in a second (1)." default:"1" placeholder:"N"`
	For     time.Duration `help:"How long each way is measured (15s)." default:"15s" placeholder:"DURATION"`
	Way     []string      `help:"Measure this way only: none, poll5, poll1, longpoll, sse, websocket, webhook; may be repeated." placeholder:"WAY"`
	remote
}

func (*compareCmd) Help() string {
	return `It measures what each way to listen costs, one after the other: requests, bytes,
the server's CPU, and the delay from publish to receipt. Without --server it starts a
server of its own in a temporary folder; with it, publishing and minting tokens must be
allowed, and the CPU is known only to an admin key.

Examples:
  hark compare
  hark compare --clients 1000 --rate 10 --way sse --way websocket --json`
}

func (c *compareCmd) Run(a *app) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	own := os.Getenv("HARK_URL") == ""
	for _, step := range a.kong.Path { // the default is not a wish
		own = own && (step.Flag == nil || step.Flag.Name != "server")
	}
	if own {
		url, stop, err := ownServer(a)
		if err != nil {
			return err
		}
		defer stop()
		c.Server, c.APIKey = url, ""
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	if _, err := server.Ready(a.ctx); err != nil {
		return err
	}
	report, err := compare.Run(a.ctx, compare.Config{Client: server, Key: c.APIKey, Clients: c.Clients, Rate: c.Rate, For: c.For, Ways: c.Way,
		Progress: func(title string) { a.note("%s …", title) }})
	if err != nil {
		return err
	}
	return a.answer(report, func() { a.showReport(report, own) })
}

func (c *compareCmd) check() error {
	switch {
	case c.Clients < 1 || c.Clients > compare.MaxClients:
		return wrongUse("--clients 100", "--clients must be from 1 to %d", compare.MaxClients)
	case !(c.Rate > 0) || c.Rate > compare.MaxRate:
		return wrongUse("--rate 1", "--rate must be more than 0 and at most %d", compare.MaxRate)
	case c.For < time.Second || c.For > compare.MaxFor:
		return wrongUse("--for 15s", "--for must be from 1s to %v", compare.MaxFor)
	}
	var names []string
	for _, w := range compare.Ways {
		names = append(names, w.Name)
	}
	for _, way := range c.Way {
		known := false
		for _, name := range names {
			known = known || name == way
		}
		if !known {
			return wrongUse("one of "+strings.Join(names, ", "), "--way: there is no way %q", way)
		}
	}
	return nil
}

// ownServer starts this program's server in a process of its own, so that its CPU can be
// told from that of the clients.
func ownServer(a *app) (url string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "hark-compare-")
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(a.ctx), self, "dev", "--addr", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--log-level", "error", "--disk-floor=-1", "--json")
	for _, v := range os.Environ() { // what is set for another server is not for this one
		if !strings.HasPrefix(v, "HARK_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Stderr = a.stderr
	cmd.SysProcAttr = ownGroup() // Ctrl-C is for us: we stop it ourselves
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
		cmd.Wait()
		os.RemoveAll(dir)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var said struct {
		URL string `json:"url"`
	}
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil {
		stop()
		return "", nil, failed("hark doctor", "the server did not start: %v", err)
	}
	return said.URL, stop, nil
}

func (a *app) showReport(r compare.Report, own bool) {
	whose := "the server shares them if it is on this machine"
	if own {
		whose = "clients and server share them"
	}
	events := fmt.Sprintf("%g events", r.Rate)
	if r.Rate == 1 {
		events = "1 event"
	}
	a.printf("%s, %s a second of %d bytes, %g s each. %s/%s, %s: %s.\n\n", count(r.Clients, "client"), events, r.EventBytes, r.Seconds,
		r.OS, r.Arch, count(r.Cores, "core"), whose)
	rows := [][]cell{header("WAY", "REQUESTS/S", "UP/MIN", "DOWN/MIN", "SERVER CPU", "DELAY P50", "P99")}
	fine := true
	for _, w := range r.Ways {
		if w.Note != "" {
			rows = append(rows, []cell{plain(w.Title), styled(warn, "left out: "+w.Note)})
			continue
		}
		rows = append(rows, reportRow(w))
		if w.Lost+w.Doubled+w.Refused > 0 {
			fine = false
			rows = append(rows, []cell{styled(bad, fmt.Sprintf("  %d lost, %d doubled, %d requests refused", w.Lost, w.Doubled, w.Refused))})
		}
	}
	a.table(rows...)
	a.printf("\n%s\n", a.paint(faint, "Bytes are those of one client in a minute, heads and framing included. CPU is the server's, of one core."))
	if fine {
		a.printf("%s\n", a.paint(good, "Every client got every event once and in order."))
	}
}

func reportRow(w compare.Row) []cell {
	row := []cell{plain(w.Title), plainf("%.1f", w.Requests), plain(bytesText(uint64(w.Up))), plain(bytesText(uint64(w.Down))), plain("unknown"), plain(""), plain("")}
	if w.CPU != nil {
		row[4] = plainf("%.1f %%", *w.CPU*100)
	}
	if w.P99 > 0 {
		row[5], row[6] = plain(delayText(w.P50)), plain(delayText(w.P99))
	}
	return row
}

func delayText(ms float64) string {
	if ms < 1000 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.2f s", ms/1000)
}
