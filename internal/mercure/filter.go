package mercure

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sync/atomic"

	"github.com/harkhq/hark"
)

// Filter decides which of the events that its patterns find a subscriber sees: each
// update once, private ones only with a right to them. It is safe for concurrent use.
type Filter struct {
	want Selectors
	may  Grant
	// exact: one topic is wanted, so that its patterns have decided already.
	exact bool
	key   string
}

// NewFilter makes the filter of a subscription.
func NewFilter(want Selectors, may Grant) *Filter {
	may = Grant{Subscribe: may.Subscribe, Reach: may.Reach} // many share a filter, and it outlives the first of them
	f := &Filter{want: want, may: may, exact: len(want) == 1 && want[0].isExact()}
	if f.exact && len(may.Subscribe) == 0 && len(may.Reach) == 0 {
		f.key = "mercure-public" // the same for every such subscription, whatever its topic
		return f
	}
	h := sha256.New()
	list := func(n int, text func(int) string) {
		h.Write(binary.AppendUvarint(nil, uint64(n)))
		for i := range n {
			h.Write(binary.AppendUvarint(nil, uint64(len(text(i)))))
			h.Write([]byte(text(i)))
		}
	}
	if !f.exact {
		list(len(want), func(i int) string { return want[i].text })
	}
	list(len(may.Subscribe), func(i int) string { return may.Subscribe[i].text })
	list(len(may.Reach), func(i int) string { return string(may.Reach[i]) })
	f.key = "mercure-" + hex.EncodeToString(h.Sum(nil))
	return f
}

// Key is the same for filters that decide alike.
func (f *Filter) Key() string { return f.key }

// lastSeen is what an event was read as last: it is tested against one filter after the other.
var lastSeen atomic.Pointer[struct {
	event *hark.Event
	view  view
}]

// seen is viewOf, once for many filters. Events in the log never change.
func seen(e *hark.Event) *view {
	last := lastSeen.Load()
	if last == nil || last.event != e {
		last = &struct {
			event *hark.Event
			view  view
		}{e, viewOf(e)}
		lastSeen.Store(last)
	}
	return &last.view
}

// Match reports whether the subscriber sees e.
func (f *Filter) Match(e *hark.Event) bool {
	if f.exact && e.Attributes[attrPrivate] == "" {
		return true
	}
	v := seen(e)
	if !f.exact && slices.IndexFunc(v.topics, f.want.Match) != v.copy {
		return false // not meant, or another copy stands for it
	}
	return !v.private || f.may.mayRead(v.topics)
}
