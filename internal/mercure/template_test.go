package mercure

import (
	"regexp"
	"strings"
	"testing"

	"github.com/yosida95/uritemplate/v3"
)

// oracle is what other hubs match with: a regular expression for each template.
func oracle(text string) *regexp.Regexp {
	if !strings.Contains(text, "{") {
		return nil
	}
	t, err := uritemplate.New(text)
	if err != nil {
		return nil
	}
	return t.Regexp()
}

func checkOracle(t *testing.T, text, topic string) {
	t.Helper()
	if checkTopic("", text) != nil || checkTopic("", topic) != nil {
		return
	}
	own, err := parseTemplate("", text)
	if err != nil {
		return // too large
	}
	theirs := oracle(text)
	if (own == nil) != (theirs == nil) {
		t.Fatalf("%q is a template: %v, for other hubs %v", text, own != nil, theirs != nil)
	}
	if own != nil && own.match(topic) != theirs.MatchString(topic) {
		t.Fatalf("%q matches %q: %v, in other hubs %v", text, topic, own.match(topic), theirs.MatchString(topic))
	}
}

var templates = []string{
	"{x}", "{+x}", "{#x}", "{.x}", "{/x}", "{;x}", "{?x}", "{&x}", "{x,y}", "{+x,y}", "{/x,y}", "{;x,y}", "{?x,y}", "{.x,y}", "{&x,y,z}",
	"{x*}", "{+x*}", "{/x*}", "{;x*}", "{?x*}", "{&x*}", "{x,y*}", "{/x,y*}", "{?x,y*}", "{x*,y}", "{x:3}", "{x:10000}", "{x:03}", "{x:0}", "{x:}", "{x:1*}", "{x*:1}",
	"{}", "{+}", "{,}", "{x,}", "{x", "x}", "{x}}", "{{x}", "{=x}", "{|x}", "{!x}", "{x y}", "{a.b}", "{a..b}", "{.a}", "{a.}", "{..a}", "{%41}", "{%4}", "{a-b}", "{a_b}", "{é}",
	"https://example.com/books/{id}", "https://example.com/books/{id}/reviews{/review}", "a{x}b{y}c", "{x}{y}", "{x}/{y}", "{+x}/{y}", "{+x}!",
	"/.well-known/mercure/subscriptions{/topic}{/subscriber}", "%41{x}", "%4{x}", "%{x}", "<{x}", "'{x}", "é{x}", "\ufdd0{x}", "\U000e0001{x}", "\ufff1{x}", "\ufffd{x}", "日{x}本",
}

// TestTemplateOracle: templates mean what they mean to other hubs.
func TestTemplateOracle(t *testing.T) {
	topics := []string{"x", "a", "a/b", "/a", "/a/b", "/a/b/c", ";x=1", ";x=1;y=2", ";x=1;y=2;z=3", "?x=1", "?x=1&y=2", "?x=1&y=2&z=3", "&x=1", "&x=1&y=2&z=3&w=4",
		"a,b", "a=b", "a=b,c=d", ",a=b", "#a", "#a/b", ".a", ".a.b", "..", "//", "/a//b", "%41", "%4", "%", "%zz", "a%2Fb", "{x}", "}", "é", "axbyc", "axbxbyc", "abc", "ac", "!", "a!", "!a",
		"https://example.com/books/1", "https://example.com/books/", "https://example.com/books/1/reviews", "https://example.com/books/1/reviews/2", "https://example.com/books/1/reviews/2/3",
		"/.well-known/mercure/subscriptions", "/.well-known/mercure/subscriptions/a%20b/urn%3Auuid%3A1", "/.well-known/mercure/subscriptions/a/b/c", "%41x", "日x本", strings.Repeat("a/", 1000), strings.Repeat("%41", 600)}
	n := 0
	for _, text := range templates {
		for _, topic := range topics {
			checkOracle(t, text, topic)
			if own, _ := parseTemplate("", text); own != nil && own.match(topic) {
				n++
			}
		}
	}
	if n < 200 {
		t.Errorf("only %d of these match", n)
	}
}

func FuzzTemplate(f *testing.F) {
	for i, text := range templates {
		f.Add(text, []string{"a", "/a/b", "?x=1&y=2", "a=b,c=d", "%41b"}[i%5])
	}
	f.Fuzz(func(t *testing.T, text, topic string) { checkOracle(t, text, topic) })
}

// TestTemplateCost: the longest topic against what is worst for it.
func TestTemplateCost(t *testing.T) {
	topic := strings.Repeat("/", MaxTopicBytes)
	for _, text := range []string{"{/" + strings.Repeat("x,", 30) + "x}!", strings.Repeat("{+x}", 31) + "!", strings.Repeat("{/x*}", 31) + "!", strings.Repeat("{/x}", 31)} {
		tm, err := parseTemplate("", text)
		if err != nil || tm == nil {
			t.Fatal(text, err)
		}
		if n := testing.AllocsPerRun(10, func() { tm.match(topic); tm.match(topic[:MaxTopicBytes-1] + "!") }); n > 1 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}
