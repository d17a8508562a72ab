package web

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

func joined(tokens []token) string {
	var all strings.Builder
	for _, t := range tokens {
		all.WriteString(t.Text)
	}
	return all.String()
}

func TestFormatJSON(t *testing.T) {
	const src = ` {"a":1.0e+3,"b":[],"c":{},"d":[1,"x\"]",null],"a":true} `
	const want = "{\n  \"a\": 1.0e+3,\n  \"b\": [],\n  \"c\": {},\n  \"d\": [\n    1,\n    \"x\\\"]\",\n    null\n  ],\n  \"a\": true\n}"
	tokens, cut := formatJSON([]byte(src), maxShown)
	if got := joined(tokens); got != want || cut {
		t.Errorf("%s", got)
	}
	classes := map[string]string{}
	for _, tok := range tokens {
		classes[tok.Text] += tok.Class
	}
	for text, class := range map[string]string{`"a"`: "kk", `1.0e+3`: "n", `"x\"]"`: "s", "null": "l", "true": "l"} {
		if classes[text] != class {
			t.Errorf("%s is %q", text, classes[text])
		}
	}
}

// TestFormatJSONIsBounded: what a stranger nests makes no page of blanks.
func TestFormatJSONIsBounded(t *testing.T) {
	for _, src := range []string{strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "[" + strings.Repeat("1,", 400_000) + "1]",
		strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000), `"` + strings.Repeat("é", 400_000) + `"`} {
		tokens, cut := formatJSON([]byte(src), maxShown)
		if n := len(joined(tokens)); n > maxShown+3 || !cut && n < len(src) {
			t.Errorf("%.20s…: %d bytes of %d, cut %v", src, n, len(src), cut)
		}
	}
}

// FuzzFormatJSON: the values stay as they were written, nothing is added but blanks.
func FuzzFormatJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\\"}],"c":-0.1e9}`, `""`, "[ ]", `[[],{},[{}]]`, "\"\xff\"", ` 1 `} {
		f.Add([]byte(s), 1000)
	}
	f.Fuzz(func(t *testing.T, src []byte, limit int) {
		limit = max(1, limit%5000)
		if !json.Valid(src) || !utf8.Valid(src) {
			return
		}
		tokens, cut := formatJSON(src, limit)
		got := joined(tokens)
		if len(got) > limit+3 {
			t.Fatalf("%d bytes, limit %d", len(got), limit)
		}
		if cut {
			return
		}
		var want, have bytes.Buffer
		if json.Compact(&want, src) != nil || json.Compact(&have, []byte(got)) != nil || want.String() != have.String() {
			t.Fatalf("%q became %q", src, got)
		}
	})
}

// FuzzBody: any body and content type has a view, of bounded size.
func FuzzBody(f *testing.F) {
	f.Add([]byte("a=b&c=%zz"), "application/x-www-form-urlencoded")
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../x\"\r\n\r\nhi\r\n--b--\r\n"), "multipart/form-data; boundary=b")
	f.Add([]byte{0, 1, 0xff}, "text/plain; charset=\"")
	f.Add([]byte(`{"a":1}`), "application/json")
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		c := &hark.Capture{Body: body, Head: body, Header: []hark.HeaderField{{Name: "Content-Type", Value: kind}}}
		b := newBody(c, "hex")
		if len(body) > 0 && b.As != "hex" || len(b.Parts) > maxParts || len(b.Fields) > maxPairs || len(b.Text) > maxShown {
			t.Fatalf("%+v", b)
		}
		newRaw(c)
	})
}

func TestBodyForms(t *testing.T) {
	for _, c := range []struct{ body, kind, forms string }{
		{`{"a":1}`, "text/plain", "pretty text hex"},
		{"a=b&c=d%20e", "application/x-www-form-urlencoded", "fields text hex"},
		{"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../x.png\"\r\n\r\n\xff\r\n--b--\r\n", "multipart/form-data; boundary=b", "parts hex"},
		{"\x1f\x8b\x08", "application/json", "hex"},
		{"hello", "", "text hex"},
		{strings.Repeat("[", 20000), "application/json", "text hex"},
	} {
		b := newBody(&hark.Capture{Body: []byte(c.body), Header: []hark.HeaderField{{Name: "content-TYPE", Value: c.kind}}}, "")
		var forms []string
		for _, f := range b.Forms {
			forms = append(forms, f.ID)
		}
		if got := strings.Join(forms, " "); got != c.forms || b.As != forms[0] {
			t.Errorf("%.30q: %s", c.body, got)
		}
		if len(b.Parts) > 0 && b.Parts[0] != (part{"f", "../x.png", "", "1 B"}) {
			t.Errorf("%+v", b.Parts)
		}
	}
}

func TestPathIn(t *testing.T) {
	for target, want := range map[string]string{"/in/t0k": "/", "/in/t0k?a=1": "/?a=1", "/in/t0k/x//y": "/x//y", "/elsewhere": "/elsewhere"} {
		if got := pathIn("t0k", target); got != want {
			t.Errorf("%s: %s", target, got)
		}
	}
}
