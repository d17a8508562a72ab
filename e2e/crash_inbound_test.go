package e2e

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// TestCrashInbound is [TestCrash] for what comes in by the door, and for batches: a
// source with signed requests, some of them sent again, one without delivery ids, bins
// whose rings are small and large, a reader of a bin's live feed, an owner who changes
// settings, and batches whose end is told to a URL and to a topic.
func TestCrashInbound(t *testing.T) {
	t.Parallel()
	rounds, seed := soak(t, 9)
	c := newInbound(t, seed)
	for round := range rounds {
		c.round(round)
	}
	c.drain()
	c.judge()
}

// inbound is the scenario.
type inbound struct {
	killer
	ledger ledger
	hooks  string // path of the source that verifies
	plain  string // path of the source that does not
	named  string // id of the source that verifies
	bins   []*crashBin
	reader *reader
	owner  *owner
}

// crashSecret is what the source verifies with.
const crashSecret = "It's a secret to everybody, and to nobody"

// tellRetry tries again soon.
var tellRetry = map[string]any{"schedule": []string{"0s", "200ms", "500ms", "1s", "2s", "3s", "5s"}}

// crashBins are the rings: one that is full by its count, one by its bytes, and one
// that holds everything but in long runs.
var crashBins = []map[string]any{
	{"name": "count", "max_requests": 25},
	{"name": "bytes", "max_bytes": 48 << 10},
	{"name": "large", "max_requests": 5000},
}

func newInbound(t *testing.T, seed uint64) *inbound {
	flags := slices.Concat(tiny, []string{"--delivery-age=20s", "--source-rate=-1"})
	c := &inbound{killer: killer{world: start(t, testenv.Setup{Flags: flags}), random: rand.New(rand.NewPCG(seed, 1))}}
	c.ledger.init()
	c.receiver.Answer, c.receiver.Slim = c.answer, true
	for path, topics := range map[string][]string{"/hooks": {"github.>", "plain.>"}, "/bat": {"bat.>"}, "/two": {"bat.two"}, "/told": {"told.>"}} {
		d := testenv.Webhook(c.receiver.URL+path, topics...)
		d.Retry = tellRetry
		c.add(d)
	}
	var made struct{ ID, URL string }
	c.post("/v1/sources", map[string]any{"scheme": "github", "secret": crashSecret}, &made)
	c.named, c.hooks = made.ID, made.URL[strings.Index(made.URL, "/in/"):]
	c.plain = c.world.source(map[string]any{"scheme": "none", "topic": "plain.request"})
	for _, settings := range crashBins {
		c.bins = append(c.bins, newCrashBin(c.world, settings))
	}
	c.reader = &reader{bin: c.bins[len(c.bins)-1].id}
	c.owner = newOwner(c.world)
	c.hurryCallbacks()
	return c
}

// hurryCallbacks has the destination that Hark keeps for the callbacks' URL try again soon.
func (c *inbound) hurryCallbacks() {
	o := c.ledger.order(c.random, c.receiver.URL+"/done")
	if !c.ledger.sendBatch(c.ctx, c.api, o) || !o.acked() {
		c.Fatal(c.ledger.said)
	}
	var made struct {
		Callback struct{ Destination string } `json:"callback"`
	}
	c.get("/v1/batches/"+o.id, &made)
	c.patch("/v1/destinations/"+made.Callback.Destination, map[string]any{"retry": tellRetry})
}

// round puts the server under load for a random time and kills it.
func (c *inbound) round(n int) {
	wait := c.load()
	c.pause(100*time.Millisecond, 1000*time.Millisecond)
	c.kill()
	wait()
	c.rise(n)
	for _, b := range c.bins {
		b.inspect(c.world)
	}
	c.owner.inspect(c.world)
	c.settle()
}

// drain waits until everything that must arrive has.
func (c *inbound) drain() {
	const patience = 60 * time.Second
	end, fewest := time.Now().Add(patience), -1
	for {
		missing := c.missing()
		if len(missing) == 0 {
			break
		}
		if fewest < 0 || len(missing) < fewest {
			end, fewest = time.Now().Add(patience), len(missing)
		}
		if time.Now().After(end) {
			c.Fatalf("%d did not arrive, such as %q", len(missing), missing[:min(5, len(missing))])
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond) // what is too much may still come
	for _, b := range c.bins {
		b.inspect(c.world)
	}
	c.reader.finish(c.world, c.bins[len(c.bins)-1].newest)
}
