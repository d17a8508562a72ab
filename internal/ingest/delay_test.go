package ingest

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
)

// TestDelayedAnswersHoldNoMemory: a bin that answers late must not keep what it has
// handed over already: a few of them would use up the memory of all sources.
func TestDelayedAnswersHoldNoMemory(t *testing.T) {
	w, _ := newWorld(t, func(src *hark.Source, _ *Config) {
		src.Bin = &hark.Bin{Expires: time.Now().Add(time.Hour)}
		src.Response = &hark.SourceResponse{Status: 201, Delay: hark.Duration(5 * time.Second)}
	})
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		go w.ServeHTTP(rec, httptest.NewRequest("POST", "/in/"+token, strings.NewReader(strings.Repeat("x", 100_000))))
		synctest.Wait()
		if len(w.captures) != 1 || len(w.captures[0].Body) != 100_000 {
			t.Fatalf("%d kept", len(w.captures))
		}
		if used := w.budget.used.Load(); used != 0 {
			t.Errorf("%d bytes are held while the answer waits", used)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if rec.Code != 201 || w.budget.used.Load() != 0 {
			t.Error(rec.Code, w.budget.used.Load())
		}
	})
}
