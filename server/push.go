package server

import (
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/device"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/registry"
	"github.com/harkhq/hark/internal/store"
	"github.com/harkhq/hark/internal/webpush"
)

// openPush makes what pushes to devices, and the devices.
func (s *Server) openPush() (err error) {
	s.push = push.New(push.Config{Client: s.egress, Keeper: vendorTokens{s.store}, CheckURL: s.egress.Guard().CheckURL, Version: s.version,
		Subject: s.cfg.PushSubject})
	s.devices, err = device.Open(device.Config{Store: s.store, Directory: directory{s.registry}, Platforms: platforms{s.push},
		MaxDevices: func(t hark.TenantID) int {
			if row, err := s.registry.Tenant(t); err == nil && row.MaxDevices > 0 {
				return row.MaxDevices
			}
			return device.DefaultAll
		}})
	return err
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

// Keys implements device.Platforms.
func (platforms) Keys(a *hark.Destination) (keys []device.VAPIDKey) {
	for _, s := range a.Secrets {
		if k, err := webpush.ParseKey(s.Value.Reveal()); err == nil {
			keys = append(keys, device.VAPIDKey{ID: k.ID(), Public: k.Public()})
		}
	}
	return keys
}

// removeAudience takes what a deleted audience had still to push away, in the same commit.
func (s *Server) removeAudience(old, now *hark.Destination) ([]store.Record, func(bool)) {
	if old == nil || now != nil || old.Kind != hark.AudienceKind {
		return nil, nil
	}
	return s.devices.Remove(old)
}
