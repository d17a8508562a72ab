// Command ingest measures the door: signed GitHub webhooks of 8 KB into a source, verified
// and synced, against a bare net/http server that only reads the body and computes
// the HMAC. Both get the same requests from the same sender, in turn, and the
// medians of the runs' own ratios count.
//
//	go run ./bench/ingest             # medians of 5 runs of 15 s
//	go run ./bench/ingest -short      # 1 run of 5 s, a first look
//
// Latency is measured at half of the throughput that was found, from the moment at which a
// request should have been sent to its answer.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

// options are the flags.
type options struct {
	rig.Common
	warm  time.Duration
	conns int
	size  int
}

func parseOptions() options {
	var o options
	o.Define("1 run of 5 s")
	flag.IntVar(&o.Runs, "runs", 5, "runs; the medians count")
	flag.DurationVar(&o.Steady, "steady", 15*time.Second, "how long each measurement is")
	flag.DurationVar(&o.warm, "warm", 2*time.Second, "load before each measurement")
	// With 64, half of which wait for a sync, the processors idle an eighth of the time.
	flag.IntVar(&o.conns, "conns", 192, "the sender's connections")
	flag.IntVar(&o.size, "size", 8<<10, "bytes of a body")
	o.DefineProfile()
	o.Parse()
	if o.Short {
		o.Runs, o.Steady = 1, 5*time.Second
	}
	return o
}

const secret = "a-long-secret-that-nobody-guesses"

// bench is what the runs share.
type bench struct {
	options
	counters string

	rate, latency, cpu, others rig.Figure
}

func main() {
	rig.Roles()
	o := parseOptions()
	o.Main("ingest", func(ctx context.Context) (*rig.Result, error) { return measure(ctx, o) })
}

func measure(ctx context.Context, o options) (*rig.Result, error) {
	done, err := o.Prepare(ctx, "ingest")
	if err != nil {
		return nil, err
	}
	defer done()
	dir := o.Dir
	b := &bench{options: o, counters: filepath.Join(dir, "counters"),
		rate: rig.Figure{Name: "signed webhooks, synced", Unit: "answered/s", Bar: rig.Bar{RatioAtLeast: 0.6},
			Note: "bound: net/http that reads the body and computes the HMAC"},
		latency: rig.Figure{Name: "answer p99 at half of saturation", Unit: "ms", Bar: rig.Bar{AtMost: 10}},
		cpu:     rig.Figure{Name: "processor at saturation", Unit: "s per 1000"},
		others:  rig.Others(),
	}
	result := &rig.Result{Machine: rig.ThisMachine(dir), Setup: fmt.Sprintf("hark serve, one source of scheme github, bodies of %d B, %d connections; %d runs of %v", b.size, b.conns, b.Runs, b.Steady)}
	for run := range b.Runs {
		rig.Say("run %d", run+1)
		if err = b.run(ctx, filepath.Join(dir, fmt.Sprint("run", run))); err != nil {
			break
		}
	}
	result.Figures = []*rig.Figure{&b.rate, &b.latency, &b.cpu, &b.others}
	return result, err
}

// run measures bare, ours, and ours at half the rate.
func (b *bench) run(ctx context.Context, data string) error {
	defer os.RemoveAll(data)
	bare, err := rig.StartBareHook(rig.BareHookSetup{Secret: secret})
	if err != nil {
		return err
	}
	bound, err := b.load(ctx, bare.Addr, "/hook", bare.PID(), 0)
	bare.Close()
	if err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	rig.Say("bare      %s/s", rig.Number(bound.rate))

	s, err := b.Start(ctx, data, "--source-rate=-1")
	if err != nil {
		return err
	}
	defer s.Kill()
	path, err := addSource(ctx, s.API())
	if err != nil {
		return err
	}
	profiled := b.ProfileServer(ctx, "ingest", b.warm+b.Steady)
	full, err := b.load(ctx, s.Setup.Addr, path, s.PID(), 0)
	<-profiled
	if err != nil {
		return err
	}
	rig.Say("hark      %s/s, p99 %.2f ms", rig.Number(full.rate), rig.Milliseconds(full.latency.Quantile(0.99)))
	half, err := b.load(ctx, s.Setup.Addr, path, s.PID(), full.rate/2)
	if err != nil {
		return err
	}
	rig.Say("at half   %s/s, p50 %.2f, p99 %.2f ms", rig.Number(half.rate), rig.Milliseconds(half.latency.Quantile(0.5)), rig.Milliseconds(half.latency.Quantile(0.99)))
	b.rate.Ours, b.rate.Bound = append(b.rate.Ours, full.rate), append(b.rate.Bound, bound.rate)
	b.latency.Ours = append(b.latency.Ours, rig.Milliseconds(half.latency.Quantile(0.99)))
	b.latency.Note = fmt.Sprintf("p50 %.2f ms at %s/s", rig.Milliseconds(half.latency.Quantile(0.5)), rig.Number(half.rate))
	b.cpu.Ours, b.cpu.Bound = append(b.cpu.Ours, full.cpu), append(b.cpu.Bound, bound.cpu)
	b.others.Ours = append(b.others.Ours, bound.others, full.others, half.others)
	return nil
}

// addSource makes the source and returns the path of its URL.
func addSource(ctx context.Context, api testenv.API) (string, error) {
	var made struct {
		URL string `json:"url"`
	}
	err := api.Call(ctx, http.MethodPost, "/v1/sources", map[string]any{"scheme": "github", "secret": secret, "rate_limit": 1e6, "concurrency": 1000}, &made)
	if err != nil {
		return "", err
	}
	return made.URL[strings.Index(made.URL, "/in/"):], nil
}

type measured struct {
	rate    float64
	latency *rig.Hist
	cpu     float64 // the server's, in seconds per 1000 answers
	others  float64 // cores that other programs used
}

// load puts a load on a server, at a rate or as fast as it answers, and measures its steady part.
func (b *bench) load(ctx context.Context, addr, path string, pid int, rate float64) (m measured, err error) {
	p, err := rig.StartPublisher(rig.Load{Counters: b.counters, Addr: addr, Size: b.size, Conns: b.conns, Rate: rate, Batch: 1,
		Hook: &rig.Hook{Path: path, Secret: secret}})
	if err != nil {
		return m, err
	}
	defer p.Close()
	if err := rig.Sleep(ctx, b.warm); err != nil {
		return m, err
	}
	before, err := p.Mark()
	if err != nil {
		return m, err
	}
	serverBefore, _ := testenv.CPU(pid)
	busyBefore, _ := testenv.Busy()
	start := time.Now()
	if err := rig.Sleep(ctx, b.Steady); err != nil {
		return m, err
	}
	after, err := p.Report()
	if err != nil {
		return m, err
	}
	took := time.Since(start).Seconds()
	server, err := testenv.CPU(pid)
	if err != nil {
		return m, fmt.Errorf("the server has ended: %w", err)
	}
	busy, err := testenv.Busy()
	if err != nil {
		return m, err
	}
	if after.Refused > 0 || after.Marked == 0 {
		return m, fmt.Errorf("%d answered, %d refused: %s", after.Marked, after.Refused, after.Example)
	}
	m.rate, m.latency = float64(after.Marked)/took, after.Latency
	m.cpu = (server - serverBefore) / float64(after.Marked) * 1000
	m.others = max(0, busy-busyBefore-(server-serverBefore)-(after.CPU-before.CPU)) / took
	_, err = p.Stop()
	return m, err
}
