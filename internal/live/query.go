package live

import (
	"slices"
	"strings"

	"github.com/harkhq/hark"
)

// Variant is a form that events take on a transport. Readers of the same variant
// share its bytes, so it must depend on the event alone.
type Variant struct {
	// Name tells variants apart.
	Name string
	// Append appends one frame. line is the event in JSON on one line, encoded once for all variants.
	Append func(dst []byte, e *hark.Event, line []byte) []byte
}

// Filter is a test besides topic patterns.
type Filter interface {
	// Key tells filters apart: equal keys mean equal tests.
	Key() string
	Match(e *hark.Event) bool
}

// Query is what a reader asks for.
type Query struct {
	Tenant   hark.TenantID
	Patterns []hark.Pattern
	// Filter is nil for none.
	Filter  Filter
	Variant *Variant

	// chunked frames are chunks of HTTP/1.1 (RFC 9112 section 7.1), ready for the socket.
	chunked bool
}

// matches reports whether the filter passes e, whose topic matches already.
func (q *Query) matches(e *hark.Event) bool { return q.Filter == nil || q.Filter.Match(e) }

// feedKey is equal for queries that are answered with the same bytes.
type feedKey struct {
	tenant  hark.TenantID
	variant *Variant
	chunked bool
	topics  string // patterns, sorted
	filter  string
}

func (q *Query) key() feedKey {
	k := feedKey{tenant: q.Tenant, variant: q.Variant, chunked: q.chunked}
	if len(q.Patterns) == 1 {
		k.topics = string(q.Patterns[0])
	} else {
		sorted := patternTexts(q.Patterns)
		slices.Sort(sorted)
		k.topics = strings.Join(slices.Compact(sorted), " ")
	}
	if q.Filter != nil {
		k.filter = q.Filter.Key()
	}
	return k
}

// chunkDigits is how many hexadecimal digits a chunk's size has here: it is known only
// after the frame is there.
const chunkDigits = 7

// appendFrame appends e's frame.
func (q *Query) appendFrame(dst []byte, e *hark.Event, line []byte) []byte {
	if !q.chunked {
		return q.Variant.Append(dst, e, line)
	}
	start := len(dst)
	dst = append(dst, "0000000\r\n"...)
	dst = q.Variant.Append(dst, e, line)
	return closeChunk(dst, start)
}

// appendChunk appends b as one chunk; nothing for an empty one, which would end the body.
func appendChunk(dst, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	start := len(dst)
	dst = append(append(dst, "0000000\r\n"...), b...)
	return closeChunk(dst, start)
}

// closeChunk writes the size of the chunk that begins at start, and its end.
func closeChunk(dst []byte, start int) []byte {
	n := len(dst) - start - chunkDigits - 2
	for i := chunkDigits - 1; i >= 0; i-- {
		dst[start+i] = "0123456789abcdef"[n&15]
		n >>= 4
	}
	return append(dst, "\r\n"...)
}

// lastChunk ends a body.
const lastChunk = "0\r\n\r\n"
