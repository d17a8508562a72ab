package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"testing"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/registry"
)

// apnsSettings are those of an audience with a key of its own.
func apnsSettings(t *testing.T, app string) json.RawMessage {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"app": app, "apns": map[string]any{"key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "topic": "com.example.app"}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestVendorTokensGo: what was kept for an audience's credentials goes with the tenant, with
// the audience and with the credentials; other changes leave it, and nobody else's is touched.
func TestVendorTokensGo(t *testing.T) {
	s, err := New(Config{Addr: "127.0.0.1:0", Dev: true, Data: t.TempDir(), LogLevel: "error", DiskFloor: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	tokens := vendorTokens{s.store}
	kept := func(a *hark.Destination) (name string, there bool) {
		t.Helper()
		names := push.Kept(a)
		if len(names) != 1 {
			t.Fatal(names)
		}
		value, err := tokens.Load(names[0])
		if err != nil {
			t.Fatal(err)
		}
		return names[0], value != nil
	}
	audience := func(tenant hark.TenantID, app string) *hark.Destination {
		t.Helper()
		a, err := s.registry.CreateDestination(tenant, &hark.Destination{Kind: hark.AudienceKind, Topics: []hark.Pattern{">"}, Settings: apnsSettings(t, app)})
		if err != nil {
			t.Fatal(err)
		}
		name, _ := kept(a)
		if err := tokens.Save(name, []byte("a token")); err != nil {
			t.Fatal(err)
		}
		return a
	}
	change := func(a *hark.Destination, edit func(*hark.Destination)) {
		t.Helper()
		if _, err := s.registry.UpdateDestination(a.Tenant, a.ID, 0, func(d *hark.Destination) error { edit(d); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	tenant, err := s.registry.CreateTenant(&registry.Tenant{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	stays, changed, deleted, erased := audience(1, "stays"), audience(1, "changed"), audience(1, "deleted"), audience(tenant.ID, "erased")
	change(stays, func(d *hark.Destination) { d.Name = "another name" })
	change(changed, func(d *hark.Destination) { d.Settings = apnsSettings(t, "changed") })
	if err := s.registry.DeleteDestination(1, deleted.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.registry.DeleteTenant(tenant.ID, 0); err != nil {
		t.Fatal(err)
	}
	for a, want := range map[*hark.Destination]bool{stays: true, changed: false, deleted: false, erased: false} {
		if _, there := kept(a); there != want {
			t.Errorf("%s: %v", a.UID, there)
		}
	}
	if key, err := tokens.Load("receipts"); err != nil || key == nil {
		t.Errorf("the key of receipts: %v", err)
	}
}
