package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/webhook"
)

const (
	defaultServer   = "http://127.0.0.1:8080"
	defaultReceiver = "127.0.0.1:9000"
)

type receiveCmd struct {
	Addr   string        `help:"Address to listen on (127.0.0.1:9000)." default:"127.0.0.1:9000" placeholder:"HOST:PORT"`
	Secret []string      `help:"Verify with this secret or public key; may be repeated (asks the server)." placeholder:"whsec_…" env:"HARK_SECRET"`
	Status int           `help:"Answer with this status (200, or 401 to what is not verified)." placeholder:"N"`
	Fail   int           `help:"Answer the first N requests with 503, to see retries." placeholder:"N"`
	Delay  time.Duration `help:"Wait so long before answering." placeholder:"DURATION"`
	Count  int           `help:"Stop after N requests." placeholder:"N"`
	Add    bool          `help:"Make itself a destination of the server first; started again, it is the same one."`
	Topic  []string      `help:"With --add: which topics (all)." placeholder:"PATTERN" short:"t"`
	remote
}

func (*receiveCmd) Help() string {
	return `Examples:
  hark receive
  hark receive --addr 127.0.0.1:9001 --secret whsec_…
  hark receive --add --topic 'orders.*'`
}

// receiver shows and answers webhooks.
type receiver struct {
	cmd    *receiveCmd
	app    *app
	secret secretSource
	done   context.CancelFunc

	mu   sync.Mutex // guards below, and keeps the lines of one request together
	seen int
}

// received is what --json writes for each request.
type received struct {
	ID       string          `json:"id"`
	Topic    string          `json:"topic,omitempty"`
	Attempt  string          `json:"attempt,omitempty"`
	Verified *bool           `json:"verified"` // null: there is no secret to verify with
	Reason   string          `json:"reason,omitempty"`
	Status   int             `json:"status"`
	Type     string          `json:"content_type,omitempty"`
	Bytes    int             `json:"bytes"`
	Data     json.RawMessage `json:"data,omitempty"`
	Text     string          `json:"text,omitempty"`
}

func (r *receiveCmd) Run(a *app) error {
	if r.Status != 0 && (r.Status < 200 || r.Status > 599) {
		return wrongUse("--status 503", "--status: must be from 200 to 599")
	}
	if _, err := patterns("--topic", r.Topic); err != nil {
		return err
	}
	keys, err := parseSecrets(r.Secret)
	if err != nil {
		return err
	}
	if r.Add && len(r.Secret) > 0 {
		if _, err := webhook.ParseSigningKey(r.Secret[0]); err != nil {
			return wrongUse("leave --secret out, and one is made", "with --add, the first --secret signs: %s", strings.TrimPrefix(err.Error(), "webhook: "))
		}
	}
	listener, err := net.Listen("tcp", r.Addr)
	if err != nil {
		return failed("--addr with another port, such as 127.0.0.1:9001", "cannot listen on %s: %v", r.Addr, plainNet(err))
	}
	url := "http://" + reachable(listener.Addr().String())
	rec := &receiver{cmd: r, app: a, secret: secretSource{app: a, remote: &r.remote, addr: listener.Addr().String(), given: keys}}
	if r.Add {
		if rec.secret.found, err = r.add(a, url); err != nil {
			listener.Close()
			return err
		}
		rec.secret.asked = time.Now()
	}
	ctx, done := context.WithCancel(a.ctx)
	defer done()
	rec.done = done
	a.note("receiving on %s, answering %d; stop with Ctrl-C", url, cmp.Or(r.Status, http.StatusOK))
	if len(r.Secret) == 0 && !r.Add {
		a.note("without --secret, the server at %s is asked for it", r.Server)
		a.note("to send here: %s destination add %s --topic 'orders.*'%s", commandWord(), url, serverFlag(r.Server))
	}
	return rec.serve(ctx, listener)
}

// reachable is an address that others on this machine can dial.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// add makes the receiver a destination; again, it is the same one. It returns what
// verifies its webhooks, unless --secret tells.
func (r *receiveCmd) add(a *app, url string) (found secrets, err error) {
	c, err := r.client()
	if err != nil {
		return found, err
	}
	topics := r.Topic
	if len(topics) == 0 {
		topics = []string{">"}
	}
	ps, err := patterns("--topic", topics)
	if err != nil {
		return found, err
	}
	spec := client.Webhook(url, ps...)
	spec.UID, spec.Name = "hark-receive-"+r.Addr, "hark receive"
	if len(r.Secret) > 0 {
		spec.Secret = hark.Secret(r.Secret[0])
	}
	d, err := c.PutDestination(a.ctx, spec)
	if err != nil {
		return found, err
	}
	a.note("added as %s for %s", d.ID, join(ps))
	if err := r.wake(a, c, d); err != nil {
		return found, err
	}
	if len(r.Secret) > 0 {
		return found, nil
	}
	return ownSecrets(a.ctx, c, d)
}

// wake makes a destination that met no receiver for a while try again soon, not only
// when its breaker would.
func (r *receiveCmd) wake(a *app, c *client.Client, d *client.Destination) error {
	switch d.State {
	case hark.DestinationPaused:
		a.note("it is paused; to go on: %s destination resume %s%s", commandWord(), d.ID, serverFlag(r.Server))
		return nil
	case hark.DestinationDisabled:
		a.note("it was disabled, and is active again")
		_, err := c.ResumeDestination(a.ctx, d.ID)
		return err
	}
	now, err := c.Destination(a.ctx, d.ID)
	if err != nil || now.Status == nil || now.Status.Breaker != "open" {
		return err
	}
	if _, err := c.PauseDestination(a.ctx, d.ID, "hark receive starts"); err != nil {
		return err
	}
	_, err = c.ResumeDestination(a.ctx, d.ID)
	return err
}

func (r *receiver) serve(ctx context.Context, listener net.Listener) error {
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		bound, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(bound) != nil {
			srv.Close()
		}
	}()
	if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}

// ServeHTTP shows one request and answers it.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, hark.MaxBatchBytes))
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	got := received{ID: standard(req.Header).Get("webhook-id"), Topic: req.Header.Get("hark-topic"), Attempt: req.Header.Get("hark-attempt"),
		Type: req.Header.Get("Content-Type"), Bytes: len(body)}
	if json.Valid(body) {
		got.Data = body
	} else {
		got.Text = snippet(body, 1000)
	}
	if v, ok := r.secret.inspect(req.Context(), req.Header, body); ok {
		got.Verified, got.Reason = &v.Verified, v.Detail
	}
	if r.cmd.Delay > 0 {
		time.Sleep(r.cmd.Delay)
	}
	got.Status = r.show(&got, body)
	w.WriteHeader(got.Status)
}

// show writes the request's line and decides its status.
func (r *receiver) show(got *received, body []byte) (status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	switch {
	case r.seen <= r.cmd.Fail:
		status = http.StatusServiceUnavailable
	case r.cmd.Status != 0:
		status = r.cmd.Status
	case got.Verified != nil && !*got.Verified:
		status = http.StatusUnauthorized
	default:
		status = http.StatusOK
	}
	got.Status = status
	a := r.app
	a.answer(got, func() {
		mark, word := a.paint(warn, "?"), "not verified: no secret"
		switch {
		case got.Verified == nil:
		case *got.Verified:
			mark, word = a.paint(good, "✓"), "verified"
		default:
			mark, word = a.paint(bad, "✗"), "not verified: "+got.Reason
		}
		a.printf("%s %s  %s  attempt %s  %s  answered %d\n", mark, clean(got.ID), a.paint(bold, clean(got.Topic)), clean(got.Attempt), word, status)
		a.printf("  %s %s\n", a.paint(faint, clean(got.Type)), snippet(body, 200))
	})
	if r.cmd.Count > 0 && r.seen >= r.cmd.Count {
		r.done()
	}
	return status
}

// clean makes a stranger's header fit to print.
func clean(s string) string {
	if s == "" {
		return "-"
	}
	return snippet([]byte(s), 255)
}

func plainNet(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
