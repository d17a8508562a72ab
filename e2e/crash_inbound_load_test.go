package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// hook is one thing that a provider tells, whether it is sent once or more often.
type hook struct {
	token string // its delivery id, too
	plain bool   // to the source that gives no ids
	acked bool
	tried bool // sent again after a start
}

// hookBody is what it says, the same bytes each time: JSON that decoding and encoding
// would change.
func hookBody(token string) []byte {
	random := rand.New(rand.NewPCG(hash(token), 4))
	return fmt.Appendf(nil, "{ \"token\" :\"%s\",\t\"n\":1.0e2, \"n\":%d,\r\n \"text\":\"\\u00e9\\/é%s\"}\n", token, random.IntN(1000), padding(random, "<", 600))
}

// order is one batch and what became of it.
type order struct {
	name  string
	uid   string
	idem  string
	url   bool // its end is told to a URL; else to a topic
	short bool // its deadline may come first
	body  []byte
	total int // deliveries that its events make
	n     int // events
	id    string
}

func (o *order) acked() bool { return o.id != "" }

// ledger is what the senders know.
type ledger struct {
	mu     sync.Mutex // guards below
	number int
	hooks  map[string]*hook
	orders []*order
	begun  map[string]bool   // tokens of hooks that are to be looked at after the next start
	told   map[string]ending // by webhook-id
	said   []string
}

// ending is the callback of a batch as it was first seen.
type ending struct {
	path string
	at   time.Time
	body endingBody
}

type endingBody struct {
	Batch  string         `json:"batch"`
	UID    string         `json:"uid"`
	State  string         `json:"state"`
	Events int            `json:"events"`
	Counts map[string]int `json:"counts"`
}

func (l *ledger) init() {
	l.hooks, l.begun, l.told = map[string]*hook{}, map[string]bool{}, map[string]ending{}
}

func (l *ledger) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, fmt.Sprintf(format, args...))
}

// complaints takes what was complained of.
func (l *ledger) complaints() (said []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	said, l.said = l.said, nil
	return said
}

func (l *ledger) next(prefix string) string {
	l.number++
	return fmt.Sprintf("%s%d", prefix, l.number)
}

// hook makes one.
func (l *ledger) hook(plain bool) *hook {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &hook{token: l.next("h"), plain: plain}
	l.hooks[h.token], l.begun[h.token] = h, true
	return h
}

// order makes a batch. Url is where its end is told, or empty for a topic.
func (l *ledger) order(random *rand.Rand, url string) *order {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &order{name: l.next("b"), url: url != "", n: 1 + random.IntN(20), short: random.IntN(12) == 0}
	events := make([]testenv.Event, o.n)
	for i := range events {
		topic := []string{"bat.one", "bat.two"}[random.IntN(2)]
		events[i] = testenv.Event{Topic: topic, Data: map[string]string{"token": fmt.Sprintf("%s.%d", o.name, i)}}
		if o.total++; topic == "bat.two" {
			o.total++
		}
	}
	callback := map[string]string{"topic": "told.batch"}
	if url != "" {
		callback = map[string]string{"url": url}
	}
	body := map[string]any{"events": events, "callback": callback}
	if o.short {
		body["deadline"] = "1s"
	}
	switch random.IntN(4) {
	case 0:
		o.idem = "idem-" + o.name
	case 1: // cannot be repeated
	default:
		o.uid = o.name
		body["uid"] = o.uid
	}
	o.body, _ = json.Marshal(body)
	l.orders = append(l.orders, o)
	return o
}

// sendHook sends as GitHub does and notes whether it was taken.
func (c *inbound) sendHook(api testenv.API, h *hook) (answered bool) {
	body, path := hookBody(h.token), c.hooks
	headers := []string{"X-GitHub-Event", "push", "X-GitHub-Delivery", h.token, "X-Hub-Signature-256", githubSignature(crashSecret, body)}
	if h.plain {
		path, headers = c.plain, nil
	}
	api.Key = ""
	answer, err := api.Do(c.ctx, "POST", path, testenv.Raw{Type: "application/json", Body: body}, headers...)
	if err != nil {
		return false
	}
	if answer.Status != 200 {
		c.ledger.complain("%s was answered %s", h.token, answer)
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	h.acked = h.acked || answer.OK()
	return true
}

func githubSignature(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// sendBatch publishes a batch and notes the outcome.
func (l *ledger) sendBatch(ctx context.Context, api testenv.API, o *order) (answered bool) {
	var headers []string
	if o.idem != "" {
		headers = []string{"Idempotency-Key", o.idem}
	}
	answer, err := api.Do(ctx, "POST", "/v1/batches", testenv.Raw{Type: "application/json", Body: o.body}, headers...)
	if err != nil {
		return false
	}
	var got struct {
		ID        string   `json:"id"`
		IDs       []string `json:"ids"`
		Duplicate bool     `json:"duplicate"`
	}
	if err := json.Unmarshal(answer.Body, &got); err != nil || !answer.OK() || len(got.IDs) != o.n {
		l.complain("batch %s was answered %s", o.name, answer)
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.acked() && (o.id != got.ID || !got.Duplicate) {
		l.said = append(l.said, fmt.Sprintf("batch %s was %s, and repeated it was answered %s", o.name, o.id, answer))
	}
	o.id = got.ID
	return true
}

// load starts everybody; all end when the server stops answering. Wait waits for that.
func (c *inbound) load() (wait func()) {
	var wg sync.WaitGroup
	api := c.api
	each := func(n int, pause time.Duration, do func(random *rand.Rand) bool) {
		for range n {
			random := rand.New(rand.NewPCG(c.random.Uint64(), 2))
			wg.Go(func() {
				for do(random) {
					time.Sleep(time.Duration(random.Int64N(int64(pause))))
				}
			})
		}
	}
	each(3, 8*time.Millisecond, func(random *rand.Rand) bool {
		h := c.ledger.hook(random.IntN(5) == 0)
		if h.plain || random.IntN(4) > 0 {
			return c.sendHook(api, h)
		}
		var twin sync.WaitGroup // the same delivery twice at once
		twin.Go(func() { c.sendHook(api, h) })
		answered := c.sendHook(api, h)
		twin.Wait()
		return answered
	})
	each(4, 6*time.Millisecond, func(random *rand.Rand) bool {
		return c.bins[random.IntN(len(c.bins))].shoot(c.ctx, api, &c.ledger, random)
	})
	each(2, 15*time.Millisecond, func(random *rand.Rand) bool {
		url := ""
		if random.IntN(2) == 0 {
			url = c.receiver.URL + "/done"
		}
		return c.ledger.sendBatch(c.ctx, api, c.ledger.order(random, url))
	})
	each(1, 20*time.Millisecond, func(random *rand.Rand) bool { return c.owner.change(c.ctx, api, random) })
	wg.Go(func() { c.reader.follow(c.ctx, api, &c.ledger, "") })
	return wg.Wait
}

// settle does, after a start, what senders do who had no answer: they send again. Some
// do although they had one.
func (c *inbound) settle() {
	c.ledger.mu.Lock()
	var hooks []*hook
	for token := range c.ledger.begun {
		h := c.ledger.hooks[token]
		if !h.plain && (!h.acked || c.random.IntN(10) == 0) {
			hooks = append(hooks, h)
		}
	}
	clear(c.ledger.begun)
	var orders []*order
	for _, o := range c.ledger.orders[max(0, len(c.ledger.orders)-100):] {
		if o.body != nil && (o.uid != "" || o.idem != "") && (!o.acked() || c.random.IntN(10) == 0) {
			orders = append(orders, o)
		}
	}
	c.ledger.mu.Unlock()
	for _, h := range hooks {
		if h.tried = true; !c.sendHook(c.api, h) || !h.acked {
			c.Fatalf("%s, sent again after the start, was not taken: %q", h.token, c.ledger.said)
		}
	}
	for _, o := range orders {
		if !c.ledger.sendBatch(c.ctx, c.api, o) || !o.acked() {
			c.Fatalf("batch %s, sent again after the start, was not taken: %q", o.name, c.ledger.said)
		}
	}
	for _, o := range c.ledger.orders {
		o.body = nil
	}
	c.inspectSource()
}

// answer is how the receivers behave; what comes must be, byte for byte, what was sent.
func (c *inbound) answer(h *testenv.Hit) int {
	share := float64(hash(h.ID+h.Path)%1000) / 1000
	switch h.Path {
	case "/hooks", "/bat", "/two":
		var data struct{ Token string }
		if err := json.Unmarshal(h.Body, &data); err != nil || data.Token == "" {
			c.ledger.complain("%s got %q: %v", h.Path, h.Body, err)
		}
		if h.Note = data.Token; h.Path == "/hooks" && !bytes.Equal(h.Body, hookBody(h.Note)) {
			c.ledger.complain("%s got %q, sent was %q", h.Path, h.Body, hookBody(h.Note))
		}
		time.Sleep(time.Duration(float64(5*time.Millisecond) * share))
	case "/done", "/told":
		var r ending
		if err := json.Unmarshal(h.Body, &r.body); err != nil || r.body.Batch == "" {
			c.ledger.complain("%s got %q: %v", h.Path, h.Body, err)
		}
		h.Note = r.body.Batch
		r.path, r.at = h.Path, h.Begin
		c.ledger.mu.Lock()
		if old, ok := c.ledger.told[h.ID]; !ok {
			c.ledger.told[h.ID] = r
		} else if fmt.Sprint(old.body) != fmt.Sprint(r.body) {
			c.ledger.said = append(c.ledger.said, fmt.Sprintf("%s was %v and is %v", h.ID, old.body, r.body))
		}
		c.ledger.mu.Unlock()
	}
	if h.Header.Get("Hark-Attempt") == "1" && share < 0.03 {
		return 500
	}
	return 204
}
