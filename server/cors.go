package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/harkhq/hark/internal/api"
)

// cors says which pages of other origins may use the routes that are marked foreign.
type cors struct {
	origins []string // lower case
	any     bool     // "*": every page, but without cookies
}

const preflightAge = "7200" // as long as Chrome takes it, in seconds

var (
	exposed    = []string{"ETag, Hark-Cursor, Hark-Gap, Last-Event-ID, Link, Retry-After, X-Request-Id"}
	noReferrer = []string{"no-referrer"}
)

const allowedHeaders = "Authorization, Content-Type, Last-Event-ID, Idempotency-Key, If-None-Match, Hark-Key, Hark-Time, Hark-Deliver-At, Cache-Control"

// answer adds what lets the page that sent r read the answer, if its origin is allowed.
// It reports whether it is.
func (c *cors) answer(h http.Header, r *http.Request) bool {
	if len(c.origins) == 0 && !c.any {
		return false
	}
	// What is answered depends on it, allowed or not: caches must know.
	h.Add("Vary", "Origin")
	origins := r.Header["Origin"]
	switch {
	case len(origins) != 1:
		return false
	case slices.Contains(c.origins, strings.ToLower(origins[0])):
		h["Access-Control-Allow-Origin"] = origins
		h["Access-Control-Allow-Credentials"] = []string{"true"}
	case c.any:
		h["Access-Control-Allow-Origin"] = []string{"*"}
	default:
		return false
	}
	return true
}

// preflights answers OPTIONS on the paths that pages of others may use.
func (c *cors) preflights(mux *http.ServeMux, routes []route) {
	if len(c.origins) == 0 && !c.any {
		return
	}
	methods := map[string][]string{}
	for _, rt := range routes {
		if rt.scope&foreign != 0 {
			methods[rt.path] = append(methods[rt.path], rt.method)
		}
	}
	for path, list := range methods {
		allowed := strings.Join(list, ", ")
		mux.HandleFunc("OPTIONS "+path, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Allow", allowed+", OPTIONS")
			if c.answer(h, r) && r.Header.Get("Access-Control-Request-Method") != "" {
				h.Set("Access-Control-Allow-Methods", allowed)
				h.Set("Access-Control-Allow-Headers", allowedHeaders+attributesAsked(r))
				h.Set("Access-Control-Max-Age", preflightAge)
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
}

// attributesAsked returns those of the headers that a preflight asks for which carry
// attributes of an event, each after a comma.
func attributesAsked(r *http.Request) string {
	var asked strings.Builder
	for name := range strings.SplitSeq(r.Header.Get("Access-Control-Request-Headers"), ",") {
		name = strings.TrimSpace(name)
		if len(name) > len(api.AttributePrefix) && strings.EqualFold(name[:len(api.AttributePrefix)], api.AttributePrefix) {
			asked.WriteString(", " + name)
		}
	}
	return asked.String()
}
