package mercure

import (
	"fmt"
	"strings"
	"testing"

	"github.com/harkhq/hark"
)

// TestTopicOf: the names that docs/mercure.md promises to those who subscribe natively.
func TestTopicOf(t *testing.T) {
	long := "https://example.com/" + strings.Repeat("x", 300)
	for in, want := range map[string]string{
		"books":                                "mercure.topic.books",
		"https://example.com/books/1":          "mercure.topic.https_3a._.example_2ecom.books.1",
		"a_b":                                  "mercure.topic.a_5fb",
		"/":                                    "mercure.topic._._",
		"a//b/":                                "mercure.topic.a._.b._",
		"é":                                    "mercure.topic._c3_a9",
		"_":                                    "mercure.topic._5f",
		"_h.x":                                 "mercure.topic._5fh_2ex",
		"a.b":                                  "mercure.topic.a_2eb",
		strings.Repeat("/a", 13):               "mercure.topic._" + strings.Repeat(".a", 13),
		strings.Repeat("/a", 14):               "mercure.topic._h.",
		long:                                   "mercure.topic._h.",
		"https://example.com/users/{id}?a=b c": "mercure.topic.https_3a._.example_2ecom.users._7bid_7d_3fa_3db_20c",
	} {
		got := TopicOf(in)
		if hashed := strings.HasPrefix(want, "mercure.topic._h."); hashed && !strings.HasPrefix(got, "mercure.topic._h.") || !hashed && got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got, want := nameOf(strings.Repeat("a", 242)), "_h."; !strings.HasPrefix(got, want) {
		t.Errorf("a topic of 242 bytes: %s", got)
	}
	if got := nameOf(strings.Repeat("a", 241)); got != strings.Repeat("a", 241) {
		t.Errorf("a topic of 241 bytes: %s", got)
	}
}

// FuzzTopic: every topic has a name that is a Hark topic, and no other topic has it.
func FuzzTopic(f *testing.F) {
	for _, s := range []string{"", "/", "books", "https://example.com/books/1?x=y#z", "_h", "_h/00", "é\x00", strings.Repeat("/", 20), strings.Repeat("_", 90)} {
		f.Add(s, s+"_")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		na, nb := nameOf(a), nameOf(b)
		if (na == nb) != (a == b) {
			t.Errorf("%q is %q, %q is %q", a, na, b, nb)
		}
		for _, prefix := range []string{Canonical, Alternate} {
			if err := hark.CheckTopic(prefix + na); err != nil {
				t.Errorf("%q: %v", a, err)
			}
		}
		if !strings.HasPrefix(na, hashToken+".") {
			if back, ok := unescape(na); !ok || back != a {
				t.Errorf("%q is %q, read as %q, %v", a, na, back, ok)
			}
		}
		if back, ok := unescape(a); ok {
			if again, _ := escape(back); again != a {
				t.Errorf("%q is read as %q, which is %q", a, back, again)
			}
		}
	})
}

func TestTopicsDoNotCollide(t *testing.T) {
	seen := map[string]string{}
	alphabet := []string{"", "a", "_", ".", "/", "h", "_h", "2f", "é"}
	for i := range len(alphabet) * len(alphabet) * len(alphabet) * len(alphabet) {
		n, s := i, ""
		for range 4 {
			s += alphabet[n%len(alphabet)]
			n /= len(alphabet)
		}
		name := nameOf(s)
		if other, ok := seen[name]; ok && other != s {
			t.Fatalf("%q and %q are both %q", s, other, name)
		}
		seen[name] = s
	}
	if len(seen) < 1000 {
		t.Fatal(fmt.Sprint(len(seen), " topics only"))
	}
}
