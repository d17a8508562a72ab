package main

import (
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/sample"
	"github.com/harkhq/hark/internal/scheme"
)

// TestCurlCommand: a shell makes of it exactly the request, whatever is in it.
func TestCurlCommand(t *testing.T) {
	requests := map[string]*scheme.Request{
		"quotes": {Method: "POST", URL: "https://a.example/in/x?a=[1]&b=$HOME'`id`", Header: scheme.Header{{Name: "X-A", Value: `it's "quoted" \ $HOME`}}, Body: []byte(`{"a":"it's $(id) \n !"}`)},
		"binary": {Method: "PUT", URL: "https://a.example/", Body: []byte{0, 1, '\'', 255, '\n', '\r', 0}},
		"at":     {Method: "POST", URL: "https://a.example/", Body: []byte("@/etc/passwd\n")},
		"empty":  {Method: "GET", URL: "https://a.example/"},
	}
	for _, s := range sample.All() {
		r, err := s.Request("https://a.example/in/x", s.Settings, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		requests[s.Provider+" "+s.Event] = r
	}
	for name, r := range requests {
		// In place of curl, a function that writes its words and what it is piped.
		script := `curl() { for a; do printf '%s\0' "$a"; done; case "$*" in *' @-') cat;; esac; }; ` + curlCommand(r)
		out, err := exec.Command("sh", "-c", script).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		words := strings.Split(string(out), "\x00")
		want := []string{"--globoff", "-i", "-X", r.Method, r.URL}
		for _, f := range r.Header {
			want = append(want, "-H", f.Name+": "+f.Value)
		}
		switch {
		case name == "binary":
			want = append(want, "--data-binary", "@-")
			words = append(words[:len(want)], strings.Join(words[len(want):], "\x00"))
			want = append(want, string(r.Body))
		case len(r.Body) > 0:
			want = append(want, "--data-raw", string(r.Body), "")
		default:
			want = append(want, "")
		}
		if !slices.Equal(words, want) {
			t.Errorf("%s: %q, want %q", name, words, want)
		}
	}
}

// TestTamper: every signed sample is refused once it was tampered with, and JSON stays JSON.
func TestTamper(t *testing.T) {
	for _, s := range sample.All() {
		row := scheme.Find(s.Scheme)
		c := &triggerCmd{Provider: s.Provider, Event: s.Event, To: "https://a.example/in/x", Secret: s.Secret(), Count: 1, Tamper: true}
		tr := &trigger{triggerCmd: c}
		if err := tr.prepare(); err != nil {
			t.Errorf("%s %s: %v", s.Provider, s.Event, err)
			continue
		}
		r, err := tr.request()
		switch covered := row.CanSign() && row.Secrets != scheme.NoSecrets && s.Scheme != "token" && s.Scheme != "cloudevents"; {
		case !covered && err == nil:
			t.Errorf("%s %s: tampered with what nothing protects", s.Provider, s.Event)
		case covered && err != nil:
			if plain, _ := s.Request("https://a.example/", s.Settings, time.Now()); len(plain.Body) > 0 {
				t.Errorf("%s %s: %v", s.Provider, s.Event, err)
			}
		case covered:
			if v := tr.signer.Verify(t.Context(), r); v.OK() {
				t.Errorf("%s %s passes", s.Provider, s.Event)
			}
			if u, err := url.Parse(r.URL); err != nil || u.Host != "a.example" {
				t.Error(r.URL)
			}
		}
	}
}
