package eventlog

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

var (
	soak = flag.Duration("eventlog.soak", 0, "how long each random test runs at least")
	seed = flag.Uint64("eventlog.seed", 0, "run each random test once, with this seed")
)

// seeds calls run with one printed seed after the other: n of them, or for the
// length of the soak.
func seeds(t *testing.T, n int, run func(t *testing.T, rng *rand.Rand)) {
	if *seed != 0 {
		run(t, rand.New(rand.NewPCG(*seed, 1)))
		return
	}
	until := time.Now().Add(*soak)
	for i := 0; i < n || time.Now().Before(until); i++ {
		s := rand.Uint64()
		if !t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) { run(t, rand.New(rand.NewPCG(s, 1))) }) {
			t.Fatalf("to repeat: go test ./internal/eventlog -run '%s$' -eventlog.seed=%d", t.Name(), s)
		}
	}
}

// clock is a test's own time.
type clock struct{ us atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.us.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMicro())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMicro(c.us.Load()) }
func (c *clock) advance(d time.Duration) { c.us.Add(int64(d / time.Microsecond)) }

// running is an open log with its store.
type running struct {
	*Log
	store *store.Store
	stop  func() error // stops the log and closes the store
}

func start(t testing.TB, o store.Options, cfg Config) *running {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	if o.Dir == "" {
		o.Dir = "data"
	}
	s, err := store.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Store = s
	if cfg.RetainEvery == 0 {
		cfg.RetainEvery = time.Hour
	}
	if cfg.DiskFloor == 0 {
		cfg.DiskFloor = -1
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	r := &running{Log: l, store: s}
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		err := <-ended
		if closeErr := s.Close(); err == nil {
			err = closeErr
		}
		return err
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return r
}

func event(topic, data string) hark.Event {
	return hark.Event{Topic: topic, Data: []byte(data), ContentType: "text/plain"}
}

// must1 appends one event and returns its id.
func (r *running) must1(t testing.TB, tenant hark.TenantID, topic, data string) hark.EventID {
	t.Helper()
	res, err := r.Append(t.Context(), tenant, []hark.Event{event(topic, data)}, Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return res.First
}
