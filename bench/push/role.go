package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/webpush"
	xrate "golang.org/x/time/rate"
)

// What is measured runs in a child, which is this program with a role.

const roleArg = "push-role"

// roleSetup is what a child is told.
type roleSetup struct {
	Role    string
	Workers int
	Cores   int // 0 for all
	For     time.Duration
	Rate    float64 // a second; 0 for as many as go
	Sink    string
	Cert    []byte // the sink's, DER
	Profile string
}

// count is what a child measured.
type count struct {
	Count   float64 `json:"count"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu"` // seconds
	// All counts what was sent before and after, too.
	All int64 `json:"all"`
}

func (c *count) rate() float64 { return c.Count / c.Seconds }

// child runs a role to its end.
func (b *bench) child(ctx context.Context, setup roleSetup) (c count, err error) {
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	setup.For = max(setup.For, b.Steady)
	text, err := json.Marshal(setup)
	if err != nil {
		return c, err
	}
	cmd := exec.CommandContext(ctx, self, roleArg, string(text))
	cmd.Stderr = os.Stderr
	if setup.Cores > 0 {
		cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(setup.Cores))
	}
	out, err := cmd.Output()
	if err != nil {
		return c, fmt.Errorf("%s: %w", setup.Role, err)
	}
	return c, json.Unmarshal(out, &c)
}

// playRole plays a role and ends the process, in a child.
func playRole() {
	if len(os.Args) != 3 || os.Args[1] != roleArg {
		return
	}
	if err := play([]byte(os.Args[2])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func play(text []byte) error {
	var setup roleSetup
	if err := json.Unmarshal(text, &setup); err != nil {
		return err
	}
	if setup.Role == "sink" {
		return serveSink()
	}
	roles := map[string]func(roleSetup) (func(worker int) error, error){"seal": sealRole, "send": sendRole, "post": postRole, "loop": loopRole}
	one, err := roles[setup.Role](setup)
	if err != nil {
		return err
	}
	if setup.Rate > 0 {
		one = paced(one, setup.Rate)
	}
	c, err := run(setup, one)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(c)
}

// run lets workers do one after the other, and counts what they do after a warm-up.
func run(setup roleSetup, one func(worker int) error) (count, error) {
	var n atomic.Int64
	var stop atomic.Bool
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for w := range setup.Workers {
		wg.Go(func() {
			for !stop.Load() {
				if err := one(w); err != nil {
					failed.Store(&err)
					return
				}
				n.Add(1)
			}
		})
	}
	time.Sleep(setup.For / 5)
	if setup.Profile != "" {
		f, err := os.Create(setup.Profile)
		if err != nil {
			return count{}, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return count{}, err
		}
		defer pprof.StopCPUProfile()
	}
	before, cpu, start := n.Load(), cpuSeconds(), time.Now()
	time.Sleep(setup.For)
	c := count{Count: float64(n.Load() - before), Seconds: time.Since(start).Seconds(), CPU: cpuSeconds() - cpu}
	stop.Store(true)
	wg.Wait()
	c.All = n.Load()
	if err := failed.Load(); err != nil {
		return c, *err
	}
	return c, nil
}

// paced does so many a second at most.
func paced(one func(int) error, rate float64) func(int) error {
	l := xrate.NewLimiter(xrate.Limit(rate), 1)
	return func(w int) error {
		if err := l.Wait(context.Background()); err != nil {
			return err
		}
		return one(w)
	}
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// devices are enough that no two messages in a row go to one.
const devices = 1000

func subscriptions(origin string) []webpush.Subscription {
	all := make([]webpush.Subscription, devices)
	for i := range all {
		all[i] = webpush.NewReceiverKey().Subscription(origin + "/p/" + fmt.Sprintf("%043d", i))
	}
	return all
}

// sealRole seals and signs.
func sealRole(setup roleSetup) (func(int) error, error) {
	all := subscriptions("https://push.example.net")
	sealer, signer, key := webpush.NewSealer(0), webpush.NewSigner(), webpush.GenerateKey()
	next := make([]int, setup.Workers*16) // apart from each other
	return func(w int) error {
		next[w*16]++
		to := &all[(w*31+next[w*16])%devices]
		_, err1 := sealer.Seal(nil, to, []byte(text), 0)
		_, err2 := signer.Authorization(key, "mailto:push@hark.dev", "https://push.example.net", time.Now())
		return errors.Join(err1, err2)
	}, nil
}

// taker answers 201 at once.
type taker struct{}

func (taker) Do(_ context.Context, req *http.Request, _ int) (egress.Response, error) {
	req.Body.Close()
	return egress.Response{Status: 201, Header: http.Header{}}, nil
}

// sendRole does all of a send but the network.
func sendRole(setup roleSetup) (func(int) error, error) {
	return senderRole(setup, taker{}, "https://push.example.net")
}

// postRole does all of it.
func postRole(setup roleSetup) (func(int) error, error) {
	roots, err := rootsOf(setup.Cert)
	if err != nil {
		return nil, err
	}
	guard := egress.Guard{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	client, err := egress.New(egress.Config{Guard: guard, RootCAs: roots})
	if err != nil {
		return nil, err
	}
	return senderRole(setup, client, "https://"+setup.Sink)
}

func senderRole(setup roleSetup, client push.Doer, origin string) (func(int) error, error) {
	sender := push.New(push.Config{Client: client, Subject: "mailto:push@hark.dev"})
	all := subscriptions(origin)
	targets := make([]*hark.Device, devices)
	for i := range all {
		canonical, err := all[i].MarshalJSON()
		if err != nil {
			return nil, err
		}
		targets[i] = &hark.Device{ID: hark.DeviceID(i + 1), Kind: "webpush", Subscription: canonical}
	}
	a := &hark.Destination{ID: 1, Revision: 1, Kind: hark.AudienceKind, Settings: json.RawMessage("{}"),
		Secrets: []hark.SigningSecret{{Value: hark.Secret(webpush.GenerateKey().Reveal())}}}
	e := &hark.Event{Topic: "user.42.chat", ContentType: "application/json", Received: time.Now(),
		Data: []byte(`{"title":"Ann Lee","body":"are you there? we start in five minutes, room 7","link":"/chat/7","collapse":"chat.7"}`)}
	c, err := push.Compose(e, nil)
	if err != nil {
		return nil, err
	}
	next := make([]int, setup.Workers*16)
	return func(w int) error {
		next[w*16]++
		d := targets[(w*31+next[w*16])%devices]
		if r := sender.Send(context.Background(), a, d, c, time.Now()); r.Outcome != push.Accepted {
			return fmt.Errorf("outcome %d: %d %s %s", r.Outcome, r.Status, r.Code, r.Error)
		}
		return nil
	}, nil
}

// loopRole is a bare client that posts the bytes of a sealed message, always the same.
func loopRole(setup roleSetup) (func(int) error, error) {
	roots, err := rootsOf(setup.Cert)
	if err != nil {
		return nil, err
	}
	to := webpush.NewReceiverKey().Subscription("https://" + setup.Sink + "/p/0123456789")
	body, err := webpush.NewSealer(0).Seal(nil, &to, []byte(text), 0)
	if err != nil {
		return nil, err
	}
	authorization, err := webpush.NewSigner().Authorization(webpush.GenerateKey(), "mailto:push@hark.dev", "https://"+setup.Sink, time.Now())
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	post := func(int) error {
		req, err := http.NewRequest(http.MethodPost, to.Endpoint, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header = http.Header{"Authorization": {authorization}, "Content-Encoding": {"aes128gcm"}, "Content-Type": {"application/octet-stream"}, "Ttl": {"2419200"}, "Topic": {"chat.7"}}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != 201 || res.ProtoMajor != 2 {
			return fmt.Errorf("the sink answered %s %s", res.Proto, res.Status)
		}
		_, err = io.Copy(io.Discard, res.Body)
		return err
	}
	return post, post(0) // one connection before there are many messages
}

func rootsOf(der []byte) (*x509.CertPool, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return roots, nil
}
