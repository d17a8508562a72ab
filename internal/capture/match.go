package capture

import (
	"bytes"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Filter chooses captures. Empty fields choose all; all that are set must match.
type Filter struct {
	// Text is found anywhere: method, target, header, verdict, body. Case does not
	// matter but in the body.
	Text string
	// Method is the whole method, in any case; Path is found in the target.
	Method string
	Path   string
	// Header is a name, or "name: part of the value"; case does not matter.
	Header string
	// Body is found in the body, byte for byte.
	Body string
	// Reason is the verdict's whole word, "rejected" for every one but ok.
	Reason string
	// Status is what the sender was answered.
	Status int
	// Since and Until bound the time of receipt: [Since, Until).
	Since, Until time.Time
}

// Rejected is the [Filter.Reason] of all that did not pass.
const Rejected = "rejected"

// MaxFilterBytes bounds each text of a filter.
const MaxFilterBytes = 1 << 10

// Check tells which field is not acceptable.
func (f *Filter) Check() error {
	for name, text := range map[string]string{"q": f.Text, "method": f.Method, "path": f.Path, "header": f.Header, "body": f.Body, "reason": f.Reason} {
		if len(text) > MaxFilterBytes {
			return hark.Invalidf(name, "must be at most 1024 bytes")
		}
	}
	if name, _, _ := strings.Cut(f.Header, ":"); f.Header != "" && strings.TrimSpace(name) == "" {
		return hark.Invalidf("header", "must be a field name, or a name, a colon and a part of its value")
	}
	if f.Status != 0 && (f.Status < 100 || f.Status > 599) {
		return hark.Invalidf("status", "must be between 100 and 599")
	}
	return nil
}

// bodies reports whether the filter must see bodies.
func (f *Filter) bodies() bool { return f.Text != "" || f.Body != "" }

// matcher is a filter made ready.
type matcher struct {
	Filter
	text, textBody, path, body, name, value []byte
	since, until                            int64
}

func (f *Filter) matcher() *matcher {
	m := &matcher{Filter: *f, text: lower(f.Text), textBody: []byte(f.Text), path: lower(f.Path), body: []byte(f.Body), since: -1 << 63, until: 1<<63 - 1}
	name, value, _ := strings.Cut(f.Header, ":")
	m.name, m.value = lower(strings.TrimSpace(name)), lower(strings.TrimSpace(value))
	if !f.Since.IsZero() {
		m.since = f.Since.UnixMicro()
	}
	if !f.Until.IsZero() {
		m.until = f.Until.UnixMicro()
	}
	return m
}

// lower is as [contains] compares: ASCII letters only.
func lower(s string) []byte {
	b := []byte(s)
	for i := range b {
		b[i] = lowerByte(b[i])
	}
	return b
}

// match decides cheap things first.
func (m *matcher) match(c *store.CaptureView) bool {
	switch {
	case c.Received < m.since || c.Received >= m.until,
		m.Status != 0 && m.Status != c.Status,
		m.Method != "" && !strings.EqualFold(m.Method, string(c.Method)),
		!m.reason(c),
		len(m.path) > 0 && !contains(c.Target, m.path),
		len(m.name) > 0 && !m.header(c),
		len(m.body) > 0 && !bytes.Contains(c.Body, m.body):
		return false
	}
	return len(m.text) == 0 || m.anywhere(c)
}

func (m *matcher) reason(c *store.CaptureView) bool {
	switch m.Reason {
	case "":
		return true
	case Rejected:
		return len(c.Reason) > 0 && string(c.Reason) != "ok"
	}
	return string(c.Reason) == m.Reason
}

func (m *matcher) header(c *store.CaptureView) (found bool) {
	c.Fields(func(name, value []byte) bool {
		found = len(name) == len(m.name) && bytes.EqualFold(name, m.name) && contains(value, m.value)
		return !found
	})
	return found
}

func (m *matcher) anywhere(c *store.CaptureView) bool {
	for _, field := range [][]byte{c.Method, c.Target, c.Reason, c.Detail, c.Remote} {
		if contains(field, m.text) {
			return true
		}
	}
	found := false
	c.Fields(func(name, value []byte) bool {
		found = contains(name, m.text) || contains(value, m.text)
		return !found
	})
	return found || bytes.Contains(c.Body, m.textBody)
}

// contains reports whether text holds part, which is in lower case, in any (ASCII) case.
// It allocates nothing: a search looks at a million fields.
func contains(text, part []byte) bool {
	if len(part) == 0 {
		return true
	}
	first := part[0]
	for i := 0; i+len(part) <= len(text); i++ {
		if lowerByte(text[i]) == first && sameFold(text[i:i+len(part)], part) {
			return true
		}
	}
	return false
}

func sameFold(text, part []byte) bool {
	for i := range part {
		if lowerByte(text[i]) != part[i] {
			return false
		}
	}
	return true
}

func lowerByte(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}
