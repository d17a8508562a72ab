package live

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/mercure"
)

// MercureLog is what a Mercure hub needs of the event log besides [Log].
type MercureLog interface {
	AppendWith(context.Context, hark.TenantID, []hark.Event, eventlog.Idempotency, eventlog.Attach) (eventlog.Appended, error)
	Named(t hark.TenantID, scope, id string) (hark.Offset, bool, error)
}

// MercureCaller is who publishes or subscribes.
type MercureCaller interface {
	Caller
	MayPublish(topic string) error
	// MercureClaim is what its token says to a hub; nil for nothing.
	MercureClaim() *mercure.Claim
	// Credential tells whether one was shown. Where none is needed, the caller is local.
	Credential() (shown, local bool)
}

// MercureConfig is what a [Mercure] is made of.
type MercureConfig struct {
	Hub *Hub
	Log MercureLog
	// CallerOf returns who makes a request.
	CallerOf func(context.Context) MercureCaller
	// Admit tells whether a tenant may publish n events now; nil for always.
	Admit func(t hark.TenantID, n int) error
	// MaxEvent bounds one event; 0 for [hark.MaxEventBytes].
	MaxEvent int
	// Anonymous lets subscribers in that show no credential. They see public updates.
	Anonymous bool
	// Subscriptions tells who is subscribed, by updates and by an API.
	Subscriptions bool
	// Failed is called when updates about subscriptions could not be published; nil for not.
	Failed func(n int, err error)
}

// Mercure serves the Mercure protocol; package mercure says how it maps to ours.
type Mercure struct {
	cfg      MercureConfig
	presence presence
}

// NewMercure makes a Mercure. [Mercure.Run] must run where subscriptions are told.
func NewMercure(cfg MercureConfig) *Mercure {
	if cfg.Admit == nil {
		cfg.Admit = func(hark.TenantID, int) error { return nil }
	}
	if cfg.MaxEvent == 0 {
		cfg.MaxEvent = hark.MaxEventBytes
	}
	m := &Mercure{cfg: cfg}
	m.presence.init(cfg)
	return m
}

// Run publishes who comes and goes, until ctx ends and what happened before is published.
func (m *Mercure) Run(ctx context.Context) error { return m.presence.run(ctx) }

// nameScope is where ids that publishers give are kept.
const nameScope = "mercure"

// mercureFrames is how updates look on a stream.
var mercureFrames = &Variant{Name: "mercure", Append: func(dst []byte, e *hark.Event, _ []byte) []byte {
	return mercure.AppendFrame(dst, e)
}}

// MercureStream is an event stream as hubs write it. Many clients of Mercure hand every
// block to their user, even one without data; so nothing is a block of its own here
// but updates, and what is about a loss.
var MercureStream = &Format{
	Variant:     mercureFrames,
	ContentType: "text/event-stream",
	Prelude: func(dst []byte, _ hark.Cursor, reconnect time.Duration) []byte {
		return append(appendRetry(dst, reconnect), ":\n"...) // goes into the block of the first update
	},
	Gap: func(dst []byte, g *hark.Gap) []byte {
		dst = append(append(append(dst, "event: hark.gap\nid: "...), g.To.String()...), "\ndata: "...)
		return append(appendGap(dst, g), "\n\n"...)
	},
	Cursor:    func(dst []byte, _ hark.Cursor) []byte { return append(dst, ":\n"...) },
	KeepAlive: ":\n",
	End: func(dst []byte, _ string, reconnect time.Duration) []byte {
		return appendRetry(dst, reconnect) // counts without the end of its block
	},
}

// MercureBrowser is [MercureStream] for a browser's own EventSource, which shows an
// event only to who listens to its type: it is told where it stands, so that it misses
// nothing although nothing came before its connection broke. Firefox 153 forgets the
// id of a block without data, whatever WHATWG HTML section 9.2.6 says.
var MercureBrowser = &Format{
	Variant: mercureFrames, ContentType: MercureStream.ContentType, Gap: MercureStream.Gap, KeepAlive: MercureStream.KeepAlive, End: MercureStream.End,
	Prelude: func(dst []byte, at hark.Cursor, reconnect time.Duration) []byte {
		return appendMercureCursor(append(appendRetry(dst, reconnect), ":\n"...), at)
	},
	Cursor: appendMercureCursor,
}

func appendMercureCursor(dst []byte, at hark.Cursor) []byte {
	return append(append(append(dst, "event: hark.cursor\nid: "...), at.String()...), "\ndata: {}\n\n"...)
}

// isEventSource reports whether a browser's own EventSource asks: it asks past caches
// (WHATWG HTML section 9.2.2), which libraries over fetch do not.
func isEventSource(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") == "cors" && strings.Contains(strings.Join(r.Header["Cache-Control"], ","), "no-cache") &&
		strings.HasPrefix(r.Header.Get("User-Agent"), "Mozilla/")
}

// grantOf is what a caller may on the hub.
func grantOf(c MercureCaller) (mercure.Grant, error) {
	var g mercure.Grant
	if claim := c.MercureClaim(); claim != nil {
		if err := g.Allow(claim); err != nil {
			return g, &hark.Error{Kind: hark.Unauthenticated, Code: "bad-token", Msg: "the token's claim mercure is not one that this hub takes: " + err.Error()}
		}
	}
	shown, local := c.Credential()
	if shown || local {
		g.MayPublish, g.MaySubscribe = c.MayPublish, c.MaySubscribe
	}
	if reach := c.Reach(); shown && len(reach) > 0 && c.MaySubscribe(reach) == nil {
		g.Reach = reach
	}
	return g, nil
}

var errNoMercureToken = &hark.Error{Kind: hark.Unauthenticated, Code: "no-credential",
	Msg: "this needs a token: send it as \"Authorization: Bearer …\", in the cookie mercureAuthorization, or in the parameter authorization"}

// Publish answers POST /.well-known/mercure.
func (m *Mercure) Publish(w http.ResponseWriter, r *http.Request) error {
	c := m.cfg.CallerOf(r.Context())
	if shown, local := c.Credential(); !shown && !local {
		return errNoMercureToken
	}
	g, err := grantOf(c)
	if err != nil {
		return err
	}
	form, err := m.form(w, r)
	if err != nil {
		return err
	}
	u, err := mercure.ParseUpdate(form)
	if err != nil {
		return err
	}
	if err := g.CheckPublish(u); err != nil {
		return err
	}
	id, err := m.append(r.Context(), c.TenantID(), u)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, id) // it is published, whether the answer arrives or not
	return nil
}

// append publishes u and returns its id, after the sync.
func (m *Mercure) append(ctx context.Context, t hark.TenantID, u *mercure.Update) (string, error) {
	events := u.Events()
	n := len(events)
	if err := m.cfg.Admit(t, n); err != nil {
		return "", err
	}
	var attach eventlog.Attach
	if u.ID != "" {
		attach = eventlog.Name(t, nameScope, u.ID, n-1)
	}
	done, err := m.cfg.Log.AppendWith(ctx, t, events, eventlog.Idempotency{}, attach)
	if err != nil {
		return "", err
	}
	if u.ID != "" {
		return u.ID, nil
	}
	return done.ID(n - 1).String(), nil
}

const maxFormFields = 256

// form reads a publisher's body. Every byte of it may have become three.
func (m *Mercure) form(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if text := r.Header.Get("Content-Type"); text != "" {
		if mediaType, _, err := mime.ParseMediaType(text); err != nil || mediaType != "application/x-www-form-urlencoded" {
			return nil, &hark.Error{Kind: hark.Unsupported, Code: "content-type", Field: "Content-Type",
				Msg: "an update is a form: send application/x-www-form-urlencoded"}
		}
	}
	most := 3*int64(m.cfg.MaxEvent) + 128<<10
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	switch _, tooLarge := errors.AsType[*http.MaxBytesError](err); {
	case tooLarge:
		return nil, &hark.Error{Kind: hark.TooLarge, Code: "body-too-large", Msg: "the update is larger than an event may be: send a reference to large data instead"}
	case err != nil:
		return nil, &hark.Error{Kind: hark.Invalid, Code: "body-cut", Msg: "the body ended too early", Err: err}
	}
	if strings.Count(string(body), "&") >= maxFormFields {
		return nil, badMercure("", "the form has too many fields")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, badMercure("", "the body is not a form: "+err.Error())
	}
	return form, nil
}

func badMercure(field, why string) error {
	return &hark.Error{Kind: hark.Invalid, Code: "bad-mercure-request", Field: field, Msg: why}
}

// Subscribe answers GET /.well-known/mercure.
func (m *Mercure) Subscribe(w http.ResponseWriter, r *http.Request) error {
	c, query := m.cfg.CallerOf(r.Context()), r.URL.Query()
	if shown, local := c.Credential(); !shown && !local && !m.cfg.Anonymous {
		return errNoMercureToken
	}
	g, err := grantOf(c)
	if err != nil {
		return err
	}
	dialect := mercure.DialectOf(query)
	asked, err := dialect.ParseSubscribe(query, r.Header)
	if err != nil {
		return err
	}
	if err := g.CheckSubscribe(asked.Want); err != nil {
		return err
	}
	s := &Stream{Query: Query{Tenant: c.TenantID(), Patterns: asked.Want.Patterns(), Filter: mercure.NewFilter(asked.Want, g)},
		Format: MercureStream, Caller: c, After: m.cfg.Hub.log.End()}
	if isEventSource(r) {
		s.Format = MercureBrowser
	}
	if asked.LastEventID != "" {
		before, err := m.locate(c.TenantID(), asked.LastEventID, s)
		if err != nil {
			return err
		}
		w.Header().Set(dialect.CursorHeader, before)
	}
	if m.cfg.Subscriptions && r.Method == http.MethodGet {
		s.Ended = m.presence.join(c.TenantID(), asked.Want, g.Payload)
	}
	return m.cfg.Hub.Stream(w, r, s)
}

// locate puts s after the update with an id, and returns what the answer says of it:
// the id, or "earliest" when updates may be missing before the first that is sent.
// An id that is not known (any more) begins with all there is, so that nothing that
// is there is missed.
func (m *Mercure) locate(t hark.TenantID, id string, s *Stream) (before string, err error) {
	hub := m.cfg.Hub
	s.After = hub.log.Floor(t) - 1
	if id == mercure.Earliest {
		return mercure.Earliest, nil
	}
	if cursor, err := hark.ParseCursor(id); err == nil {
		after, gap, err := hub.log.Position(cursor)
		if err != nil { // another log's
			return mercure.Earliest, nil
		}
		lost := gap != nil || after < s.After
		if s.After, s.Gap = after, gap; lost {
			return mercure.Earliest, nil
		}
		return id, nil
	}
	after, ok, err := m.cfg.Log.Named(t, nameScope, id)
	if err != nil || !ok {
		return mercure.Earliest, err
	}
	s.After = after
	return id, nil
}
