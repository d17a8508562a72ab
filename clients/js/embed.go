// Package js is the JavaScript client for browsers and Node: its source in src,
// and hark.js and hark-sw.js, which are built from that and committed, so that
// building and running Hark needs no Node. make test-js checks that they agree.
//
// Go's part is to serve both: hark.js, a module that pages of any origin may
// import, and that browsers run as the SharedWorker of their pages, too; and
// hark-sw.js, the service worker of push, which pages of Hark's own origin may
// register for any scope, and which workers of other origins take in with
// importScripts.
package js

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

var (
	//go:embed hark.js
	script []byte
	//go:embed hark-sw.js
	worker []byte
)

// Script returns hark.js.
func Script() []byte { return bytes.Clone(script) }

// Worker returns hark-sw.js.
func Worker() []byte { return bytes.Clone(worker) }

// Handler serves GET /hark.js. A browser asks each time whether it is still the
// same, by ETag, so that pages have the client of the server they talk to. With
// its digest as ?v= it is kept for ever.
func Handler() http.Handler { return serve(script, nil) }

// WorkerHandler serves GET /hark-sw.js, in the same way. Its header
// Service-Worker-Allowed lets a page choose any scope of its origin.
func WorkerHandler() http.Handler {
	return serve(worker, http.Header{"Service-Worker-Allowed": {"/"}})
}

func serve(text []byte, more http.Header) http.Handler {
	sum := sha256.Sum256(text)
	digest := hex.EncodeToString(sum[:8])
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	z.Write(text) // to memory: no error
	z.Close()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		h.Set("Vary", "Accept-Encoding")
		h.Set("Cache-Control", "public, no-cache")
		for name, values := range more {
			h[name] = values
		}
		if r.URL.Query().Get("v") == digest {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		body, etag := text, `"`+digest+`"`
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			body, etag = zipped.Bytes(), `"`+digest+`-gzip"`
			h.Set("Content-Encoding", "gzip")
		}
		h.Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
}

// acceptsGzip reads an Accept-Encoding as browsers and tools write it.
func acceptsGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" {
			weight = strings.TrimRight(strings.TrimSpace(weight), ".0")
			return weight != "q="
		}
	}
	return false
}
