package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

func sampleSource() *hark.Source {
	return &hark.Source{Scheme: "shared", Topic: "payments", AllowIPs: []string{"192.0.2.0/24"}}
}

func sampleBin() *hark.Source {
	return &hark.Source{Scheme: "none", Bin: &hark.Bin{TTL: hark.Duration(time.Hour), MaxRequests: 100, MaxBytes: 1 << 20, Creator: "key_1"}}
}

func mustSource(t testing.TB, r *Registry, d *hark.Source) *hark.Source {
	t.Helper()
	got, err := r.CreateSource(dt, d)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func secretsOf(d *hark.Source) (texts []string) {
	for _, s := range d.Secrets {
		texts = append(texts, s.Value.Reveal())
	}
	return texts
}

func TestSources(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	var heard []string
	r.Watch(func(c Change) {
		if c.Source.Old != nil || c.Source.New != nil {
			heard = append(heard, fmt.Sprint(c.Source.Old != nil, c.Source.New != nil))
		}
	})
	d := mustSource(t, r, sampleSource())
	if len(d.Token) != 20 || strings.Trim(d.Token, "0123456789abcdefghijklmnopqrstuv") != "" || d.State != hark.SourceActive ||
		d.Revision != 1 || d.Tenant != dt || !slices.Equal(secretsOf(d), []string{"made 1"}) {
		t.Errorf("%+v", d)
	}
	if r.SourceByToken(d.Token) != d || r.SourceByToken("") != nil || r.SourceByToken(strings.ToUpper(d.Token)) != nil || r.SourceByToken(d.Token+"0") != nil {
		t.Error("by token")
	}
	other, err := r.CreateTenant(&Tenant{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Source(other.ID, d.ID); hark.KindOf(err) != hark.NotFound {
		t.Error("another tenant's:", err)
	}
	same, err := r.UpdateSource(dt, d.ID, 1, func(c *hark.Source) error { c.Token, c.State, c.ID = "x", "paused", 7; return nil })
	if err != nil || same != d {
		t.Error("an edit that changes nothing:", same, err)
	}
	if _, err := r.UpdateSource(dt, d.ID, 9, func(*hark.Source) error { return nil }); hark.KindOf(err) != hark.Conflict {
		t.Error("wrong revision:", err)
	}
	paused, err := r.SetSourceState(dt, d.ID, 0, hark.SourcePaused)
	if err != nil || paused.State != hark.SourcePaused || r.SourceByToken(d.Token) != paused || d.State != hark.SourceActive {
		t.Error(paused, err)
	}
	if _, err := r.SetSourceState(dt, d.ID, 0, "asleep"); len(hark.Faults(err)) != 1 {
		t.Error(err)
	}
	if got := open(t, rows).SourceByToken(d.Token); !reflect.DeepEqual(got, paused) {
		t.Errorf("after a restart: %+v", got)
	}
	if err := r.DeleteSource(other.ID, d.ID, 0); hark.KindOf(err) != hark.NotFound {
		t.Error("another tenant deleted it:", err)
	}
	if err := r.DeleteSource(dt, d.ID, 0); err != nil || r.SourceByToken(d.Token) != nil {
		t.Error(err)
	}
	if !slices.Equal(heard, []string{"false true", "true true", "true false"}) {
		t.Error(heard)
	}
	rows.fail = errors.New("disk")
	if _, err := r.CreateSource(dt, sampleSource()); err == nil || len(r.tokens) != 0 {
		t.Error("a source that was not committed is there", err)
	}
}

func TestSourceByUIDIsOneSource(t *testing.T) {
	r := open(t, newRows())
	given := sampleSource()
	given.UID = "gh"
	a, created, err := r.PutSource(dt, 0, given, nil)
	if err != nil || !created {
		t.Fatal(err)
	}
	b, created, err := r.PutSource(dt, 0, given, nil)
	if err != nil || created || b != a {
		t.Error("the same twice:", b, created, err)
	}
	given.Topic = "other"
	c, _, err := r.PutSource(dt, a.Revision, given, nil)
	if err != nil || c.Topic != "other" || c.Token != a.Token || !slices.Equal(secretsOf(c), secretsOf(a)) {
		t.Error("token and secrets are kept:", c, err)
	}
	if _, err := r.CreateSource(dt, given); hark.KindOf(err) != hark.Conflict {
		t.Error("the uid twice:", err)
	}
	bin := sampleBin()
	bin.UID = "gh"
	if _, _, err := r.PutSource(dt, 0, bin, nil); hark.KindOf(err) != hark.Conflict {
		t.Error("a bin in place of a source:", err)
	}
	if _, _, err := r.PutSource(dt, 3, &hark.Source{Scheme: "none", UID: "new"}, nil); hark.KindOf(err) != hark.NotFound {
		t.Error("a revision of nothing:", err)
	}
	none := sampleSource()
	none.UID, none.Scheme = "gh", "none"
	if d, _, err := r.PutSource(dt, 0, none, nil); err != nil || len(d.Secrets) != 0 || d.Token != a.Token {
		t.Error("another scheme keeps no secret:", d, err)
	}
}

func TestSourceSecretsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, newRows())
		d := mustSource(t, r, &hark.Source{Scheme: "shared", Secrets: []hark.SigningSecret{{Value: "a"}, {Value: "b"}}})
		d, err := r.UpdateSource(dt, d.ID, 0, func(c *hark.Source) error {
			c.Secrets = []hark.SigningSecret{{Value: "c"}, {Value: "a"}}
			return nil
		})
		if err != nil || !slices.Equal(secretsOf(d), []string{"c", "a", "b"}) || !d.Secrets[1].Expires.IsZero() ||
			d.Secrets[2].Expires.Sub(time.Now()) < 23*time.Hour {
			t.Fatalf("%+v %v", d, err)
		}
		time.Sleep(25 * time.Hour)
		d, err = r.RotateSourceSecret(dt, d.ID, "", 0)
		if err != nil || !slices.Equal(secretsOf(d), []string{"made 1"}) {
			t.Error(secretsOf(d), err)
		}
		d, err = r.RotateSourceSecret(dt, d.ID, "x", time.Hour)
		if err != nil || !slices.Equal(secretsOf(d), []string{"x", "made 1"}) {
			t.Error(secretsOf(d), err)
		}
		for i := range 9 {
			_, err = r.RotateSourceSecret(dt, d.ID, hark.Secret(fmt.Sprint("y", i)), time.Hour)
		}
		if hark.KindOf(err) != hark.Conflict {
			t.Error("eleven secrets:", err)
		}
		theirs := mustSource(t, r, &hark.Source{Scheme: "theirs"})
		if _, err := r.RotateSourceSecret(dt, theirs.ID, "", 0); len(hark.Faults(err)) != 1 {
			t.Error("a secret that only the provider can make:", err)
		}
		if _, err := r.RotateSourceSecret(dt, theirs.ID, "z", -1); len(hark.Faults(err)) != 1 {
			t.Error(err)
		}
	})
}

func TestBins(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	r.AttachSource(func(old, d *hark.Source) ([]store.Record, func(bool)) {
		if d == nil {
			return []store.Record{&store.TenantErased{Tenant: old.Tenant}}, nil
		}
		return nil, nil
	})
	b := mustSource(t, r, sampleBin())
	if b.Bin.View == "" || b.Bin.Expires.Sub(b.Created) != time.Hour {
		t.Errorf("%+v", b.Bin)
	}
	source := mustSource(t, r, sampleSource())
	heard := 0
	r.Watch(func(Change) { heard++ })
	heard = 0
	later := b.Bin.Expires.Add(time.Minute)
	if err := r.TouchBin(b.ID, later); err != nil {
		t.Fatal(err)
	}
	before := rows.commits
	for _, err := range []error{r.TouchBin(b.ID, later.Add(-time.Second)), r.TouchBin(source.ID, later), r.TouchBin(7, later)} {
		if err != nil || rows.commits != before {
			t.Error("an end moved back, or of no bin", err)
		}
	}
	got := r.SourceByToken(b.Token)
	if !got.Bin.Expires.Equal(later) || got.Revision != b.Revision || heard != 0 || !b.Bin.Expires.Before(later) {
		t.Errorf("%+v, heard of %d changes", got, heard)
	}
	if again := open(t, rows).SourceByToken(b.Token); !reflect.DeepEqual(again, got) {
		t.Errorf("after a restart: %+v", again)
	}
	got, err := r.UpdateSource(dt, b.ID, 0, func(c *hark.Source) error { c.Bin.Creator, c.Bin.MaxRequests = "x", 5; return nil })
	if err != nil || got.Bin.Creator != "key_1" || got.Bin.MaxRequests != 5 || !got.Bin.Expires.Equal(later) {
		t.Errorf("%+v %v", got.Bin, err)
	}
	if got, err = r.UpdateSource(dt, b.ID, 0, func(c *hark.Source) error { c.Bin = nil; return nil }); err != nil || got.Bin == nil {
		t.Error("a bin became a source", err)
	}
	bins, _ := r.Sources(dt, SourceQuery{Bins: true, Creator: "key_1"})
	sources, _ := r.Sources(dt, SourceQuery{})
	if len(bins) != 1 || bins[0] != got || len(sources) != 1 || sources[0] != source {
		t.Error(bins, sources)
	}
	if err := r.DeleteSource(dt, b.ID, 0); err != nil || len(rows.other) != 1 {
		t.Error("what the store holds of it did not go in its commit", err)
	}
}

func TestSourceLimits(t *testing.T) {
	rows := newRows()
	r, err := Open(Config{Store: rows, Kinds: &hooks{}, Schemes: &proofs{}, Limits: Limits{Sources: 2, Bins: 3, BinsPerCreator: 2}})
	if err != nil {
		t.Fatal(err)
	}
	reached := func(err error) bool {
		e, ok := errors.AsType[*hark.Error](err)
		return ok && e.Code == "limit-reached"
	}
	for i := range 3 {
		if _, err := r.CreateSource(dt, sampleSource()); reached(err) != (i == 2) {
			t.Error(i, err)
		}
		if _, err := r.CreateSource(dt, sampleBin()); reached(err) != (i == 2) {
			t.Error(i, err)
		}
	}
	other := sampleBin()
	other.Bin.Creator = ""
	for i := range 2 {
		if _, err := r.CreateSource(dt, other); reached(err) != (i == 1) {
			t.Error(i, err)
		}
	}
	own, err := r.CreateTenant(&Tenant{Name: "own", MaxSources: 1, MaxBins: 4})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		other.UID = fmt.Sprint(i)
		if _, err := r.CreateSource(own.ID, other); reached(err) != (i == 4) {
			t.Error(i, err)
		}
		if _, err := r.CreateSource(own.ID, sampleSource()); reached(err) != (i > 0) {
			t.Error(i, err)
		}
	}
	left := len(rows.m)
	if err := r.DeleteTenant(own.ID, 0); err != nil || left-len(rows.m) != 6 || len(r.sources) != 5 || len(r.tokens) != 5 {
		t.Error("a tenant takes its sources along:", err, left, len(rows.m), len(r.sources), len(r.tokens))
	}
}

// TestBadSourcesNameEveryFault: one fault a case, each with its field.
func TestBadSourcesNameEveryFault(t *testing.T) {
	r := open(t, newRows())
	long := strings.Repeat("x", 64<<10)
	respond := func(p hark.SourceResponse) func(*hark.Source) {
		return func(d *hark.Source) { d.Response = &p }
	}
	header := func(name, value string) func(*hark.Source) {
		return respond(hark.SourceResponse{Headers: map[string]string{name: value}})
	}
	bin := func(edit func(b *hark.Bin)) func(*hark.Source) {
		return func(d *hark.Source) { *d = *sampleBin(); edit(d.Bin) }
	}
	cases := []struct {
		field string
		edit  func(d *hark.Source)
	}{
		{"scheme", func(d *hark.Source) { d.Scheme = "x" }},
		{"settings", func(d *hark.Source) { d.Settings = json.RawMessage(`[]`) }},
		{"settings", func(d *hark.Source) { d.Settings = json.RawMessage(`{"a":"` + long + `"}`) }},
		{"settings.bad", func(d *hark.Source) { d.Settings = json.RawMessage(`{"bad":1}`) }},
		{"name", func(d *hark.Source) { d.Name = "a\nb" }},
		{"uid", func(d *hark.Source) { d.UID = long }},
		{"state", func(d *hark.Source) { d.State = "x" }},
		{"secrets", func(d *hark.Source) { d.Secrets = make([]hark.SigningSecret, 11) }},
		{"secrets", func(d *hark.Source) { d.Secrets = []hark.SigningSecret{{Value: "a"}, {Value: "a"}} }},
		{"secrets", func(d *hark.Source) { d.Secrets = []hark.SigningSecret{{Value: ""}} }},
		{"topic", func(d *hark.Source) { d.Topic = "hark.x" }},
		{"topic", func(d *hark.Source) { d.Topic = "a..b" }},
		{"topic", func(d *hark.Source) { d.Topic = "{a" }},
		{"key", func(d *hark.Source) { d.Key = long }},
		{"attributes", func(d *hark.Source) { d.Attributes = map[string]string{"": "x"} }},
		{"attributes.a", func(d *hark.Source) { d.Attributes = map[string]string{"a": "x}"} }},
		{"allow_ips[1]", func(d *hark.Source) { d.AllowIPs = []string{"2001:db8::/32", "example.com"} }},
		{"allow_ips[0]", func(d *hark.Source) { d.AllowIPs = []string{"fe80::1%eth0"} }},
		{"allow_ips[0]", func(d *hark.Source) { d.AllowIPs = []string{"10.0.0.0/33"} }},
		{"cors_origins[0]", func(d *hark.Source) { d.CORSOrigins = []string{"https://a.example/"} }},
		{"cors_origins[0]", func(d *hark.Source) { d.CORSOrigins = []string{"null"} }},
		{"cors_origins[0]", func(d *hark.Source) { d.CORSOrigins = []string{"https://*.example"} }},
		{"cors_origins[0]", func(d *hark.Source) { d.CORSOrigins = []string{"https://a.example\r\nX: y"} }},
		{"response.status", respond(hark.SourceResponse{Status: 302})},
		{"response.status", respond(hark.SourceResponse{Status: 101})},
		{"response.status", respond(hark.SourceResponse{Status: 600})},
		{"response.body", respond(hark.SourceResponse{Status: 204, Body: "x"})},
		{"response.body", respond(hark.SourceResponse{Body: long + "x"})},
		{"response.body", respond(hark.SourceResponse{Body: "\xff"})},
		{"response.delay", respond(hark.SourceResponse{Delay: 1})},
		{"response.headers", header("a b", "x")},
		{"response.headers.X-A", header("X-A", "x\r\nSet-Cookie: a=b")},
		{"response.headers.content-length", header("content-length", "5")},
		{"response.headers.LOCATION", header("LOCATION", "https://a.example")},
		{"response.headers.Access-Control-Allow-Origin", header("Access-Control-Allow-Origin", "*")},
		{"response.headers.x", respond(hark.SourceResponse{Headers: map[string]string{"X": "1", "x": "2"}})},
		{"max_body", func(d *hark.Source) { d.MaxBody = hark.MaxEventBytes + 1 }},
		{"rate_limit", func(d *hark.Source) { d.RateLimit = -1 }},
		{"concurrency", func(d *hark.Source) { d.Concurrency = 1001 }},
		{"ttl", bin(func(b *hark.Bin) { b.TTL = 0 })},
		{"max_requests", bin(func(b *hark.Bin) { b.MaxRequests = 0 })},
		{"max_bytes", bin(func(b *hark.Bin) { b.MaxBytes = -1 })},
	}
	all := sampleSource()
	for _, c := range cases {
		d := sampleSource()
		c.edit(d)
		_, err := r.CreateSource(dt, d)
		faults := hark.Faults(err)
		if len(faults) != 1 || faults[0].Field != c.field {
			t.Errorf("want one fault of %s, got %v", c.field, err)
		}
	}
	all.Name, all.Topic, all.MaxBody, all.Response = "\x00", "..", -1, &hark.SourceResponse{Status: 301}
	if _, err := r.CreateSource(dt, all); len(hark.Faults(err)) != 4 {
		t.Error("all at once:", err)
	}
	good := sampleSource()
	good.AllowIPs = []string{"192.0.2.1", "::ffff:192.0.2.0/120", "2001:db8::/32", "192.0.2.1"}
	good.CORSOrigins = []string{"https://app.example.com", "http://localhost:3000", "*"}
	good.Response = &hark.SourceResponse{Status: 202, Headers: map[string]string{"Content-Type": "text/plain"}, Body: "ok"}
	if d, err := r.CreateSource(dt, good); err != nil || len(d.AllowIPs) != 3 {
		t.Error(d, err)
	}
}

// TestSourceModel does random things and compares with what a second registry reads
// from the same rows, and both with what a plain map says there should be.
func TestSourceModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	rows := newRows()
	r := open(t, rows)
	topics := map[string]string{} // by token
	uids := []string{"", "", "a", "b", "c"}
	for range 3000 {
		page, _ := r.Sources(dt, SourceQuery{Bins: rnd.IntN(2) == 0})
		var any hark.SourceID
		var token string
		if len(page) > 0 {
			d := page[rnd.IntN(len(page))]
			any, token = d.ID, d.Token
		}
		d := sampleSource()
		if rnd.IntN(3) == 0 {
			d = sampleBin()
		}
		d.UID, d.Topic = uids[rnd.IntN(len(uids))], fmt.Sprint("t", rnd.IntN(5))
		switch n := rnd.IntN(7); {
		case n == 0:
			if got, err := r.CreateSource(dt, d); err == nil {
				topics[got.Token] = d.Topic
			}
		case n == 1 && d.UID != "":
			if got, _, err := r.PutSource(dt, 0, d, nil); err == nil {
				topics[got.Token] = d.Topic
			}
		case n == 2:
			_, err := r.UpdateSource(dt, any, 0, func(c *hark.Source) error {
				c.UID, c.Topic, c.Scheme = d.UID, d.Topic, d.Scheme
				c.Secrets = nil
				return nil
			})
			if err == nil {
				topics[token] = d.Topic
			}
		case n == 3:
			_, _ = r.SetSourceState(dt, any, 0, hark.SourcePaused)
		case n == 4:
			if r.DeleteSource(dt, any, 0) == nil {
				delete(topics, token)
			}
		case n == 5:
			_ = r.TouchBin(any, time.Now().Add(time.Duration(rnd.IntN(1000))*time.Hour))
		default:
			_, _ = r.RotateSourceSecret(dt, any, "", time.Hour)
		}
	}
	s := open(t, rows)
	if !reflect.DeepEqual(r.sources, s.sources) || !reflect.DeepEqual(r.tokens, s.tokens) ||
		!reflect.DeepEqual(r.tenants[dt].sourceUIDs, s.tenants[dt].sourceUIDs) ||
		!slices.EqualFunc(r.tenants[dt].sources, s.tenants[dt].sources, func(a, b *hark.Source) bool { return reflect.DeepEqual(a, b) }) {
		t.Error("memory and disk differ")
	}
	if len(topics) != len(s.sources) {
		t.Errorf("%d sources, want %d", len(s.sources), len(topics))
	}
	for token, topic := range topics {
		if d := s.SourceByToken(token); d == nil || d.Topic != topic {
			t.Errorf("%+v, want topic %s", d, topic)
		}
	}
}

func BenchmarkSourceByToken(b *testing.B) {
	r := open(b, newRows())
	d := mustSource(b, r, sampleSource())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if r.SourceByToken(d.Token) == nil {
				b.Fatal("lost")
			}
		}
	})
}
