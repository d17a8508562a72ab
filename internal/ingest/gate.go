package ingest

import (
	"net/http"
	"net/netip"
	"net/textproto"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/scheme"
	"golang.org/x/time/rate"
)

// opened is a revision of a source, made ready.
type opened struct {
	src       *hark.Source
	id        string
	verifier  *scheme.Source
	bodies    bodies
	templates *templates
	networks  []netip.Prefix
	response  response
	meter     *meter // the same for all revisions
}

type response struct {
	status int
	header []headerLine
	body   []byte
}

type headerLine struct {
	name  string
	value []string
}

// allows reports whether a may send.
func (o *opened) allows(a netip.Addr) bool {
	return len(o.networks) == 0 || a.IsValid() && contains(o.networks, a)
}

// openSource makes a source ready.
func openSource(cfg *Config, src *hark.Source) (*opened, error) {
	o := &opened{src: src, id: src.ID.String()}
	var err error
	if o.bodies, err = newBodies(src.Token); err != nil {
		return nil, err
	}
	if o.verifier, err = scheme.Open(cfg.Schemes, src); err != nil {
		return nil, err
	}
	if o.templates, err = parseTemplates(src, o.verifier.Scheme.Topic); err != nil {
		return nil, err
	}
	if o.templates.topic == nil {
		o.templates.topic = &template{parts: []part{{kind: literal, text: "inbound"}}}
	}
	for _, text := range src.AllowIPs {
		p, err := parseNetwork(text)
		if err != nil {
			return nil, err
		}
		o.networks = append(o.networks, p)
	}
	o.response = openResponse(src.Response)
	return o, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), err
}

// openResponse makes the answer ready. Whoever stores sources refuses what would redirect
// or reach beyond; here it is only made sure.
func openResponse(r *hark.SourceResponse) response {
	out := response{status: http.StatusOK}
	h := http.Header{}
	if r != nil {
		if r.Status >= 200 && r.Status <= 599 && r.Status/100 != 3 {
			out.status = r.Status
		}
		for name, value := range r.Headers {
			h[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
		}
		delete(h, "Location")
		delete(h, "Refresh")
		out.body = []byte(r.Body)
	}
	if len(out.body) > 0 {
		keepInert(h)
	}
	for name, value := range h {
		out.header = append(out.header, headerLine{name, value})
	}
	return out
}

// openedSources holds what was made ready. A source that nobody sends to is forgotten.
type openedSources struct {
	mu sync.RWMutex // guards below
	m  map[hark.SourceID]*opened
}

// maxOpened is how many are kept before idle ones go.
const maxOpened = 4096

// idleAfter is when a source that nobody sends to may be forgotten.
const idleAfter = 10 * time.Minute

func (s *openedSources) init() { s.m = make(map[hark.SourceID]*opened) }

func (s *openedSources) get(cfg *Config, src *hark.Source) (*opened, error) {
	s.mu.RLock()
	o := s.m[src.ID]
	s.mu.RUnlock()
	if o != nil && (o.src == src || o.src.Revision == src.Revision && o.src.Token == src.Token && o.src.State == src.State) {
		return o, nil
	}
	fresh, err := openSource(cfg, src)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o = s.m[src.ID]; o != nil {
		fresh.meter = o.meter
		fresh.meter.set(cfg, src)
		if o.src.Revision > src.Revision { // another request has seen a newer one
			return fresh, nil
		}
	} else {
		fresh.meter = newMeter(cfg, src)
		if len(s.m) >= maxOpened {
			s.forgetIdleLocked(time.Now())
		}
	}
	s.m[src.ID] = fresh
	return fresh, nil
}

func (s *openedSources) forgetIdleLocked(now time.Time) {
	for id, o := range s.m {
		if o.meter.busy.Load() == 0 && now.UnixNano()-o.meter.used.Load() > int64(idleAfter) {
			delete(s.m, id)
		}
	}
}

// How many requests of a source the recorder is offered: its ring holds some hundreds, so
// more than that would only cost.
const (
	recordRate  = 50
	recordBurst = 200
)

// meter bounds what one source takes.
type meter struct {
	limit  atomic.Pointer[rate.Limiter] // nil for no bound
	most   atomic.Int32                 // at once
	busy   atomic.Int32
	held   atomic.Int64 // bytes of bodies
	used   atomic.Int64 // Unix nanoseconds
	record *rate.Limiter
}

func newMeter(cfg *Config, src *hark.Source) *meter {
	m := &meter{record: rate.NewLimiter(recordRate, recordBurst)}
	m.set(cfg, src)
	return m
}

// set takes over the bounds of a revision.
func (m *meter) set(cfg *Config, src *hark.Source) {
	perSecond := src.RateLimit
	if perSecond == 0 {
		perSecond = cfg.Rate
	}
	if old := m.limit.Load(); perSecond <= 0 {
		m.limit.Store(nil)
	} else if old == nil || old.Limit() != rate.Limit(perSecond) {
		m.limit.Store(rate.NewLimiter(rate.Limit(perSecond), max(10, int(2*perSecond))))
	}
	most := cfg.Concurrency
	if src.Concurrency > 0 {
		most = src.Concurrency
	}
	m.most.Store(int32(most))
}

// enter counts a request in, or says why not; leave must follow it.
func (m *meter) enter(now time.Time) *hark.Error {
	m.used.Store(now.UnixNano())
	if l := m.limit.Load(); l != nil && !l.AllowN(now, 1) {
		wait := time.Duration(max(0, 1-l.TokensAt(now)) / float64(l.Limit()) * float64(time.Second))
		return &hark.Error{Kind: hark.TooMany, Code: "rate-limited", RetryAfter: max(wait, time.Millisecond),
			Msg: "this source takes fewer requests per second; try again later"}
	}
	if m.busy.Add(1) > m.most.Load() {
		m.busy.Add(-1)
		return &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second,
			Msg: "this source has as many requests under way as it takes at once; try again"}
	}
	return nil
}

func (m *meter) leave() { m.busy.Add(-1) }

// records reports whether the recorder should be offered one more.
func (m *meter) records(now time.Time) bool { return m.record.AllowN(now, 1) }
