package registry

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// valueVersion is written into every row as "v". A reader refuses versions it does
// not know: the folder was written by a newer Hark.
const valueVersion = 1

type topIDs struct {
	V      int           `json:"v"`
	ID     uint64        `json:"id"`
	Tenant hark.TenantID `json:"tenant"`
}

type tenantValue struct {
	V int `json:"v"`
	Tenant
}

type destinationValue struct {
	V int `json:"v"`
	hark.Destination
}

type sourceValue struct {
	V int `json:"v"`
	hark.Source
}

// keyValue adds the hash, which [Key] keeps out of its JSON.
type keyValue struct {
	V    int    `json:"v"`
	Hash []byte `json:"hash"`
	Key
}

// tokenKeyValue adds the secret, which [TokenKey] keeps out of its JSON.
type tokenKeyValue struct {
	V      int    `json:"v"`
	Secret []byte `json:"secret"`
	TokenKey
}

type revocationValue struct {
	V int `json:"v"`
	Revocation
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		// Every field was checked before; RawMessages were compacted.
		panic("registry: encoding a checked value: " + err.Error())
	}
	return b
}

func encodeTop(t topIDs) []byte {
	t.V = valueVersion
	return encode(t)
}

func decode(value []byte, v any, version *int) error {
	if err := json.Unmarshal(value, v); err != nil {
		return err
	}
	if *version != valueVersion {
		return fmt.Errorf("a row has version %d and this Hark reads version %d: start the Hark that wrote it", *version, valueVersion)
	}
	return nil
}

func (r *Registry) loadTenant(t hark.TenantID, _ uint64, value []byte) error {
	if t == 0 {
		return decode(value, &r.top, &r.top.V)
	}
	var v tenantValue
	if err := decode(value, &v, &v.V); err != nil {
		return fmt.Errorf("tenant %d: %w", t, err)
	}
	row := v.Tenant
	row.ID = t
	r.tenants[t] = newTenant(&row)
	r.names[row.Name] = t
	r.top.Tenant = max(r.top.Tenant, t)
	return nil
}

func (r *Registry) loadDestination(t hark.TenantID, id uint64, value []byte) error {
	var v destinationValue
	if err := decode(value, &v, &v.V); err != nil {
		return fmt.Errorf("destination %v: %w", hark.DestinationID(id), err)
	}
	home := r.tenants[t]
	if home == nil {
		return fmt.Errorf("destination %v belongs to tenant %d, which is not there", hark.DestinationID(id), t)
	}
	d := &v.Destination
	d.ID, d.Tenant = hark.DestinationID(id), t
	r.putDestination(nil, r.lean(d))
	r.top.ID = max(r.top.ID, id)
	return nil
}

func (r *Registry) loadKey(t hark.TenantID, id uint64, value []byte) error {
	var v keyValue
	if err := decode(value, &v, &v.V); err != nil {
		return fmt.Errorf("key %v: %w", hark.KeyID(id), err)
	}
	if r.tenants[t] == nil || len(v.Hash) != len(v.Key.Hash) {
		return fmt.Errorf("key %v is damaged", hark.KeyID(id))
	}
	k := v.Key
	k.ID, k.Tenant, k.Hash = hark.KeyID(id), t, [32]byte(v.Hash)
	r.putKey(&k)
	r.top.ID = max(r.top.ID, id)
	return nil
}

func (r *Registry) loadSource(t hark.TenantID, id uint64, value []byte) error {
	var v sourceValue
	if err := decode(value, &v, &v.V); err != nil {
		return fmt.Errorf("source %v: %w", hark.SourceID(id), err)
	}
	if r.tenants[t] == nil || len(v.Token) != tokenChars {
		return fmt.Errorf("source %v is damaged", hark.SourceID(id))
	}
	d := &v.Source
	d.ID, d.Tenant = hark.SourceID(id), t
	r.putSource(nil, d)
	r.top.ID = max(r.top.ID, id)
	return nil
}

func (r *Registry) loadTokenKey(t hark.TenantID, id uint64, value []byte) error {
	var v tokenKeyValue
	if err := decode(value, &v, &v.V); err != nil {
		return fmt.Errorf("token key %v: %w", hark.TokenKeyID(id), err)
	}
	if r.tenants[t] == nil || len(v.Secret) != tokenSecretBytes {
		return fmt.Errorf("token key %v is damaged", hark.TokenKeyID(id))
	}
	k := v.TokenKey
	k.ID, k.Tenant, k.Secret = hark.TokenKeyID(id), t, v.Secret
	r.putTokenKey(&k)
	r.top.ID = max(r.top.ID, id)
	return nil
}

func (r *Registry) loadRevocation(t hark.TenantID, id uint64, value []byte) error {
	var v revocationValue
	if err := decode(value, &v, &v.V); err != nil {
		return fmt.Errorf("revocation %v: %w", hark.RevocationID(id), err)
	}
	if r.tenants[t] == nil || (v.Token == "") == (v.User == "") {
		return fmt.Errorf("revocation %v is damaged", hark.RevocationID(id))
	}
	c := v.Revocation
	c.ID, c.Tenant = hark.RevocationID(id), t
	r.putRevocation(&c)
	r.top.ID = max(r.top.ID, id)
	return nil
}

func tokenKeyRecord(k *TokenKey) store.Record {
	return &store.RegistryPut{Noun: store.NounTokenKey, Tenant: k.Tenant, ID: uint64(k.ID),
		Value: encode(tokenKeyValue{V: valueVersion, Secret: k.Secret, TokenKey: *k})}
}

func revocationRecord(v *Revocation) store.Record {
	return &store.RegistryPut{Noun: store.NounRevocation, Tenant: v.Tenant, ID: uint64(v.ID),
		Value: encode(revocationValue{V: valueVersion, Revocation: *v})}
}

func tenantRecord(t *Tenant) store.Record {
	return &store.RegistryPut{Noun: store.NounTenant, Tenant: t.ID, ID: uint64(t.ID),
		Value: encode(tenantValue{V: valueVersion, Tenant: *t})}
}

func destinationRecord(d *hark.Destination) store.Record {
	return &store.RegistryPut{Noun: store.NounDestination, Tenant: d.Tenant, ID: uint64(d.ID),
		Value: encode(destinationValue{V: valueVersion, Destination: *d})}
}

func sourceRecord(d *hark.Source) store.Record {
	return &store.RegistryPut{Noun: store.NounSource, Tenant: d.Tenant, ID: uint64(d.ID),
		Value: encode(sourceValue{V: valueVersion, Source: *d})}
}

func keyRecord(k *Key) store.Record {
	return &store.RegistryPut{Noun: store.NounKey, Tenant: k.Tenant, ID: uint64(k.ID),
		Value: encode(keyValue{V: valueVersion, Hash: k.Hash[:], Key: *k})}
}

// lean returns d in few and exact allocations: there may be a hundred thousand. All
// its texts share one string, and words come from the program. The caller owns d,
// and holds write.
func (r *Registry) lean(d *hark.Destination) *hark.Destination {
	c := *d
	c.Kind = r.kindName(d.Kind)
	for _, s := range [...]hark.DestinationState{hark.DestinationActive, hark.DestinationPaused, hark.DestinationDisabled} {
		if d.State == s {
			c.State = s
		}
	}
	for _, s := range [...]hark.OnDead{"", hark.OnDeadContinue, hark.OnDeadStop} {
		if d.OnDead == s {
			c.OnDead = s
		}
	}
	var b strings.Builder
	n := len(d.UID) + len(d.Name) + len(d.Reason)
	for _, p := range d.Topics {
		n += len(p)
	}
	for _, s := range d.Secrets {
		n += len(s.Value)
	}
	b.Grow(n)
	part := func(s string) string {
		from := b.Len()
		b.WriteString(s)
		return b.String()[from:]
	}
	c.UID, c.Name, c.Reason = part(d.UID), part(d.Name), part(d.Reason)
	c.Topics = make([]hark.Pattern, len(d.Topics))
	for i, p := range d.Topics {
		c.Topics[i] = hark.Pattern(part(string(p)))
	}
	c.Secrets = nil
	if len(d.Secrets) > 0 {
		c.Secrets = make([]hark.SigningSecret, len(d.Secrets))
		for i, s := range d.Secrets {
			c.Secrets[i] = hark.SigningSecret{Value: hark.Secret(part(s.Value.Reveal())), Expires: s.Expires}
		}
	}
	c.Settings, c.Filter = exact(d.Settings), exact(d.Filter)
	return &c
}

func exact(b json.RawMessage) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	c := make(json.RawMessage, len(b))
	copy(c, b)
	return c
}

func (r *Registry) kindName(s string) string {
	name, ok := r.kindNames[s]
	if !ok {
		name = strings.Clone(s)
		r.kindNames[name] = name
	}
	return name
}
