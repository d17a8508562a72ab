package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark/internal/egress"
	"golang.org/x/time/rate"
)

// stub is a fetcher of a world of documents, which counts.
func stub(answer func(url string) (egress.Response, error)) (*fetcher, *atomic.Int64) {
	n := new(atomic.Int64)
	f := &fetcher{limit: rate.NewLimiter(fetchRate, fetchBurst), kept: map[string]document{}, now: map[string]*fetching{}}
	f.do = func(_ context.Context, req *http.Request, _ int) (egress.Response, error) {
		n.Add(1)
		time.Sleep(time.Second) // of the bubble
		return answer(req.URL.String())
	}
	return f, n
}

func document200(url string) (egress.Response, error) {
	return egress.Response{Status: 200, Snippet: []byte("at " + url)}, nil
}

// TestFetchOnce: many who ask at once cause one fetch, and those who ask later none, until it is old.
func TestFetchOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := stub(document200)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if body, err := f.fetch(t.Context(), "https://a.example/"); err != nil || string(body) != "at https://a.example/" {
					t.Errorf("%q, %v", body, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(freshFor - 2*time.Second)
		f.fetch(t.Context(), "https://a.example/")
		if n.Load() != 1 {
			t.Errorf("%d fetches, want 1", n.Load())
		}
		time.Sleep(3 * time.Second)
		f.fetch(t.Context(), "https://a.example/")
		if n.Load() != 2 {
			t.Errorf("%d fetches once it is old, want 2", n.Load())
		}
	})
}

// TestFetchStale: what was there stands in while nothing answers, for a day.
func TestFetchStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		f, _ := stub(func(url string) (egress.Response, error) {
			if down {
				return egress.Response{}, errors.New("no route")
			}
			return document200(url)
		})
		f.fetch(t.Context(), "https://a.example/")
		down = true
		time.Sleep(staleFor - time.Minute)
		if _, err := f.fetch(t.Context(), "https://a.example/"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if _, err := f.fetch(t.Context(), "https://a.example/"); err == nil {
			t.Error("a day later it still stands in")
		}
	})
}

// TestFetchBounds: rate, number and size, and one who leaves does not end it for others.
func TestFetchBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := stub(document200)
		failed := 0
		for i := range 1000 {
			wait, cancel := context.WithTimeout(t.Context(), time.Minute)
			if _, err := f.fetch(wait, fmt.Sprint("https://a.example/", i)); err != nil {
				failed++
			}
			cancel()
		}
		if len(f.kept) > maxDocuments || len(f.now) > 0 {
			t.Errorf("%d kept, %d under way", len(f.kept), len(f.now))
		}
		if n.Load()+int64(failed) != 1000 {
			t.Errorf("%d fetched and %d refused of 1000", n.Load(), failed)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f, _ := stub(document200)
		f.limit = rate.NewLimiter(fetchRate, 3)
		f.do = func(context.Context, *http.Request, int) (egress.Response, error) { return document200("") }
		refused := 0
		for i := range 100 {
			if _, err := f.fetch(t.Context(), fmt.Sprint("https://a.example/", i)); err != nil {
				refused++
			}
		}
		if refused != 97 {
			t.Errorf("%d refused at once, want 97", refused)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f, n := stub(document200)
		impatient, cancel := context.WithCancel(t.Context())
		cancel()
		f.fetch(impatient, "https://a.example/")
		if _, err := f.fetch(t.Context(), "https://a.example/"); err != nil || n.Load() != 1 {
			t.Error(err, n.Load())
		}
	})
	for what, r := range map[string]egress.Response{"404": {Status: 404}, "redirect": {Status: 302}, "long": {Status: 200, More: true}, "broken": {Status: 200, BodyFault: egress.FaultTimeout}} {
		synctest.Test(t, func(t *testing.T) {
			f, _ := stub(func(string) (egress.Response, error) { return r, nil })
			if body, err := f.fetch(t.Context(), "https://a.example/"); err == nil {
				t.Errorf("%s: %q", what, body)
			}
		})
	}
}
