package server

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/auth"
	"github.com/harkhq/hark/internal/capture"
	"github.com/harkhq/hark/internal/destination"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/registry"
	"github.com/harkhq/hark/internal/scheme"
	"github.com/harkhq/hark/internal/store"
)

// openCaptures opens the rings of captured requests, and has what they hold go with
// the source or tenant that is deleted.
func (s *Server) openCaptures() (err error) {
	s.captures, err = capture.Open(capture.Config{Store: s.store, TenantBytes: s.cfg.CaptureBytes, Hooks: capture.Hooks{
		Failed: func(n int, err error) {
			s.log.Error("captured requests could not be kept", "requests", n, "error", err)
		},
		Dropped: s.metrics.inboundSkipped.Inc,
	}})
	if err != nil {
		return err
	}
	s.registry.AttachSource(func(old, now *hark.Source) ([]store.Record, func(bool)) {
		if old == nil || now != nil {
			return nil, nil
		}
		rec, done := s.captures.Erase(old.Tenant, old.ID)
		return []store.Record{rec}, done
	})
	s.registry.AttachTenant(func(old, now *registry.Tenant) ([]store.Record, func(bool)) {
		if old == nil || now != nil {
			return nil, nil
		}
		return nil, s.captures.EraseTenant(old.ID)
	})
	return nil
}

// reap removes bins that expired, and moves the end of those in use.
func (s *Server) reap(ctx context.Context) error {
	return s.captures.Reap(ctx, bins{s.registry}, func(err error) { s.log.Error("bins that expire", "error", err) })
}

// bins is the registry as the reaper sees it.
type bins struct{ *registry.Registry }

func (b bins) MoveExpiry(_ hark.TenantID, id hark.SourceID, expires time.Time) error {
	return b.TouchBin(id, expires)
}

func (b bins) DeleteBin(t hark.TenantID, id hark.SourceID, revision uint64) error {
	return b.DeleteSource(t, id, revision)
}

// replayKey carries a *replaying through the door, to the recorder.
type replayKey struct{}

// replaying is a replay on its way through the door.
type replaying struct {
	of    hark.CaptureID
	id    hark.CaptureID
	event hark.EventID
}

// recorder keeps what the door hands it, and knows replays.
type recorderOfDoor struct{ *capture.Rings }

// Keep implements ingest.Recorder.
func (r recorderOfDoor) Keep(ctx context.Context, src *hark.Source, c *hark.Capture) error {
	again, ok := ctx.Value(replayKey{}).(*replaying)
	if !ok {
		return r.Rings.Keep(ctx, src, c)
	}
	c.ReplayOf, again.event = again.of, c.Event
	var err error
	again.id, err = r.KeepSynced(ctx, src, c)
	return err
}

// viewer is who came with a bin's view capability: they see that bin and nothing else.
type viewer struct{ tenant hark.TenantID }

var errViewer = &hark.Error{Kind: hark.Forbidden, Code: "missing-scope", Msg: "the link to this bin lets you look, and nothing else; this needs a key with the scope \"manage\""}

func (v *viewer) TenantID() hark.TenantID           { return v.tenant }
func (v *viewer) Require(registry.Scopes) error     { return errViewer }
func (v *viewer) MayPublish(string) error           { return errViewer }
func (v *viewer) MayRead(string) error              { return errViewer }
func (v *viewer) MaySubscribe([]hark.Pattern) error { return errViewer }
func (v *viewer) MayRoute([]hark.Pattern) error     { return errViewer }
func (v *viewer) MayFeed(hark.Pattern) error        { return errViewer }
func (v *viewer) Reach() []hark.Pattern             { return nil }
func (v *viewer) Creator() string                   { return "" }

// Subject implements api.Caller.
func (v *viewer) Subject() string { return "" }

// KeyID implements api.Caller.
func (v *viewer) KeyID() hark.KeyID { return 0 }

// KeyID implements api.Caller.
func (c *caller) KeyID() hark.KeyID { return c.Key }

// Creator implements api.Caller.
func (c *caller) Creator() string { return c.Key.String() }

// ViewHeader carries a bin's view capability, viewCookie too where a page set it.
const (
	ViewHeader = "Hark-Bin-View"
	viewCookie = "hark" + "_view" // no metric, whatever it looks like
)

// viewerOf returns who came with the view capability of the bin that the path names,
// nil for nobody. A credential goes before it.
func (s *Server) viewerOf(r *http.Request) *viewer {
	if r.Header.Get("Authorization") != "" || r.Header.Get(auth.TenantHeader) != "" {
		return nil
	}
	given := r.Header.Values(ViewHeader)
	for _, c := range r.CookiesNamed(viewCookie) {
		given = append(given, c.Value)
	}
	if len(given) == 0 || len(given) > 16 {
		return nil
	}
	id, err := hark.ParseSourceID(r.PathValue("id"))
	if err != nil {
		return nil
	}
	d := s.registry.BinByID(id)
	if d == nil || d.Bin.View == "" {
		return nil
	}
	for _, text := range given {
		if subtle.ConstantTimeCompare([]byte(text), []byte(d.Bin.View.Reveal())) == 1 {
			return &viewer{d.Tenant}
		}
	}
	return nil
}

// replayer sends captured requests again.
type replayer struct{ *Server }

// replayBytes is how much of an answer is shown.
const replayBytes = 64 << 10

// ToURL implements api.Replayer.
func (s replayer) ToURL(ctx context.Context, c *hark.Capture, to string) (done api.Replayed, err error) {
	u, err := s.egress.Guard().CheckURL(to)
	if err != nil {
		return done, hark.Invalidf("url", err.Error())
	}
	req := requestOf(ctx, c, u)
	res, err := s.egress.Do(ctx, req, replayBytes)
	if fault, ok := errors.AsType[*egress.Error](err); ok {
		done.Error = fault.Msg
		return done, nil
	} else if err != nil {
		return done, err
	}
	done.Status, done.Header, done.Body, done.More = res.Status, fieldsOf(res.Header), res.Snippet, res.More
	return done, nil
}

// requestOf makes an outbound request of a capture.
func requestOf(ctx context.Context, c *hark.Capture, u *url.URL) *http.Request {
	req := (&http.Request{Method: c.Method, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(c.Header)), ContentLength: int64(len(c.Body))}).WithContext(ctx)
	for _, f := range c.Header {
		name := http.CanonicalHeaderKey(f.Name)
		req.Header[name] = append(req.Header[name], f.Value)
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil // none, instead of net/http's
	}
	if len(c.Body) > 0 {
		fresh := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.Body)), nil }
		req.Body, _ = fresh()
		req.GetBody = fresh
	}
	return req
}

func fieldsOf(h http.Header) (fields []hark.HeaderField) {
	var text bytes.Buffer
	h.Write(&text) // in order
	for line := range strings.SplitSeq(text.String(), "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			fields = append(fields, hark.HeaderField{Name: name, Value: value})
		}
	}
	return fields
}

// ToSource implements api.Replayer.
func (s replayer) ToSource(r *http.Request, to *hark.Source, c *hark.Capture) (done api.Replayed, err error) {
	again := &replaying{of: c.ReplayOf}
	u, err := url.ParseRequestURI(c.Target)
	if err != nil {
		return done, hark.Invalidf("edit.path", "does not make a URL")
	}
	req := requestOf(context.WithValue(r.Context(), replayKey{}, again), c, u)
	req.Host, req.RequestURI, req.RemoteAddr, req.TLS = r.Host, c.Target, r.RemoteAddr, r.TLS
	if req.Body == nil {
		req.Body = http.NoBody
	}
	w := &answerKeeper{header: http.Header{}}
	s.door.ServeHTTP(w, req)
	done = api.Replayed{Status: w.status, Header: fieldsOf(w.header), Body: w.body, More: w.more, Capture: again.id, Event: again.event}
	return done, nil
}

// answerKeeper keeps what a handler answers.
type answerKeeper struct {
	header http.Header
	status int
	body   []byte
	more   bool
}

func (w *answerKeeper) Header() http.Header { return w.header }

func (w *answerKeeper) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *answerKeeper) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	room := min(len(b), replayBytes-len(w.body))
	w.body = append(w.body, b[:room]...)
	w.more = w.more || room < len(b)
	return len(b), nil
}

// ToDestination implements api.Replayer. The event is in no log and leaves no delivery:
// the owner tries out what the destination makes of it.
func (s replayer) ToDestination(ctx context.Context, src *hark.Source, c *hark.Capture, d *hark.Destination) (done api.Replayed, err error) {
	k := destination.Find(d.Kind)
	if k == nil || k.Mode == destination.Pull {
		return done, hark.Invalidf("destination", "must be of a kind that is pushed to, not "+d.Kind)
	}
	e, err := s.door.EventOf(src, c)
	if err != nil {
		return done, err
	}
	if err := e.Check(cmpOr(s.cfg.MaxEvent, hark.MaxEventBytes)); err != nil {
		return done, err
	}
	res := s.sender.Send(ctx, d, e, destination.Meta{Attempt: 1, MessageID: "replay_" + c.ReplayOf.String() + fmt.Sprintf("_%d", c.Received.UnixMilli())})
	done.Status, done.Body, done.Error = res.Status, res.Snippet, res.Error
	return done, nil
}

// Sign implements api.Replayer.
func (s replayer) Sign(src *hark.Source, c *hark.Capture, to, name string, secret hark.Secret) (string, error) {
	as := *src
	if name != "" && name != src.Scheme {
		as.Scheme, as.Settings, as.Secrets = name, nil, nil
	}
	if secret != "" {
		as.Secrets = []hark.SigningSecret{{Value: secret}}
	}
	if as.Scheme == "none" {
		return "", hark.Invalidf("scheme", "is needed: this source verifies nothing, so there is no way to sign")
	}
	if err := scheme.Check(nil, &as); err != nil {
		return "", err
	}
	open, err := scheme.Open(&scheme.Env{}, &as)
	if err != nil {
		return "", err
	}
	now := time.Now()
	req := &scheme.Request{Method: c.Method, URL: to, Proto: c.Proto, Body: c.Body, Received: now}
	for _, f := range c.Header {
		req.Header = append(req.Header, scheme.Field{Name: f.Name, Value: f.Value})
	}
	if err := open.Sign(req, now); err != nil {
		return "", err
	}
	c.Header, c.Body = c.Header[:0:0], req.Body
	for _, f := range req.Header {
		c.Header = append(c.Header, hark.HeaderField{Name: f.Name, Value: f.Value})
	}
	return req.URL, nil
}

// redactSource hides the secret settings of a source.
func redactSource(d *hark.Source) json.RawMessage {
	if row := scheme.Find(d.Scheme); row != nil {
		return row.Redact(d.Settings)
	}
	return json.RawMessage("{}")
}
