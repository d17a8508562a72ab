// Package js is the JavaScript client for browsers and Node: its source in src,
// and hark.js, which is built from that and committed, so that building and
// running Hark needs no Node. make test-js checks that the two agree.
//
// Go's part is to serve hark.js: a module that pages of any origin may import,
// and that browsers run as the SharedWorker of their pages, too.
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

//go:embed hark.js
var script []byte

// Script returns hark.js.
func Script() []byte { return bytes.Clone(script) }

// Handler serves GET /hark.js. A browser asks each time whether it is still the
// same, by ETag, so that pages have the client of the server they talk to. With
// its digest as ?v= it is kept for ever.
func Handler() http.Handler {
	sum := sha256.Sum256(script)
	digest := hex.EncodeToString(sum[:8])
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	z.Write(script) // to memory: no error
	z.Close()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		h.Set("Vary", "Accept-Encoding")
		h.Set("Cache-Control", "public, no-cache")
		if r.URL.Query().Get("v") == digest {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		body, etag := script, `"`+digest+`"`
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
