package hark

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// matches is the rule of DESIGN, word for word.
func matches(p Pattern, topic string) bool {
	pts, tts := strings.Split(string(p), "."), strings.Split(topic, ".")
	if tts[0] == "hark" && pts[0] != "hark" {
		return false
	}
	for i, pt := range pts {
		if pt == ">" {
			return len(tts) > i
		}
		if i >= len(tts) || pt != "*" && pt != tts[i] {
			return false
		}
	}
	return len(pts) == len(tts)
}

var tokens = []string{"a", "b", "hark", "harka", "A-_9"}

func randomTopic(rng *rand.Rand) string {
	ts := make([]string, 1+rng.IntN(4))
	for i := range ts {
		ts[i] = tokens[rng.IntN(len(tokens))]
	}
	return strings.Join(ts, ".")
}

func randomPattern(rng *rand.Rand) Pattern {
	ts := strings.Split(randomTopic(rng), ".")
	for i := range ts {
		if rng.IntN(3) == 0 {
			ts[i] = "*"
		}
	}
	if rng.IntN(3) == 0 {
		ts[len(ts)-1] = ">"
	}
	return Pattern(strings.Join(ts, "."))
}

// allTopics has every topic of the tokens up to five levels: enough to tell any
// two patterns of four apart.
func allTopics() []string {
	all := slices.Clone(tokens)
	for level, from := 1, 0; level < 5; level++ {
		to := len(all)
		for _, t := range all[from:to] {
			for _, tok := range tokens {
				all = append(all, t+"."+tok)
			}
		}
		from = to
	}
	return all
}

// TestPatterns: Match, TopicIndex and Covers agree with the rule.
func TestPatterns(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	topics := allTopics()
	var index TopicIndex[int]
	model := map[int]Pattern{}
	for n := range 400 {
		p := randomPattern(rng)
		if err := CheckPattern(p); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		index.Add(p, n)
		model[n] = p
		if rng.IntN(2) == 0 {
			for k, p := range model {
				index.Remove(p, k)
				index.Remove("not.there", k)
				delete(model, k)
				break
			}
		}
		topic := randomTopic(rng)
		var got, want []int
		index.Match(topic, func(n int) { got = append(got, n) })
		for k, p := range model {
			if p.Match(topic) != matches(p, topic) {
				t.Fatalf("seed %d: %q matches %q: %v", seed, p, topic, p.Match(topic))
			}
			if !strings.HasPrefix(topic, p.Prefix()) && matches(p, topic) {
				t.Fatalf("seed %d: %q matches %q without its prefix", seed, p, topic)
			}
			if matches(p, topic) {
				want = append(want, k)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %q is matched by %v, the index says %v", seed, topic, want, got)
		}
		q := randomPattern(rng)
		covered := !slices.ContainsFunc(topics, func(topic string) bool { return matches(q, topic) && !matches(p, topic) })
		if p.Covers(q) != covered {
			t.Fatalf("seed %d: %q covers %q: %v, the topics say %v", seed, p, q, p.Covers(q), covered)
		}
	}
	for k, p := range model {
		index.Remove(p, k)
	}
	if len(index.root.next) > 0 || len(index.root.rest) > 0 {
		t.Errorf("seed %d: an empty index holds %d nodes", seed, len(index.root.next))
	}
}

func TestReserved(t *testing.T) {
	for p, want := range map[Pattern]bool{"hark.>": true, "hark.delivery.dead": true, "hark.*.dead": true, ">": false, "*.>": false, "*.delivery.dead": false, "*.*.*": false, "harka.>": false} {
		if p.Match("hark.delivery.dead") != want {
			t.Errorf("%q matches an operational topic: %v", p, !want)
		}
	}
	for topic, want := range map[string]bool{"hark": true, "hark.a": true, "harka": false, "a.hark": false, "Hark.a": false} {
		if IsReserved(topic) != want {
			t.Errorf("%q is reserved: %v", topic, !want)
		}
	}
}

func TestCheckTopic(t *testing.T) {
	good := []string{"a", "A.b-c_9", strings.Repeat("x", 255), strings.Repeat("x.", 15) + "x"}
	bad := []string{"", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "é", "a\n", "a/b", strings.Repeat("x", 256), strings.Repeat("x.", 16) + "x", "a\x00"}
	for _, s := range good {
		if CheckTopic(s) != nil || CheckPattern(Pattern(s)) != nil {
			t.Errorf("%q is refused: %v", s, CheckTopic(s))
		}
	}
	for _, s := range bad {
		if KindOf(CheckTopic(s)) != Mismatch {
			t.Errorf("%q is accepted", s)
		}
	}
	for _, p := range []Pattern{"*", ">", "a.*", "*.a.>", "*.*"} {
		if CheckPattern(p) != nil {
			t.Errorf("pattern %q is refused: %v", p, CheckPattern(p))
		}
	}
	for _, p := range []Pattern{"", "a*", ">.a", "a.>.>", "a>", "**", "a.>b"} {
		if CheckPattern(p) == nil {
			t.Errorf("pattern %q is accepted", p)
		}
	}
	if CheckPatterns(nil) == nil || CheckPatterns(make([]Pattern, MaxPatterns+1)) == nil || CheckPatterns([]Pattern{"a", ">"}) != nil {
		t.Error("CheckPatterns")
	}
}

func FuzzTopics(f *testing.F) {
	for _, s := range []string{"a.b", "hark.a", "a..b", "é", strings.Repeat("x.", 20)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckTopic(s) != nil {
			return
		}
		p := Pattern(s)
		if CheckPattern(p) != nil || !p.IsLiteral() || !p.Match(s) || !p.Covers(p) || len(s) > MaxTopicBytes {
			t.Errorf("topic %q is not its own pattern", s)
		}
	})
}

func FuzzPatterns(f *testing.F) {
	for _, s := range []string{"a.*", ">", "hark.>", "*.a.>"} {
		f.Add(s, "a.b", "a.>")
	}
	f.Fuzz(func(t *testing.T, s, topic, other string) {
		p, q := Pattern(s), Pattern(other)
		if CheckPattern(p) != nil {
			return
		}
		var index TopicIndex[int]
		index.Add(p, 1)
		if CheckTopic(topic) == nil {
			found := false
			index.Match(topic, func(int) { found = true })
			if want := matches(p, topic); p.Match(topic) != want || found != want {
				t.Errorf("%q matches %q: %v, index %v, want %v", p, topic, p.Match(topic), found, want)
			}
			if CheckPattern(q) == nil && p.Covers(q) && q.Match(topic) && !p.Match(topic) {
				t.Errorf("%q covers %q, but not %q", p, q, topic)
			}
		}
		index.Remove(p, 1)
		if len(index.root.next)+len(index.root.rest)+len(index.root.here) > 0 {
			t.Errorf("%q leaves nodes behind", p)
		}
	})
}

func ExamplePattern_Match() {
	fmt.Println(Pattern("orders.*").Match("orders.paid"), Pattern("user.42.>").Match("user.42"), Pattern(">").Match("hark.delivery.dead"))
	// Output: true false false
}
