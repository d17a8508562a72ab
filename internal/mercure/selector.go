package mercure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/harkhq/hark"
)

const (
	// MaxSelectors is how many a subscription may hold.
	MaxSelectors = 128
	maxClaimed   = 256
)

// Selector says which topics are meant: "*" every Mercure topic, hark:<pattern>
// Hark's own, a URI template (RFC 6570) what it can expand to, and any string itself.
type Selector struct {
	text     string
	template *template
	native   hark.Pattern
}

// ParseSelector reads a selector. What is no URI template is meant literally, as
// hubs do; field names it in errors.
func ParseSelector(field, text string) (Selector, error) {
	if err := checkTopic(field, text); err != nil {
		return Selector{}, err
	}
	s := Selector{text: text}
	if p, ok := native(text); ok {
		if err := hark.CheckPattern(hark.Pattern(p)); err != nil {
			return Selector{}, bad(field, "after \"hark:\" a topic or pattern of Hark is expected: "+err.Error())
		}
		s.native = hark.Pattern(p)
		return s, nil
	}
	var err error
	s.template, err = parseTemplate(field, text)
	return s, err
}

// String returns the selector as it was written.
func (s *Selector) String() string { return s.text }

func (s *Selector) isAll() bool { return s.text == "*" }

// isExact reports whether s means one topic and nothing else.
func (s *Selector) isExact() bool { return !s.isAll() && s.template == nil && s.native == "" }

// Match reports whether s means the topic t.
func (s *Selector) Match(t string) bool {
	if name, ok := native(t); ok {
		return s.native != "" && s.native.Match(name)
	}
	return s.isAll() || s.text == t || s.template != nil && s.template.match(t)
}

// Selectors mean what one of them means.
type Selectors []Selector

// ParseSelectors reads a list, each only once.
func ParseSelectors(field string, texts []string) (Selectors, error) {
	return parseSelectors(field, texts, MaxSelectors)
}

func parseSelectors(field string, texts []string, most int) (Selectors, error) {
	if len(texts) > most {
		return nil, bad(field, fmt.Sprintf("there are %d of them, and at most %d are taken", len(texts), most))
	}
	ss := make(Selectors, 0, len(texts))
	for i, text := range texts {
		if slices.Contains(texts[:i], text) {
			continue
		}
		s, err := ParseSelector(field, text)
		if err != nil {
			return nil, err
		}
		ss = append(ss, s)
	}
	return ss, nil
}

// Match reports whether a selector means t.
func (ss Selectors) Match(t string) bool {
	return slices.ContainsFunc(ss, func(s Selector) bool { return s.Match(t) })
}

// MatchAny reports whether a selector means one of topics.
func (ss Selectors) MatchAny(topics []string) bool { return slices.ContainsFunc(topics, ss.Match) }

// Native returns the patterns of Hark's own topics among ss.
func (ss Selectors) Native() []hark.Pattern {
	var ps []hark.Pattern
	for i := range ss {
		if ss[i].native != "" {
			ps = append(ps, ss[i].native)
		}
	}
	return ps
}

// Patterns returns the patterns of Hark topics where events are that ss may mean:
// for a topic the index finds no others, for a template it is narrowed to its
// literal beginning.
func (ss Selectors) Patterns() []hark.Pattern {
	ps := ss.Native()
	add := func(p hark.Pattern) {
		if !slices.Contains(ps, p) {
			ps = append(ps, p)
		}
	}
	if slices.ContainsFunc(ss, func(s Selector) bool { return s.isAll() }) {
		add(Canonical + ">") // every update matches by its canonical topic: no copy is needed
		return ps
	}
	for i := range ss {
		s := &ss[i]
		switch {
		case s.native != "":
		case s.template == nil:
			name := nameOf(s.text)
			add(hark.Pattern(Canonical + name))
			add(hark.Pattern(Alternate + name))
		default:
			for _, beginning := range beginnings(s.text) {
				add(hark.Pattern(Canonical + beginning + ">"))
				add(hark.Pattern(Alternate + beginning + ">"))
			}
		}
	}
	return ps
}

// beginnings returns how the names of all topics begin that a template may mean.
func beginnings(template string) []string {
	literal := template[:strings.Index(template, "{")]
	slash := strings.LastIndex(literal, "/")
	if slash < 0 {
		return []string{""}
	}
	name, ok := escape(literal[:slash])
	if !ok || strings.Count(name, ".") > hark.MaxTopicTokens-4 {
		return []string{""}
	}
	// The topic itself may be too long to be readable.
	return []string{name + ".", hashToken + "."}
}
