package js_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	js "github.com/harkhq/hark/clients/js"
)

func get(t *testing.T, target string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	js.Handler().ServeHTTP(w, r)
	return w.Result()
}

// TestScript: a module for pages of any origin, that is not read as anything else.
func TestScript(t *testing.T) {
	res := get(t, "/hark.js")
	body, _ := io.ReadAll(res.Body)
	if !bytes.Equal(body, js.Script()) || res.StatusCode != 200 {
		t.Fatalf("%d, %d bytes", res.StatusCode, len(body))
	}
	for name, want := range map[string]string{
		"Content-Type": "text/javascript; charset=utf-8", "X-Content-Type-Options": "nosniff",
		"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin",
		"Cache-Control": "public, no-cache", "Vary": "Accept-Encoding", "Content-Encoding": "",
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	if !strings.Contains(string(body), "subscribe") || bytes.Contains(body, []byte("sourceMappingURL")) {
		t.Error("this is not the client, or it names a map that is not served")
	}
}

// TestScriptCaching: not sent again while it is the same, kept for ever by its digest.
func TestScriptCaching(t *testing.T) {
	etag := get(t, "/hark.js").Header.Get("ETag")
	if res := get(t, "/hark.js", "If-None-Match", etag); res.StatusCode != 304 {
		t.Errorf("answered %d to its own ETag", res.StatusCode)
	}
	if res := get(t, "/hark.js", "If-None-Match", `"other"`); res.StatusCode != 200 {
		t.Errorf("answered %d to another ETag", res.StatusCode)
	}
	if res := get(t, "/hark.js", "If-None-Match", etag, "Accept-Encoding", "gzip"); res.StatusCode != 200 {
		t.Errorf("answered %d to the ETag of other bytes", res.StatusCode)
	}
	digest := strings.Trim(etag, `"`)
	for v, want := range map[string]bool{digest: true, "": false, "0": false, digest + "0": false} {
		if got := strings.Contains(get(t, "/hark.js?v="+v).Header.Get("Cache-Control"), "immutable"); got != want {
			t.Errorf("v=%s: immutable %v", v, got)
		}
	}
}

// TestScriptSize: what a page loads.
func TestScriptSize(t *testing.T) {
	res := get(t, "/hark.js", "Accept-Encoding", "br;q=1.0, gzip;q=0.8")
	body, _ := io.ReadAll(res.Body)
	if res.Header.Get("Content-Encoding") != "gzip" || len(body) >= 10_000 {
		t.Errorf("%q, %d bytes", res.Header.Get("Content-Encoding"), len(body))
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(z); err != nil || !bytes.Equal(text, js.Script()) {
		t.Errorf("unpacked it is something else: %v", err)
	}
	for _, accept := range []string{"", "br", "gzip;q=0", "gzip; q=0.000", "x-gzip"} {
		if res := get(t, "/hark.js", "Accept-Encoding", accept); res.Header.Get("Content-Encoding") != "" {
			t.Errorf("gzip for %q", accept)
		}
	}
}

// TestWorker: a script that a page may register for its whole origin, and another
// origin's worker may take in.
func TestWorker(t *testing.T) {
	w := httptest.NewRecorder()
	js.WorkerHandler().ServeHTTP(w, httptest.NewRequest("GET", "/hark-sw.js", nil))
	res := w.Result()
	body, _ := io.ReadAll(res.Body)
	if !bytes.Equal(body, js.Worker()) || res.StatusCode != 200 {
		t.Fatalf("%d, %d bytes", res.StatusCode, len(body))
	}
	for name, want := range map[string]string{
		"Content-Type": "text/javascript; charset=utf-8", "Service-Worker-Allowed": "/", "Cache-Control": "public, no-cache",
		"Cross-Origin-Resource-Policy": "cross-origin", "X-Content-Type-Options": "nosniff",
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	if !strings.Contains(string(body), "notificationclick") || bytes.Contains(body, []byte("export{")) {
		t.Error("this is not the worker, or it is a module")
	}
}
