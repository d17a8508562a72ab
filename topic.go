package hark

import (
	"fmt"
	"strings"
)

// ReservedToken is the first token of operational topics ("hark.delivery.dead").
// Publishing there is refused, and only a pattern that begins with it matches there.
const ReservedToken = "hark"

// CheckTopic tells whether topic is a name: dot-separated tokens of
// [A-Za-z0-9_-], at most [MaxTopicTokens] and [MaxTopicBytes].
func CheckTopic(topic string) error {
	return checkTokens("topic", topic, false)
}

// IsReserved reports whether topic is operational.
func IsReserved(topic string) bool {
	return topic == ReservedToken || strings.HasPrefix(topic, ReservedToken+".")
}

// Pattern is a topic pattern: "*" stands for one token, a last ">" for one or more.
// A pattern without either is a literal topic.
type Pattern string

// CheckPattern tells whether p is well formed.
func CheckPattern(p Pattern) error { return checkTokens("topics", string(p), true) }

// CheckPatterns tells whether there is at least one pattern and all are well formed.
func CheckPatterns(ps []Pattern) error {
	if len(ps) == 0 || len(ps) > MaxPatterns {
		return Invalidf("topics", fmt.Sprintf("must hold 1 to %d topic patterns, such as \"orders.*\" or \">\"", MaxPatterns))
	}
	for _, p := range ps {
		if err := CheckPattern(p); err != nil {
			return err
		}
	}
	return nil
}

// IsLiteral reports whether p names one topic.
func (p Pattern) IsLiteral() bool { return !strings.ContainsAny(string(p), "*>") }

// Prefix is the part of p before its first wildcard: every topic that matches
// begins with it.
func (p Pattern) Prefix() string {
	if i := strings.IndexAny(string(p), "*>"); i >= 0 {
		return string(p[:i])
	}
	return string(p)
}

// Match reports whether topic matches p. Both must be well formed.
func (p Pattern) Match(topic string) bool {
	rest, pat := topic, string(p)
	for first := true; ; first = false {
		pt, pmore, phas := strings.Cut(pat, ".")
		tt, tmore, thas := strings.Cut(rest, ".")
		reserved := first && tt == ReservedToken
		switch {
		case pt == ">":
			return !reserved
		case pt == "*" && reserved:
			return false
		case pt != "*" && pt != tt:
			return false
		case !phas || !thas:
			return phas == thas
		}
		pat, rest = pmore, tmore
	}
}

// MatchAny reports whether topic matches one of ps.
func MatchAny(ps []Pattern, topic string) bool {
	for _, p := range ps {
		if p.Match(topic) {
			return true
		}
	}
	return false
}

// Covers reports whether every topic that q matches is matched by p: what a
// key's patterns must do for the patterns its holder asks for.
func (p Pattern) Covers(q Pattern) bool {
	pts, qts := strings.Split(string(p), "."), strings.Split(string(q), ".")
	for i, pt := range pts {
		if i >= len(qts) {
			return false
		}
		reserved := i == 0 && qts[0] == ReservedToken
		switch {
		case pt == ">":
			return !reserved
		case qts[i] == ">":
			return false
		case pt == "*":
			if reserved {
				return false
			}
		case pt != qts[i]:
			return false
		}
	}
	return len(pts) == len(qts)
}

func checkTokens(field, s string, wild bool) error {
	bad := func(why string) error {
		return Invalidf(field, fmt.Sprintf("%q is not a topic%s: %s", clip(s, 64), map[bool]string{true: " pattern"}[wild], why))
	}
	if s == "" {
		return bad("it is empty")
	}
	if len(s) > MaxTopicBytes {
		return bad(fmt.Sprintf("it has %d bytes and the limit is %d", len(s), MaxTopicBytes))
	}
	n := 0
	for tok := range strings.SplitSeq(s, ".") {
		n++
		switch {
		case tok == "":
			return bad("it has an empty token; tokens are separated by single dots")
		case wild && tok == "*":
		case wild && tok == ">":
			if !strings.HasSuffix(s, ">") || strings.Count(s, ">") > 1 {
				return bad("\">\" must be the last token")
			}
		case !isToken(tok):
			return bad("tokens are made of A-Z a-z 0-9 _ and -")
		}
	}
	if n > MaxTopicTokens {
		return bad(fmt.Sprintf("it has %d tokens and the limit is %d", n, MaxTopicTokens))
	}
	return nil
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// TopicIndex finds which of many values have a pattern that matches a topic, in
// time that depends on the topic's tokens and the matches, not on how many
// patterns there are. The zero value is empty. It is not safe for concurrent
// use with a writer.
type TopicIndex[T comparable] struct{ root topicNode[T] }

type topicNode[T comparable] struct {
	next map[string]*topicNode[T]
	here []T // patterns that end at this node
	rest []T // patterns that end in ">" below this node
}

// Add gives v the pattern p. Adding the same pair twice counts twice.
func (x *TopicIndex[T]) Add(p Pattern, v T) {
	n := &x.root
	for tok := range strings.SplitSeq(string(p), ".") {
		if tok == ">" {
			n.rest = append(n.rest, v)
			return
		}
		child := n.next[tok]
		if child == nil {
			if n.next == nil {
				n.next = make(map[string]*topicNode[T], 1)
			}
			child = &topicNode[T]{}
			n.next[strings.Clone(tok)] = child
		}
		n = child
	}
	n.here = append(n.here, v)
}

// Remove takes the pattern p from v, and forgets nodes that nothing needs.
func (x *TopicIndex[T]) Remove(p Pattern, v T) { x.root.remove(string(p), v) }

func (n *topicNode[T]) remove(p string, v T) {
	tok, more, has := strings.Cut(p, ".")
	if tok == ">" {
		n.rest = without(n.rest, v)
		return
	}
	child := n.next[tok]
	if child == nil {
		return
	}
	if has {
		child.remove(more, v)
	} else {
		child.here = without(child.here, v)
	}
	if len(child.next) == 0 && len(child.here) == 0 && len(child.rest) == 0 {
		delete(n.next, tok)
	}
}

func without[T comparable](vs []T, v T) []T {
	for i := range vs {
		if vs[i] == v {
			vs = append(vs[:i], vs[i+1:]...)
			if len(vs) == 0 {
				return nil
			}
			return vs
		}
	}
	return vs
}

// Empty reports whether no value has a pattern.
func (x *TopicIndex[T]) Empty() bool {
	return len(x.root.next) == 0 && len(x.root.here) == 0 && len(x.root.rest) == 0
}

// Match calls found for each value that has a pattern matching topic, once for
// each such pattern, in no order.
func (x *TopicIndex[T]) Match(topic string, found func(T)) {
	x.root.match(topic, IsReserved(topic), found)
}

func (n *topicNode[T]) match(topic string, reserved bool, found func(T)) {
	if !reserved {
		for _, v := range n.rest {
			found(v)
		}
	}
	tok, more, has := strings.Cut(topic, ".")
	names := [2]string{tok, "*"}
	tries := names[:]
	if reserved {
		tries = names[:1]
	}
	for _, name := range tries {
		child := n.next[name]
		switch {
		case child == nil:
		case has:
			child.match(more, false, found)
		default:
			for _, v := range child.here {
				found(v)
			}
		}
	}
}
