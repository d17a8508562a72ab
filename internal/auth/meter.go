package auth

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
	"golang.org/x/time/rate"
)

const (
	// writeEvery is how often times of last use are written.
	writeEvery = time.Minute
	// keepEvery is how often what tokens need is looked after.
	keepEvery = 10 * time.Second
	// idleAfter is when the meter of an unused key is forgotten.
	idleAfter = 10 * time.Minute
)

// meters count what keys do. There is one only for a key that was accepted in the
// last minutes, so strangers cannot make them grow.
type meters struct {
	rate  float64
	burst int

	mu sync.RWMutex // guards m, not the meters in it
	m  map[hark.KeyID]*meter
}

type meter struct {
	hash    [32]byte
	used    atomic.Int64 // Unix nanoseconds
	written atomic.Int64 // the use that is on disk
	limit   atomic.Pointer[limit]
}

// limit is a token bucket and the rate it was made for, as it may change.
type limit struct {
	rate   float64
	bucket *rate.Limiter
}

// use counts one request of k, or refuses it.
func (ms *meters) use(k *registry.Key, now time.Time) error {
	ms.mu.RLock()
	m := ms.m[k.ID]
	ms.mu.RUnlock()
	if m == nil {
		m = ms.add(k)
	}
	m.used.Store(now.UnixNano())
	perSecond := k.RateLimit
	if perSecond == 0 {
		perSecond = ms.rate
	}
	return take(&m.limit, perSecond, ms.burstOf(perSecond), now, "key")
}

// take takes one request from a bucket, which it makes when there is none of this rate;
// a rate of 0 is none. What names whose bucket it is.
func take(at *atomic.Pointer[limit], perSecond float64, burst int, now time.Time, what string) error {
	if perSecond == 0 {
		return nil
	}
	l := at.Load()
	if l == nil || l.rate != perSecond {
		fresh := &limit{perSecond, rate.NewLimiter(rate.Limit(perSecond), burst)}
		if at.CompareAndSwap(l, fresh) {
			l = fresh
		} else {
			l = at.Load()
		}
	}
	if l.bucket.AllowN(now, 1) {
		return nil
	}
	wait := time.Duration(max(0, 1-l.bucket.TokensAt(now)) / perSecond * float64(time.Second))
	return &hark.Error{Kind: hark.TooMany, Code: "rate-limited", RetryAfter: max(wait, time.Millisecond),
		Msg: "this " + what + " sends more requests than it may: slow down, send batches, or ask for a higher rate"}
}

func (ms *meters) burstOf(perSecond float64) int {
	if ms.burst > 0 {
		return ms.burst
	}
	return max(10, int(2*perSecond))
}

func (ms *meters) add(k *registry.Key) *meter {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m := ms.m[k.ID]
	if m == nil {
		m = &meter{hash: k.Hash}
		ms.m[k.ID] = m
	}
	return m
}

// take returns the uses that are not on disk, and forgets idle meters.
func (ms *meters) take(now time.Time) map[[32]byte]time.Time {
	used := make(map[[32]byte]time.Time)
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for id, m := range ms.m {
		at := m.used.Load()
		if at != m.written.Load() {
			used[m.hash] = time.Unix(0, at)
			m.written.Store(at)
			continue
		}
		l := m.limit.Load()
		// A bucket that is not full again remembers something.
		if now.Sub(time.Unix(0, at)) > idleAfter && (l == nil || l.bucket.TokensAt(now) >= float64(l.bucket.Burst())) {
			delete(ms.m, id)
		}
	}
	return used
}

// putBack undoes take for uses that could not be written.
func (ms *meters) putBack(used map[[32]byte]time.Time) {
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	for _, m := range ms.m {
		if _, ok := used[m.hash]; ok {
			m.written.Store(0)
		}
	}
}
