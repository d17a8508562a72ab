package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/harkhq/hark"
)

// TestEveryVerbExplainsItself: a help line, an example, and help for each flag.
func TestEveryVerbExplainsItself(t *testing.T) {
	k, err := newParser(new(verbs), new(bytes.Buffer), new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		if n.Type == kong.CommandNode {
			if n.Help == "" || !strings.Contains(n.Detail, "Example") {
				t.Errorf("%s has no help or no example", n.Path())
			}
			for _, group := range n.AllFlags(false) {
				for _, f := range group {
					if f.Help == "" {
						t.Errorf("%s --%s has no help", n.Path(), f.Name)
					}
				}
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(k.Model.Node)
}

func TestMoment(t *testing.T) {
	for text, want := range map[string]time.Duration{"2h": 2 * time.Hour, "1d": 24 * time.Hour, "0s": 0} {
		var m moment
		if err := m.UnmarshalText([]byte(text)); err != nil || (time.Since(m.Time)-want).Abs() > time.Minute {
			t.Error(text, m, err)
		}
	}
	for _, text := range []string{"2026-01-31", "2026-01-31T15:04:05Z", "2026-01-31 15:04", "2026-01-31T15:04:05.5+02:00"} {
		var m moment
		if err := m.UnmarshalText([]byte(text)); err != nil || m.UTC().Format("2006-01") != "2026-01" {
			t.Error(text, m, err)
		}
	}
	for _, text := range []string{"", "yesterday", "-1h", "1.5d", "2026-13-01", "9999999999d"} {
		if err := new(moment).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestChunk(t *testing.T) {
	small := make([]hark.Event, 2500)
	if n := chunk(small); n != hark.MaxBatchEvents {
		t.Error(n)
	}
	large := make([]hark.Event, 20)
	for i := range large {
		large[i].Data = make([]byte, 1<<20)
	}
	if n := chunk(large); n < 4 || n > 6 {
		t.Error(n)
	}
	if n := chunk([]hark.Event{{Data: make([]byte, 9<<20)}}); n != 1 {
		t.Error(n)
	}
}

func TestClosest(t *testing.T) {
	words := []string{"publish", "subscribe", "manage", "admin"}
	for word, want := range map[string]string{"publis": "publish", "subscibe": "subscribe", "mange": "manage", "xyz": "", "": ""} {
		if got := closest(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestSnippetIsHarmless(t *testing.T) {
	for in, want := range map[string]string{"a\n\tb": "a b", "\x1b[31mred\x07": "�[31mred�", "\u009b31m": "�31m", "\xff": "(1 byte, not text)", "aaaaaaaaaaaa": "aaaaaaaaaa…"} {
		if got := snippet([]byte(in), 10); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestTableAlignsAroundColours(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, color: true}
	a.table([]cell{styled(good, "é"), plain("b"), plain("")}, []cell{plain("long"), plain("c"), plain("d")})
	if want := "\x1b[32mé\x1b[0m     b\nlong  c  d\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	a.color = false
	a.facts("name", "", "id", 7)
	if out.String() != "id  7\n" {
		t.Errorf("%q", out.String())
	}
}

func TestTextOfTimesAndSizes(t *testing.T) {
	for d, want := range map[time.Duration]string{5 * time.Millisecond: "5 ms", 90 * time.Second: "90 s", 12 * time.Minute: "12 min", 30 * time.Hour: "30 h", 72 * time.Hour: "3 days"} {
		if got := span(d); got != want {
			t.Error(got, want)
		}
	}
	if got := fmt.Sprintln(bytesText(512), bytesText(1536), bytesText(3<<30)); got != "512 B 1.5 KiB 3.0 GiB\n" {
		t.Error(got)
	}
}
