package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/internal/webpush"
)

// text is what each message says: a chat message as our service worker shows it.
const text = `{"web_push":8030,"notification":{"title":"Ann Lee","body":"are you there? we start in five minutes, room 7","navigate":"/chat/7","tag":"chat.7"},"hark":{"event":"evt_00000000000000001f2e3d4c5b6a79","topic":"user.42.chat"}}`

// bench is what the runs share.
type bench struct {
	rig.Common
	workers int
	devices int
	rate    float64 // events a second of the other tenant
	peer    string  // the built webpushgo

	seal, send, post, cpu rig.Figure
	memory, peak, fan     rig.Figure
	publish, beside       rig.Figure
}

func (b *bench) measure(ctx context.Context) (*rig.Result, error) {
	done, err := b.Prepare(ctx, "push")
	if err != nil {
		return nil, err
	}
	defer done()
	b.name()
	result := &rig.Result{Machine: rig.ThisMachine(b.Dir), Setup: fmt.Sprintf("messages of %d B, %d under way; %d runs of %v a part", len(text), b.workers, b.Runs, b.Steady)}
	for run := range b.Runs {
		rig.Say("run %d", run+1)
		if b.Wants("seal") {
			if err = b.measureSeal(ctx); err != nil {
				break
			}
		}
		if b.Wants("post") {
			if err = b.measurePost(ctx, run); err != nil {
				break
			}
		}
	}
	if err == nil && b.Wants("audience") {
		err = b.measureAudience(ctx)
	}
	if b.Wants("seal") {
		result.Figures = append(result.Figures, &b.seal, &b.send)
	}
	if b.Wants("post") {
		result.Figures = append(result.Figures, &b.post, &b.cpu)
	}
	if b.Wants("audience") {
		result.Figures = append(result.Figures, &b.memory, &b.peak, &b.fan, &b.publish, &b.beside)
	}
	return result, err
}

// name says what the figures are.
func (b *bench) name() {
	b.seal = rig.Figure{Name: "seal + sign, one core", Unit: "messages/s", Bar: rig.Bar{RatioAtLeast: 2.3}, Note: "bound: webpush-go's SendNotification with a client that takes everything"}
	b.send = rig.Figure{Name: "  all of a send but the network", Unit: "messages/s", Note: "payload, gate, request, outcome too, a second of the processor; the same bound"}
	b.post = rig.Figure{Name: "seal + sign + POST over HTTP/2", Unit: "messages/s", Bar: rig.Bar{RatioAtLeast: 0.6}, Note: "bound: sealing alone, then a bare net/http loop with the same bytes"}
	b.cpu = rig.Figure{Name: "  processor of the sender", Unit: "s per 1000", Note: "bound: of sealing and of the loop"}
	b.memory = rig.Figure{Name: fmt.Sprintf("memory with %s devices", rig.Number(float64(b.devices))), Unit: "MB", Bar: rig.Bar{AtMost: 400}}
	b.peak = rig.Figure{Name: "  most while all are pushed to", Unit: "MB", Bar: rig.Bar{AtMost: 400}}
	b.fan = rig.Figure{Name: "one event to all of them", Unit: "messages/s", Bar: rig.Bar{RatioAtLeast: 0.8}, Note: "bound: seal + sign + POST, above; to the last arrival"}
	b.publish = rig.Figure{Name: "  publish p99 of another tenant", Unit: "ms", Bar: rig.Bar{RatioAtMost: 2}, Note: fmt.Sprintf("bound: alone; %s events a second", rig.Number(b.rate))}
	b.beside = rig.Figure{Name: "    and beside a bare loop", Unit: "ms", Note: "bound: alone; a net/http loop of another process posts at 0.8 of seal + sign + POST and seals nothing"}
}

// measureSeal compares what a message costs on one core.
func (b *bench) measureSeal(ctx context.Context) error {
	if b.peer == "" {
		path := filepath.Join(b.Dir, "webpushgo")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", path, ".")
		cmd.Dir = filepath.Join("bench", "push", "webpushgo")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building webpushgo, from the project's folder: %w\n%s", err, out)
		}
		b.peer = path
	}
	subscription, err := webpush.NewReceiverKey().Subscription("https://push.example.net/p/0123456789").MarshalJSON()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.peer, "-for", b.Steady.String(), "-text", text, "-subscription", string(subscription))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("webpushgo: %w", err)
	}
	var theirs count
	if err := json.Unmarshal(out, &theirs); err != nil {
		return fmt.Errorf("webpushgo: %w", err)
	}
	bound := theirs.rate()
	for role, f := range map[string]*rig.Figure{"seal": &b.seal, "send": &b.send} {
		ours, err := b.child(ctx, roleSetup{Role: role, Workers: 1, Cores: 1})
		if err != nil {
			return err
		}
		rate := ours.rate()
		if role == "send" { // alone, it rests most of the time: see package push, turn.go
			rate = ours.Count / ours.CPU
		}
		f.Ours, f.Bound = append(f.Ours, rate), append(f.Bound, bound)
		rig.Say("%-5s     %s/s, webpush-go %s/s", role, rig.Number(rate), rig.Number(bound))
	}
	return nil
}

// measurePost compares what goes out to a sink.
func (b *bench) measurePost(ctx context.Context, run int) error {
	s, err := startSink(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	seal, err := b.child(ctx, roleSetup{Role: "seal", Workers: b.workers})
	if err != nil {
		return err
	}
	loop, err := b.child(ctx, roleSetup{Role: "loop", Workers: b.workers, Sink: s.Addr, Cert: s.Cert})
	if err != nil {
		return err
	}
	profile := ""
	if b.Profile != "" {
		profile = filepath.Join(b.Profile, fmt.Sprintf("post-%d.prof", run))
	}
	before, err := s.taken()
	if err != nil {
		return err
	}
	ours, err := b.child(ctx, roleSetup{Role: "post", Workers: b.workers, Sink: s.Addr, Cert: s.Cert, Profile: profile})
	if err != nil {
		return err
	}
	after, err := s.taken()
	if err != nil {
		return err
	}
	if got := after - before; got != ours.All {
		return fmt.Errorf("%d messages were sent and %d arrived", ours.All, got)
	}
	bound := 1 / (1/seal.rate() + 1/loop.rate())
	b.post.Ours, b.post.Bound = append(b.post.Ours, ours.rate()), append(b.post.Bound, bound)
	b.cpu.Ours, b.cpu.Bound = append(b.cpu.Ours, 1000*ours.CPU/ours.Count), append(b.cpu.Bound, 1000*(seal.CPU/seal.Count+loop.CPU/loop.Count))
	rig.Say("post      %s/s; seal alone %s/s, bare loop %s/s: together %s/s", rig.Number(ours.rate()), rig.Number(seal.rate()), rig.Number(loop.rate()), rig.Number(bound))
	return nil
}
