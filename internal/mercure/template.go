package mercure

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Templates are tested in the one loop that feeds all live streams, against topics
// that others choose. So a test takes time in proportion to the topic, with a small
// factor, and allocates nothing.
const (
	maxTemplateBytes = 1024
	maxTemplateVars  = 32
)

// template tells whether a text could be what a URI template (RFC 6570) expands to.
type template struct{ parts []templatePart }

// templatePart is a literal, or an expression where that is empty.
type templatePart struct {
	literal string
	// An expression is nothing at all, or first, then an item, then at most most more
	// items after a sep each. Items are runs of characters of one and of more, perhaps
	// empty. A most of less than 0 is any number.
	first, sep string
	one, more  class
	most       int
}

// class is a set of ASCII characters. Each may also come percent-encoded.
type class [2]uint64

func classOf(chars string) (c class) {
	for i := range len(chars) {
		c[chars[i]>>6] |= 1 << (chars[i] & 63)
	}
	return c
}

func (c class) with(other class) class { return class{c[0] | other[0], c[1] | other[1]} }

func (c *class) has(b byte) bool { return b < 0x80 && c[b>>6]>>(b&63)&1 != 0 }

// The classes of RFC 6570 section 1.5.
var (
	unreserved = classOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
	reserved   = classOf(":/?#[]@!$&'()*+,;=")
)

// parseTemplate returns nil for what is no template: it is meant literally. It fails
// for one that is too large.
func parseTemplate(field, text string) (*template, error) {
	if !strings.Contains(text, "{") {
		return nil, nil
	}
	if len(text) > maxTemplateBytes || strings.Count(text, "{")+strings.Count(text, ",") > maxTemplateVars {
		return nil, bad(field, fmt.Sprintf("a URI template has at most %d bytes and %d variables", maxTemplateBytes, maxTemplateVars))
	}
	t := &template{}
	for text != "" {
		literal, rest, isExpression := strings.Cut(text, "{")
		if !isLiteral(literal) {
			return nil, nil
		}
		if literal != "" {
			t.parts = append(t.parts, templatePart{literal: literal})
		}
		if !isExpression {
			break
		}
		inner, rest, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, nil
		}
		part, ok := parseExpression(inner)
		if !ok {
			return nil, nil
		}
		t.parts = append(t.parts, part)
		text = rest
	}
	return t, nil
}

// isLiteral: RFC 6570 section 2.1, with the apostrophe that its erratum 6937 adds.
func isLiteral(s string) bool {
	for i, r := range s {
		switch {
		case r == '%':
			if i+2 >= len(s) || !isAnyHex(s[i+1]) || !isAnyHex(s[i+2]) {
				return false
			}
		case r <= 0x20 || strings.ContainsRune("\"<>\\^`{|}", r) || r >= 0x7f && r < 0xa0:
			return false
		case r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe || r >= 0xfff0 && r <= 0xffff || r >= 0xe0000 && r < 0xe1000 || r == utf8.RuneError:
			return false
		}
	}
	return true
}

func isAnyHex(c byte) bool { return isHex(c) || c >= 'A' && c <= 'F' }

// parseExpression reads what is between braces: RFC 6570 section 2.2.
func parseExpression(s string) (templatePart, bool) {
	p := templatePart{sep: ",", one: unreserved}
	named := false
	if s != "" && strings.IndexByte("+#./;?&", s[0]) >= 0 {
		switch op := s[:1]; op {
		case "+", "#":
			p.one = unreserved.with(reserved)
			p.first = strings.TrimPrefix(op, "+")
		case ".", "/":
			p.first, p.sep = op, op
		case ";":
			p.first, p.sep, named = op, op, true
		case "?", "&":
			p.first, p.sep, named = op, "&", true
		}
		s = s[1:]
	}
	exploded := false
	equals := named
	for i, spec := range strings.Split(s, ",") {
		explode, ok := checkVariable(spec)
		if !ok {
			return p, false
		}
		equals = equals || explode && i == 0
		exploded = exploded || explode
		p.most = i
	}
	p.one = p.one.with(classOf(","))
	p.more = p.one
	if equals {
		p.one = p.one.with(classOf("="))
	}
	switch {
	case exploded: // then the items after the first are any characters and separators
		p.most, p.more = -1, p.more.with(classOf("="+p.sep))
	case p.one.has(p.sep[0]): // a run has the separators in it
		p.most = 0
	default:
		p.more = p.one
	}
	return p, true
}

// checkVariable reads a varspec.
func checkVariable(s string) (explode, ok bool) {
	name, explode := strings.CutSuffix(s, "*")
	if before, prefix, is := strings.Cut(name, ":"); is && !explode {
		if len(prefix) < 1 || len(prefix) > 4 || prefix[0] == '0' || strings.Trim(prefix, "0123456789") != "" {
			return false, false
		}
		name = before
	}
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.':
			if i == 0 || i == len(name)-1 || name[i-1] == '.' {
				return false, false
			}
		case c == '%':
			if i+2 >= len(name) || !isAnyHex(name[i+1]) || !isAnyHex(name[i+2]) {
				return false, false
			}
			i += 2
		case c != '_' && (!isPlain(c) || c == '-'):
			return false, false
		}
	}
	return explode, name != ""
}

// places are positions in a topic, as bits.
type places [MaxTopicBytes/64 + 1]uint64

func (p *places) add(i int) { p[i>>6] |= 1 << (i & 63) }

func (p *places) has(i int) bool { return p[i>>6]>>(i&63)&1 != 0 }

// after returns the places behind s, at those of p.
func (p *places) after(t, s string) (q places, some bool) {
	for i := 0; i+len(s) <= len(t); i++ {
		if p[i>>6] == 0 {
			i |= 63
			continue
		}
		if p.has(i) && t[i:i+len(s)] == s {
			q.add(i + len(s))
			some = true
		}
	}
	return q, some
}

// run adds the places that characters of c lead to.
func (p *places) run(t string, c *class) {
	for i := 0; i < len(t); i++ {
		switch {
		case p[i>>6] == 0:
			i |= 63
		case !p.has(i):
		case c.has(t[i]):
			p.add(i + 1)
		case t[i] == '%' && i+2 < len(t) && isAnyHex(t[i+1]) && isAnyHex(t[i+2]):
			p.add(i + 3)
		}
	}
}

func (p *places) or(q *places) {
	for i := range p {
		p[i] |= q[i]
	}
}

// match keeps the places that the parts so far could have come to.
func (t *template) match(topic string) bool {
	last := &t.parts[len(t.parts)-1]
	if len(topic) > MaxTopicBytes || !strings.HasSuffix(topic, last.literal) {
		return false
	}
	at, some := places{1}, true
	for i := range t.parts {
		p := &t.parts[i]
		if p.literal == "" {
			p.expand(&at, topic)
		} else if at, some = at.after(topic, p.literal); !some {
			return false
		}
	}
	return at.has(len(topic))
}

// expand adds to at what an expression could have come to from there.
func (p *templatePart) expand(at *places, topic string) {
	q, some := *at, true
	if p.first != "" {
		if q, some = at.after(topic, p.first); !some {
			return
		}
	}
	q.run(topic, &p.one)
	at.or(&q)
	for n := p.most; n != 0; n-- {
		if q, some = q.after(topic, p.sep); !some {
			return
		}
		q.run(topic, &p.more)
		at.or(&q)
		if n < 0 {
			return // the run had the other separators in it
		}
	}
}
