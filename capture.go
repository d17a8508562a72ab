package hark

import (
	"encoding/json"
	"time"
	"unicode/utf8"
)

// CaptureID names a captured request for ever. Ids rise along time over all sources of
// a node, so that they are also positions in what a source has captured.
// Text: "cap_" and 13 characters, which sort as the ids do.
type CaptureID uint64

const capturePrefix = "cap_"

// String returns the text form; the zero id is "".
func (id CaptureID) String() string { return uint64Text(capturePrefix, uint64(id)) }

// ParseCaptureID reads the text form.
func ParseCaptureID(s string) (CaptureID, error) {
	v, err := parseUint64(capturePrefix, s, "capture id")
	return CaptureID(v), err
}

// MarshalText implements [encoding.TextMarshaler].
func (id CaptureID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; empty text is the zero id.
func (id *CaptureID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = 0
		return nil
	}
	v, err := ParseCaptureID(string(text))
	*id = v
	return err
}

// HeaderField is one field of a request's header, as it was written.
type HeaderField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Capture is a request that a source received, kept to be looked at: what was sent,
// byte for byte, what was made of it, and what was answered. Nobody changes one.
type Capture struct {
	ID       CaptureID
	Source   SourceID
	Received time.Time
	// Remote is the sender's address, without a port.
	Remote string
	Method string
	// Target is path and query as they were sent: "/in/abc/x?y=1".
	Target string
	// Proto is "HTTP/1.1" or "HTTP/2.0".
	Proto string
	// Head is the request line and header fields as they were sent; nil where there is
	// no such text (HTTP/2, replays). Header is what they say, in their order.
	Head   []byte
	Header []HeaderField
	// Body is what was sent; lists may leave it out. BodySize is how many bytes of it are
	// kept, Truncated tells that they are only its beginning.
	Body      []byte
	BodySize  int
	Truncated bool

	// Scheme verified it, Reason says in one word how that went ("ok", "body-changed"),
	// Detail in a sentence what to do.
	Scheme string
	Reason string
	Detail string
	// Event is what it became; zero for none. Duplicate says that an earlier one did.
	Event     EventID
	Duplicate bool
	// Status is what the sender was answered.
	Status int
	// ReplayOf is the capture that this one is a replay of; zero for none.
	ReplayOf CaptureID
}

// Size is the logical size of c in bytes: what rings and quotas count.
func (c *Capture) Size() int {
	n := 96 + len(c.Remote) + len(c.Method) + len(c.Target) + len(c.Proto) + len(c.Head) + len(c.Body) + len(c.Detail)
	for i := range c.Header {
		n += len(c.Header[i].Name) + len(c.Header[i].Value)
	}
	return n
}

// captureJSON is the JSON form. A body that is UTF-8 is text, any other base64, none is
// absent; head is always base64, since a header may hold any byte.
type captureJSON struct {
	ID         CaptureID     `json:"id"`
	Source     SourceID      `json:"source"`
	Received   time.Time     `json:"received"`
	Remote     string        `json:"remote,omitempty"`
	Method     string        `json:"method"`
	Target     string        `json:"target"`
	Proto      string        `json:"proto,omitempty"`
	Head       []byte        `json:"head_base64,omitempty"`
	Header     []HeaderField `json:"header"`
	Body       *string       `json:"body,omitempty"`
	BodyBase64 []byte        `json:"body_base64,omitempty"`
	BodySize   int           `json:"body_size"`
	Truncated  bool          `json:"truncated,omitempty"`
	Scheme     string        `json:"scheme,omitempty"`
	Reason     string        `json:"reason,omitempty"`
	Detail     string        `json:"detail,omitempty"`
	Event      EventID       `json:"event,omitzero"`
	Duplicate  bool          `json:"duplicate,omitempty"`
	Status     int           `json:"status,omitempty"`
	ReplayOf   CaptureID     `json:"replay_of,omitempty"`
}

// MarshalJSON implements [json.Marshaler]. The body is "body" when it is
// UTF-8, else "body_base64", and absent when it is empty or was left out.
func (c *Capture) MarshalJSON() ([]byte, error) {
	j := captureJSON{ID: c.ID, Source: c.Source, Received: c.Received, Remote: c.Remote, Method: c.Method, Target: c.Target,
		Proto: c.Proto, Head: c.Head, Header: c.Header, BodySize: max(c.BodySize, len(c.Body)), Truncated: c.Truncated, Scheme: c.Scheme, Reason: c.Reason,
		Detail: c.Detail, Event: c.Event, Duplicate: c.Duplicate, Status: c.Status, ReplayOf: c.ReplayOf}
	if j.Header == nil {
		j.Header = []HeaderField{}
	}
	switch {
	case len(c.Body) == 0:
	case utf8.Valid(c.Body):
		j.Body = new(string(c.Body))
	default:
		j.BodyBase64 = c.Body
	}
	return json.Marshal(&j)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *Capture) UnmarshalJSON(text []byte) error {
	var j captureJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	*c = Capture{ID: j.ID, Source: j.Source, Received: j.Received, Remote: j.Remote, Method: j.Method, Target: j.Target,
		Proto: j.Proto, Head: j.Head, Header: j.Header, Body: j.BodyBase64, BodySize: j.BodySize, Truncated: j.Truncated, Scheme: j.Scheme, Reason: j.Reason,
		Detail: j.Detail, Event: j.Event, Duplicate: j.Duplicate, Status: j.Status, ReplayOf: j.ReplayOf}
	if j.Body != nil {
		c.Body = []byte(*j.Body)
	}
	return nil
}
