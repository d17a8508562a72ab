package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

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
	if h.Get(webhook.HeaderSignature) == "" {
		return verdict{}, false
	}
	found := s.ask(ctx, time.Minute)
	if len(found.texts) == 0 {
		return verdict{}, false
	}
	v := inspect(h, body, found, time.Now(), webhook.DefaultTolerance)
	if v.Reason == webhook.NoMatch { // perhaps it was rotated, or added anew
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

// fetch asks for the secrets of every webhook that sends to this receiver.
func (s *secretSource) fetch(ctx context.Context) (secrets, error) {
	var texts []string
	c, err := s.remote.client()
	if err != nil {
		return secrets{}, err
	}
	for d, err := range c.Destinations(ctx, client.DestinationQuery{Kind: "webhook"}) {
		if err != nil {
			return secrets{}, err
		}
		if !sendsTo(d, s.addr) || len(texts) == webhook.MaxKeys {
			continue
		}
		full, err := c.RevealDestination(ctx, d.ID)
		if err != nil {
			return secrets{}, err
		}
		for _, old := range append([]client.OldSecret{{Secret: full.Secret}}, full.OldSecrets...) {
			if old.Secret != "" && len(texts) < webhook.MaxKeys {
				texts = append(texts, old.Secret.Reveal())
			}
		}
	}
	if len(texts) == 0 {
		return secrets{}, errors.New("it has no webhook that sends here")
	}
	return parseSecrets(texts)
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
