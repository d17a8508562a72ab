package scheme

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/setting"
)

// SecretKind says what the secrets of a scheme are.
type SecretKind string

// The kinds of secrets.
const (
	NoSecrets    SecretKind = "none"
	SharedSecret SecretKind = "shared" // both sides know it
	PublicKey    SecretKind = "public" // the provider shows it; it is no secret, and cannot sign
)

// Env is what schemes need from outside.
type Env struct {
	// Fetch gets a small document (a certificate, a key set), through egress, cached by
	// the caller for a while. Nil for never: verdicts are then [Unavailable].
	Fetch func(ctx context.Context, url string) ([]byte, error)
}

// Scheme is one way to prove who sends, as a row that describes itself.
type Scheme struct {
	// Name is what a source says in "scheme".
	Name  string
	Title string
	Help  string
	// Fields are its settings, in the order of the form.
	Fields  []setting.Field
	Secrets SecretKind
	// SecretHelp says where the provider shows its secret, or how to choose one.
	SecretHelp string
	// Generate makes a new secret when the owner gives none; nil where the provider makes it.
	Generate func() string
	// Topic is the template of its events' topics.
	Topic string
	// Setup tells, line by line, what to enter at the provider; {url} and {secret} are replaced.
	Setup []string

	// check adds what Fields cannot say.
	check func(c *setting.Check, v setting.Values)
	// checkSecret says what is wrong with one secret, "" for nothing; nil for any text.
	checkSecret func(secret string) string
	// recipe makes verify, sign and checkSecret what it says, if it is there.
	// recipeOf is the same for a scheme whose settings are a recipe; check has seen them.
	recipe   *recipe
	recipeOf func(v setting.Values) *recipe
	// verify judges a request, with the secrets of [Source.live] only.
	verify func(ctx context.Context, s *Source, r *Request) Verdict
	// deliveryID is the provider's own id of the delivery, the same when it is sent
	// again; "" for none. It is called for verified requests only.
	deliveryID func(s *Source, r *Request) string
	// once tells that the signature is of the delivery's id and of no content: it must not
	// vouch for a second body.
	once bool
	// challenge answers a handshake of the provider; nil when r is none. It is called
	// before verify when unsigned is true of the scheme's handshakes, else after it.
	challenge         func(s *Source, r *Request) *Answer
	unsignedChallenge bool
	// sign adds to r what the provider would, so that it verifies with the first secret.
	// Nil, and no recipe, where only the provider can.
	sign func(s *Source, r *Request, at time.Time) error
}

// Answer is what a handshake is answered.
type Answer struct {
	Status int
	Header Header
	Body   []byte
}

// Schemes returns the table.
func Schemes() []*Scheme { return slices.Clone(table) }

// Find returns the scheme of that name, or nil.
func Find(name string) *Scheme {
	for _, s := range table {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// CanSign reports whether Hark can sign as this provider does.
func (s *Scheme) CanSign() bool { return s.sign != nil || s.recipe != nil || s.recipeOf != nil }

// Redact returns settings with every secret replaced by [setting.Redacted].
func (s *Scheme) Redact(settings json.RawMessage) json.RawMessage {
	return setting.Redact(s.Fields, settings)
}

// Check checks scheme, settings and secrets of a source, with all faults joined, and
// puts stored secret settings where they are redacted. Old is what d replaces; nil at creation.
func Check(old, d *hark.Source) error {
	s := Find(d.Scheme)
	if s == nil {
		names := make([]string, len(table))
		for i, s := range table {
			names[i] = s.Name
		}
		return hark.Invalidf("scheme", "must be one of "+strings.Join(names, ", "))
	}
	if old != nil && old.Scheme == d.Scheme {
		d.Settings = setting.Restore(s.Fields, old.Settings, d.Settings)
	}
	c := &setting.Check{}
	v := setting.Parse(c, "settings", s.Fields, d.Settings)
	if s.check != nil && len(c.Faults) == 0 {
		s.check(c, v)
	}
	if s.Secrets == NoSecrets && len(d.Secrets) > 0 {
		c.Fault("secrets", "scheme "+s.Name+" verifies nothing: leave them out")
	} else if len(c.Faults) == 0 {
		for _, secret := range d.Secrets {
			if why := s.secretFault(v, secret.Value.Reveal()); why != "" {
				c.Fault("secrets", why)
			}
		}
	}
	return errors.Join(c.Faults...)
}

// secretFault says what is wrong with a secret, "" for nothing.
func (s *Scheme) secretFault(v setting.Values, secret string) string {
	if secret == "" {
		return "must not be empty"
	}
	if rc := s.recipeFor(v); rc != nil {
		if _, err := rc.parseKey(secret); err != nil {
			return err.Error()
		}
	}
	if s.checkSecret != nil {
		return s.checkSecret(secret)
	}
	return ""
}

// recipeFor returns the recipe with those settings, nil for a scheme without.
func (s *Scheme) recipeFor(v setting.Values) *recipe {
	if s.recipeOf != nil {
		return s.recipeOf(v)
	}
	return s.recipe
}

// Source verifies for one revision of a source. It is safe for concurrent use.
type Source struct {
	Scheme  *Scheme
	env     *Env
	values  setting.Values
	secrets []hark.SigningSecret

	// Of a scheme with a recipe: the recipe, its template, and what each secret is the key of.
	recipe *recipe
	pieces []piece
	macs   []macs
}

// Open makes what verifies for d.
func Open(env *Env, d *hark.Source) (*Source, error) {
	scheme := Find(d.Scheme)
	if scheme == nil {
		return nil, errors.New("this Hark knows no scheme " + setting.Clip(d.Scheme))
	}
	c := &setting.Check{}
	v := setting.Parse(c, "settings", scheme.Fields, d.Settings)
	if err := errors.Join(c.Faults...); err != nil {
		return nil, err
	}
	s := &Source{Scheme: scheme, env: env, values: v, secrets: d.Secrets}
	if s.recipe = scheme.recipeFor(v); s.recipe != nil {
		if err := s.openRecipe(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Source) openRecipe() (err error) {
	if s.pieces, err = parseTemplate(cmp.Or(s.recipe.signed, "{body}")); err != nil {
		return err
	}
	s.macs = make([]macs, len(s.secrets))
	for i, secret := range s.secrets {
		s.macs[i].hash = s.recipe.newHash()
		if s.macs[i].key, err = s.recipe.parseKey(secret.Value.Reveal()); err != nil {
			return fmt.Errorf("secret %d %w", i, err)
		}
	}
	return nil
}

// Verify judges a request.
func (s *Source) Verify(ctx context.Context, r *Request) Verdict {
	switch {
	case s.Scheme.Secrets != NoSecrets && !s.hasLive(r.Received):
		return refused(NoSecret, "the source has no secret to verify with; add one: %s", s.Scheme.SecretHelp)
	case s.Scheme.verify != nil:
		return s.hinted(r, s.Scheme.verify(ctx, s, r))
	}
	return s.hinted(r, s.recipe.verify(s, r))
}

// hinted adds to a missing signature that another scheme's is there.
func (s *Source) hinted(r *Request, v Verdict) Verdict {
	if v.Reason != HeaderMissing {
		return v
	}
	for _, other := range table {
		if rc := other.recipe; rc != nil && other != s.Scheme && r.Header.Get(rc.header) != "" {
			v.Detail += "; there is " + rc.header + ", which scheme " + other.Name + " reads"
			break
		}
	}
	return v
}

// Challenge answers a provider's handshake; nil when r is an event. Verified tells
// whether r passed [Source.Verify]: call it before with false, after with true.
func (s *Source) Challenge(r *Request, verified bool) *Answer {
	if s.Scheme.challenge == nil || !verified && !s.Scheme.unsignedChallenge {
		return nil
	}
	return s.Scheme.challenge(s, r)
}

// DeliveryID is the provider's id of a verified request, the same when it is sent again; "" for none.
func (s *Source) DeliveryID(r *Request) string {
	if s.Scheme.deliveryID == nil {
		return ""
	}
	return s.Scheme.deliveryID(s, r)
}

// Once tells that a signature is of the delivery's id alone: whoever verifies must refuse
// the same id with another body, for as long as the signature would pass.
func (s *Source) Once() bool { return s.Scheme.once }

// UsedBefore is the verdict of a request whose signature came with another body before.
func UsedBefore() Verdict {
	return refused(BodyChanged, "the signature was used for another body before, and it is good for one: somebody sends what they made themselves")
}

// Sign makes r one that verifies with the first secret, as the provider would at that time.
func (s *Source) Sign(r *Request, at time.Time) error {
	if !s.Scheme.CanSign() {
		return &hark.Error{Kind: hark.Conflict, Code: "cannot-sign", Msg: "only " + s.Scheme.Title + " itself can sign its requests"}
	}
	if s.Scheme.Secrets != NoSecrets && len(s.secrets) == 0 {
		return &hark.Error{Kind: hark.Conflict, Code: "cannot-sign", Msg: "there is no secret to sign with"}
	}
	if s.Scheme.sign != nil {
		return s.Scheme.sign(s, r, at)
	}
	return s.recipe.sign(s, r, at)
}

// live ranges over the secrets that have not expired, with their numbers.
func (s *Source) live(at time.Time) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for i, secret := range s.secrets {
			expired := !secret.Expires.IsZero() && !secret.Expires.After(at)
			if text := secret.Value.Reveal(); text != "" && !expired && !yield(i, text) {
				return
			}
		}
	}
}

func (s *Source) hasLive(at time.Time) bool {
	for range s.live(at) {
		return true
	}
	return false
}
