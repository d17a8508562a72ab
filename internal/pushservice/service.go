package pushservice

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark/internal/socket"
	"github.com/harkhq/hark/internal/store"
	"github.com/harkhq/hark/internal/webpush"
)

// Config is what a Service needs. The zero value of what is not a function means its default.
type Config struct {
	Store *store.Store
	// Origins are the URLs under which this server is reached, without a slash at the end. New
	// endpoints are under the first, and VAPID tokens may be for any. Empty for what each
	// request says.
	Origins []string
	// Base is the URL under which the sender of a request sees this server.
	Base func(*http.Request) string
	// Client is the address of the sender of a request.
	Client func(*http.Request) netip.Addr
	// DiskLow reports that nothing more must be stored; nil for never.
	DiskLow func() bool
	Limits  Limits
	// PingEvery is how often a connection is pinged (5 minutes), SlowAfter how long one may
	// take nothing of what is sent (30 s).
	PingEvery, SlowAfter time.Duration
	Hooks                Hooks
}

// Hooks tell what happens. Those that are nil are not called.
type Hooks struct {
	// Sent is called for every request to an endpoint, with the status of its answer.
	Sent func(status int)
	// Ended is called for every message that is not waiting any more.
	Ended func(how End)
	// Closed is called for every connection that ended.
	Closed func(why string)
	// Failed is called with what went wrong on our side.
	Failed func(what string, err error)
}

// End is what became of a message.
type End string

// The ends of messages.
const (
	Delivered   End = "delivered" // acknowledged
	Undecrypted End = "undecrypted"
	Unhandled   End = "unhandled" // acknowledged as not delivered to anyone
	Replaced    End = "replaced"
	Withdrawn   End = "withdrawn"
	Expired     End = "expired"
	Dropped     End = "dropped" // TTL 0, and nobody there; or its subscription is gone
)

// Service is the push service.
type Service struct {
	cfg      Config
	store    *store.Store
	block    cipher.Block // of message ids
	verifier *webpush.Verifier
	sockets  *socket.Group

	newAgents, newSubscriptions buckets[netip.Prefix]
	strange                     buckets[netip.Prefix] // requests that were refused
	sends                       buckets[store.PushHash]

	agentCount, subscriptionCount, messageCount, messageBytes atomic.Int64
	unsynced                                                  atomic.Bool

	mu        sync.Mutex // guards below
	agents    map[uint64]*agent
	addresses map[netip.Prefix]int // connections
	receipts  map[store.PushReceipt][]*receiptWatch
	stopping  bool
	monitors  map[*monitor]struct{}
	promises  map[promisedAt][]*promise
	askable   map[store.PushReceipt]int // receipts that may be asked for before those that wait are counted

	now func() time.Time
}

// New opens the service.
func New(cfg Config) (*Service, error) {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.PingEvery == 0 {
		cfg.PingEvery = 5 * time.Minute
	}
	if cfg.SlowAfter == 0 {
		cfg.SlowAfter = 30 * time.Second
	}
	s := &Service{cfg: cfg, store: cfg.Store, verifier: webpush.NewVerifier(verified), now: time.Now,
		agents: map[uint64]*agent{}, addresses: map[netip.Prefix]int{}, receipts: map[store.PushReceipt][]*receiptWatch{},
		monitors: map[*monitor]struct{}{}, promises: map[promisedAt][]*promise{}, askable: map[store.PushReceipt]int{}}
	l := &cfg.Limits
	s.newAgents.init(l.NewAgents/3600, l.NewAgents)
	s.newSubscriptions.init(l.NewSubscriptions/3600, l.NewSubscriptions)
	s.strange.init(strangeRate, strangeBurst)
	s.sends.init(l.SendRate, l.SendRate*sendBurst)
	if err := s.openMaster(); err != nil {
		return nil, err
	}
	err := s.store.PushAgents(func(a store.PushAgent) {
		s.agentCount.Add(1)
		s.subscriptionCount.Add(int64(a.Subs))
		s.messageCount.Add(int64(a.Count))
		s.messageBytes.Add(int64(a.Bytes))
	})
	if err != nil {
		return nil, fmt.Errorf("push service: %w", err)
	}
	s.sockets, err = socket.NewGroup(socket.Config{PingEvery: cfg.PingEvery, SlowAfter: cfg.SlowAfter, PongWithin: pongWithin})
	return s, err
}

// pongWithin is how long a client may take to answer a ping.
const pongWithin = 20 * time.Second

// verified is how many VAPID tokens are remembered.
const verified = 20000

// openMaster reads the key of message ids, or makes it.
func (s *Service) openMaster() error {
	secret, ok, err := s.store.PushMaster()
	if err == nil && !ok {
		rand.Read(secret[:])
		err = s.store.Commit(&store.PushMasterKept{Secret: secret})
	}
	if err != nil {
		return fmt.Errorf("push service: %w", err)
	}
	s.block, err = aes.NewCipher(secret[:])
	return err
}

// Run serves until ctx ends, then ends what is still connected. Call [Service.Drain] before.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(s.sockets.Watch)
	wg.Go(func() { s.sockets.Sweep(inner) })
	wg.Go(func() { s.sweepLoop(inner) })
	wg.Go(func() { s.syncLoop(inner) })
	<-ctx.Done()
	s.Drain(0)
	s.sockets.Stop(sayStopping)
	wg.Wait()
	s.sockets.Close()
	return nil
}

// Drain takes no more connections and has those that are there end, and waits for it at most so long.
func (s *Service) Drain(within time.Duration) {
	s.mu.Lock()
	s.stopping = true
	for m := range s.monitors {
		m.end()
	}
	s.mu.Unlock()
	s.sockets.Drain(within, sayStopping)
}

func (s *Service) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// Stats are figures of a moment.
type Stats struct {
	Agents, Subscriptions, Messages, MessageBytes int64
	Sockets                                       int
}

// Stats reads the present figures.
func (s *Service) Stats() Stats {
	return Stats{Agents: s.agentCount.Load(), Subscriptions: s.subscriptionCount.Load(), Messages: s.messageCount.Load(),
		MessageBytes: s.messageBytes.Load(), Sockets: s.sockets.Len()}
}

// base is the URL that new endpoints begin with.
func (s *Service) base(r *http.Request) string {
	if len(s.cfg.Origins) > 0 {
		return s.cfg.Origins[0]
	}
	return s.cfg.Base(r)
}

// syncEvery bounds how long an acknowledgment that is not answered may be lost by a crash.
const syncEvery = 500 * time.Millisecond

// syncLoop makes durable what nobody waits for.
func (s *Service) syncLoop(ctx context.Context) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.syncOnce()
			return
		case <-tick.C:
			s.syncOnce()
		}
	}
}

func (s *Service) syncOnce() {
	if s.unsynced.Swap(false) {
		s.note("sync", s.store.Sync())
	}
}

// commit makes changes durable, or, when later will do, only visible.
func (s *Service) commit(durable bool, recs ...store.Record) error {
	if durable {
		return s.store.Commit(recs...)
	}
	_, err := s.store.Write(recs...)
	s.unsynced.Store(true)
	return err
}

func (s *Service) note(what string, err error) {
	if err != nil && s.cfg.Hooks.Failed != nil {
		s.cfg.Hooks.Failed(what, err)
	}
}

func (s *Service) ended(how End) {
	if s.cfg.Hooks.Ended != nil {
		s.cfg.Hooks.Ended(how)
	}
}
