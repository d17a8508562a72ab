package message

import (
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/template"
)

// Roots are what a template's paths begin with.
var Roots = []string{"body", "topic", "id", "key", "time", "received", "source", "content_type", "attributes"}

// Template is an owner's own wording. Its first line is the title, and the others are
// lines; it may hold **bold**, `code` and [text](url), and placeholders in all of them.
// A backslash takes the meaning from the character after it. What is put in for a
// placeholder is plain text, whatever it holds; a line break in it begins a new line.
type Template struct{ lines [][]span }

// span is a part of a line, of one look.
type span struct {
	text *template.Template
	url  *template.Template
	bold bool
	code bool
}

// Parse reads a template; its error is one of a setting without a field.
func Parse(text string) (*Template, error) {
	if strings.TrimSpace(text) == "" {
		return nil, hark.Invalidf("", "the template is empty: leave it out for the built-in wording")
	}
	// The placeholders of the whole count together.
	if _, err := ParseLine(strings.ReplaceAll(text, `\`, "")); err != nil {
		return nil, err
	}
	t := &Template{}
	for one := range strings.Lines(text) {
		spans, err := parseSpans(strings.TrimRight(one, "\r\n"))
		if err != nil {
			return nil, err
		}
		t.lines = append(t.lines, spans)
	}
	return t, nil
}

// ParseLine reads a template without markup, such as that of a thread's key.
func ParseLine(text string) (*template.Template, error) { return template.Parse(text, Roots...) }

// looks is the markup of one line being read.
type looks struct {
	spans   []span
	literal strings.Builder
	bold    bool
}

func parseSpans(s string) ([]span, error) {
	var l looks
	for len(s) > 0 {
		var err error
		if s, err = l.next(s); err != nil {
			return nil, err
		}
	}
	return l.spans, l.end()
}

// next reads one thing from the front of s and returns the rest.
func (l *looks) next(s string) (string, error) {
	switch {
	case s[0] == '\\' && len(s) > 1 && strings.ContainsRune("\\*`[]()", rune(s[1])):
		l.literal.WriteByte(s[1])
		return s[2:], nil
	case s[0] == '{' && !strings.HasPrefix(s, "{{"):
		// A placeholder's own text is no markup.
		i := strings.IndexByte(s, '}')
		if i < 0 {
			i = len(s) - 1 // the template's parser says so
		}
		l.literal.WriteString(s[:i+1])
		return s[i+1:], nil
	case strings.HasPrefix(s, "**") && (l.bold || closes(s[2:], "**") > 0):
		err := l.end()
		l.bold = !l.bold
		return s[2:], err
	case s[0] == '`':
		if i := closes(s[1:], "`"); i > 0 {
			return s[i+2:], l.add(s[1:i+1], "", true)
		}
	case s[0] == '[':
		if i := closes(s[1:], "]("); i > 0 {
			rest := s[i+3:]
			if j := closes(rest, ")"); j > 0 {
				return rest[j+1:], l.add(s[1:i+1], rest[:j], false)
			}
		}
	}
	l.literal.WriteByte(s[0])
	return s[1:], nil
}

// closes finds the end of a markup outside placeholders; -1 for none.
func closes(s, end string) int {
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], end):
			return i
		case s[i] == '{':
			j := strings.IndexByte(s[i:], '}')
			if j < 0 {
				return -1
			}
			i += j
		}
	}
	return -1
}

// end makes a span of the literal text so far.
func (l *looks) end() error {
	if l.literal.Len() == 0 {
		return nil
	}
	t, err := ParseLine(l.literal.String())
	l.spans = append(l.spans, span{text: t, bold: l.bold})
	l.literal.Reset()
	return err
}

func (l *looks) add(text, url string, code bool) error {
	if err := l.end(); err != nil {
		return err
	}
	s := span{bold: l.bold, code: code}
	var err error
	if s.text, err = ParseLine(text); err == nil && url != "" {
		s.url, err = ParseLine(url)
	}
	l.spans = append(l.spans, s)
	return err
}

// Of says what e is, in the template's words.
func (t *Template) Of(e *hark.Event) *Message {
	look := Lookup(e)
	var all []Line
	for _, spans := range t.lines {
		l := Line{}
		for i := range spans {
			s := &spans[i]
			to := ""
			if s.url != nil {
				to = goodURL(s.url.Expand(look))
			}
			for i, text := range strings.Split(s.text.Expand(look), "\n") {
				if i > 0 && len(all) < MaxLines {
					all, l = append(all, l), Line{}
				}
				if text = cleanInside(text); text != "" {
					l = append(l, Span{Text: text, URL: to, Bold: s.bold, Code: s.code})
				}
			}
		}
		if all = append(all, l); len(all) > MaxLines {
			break
		}
	}
	return (&Message{Title: all[0], Lines: all[1:]}).finish(e)
}

// cleanInside is clean that keeps the spaces around, which join one span to the next.
func cleanInside(s string) string {
	const edge = "x"
	s = clean(edge+s+edge, MaxLine+2)
	return strings.TrimSuffix(strings.TrimPrefix(s, edge), edge)
}

// Lookup finds what paths of a template stand for in e. The body is parsed when it is
// first asked for; of what is no JSON or form, {body} is the text.
func Lookup(e *hark.Event) template.Lookup {
	var p *payload
	return func(path []string) any {
		rest := path[1:]
		switch path[0] {
		case "body":
			if p == nil {
				p = parse(e)
			}
			if p.body == nil && len(rest) == 0 && !hark.IsJSON(e.ContentType) {
				return strings.ToValidUTF8(string(e.Data), "�")
			}
			return template.Walk(p.body, rest)
		case "attributes":
			if len(rest) == 0 {
				return nil
			}
			return template.Walk(e.Attributes, []string{strings.Join(rest, ".")})
		}
		if len(rest) > 0 {
			return nil
		}
		switch path[0] {
		case "topic":
			return e.Topic
		case "id":
			return e.ID.String()
		case "key":
			return e.Key
		case "time":
			if e.Time.IsZero() {
				return e.Received
			}
			return e.Time
		case "received":
			return e.Received
		case "source":
			return e.Source
		case "content_type":
			return e.ContentType
		}
		return nil
	}
}
