package auth

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
)

const (
	// refreshEvery is how often a set of keys is fetched while all is well.
	refreshEvery = 10 * time.Minute
	// refreshAfter is the least pause between fetches, whoever asks: tokens with unknown
	// keys, which strangers can send, cause no more.
	refreshAfter = 5 * time.Second
	fetchTimeout = 5 * time.Second
	// maxWaiting bounds the requests that wait for one fetch.
	maxWaiting = 512
	// maxTries bounds the keys on which one token is tried: each costs up to 80 µs, and
	// strangers need not name a key.
	maxTries = 4
)

// Fetch gets the small document that lies at a URL. Package server lends egress for it.
type Fetch func(ctx context.Context, url string) ([]byte, error)

// keyring is the keys of one moment.
type keyring struct {
	all  []*Key
	byID map[string][]*Key
	free []*Key // those without an id: they may have signed what has one
}

func newKeyring(keys []*Key) *keyring {
	r := &keyring{all: keys, byID: make(map[string][]*Key)}
	for _, k := range keys {
		if k.id == "" {
			r.free = append(r.free, k)
		} else {
			r.byID[k.id] = append(r.byID[k.id], k)
		}
	}
	return r
}

// candidates returns the keys that may have signed t: those of its key id and those that
// have none; all, if it names none. Only those of its algorithm count.
func (r *keyring) candidates(t *jwt) (keys []*Key, known bool) {
	named := r.all
	if t.kid != "" {
		named = r.byID[t.kid]
	}
	for _, k := range named {
		if k.takes(t.alg) {
			keys = append(keys, k)
		}
	}
	known = len(named) > 0
	if t.kid != "" {
		for _, k := range r.free {
			if k.takes(t.alg) {
				keys = append(keys, k)
			}
		}
	}
	return keys[:min(len(keys), maxTries)], known
}

// keySet is the keys of an issuer: some from files, some published at a URL. What is
// published is fetched now and then, and when a token names a key that nobody knows;
// while that fails, the keys that there are go on.
type keySet struct {
	static []*Key
	url    string
	fetch  Fetch
	// changed is called when keys were dropped, failed when a fetch failed.
	changed func()
	failed  func(error)

	ring atomic.Pointer[keyring]

	mu      sync.Mutex // guards below; not held while fetching
	flight  chan struct{}
	waiting int
	began   time.Time // the last fetch
	got     time.Time // the last that succeeded
}

func newKeySet(static []*Key, url string, fetch Fetch) *keySet {
	s := &keySet{static: static, url: url, fetch: fetch, changed: func() {}, failed: func(error) {}}
	s.ring.Store(newKeyring(static))
	return s
}

// verify returns the key that signed t. When none of those there are did, and a published
// one might have, it fetches anew.
func (s *keySet) verify(t *jwt) (*Key, error) {
	keys, known := s.ring.Load().candidates(t)
	if k := whoSigned(t, keys); k != nil {
		return k, nil
	}
	if known || s.url == "" || t.alg == algHS256 { // nobody publishes secrets
		return nil, refusal(keys)
	}
	err := s.refresh(refreshAfter)
	again, _ := s.ring.Load().candidates(t)
	if k := whoSigned(t, again); k != nil {
		return k, nil
	}
	if err != nil {
		return nil, &hark.Error{Kind: hark.Unavailable, Code: "token-keys-unavailable", RetryAfter: refreshAfter, Err: err,
			Msg: "the keys that verify tokens cannot be fetched at present: try again in a few seconds"}
	}
	return nil, refusal(again)
}

func whoSigned(t *jwt, keys []*Key) *Key {
	for _, k := range keys {
		if k.verify(t.signed, t.signature) {
			return k
		}
	}
	return nil
}

func refusal(tried []*Key) error {
	if len(tried) == 0 {
		return unknownKey()
	}
	return badSignature()
}

// refresh fetches the published keys, unless that was done within pause; whoever comes
// meanwhile waits for the same fetch. Its error says that there is no knowing which
// keys there are: nothing was ever fetched, or too many wait.
func (s *keySet) refresh(pause time.Duration) error {
	s.mu.Lock()
	if flight := s.flight; flight != nil {
		defer s.mu.Unlock()
		if s.waiting >= maxWaiting {
			return errors.New("too many requests wait for the keys")
		}
		s.waiting++
		s.mu.Unlock()
		<-flight // its leader is bounded by fetchTimeout
		s.mu.Lock()
		s.waiting--
		return s.unknownLocked()
	}
	if now := time.Now(); !s.began.IsZero() && now.Sub(s.began) < pause {
		defer s.mu.Unlock()
		return s.unknownLocked()
	}
	flight := make(chan struct{})
	s.flight, s.began = flight, time.Now()
	s.mu.Unlock()

	keys, err := s.get()
	if err == nil {
		s.replace(keys)
	} else {
		s.failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.got = time.Now()
	}
	s.flight = nil
	close(flight)
	return s.unknownLocked()
}

func (s *keySet) unknownLocked() error {
	if s.got.IsZero() {
		return errors.New("no keys were fetched yet from " + s.url)
	}
	return nil
}

func (s *keySet) get() ([]*Key, error) {
	ctx, done := context.WithTimeout(context.Background(), fetchTimeout)
	defer done()
	text, err := s.fetch(ctx, s.url)
	if err != nil {
		return nil, err
	}
	return parseJWKs(text, false)
}

// replace puts published keys in the place of those before. One that is published again
// stays the same Key; one that is not is dropped. Only a leader of refresh calls it.
func (s *keySet) replace(published []*Key) {
	old := s.ring.Load().all[len(s.static):]
	all, dropped := slices.Clone(s.static), false
	for i, k := range published {
		if at := slices.IndexFunc(old, func(o *Key) bool { return o.print == k.print }); at >= 0 {
			published[i] = old[at]
		}
	}
	all = append(all, published...)
	for _, k := range old {
		if !slices.Contains(published, k) {
			k.dropped.Store(true)
			dropped = true
		}
	}
	s.ring.Store(newKeyring(all))
	if dropped {
		s.changed()
	}
}

// keep fetches what is published when it is time to.
func (s *keySet) keep() {
	if s.url == "" {
		return
	}
	s.mu.Lock()
	got := s.got
	s.mu.Unlock()
	if time.Since(got) >= refreshEvery {
		_ = s.refresh(refreshEvery / 20) // who needs it hears of the failure
	}
}
