package message

import (
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/harkhq/hark/internal/template"
)

// Limits of a message, in characters a span, lines and fields.
const (
	MaxTitle  = 300
	MaxLine   = 2000
	MaxLines  = 100
	MaxFields = 12
	maxURL    = 2000
)

// Severity says how a message should look.
type Severity int

// The severities.
const (
	Info Severity = iota
	Good
	Warning
	Bad
)

// Message is what a person reads.
type Message struct {
	// Title is one sentence, which could stand alone.
	Title Line
	// Lines are what there is to read besides; an empty one separates paragraphs.
	Lines []Line
	// Fields are names and values, for looking up rather than reading.
	Fields   []Field
	Severity Severity
	// Footer says where it comes from, in a word or two; it may be empty.
	Footer string
	Time   time.Time
}

// Line is one line of rich text.
type Line []Span

// Span is text of one look. Text is plain: it holds no markup, no control characters
// and no line break. URL is empty, or an http or https URL.
type Span struct {
	Text string
	URL  string
	Bold bool
	Code bool
}

// Field is a name and its value.
type Field struct {
	Name  string
	Value Line
}

// Plain returns the text of a line without its looks.
func (l Line) Plain() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.Text)
	}
	return b.String()
}

// Plain returns the whole message as plain text, for previews.
func (m *Message) Plain() string {
	var b strings.Builder
	b.WriteString(m.Title.Plain())
	for _, l := range m.Lines {
		b.WriteString("\n" + l.Plain())
	}
	for _, f := range m.Fields {
		b.WriteString("\n" + f.Name + ": " + f.Value.Plain())
	}
	return b.String()
}

// line makes a line of texts and spans; empty ones are left out.
func line(parts ...any) Line {
	var l Line
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			l = append(l, Span{Text: p})
		case Span:
			if p.Text != "" {
				l = append(l, p)
			}
		}
	}
	return l
}

func text(s string) Span { return Span{Text: clean(s, MaxTitle)} }

func bold(s string) Span { return Span{Text: clean(s, MaxTitle), Bold: true} }

func code(s string) Span { return Span{Text: clean(s, MaxTitle), Code: true} }

// link makes a link, or plain text where there is no good URL.
func link(s, to string) Span { return Span{Text: clean(s, MaxTitle), URL: goodURL(to)} }

// linked makes a span a link, where there is a good URL.
func (s Span) linked(to string) Span {
	s.URL = goodURL(to)
	return s
}

// goodURL returns the http or https URL in a form that needs no escaping anywhere but
// of &, or "". What a chat app would do with another scheme, nobody knows.
func goodURL(raw string) string {
	if len(raw) > maxURL || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	if strings.Trim(u.Host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") != "" {
		return ""
	}
	return encodeMarkup.Replace(u.String())
}

// encodeMarkup percent-encodes what ends a link in one app's markup or another's.
var encodeMarkup = strings.NewReplacer("(", "%28", ")", "%29", "<", "%3C", ">", "%3E", "|", "%7C", `"`, "%22", "'", "%27",
	"`", "%60", `\`, "%5C", "*", "%2A", "~", "%7E", "^", "%5E", "{", "%7B", "}", "%7D")

// clean makes s one line of at most n characters that shows as what it is.
func clean(s string, n int) string {
	if len(s) > 8*n {
		s = s[:8*n] // more would be cut anyhow
	}
	s = strings.ToValidUTF8(s, "�")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u2028' || r == '\u2029':
			return ' '
		case unicode.IsControl(r), r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069', r == '\u200e', r == '\u200f', r == '\u061c', r == '\ufeff':
			return -1 // what turns the direction of text around shows it as another
		}
		return r
	}, s)
	return template.Short(strings.TrimSpace(s), n)
}

// lines makes lines of a longer text, at most n of them and chars characters in all,
// without empty ones.
func lines(s string, n, chars int) (all []Line) {
	if len(s) > 1<<16 {
		s = s[:1<<16]
	}
	for one := range strings.Lines(s) {
		if one = clean(one, MaxLine); one == "" {
			continue
		}
		if len(all) == n || chars <= 0 {
			last := &all[len(all)-1][0]
			last.Text = strings.TrimSuffix(last.Text, "…") + "…"
			break
		}
		one = template.Short(one, chars)
		chars -= len(one)
		all = append(all, Line{{Text: one}})
	}
	return all
}

// count says how many there are of something.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	text, _ := template.Decimal(template.Text(n), 0)
	return text + " " + many
}
