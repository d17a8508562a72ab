package hark

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// TenantID is a tenant's number inside one data folder; its name is the owner's.
type TenantID uint32

// DefaultTenant always exists; its name is "default".
const (
	DefaultTenant     TenantID = 1
	DefaultTenantName          = "default"
)

// Event is an immutable message in the log. Nobody changes one after it was appended.
type Event struct {
	ID     EventID
	Tenant TenantID
	Topic  string
	// Time is the sender's, and optional.
	Time time.Time
	// Received is the log's; it never goes backwards along the log.
	Received time.Time
	// Key is the ordering key; empty for none.
	Key         string
	ContentType string
	// Data is exactly what was sent, of any type, perhaps empty. It is never re-serialised.
	Data       []byte
	Attributes map[string]string
	// Source names the inbound source; empty for the API.
	Source string
}

// Size is the logical size of e in bytes: what limits and quotas count.
func (e *Event) Size() int {
	n := len(e.Topic) + len(e.Key) + len(e.ContentType) + len(e.Data) + len(e.Source)
	for k, v := range e.Attributes {
		n += len(k) + len(v)
	}
	return n
}

// Check tells whether e may be appended: topic, key, attributes, size. It does
// not refuse the reserved prefix: who may publish there is the caller's matter.
func (e *Event) Check(maxBytes int) error {
	if err := CheckTopic(e.Topic); err != nil {
		return err
	}
	if len(e.Key) > MaxKeyBytes || !utf8.ValidString(e.Key) || hasControl(e.Key) {
		return Invalidf("key", fmt.Sprintf("must be at most %d bytes of UTF-8 without control characters", MaxKeyBytes))
	}
	if len(e.ContentType) > MaxContentType || !headerSafe(e.ContentType) {
		return Invalidf("content_type", fmt.Sprintf("must be a media type of at most %d visible ASCII characters", MaxContentType))
	}
	if err := checkAttributes(e.Attributes); err != nil {
		return err
	}
	if n := e.Size(); n > maxBytes {
		return &Error{Kind: TooLarge, Code: "event-too-large", Field: "data",
			Msg: fmt.Sprintf("the event has %d bytes and the limit is %d: send a reference to large data instead", n, maxBytes)}
	}
	return nil
}

func checkAttributes(attrs map[string]string) error {
	if len(attrs) > MaxAttributes {
		return Invalidf("attributes", fmt.Sprintf("at most %d attributes", MaxAttributes))
	}
	n := 0
	for k, v := range attrs {
		n += len(k) + len(v)
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) || hasControl(k) {
			return Invalidf("attributes", fmt.Sprintf("%q: names must be non-empty, names and values UTF-8", clip(k, 64)))
		}
	}
	if n > MaxAttributesBytes {
		return Invalidf("attributes", fmt.Sprintf("%d bytes of names and values; at most %d", n, MaxAttributesBytes))
	}
	return nil
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}

func headerSafe(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// IsJSON reports whether contentType says that data is one JSON value
// (application/json, text/json, or a +json suffix), or says nothing.
func IsJSON(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	return mediaType == "application/json" || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json")
}
