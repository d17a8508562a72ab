package template

import (
	"fmt"
	"slices"
	"strings"

	"github.com/harkhq/hark"
)

// Limits of a template.
const (
	MaxBytes        = 4096
	MaxPlaceholders = 64
	maxNames        = 32 // of one path
	maxHelpers      = 8  // of one placeholder
	// MaxValue bounds, in bytes, the text of one placeholder: the rest is cut off.
	MaxValue = 64 << 10
)

// Lookup finds the value of a path, nil for none. Values are what encoding/json makes
// (with numbers as json.Number or float64), and times as [time.Time]. The first name
// is one of the roots that were given to [Parse]; the slice is not to be kept.
type Lookup func(path []string) any

// Template is a parsed text. It is safe for concurrent use. The zero value is empty.
type Template struct{ parts []part }

// part is literal text, or a placeholder when there is a path.
type part struct {
	literal string
	path    []string
	helpers []applied
}

type applied struct {
	fn  func(v any, arg string) any
	arg string
}

// Parse reads a template whose paths begin with one of roots. Its error names the
// place and the fix; it is a *hark.Error of kind Mismatch without a field.
func Parse(text string, roots ...string) (*Template, error) {
	if len(text) > MaxBytes {
		return nil, bad("has %d bytes and the limit is %d", len(text), MaxBytes)
	}
	t := &Template{}
	var literal strings.Builder
	placeholders := 0
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c != '{' && c != '}':
			literal.WriteByte(c)
			i++
		case i+1 < len(text) && text[i+1] == c:
			literal.WriteByte(c)
			i += 2
		case c == '}':
			return nil, bad("has a } without a { at character %d; write }} for the brace itself", i+1)
		default:
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return nil, bad("has a { without a } at character %d; write {{ for the brace itself", i+1)
			}
			p, err := parsePlaceholder(text[i+1:i+end], roots)
			if err != nil {
				return nil, err
			}
			if placeholders++; placeholders > MaxPlaceholders {
				return nil, bad("has more than %d placeholders", MaxPlaceholders)
			}
			if literal.Len() > 0 {
				t.parts = append(t.parts, part{literal: literal.String()})
				literal.Reset()
			}
			t.parts = append(t.parts, p)
			i += end + 1
		}
	}
	if literal.Len() > 0 {
		t.parts = append(t.parts, part{literal: literal.String()})
	}
	return t, nil
}

func bad(format string, args ...any) error {
	return hark.Invalidf("", "the template "+fmt.Sprintf(format, args...))
}

func parsePlaceholder(text string, roots []string) (part, error) {
	path, rest, more := strings.Cut(text, "|")
	p := part{path: strings.Split(strings.TrimSpace(path), ".")}
	if len(p.path) > maxNames {
		return part{}, bad("has a path of more than %d names", maxNames)
	}
	for _, name := range p.path {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isNameRune(r) }) {
			return part{}, bad("has {%s}: a path is made of names with single dots between them, such as {body.id}", clip(text))
		}
	}
	if !slices.Contains(roots, p.path[0]) {
		return part{}, bad("has {%s}: paths begin with one of %s", clip(text), strings.Join(roots, ", "))
	}
	for more {
		var call string
		call, rest, more = strings.Cut(rest, "|")
		name, arg, hasArg := strings.Cut(call, ":")
		i := slices.IndexFunc(helpers, func(h Helper) bool { return h.Name == strings.TrimSpace(name) })
		if i < 0 {
			return part{}, bad("has no helper %q; there are %s", clip(name), helperNames())
		}
		h := &helpers[i]
		if why := h.checkArg(arg, hasArg); why != "" {
			return part{}, bad("has {%s}: %s", clip(text), why)
		}
		if len(p.helpers) == maxHelpers {
			return part{}, bad("has {%s}: at most %d helpers", clip(text), maxHelpers)
		}
		p.helpers = append(p.helpers, applied{h.apply, arg})
	}
	return p, nil
}

func isNameRune(r rune) bool {
	return r == '_' || r == '-' || r == '$' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
}

// Expand returns the text with every placeholder replaced.
func (t *Template) Expand(lookup Lookup) string { return t.ExpandEach(lookup, nil) }

// ExpandEach is Expand that passes what replaces a placeholder through escape first:
// literal text of the template's owner is not escaped, a stranger's values are.
func (t *Template) ExpandEach(lookup Lookup, escape func(string) string) string {
	if t == nil {
		return ""
	}
	if len(t.parts) == 1 && t.parts[0].path == nil {
		return t.parts[0].literal
	}
	var b strings.Builder
	for i := range t.parts {
		p := &t.parts[i]
		if p.path == nil {
			b.WriteString(p.literal)
			continue
		}
		text, _ := bounded(Text(p.value(lookup))).(string)
		if escape != nil {
			text = escape(text)
		}
		b.WriteString(text)
	}
	return b.String()
}

func (p *part) value(lookup Lookup) any {
	v := lookup(p.path)
	for _, h := range p.helpers {
		v = bounded(h.fn(v, h.arg)) // json of json of json grows
	}
	return v
}

// bounded cuts what would be a long text.
func bounded(v any) any {
	text, ok := v.(string)
	if !ok {
		switch v.(type) {
		case []any, map[string]any:
			return v // it may yet be counted or listed
		}
		text = Text(v)
	}
	if len(text) <= MaxValue {
		return v
	}
	return strings.ToValidUTF8(text[:MaxValue], "")
}

// Uses reports whether a placeholder begins with that root: whether, say, a body must
// be parsed at all.
func (t *Template) Uses(root string) bool {
	return t != nil && slices.ContainsFunc(t.parts, func(p part) bool { return p.path != nil && p.path[0] == root })
}
