package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
	"github.com/harkhq/hark/internal/webpush"
)

// measureAudience registers all devices with a whole server, and pushes an event to all of them
// beside another tenant's events, once for each run.
func (b *bench) measureAudience(ctx context.Context) error {
	sink, err := startSink(ctx)
	if err != nil {
		return err
	}
	defer sink.close()
	ca := filepath.Join(b.Dir, "sink.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sink.Cert}), 0o600); err != nil {
		return err
	}
	s, err := b.Start(ctx, filepath.Join(b.Dir, "data"), "--allow-cidr=127.0.0.0/8", "--outbound-ca="+ca)
	if err != nil {
		return err
	}
	defer s.Stop(20 * time.Second)
	a := &audience{bench: b, sink: sink, server: s, counters: filepath.Join(b.Dir, "counters")}
	if err := a.register(ctx); err != nil {
		return err
	}
	rss, err := testenv.RSS(s.PID())
	if err != nil {
		return err
	}
	b.memory.Ours = append(b.memory.Ours, float64(rss)/1e6)
	for run := range b.Runs {
		rig.Say("audience, run %d", run+1)
		if err := a.run(ctx, run); err != nil {
			return err
		}
	}
	return nil
}

// audience is a server with its devices.
type audience struct {
	*bench
	sink     *sink
	server   *testenv.Server
	counters string
	other    string // a key of the other tenant
}

// keys is how many key pairs the browsers share: the sink opens nothing.
const keys = 1000

func (a *audience) register(ctx context.Context) error {
	api := a.server.API()
	all := make([]webpush.Subscription, keys)
	for i := range all {
		all[i] = webpush.NewReceiverKey().Subscription("")
	}
	start := time.Now()
	const at = 500
	for first := 0; first < a.devices; first += at {
		var batch []map[string]any
		for i := first; i < min(first+at, a.devices); i++ {
			sub := all[i%keys]
			sub.Endpoint = fmt.Sprintf("https://%s/p/%043d", a.sink.Addr, i)
			batch = append(batch, map[string]any{"kind": "webpush", "user": strconv.Itoa(i), "topics": []string{"all.>", "user." + strconv.Itoa(i) + ".>"}, "subscription": sub})
		}
		if err := api.Call(ctx, "POST", "/v1/devices", batch, nil); err != nil {
			return fmt.Errorf("registering devices: %w", err)
		}
	}
	rig.Say("%s devices registered in %v", rig.Number(float64(a.devices)), time.Since(start).Round(time.Second))
	if err := api.Call(ctx, "POST", "/v1/tenants", map[string]any{"name": "other"}, nil); err != nil {
		return err
	}
	var made struct{ Key string }
	err := api.Call(ctx, "POST", "/v1/keys", map[string]any{"tenant": "other", "scopes": []string{"publish"}}, &made)
	a.other = made.Key
	return err
}

// run measures the other tenant alone, then beside one event that goes to all devices.
func (a *audience) run(ctx context.Context, run int) error {
	p, err := rig.StartPublisher(rig.Load{Counters: a.counters, Addr: a.server.Setup.Addr, Key: a.other, Prefix: "orders", Topics: 10, Size: 512, Batch: 1, Conns: 16, Rate: a.rate})
	if err != nil {
		return err
	}
	defer p.Stop()
	if err := rig.Sleep(ctx, time.Second); err != nil {
		return err
	}
	if _, err := p.Mark(); err != nil {
		return err
	}
	if err := rig.Sleep(ctx, max(a.Steady, 5*time.Second)); err != nil {
		return err
	}
	alone, err := p.Report()
	if err != nil {
		return err
	}
	if err := a.runBare(ctx, p, run, alone); err != nil {
		return err
	}
	if _, err := p.Mark(); err != nil {
		return err
	}
	before, err := a.sink.taken()
	if err != nil {
		return err
	}
	profiled := a.ProfileServer(ctx, fmt.Sprintf("audience-%d", run), time.Duration(2+a.devices/20_000)*time.Second)
	start := time.Now()
	if _, err := a.server.API().Publish(ctx, map[string]any{"topic": "all.news", "data": json.RawMessage(`{"title":"Ann Lee","body":"are you there? we start in five minutes, room 7","link":"/chat/7","collapse":"chat.7"}`)}); err != nil {
		return err
	}
	took, peak, err := a.arrive(ctx, before, start)
	if err != nil {
		return err
	}
	beside, err := p.Report()
	if err != nil {
		return err
	}
	if beside.Refused > 0 {
		return fmt.Errorf("the other tenant's publishes were refused: %s", beside.Example)
	}
	rate := float64(a.devices) / took.Seconds()
	p99, p99Alone := rig.Milliseconds(beside.Latency.Quantile(0.99)), rig.Milliseconds(alone.Latency.Quantile(0.99))
	a.fan.Ours, a.peak.Ours = append(a.fan.Ours, rate), append(a.peak.Ours, float64(peak)/1e6)
	if run < len(a.post.Ours) {
		a.fan.Bound = append(a.fan.Bound, a.post.Ours[run])
	}
	a.publish.Ours, a.publish.Bound = append(a.publish.Ours, p99), append(a.publish.Bound, p99Alone)
	rig.Say("audience  %s/s, %.0f MB at most; publish p99 %.2f ms, alone %.2f ms", rig.Number(rate), float64(peak)/1e6, p99, p99Alone)
	<-profiled
	return a.delivered(ctx)
}

// runBare measures the other tenant beside a bare loop, which tells what of it is ours, and what
// anybody's who sends so much from these processors.
func (a *audience) runBare(ctx context.Context, p *rig.Publisher, run int, alone rig.LoadReport) error {
	if run >= len(a.post.Ours) {
		return nil
	}
	if _, err := p.Mark(); err != nil {
		return err
	}
	loop, err := a.child(ctx, roleSetup{Role: "loop", Workers: a.workers, Sink: a.sink.Addr, Cert: a.sink.Cert, For: 5 * time.Second, Rate: 0.8 * a.post.Ours[run]})
	if err != nil {
		return err
	}
	beside, err := p.Report()
	if err != nil {
		return err
	}
	p99, p99Alone := rig.Milliseconds(beside.Latency.Quantile(0.99)), rig.Milliseconds(alone.Latency.Quantile(0.99))
	a.beside.Ours, a.beside.Bound = append(a.beside.Ours, p99), append(a.beside.Bound, p99Alone)
	rig.Say("bare loop %s/s; publish p99 %.2f ms", rig.Number(loop.rate()), p99)
	return nil
}

// watchEvery is how often the server's memory is looked at: reading it of all its threads takes a
// processor for a millisecond, before which everything else stands that is measured.
const watchEvery = time.Second

// arrive waits until each device has its message, and watches the server's memory meanwhile.
func (a *audience) arrive(ctx context.Context, before int64, start time.Time) (took time.Duration, peak int64, err error) {
	deadline := start.Add(time.Duration(a.devices)*time.Millisecond + 30*time.Second)
	for watched := -watchEvery; ; {
		n, err := a.sink.taken()
		if err != nil {
			return 0, 0, err
		}
		took = time.Since(start)
		if took-watched >= watchEvery {
			rss, err := testenv.RSSWithChildren(a.server.PID())
			if err != nil {
				return 0, 0, err
			}
			peak, watched = max(peak, rss), took
		}
		switch got := n - before; {
		case got > int64(a.devices):
			return 0, 0, fmt.Errorf("%d messages came to %d devices", got, a.devices)
		case got == int64(a.devices):
			return took, peak, nil
		case time.Now().After(deadline):
			return 0, 0, fmt.Errorf("only %d of %d messages came: %s", got, a.devices, a.server.Output())
		}
		if err := rig.Sleep(ctx, 20*time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
}

// delivered waits until the delivery is over and says that every device has taken it.
func (a *audience) delivered(ctx context.Context) error {
	for end := time.Now().Add(30 * time.Second); ; {
		var page struct {
			Deliveries []struct{ State string }
		}
		answer, err := a.server.API().Do(ctx, "GET", "/v1/deliveries?limit=1", nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(answer.Body, &page); err != nil {
			return err
		}
		if len(page.Deliveries) > 0 && page.Deliveries[0].State == "delivered" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the delivery is not over: %s", strings.TrimSpace(string(answer.Body)))
		}
		if err := rig.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
