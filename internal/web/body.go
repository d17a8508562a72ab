package web

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

const (
	// maxShown bounds what a page shows of a body, in bytes; the download has it all.
	maxShown = 256 << 10
	// maxHex bounds the bytes of a hex dump, whose text is 5 times as long.
	maxHex = 32 << 10
	// maxParts bounds the listed parts of a multipart body.
	maxParts = 100
)

// bodyView is a body in the forms that it can be read in.
type bodyView struct {
	Type, Size string
	Bytes      int
	// As is the form shown first: pretty, fields, parts, text or hex; "" for an empty body.
	As    string
	Forms []form

	Pretty []token
	Fields []pair
	Parts  []part
	Text   string
	Hex    string
	// TextCut and HexCut tell that the form ends before the body does.
	PrettyCut, TextCut, HexCut bool
	Encoding                   string // of the content, when it is compressed
}

type form struct {
	ID, Title, Href string
	Current         bool
}

// part is one part of a multipart body.
type part struct{ Name, File, Type, Size string }

func newBody(c *hark.Capture, as string) bodyView {
	b := bodyView{Type: field(c, "Content-Type"), Size: size(len(c.Body)), Bytes: len(c.Body), Encoding: field(c, "Content-Encoding")}
	if len(c.Body) == 0 {
		return b
	}
	kind, params, _ := mime.ParseMediaType(b.Type)
	text := isText(c.Body)
	switch {
	case text && json.Valid(c.Body):
		b.Pretty, b.PrettyCut = formatJSON(c.Body, maxShown)
		b.Forms = append(b.Forms, form{ID: "pretty", Title: "Pretty"})
	case text && kind == "application/x-www-form-urlencoded":
		b.Fields = pairsOf(string(c.Body[:min(len(c.Body), maxShown)]))
		b.Forms = append(b.Forms, form{ID: "fields", Title: "Fields"})
	case strings.HasPrefix(kind, "multipart/"):
		if b.Parts = partsOf(c.Body, params["boundary"]); len(b.Parts) > 0 {
			b.Forms = append(b.Forms, form{ID: "parts", Title: "Parts"})
		}
	}
	if text {
		b.Text, b.TextCut = cutText(c.Body)
		b.Forms = append(b.Forms, form{ID: "text", Title: "Text"})
	}
	b.Hex, b.HexCut = hex.Dump(c.Body[:min(len(c.Body), maxHex)]), len(c.Body) > maxHex
	b.Forms = append(b.Forms, form{ID: "hex", Title: "Hex"})
	b.As = b.Forms[0].ID
	if slices.ContainsFunc(b.Forms, func(f form) bool { return f.ID == as }) {
		b.As = as
	}
	for i := range b.Forms {
		f := &b.Forms[i]
		f.Current, f.Href = f.ID == b.As, "/bins/"+c.Source.String()+"/"+c.ID.String()+"?tab=body&as="+f.ID
	}
	return b
}

// isText reports whether a body can be shown as it is: UTF-8 without control
// characters other than those of text.
func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	return bytes.IndexFunc(b, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' || r == 0x7f
	}) < 0
}

func cutText(b []byte) (string, bool) {
	if len(b) <= maxShown {
		return string(b), false
	}
	return strings.ToValidUTF8(string(b[:maxShown]), ""), true
}

func partsOf(body []byte, boundary string) (parts []part) {
	if boundary == "" || len(boundary) > 200 {
		return nil
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for len(parts) < maxParts {
		p, err := r.NextRawPart()
		if err != nil {
			return parts
		}
		n, err := io.Copy(io.Discard, p)
		if err != nil {
			return parts
		}
		_, given, _ := mime.ParseMediaType(p.Header.Get("Content-Disposition")) // FileName strips the path: we show what was sent
		parts = append(parts, part{p.FormName(), given["filename"], p.Header.Get("Content-Type"), size(int(n))})
	}
	return parts
}

// token is a piece of code with its colour: "k"ey, "s"tring, "n"umber, "l"iteral or none.
type token struct{ Class, Text string }

// maxIndent is the depth after which lines move no further right: what a stranger
// nests must not make a page of blanks.
const maxIndent = 40

// formatJSON lays out valid JSON over lines, each value as it was written. It writes at
// most limit bytes and tells whether there is more.
func formatJSON(src []byte, limit int) (tokens []token, cut bool) {
	f := formatter{limit: limit}
	for i := 0; i < len(src) && !f.full; {
		i += f.next(src[i:])
	}
	f.flush()
	return f.tokens, f.full
}

type formatter struct {
	tokens       []token
	plain        strings.Builder // punctuation and blanks not yet in tokens
	n, limit     int
	open         []byte // '{' and '[' by depth
	wantKey      bool   // the next string is a key
	afterBracket bool
	full         bool
}

// next takes one token off src and returns its length.
func (f *formatter) next(src []byte) int {
	switch c := src[0]; c {
	case ' ', '\t', '\n', '\r':
		return 1
	case '{', '[':
		f.value()
		f.punct(string(c))
		f.open, f.wantKey, f.afterBracket = append(f.open, c), c == '{', true
		return 1
	case '}', ']':
		f.open = f.open[:len(f.open)-1]
		if !f.afterBracket {
			f.newline()
		}
		f.afterBracket, f.wantKey = false, false
		f.punct(string(c))
		return 1
	case ',':
		f.punct(",")
		f.newline()
		f.wantKey = len(f.open) > 0 && f.open[len(f.open)-1] == '{'
		return 1
	case ':':
		f.punct(": ")
		return 1
	case '"':
		f.value()
		n := stringEnd(src)
		class := "s"
		if f.wantKey {
			class, f.wantKey = "k", false
		}
		f.word(class, src[:n])
		return n
	default:
		f.value()
		n := bytes.IndexAny(src, ",]} \t\r\n")
		if n < 0 {
			n = len(src)
		}
		class := "n"
		if unicode.IsLetter(rune(c)) {
			class = "l"
		}
		f.word(class, src[:n])
		return n
	}
}

// value begins a value, on a line of its own when it is the first of its brackets.
func (f *formatter) value() {
	if f.afterBracket {
		f.newline()
		f.afterBracket = false
	}
}

func (f *formatter) newline() {
	f.punct("\n" + strings.Repeat("  ", min(len(f.open), maxIndent)))
}

func (f *formatter) punct(s string) {
	if f.take(len(s)) == len(s) {
		f.plain.WriteString(s)
	}
}

func (f *formatter) word(class string, text []byte) {
	text = text[:f.take(len(text))]
	if len(text) == 0 {
		return
	}
	f.flush()
	f.tokens = append(f.tokens, token{class, strings.ToValidUTF8(string(text), "\uFFFD")})
}

// take grants at most n bytes of what is left.
func (f *formatter) take(n int) int {
	if left := f.limit - f.n; n > left {
		n, f.full = left, true
	}
	f.n += n
	return n
}

func (f *formatter) flush() {
	if f.plain.Len() > 0 {
		f.tokens = append(f.tokens, token{"", f.plain.String()})
		f.plain.Reset()
	}
}

// stringEnd is the length of the string that src begins with.
func stringEnd(src []byte) int {
	for i := 1; i < len(src); i++ {
		switch src[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(src)
}

// raw is a request as text: the head exactly as it was sent, then the body.
type raw struct {
	Lines []rawLine
	Body  string
	Cut   bool
	// Binary tells that the body cannot be shown as text; Made, that there is no head as
	// text (HTTP/2) and this one was written from the fields.
	Binary, Made bool
}

// rawLine is a line of the head; Value is what is covered of it.
type rawLine struct{ Text, Value string }

func newRaw(c *hark.Capture) raw {
	r := raw{Made: len(c.Head) == 0}
	if r.Made {
		r.Lines = append(r.Lines, rawLine{Text: c.Method + " " + c.Target + " " + c.Proto})
		for _, f := range c.Header {
			r.line(f.Name + ": " + f.Value)
		}
	} else {
		for line := range strings.SplitSeq(strings.TrimRight(string(c.Head), "\r\n"), "\n") {
			r.line(strings.TrimSuffix(line, "\r"))
		}
	}
	if isText(c.Body) {
		r.Body, r.Cut = cutText(c.Body)
	} else {
		r.Binary = true
	}
	return r
}

func (r *raw) line(text string) {
	text = strings.ToValidUTF8(text, "\uFFFD")
	name, value, ok := strings.Cut(text, ":")
	if ok && len(r.Lines) > 0 && isCredential(name) {
		r.Lines = append(r.Lines, rawLine{name + ": ", strings.TrimPrefix(value, " ")})
		return
	}
	r.Lines = append(r.Lines, rawLine{Text: text})
}
