package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// TestBatchOutlivesRetention: an open batch counts what was delivered long ago, though
// retention took its events, and would have taken the rows of their deliveries.
func TestBatchOutlivesRetention(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{Flags: []string{"--retain-age=1s", "--max-hold=2s", "--delivery-age=1s", "--store-bucket-age=300ms",
		"--store-bucket-bytes=65536", "--store-retain-every=100ms"}})
	d := w.to("/paused", "bat.>")
	w.to("/good", "bat.>")
	w.post("/v1/destinations/"+d.ID+"/pause", nil, nil)
	made := map[string]bool{}
	for range 5 {
		var b struct{ ID string }
		w.post("/v1/batches", map[string]any{"events": []testenv.Event{{Topic: "bat.x", Data: 1}, {Topic: "bat.y", Data: 2}},
			"callback": map[string]string{"url": w.receiver.URL + "/done"}, "deadline": "8s"}, &b)
		made[b.ID] = true
		time.Sleep(100 * time.Millisecond)
	}
	eventually(t, enough, func() string {
		time.Sleep(100 * time.Millisecond)
		w.publish("other", strings.Repeat("x", 1000)) // something must end the bucket
		told := map[string]bool{}
		for _, h := range w.receiver.Hits("/done") {
			var r endingBody
			if err := json.Unmarshal(h.Body, &r); err != nil || !made[r.Batch] || r.Counts["delivered"] != 2 || r.Counts["unfinished"] != 2 {
				t.Fatalf("%s", h.Body)
			}
			told[r.Batch] = true
			if answer, err := w.api.Do(w.ctx, "GET", "/v1/events?from=earliest&topic=bat.*", nil); err != nil || !strings.Contains(string(answer.Body), `"events":[]`) {
				t.Fatalf("retention did not take the events: %s %v", answer, err)
			}
		}
		if len(told) < len(made) {
			answer, _ := w.api.Do(w.ctx, "GET", "/v1/batches", nil)
			return fmt.Sprintf("%d of %d ends were told; %s", len(told), len(made), answer)
		}
		return ""
	})
}
