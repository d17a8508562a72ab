package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/registry"
)

// Caller is who makes a request, as far as handlers need to know.
type Caller interface {
	// TenantID is the tenant that the request acts in.
	TenantID() hark.TenantID
	// Require tells whether the caller has a scope.
	Require(registry.Scopes) error
	// MayPublish tells whether the caller may publish to a topic, MayRead whether it may see events of it.
	MayPublish(topic string) error
	MayRead(topic string) error
	// MaySubscribe tells whether the caller may read all that patterns match,
	// MayRoute whether it may send all that to a destination.
	MaySubscribe(patterns []hark.Pattern) error
	MayRoute(patterns []hark.Pattern) error
	// MayFeed tells whether the caller may make a source whose events' topics match a pattern.
	MayFeed(pattern hark.Pattern) error
	// Reach is what the caller reads when it names no pattern.
	Reach() []hark.Pattern
	// Creator names the caller for what is counted for each: its key; "" for none.
	Creator() string
	// KeyID is the caller's key; zero for none.
	KeyID() hark.KeyID
	// Subject is the user whose token the caller shows; "" for keys.
	Subject() string
}

// Log is what the handlers need of the event log.
type Log interface {
	Append(ctx context.Context, t hark.TenantID, events []hark.Event, idem eventlog.Idempotency) (eventlog.Appended, error)
	Read(t hark.TenantID, q eventlog.Query) (eventlog.Page, error)
	Event(t hark.TenantID, o hark.Offset) (*hark.Event, error)
	Locate(id hark.EventID) (hark.Offset, error)
	Position(c hark.Cursor) (hark.Offset, *hark.Gap, error)
	Cursor(o hark.Offset) hark.Cursor
	FindTime(t hark.TenantID, at time.Time) (hark.Offset, error)
	Floor(t hark.TenantID) hark.Offset
	End() hark.Offset
}

// Registry is what the handlers need of the registry.
type Registry interface {
	Destination(t hark.TenantID, id hark.DestinationID) (*hark.Destination, error)
	DestinationByUID(t hark.TenantID, uid string) (*hark.Destination, error)
	Destinations(t hark.TenantID, q registry.DestinationQuery) (page []*hark.Destination, more bool)
	CreateDestination(t hark.TenantID, d *hark.Destination, attach ...registry.Attach) (*hark.Destination, error)
	UpdateDestination(t hark.TenantID, id hark.DestinationID, revision uint64, edit func(d *hark.Destination) error, attach ...registry.Attach) (*hark.Destination, error)
	PutDestination(t hark.TenantID, revision uint64, d *hark.Destination, attach ...registry.Attach) (now *hark.Destination, created bool, err error)
	SetDestinationState(t hark.TenantID, id hark.DestinationID, revision uint64, state hark.DestinationState, reason string, attach ...registry.Attach) (*hark.Destination, error)
	RotateSecret(t hark.TenantID, id hark.DestinationID, given hark.Secret, overlap time.Duration) (*hark.Destination, error)
	DeleteDestination(t hark.TenantID, id hark.DestinationID, revision uint64, attach ...registry.Attach) error

	Key(t hark.TenantID, id hark.KeyID) (*registry.Key, error)
	Keys(t hark.TenantID, after hark.KeyID, limit int) (page []*registry.Key, more bool)
	DeleteKey(t hark.TenantID, id hark.KeyID, revision uint64) error

	TenantByName(name string) (*registry.Tenant, error)
	Tenants(after hark.TenantID, limit int) (page []*registry.Tenant, more bool)
	CreateTenant(given *registry.Tenant) (*registry.Tenant, error)
	UpdateTenant(id hark.TenantID, revision uint64, edit func(t *registry.Tenant) error) (*registry.Tenant, error)
	DeleteTenant(id hark.TenantID, revision uint64) error
}

// API holds the handlers.
type API struct {
	Log       Log
	Registry  Registry
	Sources   Sources
	Deliver   Deliverer
	Batches   Batches
	Scheduled Scheduled
	// NewKey makes an API key in a tenant and returns its text, which is nowhere else.
	NewKey func(t hark.TenantID, k *registry.Key) (*registry.Key, hark.Secret, error)
	Tokens Tokens
	// Redact hides the secret fields of a destination's settings.
	Redact func(d *hark.Destination) json.RawMessage
	// Schemes is the table of verification schemes.
	Schemes []SchemeView
	// PublicKey returns what verifies a signing secret's signatures when that may be known to all, else "".
	PublicKey func(hark.Secret) string
	// Admit tells whether a tenant may publish n events now.
	Admit func(t hark.TenantID, n int) error
	// Backup writes a backup of the whole data folder as a tar archive.
	Backup func(ctx context.Context, w io.Writer) error
	// Base is the URL under which the sender of a request sees this server.
	Base func(*http.Request) string
	// MaxEvent bounds one event in bytes.
	MaxEvent int

	Devices  Devices
	Receipts Receipts
	Bins     Bins
	Captures Captures
	// RedactSource hides the secret fields of a source's settings.
	RedactSource func(d *hark.Source) json.RawMessage
	Replayer     Replayer
	// Stopping is closed when the server stops: what has no end by itself ends then.
	Stopping <-chan struct{}
}

type contextKey int

const (
	callerKey contextKey = iota
	requestIDKey
)

// WithCaller returns a context of r that carries who calls, the request's id, and r.
func WithCaller(r *http.Request, c Caller, requestID string) context.Context {
	return context.WithValue(r.Context(), callerKey, &callInfo{c, requestID, r})
}

type callInfo struct {
	caller    Caller
	requestID string
	request   *http.Request
}

// base is the URL under which the caller sees this server, without a slash at its end.
func (a *API) base(ctx context.Context) string {
	return a.Base(ctx.Value(callerKey).(*callInfo).request)
}

// CallerOf returns who makes a request; nil on public routes.
func CallerOf(ctx context.Context) Caller { return callerOf(ctx) }

func callerOf(ctx context.Context) Caller { return ctx.Value(callerKey).(*callInfo).caller }

// RequestID returns the request's id, "" outside of one.
func RequestID(ctx context.Context) string {
	if info, ok := ctx.Value(callerKey).(*callInfo); ok {
		return info.requestID
	}
	return ""
}

func tenantOf(ctx context.Context) hark.TenantID { return callerOf(ctx).TenantID() }

// Raw is a handler that reads and writes bodies itself.
type Raw func(w http.ResponseWriter, r *http.Request) error

// ServeHTTP answers an error as a problem.
func (h Raw) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h(w, r); err != nil {
		p := ProblemOf(err, RequestID(r.Context()))
		NoteError(w, p)
		p.Write(w)
	}
}

// errorNoter is implemented by the server's response writer, which logs what a problem hides.
type errorNoter interface{ NoteError(error) }

// NoteError hands the cause of an answer to whoever logs the request.
func NoteError(w http.ResponseWriter, err error) {
	if n, ok := w.(errorNoter); ok {
		n.NoteError(err)
	}
}

// Typed wraps a typed handler so that its errors become problems.
func Typed[I, O any](h func(context.Context, *I) (*O, error)) func(huma.API, huma.Operation) {
	return func(a huma.API, op huma.Operation) {
		huma.Register(a, op, func(ctx context.Context, in *I) (*O, error) {
			out, err := h(ctx, in)
			if err != nil {
				return nil, ProblemOf(err, RequestID(ctx))
			}
			return out, nil
		})
	}
}

// Prepare makes huma's own findings look like ours. Call it before the first Register.
func Prepare() { adoptErrors() }

// readBody reads at most limit bytes of a request.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	var body []byte
	var err error
	if n := r.ContentLength; n >= 0 {
		body = make([]byte, n)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	if err == nil {
		return body, nil
	}
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return nil, tooLarge(limit)
	}
	if timeout, ok := err.(interface{ Timeout() bool }); ok && timeout.Timeout() {
		return nil, &hark.Error{Kind: hark.Timeout, Code: "body-timeout", Msg: "the body did not arrive in time", Err: err}
	}
	return nil, &hark.Error{Kind: hark.Invalid, Code: "body-cut", Msg: "the body ended before its declared length", Err: err}
}

func tooLarge(limit int64) error {
	return newProblem(http.StatusRequestEntityTooLarge, "body-too-large",
		"the body is over the limit of "+formatBytes(limit)+"; send less at once, or a reference to large data", "", nil)
}

// answerMade answers with what was made, written as typed routes do: "<", ">" and "&" as they are.
func answerMade(w http.ResponseWriter, status int, location string, v any) error {
	var answer bytes.Buffer
	if err := huma.DefaultJSONFormat.Marshal(&answer, v); err != nil {
		return err
	}
	h := w.Header()
	h["Content-Type"] = jsonContentType
	h["Content-Length"] = []string{strconv.Itoa(answer.Len())}
	if location != "" {
		h.Set("Location", location)
	}
	w.WriteHeader(status)
	_, err := w.Write(answer.Bytes())
	return ignoreWrite(err)
}
