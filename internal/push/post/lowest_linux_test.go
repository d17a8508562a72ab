package post

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// policies are those of each thread of this process.
func policies() (all map[string]string, err error) {
	stats, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil {
		return nil, err
	}
	all = map[string]string{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from field 3 on
		if len(fields) < 39 {
			return nil, fmt.Errorf("%s: %s", path, text)
		}
		all[path] = fields[38]
	}
	return all, nil
}

// threads makes so many more threads, which stay as long as the process.
func threads(n int) {
	var up sync.WaitGroup
	for range n {
		up.Add(1)
		go func() {
			runtime.LockOSThread()
			up.Done()
			select {}
		}()
	}
	up.Wait()
}

const moreThreads = 10

// playLowest tells the policies of a process's threads after Lowest, and with more threads.
func playLowest() error {
	threads(moreThreads)
	if err := Lowest(); err != nil {
		return err
	}
	after, err := policies()
	if err != nil {
		return err
	}
	threads(moreThreads)
	later, err := policies()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode([]map[string]string{after, later})
}

// TestLowest: all threads of a process get the policy, also those that are made later.
func TestLowest(t *testing.T) {
	cmd := command("lowest")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	if err := json.Unmarshal(out, &all); err != nil || len(all) != 2 {
		t.Fatalf("%s: %v", out, err)
	}
	for i, when := range []string{"after it", "later"} {
		if len(all[i]) < moreThreads*(i+1) {
			t.Errorf("%s there are %d threads", when, len(all[i]))
		}
		for thread, policy := range all[i] {
			if policy != "5" { // SCHED_IDLE
				t.Errorf("%s %s has policy %s", when, thread, policy)
			}
		}
	}
}

// TestYield: whoever lets others go first goes on.
func TestYield(t *testing.T) { Yield() }
