package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/auth"
)

// Bounds of one request, for strangers: a client that is slower is cut off.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
)

// caller is a principal as handlers see it.
type caller struct {
	auth.Principal
	auth    *auth.Authenticator
	refusal error // why its credential does not count, on routes that are marked later
}

func (c *caller) TenantID() hark.TenantID { return c.Tenant }

func (c *caller) Subject() string { return c.User }

func (c *caller) Reach() []hark.Pattern {
	if c.Everywhere() {
		return everything
	}
	return c.Subscribe
}

var everything = []hark.Pattern{">"}

// guard is what happens to every request of a route: an id, who is calling and
// whether they may, the handler, and one line of log if it went wrong.
func (s *Server) guard(rt *route, h http.Handler) http.Handler {
	observe := s.metrics.route(rt.method, rt.path)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &recorder{ResponseWriter: w}
		id := requestID(began)
		w.Header()["X-Request-Id"] = []string{id}
		defer func() {
			if p := recover(); p != nil {
				s.panicked(rec, r, p, id)
			}
			took := time.Since(began)
			observe(rec.status, took)
			s.logRequest(r, rec, id, took)
		}()
		if rt.scope&foreign != 0 && s.cors.answer(w.Header(), r) {
			w.Header()["Access-Control-Expose-Headers"] = exposed
		}
		ways := rt.scope.ways()
		if ways != nil {
			w.Header()["Referrer-Policy"] = noReferrer
		}
		var ctx context.Context
		var view *viewer
		if rt.scope&seeBin != 0 {
			view = s.viewerOf(r)
		}
		if rt.method == anyMethod { // the door asks for no caller, and counts every request
			h.ServeHTTP(rec, r)
			return
		} else if rt.scope.isPublic() {
			ctx = api.WithCaller(r, nil, id)
		} else if view != nil {
			ctx = api.WithCaller(r, view, id)
		} else {
			p, err := s.auth.Authenticate(r, ways...)
			if err == nil {
				err = p.Require(rt.scope.scopes())
			}
			if err != nil && rt.scope&later == 0 {
				s.turnAway(rt, rec, r, err, id)
				return
			}
			r = auth.StripQuery(r, ways...)
			ctx = api.WithCaller(r, &caller{p, s.auth, err}, id)
		}
		h.ServeHTTP(rec, r.WithContext(ctx))
	})
}

// turnAway answers a request whose sender may not, or not now.
func (s *Server) turnAway(rt *route, rec *recorder, r *http.Request, err error, id string) {
	problem := api.ProblemOf(err, id)
	rec.NoteError(problem)
	if e, ok := errors.AsType[*hark.Error](err); ok && rt.scope&streaming != 0 && (e.Kind == hark.TooMany || e.Kind == hark.Unavailable) {
		s.live.ServeBusy(rec, r, e.RetryAfter)
		return
	}
	problem.Write(rec)
}

// panicked: one request's fault must not become everyone's.
func (s *Server) panicked(rec *recorder, r *http.Request, p any, id string) {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.log.Error("panic while answering", "request_id", id, "method", r.Method, "route", r.Pattern, "panic", p, "stack", string(debug.Stack()))
	if rec.status == 0 {
		api.ProblemOf(&hark.Error{Kind: hark.Internal, Code: "internal", Msg: "something went wrong on our side"}, id).Write(rec)
	}
}

func (s *Server) logRequest(r *http.Request, rec *recorder, id string, took time.Duration) {
	level := slog.LevelDebug
	if rec.status >= 500 && rec.status != http.StatusServiceUnavailable {
		level = slog.LevelError
	}
	if !s.log.Enabled(r.Context(), level) {
		return
	}
	// The query may carry a credential; the route never does.
	attrs := []slog.Attr{slog.String("request_id", id), slog.String("method", r.Method), slog.String("route", r.Pattern),
		slog.Int("status", rec.status), slog.Float64("took_ms", float64(took.Microseconds())/1000)}
	if rec.err != nil {
		attrs = append(attrs, slog.String("error", cause(rec.err)))
	}
	s.log.LogAttrs(context.WithoutCancel(r.Context()), level, "request", attrs...)
}

// cause is what the problem hides from the user.
func cause(err error) string {
	if u, ok := err.(interface{ Unwrap() error }); ok && u.Unwrap() != nil {
		return u.Unwrap().Error()
	}
	return err.Error()
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	err    error
}

// WriteHeader implements http.ResponseWriter.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (rec *recorder) Write(b []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	return rec.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// Hijack implements http.Hijacker: what follows is a stream's own.
func (rec *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(rec.ResponseWriter).Hijack()
	if err == nil && rec.status == 0 {
		rec.status = http.StatusOK
	}
	return conn, buf, err
}

// NoteError keeps what the log should say about an answer.
func (rec *recorder) NoteError(err error) { rec.err = err }

// requestID is unique enough to find a request in a log.
func requestID(now time.Time) string {
	var b [12]byte
	binary.BigEndian.PutUint32(b[:], uint32(now.Unix()))
	binary.BigEndian.PutUint64(b[4:], rand.Uint64())
	return string(hex.AppendEncode(append(make([]byte, 0, 28), "req_"...), b[:]))
}

// anythingElse is the pattern of what no route matches.
const anythingElse = "/"

// notFound answers what no route matches, and wrong methods, as problems.
func notFound(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := requestID(time.Now())
		w.Header().Set("X-Request-Id", id)
		var allowed []string
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			probe := r.Clone(r.Context())
			probe.Method = method
			if _, pattern := mux.Handler(probe); pattern != anythingElse {
				allowed = append(allowed, method)
			}
		}
		err := &hark.Error{Kind: hark.NotFound, Code: "no-such-route", Msg: "there is nothing at this URL; /docs lists what there is"}
		problem := api.ProblemOf(err, id)
		if len(allowed) > 0 {
			w.Header()["Allow"] = []string{strings.Join(allowed, ", ")}
			problem = api.MethodNotAllowed(r.Method, id)
		}
		problem.Write(w)
	})
}
