package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// Sources is what the handlers need of the registry for sources.
type Sources interface {
	Source(t hark.TenantID, id hark.SourceID) (*hark.Source, error)
	Sources(t hark.TenantID, q registry.SourceQuery) (page []*hark.Source, more bool)
	CreateSource(t hark.TenantID, d *hark.Source) (*hark.Source, error)
	UpdateSource(t hark.TenantID, id hark.SourceID, revision uint64, edit func(d *hark.Source) error) (*hark.Source, error)
	PutSource(t hark.TenantID, revision uint64, d *hark.Source, may func(old *hark.Source) error) (now *hark.Source, created bool, err error)
	SetSourceState(t hark.TenantID, id hark.SourceID, revision uint64, state hark.SourceState) (*hark.Source, error)
	RotateSourceSecret(t hark.TenantID, id hark.SourceID, given hark.Secret, overlap time.Duration) (*hark.Source, error)
	DeleteSource(t hark.TenantID, id hark.SourceID, revision uint64) error
}

// SchemeView is one row of the table of verification schemes.
type SchemeView struct {
	Name        string                                `json:"name" example:"github"`
	Title       string                                `json:"title" example:"GitHub"`
	Help        string                                `json:"help,omitempty"`
	Settings    []FieldView                           `json:"settings" doc:"The settings of its sources, in the order of a form."`
	Secrets     string                                `json:"secrets" enum:"none,shared,public" doc:"Whether it has none, one that both sides know, or the provider's public key."`
	SecretHelp  string                                `json:"secret_help,omitempty" doc:"Where the provider shows its secret, or how to choose one."`
	MakesSecret bool                                  `json:"makes_secret" doc:"Hark makes the secret when none is given."`
	Signs       bool                                  `json:"signs" doc:"Hark can sign as this provider does: samples, and requests sent again."`
	Topic       string                                `json:"topic" doc:"The template of its events' topics." example:"github.{header.X-GitHub-Event}"`
	Setup       []string                              `json:"setup,omitempty" doc:"What to enter at the provider; {url} and {secret} stand for the source's."`
	Redact      func(json.RawMessage) json.RawMessage `json:"-"`
}

// FieldView describes one setting.
type FieldView struct {
	Key      string      `json:"key"`
	Type     string      `json:"type" doc:"text, url, int, bool, duration, map or object."`
	Title    string      `json:"title,omitempty"`
	Help     string      `json:"help,omitempty"`
	Required bool        `json:"required,omitempty"`
	Secret   bool        `json:"secret,omitempty" doc:"It is written and never shown."`
	Default  string      `json:"default,omitempty"`
	Enum     []string    `json:"enum,omitempty"`
	Example  string      `json:"example,omitempty"`
	Min      int64       `json:"min,omitempty"`
	Max      int64       `json:"max,omitempty"`
	Fields   []FieldView `json:"fields,omitempty" doc:"The members of an object."`
}

// SchemeList carries the table of schemes.
type SchemeList struct {
	Body struct {
		Schemes []SchemeView `json:"schemes"`
	}
}

// ListSchemes answers GET /v1/schemes.
func (a *API) ListSchemes(context.Context, *struct{}) (*SchemeList, error) {
	out := &SchemeList{}
	out.Body.Schemes = a.Schemes
	return out, nil
}

// scheme returns a row of the table; a zero one for a name that it does not have.
func (a *API) scheme(name string) *SchemeView {
	for i := range a.Schemes {
		if a.Schemes[i].Name == name {
			return &a.Schemes[i]
		}
	}
	return &SchemeView{Redact: func(json.RawMessage) json.RawMessage { return json.RawMessage("{}") }}
}

// SourceBody is what an owner writes.
type SourceBody struct {
	Scheme      string               `json:"scheme" doc:"How senders prove who they are: a name of GET /v1/schemes." example:"github"`
	Settings    json.RawMessage      `json:"settings,omitempty" doc:"The scheme's own settings." example:"{}"`
	UID         string               `json:"uid,omitempty" doc:"Your own name for it, unique in the tenant." maxLength:"255" example:"github-main"`
	Name        string               `json:"name,omitempty" maxLength:"255"`
	Secret      hark.Secret          `json:"secret,omitempty" doc:"What requests are verified with: the provider's, or your own; one is made where the scheme can."`
	Secrets     []hark.Secret        `json:"secrets,omitempty" minItems:"1" maxItems:"10" doc:"Several, for several senders to one URL, instead of secret."`
	Topic       string               `json:"topic,omitempty" doc:"Template of the events' topics; the scheme's own when it is missing." example:"github.{header.X-GitHub-Event}"`
	Key         string               `json:"key,omitempty" doc:"Template of their keys." example:"{body.repository.full_name}"`
	Attributes  map[string]string    `json:"attributes,omitempty" doc:"Templates of their attributes, by name."`
	Response    *hark.SourceResponse `json:"response,omitempty" doc:"What senders are answered; 200 without a body when it is missing."`
	AllowIPs    []string             `json:"allow_ips,omitempty" maxItems:"256" doc:"Addresses and networks that may send; all when it is missing." example:"[\"192.30.252.0/22\"]"`
	CORSOrigins []string             `json:"cors_origins,omitempty" maxItems:"64" doc:"Origins of web pages that may send; * for all." example:"[\"https://app.example.com\"]"`
	MaxBody     int                  `json:"max_body,omitempty" minimum:"0" doc:"Largest body in bytes; 0 for the server's limit."`
	RateLimit   float64              `json:"rate_limit,omitempty" minimum:"0" doc:"Requests per second; 0 for the server's default."`
	Concurrency int                  `json:"concurrency,omitempty" minimum:"0" doc:"Requests at once; 0 for the server's default."`
}

func (b *SourceBody) source() (*hark.Source, error) {
	if err := checkSecrets(b.Secret, b.Secrets); err != nil {
		return nil, err
	}
	return &hark.Source{Scheme: b.Scheme, Settings: b.Settings, UID: b.UID, Name: b.Name, Secrets: verifying(b.Secret, b.Secrets),
		Topic: b.Topic, Key: b.Key, Attributes: b.Attributes, Response: b.Response, AllowIPs: b.AllowIPs, CORSOrigins: b.CORSOrigins,
		MaxBody: b.MaxBody, RateLimit: b.RateLimit, Concurrency: b.Concurrency}, nil
}

// checkSecrets refuses a body that says twice what verifies.
func checkSecrets(one hark.Secret, all []hark.Secret) error {
	if one != "" && len(all) > 0 {
		return hark.Invalidf("secrets", "stands for secret: give one of the two")
	}
	return nil
}

// verifying is what verifies, of a body that has one secret or several.
func verifying(one hark.Secret, all []hark.Secret) (secrets []hark.SigningSecret) {
	if one != "" {
		all = []hark.Secret{one}
	}
	for _, s := range all {
		secrets = append(secrets, hark.SigningSecret{Value: s})
	}
	return secrets
}

// SourceView is what a reader gets. Secrets are in it only where they were asked for.
type SourceView struct {
	ID          hark.SourceID        `json:"id" example:"src_0001m5b2t0g00"`
	UID         string               `json:"uid,omitempty"`
	Name        string               `json:"name,omitempty"`
	URL         string               `json:"url" doc:"Where senders send. Whoever knows it can try; the scheme tells who may." example:"https://hooks.example.com/in/4f0c1v9q2m8s7t6u5r3e"`
	Scheme      string               `json:"scheme"`
	Settings    json.RawMessage      `json:"settings"`
	Topic       string               `json:"topic"`
	Key         string               `json:"key,omitempty"`
	Attributes  map[string]string    `json:"attributes,omitempty"`
	Response    *hark.SourceResponse `json:"response,omitempty"`
	AllowIPs    []string             `json:"allow_ips,omitempty"`
	CORSOrigins []string             `json:"cors_origins,omitempty"`
	MaxBody     int                  `json:"max_body,omitempty"`
	RateLimit   float64              `json:"rate_limit,omitempty"`
	Concurrency int                  `json:"concurrency,omitempty"`
	State       hark.SourceState     `json:"state"`
	Created     time.Time            `json:"created"`
	Updated     time.Time            `json:"updated"`
	Revision    uint64               `json:"revision"`
	Verifying   int                  `json:"verifying" doc:"With how many secrets requests are verified now."`
	Secret      string               `json:"secret,omitempty" doc:"Shown at creation and rotation, and with ?reveal=true to an admin; a public key always."`
	Secrets     []string             `json:"secrets,omitempty" doc:"All that verify without an end, secret first; shown as it is."`
	OldSecrets  []OldSecret          `json:"old_secrets,omitempty" doc:"Replaced secrets that still verify."`
	SecretHelp  string               `json:"secret_help,omitempty" doc:"There is no secret yet, and every request is refused: where the provider shows it."`
	Setup       []string             `json:"setup,omitempty" doc:"What to enter at the provider, line by line."`
}

func (a *API) sourceView(ctx context.Context, d *hark.Source, reveal bool) SourceView {
	s := a.scheme(d.Scheme)
	v := SourceView{ID: d.ID, UID: d.UID, Name: d.Name, URL: a.base(ctx) + "/in/" + d.Token, Scheme: d.Scheme, Settings: s.Redact(d.Settings),
		Topic: cmp.Or(d.Topic, s.Topic), Key: d.Key, Attributes: d.Attributes, Response: d.Response, AllowIPs: d.AllowIPs,
		CORSOrigins: d.CORSOrigins, MaxBody: d.MaxBody, RateLimit: d.RateLimit, Concurrency: d.Concurrency,
		State: d.State, Created: d.Created, Updated: d.Updated, Revision: d.Revision}
	reveal = reveal || s.Secrets == "public"
	for _, secret := range d.Secrets {
		if !secret.Expires.IsZero() && !secret.Expires.After(time.Now()) {
			continue
		}
		v.Verifying++
		if !reveal {
			continue
		}
		text := secret.Value.Reveal()
		if v.Verifying == 1 {
			v.Secret = text
		}
		if secret.Expires.IsZero() {
			v.Secrets = append(v.Secrets, text)
		} else if v.Verifying > 1 {
			v.OldSecrets = append(v.OldSecrets, OldSecret{Secret: text, Expires: secret.Expires})
		}
	}
	if v.Verifying == 0 && s.Secrets != "none" {
		v.SecretHelp = s.SecretHelp
	}
	return v
}

// withSetup adds what to enter at the provider. A secret that is not shown is a dash.
func (a *API) withSetup(v SourceView) SourceView {
	fill := strings.NewReplacer("{url}", v.URL, "{secret}", cmp.Or(v.Secret, "–"))
	for _, line := range a.scheme(v.Scheme).Setup {
		v.Setup = append(v.Setup, fill.Replace(line))
	}
	return v
}

// SourceAnswer carries one source.
type SourceAnswer struct {
	Status int    `json:"-"`
	ETag   string `header:"ETag" doc:"The revision, for If-Match."`
	Body   SourceView
}

func (a *API) answerSource(ctx context.Context, d *hark.Source, reveal bool) *SourceAnswer {
	return &SourceAnswer{Status: 200, ETag: etagOf(d.Revision), Body: a.withSetup(a.sourceView(ctx, d, reveal))}
}

// topicsOf is what the topics of a source's events match; "" when it has none that can be.
func (a *API) topicsOf(d *hark.Source) hark.Pattern {
	topic := cmp.Or(d.Topic, a.scheme(d.Scheme).Topic)
	pattern := hark.Pattern(topic)
	if before, _, placeholder := strings.Cut(topic, "{"); placeholder {
		pattern = hark.Pattern(before[:strings.LastIndexByte(before, '.')+1] + ">")
	}
	if hark.CheckPattern(pattern) != nil {
		return ""
	}
	return pattern
}

// mayFeed: a source publishes for its owner, so its owner must reach every topic that
// its events may have: before a change, too, or it could be taken from those it feeds.
func (a *API) mayFeed(ctx context.Context, d *hark.Source) error {
	pattern := a.topicsOf(d)
	if pattern == "" {
		return nil // it is refused with all other faults
	}
	return callerOf(ctx).MayFeed(pattern)
}

// SourceCreate is the input of POST /v1/sources.
type SourceCreate struct{ Body SourceBody }

// CreateSource answers POST /v1/sources.
func (a *API) CreateSource(ctx context.Context, in *SourceCreate) (*SourceAnswer, error) {
	given, err := in.Body.source()
	if err != nil {
		return nil, err
	}
	if err := a.mayFeed(ctx, given); err != nil {
		return nil, err
	}
	d, err := a.Sources.CreateSource(tenantOf(ctx), given)
	if err != nil {
		return nil, err
	}
	answer := a.answerSource(ctx, d, true)
	answer.Status = 201
	return answer, nil
}

// SourceUpsert is the input of PUT /v1/sources/uid/{uid}.
type SourceUpsert struct {
	UID     string `path:"uid" maxLength:"255"`
	IfMatch string `header:"If-Match" doc:"Only change this revision."`
	Body    SourceBody
}

// PutSource answers PUT /v1/sources/uid/{uid}: create or replace.
func (a *API) PutSource(ctx context.Context, in *SourceUpsert) (*SourceAnswer, error) {
	if in.Body.UID != "" && in.Body.UID != in.UID {
		return nil, hark.Invalidf("uid", "differs from the one in the path; leave it out of the body")
	}
	revision, err := revisionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	given, err := in.Body.source()
	if err != nil {
		return nil, err
	}
	given.UID = in.UID
	if err := a.mayFeed(ctx, given); err != nil {
		return nil, err
	}
	d, created, err := a.Sources.PutSource(tenantOf(ctx), revision, given, func(old *hark.Source) error { return a.mayFeed(ctx, old) })
	if err != nil {
		return nil, err
	}
	answer := a.answerSource(ctx, d, created)
	if created {
		answer.Status = 201
	}
	return answer, nil
}

// SourcePath names one source.
type SourcePath struct {
	ID string `path:"id" doc:"src_…" example:"src_0001m5b2t0g00"`
}

// source returns the source that a path names. A bin is none: it has routes of its own.
func (a *API) source(ctx context.Context, p *SourcePath) (*hark.Source, error) {
	id, err := hark.ParseSourceID(p.ID)
	if err != nil {
		return nil, err
	}
	d, err := a.Sources.Source(tenantOf(ctx), id)
	if err == nil && d.Bin != nil {
		return nil, hark.NoSuch("source", p.ID)
	}
	return d, err
}

// SourceGet is the input of GET /v1/sources/{id}.
type SourceGet struct {
	SourcePath
	Reveal bool `query:"reveal" doc:"Show the secrets; needs an admin key."`
}

// GetSource answers GET /v1/sources/{id}.
func (a *API) GetSource(ctx context.Context, in *SourceGet) (*SourceAnswer, error) {
	if in.Reveal {
		if err := callerOf(ctx).Require(registry.ScopeAdmin); err != nil {
			return nil, err
		}
	}
	d, err := a.source(ctx, &in.SourcePath)
	if err != nil {
		return nil, err
	}
	return a.answerSource(ctx, d, in.Reveal), nil
}

// SourceList is the input of GET /v1/sources.
type SourceList struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After  string `query:"after" doc:"Go on after this id: the next of the page before."`
	Scheme string `query:"scheme"`
	State  string `query:"state" enum:"active,paused"`
	UID    string `query:"uid"`
}

// SourcePage carries sources.
type SourcePage struct {
	Body struct {
		Sources []SourceView `json:"sources"`
		Next    string       `json:"next,omitempty" doc:"Give it as after for the next page; missing on the last."`
	}
}

// ListSources answers GET /v1/sources.
func (a *API) ListSources(ctx context.Context, in *SourceList) (*SourcePage, error) {
	q := registry.SourceQuery{Limit: in.Limit, Scheme: in.Scheme, State: hark.SourceState(in.State), UID: in.UID}
	if in.After != "" {
		id, err := hark.ParseSourceID(in.After)
		if err != nil {
			return nil, err
		}
		q.After = id
	}
	page, more := a.Sources.Sources(tenantOf(ctx), q)
	out := &SourcePage{}
	out.Body.Sources = make([]SourceView, len(page))
	for i, d := range page {
		out.Body.Sources[i] = a.sourceView(ctx, d, false)
	}
	if more {
		out.Body.Next = page[len(page)-1].ID.String()
	}
	return out, nil
}

// SourcePatch is the input of PATCH /v1/sources/{id}: what is left out stays.
type SourcePatch struct {
	SourcePath
	IfMatch string `header:"If-Match" doc:"Only change this revision."`
	Body    struct {
		Scheme      *string           `json:"scheme,omitempty" doc:"Another scheme: its settings and secrets are given anew."`
		Settings    json.RawMessage   `json:"settings,omitempty" doc:"Merged into the present settings (RFC 7396): null removes a field."`
		UID         *string           `json:"uid,omitempty"`
		Name        *string           `json:"name,omitempty"`
		Secret      hark.Secret       `json:"secret,omitempty" doc:"A new secret; what verified before verifies for another 24h."`
		Secrets     []hark.Secret     `json:"secrets,omitempty" minItems:"1" maxItems:"10" doc:"Several new ones, instead of secret."`
		Topic       *string           `json:"topic,omitempty"`
		Key         *string           `json:"key,omitempty"`
		Attributes  map[string]string `json:"attributes,omitempty" doc:"All of them, anew."`
		Response    json.RawMessage   `json:"response,omitempty" doc:"All of it, anew; null for 200 without a body."`
		AllowIPs    *[]string         `json:"allow_ips,omitempty"`
		CORSOrigins *[]string         `json:"cors_origins,omitempty"`
		MaxBody     *int              `json:"max_body,omitempty" minimum:"0"`
		RateLimit   *float64          `json:"rate_limit,omitempty" minimum:"0"`
		Concurrency *int              `json:"concurrency,omitempty" minimum:"0"`
	}
}

// PatchSource answers PATCH /v1/sources/{id}.
func (a *API) PatchSource(ctx context.Context, in *SourcePatch) (*SourceAnswer, error) {
	old, err := a.source(ctx, &in.SourcePath)
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	d, err := a.Sources.UpdateSource(tenantOf(ctx), old.ID, revision, func(d *hark.Source) error {
		if err := a.mayFeed(ctx, d); err != nil {
			return err
		}
		if err := in.edit(d); err != nil {
			return err
		}
		return a.mayFeed(ctx, d)
	})
	if err != nil {
		return nil, err
	}
	return a.answerSource(ctx, d, false), nil
}

func (in *SourcePatch) edit(d *hark.Source) (err error) {
	b := &in.Body
	if b.Scheme != nil && *b.Scheme != d.Scheme {
		d.Scheme, d.Settings, d.Secrets = *b.Scheme, nil, nil
	}
	if b.Settings != nil {
		if d.Settings, err = mergePatch(d.Settings, b.Settings); err != nil {
			return err
		}
	}
	if b.Response != nil {
		d.Response = nil
		if !bytes.Equal(b.Response, []byte("null")) {
			if d.Response, err = responseOf(b.Response); err != nil {
				return err
			}
		}
	}
	if err := checkSecrets(b.Secret, b.Secrets); err != nil {
		return err
	}
	if secrets := verifying(b.Secret, b.Secrets); len(secrets) > 0 {
		d.Secrets = secrets
	}
	if b.Attributes != nil {
		d.Attributes = b.Attributes
	}
	give(&d.UID, b.UID)
	give(&d.Name, b.Name)
	give(&d.Topic, b.Topic)
	give(&d.Key, b.Key)
	give(&d.AllowIPs, b.AllowIPs)
	give(&d.CORSOrigins, b.CORSOrigins)
	give(&d.MaxBody, b.MaxBody)
	give(&d.RateLimit, b.RateLimit)
	give(&d.Concurrency, b.Concurrency)
	return nil
}

// responseOf reads a response, with no fields that there are not.
func responseOf(text json.RawMessage) (*hark.SourceResponse, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	r := new(hark.SourceResponse)
	if err := decoder.Decode(r); err != nil {
		return nil, hark.Invalidf("response", "must be an object with status (a number), headers (an object of texts) and body (a text)")
	}
	return r, nil
}

// SourceDelete is the input of DELETE /v1/sources/{id}.
type SourceDelete struct {
	SourcePath
	IfMatch string `header:"If-Match" doc:"Only delete this revision."`
}

// DeleteSource answers DELETE /v1/sources/{id}: its URL is gone for good.
func (a *API) DeleteSource(ctx context.Context, in *SourceDelete) (*Nothing, error) {
	d, err := a.source(ctx, &in.SourcePath)
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	return nil, a.Sources.DeleteSource(tenantOf(ctx), d.ID, revision)
}

// PauseSource answers POST …/pause: senders are answered 503 until it is resumed, so
// that they try again.
func (a *API) PauseSource(ctx context.Context, in *SourcePath) (*SourceAnswer, error) {
	return a.setSourceState(ctx, in, hark.SourcePaused)
}

// ResumeSource answers POST …/resume.
func (a *API) ResumeSource(ctx context.Context, in *SourcePath) (*SourceAnswer, error) {
	return a.setSourceState(ctx, in, hark.SourceActive)
}

func (a *API) setSourceState(ctx context.Context, in *SourcePath, state hark.SourceState) (*SourceAnswer, error) {
	d, err := a.source(ctx, in)
	if err != nil {
		return nil, err
	}
	if d, err = a.Sources.SetSourceState(tenantOf(ctx), d.ID, 0, state); err != nil {
		return nil, err
	}
	return a.answerSource(ctx, d, false), nil
}

// SourceRotate is the input of POST /v1/sources/{id}/rotate-secret.
type SourceRotate struct {
	SourcePath
	Body *struct {
		Secret  hark.Secret    `json:"secret,omitempty" doc:"The provider's new secret, or your own; one is made where the scheme can."`
		Overlap *hark.Duration `json:"overlap,omitempty" doc:"How long what verified before still verifies." example:"24h"`
	}
}

// RotateSourceSecret answers POST …/rotate-secret with the new secret.
func (a *API) RotateSourceSecret(ctx context.Context, in *SourceRotate) (*SourceAnswer, error) {
	d, err := a.source(ctx, &in.SourcePath)
	if err != nil {
		return nil, err
	}
	// Whoever knows a secret of a source publishes through it.
	if err := a.mayFeed(ctx, d); err != nil {
		return nil, err
	}
	overlap, given := hark.RotationOverlap, hark.Secret("")
	if in.Body != nil {
		given = in.Body.Secret
		if in.Body.Overlap != nil {
			overlap = time.Duration(*in.Body.Overlap)
		}
	}
	if d, err = a.Sources.RotateSourceSecret(tenantOf(ctx), d.ID, given, overlap); err != nil {
		return nil, err
	}
	return a.answerSource(ctx, d, true), nil
}
