package mercure

import (
	"slices"
	"strings"
	"testing"

	"github.com/harkhq/hark"
)

func selectors(t testing.TB, texts ...string) Selectors {
	t.Helper()
	ss, err := ParseSelectors("topic", texts)
	if err != nil {
		t.Fatal(err)
	}
	return ss
}

// TestSelectorMatch: the examples of RFC 6570 section 1.2 that hubs accept, and what
// Mercure adds.
func TestSelectorMatch(t *testing.T) {
	for _, c := range []struct {
		selector, topic string
		want            bool
	}{
		{"books", "books", true},
		{"books", "Books", false},
		{"books", "books/1", false},
		{"*", "books", true},
		{"*", "https://example.com/x", true},
		{"*", "hark:orders.paid", false}, // Hark's own topics are meant by name only
		{"{x}", "hark:orders.paid", false},
		{"{+x}", "hark:orders.paid", false},
		{"hark:orders.*", "hark:orders.paid", true},
		{"hark:orders.*", "hark:users.new", false},
		{"hark:>", "books", false},
		{"hark:>", "hark:orders.paid", true},
		{"hark:>", "hark:hark.delivery.dead", false},
		{"https://example.com/books/{id}", "https://example.com/books/1", true},
		{"https://example.com/books/{id}", "https://example.com/books/", true},
		{"https://example.com/books/{id}", "https://example.com/books/1/reviews", false},
		{"https://example.com/books/{id}", "https://example.com/books/a%2Fb", true},
		{"https://example.com/books/{id}", "https://example.com/books/will-not}", false},
		{"https://example.com/books/{id}", "https://example.com/books/{id}", true}, // itself
		{"https://example.com/{+path}", "https://example.com/a/b?c=d", true},
		{"https://example.com/{#x}", "https://example.com/#top", true},
		{"https://example.com{/a,b}", "https://example.com/x/y", true},
		{"https://example.com{/a*}", "https://example.com/x/y/z", true},
		{"https://example.com/x{?a,b}", "https://example.com/x?a=1&b=2", true},
		{"https://example.com/x{?a,b}", "https://example.com/x", true},
		{"https://example.com/x{.ext}", "https://example.com/x.json", true},
		{"/.well-known/mercure/subscriptions{/topic}{/subscriber}", "/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%7Bid%7D/urn%3Auuid%3A1", true},
		{"/.well-known/mercure/subscriptions{/topic}{/subscriber}", "/.well-known/mercure/subscriptions", true},
		{"will-not-match}", "will-not-match}", true},
		{"bro{ken", "bro{ken", true},
		{"bro{ken", "broken", false},
	} {
		s := selectors(t, c.selector)
		if got := s.Match(c.topic); got != c.want {
			t.Errorf("%q matches %q: %v", c.selector, c.topic, got)
		}
	}
}

func TestSelectorsBad(t *testing.T) {
	for name, texts := range map[string][]string{
		"empty": {""}, "control": {"a\nb"}, "c1": {"a\u0085"}, "no UTF-8": {"\xff"}, "long": {strings.Repeat("x", MaxTopicBytes+1)},
		"native": {"hark:a..b"}, "native >": {"hark:>.x"}, "template": {"{a" + strings.Repeat(",a", maxTemplateVars) + "}"},
		"long template": {"{x}" + strings.Repeat("x", maxTemplateBytes)}, "many": slices.Repeat([]string{"x"}, MaxSelectors+1),
	} {
		if _, err := ParseSelectors("topic", texts); hark.KindOf(err) != hark.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		selectors []string
		want      []hark.Pattern
	}{
		{[]string{"books", "books"}, []hark.Pattern{"mercure.topic.books", "mercure.also.books"}},
		{[]string{"*", "books"}, []hark.Pattern{"mercure.topic.>"}},
		{[]string{"*", "hark:orders.>"}, []hark.Pattern{"orders.>", "mercure.topic.>"}},
		{[]string{"x{id}"}, []hark.Pattern{"mercure.topic.>", "mercure.also.>"}},
		{[]string{"/books/{id}"}, []hark.Pattern{"mercure.topic._.books.>", "mercure.also._.books.>", "mercure.topic._h.>", "mercure.also._h.>"}},
		{[]string{"/books/a{id}", "/books/{x}"}, []hark.Pattern{"mercure.topic._.books.>", "mercure.also._.books.>", "mercure.topic._h.>", "mercure.also._h.>"}},
		{[]string{strings.Repeat("/a", 13) + "/{x}"}, []hark.Pattern{"mercure.topic.>", "mercure.also.>"}},
	} {
		if got := selectors(t, c.selectors...).Patterns(); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q", c.selectors, got)
		}
	}
}

// FuzzSelector: whatever a selector means is on a topic that its patterns match.
func FuzzSelector(f *testing.F) {
	for _, s := range [][2]string{{"*", "x"}, {"https://example.com/{id}", "https://example.com/1"}, {"{+x}", "a/b"}, {"/{a}/b", "//b"}, {"a/b{/x*}", "a/b/c/d"},
		{"hark:a.>", "hark:a.b"}, {"{?a,b,c}", "?a=1&b=2"}, {strings.Repeat("/a", 12) + "/{x}", strings.Repeat("/a", 12) + "/1"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, text, topic string) {
		s, err := ParseSelectors("topic", []string{text})
		if err != nil {
			if hark.KindOf(err) != hark.Invalid {
				t.Error(err)
			}
			return
		}
		ps := s.Patterns()
		if err := hark.CheckPatterns(ps); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if !s.Match(topic) {
			return
		}
		if name, ok := native(topic); ok {
			if hark.CheckTopic(name) == nil && !hark.MatchAny(ps, name) {
				t.Errorf("%q means %q, %q does not", text, topic, ps)
			}
		} else if name := nameOf(topic); !hark.MatchAny(ps, Canonical+name) || !s[0].isAll() && !hark.MatchAny(ps, Alternate+name) {
			t.Errorf("%q means %q, %q does not match %s", text, topic, ps, name)
		}
	})
}
