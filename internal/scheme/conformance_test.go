package scheme

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

// reasons is the fixed set of words.
var reasons = []Reason{OK, HeaderMissing, Malformed, TooOld, TooNew, BodyChanged, URLChanged, NoSecretMatches, NoSecret, Unavailable}

// TestConformance is what every scheme must hold.
func TestConformance(t *testing.T) {
	all := fixtures()
	for _, s := range Schemes() {
		if len(all[s.Name]) == 0 {
			t.Errorf("scheme %s has no fixture: add one", s.Name)
		}
		for _, f := range all[s.Name] {
			t.Run(strings.TrimSuffix(s.Name+"/"+f.name, "/"), func(t *testing.T) {
				c := &conformance{T: t, fixture: f, scheme: s}
				t.Run("row", c.with((*conformance).row))
				t.Run("passes", c.with((*conformance).passes))
				if f.unsigned {
					return
				}
				t.Run("secrets", c.with((*conformance).manySecrets))
				t.Run("body", c.with((*conformance).bodyMutations))
				t.Run("headers", c.with((*conformance).headerMutations))
				t.Run("url", c.with((*conformance).urlMutations))
				t.Run("time", c.with((*conformance).times))
				t.Run("settings", c.with((*conformance).settings))
			})
		}
	}
	for name := range all {
		if Find(name) == nil {
			t.Errorf("there is a fixture of %s and no such scheme", name)
		}
	}
}

type conformance struct {
	*testing.T
	fixture
	scheme *Scheme
}

func (c *conformance) with(test func(*conformance)) func(*testing.T) {
	return func(t *testing.T) { test(&conformance{t, c.fixture, c.scheme}) }
}

// source opens one with those secrets.
func (c *conformance) source(secrets ...hark.SigningSecret) *Source {
	c.Helper()
	d := &hark.Source{Scheme: c.scheme.Name, Settings: json.RawMessage(c.fixture.settings), Secrets: secrets}
	if err := Check(nil, d); err != nil {
		c.Fatal(err)
	}
	s, err := Open(c.env(), d)
	if err != nil {
		c.Fatal(err)
	}
	return s
}

func (c *conformance) env() *Env { return c.fixture.env }

func secret(text string) hark.SigningSecret { return hark.SigningSecret{Value: hark.Secret(text)} }

// usual is the source with the first secret.
func (c *conformance) usual() *Source {
	c.Helper()
	if c.scheme.Secrets == NoSecrets {
		return c.source()
	}
	return c.source(secret(c.secrets[0]))
}

// signed is a request that one of the two secrets signed.
func (c *conformance) signed(number int, at time.Time) *Request {
	c.Helper()
	r := c.request()
	if c.sign != nil {
		c.sign(c, r, number, at)
		return r
	}
	s := c.usual()
	if c.scheme.Secrets != NoSecrets {
		s = c.source(secret(c.secrets[number]))
	}
	if err := s.Sign(r, at); err != nil {
		c.Fatal(err)
	}
	return r
}

// wants fails unless the verdict has one of those reasons, and tells no secret.
func (c *conformance) wants(what string, s *Source, r *Request, want ...Reason) Verdict {
	c.Helper()
	v := s.Verify(context.Background(), r)
	if !slices.Contains(want, v.Reason) {
		c.Fatalf("%s: %s (%s), want %v", what, v.Reason, v.Detail, want)
	}
	if v.OK() != (v.Detail == "") || v.OK() != (v.Secret >= 0) && c.scheme.Secrets != NoSecrets {
		c.Fatalf("%s: an odd verdict %+v", what, v)
	}
	for _, secret := range c.secrets {
		if secret != "" && strings.Contains(fmt.Sprintf("%+v %v", v, v), secret) {
			c.Fatalf("%s: the verdict tells a secret: %s", what, v.Detail)
		}
	}
	return v
}

// refusals is every reason but OK.
var refusals = slices.DeleteFunc(slices.Clone(reasons), func(r Reason) bool { return r == OK || r == NoSecret || r == Unavailable })

func (c *conformance) row() {
	s := c.scheme
	if s.Title == "" || s.Help == "" || s.Topic == "" || len(s.Setup) == 0 || s.Secrets == "" {
		c.Errorf("the row lacks title, help, topic, setup or secrets: %+v", s)
	}
	if s.Secrets != NoSecrets && s.SecretHelp == "" {
		c.Error("the row does not say where the secret is found")
	}
	if s.Secrets != NoSecrets && s.Generate != nil {
		c.source(secret(s.Generate()))
	}
}

func (c *conformance) passes() {
	s, r := c.usual(), c.signed(0, signedAt)
	v := c.wants("signed", s, r, OK)
	if v.Secret > 0 {
		c.Errorf("secret %d matched of one", v.Secret)
	}
	if got := s.DeliveryID(r); got != c.deliveryID && !(c.freshID && got != "") {
		c.Errorf("delivery id %q, want %q", got, c.deliveryID)
	}
	if c.unsigned {
		return
	}
	c.wants("unsigned", s, c.request(), HeaderMissing, Malformed, NoSecretMatches, TooOld)
	if c.scheme.Secrets != NoSecrets {
		c.wants("no secret", c.source(), r, NoSecret)
	}
}

func (c *conformance) manySecrets() {
	if c.scheme.Secrets == NoSecrets {
		return
	}
	one, two := secret(c.secrets[0]), secret(c.secrets[1])
	both := c.source(one, two)
	for i := range 2 {
		if v := c.wants("either secret", both, c.signed(i, signedAt), OK); v.Secret != i {
			c.Errorf("secret %d matched, want %d", v.Secret, i)
		}
	}
	c.wants("another's secret", c.source(two), c.signed(0, signedAt), NoSecretMatches)

	old := one
	old.Expires = signedAt
	c.wants("expired", c.source(two, old), c.signed(0, signedAt), NoSecretMatches)
	c.wants("the only one expired", c.source(old), c.signed(0, signedAt), NoSecret)
	old.Expires = signedAt.Add(time.Second)
	c.wants("a second to go", c.source(two, old), c.signed(0, signedAt), OK)
}

// bodyMutations: no byte of the body can be changed, added or taken.
func (c *conformance) bodyMutations() {
	s, r := c.usual(), c.signed(0, signedAt)
	for text := range mutations(string(r.Body)) {
		changed := *r
		changed.Body = []byte(text)
		if c.partOfBody {
			c.wants("body "+text, s, &changed, reasons...)
		} else if c.unsignedBody || c.isSame(r, &changed) {
			c.wants("body "+text, s, &changed, OK)
		} else {
			c.wants("body "+text, s, &changed, refusals...)
		}
	}
}

// headerMutations: nor of a header that the scheme reads.
func (c *conformance) headerMutations() {
	s, r := c.usual(), c.signed(0, signedAt)
	for _, name := range c.signedHeaders() {
		value := r.Header.Get(name)
		if value == "" {
			c.Fatalf("the signed request has no %s", name)
		}
		for text := range mutations(value) {
			if strings.Trim(text, " ") == value {
				continue // no server sees white space around a value (RFC 9110, 5.5)
			}
			changed := *r
			changed.Header = slices.Clone(r.Header)
			changed.Header.Set(name, text)
			if c.isSame(r, &changed) {
				continue
			}
			c.wants(name+": "+text, s, &changed, refusals...)
		}
		changed := *r
		changed.Header = slices.DeleteFunc(slices.Clone(r.Header), func(f Field) bool { return strings.EqualFold(f.Name, name) })
		c.wants("without "+name, s, &changed, HeaderMissing)
		changed.Header = append(slices.Clone(r.Header), Field{name, value})
		c.wants(name+" twice", s, &changed, Malformed)
		for _, garbage := range []string{"\x00", "=", ",", "v1", strings.Repeat("v1=,", 2000), "t=1,v1=", "t=,v1=" + value, "💥"} {
			changed.Header = slices.Clone(r.Header)
			changed.Header.Set(name, garbage)
			c.wants(name+": "+garbage, s, &changed, refusals...)
		}
	}
}

func (c *conformance) isSame(a, b *Request) bool { return c.same != nil && c.same(a, b) }

// signedHeaders are those whose change must be noticed.
func (c *conformance) signedHeaders() []string {
	names := slices.Clone(c.headers)
	if rc := c.usual().recipe; rc != nil {
		for _, name := range []string{rc.header, rc.id, rc.timeHeader} {
			if name != "" {
				names = append(names, name)
			}
		}
		for _, p := range c.usual().pieces {
			if p.kind == pieceHeader {
				names = append(names, p.text)
			}
		}
	}
	return names
}

func (c *conformance) urlMutations() {
	s, r := c.usual(), c.signed(0, signedAt)
	for text := range mutations(r.URL) {
		changed := *r
		changed.URL = text
		signed := c.url || s.signs("url") || s.signs("path") && target(text) != target(r.URL)
		if c.isSame(r, &changed) {
			c.wants("URL "+text, s, &changed, OK)
		} else if signed {
			c.wants("URL "+text, s, &changed, refusals...)
		} else if !c.query {
			c.wants("URL "+text, s, &changed, OK)
		}
	}
}

// times: a scheme that signs a time refuses one outside its tolerance.
func (c *conformance) times() {
	s := c.usual()
	if c.ownTimes {
		return
	}
	if c.tolerance == 0 && s.recipe != nil && s.recipe.hasTime() {
		c.tolerance, c.pastOnly = s.recipe.tolerance, s.recipe.pastOnly
		if given := s.values.Duration("tolerance"); given > 0 {
			c.tolerance = given
		}
	}
	if c.tolerance == 0 {
		r := c.signed(0, signedAt)
		r.Received = signedAt.AddDate(1, 0, 0)
		c.wants("a year later", s, r, OK)
		return
	}
	for _, x := range []struct {
		by   time.Duration
		want Reason
	}{
		{c.tolerance, OK}, {c.tolerance + time.Second, TooOld}, {9 * 365 * 24 * time.Hour, TooOld},
		{-c.tolerance, OK}, {-c.tolerance - time.Second, TooNew}, {-40 * 365 * 24 * time.Hour, TooNew},
	} {
		if x.want == TooNew && c.pastOnly {
			x.want = OK
		}
		r := c.signed(0, signedAt)
		r.Received = signedAt.Add(x.by)
		v := c.wants("received after "+x.by.String(), s, r, x.want)
		if !v.OK() && !strings.Contains(v.Detail, span(c.tolerance)) {
			c.Errorf("%q does not tell what is allowed", v.Detail)
		}
	}
}

func (c *conformance) settings() {
	for settings, field := range c.badSettings {
		err := Check(nil, &hark.Source{Scheme: c.scheme.Name, Settings: json.RawMessage(settings)})
		if err == nil || !strings.Contains(err.Error(), field) {
			c.Errorf("settings %s: %v, want a fault of %s", settings, err, field)
		}
	}
	for _, bad := range append(slices.Clone(c.badSecrets), "") {
		d := &hark.Source{Scheme: c.scheme.Name, Settings: json.RawMessage(c.fixture.settings), Secrets: []hark.SigningSecret{secret(bad)}}
		if err := Check(nil, d); err == nil || len(bad) > 8 && strings.Contains(err.Error(), bad) {
			c.Errorf("secret %q: %v", bad, err)
		}
	}
}

// mutations yields text with each byte changed in some ways, taken out, and doubled.
func mutations(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := range len(text) {
			for _, b := range []byte{text[i] ^ 1, text[i] ^ 0x20, text[i] ^ 0x80, '0' + (text[i]-'0'+1)%10, ' ', 0} {
				if b != text[i] && !yield(text[:i]+string([]byte{b})+text[i+1:]) {
					return
				}
			}
			if !yield(text[:i]+text[i+1:]) || !yield(text[:i]+text[i:i+1]+text[i:]) {
				return
			}
		}
		_ = (text == "" || yield("")) && yield(text+"\n") && yield(" "+text)
	}
}
