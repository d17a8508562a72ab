package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/url"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// Source is a source as the server shows it: a URL where a provider sends, and what
// becomes of its requests.
type Source struct {
	ID   hark.SourceID `json:"id"`
	UID  string        `json:"uid,omitempty"`
	Name string        `json:"name,omitempty"`
	// URL is where senders send.
	URL      string          `json:"url"`
	Scheme   string          `json:"scheme"`
	Settings json.RawMessage `json:"settings,omitempty"`
	// Topic, Key and Attributes are templates of what its events have.
	Topic      string            `json:"topic"`
	Key        string            `json:"key,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`

	Response    *hark.SourceResponse `json:"response,omitempty"`
	AllowIPs    []string             `json:"allow_ips,omitempty"`
	CORSOrigins []string             `json:"cors_origins,omitempty"`
	MaxBody     int                  `json:"max_body,omitempty"`
	RateLimit   float64              `json:"rate_limit,omitempty"`
	Concurrency int                  `json:"concurrency,omitempty"`

	State    hark.SourceState `json:"state"`
	Created  time.Time        `json:"created"`
	Updated  time.Time        `json:"updated"`
	Revision uint64           `json:"revision"`

	// Verifying is with how many secrets requests are verified now.
	Verifying int `json:"verifying"`
	// Secrets, of which Secret is the first, and OldSecrets verify. They are there at creation,
	// after a rotation, and for keys that may see them; a public key always.
	Secret     hark.Secret   `json:"secret,omitempty"`
	Secrets    []hark.Secret `json:"secrets,omitempty"`
	OldSecrets []OldSecret   `json:"old_secrets,omitempty"`
	// SecretHelp says where the provider shows its secret; it is there while the source
	// has none and refuses every request.
	SecretHelp string `json:"secret_help,omitempty"`
	// Setup is what to enter at the provider, line by line.
	Setup []string `json:"setup,omitempty"`
}

// SourceSpec is what an owner says about a source.
type SourceSpec struct {
	// Scheme is how senders prove who they are: a name of [Client.Schemes].
	Scheme string `json:"scheme"`
	// Settings are the scheme's own.
	Settings any `json:"settings,omitempty"`
	// UID is the owner's own name for it, unique in the tenant.
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
	// Secret verifies; the server makes one if it is empty and the scheme can.
	Secret hark.Secret `json:"secret,omitempty"`
	// Secrets are several that verify, instead of Secret.
	Secrets []hark.Secret `json:"secrets,omitempty"`

	// Topic is the scheme's own if it is empty.
	Topic      string            `json:"topic,omitempty"`
	Key        string            `json:"key,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`

	Response    *hark.SourceResponse `json:"response,omitempty"`
	AllowIPs    []string             `json:"allow_ips,omitempty"`
	CORSOrigins []string             `json:"cors_origins,omitempty"`
	MaxBody     int                  `json:"max_body,omitempty"`
	RateLimit   float64              `json:"rate_limit,omitempty"`
	Concurrency int                  `json:"concurrency,omitempty"`
}

func sourcePath(id hark.SourceID, verb ...string) string {
	return "/v1/sources/" + strings.Join(append([]string{id.String()}, verb...), "/")
}

// CreateSource makes a source. The answer holds its secret, and what to enter at the provider.
func (c *Client) CreateSource(ctx context.Context, spec SourceSpec) (*Source, error) {
	return c.source(ctx, call{method: "POST", path: "/v1/sources", body: spec})
}

// PutSource makes the source with spec.UID, or changes the one that has it. Doing it
// twice is the same as doing it once.
func (c *Client) PutSource(ctx context.Context, spec SourceSpec) (*Source, error) {
	if spec.UID == "" {
		return nil, hark.Invalidf("uid", "is needed to create or replace by it")
	}
	return c.source(ctx, call{method: "PUT", path: "/v1/sources/uid/" + url.PathEscape(spec.UID), body: spec, safe: true})
}

// Source returns one.
func (c *Client) Source(ctx context.Context, id hark.SourceID) (*Source, error) {
	return c.source(ctx, call{method: "GET", path: sourcePath(id), safe: true})
}

// RevealSource is [Client.Source] with the secrets; it needs an admin key.
func (c *Client) RevealSource(ctx context.Context, id hark.SourceID) (*Source, error) {
	return c.source(ctx, call{method: "GET", path: sourcePath(id), query: values("reveal", "true"), safe: true})
}

// UpdateSource changes the given fields.
func (c *Client) UpdateSource(ctx context.Context, id hark.SourceID, patch Patch) (*Source, error) {
	return c.source(ctx, call{method: "PATCH", path: sourcePath(id), body: patch, safe: true})
}

// DeleteSource removes one; its URL is gone for good.
func (c *Client) DeleteSource(ctx context.Context, id hark.SourceID) error {
	return c.do(ctx, call{method: "DELETE", path: sourcePath(id)}, nil)
}

// PauseSource has senders answered 503, so that they try again later.
func (c *Client) PauseSource(ctx context.Context, id hark.SourceID) (*Source, error) {
	return c.source(ctx, call{method: "POST", path: sourcePath(id, "pause"), safe: true})
}

// ResumeSource takes requests again.
func (c *Client) ResumeSource(ctx context.Context, id hark.SourceID) (*Source, error) {
	return c.source(ctx, call{method: "POST", path: sourcePath(id, "resume"), safe: true})
}

// RotateSourceSecret puts a new secret first: the given, or one that the server makes
// where the scheme can. Those before it verify for overlap, such as
// [hark.RotationOverlap]; 0 ends them at once. The answer holds it.
func (c *Client) RotateSourceSecret(ctx context.Context, id hark.SourceID, given hark.Secret, overlap time.Duration) (*Source, error) {
	body := Patch{"overlap": hark.Duration(overlap)}
	if given != "" {
		body["secret"] = given
	}
	return c.source(ctx, call{method: "POST", path: sourcePath(id, "rotate-secret"), body: body})
}

func (c *Client) source(ctx context.Context, k call) (*Source, error) {
	var s Source
	if err := c.do(ctx, k, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// SourceQuery chooses sources. Empty fields choose all.
type SourceQuery struct {
	Scheme string
	State  hark.SourceState
	UID    string
	// PageSize is how many one request asks for; 0 leaves it to the server.
	PageSize int
}

// Sources lists sources, oldest first. The first error ends it.
func (c *Client) Sources(ctx context.Context, q SourceQuery) iter.Seq2[*Source, error] {
	query := values("scheme", q.Scheme, "state", string(q.State), "uid", q.UID)
	return pages[*Source](ctx, c, "/v1/sources", "sources", query, q.PageSize)
}

// Scheme is one way for senders to prove who they are.
type Scheme struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Help  string `json:"help,omitempty"`
	// Settings are those of its sources.
	Settings []SchemeSetting `json:"settings"`
	// Secrets is "none", "shared" (both sides know it) or "public" (the provider's public key).
	Secrets    string `json:"secrets"`
	SecretHelp string `json:"secret_help,omitempty"`
	// MakesSecret tells that the server makes the secret when none is given, Signs that
	// it can sign as the provider does.
	MakesSecret bool `json:"makes_secret"`
	Signs       bool `json:"signs"`
	// Topic is the template of its events' topics.
	Topic string   `json:"topic"`
	Setup []string `json:"setup,omitempty"`
}

// SchemeSetting describes one setting.
type SchemeSetting struct {
	Key      string          `json:"key"`
	Type     string          `json:"type"`
	Title    string          `json:"title,omitempty"`
	Help     string          `json:"help,omitempty"`
	Required bool            `json:"required,omitempty"`
	Secret   bool            `json:"secret,omitempty"`
	Default  string          `json:"default,omitempty"`
	Enum     []string        `json:"enum,omitempty"`
	Example  string          `json:"example,omitempty"`
	Min      int64           `json:"min,omitempty"`
	Max      int64           `json:"max,omitempty"`
	Fields   []SchemeSetting `json:"fields,omitempty"`
}

// Schemes returns the table of verification schemes.
func (c *Client) Schemes(ctx context.Context) ([]Scheme, error) {
	var answer struct {
		Schemes []Scheme `json:"schemes"`
	}
	if err := c.do(ctx, call{method: "GET", path: "/v1/schemes", safe: true}, &answer); err != nil {
		return nil, err
	}
	return answer.Schemes, nil
}
