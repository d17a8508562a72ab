package mercure

import (
	"fmt"
	"strings"
	"testing"

	"github.com/harkhq/hark"
)

// BenchmarkFilter: what the pump of the hub pays for one subscription and one event.
func BenchmarkFilter(b *testing.B) {
	u, err := ParseUpdate(form("topic", "https://example.com/books/1", "topic", "https://example.com/users/7/books/1", "data", "x"))
	if err != nil {
		b.Fatal(err)
	}
	e := logged(u, 1)[1]
	long, _ := ParseUpdate(form("topic", "https://example.com/"+strings.Repeat("a", 2000), "data", "x"))
	for name, c := range map[string]struct {
		want []string
		e    *hark.Event
	}{
		"exact":         {[]string{"https://example.com/books/1"}, e},
		"two exact":     {[]string{"a", "https://example.com/books/1"}, e},
		"all":           {[]string{"*"}, e},
		"template hit":  {[]string{"https://example.com/books/{id}"}, e},
		"template miss": {[]string{"https://example.com/authors/{id}"}, e},
		"wide miss":     {[]string{"{+x}!"}, e},
		"wide long":     {[]string{"{+x}!"}, logged(long, 1)[0]},
		"vars long":     {[]string{"{+" + strings.Repeat("x,", 30) + "x}!"}, logged(long, 1)[0]},
	} {
		b.Run(name, func(b *testing.B) {
			f := NewFilter(selectors(b, c.want...), Grant{})
			b.ReportAllocs()
			for b.Loop() {
				f.Match(c.e)
			}
		})
	}
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			if _, err := ParseSelector("topic", fmt.Sprintf("https://example.com/%d/{+%sx}/{a}/{b}", i, strings.Repeat("x,", 20))); err != nil {
				b.Fatal(err)
			}
		}
	})
}
