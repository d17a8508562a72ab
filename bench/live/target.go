package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

// eventSize is an event's data, in bytes.
const eventSize = 200

// prefix is that of the topics.
const prefix = "live"

// target is what a scenario measures: a bare program, or Hark.
type target struct {
	addr   string
	pid    int
	header string // what subscribers send
	key    string // a publisher's
	bare   bool
	tls    bool
	api    testenv.API // of Hark
	close  func()
}

func (b *bench) bareLive(setup rig.BareLive) (*target, error) {
	setup.Prefix, setup.Dir = prefix, b.Dir
	p, err := rig.StartBareLive(setup)
	if err != nil {
		return nil, err
	}
	b.counters.Reset()
	return &target{addr: p.Addr, pid: p.PID(), bare: true, tls: setup.Cert != "", close: p.Close}, nil
}

// hark starts a server with a folder of its own.
func (b *bench) hark(ctx context.Context, flags ...string) (*target, error) {
	b.starts++
	data := fmt.Sprintf("%s/data%d", b.Dir, b.starts)
	s, err := b.Start(ctx, data, append([]string{"--key-rate=-1"}, flags...)...)
	if err != nil {
		return nil, err
	}
	b.counters.Reset()
	t := &target{addr: s.Setup.Addr, pid: s.PID(), key: s.Key, header: "Authorization: Bearer " + s.Key + "\r\n", api: s.API()}
	t.close = func() {
		s.Kill()
		os.RemoveAll(data)
	}
	return t, nil
}

// harkTLS starts a server behind TLS. A second plain one does not exist: what asks it asks over TLS too.
func (b *bench) harkTLS(ctx context.Context) (*target, error) {
	b.starts++
	data := fmt.Sprintf("%s/data%d", b.Dir, b.starts)
	addr, err := testenv.FreePort()
	if err != nil {
		return nil, err
	}
	setup := testenv.Setup{Data: data, Addr: addr, Flags: append([]string{"--key-rate=-1", "--log-level=warn", "--tls-cert=" + b.cert, "--tls-key=" + b.key}, strings.Fields(b.Flags)...)}
	s, err := testenv.Launch(b.Bin, setup)
	if err != nil {
		return nil, err
	}
	t := &target{addr: addr, pid: s.PID(), tls: true}
	t.close = func() {
		s.Kill()
		os.RemoveAll(data)
	}
	if t.key, err = readyTLS(ctx, s); err != nil {
		t.close()
		return nil, fmt.Errorf("%w\n%s", err, s.Output())
	}
	b.counters.Reset()
	t.header = "Authorization: Bearer " + t.key + "\r\n"
	return t, nil
}

// subscribers starts a process of them, connects them and returns when all are live.
func (b *bench) subscribers(t *target, setup rig.Subscribers) (*rig.SubscriberProcess, error) {
	p, err := b.newSubscribers(t, setup)
	if err != nil {
		return nil, err
	}
	if err = p.Connect(); err == nil {
		_, err = p.Until(60*time.Second, func(r rig.SubscriberReport) bool { return r.Live == setup.Count })
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return p, nil
}

// newSubscribers starts a process of them. Nothing connects yet.
func (b *bench) newSubscribers(t *target, setup rig.Subscribers) (*rig.SubscriberProcess, error) {
	setup.Counters, setup.Addr, setup.Prefix, setup.TLS = cmp.Or(setup.Counters, b.path), t.addr, prefix, t.tls
	if setup.Header == "" && setup.Tokens.Alg == "" {
		setup.Header = t.header
	}
	if setup.Target == "" {
		setup.Target = "/v1/stream?topic={topic}"
	}
	if setup.Threads == 0 {
		setup.Threads = b.threads
	}
	b.starts++
	setup.Source = 10 + b.starts%200
	return rig.StartSubscribers(setup)
}

// load completes what a publisher does.
func (b *bench) load(t *target, l rig.Load) rig.Load {
	l.Counters, l.Addr, l.Key, l.Bare, l.TLS = b.path, t.addr, t.key, t.bare, t.tls
	l.Prefix, l.Batch, l.Topics = prefix, max(l.Batch, 1), max(l.Topics, 1)
	if l.Size == 0 {
		l.Size = eventSize
	}
	return l
}

// publishAll publishes n events in batches, and returns the position before them.
func (b *bench) publishAll(ctx context.Context, t *target, n, topics int) (after string, err error) {
	var marker struct{ ID string }
	if err := t.api.Call(ctx, http.MethodPost, "/v1/events", map[string]any{"topic": "marker", "data": 1}, &marker); err != nil {
		return "", err
	}
	// Batches are whole multiples of the topics, or the other way around, so that each topic gets as many.
	const batch = 500
	if n%batch != 0 {
		return "", fmt.Errorf("%d events are no whole batches", n)
	}
	p, err := rig.StartPublisher(b.load(t, rig.Load{Topics: topics, Batch: batch, Conns: 4, Count: int64(n)}))
	if err != nil {
		return "", err
	}
	defer p.Close()
	for {
		r, err := p.Report()
		switch {
		case err != nil:
			return "", err
		case r.Refused > 0:
			return "", fmt.Errorf("%d requests were refused: %s", r.Refused, r.Example)
		case r.Acked == uint64(n):
			return marker.ID, nil
		}
		if err := rig.Sleep(ctx, 20*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// pair measures a bare program, and then Hark.
func (b *bench) pair(ctx context.Context, bare rig.BareLive, do func(*target) error) error {
	t, err := b.bareLive(bare)
	if err != nil {
		return err
	}
	err = do(t)
	t.close()
	if err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	return b.onHark(ctx, do)
}

// onHark measures Hark on a folder of its own.
func (b *bench) onHark(ctx context.Context, do func(*target) error, flags ...string) error {
	if b.bare {
		return nil
	}
	t, err := b.hark(ctx, flags...)
	if err != nil {
		return err
	}
	defer t.close()
	return do(t)
}

// pairTLS is the same behind TLS, against a plain handler.
func (b *bench) pairTLS(ctx context.Context, do func(*target) error) error {
	t, err := b.bareLive(rig.BareLive{Mode: rig.LivePlain, Cert: b.cert, Key: b.key})
	if err != nil {
		return err
	}
	err = do(t)
	t.close()
	if err != nil {
		return fmt.Errorf("plain handler, TLS: %w", err)
	}
	if b.bare {
		return nil
	}
	if t, err = b.harkTLS(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	defer t.close()
	if err = do(t); err != nil {
		err = fmt.Errorf("TLS: %w", err)
	}
	return err
}

// note adds a value to a row, as ours or as its bound.
func (b *bench) note(t *target, name, unit string, bar rig.Bar, v float64) {
	if t.bare {
		b.bound(name, unit, bar, v)
	} else {
		b.ours(name, unit, bar, v)
	}
}

// profileServer writes a profile of the server while it is measured, if one is asked for; the
// channel is closed when it is there.
func (b *bench) profileServer(ctx context.Context, t *target, d time.Duration) <-chan struct{} {
	if t.bare || t.tls {
		done := make(chan struct{})
		close(done)
		return done
	}
	b.profiles++
	return b.ProfileServer(ctx, fmt.Sprintf("%s-%d", b.name, b.profiles), d)
}

var keyText = regexp.MustCompile(`\bhk_[A-Za-z0-9_-]{16,}`)

// readyTLS waits until a server behind TLS is ready, and returns its first key.
func readyTLS(ctx context.Context, s *testenv.Server) (string, error) {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for start := time.Now(); time.Since(start) < 30*time.Second; {
		resp, err := client.Get("https://" + s.Setup.Addr + "/readyz")
		if err == nil {
			resp.Body.Close()
			if key := keyText.FindString(s.Output()); key != "" && resp.StatusCode == http.StatusOK {
				return key, nil
			}
		}
		if err := rig.Sleep(ctx, 10*time.Millisecond); err != nil {
			return "", err
		}
	}
	return "", errors.New("hark serve behind TLS is not ready after 30 s")
}
