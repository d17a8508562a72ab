package live

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/mercure"
)

// presence knows who is subscribed, and has it published.
type presence struct {
	cfg  MercureConfig
	wake chan struct{}

	mu      sync.Mutex // guards below
	tenants map[hark.TenantID]map[string][]mercure.Subscription
	changes uint64
	news    []presenceNews // oldest first
	waiting int            // subscriptions among news
}

// presenceNews is that a subscriber came or went.
type presenceNews struct {
	tenant hark.TenantID
	all    []mercure.Subscription
	active bool
}

func (p *presence) init(cfg MercureConfig) {
	p.cfg = cfg
	p.wake = make(chan struct{}, 1)
	p.tenants = map[hark.TenantID]map[string][]mercure.Subscription{}
}

// join notes a subscriber; leave must be called when it is gone.
func (p *presence) join(t hark.TenantID, want mercure.Selectors, payload json.RawMessage) (leave func()) {
	id := "urn:uuid:" + newUUID()
	all := make([]mercure.Subscription, len(want))
	for i := range want {
		all[i] = mercure.Subscription{Topic: want[i].String(), Subscriber: id, Payload: payload}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tenants[t] == nil {
		p.tenants[t] = map[string][]mercure.Subscription{}
	}
	p.tenants[t][id] = all
	p.tellLocked(presenceNews{t, all, true})
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if delete(p.tenants[t], id); len(p.tenants[t]) == 0 {
			delete(p.tenants, t)
		}
		p.tellLocked(presenceNews{t, all, false})
	})
}

// tellLocked: p.mu must be held. News pile up while the log takes less than who comes and goes
// makes of them: strangers, perhaps, with many topics each. Then they are bounded.
func (p *presence) tellLocked(n presenceNews) {
	p.changes++
	if p.waiting+len(n.all) <= maxNews {
		p.news = append(p.news, n)
		p.waiting += len(n.all)
	} else if p.cfg.Failed != nil {
		p.cfg.Failed(len(n.all), errManyNews)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

var errManyNews = errors.New("too many wait to be published")

const (
	maxNews       = 1 << 16 // subscriptions that wait to be told
	presenceBatch = 200     // updates that are published at once
	presenceWait  = 5 * time.Second
)

// run publishes the news in their order until ctx ends, and then what is left.
func (p *presence) run(ctx context.Context) error {
	for {
		select {
		case <-p.wake:
			p.publish()
		case <-ctx.Done():
			p.publish()
			return nil
		}
	}
}

func (p *presence) publish() {
	for {
		p.mu.Lock()
		news := p.news
		p.news, p.waiting = nil, 0
		p.mu.Unlock()
		if len(news) == 0 {
			return
		}
		var batch []hark.Event
		for i, n := range news {
			for j := range n.all {
				batch = append(batch, n.all[j].Update(n.active).Events()...)
			}
			if last := i == len(news)-1; last || len(batch) >= presenceBatch || news[i+1].tenant != n.tenant {
				p.append(n.tenant, batch)
				batch = nil
			}
		}
	}
}

// append publishes updates of one tenant. What the log does not take is lost, and said to be.
func (p *presence) append(t hark.TenantID, events []hark.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), presenceWait)
	defer cancel()
	_, err := p.cfg.Log.AppendWith(ctx, t, events, eventlog.Idempotency{}, nil)
	if err != nil && p.cfg.Failed != nil {
		p.cfg.Failed(len(events), err)
	}
}

// subscriptions returns those of a tenant, of one topic and one subscriber where these
// are given, and how often anything changed.
func (p *presence) subscriptions(t hark.TenantID, topic, subscriber string) ([]*mercure.Subscription, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []*mercure.Subscription
	take := func(all []mercure.Subscription) {
		for i := range all {
			if topic == "" || all[i].Topic == topic {
				found = append(found, &all[i])
			}
		}
	}
	if subscriber != "" {
		take(p.tenants[t][subscriber])
	} else {
		for _, all := range p.tenants[t] {
			take(all)
		}
	}
	return found, p.changes
}

// Subscriptions answers GET /.well-known/mercure/subscriptions, …/{topic} and …/{topic}/{subscriber}.
func (m *Mercure) Subscriptions(w http.ResponseWriter, r *http.Request) error {
	if !m.cfg.Subscriptions {
		return &hark.Error{Kind: hark.NotFound, Code: "no-such-route", Msg: "this server does not tell subscriptions: start it with --mercure-subscriptions"}
	}
	c := m.cfg.CallerOf(r.Context())
	if shown, _ := c.Credential(); !shown {
		return errNoMercureToken
	}
	g, err := grantOf(c)
	if err != nil {
		return err
	}
	path := r.URL.EscapedPath()
	if err := g.CheckRead(path); err != nil {
		return err
	}
	topic, subscriber := r.PathValue("topic"), r.PathValue("subscriber")
	found, changes := m.presence.subscriptions(c.TenantID(), topic, subscriber)
	if subscriber != "" && len(found) == 0 {
		return hark.NoSuch("subscription", subscriber)
	}
	h, last := w.Header(), m.lastEventID()
	tag := `"` + last + "-" + strconv.FormatUint(changes, 10) + `"`
	h.Set("ETag", tag)
	h.Set("Cache-Control", "private, must-revalidate, max-age=0")
	h.Set("Link", "<"+mercure.Path+`>; rel="mercure"`)
	if slices.Contains(r.Header["If-None-Match"], tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "application/ld+json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute))
	if subscriber != "" {
		_, _ = w.Write(mercure.AppendSubscription(nil, found[0], last)) // a client that went away needs no answer
		return nil
	}
	_ = mercure.WriteCollection(w, path, slices.Values(found), last)
	return nil
}

// lastEventID is where the log stands.
func (m *Mercure) lastEventID() string {
	hub := m.cfg.Hub
	if hub.log.End() == 0 {
		return mercure.Earliest
	}
	return hub.log.Cursor(hub.log.End()).String()
}
