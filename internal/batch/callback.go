package batch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// owed is the event that tells of a batch and is not known to be a delivery yet.
type owed struct {
	tenant hark.TenantID
	batch  hark.Offset
	told   hark.Offset
	to     hark.DestinationID
}

// sendSome makes deliveries of what is owed, and reports whether some must wait: a
// destination takes a bounded number that it has not finished.
func (b *Batches) sendSome(ctx context.Context) (waits bool) {
	b.mu.Lock()
	all := b.owed
	b.owed = nil
	b.mu.Unlock()
	if len(all) == 0 {
		return false
	}
	var mu sync.Mutex // guards below
	var left []owed
	full := map[hark.DestinationID]bool{}
	each(all, func(x owed) {
		mu.Lock()
		skip := full[x.to] || ctx.Err() != nil
		mu.Unlock()
		var err error
		if !skip {
			err = b.send(ctx, x)
		}
		if skip || err != nil {
			mu.Lock()
			defer mu.Unlock()
			left = append(left, x)
			full[x.to] = true
		}
		if k := hark.KindOf(err); err != nil && k != hark.TooMany && k != hark.Unavailable {
			b.oops("sending what tells of a batch", err)
		}
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owed = append(left, b.owed...)
	return len(left) > 0
}

// send makes the delivery unless it is there, and takes the mark away.
func (b *Batches) send(ctx context.Context, x owed) error {
	id := hark.DeliveryID{Destination: x.to, Event: b.cfg.Log.ID(x.told)}
	// One that is there is left alone: sent again, it would be a new run.
	_, err := b.cfg.Courier.Delivery(x.tenant, id)
	if hark.KindOf(err) == hark.NotFound {
		err = b.cfg.Courier.Send(ctx, x.tenant, x.to, id.Event)
	}
	if k := hark.KindOf(err); err != nil && k != hark.NotFound && k != hark.Gone {
		return err
	}
	// Not found by now: its destination was deleted, or retention took the event, and nobody can be told.
	// Without a sync: a mark that comes back is only looked at once more.
	_, err = b.cfg.Store.Write(&store.BatchPaid{Tenant: x.tenant, Offset: x.batch})
	return err
}

// settleCallback finds or makes the destination that a callback goes to.
func (b *Batches) settleCallback(t hark.TenantID, c *hark.BatchCallback) (secret hark.Secret, err error) {
	switch {
	case c.To != 0:
		_, err = b.cfg.Directory.Destination(t, c.To)
		return "", err
	case c.URL == "":
		return "", nil
	}
	settings, err := json.Marshal(map[string]string{"url": c.URL})
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(c.URL))
	d, created, err := b.cfg.Directory.EnsureCallback(t, &hark.Destination{Kind: "webhook", Settings: settings,
		UID: hark.CallbackUID + hex.EncodeToString(hash[:16])})
	if err != nil {
		return "", renamed(err)
	}
	c.To = d.ID
	if created && len(d.Secrets) > 0 {
		secret = d.Secrets[0].Value
	}
	return secret, nil
}

// renamed calls a fault of the destination what it is in the order.
func renamed(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range many.Unwrap() {
			return renamed(one)
		}
	}
	if e, ok := err.(*hark.Error); ok && e.Field == "settings.url" {
		named := *e
		named.Field = "callback.url"
		return &named
	}
	return err
}
