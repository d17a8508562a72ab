package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestLiveModel plays at random: followers come, are cut, switch transport, rest
// longer than retention keeps, start anew from now, from the earliest or with the last
// few; publishers go on; the server is stopped and killed. Everyone sees all it is
// owed or is told of the gap.
//
// HARK_SOAK sets how long it plays, HARK_SEED repeats a run's choices.
func TestLiveModel(t *testing.T) {
	t.Parallel()
	long := 12 * time.Second
	if text := os.Getenv("HARK_SOAK"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatalf("HARK_SOAK: %v", err)
		}
	}
	a := hear(t, chance(t), testenv.Setup{Flags: forgetful})
	topics := []string{"a.one", "a.two", "a.one.deep", "b.one", "b.two", "c"}
	patterns := [][]string{nil, {">"}, {"a.*"}, {"a.>", "b.two"}, {"b.*"}, {"c"}, {"*.one"}, {"none"}}
	var players []*player
	var playing sync.WaitGroup
	over := make(chan struct{})
	for i := range 16 {
		p := &player{a: a, name: fmt.Sprintf("player %d", i), topics: patterns[i%len(patterns)],
			random: rand.New(rand.NewPCG(a.random.Uint64(), 7)), over: over}
		players = append(players, p)
		playing.Go(p.play)
	}
	end := time.Now().Add(long)
	stop := a.chatter(2, 8, 5*time.Millisecond, topics...)
	for time.Now().Before(end) {
		a.pause(500*time.Millisecond, 4*time.Second)
		stop()
		if a.random.IntN(2) == 0 {
			a.restart(a.random.IntN(2) == 0)
		}
		stop = a.chatter(2, 8, 5*time.Millisecond, topics...)
	}
	close(over)
	playing.Wait()
	stop()
	for _, p := range players {
		a.clients = append(a.clients, p.client)
		a.follow(p.client, a.mixed(), live.Patience{})
	}
	for _, topic := range topics {
		a.say(0, topic)
	}
	a.settle()
	for _, p := range players {
		a.clients = append(a.clients, p.before...)
	}
	a.judge()
}

// player is a follower that behaves at random until it is over.
type player struct {
	a      *audience
	name   string
	topics []string
	random *rand.Rand
	over   chan struct{}
	client *live.Client
	before []*live.Client // those it gave up for a new start
}

func (p *player) play() {
	p.begin()
	for {
		p.connect(time.Duration(p.random.Int64N(int64(1500 * time.Millisecond))))
		rest := time.Duration(p.random.Int64N(int64(100 * time.Millisecond)))
		switch p.random.IntN(20) {
		case 0:
			rest = 4*time.Second + 20*rest // retention passes it
		case 1:
			p.before = append(p.before, p.client)
			p.begin()
		}
		select {
		case <-p.over:
			return
		case <-time.After(rest):
		}
	}
}

// begin starts anew: from now, from the earliest, with the last few, or where it was.
func (p *player) begin() {
	old := p.client
	c := live.NewClient(fmt.Sprintf("%s, %d", p.name, len(p.before)), p.a.target, p.topics...)
	c.Check = p.a.book.Doubts(p.a.current)
	c.Start.Limit = 1 + p.random.IntN(50)
	c.Start.Wait = time.Second
	switch p.random.IntN(4) {
	case 0:
		c.Start.From = "earliest"
	case 1:
		c.Start.Last = 1 + p.random.IntN(20)
	case 2:
		if old != nil {
			c.Start.After = old.Cursor()
		}
	}
	p.client = c
}

// connect makes one connection of at most a time.
func (p *player) connect(most time.Duration) {
	ctx, cancel := context.WithTimeout(p.a.ctx, most)
	defer cancel()
	err := p.client.Connect(ctx, live.All[p.random.IntN(len(live.All))])
	var refused *live.Refused
	if errors.As(err, &refused) {
		p.a.Errorf("%s: %v", p.client.Name, err)
	}
}
