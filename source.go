package hark

import (
	"encoding/json"
	"time"
)

// SourceID names a source. It is not what the source's URL holds: see [Source.Token].
// Text: "src_" and 13 characters.
type SourceID uint64

const sourcePrefix = "src_"

// String returns the text form; the zero id is "".
func (id SourceID) String() string { return uint64Text(sourcePrefix, uint64(id)) }

// ParseSourceID reads the text form.
func ParseSourceID(s string) (SourceID, error) {
	v, err := parseUint64(sourcePrefix, s, "source id")
	return SourceID(v), err
}

// MarshalText implements [encoding.TextMarshaler].
func (id SourceID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *SourceID) UnmarshalText(text []byte) error {
	v, err := ParseSourceID(string(text))
	*id = v
	return err
}

// SourceState says whether a source takes requests.
type SourceState string

// The states of a source.
const (
	SourceActive SourceState = "active"
	SourcePaused SourceState = "paused" // by its owner: requests are answered 503, so that senders try again
)

// Source is an inbound URL, /in/{token}, with a verification scheme that turns
// requests into events. With Bin set it is a request bin: it accepts anything,
// shows it, and appends nothing to the log.
type Source struct {
	ID     SourceID `json:"id"`
	Tenant TenantID `json:"-"`
	// UID is the owner's own name for it, unique in the tenant; empty for none.
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
	// Token is the last part of its URL: 20 random characters, so that only who was
	// told the URL can send to it. It is no proof of who sends: the scheme is.
	Token string `json:"token"`
	// Scheme is a row of the table of schemes: github, stripe, …, none.
	Scheme string `json:"scheme"`
	// Settings are the scheme's own: its row describes the fields.
	Settings json.RawMessage `json:"settings,omitempty"`
	// Secrets verify; any that has not expired passes. What they are (shared secret or
	// public key) is the scheme's to say.
	Secrets []SigningSecret `json:"secrets,omitempty"`

	// Topic, Key and Attributes are templates over the request, such as
	// "github.{header.X-GitHub-Event}"; an empty topic is the scheme's own.
	Topic      string            `json:"topic,omitempty"`
	Key        string            `json:"key,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`

	// Response is what senders are answered after the sync; nil for 200 without a body.
	Response *SourceResponse `json:"response,omitempty"`
	// AllowIPs are the networks that may send; empty for all.
	AllowIPs []string `json:"allow_ips,omitempty"`
	// CORSOrigins are the web origins whose pages may send; "*" for all, empty for none.
	CORSOrigins []string `json:"cors_origins,omitempty"`
	// MaxBody bounds a body in bytes; 0 for the largest event. RateLimit is in requests
	// per second and Concurrency in requests at once; 0 for the server's defaults.
	MaxBody     int     `json:"max_body,omitempty"`
	RateLimit   float64 `json:"rate_limit,omitempty"`
	Concurrency int     `json:"concurrency,omitempty"`

	// Bin makes it a request bin.
	Bin *Bin `json:"bin,omitempty"`

	State    SourceState `json:"state"`
	Created  time.Time   `json:"created"`
	Updated  time.Time   `json:"updated"`
	Revision uint64      `json:"revision"`
}

// SourceResponse is what a source answers when it accepts a request.
type SourceResponse struct {
	Status  int               `json:"status,omitempty"` // 200–599; 0 for 200
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	// Delay is how long the answer waits after the request was kept; bins only.
	Delay Duration `json:"delay,omitzero"`
}

// Bin is what a request bin has besides.
type Bin struct {
	// Expires is when the bin and what it holds go away. Each request moves it TTL ahead.
	Expires time.Time `json:"expires"`
	TTL     Duration  `json:"ttl"`
	// MaxRequests and MaxBytes bound what it keeps: the oldest go first.
	MaxRequests int   `json:"max_requests"`
	MaxBytes    int64 `json:"max_bytes"`
	// View is the capability to see the bin's page and requests without a key.
	View Secret `json:"view,omitempty"`
	// Creator is the API key that made it, for quotas; empty for none.
	Creator string `json:"creator,omitempty"`
}
