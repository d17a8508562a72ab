package ingest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/harkhq/hark"
)

// cors says to browsers which pages may send, and keeps the others out: a page that
// somehow learnt a URL is no sender. Programs send none of these headers. A bin takes
// what comes, but only pages of its origins may read the answer.
func (v *visit) cors() (preflight bool, err *hark.Error) {
	in, h := v.r.Header, v.w.Header()
	origin, site := in.Get("Origin"), in.Get("Sec-Fetch-Site")
	preflight = v.r.Method == http.MethodOptions && in.Get("Access-Control-Request-Method") != ""
	if origin == "" && site == "" && !preflight {
		return false, nil // no browser
	}
	any := slices.Contains(v.src.CORSOrigins, "*")
	allowed := origin != "" && (any || slices.Contains(v.src.CORSOrigins, origin))
	if len(v.src.CORSOrigins) > 0 && !any {
		h.Add("Vary", "Origin")
	}
	if allowed {
		if any {
			origin = "*"
		}
		h.Set("Access-Control-Allow-Origin", origin)
	}
	if preflight {
		if !allowed {
			return true, errOrigin
		}
		v.allowPreflight(h)
		return true, nil
	}
	own := site == "same-origin" || site == "none" || origin != "" && strings.EqualFold(origin, originOf(v.door.cfg.Front.Base(v.r)))
	if !allowed && !own && v.src.Bin == nil {
		return false, errOrigin
	}
	return false, nil
}

var errOrigin = &hark.Error{Kind: hark.Forbidden, Code: "origin-not-allowed",
	Msg: "this source does not take requests from web pages of that origin; its owner can list it in cors_origins"}

func (v *visit) allowPreflight(h http.Header) {
	in := v.r.Header
	h.Set("Access-Control-Max-Age", "600")
	if method := in.Get("Access-Control-Request-Method"); len(method) <= 32 && isHeaderName(method) {
		h.Set("Access-Control-Allow-Methods", method)
	}
	if names := in.Get("Access-Control-Request-Headers"); names != "" && len(names) <= 1024 && isNameList(names) {
		h.Set("Access-Control-Allow-Headers", names)
	}
	if in.Get("Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
}

func isNameList(s string) bool {
	for name := range strings.SplitSeq(s, ",") {
		if !isHeaderName(strings.TrimSpace(name)) {
			return false
		}
	}
	return true
}

// originOf cuts a URL to scheme and host.
func originOf(base string) string {
	if _, rest, ok := strings.Cut(base, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return base[:len(base)-len(rest)+i]
		}
	}
	return base
}

// keepInert makes sure that no browser runs what an answer holds as a page of ours.
func keepInert(h http.Header) {
	h["Content-Security-Policy"] = sandbox
	h["Cache-Control"] = noStore
	kind, _, _ := strings.Cut(strings.ToLower(h.Get("Content-Type")), ";")
	switch kind = strings.TrimSpace(kind); {
	case kind == "", strings.Contains(kind, "script"), strings.Contains(kind, "html"), strings.Contains(kind, "xml") && kind != "text/xml" && kind != "application/xml",
		strings.Contains(kind, "css"), strings.Contains(kind, "wasm"):
		h["Content-Type"] = plainText
	}
}

var (
	sandbox   = []string{"default-src 'none'; sandbox"}
	noStore   = []string{"no-store"}
	plainText = []string{"text/plain; charset=utf-8"}
)
