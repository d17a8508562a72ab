package main

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/webhook"
)

// secretSource finds what to verify with: the secrets given, or those of the
// destinations that send here, which the server tells to those who may see them.
type secretSource struct {
	app    *app
	remote *remote
	addr   string
	given  secrets

	mu    sync.Mutex // guards below
	asked time.Time
	found secrets
	told  bool
}

// inspect verifies a request; it returns false when there is nothing to verify it with.
func (s *secretSource) inspect(ctx context.Context, h http.Header, body []byte) (verdict, bool) {
	if len(s.given.texts) > 0 {
		return inspect(h, body, s.given, time.Now(), webhook.DefaultTolerance), true
	}
	if h = standard(h); h.Get(webhook.HeaderSignature) == "" {
		return verdict{}, false
	}
	found := s.ask(ctx, time.Minute)
	if len(found.texts) == 0 {
		return verdict{}, false
	}
	v := inspect(h, body, found, time.Now(), webhook.DefaultTolerance)
	if v.Reason == webhook.NoMatch || v.Reason == webhook.UnknownVersion { // perhaps it was rotated, or added anew
		v = inspect(h, body, s.ask(ctx, 0), time.Now(), webhook.DefaultTolerance)
	}
	return v, true
}

// ask returns what the server told at most so long ago, or asks it.
func (s *secretSource) ask(ctx context.Context, old time.Duration) secrets {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.found.texts) > 0 && time.Since(s.asked) < old {
		return s.found
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	found, err := s.fetch(ctx)
	if err != nil {
		if !s.told {
			s.told = true
			s.app.note("the server does not tell the secret (%s): give it with --secret", oneLine(err.Error()))
		}
		return s.found
	}
	s.found, s.asked = found, time.Now()
	return found
}

// fetch asks for the secrets of the webhooks that send to this receiver, the newest
// first. One that cannot be used does not spoil the others.
func (s *secretSource) fetch(ctx context.Context) (secrets, error) {
	c, err := s.remote.client()
	if err != nil {
		return secrets{}, err
	}
	var here []*client.Destination
	for d, err := range c.Destinations(ctx, client.DestinationQuery{Kind: "webhook"}) {
		if err != nil {
			return secrets{}, err
		}
		if sendsTo(d, s.addr) {
			here = append(here, d)
		}
	}
	slices.Reverse(here)
	var found, old secrets
	fault := errors.New("it has no webhook that sends here")
	for i, d := range here {
		if i == webhook.MaxKeys {
			break
		}
		full, err := c.RevealDestination(ctx, d.ID)
		if err != nil {
			fault, full = err, d // its public key is no secret
		}
		if err := found.add(cmp.Or(full.PublicKey, full.Secret.Reveal())); err != nil {
			fault = err
		}
		for _, o := range full.OldSecrets {
			old.add(o.Secret.Reveal())
		}
	}
	found.texts, found.keys = append(found.texts, old.texts...), append(found.keys, old.keys...)
	if len(found.texts) == 0 {
		return found, fault
	}
	n := min(len(found.texts), webhook.MaxKeys)
	return secrets{found.texts[:n], found.keys[:n]}, nil
}

// ownSecrets returns what verifies the webhooks of a destination that is this
// receiver's own. Who may not see the secret of one that was there may yet make a new one.
func ownSecrets(ctx context.Context, c *client.Client, d *client.Destination) (secrets, error) {
	var err error
	if d.Secret == "" && d.PublicKey == "" {
		id := d.ID
		if d, err = c.RevealDestination(ctx, id); hark.KindOf(err) == hark.Forbidden {
			d, err = c.RotateSecret(ctx, id, 0)
		}
		if err != nil {
			return secrets{}, err
		}
	}
	var own secrets
	err = own.add(cmp.Or(d.PublicKey, d.Secret.Reveal()))
	for _, o := range d.OldSecrets {
		own.add(o.Secret.Reveal())
	}
	return own, err
}

// sendsTo reports whether a destination's URL is this address. On one machine the port
// decides: localhost has several names.
func sendsTo(d *client.Destination, addr string) bool {
	u, err := url.Parse(target(d))
	if err != nil {
		return false
	}
	_, port, err := net.SplitHostPort(addr)
	return err == nil && u.Port() == port
}
