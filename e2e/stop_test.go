package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// TestStopDrains: SIGTERM under load waits for deliveries under way, so that
// nothing is lost and nothing is sent twice, however often it happens.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{Flags: []string{"--key-rate=-1"}})
	w.receiver.Answer = func(h *testenv.Hit) int {
		time.Sleep(time.Duration(hash(h.ID)%100) * time.Millisecond)
		return 204
	}
	w.to("/drain", "drain.>")
	acked := map[string]bool{}
	for range 3 {
		var mu sync.Mutex
		var publishers sync.WaitGroup
		api := w.api
		for range 4 {
			publishers.Go(func() {
				for {
					answer, err := api.Do(w.ctx, "POST", "/v1/events", testenv.Event{Topic: "drain.x", Data: "x"})
					if err != nil {
						return // the connection is closed: not acknowledged
					}
					var p testenv.Published
					if json.Unmarshal(answer.Body, &p); answer.Status != 201 {
						if answer.Status != 503 {
							t.Errorf("while stopping: %s", answer)
						}
						return
					}
					mu.Lock()
					acked[p.ID] = true
					mu.Unlock()
				}
			})
		}
		time.Sleep(400 * time.Millisecond)
		begin := time.Now()
		w.stop()
		t.Logf("stopped in %v", time.Since(begin).Round(time.Millisecond))
		publishers.Wait()
		w.nextEra()
		w.again()
	}
	w.wait("/drain", len(acked))
	time.Sleep(300 * time.Millisecond)
	seen := map[string]int{}
	for _, h := range w.receiver.Hits("/drain") {
		seen[h.ID]++
	}
	for id := range acked {
		if seen[id] != 1 {
			t.Errorf("%s was sent %d times", id, seen[id])
		}
	}
}

// TestStopWaitsOnlySoLong: an endpoint that hangs cannot keep the server from
// stopping; its delivery is made again.
func TestStopWaitsOnlySoLong(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{Flags: []string{"--stop-timeout=1s"}})
	release := make(chan struct{})
	w.receiver.Answer = func(h *testenv.Hit) int {
		if h.Era == 0 {
			<-release
		}
		return 204
	}
	d := testenv.Webhook(w.receiver.URL+"/hangs", "hangs")
	d.Retry = map[string]any{"schedule": []string{"0s", "1h"}}
	w.add(d)
	id := w.publish("hangs", 1)
	eventually(t, enough, func() string {
		if len(w.receiver.Hits("/hangs")) == 0 {
			return "no attempt began"
		}
		return ""
	})
	begin := time.Now()
	w.stop()
	if took := time.Since(begin); took > 10*time.Second { // of the 15 s that it is else
		t.Errorf("the stop took %v with --stop-timeout=1s", took)
	}
	close(release)
	w.nextEra()
	w.again()
	// A stop is no failure of the endpoint: the attempt is made again soon, not
	// after the schedule's next wait.
	eventually(t, enough, func() string {
		for _, h := range w.receiver.Hits("/hangs") {
			if h.Era == 1 && h.ID == id && h.OK() {
				return ""
			}
		}
		return "it was not delivered after the restart"
	})
}

// TestBackup: a backup of a running server under load restores into a folder
// that holds everything acknowledged before it, uses no id twice, and goes on.
func TestBackup(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{Flags: []string{"--key-rate=-1"}})
	w.to("/backup", "backup.>")
	before := map[string]bool{}
	for i := range 300 {
		before[w.publish("backup.before", i)] = true
	}
	w.wait("/backup", 300)
	file := filepath.Join(t.TempDir(), "backup.tar")
	meanwhile := w.publishWhile("backup.meanwhile", func() {
		if out, err := w.server.Run(w.ctx, "backup", file); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	w.wait("/backup", 300+len(meanwhile))
	w.stop()
	w.restore(file)

	restored := map[string]bool{}
	for _, e := range w.storedEvents("backup.%3E") {
		restored[e.ID] = true
		if !before[e.ID] && !meanwhile[e.ID] {
			t.Errorf("%s is in the backup and was never acknowledged", e.ID)
		}
	}
	for id := range before {
		if !restored[id] {
			t.Errorf("%s was acknowledged before the backup and is not in it", id)
		}
	}
	for i := range 50 {
		if id := w.publish("backup.after", i); before[id] || meanwhile[id] {
			t.Errorf("id %s is used twice", id)
		}
	}
	// What was delivered before the backup is known to be: it is not sent again.
	eventually(t, enough, func() string {
		n := 0
		for _, h := range w.receiver.Hits("/backup") {
			if h.Era == 1 && h.Topic == "backup.after" {
				n++
			}
			if h.Era == 1 && before[h.ID] {
				t.Fatalf("%s was delivered before the backup and was sent again after the restore", h.ID)
			}
		}
		if n < 50 {
			return fmt.Sprintf("%d of 50 new events were delivered", n)
		}
		return ""
	})
}

// publishWhile publishes as long as do takes, and returns the ids.
func (w *world) publishWhile(topic string, do func()) map[string]bool {
	ids, halt := map[string]bool{}, make(chan struct{})
	var publisher sync.WaitGroup
	publisher.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-halt:
				return
			default:
			}
			p, err := w.api.Publish(w.ctx, testenv.Event{Topic: topic, Data: i})
			if err != nil {
				w.Error(err)
				return
			}
			ids[p.ID] = true
		}
	})
	defer publisher.Wait()
	defer close(halt)
	do()
	return ids
}

// restore makes a new folder of a backup, and a server on it the world's. A
// second restore over the first must be refused.
func (w *world) restore(file string) {
	w.Helper()
	data := filepath.Join(w.TempDir(), "restored")
	if out, err := testenv.Run(w.ctx, binary, nil, "restore", file, "--data", data); err != nil {
		w.Fatalf("%v\n%s", err, out)
	}
	if out, err := testenv.Run(w.ctx, binary, nil, "restore", file, "--data", data); err == nil {
		w.Errorf("a second restore over the first is not refused: %s", out)
	}
	w.nextEra()
	s, err := testenv.Start(w.ctx, binary, testenv.Setup{Data: data, Key: w.server.Key})
	if err != nil {
		w.Fatal(err)
	}
	w.adopt(s)
}

// TestBrokenBackup: half a backup is refused, and leaves nothing.
func TestBrokenBackup(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	w.publish("a", 1)
	dir := t.TempDir()
	file := filepath.Join(dir, "backup.tar")
	if out, err := w.server.Run(w.ctx, "backup", file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	half := filepath.Join(dir, "half.tar")
	copyHalf(t, file, half)
	data := filepath.Join(dir, "data")
	if out, err := testenv.Run(w.ctx, binary, nil, "restore", half, "--data", data); err == nil {
		t.Errorf("half a backup was restored: %s", out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "data*")); len(left) > 0 {
		t.Errorf("the refused restore left %v", left)
	}
}

// TestSecondProcess: a data folder belongs to one process, and the second is told.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	second, err := testenv.Launch(binary, testenv.Setup{Data: w.server.Setup.Data})
	if err != nil {
		t.Fatal(err)
	}
	code, err := second.Wait(10 * time.Second)
	if err != nil {
		second.Kill()
		t.Fatal(err)
	}
	if out := second.Output(); code == 0 || !strings.Contains(out, "in use") || !strings.Contains(out, w.server.Setup.Data) {
		t.Errorf("the second process ended with %d and said %q", code, out)
	}
	w.publish("still.here", 1)
}

// TestUsedPort: an address in use is told, not a stack.
func TestUsedPort(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	second, err := testenv.Launch(binary, testenv.Setup{Data: t.TempDir(), Addr: w.server.Setup.Addr})
	if err != nil {
		t.Fatal(err)
	}
	code, err := second.Wait(10 * time.Second)
	if err != nil {
		second.Kill()
		t.Fatal(err)
	}
	if out := second.Output(); code == 0 || !strings.Contains(out, w.server.Setup.Addr) || strings.Contains(out, "goroutine") {
		t.Errorf("the second process ended with %d and said %q", code, out)
	}
}

// TestGap: retention passes a paused destination. The gap is told in its
// status, as an event and in the deliveries; after it, all goes on.
func TestGap(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{Flags: []string{"--retain-age=1s", "--max-hold=2s", "--store-bucket-age=300ms",
		"--store-bucket-bytes=65536", "--store-retain-every=200ms"}})
	d := w.to("/gap", "gap.>")
	w.to("/told", "hark.destination.gap")
	w.publish("gap.first", 0)
	w.wait("/gap", 1)
	w.post("/v1/destinations/"+d.ID+"/pause", nil, nil)
	var lost []string
	for i := range 30 {
		lost = append(lost, w.publish("gap.lost", i))
	}
	// Something must end the bucket that the lost ones are in.
	eventually(t, enough, func() string {
		time.Sleep(100 * time.Millisecond)
		w.publish("other", strings.Repeat("x", 1000))
		answer, err := w.api.Do(w.ctx, "GET", "/v1/events/"+lost[len(lost)-1], nil)
		if err != nil || answer.OK() {
			return fmt.Sprintf("the paused destination's events are still kept: %s %v", answer, err)
		}
		return ""
	})
	w.post("/v1/destinations/"+d.ID+"/resume", nil, nil)
	kept := w.publish("gap.kept", 1)
	eventually(t, enough, func() string {
		for _, h := range w.receiver.Hits("/gap") {
			if h.ID == kept && h.OK() {
				return ""
			}
		}
		return "after the gap nothing is delivered"
	})
	for _, h := range w.receiver.Hits("/gap") {
		if h.Topic == "gap.lost" {
			t.Errorf("%s was delivered, and its gap is to be told: choose one", h.ID)
			break
		}
	}
	var now struct {
		Status struct {
			Gaps []gap `json:"gaps"`
		} `json:"status"`
	}
	eventually(t, enough, func() string {
		w.get("/v1/destinations/"+d.ID, &now)
		if len(now.Status.Gaps) == 0 {
			return "the destination's status tells no gap"
		}
		return ""
	})
	told := w.wait("/told", 1)[0]
	var event map[string]any
	if err := json.Unmarshal(told.Body, &event); err != nil || !strings.Contains(string(told.Body), d.ID) {
		t.Errorf("the event of the gap does not name the destination: %s %v", told.Body, err)
	}
	for _, g := range now.Status.Gaps {
		if g.From >= lost[0] || g.To < lost[len(lost)-1] {
			t.Errorf("the gap from %s to %s does not span %s to %s", g.From, g.To, lost[0], lost[len(lost)-1])
		}
	}
}
