package hark

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

var jsonSeeds = []string{``, ` `, `{}`, `[]`, ` [1 , -0, 0.5, 1e9, -1.25E-3, 0e+0] `, `01`, `-`, `1.`, `.5`, `1e`, `+1`, `0x1`, `--1`,
	`"a\u00e9\n\/\\\""`, `"\u12"`, `"\x"`, `"` + "\n" + `"`, `"a`, `"\`, `true`, `tru`, `nulll`, `null null`, `[1,]`, `[,1]`, `[1 2]`, `{"a"}`, `{"a":}`,
	`{"a":1,}`, `{a:1}`, `{"a":1 "b":2}`, `{"a":{"b":[{}]}}`, `[}`, `{]`, `[`, `{`, "\"\xff\"", "\ufeff1", "1\x00", `{"a":1}x`, `"` + "\x7f" + `"`}

func TestValidJSON(t *testing.T) {
	seeds := jsonSeeds
	for _, depth := range []int{9999, 10000, 10001} {
		seeds = append(seeds, strings.Repeat("[", depth)+strings.Repeat("]", depth), strings.Repeat("[", depth), strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth))
	}
	for _, s := range seeds {
		if got, want := validJSON([]byte(s)), utf8.ValidString(s) && json.Valid([]byte(s)); got != want {
			t.Errorf("%.40q: %v, want %v", s, got, want)
		}
	}
}

func FuzzValidJSON(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := validJSON(b), utf8.Valid(b) && json.Valid(b); got != want {
			t.Fatalf("%q: %v, want %v", b, got, want)
		}
	})
}

func BenchmarkValidJSON(b *testing.B) {
	one := []byte(`{"id":12345,"name":"Some Name","tags":["a","b"],"amount":12.50,"note":"a longer text without any escape at all"},`)
	text := append(append([]byte("["), bytes.TrimSuffix(bytes.Repeat(one, 5), []byte(","))...), ']')
	for name, valid := range map[string]func([]byte) bool{"hark": validJSON, "encoding": json.Valid} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if !valid(text) {
					b.Fatal("invalid")
				}
			}
		})
	}
}
