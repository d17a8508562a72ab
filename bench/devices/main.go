// Command devices registers many devices, pushes one event to all of them and watches what
// that does to the rest:
//
//	go run ./bench/devices -hark bin/hark            # 200,000 devices, about two minutes
//
// It tells how long registering takes, what memory the server holds, how fast the push is,
// and the p99 of another tenant's publishing, alone and beside the push.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark/internal/webpush"
)

var (
	harkBin = flag.String("hark", "bin/hark", "the binary")
	devices = flag.Int("n", 200_000, "devices")
	rate    = flag.Int("rate", 200, "publishes per second of the other tenant")
	role    = flag.String("role", "", "internal")
	profile = flag.String("profile", "", "file for a profile of the server's processor while it pushes")
)

func main() {
	flag.Parse()
	if *role == "sink" {
		sink()
		return
	}
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "devices:", err)
		os.Exit(1)
	}
}

// sink answers 201 over HTTP/2, and tells how many it answered.
func sink() {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	os.WriteFile(os.Args[len(os.Args)-1], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	var n atomic.Int64
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprint(w, n.Load())
			return
		}
		io.Copy(io.Discard, r.Body)
		n.Add(1)
		w.WriteHeader(201)
	}), TLSConfig: &tls.Config{NextProtos: []string{"h2"}}}
	p := new(http.Protocols)
	p.SetHTTP2(true)
	s.Protocols = p
	panic(s.Serve(l))
}

type bench struct {
	url, key string
	pid      int
	client   *http.Client
	sink     string
	other    string
}

func (b *bench) call(method, path, key string, body []byte) ([]byte, int, error) {
	req, err := http.NewRequest(method, b.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := b.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return text, res.StatusCode, err
}

func measure() error {
	dir, err := os.MkdirTemp("", "bench-devices-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cert := filepath.Join(dir, "ca.pem")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	sinkCmd := exec.Command(self, "-role", "sink", cert)
	out, _ := sinkCmd.StdoutPipe()
	sinkCmd.Stderr = os.Stderr
	if err := sinkCmd.Start(); err != nil {
		return err
	}
	defer sinkCmd.Process.Kill()
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(strings.TrimSpace(string(line[:n])))
	b := &bench{sink: "https://localhost:" + port, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}}
	cmd := exec.Command(*harkBin, "serve", "--addr", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--allow-cidr", "127.0.0.0/8",
		"--allow-cidr", "::1/128", "--outbound-ca", cert, "--push-subject", "mailto:push@hark-bench.org", "--disk-floor=-1", "--debug-addr", "127.0.0.1:6363")
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return err
	}
	b.pid = cmd.Process.Pid
	defer func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() }()
	for range 300 {
		time.Sleep(50 * time.Millisecond)
		text := log.String()
		key := regexp.MustCompile(`hk_[A-Za-z0-9_]+`).FindString(text)
		addr := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(text)
		if key != "" && addr != "" && strings.Contains(text, "ready") {
			b.key, b.url = key, "http://"+addr
			break
		}
	}
	if b.url == "" {
		return fmt.Errorf("the server did not start:\n%s", log.String())
	}
	return b.run()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (b *bench) rss() int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.pid))
	m := regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	kb, _ := strconv.Atoi(string(m[1]))
	return kb >> 10
}

func (b *bench) run() error {
	text, status, err := b.call("POST", "/v1/tenants", b.key, []byte(`{"name":"other"}`))
	if err != nil || status != 201 {
		return fmt.Errorf("%d %s %v", status, text, err)
	}
	b.other = "other"
	key := webpush.NewReceiverKey()
	sub := key.Subscription("https://x.example/")
	subText, err := json.Marshal(&sub)
	if err != nil {
		return err
	}
	fmt.Printf("memory before: %d MB\n", b.rss())
	began := time.Now()
	if err := b.register(string(subText)); err != nil {
		return err
	}
	took := time.Since(began)
	fmt.Printf("registered %d devices in %v: %.0f/s, memory %d MB\n", *devices, took.Round(time.Millisecond), float64(*devices)/took.Seconds(), b.rss())
	time.Sleep(3 * time.Second)
	alone := b.publish(8*time.Second, nil)
	fmt.Printf("another tenant's publish alone: p50 %v p99 %v\n", quantile(alone, .5), quantile(alone, .99))

	began = time.Now()
	if text, status, err := b.call("POST", "/v1/events", b.key, []byte(`{"topic":"news.all","data":{"title":"To all","body":"`+strings.Repeat("x", 200)+`","link":"/"}}`)); err != nil || status != 201 {
		return fmt.Errorf("%d %s %v", status, text, err)
	}
	if *profile != "" {
		go b.profile()
	}
	var peak, last int
	done := make(chan struct{})
	var beside []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() { beside = b.publish(0, done) })
	for n := 0; n < *devices; {
		time.Sleep(250 * time.Millisecond)
		if n, err = b.received(); err != nil {
			return err
		}
		peak = max(peak, b.rss())
		if n == last && time.Since(began) > time.Minute {
			break
		}
		last = n
	}
	took = time.Since(began)
	close(done)
	wg.Wait()
	fmt.Printf("pushed %d in %v: %.0f/s, memory at most %d MB\n", last, took.Round(time.Millisecond), float64(last)/took.Seconds(), peak)
	fmt.Printf("another tenant's publish beside: p50 %v p99 %v, %.2f times\n", quantile(beside, .5), quantile(beside, .99), float64(quantile(beside, .99))/float64(quantile(alone, .99)))
	metrics, _, err := b.call("GET", "/metrics", b.key, nil)
	for line := range strings.Lines(string(metrics)) {
		if strings.HasPrefix(line, "hark_push") && !strings.Contains(line, "bucket") {
			fmt.Print(line)
		}
	}
	return err
}

func (b *bench) profile() {
	time.Sleep(2 * time.Second)
	res, err := http.Get("http://127.0.0.1:6363/debug/pprof/profile?seconds=8")
	if err == nil {
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		os.WriteFile(*profile, text, 0o600)
	}
}

func (b *bench) received() (n int, err error) {
	res, err := b.client.Get(b.sink)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = fmt.Fscan(res.Body, &n)
	return n, err
}

func (b *bench) register(sub string) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	var failed atomic.Pointer[error]
	for range 8 {
		wg.Go(func() {
			for failed.Load() == nil {
				from := int(next.Add(1000)) - 1000
				if from >= *devices {
					return
				}
				var body strings.Builder
				for i := from; i < min(from+1000, *devices); i++ {
					if i > from {
						body.WriteByte(',')
					}
					fmt.Fprintf(&body, `{"kind":"webpush","user":"%d","topics":["user.%d.>","news.>"],"locale":"en","subscription":%s}`, i, i,
						strings.Replace(sub, "https://x.example/", fmt.Sprintf("%s/wpush/v2/gAAAAABnDevice%0120d", b.sink, i), 1))
				}
				text, status, err := b.call("POST", "/v1/devices", b.key, []byte("["+body.String()+"]"))
				if err == nil && status != 201 {
					err = fmt.Errorf("%d %.300s", status, text)
				}
				if err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// publish publishes as another tenant at a steady rate, for a time or until done, and returns
// how long each took from when it was due.
func (b *bench) publish(d time.Duration, done chan struct{}) (took []time.Duration) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	for i := 0; ; i++ {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(*rate))
		time.Sleep(time.Until(due))
		select {
		case <-done:
			wg.Wait()
			return took
		default:
		}
		if d > 0 && time.Since(began) > d {
			wg.Wait()
			return took
		}
		wg.Go(func() {
			req, _ := http.NewRequest("POST", b.url+"/v1/events", strings.NewReader(`{"topic":"a.b","data":{"n":1}}`))
			req.Header.Set("Authorization", "Bearer "+b.key)
			req.Header.Set("Hark-Tenant", b.other)
			res, err := b.client.Do(req)
			if err != nil {
				return
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			mu.Lock()
			took = append(took, time.Since(due))
			mu.Unlock()
		})
	}
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[int(float64(len(d)-1)*q)].Round(10 * time.Microsecond)
}
