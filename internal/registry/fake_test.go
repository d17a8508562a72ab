package registry

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// rows is a store in memory that keeps what was committed and can fail.
type rows struct {
	mu      sync.Mutex
	m       map[rowKey][]byte
	other   []store.Record
	commits int
	fail    error
}

type rowKey struct {
	noun   store.Noun
	tenant hark.TenantID
	id     uint64
}

func newRows() *rows { return &rows{m: make(map[rowKey][]byte)} }

func (s *rows) Commit(recs ...store.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.commits++
	for _, r := range recs {
		switch r := r.(type) {
		case *store.RegistryPut:
			s.m[rowKey{r.Noun, r.Tenant, r.ID}] = r.Value
		case *store.RegistryDeleted:
			delete(s.m, rowKey{r.Noun, r.Tenant, r.ID})
		default:
			s.other = append(s.other, r)
		}
	}
	return nil
}

func (s *rows) ScanRegistry(n store.Noun, fn func(hark.TenantID, uint64, []byte) error) error {
	var keys []rowKey
	for k := range s.m {
		if k.noun == n {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b rowKey) int {
		if a.tenant != b.tenant {
			return int(a.tenant) - int(b.tenant)
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	for _, k := range keys {
		value := slices.Clone(s.m[k])
		if err := fn(k.tenant, k.id, value); err != nil {
			return err
		}
		clear(value) // valid during the call only
	}
	return nil
}

// hooks are kinds "webhook", which signs, and "pull"; a setting "bad" is refused.
type hooks struct{ minted int }

func (h *hooks) Prepare(_, d *hark.Destination) error {
	var s map[string]any
	if err := json.Unmarshal(d.Settings, &s); err != nil {
		return err
	}
	var faults []error
	if d.Kind != "webhook" && d.Kind != "pull" {
		faults = append(faults, hark.Invalidf("kind", "unknown"))
	}
	if s["bad"] != nil {
		faults = append(faults, hark.Invalidf("settings.bad", "no"))
	}
	for i := range d.Secrets {
		d.Secrets[i].Value = hark.Secret("whsec_" + strings.TrimPrefix(d.Secrets[i].Value.Reveal(), "whsec_"))
	}
	return errors.Join(faults...)
}

func (h *hooks) KeepsSecrets(d *hark.Destination) bool { return d.Kind == "keeps" }

func (h *hooks) NewSecret(d *hark.Destination) hark.Secret {
	if d.Kind != "webhook" {
		return ""
	}
	h.minted++
	return hark.Secret("whsec_" + string(rune('A'+h.minted%26)) + "_0123456789012345678901234567890123456789")
}

// proofs are schemes "shared", which makes secrets, "theirs", whose provider makes
// them, and "none"; a setting "bad" is refused.
type proofs struct{ minted int }

func (p *proofs) Check(_, d *hark.Source) error {
	var faults []error
	if d.Scheme != "shared" && d.Scheme != "theirs" && d.Scheme != "none" {
		faults = append(faults, hark.Invalidf("scheme", "unknown"))
	}
	if strings.Contains(string(d.Settings), "bad") {
		faults = append(faults, hark.Invalidf("settings.bad", "no"))
	}
	if d.Scheme == "none" && len(d.Secrets) > 0 {
		faults = append(faults, hark.Invalidf("secrets", "none"))
	}
	return errors.Join(faults...)
}

func (p *proofs) NewSecret(d *hark.Source) hark.Secret {
	if d.Scheme != "shared" {
		return ""
	}
	p.minted++
	return hark.Secret("made " + strconv.Itoa(p.minted))
}

func open(t testing.TB, s Store) *Registry {
	t.Helper()
	r, err := Open(Config{Store: s, Kinds: &hooks{}, Schemes: &proofs{}, CheckFilter: func([]byte) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sample() *hark.Destination {
	return &hark.Destination{Kind: "webhook", Topics: []hark.Pattern{"orders.*"}, Settings: json.RawMessage(`{"url": "https://example.com/hook"}`)}
}

func mustCreate(t testing.TB, r *Registry, d *hark.Destination) *hark.Destination {
	t.Helper()
	got, err := r.CreateDestination(hark.DefaultTenant, d)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
