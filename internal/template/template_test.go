package template

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

const payload = `{"n":1.0,"big":12345678901234567890,"yes":true,"none":null,"empty":"","user":{"name":" Ann\nsecond","first-name":"Ann","$id":7},
	"list":[{"m":"one\nmore"},{"m":"two"},{}],"ref":"refs/heads/main","cents":123450,"minus":-5,"zero":0}`

func lookup(t testing.TB) Lookup {
	var body any
	d := json.NewDecoder(strings.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&body); err != nil {
		t.Fatal(err)
	}
	return func(path []string) any {
		switch path[0] {
		case "body":
			return Walk(body, path[1:])
		case "topic":
			return "a.b"
		case "time":
			return time.Unix(1e9, 0)
		case "header":
			return Walk(map[string]string{"X-Event": "push"}, path[1:])
		}
		t.Errorf("asked for %q", path)
		return nil
	}
}

func TestExpand(t *testing.T) {
	look := lookup(t)
	for text, want := range map[string]string{
		"":                                            "",
		"plain":                                       "plain",
		"{{{topic}}}":                                 "{a.b}",
		"github.{header.X-Event}":                     "github.push",
		"{header.x-event}|{header.Other}":             "|",
		"{body.n} {body.big} {body.yes}":              "1.0 12345678901234567890 true",
		"[{body.none}{body.empty}{body.x}]":           "[]",
		"{body.user.first-name}{body.user.$id}":       "Ann7",
		"{body.user.name|line|upper}":                 "ANN",
		"{body.user.name|trim}":                       "Ann\nsecond",
		"{body.list.1.m}{body.list.9.m}{body.list.m}": "two",
		"{body.list.1}":                               `{"m":"two"}`,
		"{body.list|count} {body.user|count} {topic|count}": "3 3 0",
		"{body.list|list:m}":                                  "• one\n• two\n• ",
		"{body.nothing|default:some body}":                    "some body",
		"{body.empty|default:}":                               "",
		"{body.zero|default:x}":                               "0",
		"{topic|default:x}":                                   "a.b",
		"{body.ref|after:/} {topic|after:/}":                  "main a.b",
		"{body.ref|first:4} {body.ref|first:99}":              "refs refs/heads/main",
		"{body.ref|short:5} {body.ref|short:15}":              "refs… refs/heads/main",
		"{body.cents|cents} {body.minus|cents} {topic|cents}": "1,234.50 -0.05 a.b",
		"{time} {time|date}":                                  "2001-09-09T01:46:40Z 9 Sep 2001 01:46 UTC",
		"{body.zero|date} {topic|date}":                       "1 Jan 1970 00:00 UTC a.b",
		"{topic|json}{body.none|json}":                        `"a.b"null`,
		"{ body.yes | upper }":                                "TRUE",
	} {
		p, err := Parse(text, "body", "topic", "time", "header")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := p.Expand(look); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"a{":                                     "without a }",
		"a}":                                     "without a {",
		"{}":                                     "a path is made of names",
		"{body..a}":                              "a path is made of names",
		"{body.a b}":                             "a path is made of names",
		"{body.\r\n}":                            "a path is made of names",
		"{env.HOME}":                             "paths begin with one of body, topic",
		"{topic|nope}":                           "there are default, upper",
		"{topic|}":                               "no helper",
		"{topic|upper:x}":                        "takes no argument",
		"{topic|short}":                          "needs an argument",
		"{topic|short:0}":                        "whole number",
		"{topic|short:many}":                     "whole number",
		"{topic|after:}":                         "needs an argument",
		strings.Repeat("x", 4097):                "4097 bytes",
		strings.Repeat("{topic}", 65):            "more than 64",
		"{body" + strings.Repeat(".a", 32) + "}": "more than 32",
		"{topic" + strings.Repeat("|upper", 9) + "}": "at most 8",
		"{topic|" + strings.Repeat("n", 3000) + "}":  "…",
	} {
		_, err := Parse(text, "body", "topic")
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 500 || hark.Faults(err)[0].Kind != hark.Mismatch {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

func TestEscapeTouchesValuesOnly(t *testing.T) {
	p, err := Parse("<{topic}>", "topic")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.ExpandEach(func([]string) any { return "<b>" }, func(s string) string { return strings.ReplaceAll(s, "<", "&lt;") }); got != "<&lt;b>>" {
		t.Error(got)
	}
	if !p.Uses("topic") || p.Uses("body") || (*Template)(nil).Uses("topic") || (*Template)(nil).Expand(nil) != "" {
		t.Error("Uses")
	}
}

// TestBounded: what doubles with each helper does not take the memory.
func TestBounded(t *testing.T) {
	p, err := Parse(strings.Repeat("{body"+strings.Repeat("|json", 8)+"}", MaxPlaceholders), "body")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{strings.Repeat(`"`, 1<<20), []any{strings.Repeat("é", 1<<19)}} {
		if got := p.Expand(func([]string) any { return v }); len(got) > MaxPlaceholders*MaxValue || !utf8.ValidString(got) {
			t.Error(len(got), "bytes")
		}
	}
}

func TestDecimal(t *testing.T) {
	for _, c := range []struct {
		units  string
		digits int
		want   string
	}{{"0", 2, "0.00"}, {"5", 2, "0.05"}, {"123456789", 2, "1,234,567.89"}, {"1000", 0, "1,000"}, {"999", 0, "999"}, {"12345", 3, "12.345"}, {"-100000", 2, "-1,000.00"}, {"007", 0, "7"}, {"0", 0, "0"}} {
		if got, ok := Decimal(c.units, c.digits); !ok || got != c.want {
			t.Errorf("%s/%d: %q", c.units, c.digits, got)
		}
	}
	for _, units := range []string{"", "-", "1.5", "1e9", "x", strings.Repeat("9", 31)} {
		if got, ok := Decimal(units, 2); ok {
			t.Errorf("%q: %q", units, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"{body.a|short:3}", "{{}}", "{topic|default:{|x}", "{body.list|list:m|json|date|cents|after:x}"} {
		f.Add(s)
	}
	look := lookup(f)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text, "body", "topic")
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Fatal("a long error")
			}
			return
		}
		got := p.Expand(look)
		if utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Fatalf("%q", got)
		}
		if len(got) > len(text)+MaxPlaceholders*8*len(payload)*8 {
			t.Fatal(len(got))
		}
	})
}
