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
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

// options are the flags.
type options struct {
	short   bool
	runs    int
	steady  time.Duration
	warm    time.Duration
	conns   int
	size    int
	json    string
	bin     string
	dir     string
	flags   string
	profile string
}

func parseOptions() options {
	var o options
	flag.BoolVar(&o.short, "short", false, "a first look: 1 run of 5 s")
	flag.IntVar(&o.runs, "runs", 5, "runs; the medians count")
	flag.DurationVar(&o.steady, "steady", 15*time.Second, "how long each measurement is")
	flag.DurationVar(&o.warm, "warm", 2*time.Second, "load before each measurement")
	flag.IntVar(&o.conns, "conns", 64, "the sender's connections")
	flag.IntVar(&o.size, "size", 8<<10, "bytes of a body")
	flag.StringVar(&o.json, "json", "", "also write the result, with every run, to this file")
	flag.StringVar(&o.bin, "bin", "", "the hark binary (built when empty)")
	flag.StringVar(&o.dir, "dir", "", "folder for data (a temporary one when empty)")
	flag.StringVar(&o.flags, "flags", "", "more flags for hark serve, apart by spaces")
	flag.StringVar(&o.profile, "profile", "", "write a processor profile of the server at saturation to this file")
	flag.Parse()
	if o.short {
		o.runs, o.steady = 1, 5*time.Second
	}
	return o
}

const secret = "a-long-secret-that-nobody-guesses"

// bench is what the runs share.
type bench struct {
	options
	counters string
	debug    string // address of the server's profiles

	rate, latency, cpu, others rig.Figure
}

func main() {
	rig.Roles()
	o := parseOptions()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	result, err := measure(ctx, o)
	if result != nil {
		result.WriteTable(os.Stdout)
		if o.json != "" && err == nil {
			err = result.WriteFile(o.json)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/ingest:", err)
		os.Exit(1)
	}
	if n := result.Failed(); n > 0 {
		fmt.Printf("\n%d figures fail\n", n)
		os.Exit(1)
	}
}

func measure(ctx context.Context, o options) (*rig.Result, error) {
	dir, err := os.MkdirTemp(o.dir, "hark-bench-ingest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, counters: filepath.Join(dir, "counters"),
		rate: rig.Figure{Name: "signed webhooks, synced", Unit: "answered/s", Bar: rig.Bar{RatioAtLeast: 0.6},
			Note: "bound: net/http that reads the body and computes the HMAC"},
		latency: rig.Figure{Name: "answer p99 at half of saturation", Unit: "ms", Bar: rig.Bar{AtMost: 10}},
		cpu:     rig.Figure{Name: "processor at saturation", Unit: "s per 1000"},
		others:  rig.Figure{Name: "other programs meanwhile", Unit: "cores", Note: "figures are only good when this is near 0"},
	}
	if b.bin == "" {
		if b.bin, err = testenv.Build(ctx, dir); err != nil {
			return nil, err
		}
	}
	result := &rig.Result{Machine: rig.ThisMachine(dir), Setup: fmt.Sprintf("hark serve, one source of scheme github, bodies of %d B, %d connections; %d runs of %v", b.size, b.conns, b.runs, b.steady)}
	for run := range b.runs {
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

	setup := testenv.Setup{Data: data, Flags: append([]string{"--source-rate=-1", "--log-level=warn"}, strings.Fields(b.flags)...)}
	if b.profile != "" {
		addr, err := testenv.FreePort()
		if err != nil {
			return err
		}
		setup.Flags = append(setup.Flags, "--debug-addr="+addr)
		b.debug = addr
	}
	s, err := testenv.Start(ctx, b.bin, setup)
	if err != nil {
		return err
	}
	defer s.Kill()
	path, err := addSource(ctx, s.API())
	if err != nil {
		return err
	}
	profiled := b.profileServer(ctx)
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
	if err := rig.Sleep(ctx, b.steady); err != nil {
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

// profileServer writes a processor profile while the load is measured, if one is asked for.
func (b *bench) profileServer(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if b.profile == "" || rig.Sleep(ctx, b.warm) != nil {
			return
		}
		debug := testenv.API{Base: "http://" + b.debug, Client: &http.Client{}}
		answer, err := debug.Do(ctx, "GET", fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(b.steady.Seconds())-1)), nil)
		if err == nil {
			err = os.WriteFile(b.profile, answer.Body, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "no profile:", err)
		}
	}()
	return done
}
