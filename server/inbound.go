package server

import (
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/ingest"
	"github.com/harkhq/hark/internal/rawhead"
	"github.com/harkhq/hark/internal/scheme"
	"github.com/prometheus/client_golang/prometheus"
)

// anyMethod marks routes that are dispatched before the mux, which would clean their
// paths and answer redirects.
const anyMethod = "ANY"

// openDoor makes what serves /in/….
func (s *Server) openDoor() {
	s.door = ingest.New(ingest.Config{
		Sources: s.registry, Log: s.eventlog, Recorder: recorderOfDoor{s.captures}, Front: s.front,
		Schemes: &scheme.Env{Fetch: newFetcher(s.egress).fetch}, Admit: s.admit, Problem: s.refuse,
		MaxBody: cmpOr(s.cfg.MaxEvent, hark.MaxEventBytes), Rate: max(0, s.cfg.SourceRate), Hooks: s.doorHooks(),
	})
}

// refuse answers what the door refuses.
func (s *Server) refuse(w http.ResponseWriter, err error, reason scheme.Reason) {
	p := api.ProblemOf(err, w.Header().Get("X-Request-Id"))
	p.Reason = string(reason)
	api.NoteError(w, p)
	p.Write(w)
}

// withDoor sends to the door what is sent to it, judged by the target as it stands in the
// request, and everything else to the mux.
func (s *Server) withDoor(mux, door http.Handler) http.Handler {
	nowhere := s.guard(&route{method: anyMethod, path: "/in/…", scope: public}, http.HandlerFunc(s.door.NotFound))
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case ingest.Is(r.RequestURI):
			door.ServeHTTP(w, r)
		case leadsToDoor(r.URL.Path): // the mux would redirect
			nowhere.ServeHTTP(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
	if s.cfg.TLSCert == "" {
		return h
	}
	return rawhead.Handler(h)
}

// leadsToDoor reports whether a path becomes one of the door when it is cleaned.
func leadsToDoor(p string) bool {
	return strings.Contains(p, "/in") && (strings.Contains(p, "//") || strings.Contains(p, "/.")) && strings.HasPrefix(path.Clean(p)+"/", "/in/")
}

// doorHooks make the door count.
func (s *Server) doorHooks() ingest.Hooks {
	m := s.metrics
	passed := map[string]func() prometheus.Counter{} // by scheme, as they are the hot ones
	for _, row := range scheme.Schemes() {
		passed[row.Name] = sync.OnceValue(func() prometheus.Counter { return m.inbound.WithLabelValues(row.Name, ingest.Passed) })
	}
	return ingest.Hooks{
		Answered: func(scheme, outcome string, took time.Duration) {
			if counter := passed[scheme]; counter != nil && outcome == ingest.Passed {
				counter().Inc()
			} else {
				m.inbound.WithLabelValues(scheme, outcome).Inc()
			}
			m.inboundTime.Observe(took.Seconds())
		},
		Skipped: m.inboundSkipped.Inc,
	}
}
