package device

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/harkhq/hark"
)

// Bounds of patterns, so that asking whether anybody wants a topic stays cheap.
const (
	// MaxStars is how many "*" one pattern of a device may hold.
	MaxStars = 3
	// MaxShapes is how many shapes the patterns of one app's devices may have: places of
	// wildcards, and lengths.
	MaxShapes = 128
)

// shape is a pattern without its words: how many tokens there are, where "*" stands, and
// whether ">" follows.
type shape struct {
	tokens uint8
	open   bool
	stars  uint16
}

func shapeOf(p hark.Pattern) (s shape) {
	for tok := range strings.SplitSeq(string(p), ".") {
		switch tok {
		case ">":
			s.open = true
			return s
		case "*":
			s.stars |= 1 << s.tokens
		}
		s.tokens++
	}
	return s
}

type appKey struct {
	tenant hark.TenantID
	app    string
}

// shapes are those of one app, and how many patterns have each.
type shapes struct {
	all    []shape
	counts []uint32
}

// wants knows which topics somebody has a pattern for, in about 20 to 40 bytes for each
// different pattern, however many devices have it. It knows no device. A hash may stand
// for two patterns, once in 2^64: then somebody seems to want what nobody does, which
// costs a look into the store.
type wants struct {
	seed maphash.Seed

	mu     sync.RWMutex // guards below
	counts map[uint64]uint32
	apps   map[appKey]*shapes
}

func newWants() *wants {
	return &wants{seed: maphash.MakeSeed(), counts: make(map[uint64]uint32), apps: make(map[appKey]*shapes)}
}

// mix is one step of the hash over a pattern's tokens, whose own hashes are seeded.
func mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^v, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

func (w *wants) start(k appKey, s shape) uint64 {
	h := mix(maphash.String(w.seed, k.app), uint64(k.tenant))
	v := uint64(s.tokens)<<17 | uint64(s.stars)<<1
	if s.open {
		v |= 1
	}
	return mix(h, v+1)
}

func (w *wants) hash(k appKey, s shape, p hark.Pattern) uint64 {
	h := w.start(k, s)
	i := 0
	for tok := range strings.SplitSeq(string(p), ".") {
		if tok == ">" {
			break
		}
		if s.stars&(1<<i) == 0 {
			h = mix(h, maphash.String(w.seed, tok))
		}
		i++
	}
	return h
}

// add gives a device of an app patterns. It reports false, and does nothing, if they have
// too many shapes.
func (w *wants) add(t hark.TenantID, app string, ps []hark.Pattern) bool {
	k := appKey{t, app}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.apps[k]
	if a == nil {
		a = &shapes{}
		k.app = strings.Clone(app)
		w.apps[k] = a
	}
	fresh := 0
	for i, p := range ps {
		s := shapeOf(p)
		if !slices.Contains(a.all, s) && !slices.ContainsFunc(ps[:i], func(q hark.Pattern) bool { return shapeOf(q) == s }) {
			fresh++
		}
	}
	if fresh > 0 && len(a.all)+fresh > MaxShapes {
		return false
	}
	for _, p := range ps {
		w.addLocked(k, a, p)
	}
	return true
}

func (w *wants) addLocked(k appKey, a *shapes, p hark.Pattern) {
	s := shapeOf(p)
	i := slices.Index(a.all, s)
	if i < 0 {
		i = len(a.all)
		a.all, a.counts = append(a.all, s), append(a.counts, 0)
	}
	a.counts[i]++
	w.counts[w.hash(k, s, p)]++
}

// load is add for what is stored already.
func (w *wants) load(t hark.TenantID, app, pattern []byte) {
	a := w.apps[appKey{t, string(app)}] // no allocation for those that are known
	k := appKey{t, string(app)}
	if a == nil {
		a = &shapes{}
		w.apps[k] = a
	}
	w.addLocked(k, a, hark.Pattern(pattern))
}

// remove takes patterns from a device.
func (w *wants) remove(t hark.TenantID, app string, ps []hark.Pattern) {
	k := appKey{t, app}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.apps[k]
	if a == nil {
		return
	}
	for _, p := range ps {
		s := shapeOf(p)
		i := slices.Index(a.all, s)
		if i < 0 {
			continue
		}
		if a.counts[i]--; a.counts[i] == 0 {
			a.all, a.counts = slices.Delete(a.all, i, i+1), slices.Delete(a.counts, i, i+1)
		}
		h := w.hash(k, s, p)
		if n := w.counts[h]; n > 1 {
			w.counts[h] = n - 1
		} else {
			delete(w.counts, h)
		}
	}
	if len(a.all) == 0 {
		delete(w.apps, k)
	}
}

// forget drops all of a tenant, whose patterns the caller no longer knows: it goes through
// the store's before they go.
func (w *wants) forget(t hark.TenantID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.apps {
		if k.tenant == t {
			delete(w.apps, k) // its hashes stay behind until the next start, and nobody asks for them
		}
	}
}

// tokens is a topic taken apart.
type tokens struct {
	n      int
	text   [hark.MaxTopicTokens]string
	hashes [hark.MaxTopicTokens]uint64
}

func (w *wants) split(topic string, x *tokens) {
	for tok := range strings.SplitSeq(topic, ".") {
		if x.n == len(x.text) {
			return
		}
		x.text[x.n], x.hashes[x.n] = tok, maphash.String(w.seed, tok)
		x.n++
	}
}

// fits reports whether a pattern of a shape could match a topic.
func (s shape) fits(x *tokens, reserved bool) bool {
	n := int(s.tokens)
	if s.open && n >= x.n || !s.open && n != x.n {
		return false
	}
	return !reserved || n > 0 && s.stars&1 == 0
}

// each calls found for every pattern that somebody of an app has and that matches a topic,
// until it returns false.
func (w *wants) each(t hark.TenantID, app, topic string, found func(shape, *tokens) bool) {
	k := appKey{t, app}
	w.mu.RLock()
	defer w.mu.RUnlock()
	a := w.apps[k]
	if a == nil {
		return
	}
	var x tokens
	w.split(topic, &x)
	reserved := hark.IsReserved(topic)
	for _, s := range a.all {
		if !s.fits(&x, reserved) {
			continue
		}
		h := w.start(k, s)
		for i := range int(s.tokens) {
			if s.stars&(1<<i) == 0 {
				h = mix(h, x.hashes[i])
			}
		}
		if w.counts[h] > 0 && !found(s, &x) {
			return
		}
	}
}

// any reports whether a device of an app has a pattern that matches a topic.
func (w *wants) any(t hark.TenantID, app, topic string) (found bool) {
	w.each(t, app, topic, func(shape, *tokens) bool { found = true; return false })
	return found
}

// matching returns the patterns of an app's devices that match a topic.
func (w *wants) matching(t hark.TenantID, app, topic string) (ps []hark.Pattern) {
	w.each(t, app, topic, func(s shape, x *tokens) bool {
		var b strings.Builder
		for i := range int(s.tokens) {
			if i > 0 {
				b.WriteByte('.')
			}
			if s.stars&(1<<i) != 0 {
				b.WriteByte('*')
			} else {
				b.WriteString(x.text[i])
			}
		}
		if s.open {
			if s.tokens > 0 {
				b.WriteByte('.')
			}
			b.WriteByte('>')
		}
		ps = append(ps, hark.Pattern(b.String()))
		return true
	})
	return ps
}

// userHash is what a user's lock is found by.
func (w *wants) userHash(t hark.TenantID, user string) uint64 {
	return mix(maphash.String(w.seed, user), uint64(t))
}
