package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/harkhq/hark/internal/egress"
)

const (
	fetchTimeout = 5 * time.Second
	maxDocument  = 64 << 10
	// freshFor is how long a document is taken as it is; providers publish a new key
	// longer before they use it.
	freshFor = 15 * time.Minute
	// staleFor is how long it stands in for one that cannot be fetched.
	staleFor     = 24 * time.Hour
	maxDocuments = 64
	// Strangers choose some of the URLs, within what their scheme allows: so many fetches
	// per second, and at first.
	fetchRate  = 1
	fetchBurst = 20
)

// fetcher gets the small documents that schemes verify with (key sets, certificates),
// through egress, and keeps them for a while. It is what [scheme.Env] asks.
type fetcher struct {
	do    func(ctx context.Context, req *http.Request, max int) (egress.Response, error)
	limit *rate.Limiter

	mu   sync.Mutex // guards below; not held while fetching
	kept map[string]document
	now  map[string]*fetching
}

type document struct {
	body []byte
	at   time.Time
}

// fetching is one fetch that others may wait for.
type fetching struct {
	done chan struct{}
	body []byte
	err  error
}

func newFetcher(client *egress.Client) *fetcher {
	return &fetcher{do: client.Do, limit: rate.NewLimiter(fetchRate, fetchBurst), kept: map[string]document{}, now: map[string]*fetching{}}
}

// fetch returns what lies at a URL: kept, or fetched once for all who ask.
func (f *fetcher) fetch(ctx context.Context, from string) ([]byte, error) {
	f.mu.Lock()
	old, ok := f.kept[from]
	if ok && time.Since(old.at) < freshFor {
		f.mu.Unlock()
		return old.body, nil
	}
	under, busy := f.now[from]
	if !busy {
		under = &fetching{done: make(chan struct{})}
		f.now[from] = under
	}
	f.mu.Unlock()
	if !busy {
		f.run(context.WithoutCancel(ctx), from, under) // others wait for it, too
	}
	select {
	case <-under.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if under.err != nil && ok && time.Since(old.at) < staleFor {
		return old.body, nil
	}
	return under.body, under.err
}

func (f *fetcher) run(ctx context.Context, from string, under *fetching) {
	under.body, under.err = f.get(ctx, from)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.now, from)
	close(under.done)
	if under.err != nil {
		return
	}
	f.kept[from] = document{under.body, time.Now()}
	for len(f.kept) > maxDocuments {
		oldest := ""
		for url, d := range f.kept {
			if oldest == "" || d.at.Before(f.kept[oldest].at) {
				oldest = url
			}
		}
		delete(f.kept, oldest)
	}
}

func (f *fetcher) get(ctx context.Context, from string) ([]byte, error) {
	if !f.limit.Allow() {
		return nil, errors.New("too many different ones were asked for")
	}
	ctx, done := context.WithTimeout(ctx, fetchTimeout)
	defer done()
	req, err := http.NewRequest(http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	switch resp, err := f.do(ctx, req, maxDocument); {
	case err != nil:
		return nil, err
	case resp.Status != http.StatusOK:
		return nil, fmt.Errorf("the answer was %d", resp.Status)
	case resp.More || resp.BodyFault != 0:
		return nil, fmt.Errorf("the answer is longer than %d bytes, or broke off", maxDocument)
	default:
		return resp.Snippet, nil
	}
}
