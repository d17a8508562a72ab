package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/harkhq/hark/cmd/hark/internal/agent"
)

// FuzzPushed: whatever is pushed is one line of text that does not steer a terminal, and one line
// of JSON that a program can read.
func FuzzPushed(f *testing.F) {
	for _, seed := range []string{"", "text", "\x1b[31mred", "\xff\xfe", `{"title":"a","body":"b"}`, `{"notification":{"title":"a","navigate":"javascript:1"},"hark":{"event":"e","topic":"t","data":{"n":1}}}`,
		`{"notification":null}`, `{"hark":{"data":"` + strings.Repeat("x", 3000) + `"}}`, "[1,2]", "null", `{"title":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		a := &app{stdout: &out}
		p := readPushed(agent.Message{ID: "v1", Data: data})
		line, err := a.pushedJSON(p)
		if err != nil || !json.Valid(line) || bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%q: %v %q", data, err, line)
		}
		a.showPushed(p)
		shown := out.String()
		if strings.Count(shown, "\n") != 1 || !utf8.ValidString(shown) || strings.ContainsFunc(strings.TrimSuffix(shown, "\n"), func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			t.Fatalf("%q is shown as %q", data, shown)
		}
	})
}

// TestPushedLink: the link is shown that somebody gave, and not the one that the form needs.
func TestPushedLink(t *testing.T) {
	for navigate, want := range map[string]string{"/": "", "/chat/7": "/chat/7", "https://app.example/": "https://app.example/", "": ""} {
		data, err := json.Marshal(map[string]any{"web_push": 8030, "notification": map[string]any{"title": "Ann", "navigate": navigate}})
		if err != nil {
			t.Fatal(err)
		}
		if p := readPushed(agent.Message{Data: data}); p.Link != want || p.Title != "Ann" {
			t.Errorf("navigate %q is shown as %q, under %q", navigate, p.Link, p.Title)
		}
	}
}
