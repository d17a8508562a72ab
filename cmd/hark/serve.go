package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/harkhq/hark/server"
)

type serveCmd struct {
	Config string        `help:"Read settings from this YAML file; flags and HARK_* come first." placeholder:"FILE" type:"path" env:"HARK_CONFIG"`
	Server server.Config `embed:""`
}

func (*serveCmd) Help() string {
	return `The first start makes an admin key and prints it once. If it is lost, stop the
server and start it once with --new-admin-key.

Examples:
  hark serve --addr :8080 --data /var/lib/hark
  hark serve --config /etc/hark.yaml      lines like "addr: :8080", named as the flags, with _ for -`
}

func (s *serveCmd) Run(a *app) error {
	if err := loadConfig(a, s.Config, &s.Server); err != nil {
		return err
	}
	srv, err := startServer(s.Server)
	if err != nil {
		return err
	}
	if key := srv.FirstKey(); key != "" {
		what, then := "The first admin key", "other keys are made with it: HARK_KEY=… hark key create --scope publish"
		if s.Server.NewAdminKey {
			what, then = "A new admin key", "the one that is lost can be revoked with it: HARK_KEY=… hark key list"
		}
		err := a.answer(map[string]string{"key": key, "url": srv.URL()}, func() {
			a.printf("%s, shown this once:\n\n  %s\n\nKeep it now; %s\n\n", what, a.paint(warn, key), then)
		})
		if err != nil {
			srv.Close()
			return err
		}
	}
	return runServer(a, srv)
}

type devCmd struct {
	Config string        `help:"Read settings from this YAML file; flags and HARK_* come first." placeholder:"FILE" type:"path" env:"HARK_CONFIG"`
	Server server.Config `embed:""`
}

func (*devCmd) Help() string {
	return `It listens on this machine only and needs no key. Destinations may be on this
machine, too. Everything else is as in hark serve, also the data folder.

Example:
  hark dev`
}

func (d *devCmd) Run(a *app) error {
	if err := loadConfig(a, d.Config, &d.Server); err != nil {
		return err
	}
	if d.Server.NewAdminKey {
		return wrongUse("hark serve --new-admin-key", "hark dev needs no key")
	}
	d.Server.Dev = true
	srv, err := startServer(d.Server)
	if err != nil {
		return err
	}
	next := whatNext(srv.URL())
	if err := a.answer(next, func() { a.showNext(next) }); err != nil {
		srv.Close()
		return err
	}
	return runServer(a, srv)
}

func startServer(cfg server.Config) (*server.Server, error) {
	cfg.PushWorker = pushWorker
	srv, err := server.New(cfg)
	if err == nil {
		return srv, nil
	}
	f := &failure{msg: faults(err), code: exitFailure, err: err, try: "hark doctor"}
	switch text := err.Error(); {
	case strings.Contains(text, "loopback only"):
		f.code, f.try = exitUsage, "--addr 127.0.0.1:8081, or hark serve"
	case strings.Contains(text, "in use by another"):
		f.try = "stop the other one first, or another folder: --data other"
	case strings.HasPrefix(text, "--"): // the configuration's own words
		f.code, f.try = exitUsage, "hark serve --help"
	case strings.Contains(text, "cannot listen"):
		f.try = "hark doctor, or another address: --addr 127.0.0.1:8081"
	}
	return nil, f
}

// faults puts the parts of a joined error on one line.
func faults(err error) string {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var texts []string
		for _, one := range many.Unwrap() {
			texts = append(texts, one.Error())
		}
		return strings.Join(texts, "; ")
	}
	return err.Error()
}

func runServer(a *app, srv *server.Server) error {
	stop := context.AfterFunc(a.ctx, func() {
		a.note("hark: stopping; once more to stop at once")
	})
	defer stop()
	err := srv.Run(a.ctx)
	if errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// commandWord is how this program was started, so that what we print can be copied.
func commandWord() string {
	if path, err := os.Executable(); err == nil && strings.Contains(path, "go-build") {
		return "go run ./cmd/hark"
	}
	return os.Args[0]
}

// serverFlag is how to name a server in a line to be copied.
func serverFlag(url string) string {
	if url == defaultServer {
		return ""
	}
	return " --server " + url
}

// next is what to type after hark dev.
type next struct {
	URL   string   `json:"url"`
	Lines []string `json:"next"`
}

func whatNext(url string) next {
	word, where := commandWord(), serverFlag(url)
	return next{URL: url, Lines: []string{
		fmt.Sprintf("%s receive --add --topic 'orders.*'%s", word, where),
		fmt.Sprintf(`%s publish orders.paid --data '{"order":1042}'%s`, word, where),
	}}
}

func (a *app) showNext(n next) {
	var b strings.Builder
	fmt.Fprintf(&b, "\nHark is listening on %s, for this machine only, without keys.\n\n", a.paint(bold, n.URL))
	for i, what := range []string{"In a second terminal, a receiver that makes itself a destination, verifies what arrives and shows it:",
		"In a third, publish an event:"} {
		fmt.Fprintf(&b, "%s\n\n  %s\n\n", a.paint(faint, what), n.Lines[i])
	}
	fmt.Fprintf(&b, "%s %s tail%s\n%s %s\n%s %s\n%s %s\n%s %s source add github%s\n\n", a.paint(faint, "Follow events:         "), commandWord(), serverFlag(n.URL),
		a.paint(faint, "In a browser, live:    "), n.URL+"/demo/chat", a.paint(faint, "And when it is closed: "), n.URL+"/demo/push",
		a.paint(faint, "See what others send:  "), n.URL+"/bins",
		a.paint(faint, "Have them make events: "), commandWord(), serverFlag(n.URL))
	io.WriteString(a.stdout, b.String())
}
