package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// audience is a world that is listened to: followers over every live transport,
// publishers, and the book of what they published. See package live for what a
// follower complains of.
type audience struct {
	killer
	book    live.Book
	clients []*live.Client
	target  live.Target
	wg      sync.WaitGroup

	mu  sync.Mutex // guards below: the server changes under the followers' checks
	now testenv.API
}

// hear starts a server that is listened to; the test's choices follow from the seed.
func hear(t *testing.T, seed uint64, setup testenv.Setup) *audience {
	t.Helper()
	setup.Flags = append([]string{"--key-rate=-1"}, setup.Flags...)
	a := &audience{killer: killer{world: start(t, setup), random: rand.New(rand.NewPCG(seed, 4))}}
	a.target = live.Target{URL: a.server.URL, Token: a.server.Key}
	a.now = a.api
	ctx, cancel := context.WithCancel(a.ctx)
	a.ctx = ctx
	t.Cleanup(func() {
		cancel()
		a.wg.Wait()
	})
	return a
}

// current is the API of the server that runs, for goroutines.
func (a *audience) current() testenv.API {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

// took tells the followers' checks that another server runs.
func (a *audience) took() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = a.api
}

// client adds a follower of topics, which does not run yet.
func (a *audience) client(name string, topics ...string) *live.Client {
	c := live.NewClient(name, a.target, topics...)
	c.Check = a.book.Doubts(a.current)
	c.Start.Rounds = 8 // then another transport may have its turn
	a.clients = append(a.clients, c)
	return c
}

// follow runs a client until the test ends, or stop is called.
func (a *audience) follow(c *live.Client, next func() live.Transport, p live.Patience) (stop func()) {
	ctx, cancel := context.WithCancel(a.ctx)
	done := make(chan struct{})
	a.wg.Go(func() {
		c.Run(ctx, next, p)
		close(done)
	})
	return func() {
		cancel()
		<-done
	}
}

// mixed picks transports at random, with choices of its own.
func (a *audience) mixed(of ...live.Transport) func() live.Transport {
	if len(of) == 0 {
		of = live.All
	}
	return live.AtRandom(rand.New(rand.NewPCG(a.random.Uint64(), 5)), of...)
}

// listening waits until every client is connected.
func (a *audience) listening() {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.ctx, enough)
	defer cancel()
	for _, c := range a.clients {
		if err := c.WaitOpen(ctx, 1); err != nil {
			a.Fatal(err)
		}
	}
}

// say publishes one event for each topic, as a batch, and returns the last id.
func (a *audience) say(pad int, topics ...string) string {
	a.Helper()
	id, err := a.book.Must(a.ctx, a.current(), pad, topics...)
	if err != nil {
		a.Fatal(err)
	}
	return id
}

// chatter publishes from n publishers, batches of up to most events on random
// topics, until stop is called or the server does not answer.
func (a *audience) chatter(n, most int, pause time.Duration, topics ...string) (stop func()) {
	ctx, cancel := context.WithCancel(a.ctx)
	var publishers sync.WaitGroup
	for range n {
		random := rand.New(rand.NewPCG(a.random.Uint64(), 6))
		api := a.current()
		publishers.Go(func() {
			for ctx.Err() == nil {
				batch := make([]string, 1+random.IntN(most))
				for i := range batch {
					batch[i] = topics[random.IntN(len(topics))]
				}
				ok, err := a.book.Publish(a.ctx, api, random.IntN(300), batch...)
				if err != nil {
					a.Error(err)
				}
				if !ok || err != nil {
					return
				}
				time.Sleep(time.Duration(random.Int64N(int64(2*pause) + 1)))
			}
		})
	}
	return func() {
		cancel()
		publishers.Wait()
	}
}

// settle waits until each client has come as far as what it follows goes.
func (a *audience) settle() {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.ctx, enough)
	defer cancel()
	for _, c := range a.clients {
		if err := c.WaitFor(ctx, a.book.Last(c.Topics()...)); err != nil {
			a.Error(err)
		}
	}
}

// judge says everything that is wrong with what the clients saw.
func (a *audience) judge() {
	a.Helper()
	events, conns, gaps := 0, 0, 0
	for _, c := range a.clients {
		for _, said := range a.book.Judge(c) {
			a.Errorf("%s: %s", c.Name, said)
		}
		events, conns, gaps = events+c.Count(), conns+len(c.Connections()), gaps+len(c.Gaps())
	}
	a.Logf("%d events acknowledged; %d clients saw %d events over %d connections, and %d gaps",
		len(a.book.Acked()), len(a.clients), events, conns, gaps)
}

// compare reads the whole log into the book.
func (a *audience) compare() {
	a.Helper()
	var stored []live.Event
	for _, e := range a.storedEvents("%3E") {
		token := ""
		if data, ok := e.Data.(map[string]any); ok {
			token, _ = data["token"].(string)
		}
		stored = append(stored, live.Event{ID: e.ID, Topic: e.Topic, Token: token})
	}
	a.book.Compare(stored)
}

// gone waits until retention has taken an event; meanwhile it publishes on topic,
// because something must end the bucket that the event is in.
func (a *audience) gone(id, topic string) {
	a.Helper()
	eventually(a.T, enough, func() string {
		answer, err := a.api.Do(a.ctx, "GET", "/v1/events/"+id, nil)
		if err == nil && answer.Status/100 == 4 {
			return ""
		}
		time.Sleep(100 * time.Millisecond)
		a.say(1000, topic, topic, topic)
		return fmt.Sprintf("retention does not take %s: %s %v", id, answer, err)
	})
}

// restart stops or kills the server and starts it again.
func (a *audience) restart(kill bool) {
	a.Helper()
	if kill {
		a.kill()
	} else {
		a.stop()
	}
	a.again()
	a.took()
}

// backUp makes a backup and returns its file.
func (a *audience) backUp() string {
	a.Helper()
	file := filepath.Join(a.TempDir(), "backup.tar")
	if out, err := a.server.Run(a.ctx, "backup", file); err != nil {
		a.Fatalf("%v\n%s", err, out)
	}
	return file
}
