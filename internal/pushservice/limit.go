package pushservice

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bound what strangers may have. The zero value of each means its default; negative
// rates mean no limit.
type Limits struct {
	// Agents bounds the user agents that are remembered (1,000,000), Sockets those that are
	// connected (100,000), AddressSockets those of one address (2,000).
	Agents, Sockets, AddressSockets int
	// Subscriptions bounds those of one user agent (500).
	Subscriptions int
	// NewAgents and NewSubscriptions are how many an address may make in an hour (300; 3,000);
	// as many at once.
	NewAgents, NewSubscriptions float64
	// Messages and Bytes bound what waits for one subscription (500; 1 MiB).
	Messages int
	Bytes    int64
	// AllMessages and AllBytes bound what waits in all (5,000,000; 4 GiB).
	AllMessages, AllBytes int64
	// SendRate is how many messages a second one subscription takes (20), and sendBurst times
	// as many at once.
	SendRate float64
}

const (
	sendBurst = 30
	// Requests that are refused cost us and bring nothing: an address may make some.
	strangeRate  = 20 // a second
	strangeBurst = 400
	// maxBuckets bounds how many are remembered.
	maxBuckets = 20000
)

func (l Limits) withDefaults() Limits {
	def(&l.Agents, 1_000_000)
	def(&l.Sockets, 100_000)
	def(&l.AddressSockets, 2000)
	def(&l.Subscriptions, 500)
	def(&l.NewAgents, 300)
	def(&l.NewSubscriptions, 3000)
	def(&l.Messages, 500)
	def(&l.Bytes, 1<<20)
	def(&l.AllMessages, 5_000_000)
	def(&l.AllBytes, 4<<30)
	def(&l.SendRate, 20)
	return l
}

func def[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// buckets count what each of many may do.
type buckets[K comparable] struct {
	rate  rate.Limit
	burst int
	mu    sync.Mutex // guards below
	m     map[K]*rate.Limiter
}

func (b *buckets[K]) init(perSecond, burst float64) {
	b.rate, b.burst, b.m = rate.Limit(perSecond), max(1, int(burst)), map[K]*rate.Limiter{}
	if perSecond < 0 {
		b.rate = rate.Inf
	}
}

// take counts one more of k's. When it is too many, it is not counted, and wait is how long
// until it would be let through.
func (b *buckets[K]) take(k K, now time.Time) (wait time.Duration) {
	if b.rate == rate.Inf {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.m[k]
	if l == nil {
		if len(b.m) >= maxBuckets {
			b.forget(now)
		}
		l = rate.NewLimiter(b.rate, b.burst)
		b.m[k] = l
	}
	reserved := l.ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
	}
	return wait
}

// forget makes room: those who used nothing first, then whoever comes first.
func (b *buckets[K]) forget(now time.Time) {
	for k, l := range b.m {
		if l.TokensAt(now) >= float64(b.burst) {
			delete(b.m, k)
		}
	}
	for k := range b.m {
		if len(b.m) < maxBuckets/2 {
			return
		}
		delete(b.m, k)
	}
}

// network is what counts as one address.
func network(a netip.Addr) netip.Prefix {
	if a.Is4() || a.Is4In6() {
		return netip.PrefixFrom(a.Unmap(), 32)
	}
	p, _ := a.Prefix(64)
	return p
}

// enter counts one more connection of an address; leave must follow.
func (s *Service) enter(from netip.Prefix) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return errStopping
	case s.sockets.Len()+len(s.monitors) >= s.cfg.Limits.Sockets:
		return tooMany(time.Minute, "as many are connected as there may be")
	case s.addresses[from] >= s.cfg.Limits.AddressSockets:
		return tooMany(30*time.Second, "your address has as many connections as it may: %d", s.cfg.Limits.AddressSockets)
	}
	s.addresses[from]++
	return nil
}

func (s *Service) leave(from netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addresses[from]--; s.addresses[from] <= 0 {
		delete(s.addresses, from)
	}
}
