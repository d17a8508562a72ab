package api

import (
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

func TestDeadlineOf(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "1s": time.Second, "168h": 168 * time.Hour, "2026-01-31T14:00:00Z": 2 * time.Hour,
		"2026-01-31T14:00:00.5+01:00": time.Hour + time.Second/2} {
		if got, err := deadlineOf(text, now); got != want || err != nil {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"0s", "999ms", "168h1s", "-1h", "tomorrow", "24", "2026-01-31T12:00:00Z", "2026-02-08T12:00:00Z", "9999999h"} {
		if got, err := deadlineOf(text, now); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

// FuzzBatch: whatever a stranger sends is a batch within its limits, or the stranger's fault.
func FuzzBatch(f *testing.F) {
	for _, body := range []string{`{"events":[{"topic":"a","data":{"x":1}}],"callback":{"url":"https://example.com/"},"deadline":"2h","uid":"u"}`,
		`{"events":[{"topic":"a","data_base64":"AA=="},{"topic":"b"}],"callback":{"destination":"ops"}}`, `{"events":[],"callback":{}}`, `{"events":[[]]}`,
		`{"callback":null,"events":[{"topic":"a"}]} {}`, `{"events":` + strings.Repeat("[", 1000)} {
		f.Add("application/json", []byte(body))
	}
	f.Add("text/plain; charset", []byte(`{}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		o, _, err := parseBatch(contentType, body)
		if err != nil {
			if hark.KindOf(err) == hark.Internal {
				t.Fatalf("not the client's fault? %v", err)
			}
			return
		}
		if len(o.Events) == 0 || len(o.Events) > hark.MaxBatchEvents || o.Deadline < 0 || o.Deadline > hark.MaxBatchDeadline {
			t.Fatalf("%+v", o)
		}
		_ = o.Check()
	})
}
