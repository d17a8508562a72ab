package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// tiny makes flushes, WAL rotation, compaction, buckets and retention fall
// inside a test of seconds.
var tiny = []string{
	"--store-memtable=262144", "--store-cache=1048576", "--store-tail=262144",
	"--store-bucket-bytes=65536", "--store-bucket-age=1s", "--store-retain-every=300ms",
	"--retain-age=3s", "--delivery-age=6s", "--key-rate=-1",
}

// TestCrash publishes under load, kills the server at random moments, starts it
// again, and judges at the end what every receiver saw: see judge.
//
// HARK_SOAK_ROUNDS sets the number of rounds, HARK_SEED repeats a run's choices.
func TestCrash(t *testing.T) {
	t.Parallel()
	rounds, seed := soak(t, 20)
	c := newCrash(t, seed)
	for round := range rounds {
		c.round(round)
	}
	c.drain()
	c.judge()
}

// soak says how many rounds to play, and with which seed; it prints the seed.
func soak(t *testing.T, rounds int) (n int, seed uint64) {
	t.Helper()
	if text := os.Getenv("HARK_SOAK_ROUNDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("HARK_SOAK_ROUNDS: %v", err)
		}
		rounds = n
	}
	return rounds, chance(t)
}

// chance is the seed of a test's choices; it is printed.
func chance(t *testing.T) (seed uint64) {
	t.Helper()
	seed = uint64(time.Now().UnixNano())
	if text := os.Getenv("HARK_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("HARK_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("HARK_SEED=%d", seed)
	return seed
}

// killer is a world whose server is killed again and again.
type killer struct {
	*world
	random *rand.Rand
	kills  []time.Time   // by era of the receiver
	slow   time.Duration // the slowest start
}

func (k *killer) pause(least, most time.Duration) {
	time.Sleep(least + time.Duration(k.random.Int64N(int64(most-least))))
}

func (k *killer) kill() {
	at := time.Now()
	if err := k.server.Kill(); err != nil {
		k.Fatal(err)
	}
	k.kills = append(k.kills, at)
	k.nextEra()
}

// rise starts the killed server again, sometimes killing it once more while it starts.
func (k *killer) rise(round int) {
	for k.random.IntN(5) == 0 {
		s, err := testenv.Launch(binary, k.server.Next())
		if err != nil {
			k.Fatal(err)
		}
		k.adopt(s)
		k.pause(0, 150*time.Millisecond)
		k.kill()
	}
	k.again()
	k.slow = max(k.slow, k.server.Took)
	if k.server.Took > 10*time.Second {
		k.Errorf("round %d: ready only after %v", round, k.server.Took)
	}
}

// crash is the scenario: destinations of several tempers, publishers and a
// worker that go on through every kill.
type crash struct {
	killer
	book   *book
	oldest time.Duration // how long before a kill the oldest delivery that came again was accepted
	pull   testenv.Destination
}

// route is a destination of the scenario: where it posts, and what it takes.
type route struct {
	path    string
	prefix  string // of topics; "" takes all
	ordered bool
	delay   time.Duration // the longest answer
	faults  float64       // share of first attempts that fail
	workers int           // concurrency; 0 adapts
}

var crashRoutes = []route{
	{path: "/all", faults: 0.02},
	{path: "/slow", prefix: "a.", delay: 30 * time.Millisecond},
	{path: "/ordered", prefix: "ord.", ordered: true, delay: 3 * time.Millisecond, faults: 0.03},
	// It gets more than it can take, so its own cursor lags behind and catches up.
	{path: "/behind", prefix: "lag.", delay: 15 * time.Millisecond, workers: 2},
}

// pulled is the prefix of the topics that the pull destination takes.
const pulled = "b."

func newCrash(t *testing.T, seed uint64) *crash {
	c := &crash{killer: killer{world: start(t, testenv.Setup{Flags: tiny}), random: rand.New(rand.NewPCG(seed, 1))}, book: &book{}}
	c.receiver.Answer, c.receiver.Slim = c.answer, true
	for _, r := range crashRoutes {
		d := testenv.Webhook(c.receiver.URL+r.path, r.prefix+">")
		d.Ordered, d.Concurrency = r.ordered, r.workers
		d.Retry = map[string]any{"schedule": []string{"0s", "200ms", "500ms", "1s", "2s", "3s", "5s"}}
		c.add(d)
	}
	c.pull = c.add(testenv.Destination{Kind: "pull", Topics: []string{pulled + ">"}, Settings: map[string]any{}})
	return c
}

// answer is how the receivers behave. Whether an event's first attempt fails
// is a function of its id.
func (c *crash) answer(h *testenv.Hit) int {
	var data payload
	if err := json.Unmarshal(h.Body, &data); err != nil {
		c.book.complain("%s got %q: %v", h.Path, h.Body, err)
	}
	h.Note = data.Token
	for _, r := range crashRoutes {
		if r.path != h.Path {
			continue
		}
		share := float64(hash(h.ID+r.path)%1000) / 1000
		if r.delay > 0 {
			time.Sleep(time.Duration(float64(r.delay) * share))
		}
		if h.Header.Get("Hark-Attempt") == "1" && share < r.faults {
			return 500
		}
	}
	return 204
}

// round puts the server under load for a random time and kills it, sometimes
// once more while it starts.
func (c *crash) round(n int) {
	load := c.load()
	c.pause(100*time.Millisecond, 1500*time.Millisecond)
	c.kill()
	load.wait()
	c.rise(n)
	c.settle()
}

// drain waits until everything that must arrive has, and nothing more happens.
func (c *crash) drain() {
	load := c.work() // only the worker
	defer func() {
		close(load.stop)
		load.wait()
	}()
	// The backlog of the one that lags grows with the rounds: what counts is that it shrinks.
	const patience = 60 * time.Second
	end, fewest := time.Now().Add(patience), -1
	for {
		begin := time.Now()
		missing := c.missing()
		if len(missing) == 0 {
			break
		}
		if fewest < 0 || len(missing) < fewest {
			end, fewest = time.Now().Add(patience), len(missing)
		}
		time.Sleep(max(50*time.Millisecond, 2*time.Since(begin)))
		if time.Now().After(end) {
			c.explain(missing)
			c.Fatalf("%d deliveries are missing", len(missing))
		}
	}
	time.Sleep(500 * time.Millisecond) // what is too much may still come
}

// explain shows what the server thinks of what is missing.
func (c *crash) explain(missing []undelivered) {
	count := map[string]int{}
	for _, m := range missing {
		count[m.path]++
	}
	c.Logf("missing by receiver: %v; from %s to %s", count, missing[0].id, missing[len(missing)-1].id)
	for i, m := range missing {
		if i == 5 {
			break
		}
		answer, _ := c.api.Do(c.ctx, "GET", "/v1/deliveries?event="+m.id, nil)
		event, _ := c.api.Do(c.ctx, "GET", "/v1/events/"+m.id, nil)
		c.Logf("missing at %s: %s, by publication %s\ndeliveries %s\nevent %s", m.path, m.id, m.name, answer, event)
	}
	var list struct {
		Destinations []testenv.Destination `json:"destinations"`
	}
	c.get("/v1/destinations", &list)
	for _, d := range list.Destinations {
		answer, _ := c.api.Do(c.ctx, "GET", "/v1/destinations/"+d.ID, nil)
		c.Log(answer)
	}
}
