package eventlog

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
)

// TestPace: beside a tenant with small requests, large ones take one part in
// paceShare of the time; alone they are never held; nothing is held for ever.
func TestPace(t *testing.T) {
	const small, large = 300 * time.Microsecond, 2300 * time.Microsecond
	// run commits what tenant 1 floods with for a while; lights says whether tenant 2
	// publishes beside it.
	run := func(t *testing.T, lights bool, of func() *request) (heavy int) {
		synctest.Test(t, func(t *testing.T) {
			var q queue
			q.init(1 << 30)
			begin, nextLight := time.Now(), time.Now()
			waited := 0
			for time.Since(begin) < 10*time.Second {
				for q.tenants[1] == nil || q.tenants[1].len() < 4 {
					if err := q.push(of()); err != nil {
						t.Fatal(err)
					}
				}
				if lights && !time.Now().Before(nextLight) {
					nextLight = time.Now().Add(5 * time.Millisecond)
					if err := q.push(fake(2, 1, 600)); err != nil {
						t.Fatal(err)
					}
				}
				group, held, open := q.take(nil)
				if !open {
					t.Fatal("closed")
				}
				if len(group) == 0 {
					if held <= 0 || held > maxPace {
						t.Fatalf("nothing taken, held %v", held)
					}
					waited++
					time.Sleep(min(held, max(time.Microsecond, time.Until(nextLight))))
					continue
				}
				took, isHeavy := small, false
				for _, r := range group {
					if r.heavy() {
						took, isHeavy = large, true
						heavy++
					}
				}
				time.Sleep(took)
				q.committed(took, isHeavy)
			}
			if !lights && waited > 0 {
				t.Errorf("held %d times with nobody to disturb", waited)
			}
			q.close()
			if group, _, _ := q.take(nil); len(group) == 0 || group[0].tenant != hark.TenantID(1) {
				t.Error("what waits when the log closes is not taken at once")
			}
		})
		return heavy
	}
	megabyte := func() *request { return fake(1, 1, 1<<20) }
	alone, beside := run(t, false, megabyte), run(t, true, megabyte)
	if most := 10 * time.Second / large; alone < int(most)*9/10 {
		t.Errorf("%d large requests alone, of %d possible", alone, most)
	}
	// What is beyond a small commit's time, 2 ms of each, is one part in 64: 8 a second.
	if share := float64(beside) * float64(large-small) / float64(10*time.Second); share < 0.5/paceShare || share > 1.5/paceShare {
		t.Errorf("large requests had %.4f of the time beside small ones, not 1/%d", share, paceShare)
	}
}
