package ingest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// Bounds of templates and of what they make.
const (
	maxTemplate   = 1024 // bytes of one
	maxParts      = 32   // texts and placeholders of one
	maxPathDepth  = 16   // members and elements on the way to a value in the body
	maxValue      = 1024 // bytes of one value
	maxTopicValue = 8    // tokens that one value may add to a topic
	// missing stands in a topic for a value that the request does not have.
	missing = "unknown"
)

// kind says where a placeholder's value comes from.
type kind uint8

const (
	literal kind = iota
	fromHeader
	fromQuery
	fromBody
	fromMethod
	fromPath
	fromSource
)

// part is a piece of a template.
type part struct {
	kind kind
	text string // the literal, or the name
	slot int    // of a value in the body
}

// template is text with placeholders, parsed once a revision of its source.
type template struct{ parts []part }

// hidden are headers that carry credentials: events are shown to destinations, so no
// template copies one.
var hidden = []string{"Authorization", "Proxy-Authorization", "Cookie"}

// CheckTemplate tells whether text is a template for a field of a source: "topic",
// "key", or an attribute's. A template is text with placeholders:
//
//	{header.NAME}  the first value of a request header
//	{query.NAME}   the first value of a query parameter
//	{body.a.b.0}   a string, number or boolean in a JSON body, by member names and
//	               element numbers; in a form body a field, and what follows its name
//	               leads on into the JSON in it
//	{method}       the request's method
//	{path}         what follows the token in the URL
//	{source}       the source's id
//
// A brace is written twice. In a topic, each value becomes tokens: dots (and in a path,
// slashes) separate them, every other character outside [A-Za-z0-9_-] becomes "_", and a value that is
// missing or empty becomes "unknown". A value adds at most 8 tokens. A topic never begins with the
// token "hark". A key or attribute for which no placeholder has a value is left out.
func CheckTemplate(field, text string) error {
	_, err := parseTemplate(field, text, &values{})
	return err
}

// CheckTemplates checks topic, key and attributes of a source, with all faults joined.
func CheckTemplates(d *hark.Source) error {
	_, err := parseTemplates(d, "")
	return err
}

// templates are all of a source.
type templates struct {
	topic, key *template // nil for none
	attributes []namedTemplate
	values     values // what they need of the body
}

type namedTemplate struct {
	name string
	*template
}

func parseTemplates(d *hark.Source, otherwise string) (*templates, error) {
	t := &templates{}
	var errs []error
	parse := func(field, text string) *template {
		if text == "" {
			return nil
		}
		tmpl, err := parseTemplate(field, text, &t.values)
		errs = append(errs, err)
		return tmpl
	}
	topic := d.Topic
	if topic == "" {
		topic = otherwise
	}
	t.topic, t.key = parse("topic", topic), parse("key", d.Key)
	if len(d.Attributes) > maxParts {
		errs = append(errs, hark.Invalidf("attributes", fmt.Sprintf("at most %d templates", maxParts)))
		return t, errors.Join(errs...)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		if name == "" || len(name) > 64 || cleanText(name) != name {
			errs = append(errs, hark.Invalidf("attributes", fmt.Sprintf("%q: a name has 1 to 64 bytes of UTF-8 without control characters", clip(name))))
			continue
		}
		if tmpl := parse("attributes."+name, d.Attributes[name]); tmpl != nil {
			t.attributes = append(t.attributes, namedTemplate{name, tmpl})
		}
	}
	return t, errors.Join(errs...)
}

func parseTemplate(field, text string, body *values) (*template, error) {
	bad := func(format string, args ...any) (*template, error) {
		return nil, hark.Invalidf(field, "is not a template: "+fmt.Sprintf(format, args...))
	}
	if len(text) > maxTemplate {
		return bad("it has %d bytes and the limit is %d", len(text), maxTemplate)
	}
	if cleanText(text) != text {
		return bad("it must be UTF-8 without control characters")
	}
	t := &template{}
	for rest := text; rest != ""; {
		if len(t.parts) == maxParts {
			return bad("it has more than %d parts", maxParts)
		}
		var lit string
		if lit, rest = cutLiteral(rest); lit != "" {
			t.parts = append(t.parts, part{kind: literal, text: lit})
			continue
		}
		if rest[0] == '}' {
			return bad(`a "}" has no "{" before it; to mean the brace itself, write it twice`)
		}
		name, more, ok := strings.Cut(rest[1:], "}")
		if !ok {
			return bad(`%q has no "}"`, clip(rest))
		}
		p, why := parsePlaceholder(name, body)
		if why != "" {
			return bad("{%s}: %s", clip(name), why)
		}
		t.parts = append(t.parts, p)
		rest = more
	}
	if field == "topic" {
		if why := t.checkTopic(); why != "" {
			return bad("%s", why)
		}
	}
	return t, nil
}

// cutLiteral splits what stands before the next placeholder, with double braces undone, from the rest.
func cutLiteral(s string) (lit, rest string) {
	var b strings.Builder
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			b.WriteString(s)
			return b.String(), ""
		}
		b.WriteString(s[:i])
		s = s[i:]
		if len(s) < 2 || s[1] != s[0] {
			break
		}
		b.WriteByte(s[0])
		s = s[2:]
	}
	return b.String(), s
}

func parsePlaceholder(name string, body *values) (p part, why string) {
	const known = "placeholders are {header.NAME}, {query.NAME}, {body.a.b.0}, {method}, {path} and {source}"
	switch name {
	case "method":
		return part{kind: fromMethod}, ""
	case "path":
		return part{kind: fromPath}, ""
	case "source":
		return part{kind: fromSource}, ""
	}
	from, what, _ := strings.Cut(name, ".")
	switch from {
	case "header":
		if !isHeaderName(what) {
			return p, "write the name of a header behind the dot, such as {header.X-GitHub-Event}"
		}
		what = textproto.CanonicalMIMEHeaderKey(what)
		if slices.Contains(hidden, what) {
			return p, "this header carries credentials, and events are shown to destinations"
		}
		return part{kind: fromHeader, text: what}, ""
	case "query":
		if what == "" {
			return p, "write the name of a query parameter behind the dot"
		}
		return part{kind: fromQuery, text: what}, ""
	case "body":
		path := strings.Split(what, ".")
		if slices.Contains(path, "") {
			return p, "write member names and element numbers, separated by single dots, such as {body.repository.name}"
		}
		if len(path) > maxPathDepth {
			return p, fmt.Sprintf("it goes deeper than %d levels", maxPathDepth)
		}
		return part{kind: fromBody, text: what, slot: body.add(path)}, ""
	}
	return p, known
}

func isHeaderName(s string) bool {
	for i := range len(s) {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

// isTokenChar reports whether c may stand in a method or header name, RFC 9110 section 5.6.2.
func isTokenChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// checkTopic checks a topic with every value in place.
func (t *template) checkTopic() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.kind == literal {
			b.WriteString(p.text)
		} else {
			b.WriteByte('x')
		}
	}
	if err := hark.CheckTopic(b.String()); err != nil {
		var he *hark.Error
		errors.As(err, &he)
		return he.Msg
	}
	if len(t.parts) > 0 && t.parts[0].kind == literal && hark.IsReserved(b.String()) {
		return `topics that begin with "hark." are Hark's own`
	}
	return ""
}

// lookup is where placeholders find their values.
type lookup struct {
	header       http.Header
	host         string
	query        string
	body         []string // by slot
	method, path string
	source       string
}

func (p *part) value(in *lookup) string {
	switch p.kind {
	case literal:
		return p.text
	case fromHeader:
		if p.text == "Host" {
			return in.host
		}
		if values := in.header[p.text]; len(values) > 0 {
			return values[0]
		}
		return ""
	case fromQuery:
		return queryValue(in.query, p.text)
	case fromBody:
		return in.body[p.slot]
	case fromMethod:
		return in.method
	case fromPath:
		return strings.TrimPrefix(in.path, "/")
	}
	return in.source
}

// text renders a key or attribute of at most limit bytes; "" when no placeholder has a value.
func (t *template) text(in *lookup, limit int) string {
	if len(t.parts) == 1 { // the commonest: one value and nothing else
		return cut(cleanText(t.parts[0].value(in)), limit)
	}
	var b strings.Builder
	placeholders, found := 0, 0
	for i := range t.parts {
		p := &t.parts[i]
		v := p.value(in)
		if p.kind != literal {
			placeholders++
			if v != "" {
				found++
			}
		}
		b.WriteString(cut(v, maxValue))
	}
	if placeholders > 0 && found == 0 {
		return ""
	}
	return cut(cleanText(b.String()), limit)
}

// render makes a topic, which [hark.CheckTopic] takes whatever the request holds.
func (t *template) render(in *lookup) string {
	b := make([]byte, 0, 64)
	for i := range t.parts {
		p := &t.parts[i]
		if p.kind == literal {
			b = append(b, p.text...)
			continue
		}
		before := len(b)
		if b = appendTokens(b, p.value(in), p.kind == fromPath); len(b) == before {
			b = append(b, missing...)
		}
	}
	return fitTopic(string(b))
}

// appendTokens appends what a value adds to a topic.
func appendTokens(b []byte, value string, slashes bool) []byte {
	start, dots, pending := len(b), 0, false
	for _, c := range cut(value, hark.MaxTopicBytes) {
		switch {
		case c == '.' || slashes && c == '/':
			pending = len(b) > start // no empty tokens
			continue
		case c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
		default:
			c = '_'
		}
		if pending {
			pending = false
			if dots++; dots < maxTopicValue {
				b = append(b, '.')
			} else {
				b = append(b, '_')
			}
		}
		b = append(b, byte(c))
	}
	return b
}

// fitTopic cuts what values made too long, and keeps out of what is Hark's own.
func fitTopic(topic string) string {
	first, _, _ := strings.Cut(topic, ".")
	if first == hark.ReservedToken {
		topic = "_" + topic
	}
	for i, n := 0, 1; i < len(topic); i++ {
		if topic[i] != '.' {
			continue
		}
		if n++; n > hark.MaxTopicTokens {
			topic = topic[:i]
		}
	}
	if len(topic) > hark.MaxTopicBytes {
		topic = strings.TrimRight(topic[:hark.MaxTopicBytes], ".")
	}
	return topic
}

// cleanText replaces control characters by spaces and broken UTF-8 by U+FFFD.
func cleanText(s string) string {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f || c >= utf8.RuneSelf {
			return strings.Map(func(r rune) rune {
				if r < 0x20 || r >= 0x7f && r < 0xa0 {
					return ' '
				}
				return r
			}, s)
		}
	}
	return s
}

// cut shortens s to at most n bytes of whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func clip(s string) string { return strconv.Quote(cut(s, 48)) }
