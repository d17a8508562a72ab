package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
	"github.com/harkhq/hark/internal/webpush"
)

// The worker that pushes to many browsers: it may die, it dies with its server, and nobody notices.

// pushSink is a push service that answers no faster than it is allowed to, and remembers what came.
type pushSink struct {
	origin string
	allow  chan struct{} // one for each answer

	mu   sync.Mutex                // guards below
	open chan struct{}             // closed when it need not wait
	held int                       // messages that wait for their answer
	came map[string]map[string]int // by Topic, how often to each device
}

func newPushSink(t *testing.T, ca *authority) *pushSink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &pushSink{origin: "https://localhost:" + portOf("https://"+l.Addr().String()), allow: make(chan struct{}, 1<<10), open: make(chan struct{}), came: map[string]map[string]int{}}
	server := &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{ca.cert}},
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 250}}
	go server.ServeTLS(l, "", "")
	t.Cleanup(func() { server.Close() })
	return s
}

func (s *pushSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // whoever sent it died in its midst
	}
	if len(body) < 103 || r.ProtoMajor != 2 || r.Header.Get("TTL") == "" || r.Header.Get("Authorization") == "" || r.Header.Get("Content-Encoding") != webpush.AES128GCM {
		http.Error(w, "not a push message", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	topic := r.Header.Get("Topic")
	if s.came[topic] == nil {
		s.came[topic] = map[string]int{}
	}
	s.came[topic][r.URL.Path]++
	s.held++
	open := s.open
	s.mu.Unlock()
	select {
	case <-s.allow:
	case <-open:
	case <-r.Context().Done():
	}
	s.mu.Lock()
	s.held--
	s.mu.Unlock()
	w.Header().Set("Location", "/m/1")
	w.WriteHeader(http.StatusCreated)
}

// release lets it answer at once.
func (s *pushSink) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.open)
}

// hold has it wait again.
func (s *pushSink) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = make(chan struct{})
}

// holds is how many messages wait for their answer.
func (s *pushSink) holds() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// count is to how many devices a message came, and how often it came to one that had it.
func (s *pushSink) count(topic string) (devices, doubled int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.came[topic] {
		devices++
		doubled += n - 1
	}
	return devices, doubled
}

// pushWorld is a server whose devices are at a sink.
type pushWorld struct {
	*world
	sink    *pushSink
	devices int
}

func startPush(t *testing.T, devices int, flags ...string) *pushWorld {
	t.Helper()
	ca := newAuthority(t)
	w := &pushWorld{sink: newPushSink(t, ca), devices: devices}
	w.world = start(t, testenv.Setup{Flags: append([]string{"--key-rate=-1", "--outbound-ca=" + ca.file}, flags...)})
	var keys [50]webpush.Subscription // the sink opens nothing
	for i := range keys {
		keys[i] = webpush.NewReceiverKey().Subscription("")
	}
	const at = 500
	for first := 0; first < devices; first += at {
		var batch []map[string]any
		for i := first; i < min(first+at, devices); i++ {
			sub := keys[i%len(keys)]
			sub.Endpoint = fmt.Sprintf("%s/p/%043d", w.sink.origin, i)
			batch = append(batch, map[string]any{"kind": "webpush", "user": strconv.Itoa(i), "topics": []string{"all.>"}, "subscription": sub})
		}
		w.post("/v1/devices", batch, nil)
	}
	return w
}

// push publishes an event to all devices, which the sink knows by its name.
func (w *pushWorld) push(name string) {
	w.Helper()
	w.publish("all.news", map[string]any{"title": name, "body": "are you there?", "collapse": name})
}

// midst has the sink answer until the worker has been given so many messages more, and some wait
// for their answers now. It returns the worker. When something else takes all processors, it gets
// few messages, or none as it is not even ready, or it is not the first one: then it is not busy.
func (w *pushWorld) midst(more int) (worker int, busy bool) {
	w.Helper()
	before, ended := w.posted("worker"), w.workersEnded()
	start, given := time.Now(), 0
	for {
		n, took := w.posted("worker")-before, time.Since(start)
		all, workers := w.children()
		if busy = n >= more; len(workers) == 1 && (busy || took > enough/6) {
			worker = workers[0]
			break
		}
		if took > enough {
			w.Fatalf("the worker was given %d messages, children are %v, workers %v", n, all, workers)
		}
		// A third of the devices at once, so that most are left; then only what keeps it going.
		room, pause := 16, 20*time.Millisecond
		if given > w.devices/3 {
			room, pause = 1, 50*time.Millisecond
		}
		// They are taken while they are given: never more than that at a time.
		for most := given + room; len(w.sink.allow) < room && given < most; given++ {
			w.sink.allow <- struct{}{}
		}
		time.Sleep(pause)
	}
	for len(w.sink.allow) > 0 {
		select {
		case <-w.sink.allow:
		default:
		}
	}
	eventually(w.T, enough, func() string {
		if n := w.sink.holds(); n < 32 {
			return fmt.Sprintf("only %d messages are under way; posted by the server %d, by a worker %d; again %d", n, w.posted("server"), w.posted("worker"), w.retried())
		}
		return ""
	})
	return worker, busy && w.workersEnded() == ended
}

// workersEnded is how often the server said so.
func (w *pushWorld) workersEnded() int {
	return strings.Count(w.server.Output(), "the push worker ended")
}

// posted is how many messages a process has posted.
func (w *pushWorld) posted(process string) int {
	w.Helper()
	return w.metric(fmt.Sprintf("hark_push_posted_total{process=%q}", process))
}

// retried is how many tries came to nothing and are made again.
func (w *pushWorld) retried() int {
	w.Helper()
	return w.metric(`hark_push_sent_total{outcome="retrying",platform="webpush"}`)
}

// metric is the value of one of the server's metrics, 0 if it is not there yet.
func (w *pushWorld) metric(name string) int {
	w.Helper()
	answer, err := w.api.Do(w.ctx, "GET", "/metrics", nil)
	if err != nil {
		w.Fatal(err)
	}
	for line := range strings.Lines(string(answer.Body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				w.Fatal(err)
			}
			return int(f)
		}
	}
	return 0
}

// process is what the kernel tells of one; ok is false if it is gone.
func process(pid int) (parent int, policy string, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from field 3 on
	if len(fields) < 39 || fields[0] == "Z" || fields[0] == "X" {             // nobody's child is waited for in some containers
		return 0, "", false
	}
	parent, _ = strconv.Atoi(fields[1])
	return parent, fields[38], true
}

// children are the server's, and workers those of them that are.
func (w *pushWorld) children() (all, workers []int) {
	w.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		w.Fatal(err)
	}
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if parent, _, ok := process(pid); !ok || parent != w.server.PID() {
			continue
		}
		all = append(all, pid)
		if line, err := os.ReadFile(dir + "/cmdline"); err == nil && bytes.Contains(line, []byte("push-worker")) { // else it is being started
			workers = append(workers, pid)
		}
	}
	return all, workers
}

// ended waits until a process is gone.
func (w *pushWorld) ended(pid int) {
	w.Helper()
	eventually(w.T, enough, func() string {
		if parent, _, ok := process(pid); ok {
			return fmt.Sprintf("process %d is there, its parent is %d", pid, parent)
		}
		return ""
	})
}

// arrived waits until every device has a message and nothing more comes, and returns how often it
// came again.
func (w *pushWorld) arrived(name string) (again int) {
	w.Helper()
	eventually(w.T, 2*enough, func() string { // what was under way for long when the server ended has a minute
		if n, _ := w.sink.count(name); n < w.devices {
			return fmt.Sprintf("%q came to %d of %d devices", name, n, w.devices)
		}
		return ""
	})
	w.delivered()
	_, again = w.sink.count(name)
	return again
}

// delivered waits until all deliveries are over, and well, and nothing is to be tried again.
func (w *pushWorld) delivered() {
	w.Helper()
	eventually(w.T, 2*enough, func() string {
		var page struct {
			Deliveries []struct{ State string }
		}
		w.get("/v1/deliveries?limit=10", &page)
		if len(page.Deliveries) == 0 {
			return "there is no delivery"
		}
		for _, d := range page.Deliveries {
			if d.State != "delivered" {
				return "a delivery is " + d.State
			}
		}
		if n := w.metric("hark_push_retries_waiting"); n > 0 {
			return fmt.Sprintf("%d messages are to be pushed again", n)
		}
		return ""
	})
}

// TestPushWorkerDies: kill -9 of the worker in the midst of a push is no loss, and the next push has
// another.
func TestPushWorkerDies(t *testing.T) {
	t.Parallel()
	w := startPush(t, 3000)
	if all, _ := w.children(); len(all) > 0 {
		t.Errorf("before anything is pushed, children are %v", all)
	}
	w.push("one")
	worker, busy := w.midst(600)          // more than were under way when it was ready
	eventually(t, enough, func() string { // it may have been started this moment
		if _, policy, ok := process(worker); ok && policy != "5" || !ok && busy {
			return fmt.Sprintf("the worker has policy %s, want SCHED_IDLE", policy)
		}
		return ""
	})
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil && busy {
		t.Fatal(err)
	}
	w.sink.release()
	w.ended(worker)
	again := w.arrived("one")
	if retried := w.retried(); again > 600 || again > retried { // a push service has 256 under way at most
		t.Errorf("it came again %d times, and %d tries came to nothing", again, retried)
	}
	if again == 0 && busy {
		t.Error("nothing came again: the worker had nothing under way")
	}
	if n := w.workersEnded(); n != 1 && (busy || n == 0) {
		t.Errorf("the server says %d times that its worker ended", n)
	}
	here, apart := w.posted("server"), w.posted("worker")
	if here == 0 || apart == 0 && busy || here+apart < w.devices+again {
		t.Errorf("%d posted by the server, %d by the worker", here, apart)
	}

	retried := w.retried()
	w.sink.hold()
	w.push("two")
	if next, _ := w.midst(200); next == worker {
		t.Error("the worker is the same")
	}
	w.sink.release()
	if again := w.arrived("two"); again > w.retried()-retried {
		t.Errorf("the second message came again %d times, %d tries came to nothing", again, w.retried()-retried)
	}
}

// TestPushWorkerStop: SIGTERM in the midst of a push ends server and worker, and the rest is pushed
// after the next start. Signals that a terminal or a service manager sends to both do not end the
// worker before its server.
func TestPushWorkerStop(t *testing.T) {
	t.Parallel()
	w := startPush(t, 3000)
	w.push("one")
	worker, busy := w.midst(200)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(worker, sig); busy && err != nil { // else it may not be ready for that
			t.Fatal(err)
		}
	}
	stopped := make(chan error, 1)
	go func() { stopped <- w.server.Stop(enough) }()
	time.Sleep(300 * time.Millisecond) // so that the stop is under way when answers come
	for ended := false; !ended; time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-stopped:
			if ended = true; err != nil {
				t.Fatal(err)
			}
		default:
			for len(w.sink.allow) < 8 {
				w.sink.allow <- struct{}{}
			}
		}
	}
	if _, _, ok := process(worker); ok { // with its server, not later
		t.Error("the worker is there")
	}
	switch out := w.server.Output(); {
	case strings.Contains(out, "it did not get on"): // its priority left it nothing for too long
	case busy && strings.Contains(out, "the push worker ended"), strings.Contains(out, "connection reset"):
		t.Errorf("the worker did not end with its server: %s", out)
	}
	n, doubled := w.sink.count("one")
	t.Logf("when it had stopped, the message had come to %d devices, and again %d times", n, doubled)
	w.sink.release()
	w.again()
	if again := w.arrived("one"); again > 1000 { // a page
		t.Errorf("it came again %d times", again)
	}
}

// TestPushWorkerOrphan: a worker ends by itself when its server is killed, and the next server
// pushes what is left, and again no more than a page.
func TestPushWorkerOrphan(t *testing.T) {
	t.Parallel()
	w := startPush(t, 2000)
	w.push("one")
	worker, _ := w.midst(100)
	start := time.Now()
	if err := w.server.Kill(); err != nil {
		t.Fatal(err)
	}
	w.ended(worker)
	t.Logf("it ended after %v", time.Since(start).Round(time.Millisecond))
	n, _ := w.sink.count("one")
	w.sink.release()
	w.again()
	again := w.arrived("one")
	t.Logf("it had come to %d devices, and came again to %d", n, again)
	if again > 1000 || again > n {
		t.Errorf("it came again %d times", again)
	}
}

// TestPushWorkerNone: with --no-push-worker there is never one, and all is pushed.
func TestPushWorkerNone(t *testing.T) {
	t.Parallel()
	w := startPush(t, 1500, "--no-push-worker")
	w.push("one")
	for n := 0; n < w.devices; time.Sleep(5 * time.Millisecond) {
		if all, _ := w.children(); len(all) > 0 {
			t.Fatalf("children are %v", all)
		}
		for len(w.sink.allow) < 16 {
			w.sink.allow <- struct{}{}
		}
		n, _ = w.sink.count("one")
	}
	w.sink.release()
	if again := w.arrived("one"); again > w.retried() {
		t.Errorf("it came again %d times, %d tries came to nothing", again, w.retried())
	}
	if here, apart := w.posted("server"), w.posted("worker"); here < w.devices || apart != 0 {
		t.Errorf("%d posted by the server, %d by a worker", here, apart)
	}
}

// TestPushWorkerAlone: whoever starts one by hand is told what to start instead.
func TestPushWorkerAlone(t *testing.T) {
	t.Parallel()
	if out, err := testenv.Run(t.Context(), binary, nil, "push-worker"); err == nil || !strings.Contains(out, "hark serve") {
		t.Errorf("%v: %s", err, out)
	}
}
