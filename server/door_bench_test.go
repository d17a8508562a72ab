//go:build unix

package server

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/ingest"
	"github.com/harkhq/hark/internal/scheme"
)

// benchSecret signs what the benchmark sends.
const benchSecret = "a-long-secret-that-nobody-guesses"

// BenchmarkDoor tells what the door costs a request without the log: processor time of the whole
// process for signed GitHub webhooks of 8 KB over loopback, beside a program that only reads the body
// and computes the HMAC. Both get them in turn, from a sender in a process of its own.
//
//	go test ./server -run '^$' -bench Door -benchtime 40x -cpuprofile door.pprof
func BenchmarkDoor(b *testing.B) {
	const round = 4000
	bare := startBenchRole(b, "bare")
	bareAddr := bare.line()
	addr, path := startBenchDoor(b)
	sender := startBenchRole(b, "sender")
	send := func(addr, path string, n int) {
		if got := sender.ask(fmt.Sprint(addr, " ", path, " ", n)); got != "ok" {
			b.Fatal(got)
		}
	}
	send(addr, path, 4*round)
	send(bareAddr, "/", 2*round)
	var ours, theirs []float64
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		start := bare.cpu()
		send(bareAddr, "/", round)
		theirs = append(theirs, (bare.cpu()-start)/round/1000)
		start = benchCPU()
		send(addr, path, round)
		ours = append(ours, (benchCPU()-start)/round/1000)
	}
	runtime.ReadMemStats(&after)
	n := float64(len(ours) * round)
	slices.Sort(ours)
	slices.Sort(theirs)
	b.ReportMetric(theirs[len(theirs)/2], "bare-µs")
	b.ReportMetric(ours[len(ours)/2], "door-µs")
	b.ReportMetric(ours[len(ours)/2]/theirs[len(theirs)/2], "ratio")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "mallocs")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "bytes")
	b.ReportMetric(0, "ns/op")
}

// benchCPU is what this process has used, in nanoseconds.
func benchCPU() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

// promptLog answers at once, and keeps the newest events as the tail of a log does.
type promptLog struct {
	mu   sync.Mutex // guards below
	tail [4096]hark.Event
	n    int
}

// Append implements ingest.Log.
func (l *promptLog) Append(_ context.Context, _ hark.TenantID, events []hark.Event, _ eventlog.Idempotency) (eventlog.Appended, error) {
	if err := events[0].Check(hark.MaxEventBytes); err != nil {
		return eventlog.Appended{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail[l.n%len(l.tail)] = events[0]
	l.n++
	return eventlog.Appended{First: hark.EventID{Shard: 1, Incarnation: 1, Offset: hark.Offset(l.n)}, Count: 1}, nil
}

// startBenchDoor runs a server whose door leads to a promptLog.
func startBenchDoor(b *testing.B) (addr, path string) {
	s, err := New(Config{Addr: "127.0.0.1:0", Data: b.TempDir(), SourceRate: -1, LogLevel: "warn", DiskFloor: -1})
	if err != nil {
		b.Fatal(err)
	}
	s.door = ingest.New(ingest.Config{
		Sources: s.registry, Log: &promptLog{}, Recorder: recorderOfDoor{s.captures}, Front: s.front,
		Schemes: &scheme.Env{}, Admit: s.admit, Problem: s.refuse, Hooks: s.doorHooks(),
	})
	s.http.Handler = s.handler(s.api())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-done
	})
	made, err := s.registry.CreateSource(hark.DefaultTenant, &hark.Source{Scheme: "github",
		Secrets: []hark.SigningSecret{{Value: benchSecret}}, RateLimit: 1e6, Concurrency: 1000})
	if err != nil {
		b.Fatal(err)
	}
	return s.Addr(), "/in/" + made.Token
}

// benchRole is a process of this test's binary that is something else.
type benchRole struct {
	b   *testing.B
	in  io.Writer
	out *bufio.Reader
}

const benchRoleVariable = "HARK_BENCH_ROLE"

// TestMain is also what the roles run.
func TestMain(m *testing.M) {
	switch os.Getenv(benchRoleVariable) {
	case "bare":
		bareRole()
	case "sender":
		senderRole()
	default:
		os.Exit(m.Run())
	}
}

func startBenchRole(b *testing.B, name string) *benchRole {
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), benchRoleVariable+"="+name), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &benchRole{b, in, bufio.NewReader(out)}
}

func (r *benchRole) line() string {
	text, err := r.out.ReadString('\n')
	if err != nil {
		r.b.Fatal(err)
	}
	return strings.TrimSpace(text)
}

func (r *benchRole) ask(text string) string {
	fmt.Fprintln(r.in, text)
	return r.line()
}

func (r *benchRole) cpu() float64 {
	n, err := strconv.ParseFloat(r.ask("cpu"), 64)
	if err != nil {
		r.b.Fatal(err)
	}
	return n
}

// bareRole is the least that a Go server can do. It tells its address, and its processor time for every line.
func bareRole() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mac := hmac.New(sha256.New, []byte(benchSecret))
		mac.Write(body)
		sum, _ := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256="))
		if !hmac.Equal(sum, mac.Sum(nil)) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	fmt.Println(l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(benchCPU())
	}
}

// senderRole sends as many requests as a line says, over 64 connections that it keeps.
func senderRole() {
	body := []byte(`{"ref":"refs/heads/main","pad":"` + strings.Repeat("abcdefghijklmnop", 509) + `"}`)
	mac := hmac.New(sha256.New, []byte(benchSecret))
	mac.Write(body)
	after := fmt.Sprintf("\r\nX-GitHub-Event: push\r\nX-GitHub-Hook-ID: 292430182\r\nX-GitHub-Hook-Installation-Target-ID: 79929171\r\n"+
		"X-GitHub-Hook-Installation-Target-Type: repository\r\nX-Hub-Signature-256: sha256=%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		hex.EncodeToString(mac.Sum(nil)), len(body), body)
	conns := map[string][]net.Conn{}
	var number atomic.Int64
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var addr, path string
		var n int64
		fmt.Sscan(in.Text(), &addr, &path, &n)
		before := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nAccept: */*\r\nX-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-", path, addr)
		for len(conns[addr]) < 64 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				panic(err)
			}
			conns[addr] = append(conns[addr], c)
		}
		var left atomic.Int64
		var fault atomic.Value
		var wg sync.WaitGroup
		left.Store(n)
		for _, c := range conns[addr] {
			wg.Go(func() {
				out, answer := []byte(nil), make([]byte, 4096)
				for left.Add(-1) >= 0 {
					out = fmt.Appendf(append(out[:0], before...), "%012d%s", number.Add(1), after)
					if _, err := c.Write(out); err != nil {
						fault.Store(err.Error())
						return
					}
					// An answer has no body, and comes in one piece over loopback.
					if n, err := c.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200 ") {
						fault.Store(fmt.Sprintf("%q %v", answer[:n], err))
						return
					}
				}
			})
		}
		wg.Wait()
		if why := fault.Load(); why != nil {
			fmt.Println(why)
		} else {
			fmt.Println("ok")
		}
	}
}
