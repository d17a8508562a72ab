package server

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/destination"
	"github.com/harkhq/hark/internal/device"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/registry"
	"github.com/harkhq/hark/internal/store"
	"github.com/harkhq/hark/internal/webpush"
)

// openPush makes what pushes to devices, and the devices.
func (s *Server) openPush() (err error) {
	worker, err := s.pushWorker()
	if err != nil {
		return err
	}
	s.push = push.New(push.Config{Client: s.egress, Keeper: vendorTokens{s.store}, CheckURL: s.egress.Guard().CheckURL, Version: s.version,
		Subject: s.cfg.PushSubject, Receipt: s.receiptURL, Worker: worker})
	s.devices, err = device.Open(device.Config{Store: s.store, Directory: directory{s.registry}, Platforms: platforms{s.push},
		MaxDevices: func(t hark.TenantID) int {
			if row, err := s.registry.Tenant(t); err == nil && row.MaxDevices > 0 {
				return row.MaxDevices
			}
			return device.DefaultAll
		}})
	if err != nil {
		return err
	}
	if s.receipts, err = device.OpenReceipts(s.devices, s.eventlog); err != nil {
		return err
	}
	s.pushes, err = device.NewAudiences(device.AudienceConfig{Devices: s.devices, Log: s.eventlog, Sender: s.push, Hooks: s.pushHooks(),
		Charge: func(t hark.TenantID, b store.Bucket, bytes int) error { return s.deliver.Charge(t, b, bytes) }})
	if err != nil {
		return err
	}
	s.registry.Watch(func(c registry.Change) {
		if d := c.Destination.New; d != nil && d.Kind == hark.AudienceKind {
			s.pushes.Changed(d)
		}
	})
	return nil
}

// receiptURL is where a device tells that it has shown an event: a path, for the page's own
// origin, unless we know ours.
func (s *Server) receiptURL(e *hark.Event, d *hark.Device) string {
	return s.ownOrigin() + "/v1/push/receipts/" + s.receipts.Token(e, d, time.Now())
}

func (s *Server) pushHooks() device.Hooks {
	m := s.metrics
	return device.Hooks{
		Sent: func(platform string, r push.Result) {
			m.devicePushes.WithLabelValues(platform, device.Word(r.Outcome)).Inc()
		},
		Pushed: func(a *hark.Destination, took time.Duration, t device.Tally) {
			m.pushTime.Observe(took.Seconds())
			s.log.Debug("pushed", "tenant", a.Tenant, "destination", a.ID.String(), "devices", t.Devices, "accepted", t.Accepted, "took", took)
		},
		Told: func(topic string, a *hark.Destination, reason string) {
			s.log.Info(topic, "tenant", a.Tenant, "destination", a.ID.String(), "reason", reason)
		},
		Failed: func(what string, err error) { s.log.Error("devices: "+what, "error", err) },
	}
}

// audiences carries events to devices for the table of kinds.
type audiences struct{ s *Server }

// Push implements destination.Audiences.
func (x audiences) Push(ctx context.Context, a *hark.Destination, e *hark.Event) destination.Result {
	r := x.s.pushes.Push(ctx, a, e)
	return destination.Result{Outcome: r.Outcome, Snippet: r.Snippet, Error: r.Error, Ours: r.Ours}
}

// vendorTokens implements push.Keeper.
type vendorTokens struct{ store *store.Store }

// Load returns what was saved under a name, or nil.
func (v vendorTokens) Load(name string) ([]byte, error) {
	value, _, err := v.store.VendorToken(name)
	return value, err
}

// Save keeps a value, durably.
func (v vendorTokens) Save(name string, value []byte) error {
	return v.store.Commit(&store.VendorTokenSaved{Name: name, Value: value})
}

// directory finds audiences in the registry.
type directory struct{ *registry.Registry }

// Audience implements device.Directory.
func (d directory) Audience(t hark.TenantID, app string) (*hark.Destination, error) {
	uid := hark.AudienceUID + app
	if app != hark.DefaultApp {
		return d.DestinationByUID(t, uid)
	}
	return d.Ensure(t, &hark.Destination{UID: uid, Kind: hark.AudienceKind, Name: "Devices", Topics: []hark.Pattern{">"}})
}

// platforms is package push as devices see it.
type platforms struct{ *push.Sender }

// Target implements device.Platforms.
func (platforms) Target(d *hark.Device) [32]byte { return push.Target(d) }

// Keys implements device.Platforms.
func (platforms) Keys(a *hark.Destination) (keys []device.VAPIDKey) {
	for _, s := range a.Secrets {
		if k, err := webpush.ParseKey(s.Value.Reveal()); err == nil {
			keys = append(keys, device.VAPIDKey{ID: k.ID(), Public: k.Public()})
		}
	}
	return keys
}

// changeAudience takes away in the same commit what a deleted audience had still to push, and
// what was kept for credentials that go with it, or with its settings of before.
func (s *Server) changeAudience(old, now *hark.Destination) (recs []store.Record, done func(bool)) {
	if old == nil || old.Kind != hark.AudienceKind || now != nil && bytes.Equal(old.Settings, now.Settings) {
		return nil, nil
	}
	var stays []string
	if now != nil {
		stays = push.Kept(now)
	} else {
		recs, done = s.devices.Remove(old)
	}
	for _, name := range push.Kept(old) {
		if !slices.Contains(stays, name) {
			recs = append(recs, &store.VendorTokenErased{Name: name})
		}
	}
	return recs, done
}
