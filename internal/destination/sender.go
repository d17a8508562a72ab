package destination

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/internal/webpush"
	"github.com/harkhq/hark/webhook"
)

// Doer sends requests; [egress.Client] is one.
type Doer interface {
	// Do answers within ctx, with at most snippetMax bytes of the body.
	Do(ctx context.Context, req *http.Request, snippetMax int) (egress.Response, error)
}

// Config is what a [Sender] is made of.
type Config struct {
	Client Doer
	// CheckURL parses the URL of a setting and refuses what could never be delivered
	// to: [egress.Guard.CheckURL].
	CheckURL func(raw string) (*url.URL, error)
	// Version goes into the User-Agent.
	Version string
	// Audiences push to devices; nil if none do.
	Audiences Audiences
	// CacheSize bounds how many destinations are kept ready to send; 0 for 8192.
	CacheSize int
}

// environment is what all kinds share.
type environment struct {
	client    Doer
	checkURL  func(string) (*url.URL, error)
	userAgent string
	audiences Audiences
}

// Sender checks, opens and sends to destinations of every kind. It is safe for
// concurrent use.
type Sender struct {
	env  environment
	size int

	mu    sync.RWMutex // guards cache
	cache map[hark.DestinationID]*entry
}

type entry struct {
	revision uint64
	opened   opened
	err      error
	used     atomic.Bool // since the hand of the clock came by
}

// New makes a Sender.
func New(c Config) *Sender {
	if c.CheckURL == nil {
		c.CheckURL = (&egress.Guard{}).CheckURL
	}
	return &Sender{
		env:   environment{client: c.Client, checkURL: c.CheckURL, userAgent: "Hark/" + cmp.Or(c.Version, "dev"), audiences: c.Audiences},
		size:  cmp.Or(c.CacheSize, 8192),
		cache: make(map[hark.DestinationID]*entry),
	}
}

// Meta is what a send needs to know besides the event.
type Meta struct {
	// Attempt counts from 1 over all runs.
	Attempt int
	// Time of the attempt; zero for now.
	Time time.Time
	// MessageID stands in for the event's id, for events that are not in the log.
	MessageID string
}

// Result is how a send ended.
type Result struct {
	Outcome hark.Outcome
	// Status is the answer's; 0 without one.
	Status int
	// RetryAfter is what the answer asked for; 0 for nothing. The caller caps it.
	RetryAfter time.Duration
	// Snippet is the beginning of the answer, at most [hark.SnippetBytes].
	Snippet []byte
	// Error is for the destination's owner. It holds no secret and no URL.
	Error string
	// Ours says that the failure tells nothing about the destination: our proxy was
	// down, we were out of sockets, we are stopping.
	Ours bool
}

// Prepare checks d's kind, settings and signing secrets, with all faults at once, and
// puts them in order: stored secrets where settings are redacted, signing secrets in
// their full form. Old is what d replaces; nil at creation.
func (s *Sender) Prepare(old, d *hark.Destination) error {
	k := Find(d.Kind)
	if k == nil {
		names := make([]string, len(table))
		for i, k := range table {
			names[i] = k.Name
		}
		return hark.Invalidf("kind", "must be one of "+strings.Join(names, ", "))
	}
	if old != nil && old.Kind == d.Kind {
		d.Settings = setting.Restore(k.Fields, old.Settings, d.Settings)
	}
	c := &setting.Check{CheckURL: s.env.checkURL}
	v := k.parse(c, d.Settings)
	if strings.HasPrefix(d.UID, hark.AudienceUID) && d.Kind != hark.AudienceKind {
		c.Fault("uid", "\""+hark.AudienceUID+"\" begins the uids of audiences, and of no other destination")
	}
	if k.settle != nil && v != nil {
		k.settle(c, old, d, v)
	}
	k.checkSecrets(c, d)
	return errors.Join(c.Faults...)
}

func (k *Kind) checkSecrets(c *setting.Check, d *hark.Destination) {
	if len(d.Secrets) > 0 && !k.Signs() {
		c.Fault("secret", "kind "+k.Name+" does not sign: leave it out")
		return
	}
	for i := range d.Secrets {
		parse := k.parseSecret
		if parse == nil {
			parse = signingSecret
		}
		secret, err := parse(d.Secrets[i].Value.Reveal())
		if err != nil {
			c.Fault("secret", err.Error()+"; leave it out to get a good one")
			continue
		}
		d.Secrets[i].Value = secret
	}
	if len(d.Secrets) > 0 {
		d.Secrets[0].Expires = time.Time{} // something always signs
	}
}

func signingSecret(text string) (hark.Secret, error) {
	key, err := webhook.ParseSigningKey(text)
	if err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "webhook: "))
	}
	return hark.Secret(key.Reveal()), nil
}

// KeepsSecrets reports whether a rotated secret of d goes on signing.
func (s *Sender) KeepsSecrets(d *hark.Destination) bool {
	k := Find(d.Kind)
	return k != nil && k.keepsSecrets
}

// NewSecret makes a signing secret for d; it is empty when d's kind does not sign.
func (s *Sender) NewSecret(d *hark.Destination) hark.Secret {
	k := Find(d.Kind)
	if k == nil || !k.Signs() {
		return ""
	}
	return k.newSecret(k.parse(&setting.Check{CheckURL: s.env.checkURL}, d.Settings))
}

// VerifyingKey returns what the receiver checks a secret's signatures with, if that is
// another text than the secret and may be known to all (whpk_…, or a VAPID key's public
// part); else "".
func VerifyingKey(secret hark.Secret) string {
	if strings.HasPrefix(secret.Reveal(), vapidPrefix) {
		if k, err := webpush.ParseKey(secret.Reveal()); err == nil {
			return k.Public()
		}
		return ""
	}
	k, err := webhook.ParsePrivateKey(secret.Reveal())
	if err != nil || !strings.HasPrefix(secret.Reveal(), "whsk_") {
		return ""
	}
	return k.Public().String()
}

// Redact returns d's settings with secrets replaced by [setting.Redacted].
func Redact(d *hark.Destination) json.RawMessage {
	if k := Find(d.Kind); k != nil {
		return k.Redact(d.Settings)
	}
	return json.RawMessage("{}")
}

// Host names the host that d dials, in lower case without a port; "" for none. Caps
// per host use it.
func (s *Sender) Host(d *hark.Destination) string {
	k := Find(d.Kind)
	if k == nil || k.host == nil {
		return ""
	}
	return k.host(k.parse(&setting.Check{CheckURL: s.env.checkURL}, d.Settings))
}

// Send tries once to carry e to d. Ctx bounds it.
func (s *Sender) Send(ctx context.Context, d *hark.Destination, e *hark.Event, m Meta) Result {
	o, err := s.open(d)
	if err != nil {
		return Result{Outcome: hark.Unsendable, Error: err.Error()}
	}
	if m.Time.IsZero() {
		m.Time = time.Now()
	}
	return o.send(ctx, e, m)
}

// open returns what sends to this revision of d.
func (s *Sender) open(d *hark.Destination) (opened, error) {
	s.mu.RLock()
	e := s.cache[d.ID]
	s.mu.RUnlock()
	if e != nil && e.revision == d.Revision {
		if !e.used.Load() {
			e.used.Store(true)
		}
		return e.opened, e.err
	}
	fresh := &entry{revision: d.Revision}
	fresh.opened, fresh.err = s.openNow(d)
	if d.ID == 0 || d.Revision == 0 {
		return fresh.opened, fresh.err // not the registry's: a draft being tried
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Attempts under way may still have an older revision in hand.
	if now := s.cache[d.ID]; now == nil || now.revision < d.Revision {
		if now == nil && len(s.cache) >= s.size {
			s.evict()
		}
		s.cache[d.ID] = fresh
	}
	return fresh.opened, fresh.err
}

// evict makes room, sparing those in use; a map's order is as good as a clock hand.
func (s *Sender) evict() {
	spared := 0
	for id, e := range s.cache {
		if e.used.Swap(false) && spared < 16 {
			spared++
			continue
		}
		delete(s.cache, id)
		return
	}
	for id := range s.cache {
		delete(s.cache, id)
		return
	}
}

func (s *Sender) openNow(d *hark.Destination) (opened, error) {
	k := Find(d.Kind)
	if k == nil || k.open == nil {
		return nil, errors.New("this Hark cannot send to a destination of kind " + setting.Clip(d.Kind))
	}
	// What the guard refuses at settings time may have been allowed when they were
	// made; whether it is now is decided when we connect.
	c := &setting.Check{CheckURL: url.Parse}
	v := k.parse(c, d.Settings)
	if err := errors.Join(c.Faults...); err != nil {
		return nil, err
	}
	return k.open(&s.env, d, v)
}
