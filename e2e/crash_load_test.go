package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// payload is an event's data; token names it whatever id it got.
type payload struct {
	Token string `json:"token"`
	Batch string `json:"batch"`
	Size  int    `json:"size"`
	Pad   string `json:"pad"`
}

// publication is one publish request and what became of it.
type publication struct {
	name   string
	events []testenv.Event
	tokens []string
	idem   string
	ids    []string // in the order of tokens, once acknowledged
	refuse string   // an answer that says no
}

func (p *publication) acked() bool { return p.ids != nil }

func (p *publication) topic(i int) string { return p.events[i].Topic }

// body is the request's: the same bytes whenever it is sent.
func (p *publication) body() testenv.Raw {
	var v any = p.events
	if len(p.events) == 1 {
		v = p.events[0]
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return testenv.Raw{Type: "application/json", Body: text}
}

// grant is one delivery that the worker pulled.
type grant struct {
	delivery, id, token string
	era                 int
	at, until           time.Time
	acked               time.Time // when the ack was answered
	unknown             bool      // the ack was sent and not answered, and nobody has looked since
	nacked              bool
}

// book is what the harness knows: everything it sent and what was answered.
type book struct {
	mu     sync.Mutex // guards below
	number int
	pubs   []*publication
	grants []*grant
	sends  []span   // publish requests; end is zero without an answer
	said   []string // complaints found on the way
}

type span struct{ begin, end time.Time }

// commitBefore bounds one commit at a moment: the longest that a publish took
// that was answered in the second before, or had been waiting when the moment
// came. Each waits for one commit at least.
func (b *book) commitBefore(at time.Time) (longest time.Duration) {
	for _, s := range b.sends {
		switch {
		case s.begin.Before(at) && (s.end.IsZero() || s.end.After(at)):
			longest = max(longest, at.Sub(s.begin))
		case s.end.Before(at) && s.end.After(at.Add(-time.Second)):
			longest = max(longest, s.end.Sub(s.begin))
		}
	}
	return longest
}

func (b *book) complain(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, fmt.Sprintf(format, args...))
}

// compose makes a publication of n events; some have a key, some requests an
// Idempotency-Key.
func (b *book) compose(random *rand.Rand, n int) *publication {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.number++
	p := &publication{name: fmt.Sprintf("p%d", b.number)}
	topics := []string{"a.one", "b.one", "ord.one", "lag.one", "a.two", "ord.two", "other"}
	for i := range n {
		token := fmt.Sprintf("%s.%d", p.name, i)
		topic := topics[random.IntN(len(topics))]
		e := testenv.Event{Topic: topic, Data: payload{token, p.name, n, padding(random, "x", 400)}}
		if strings.HasPrefix(topic, "ord.") && random.IntN(8) > 0 {
			e.Key = fmt.Sprintf("key%d", random.IntN(6))
		}
		p.events, p.tokens = append(p.events, e), append(p.tokens, token)
	}
	if random.IntN(2) == 0 {
		p.idem = "idem-" + p.name
	}
	b.pubs = append(b.pubs, p)
	return p
}

// padding is short, or at times so long that the event's data is in a file of values.
func padding(random *rand.Rand, letter string, short int) string {
	if random.IntN(12) == 0 {
		return strings.Repeat(letter, 4<<10+random.IntN(20<<10))
	}
	return strings.Repeat(letter, random.IntN(short))
}

// send publishes and notes the outcome. Without an answer the outcome is open.
func (b *book) send(ctx context.Context, api testenv.API, p *publication) (answered bool) {
	var headers []string
	if p.idem != "" {
		headers = []string{"Idempotency-Key", p.idem}
	}
	begin := time.Now()
	answer, err := api.Do(ctx, "POST", "/v1/events", p.body(), headers...)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.sends = append(b.sends, span{begin: begin})
		return false
	}
	b.sends = append(b.sends, span{begin, time.Now()})
	if !answer.OK() {
		p.refuse = answer.String()
		return true
	}
	var got testenv.Published
	if err := json.Unmarshal(answer.Body, &got); err != nil || len(got.All()) != len(p.tokens) {
		b.said = append(b.said, fmt.Sprintf("%s of %d events was answered %s", p.name, len(p.tokens), answer))
		return true
	}
	again := p.acked()
	if again && fmt.Sprint(p.ids) != fmt.Sprint(got.All()) {
		b.said = append(b.said, fmt.Sprintf("%s was answered ids %v, and repeated with its Idempotency-Key %v", p.name, p.ids, got.All()))
	}
	if again && (!got.Duplicate || answer.Status != 200) {
		b.said = append(b.said, fmt.Sprintf("%s was acknowledged; repeated with its Idempotency-Key it was answered %s", p.name, answer))
	}
	p.ids, p.refuse = got.All(), ""
	return true
}

// running is a load under way.
type running struct {
	wg   sync.WaitGroup
	stop chan struct{}
}

func (r *running) wait() { r.wg.Wait() }

func (r *running) stopped() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}

// load starts publishers of singles and of batches, and the worker. It ends
// when the server stops answering.
func (c *crash) load() *running {
	r := c.work()
	sizes := []func(*rand.Rand) int{
		func(*rand.Rand) int { return 1 }, func(*rand.Rand) int { return 1 }, func(*rand.Rand) int { return 1 },
		func(r *rand.Rand) int { return 2 + r.IntN(40) }, func(r *rand.Rand) int { return 2 + r.IntN(8) },
	}
	api := c.api
	for _, size := range sizes {
		random := rand.New(rand.NewPCG(c.random.Uint64(), 2))
		r.wg.Go(func() {
			for {
				n := size(random)
				if !c.book.send(c.ctx, api, c.book.compose(random, n)) {
					return
				}
				time.Sleep(time.Duration(random.Int64N(int64(4*time.Millisecond) + int64(n)*int64(time.Millisecond))))
			}
		})
	}
	return r
}

// settle repeats, after a start, the requests that have an Idempotency-Key:
// those without an answer, and some of the acknowledged.
func (c *crash) settle() {
	c.book.mu.Lock()
	var again []*publication
	recent := c.book.pubs[max(0, len(c.book.pubs)-300):]
	for _, p := range recent {
		if p.idem != "" && p.refuse == "" && (!p.acked() || c.random.IntN(20) == 0) {
			again = append(again, p)
		}
	}
	var open []*grant
	for _, g := range c.book.grants {
		if g.unknown && !g.nacked {
			open = append(open, g)
		}
	}
	c.book.mu.Unlock()
	for _, g := range open {
		c.look(g)
	}
	for _, p := range again {
		if !c.book.send(c.ctx, c.api, p) || !p.acked() {
			c.Fatalf("%s, repeated after the restart, was not acknowledged: %s", p.name, p.refuse)
		}
	}
}

// look asks what became of an ack that was not answered: done, or the lease goes
// on and runs out.
func (c *crash) look(g *grant) {
	var d struct {
		State string `json:"state"`
	}
	c.get("/v1/deliveries/"+g.delivery, &d)
	switch d.State {
	case "delivered":
		g.acked = time.Now()
	case "due", "sending":
	default:
		c.Errorf("pull: %s is %q after an ack without answer", g.delivery, d.State)
	}
	g.unknown = false
}

// work starts the worker of the pull destination. It acks most, nacks some, and
// lets some leases run out.
func (c *crash) work() *running {
	r := &running{stop: make(chan struct{})}
	api, era, random := c.api, c.receiver.Era(), rand.New(rand.NewPCG(c.random.Uint64(), 3))
	path := "/v1/destinations/" + c.pull.ID
	r.wg.Go(func() {
		for !r.stopped() {
			var got struct {
				Deliveries []struct {
					Delivery string    `json:"delivery"`
					Token    string    `json:"token"`
					Until    time.Time `json:"lease_until"`
					Event    struct {
						ID   string  `json:"id"`
						Data payload `json:"data"`
					} `json:"event"`
				} `json:"deliveries"`
			}
			answer, err := api.Do(c.ctx, "POST", path+"/pull?max=50&lease=1s&wait=200ms", nil)
			if err != nil {
				return
			}
			if err := json.Unmarshal(answer.Body, &got); err != nil || !answer.OK() {
				c.book.complain("pull was answered %s", answer)
				return
			}
			var acks, nacks leases
			for _, d := range got.Deliveries {
				g := &grant{delivery: d.Delivery, id: d.Event.ID, token: d.Event.Data.Token, era: era, at: time.Now(), until: d.Until}
				c.book.mu.Lock()
				c.book.grants = append(c.book.grants, g)
				c.book.mu.Unlock()
				switch n := random.IntN(40); {
				case n == 0: // the worker forgets it
				case n == 1:
					nacks.add(g, d.Token)
				default:
					acks.add(g, d.Token)
				}
			}
			if !c.book.settleLeases(c.ctx, api, path+"/ack", &acks) || !c.book.settleLeases(c.ctx, api, path+"/nack", &nacks) {
				return
			}
		}
	})
	return r
}

// leases is the body of an ack or nack.
type leases struct {
	grants     []*grant
	Deliveries []lease `json:"deliveries"`
	Delay      string  `json:"delay,omitempty"`
}

type lease struct {
	Delivery string `json:"delivery"`
	Token    string `json:"token"`
}

func (l *leases) add(g *grant, token string) {
	l.grants, l.Deliveries = append(l.grants, g), append(l.Deliveries, lease{g.delivery, token})
}

// settleLeases sends acks or nacks and notes what was answered.
func (b *book) settleLeases(ctx context.Context, api testenv.API, path string, l *leases) (answered bool) {
	if len(l.grants) == 0 {
		return true
	}
	nack := strings.HasSuffix(path, "/nack")
	if nack {
		l.Delay = "0s"
	}
	answer, err := api.Do(ctx, "POST", path, l)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range l.grants {
		switch {
		case err != nil:
			g.unknown, g.nacked = true, nack
		case answer.OK() && nack:
			g.nacked = true
		case answer.OK():
			g.acked = time.Now()
		case time.Now().Before(g.until.Add(-100 * time.Millisecond)):
			b.said = append(b.said, fmt.Sprintf("%s within the lease was answered %s", path, answer))
			return true
		}
	}
	return err == nil
}

func hash(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}
