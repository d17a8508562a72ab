package capture

import (
	"strconv"
	"strings"

	"github.com/harkhq/hark"
)

// ParseSearch reads the search language of the API and the page:
//
//	method:POST path:/orders header:x-github-event:push body:"order 1042" reason:rejected status:401 and any words
//
// Words are separated by spaces; quotes keep spaces together, and \" and \\ inside them
// stand for " and \. What carries none of those names is text, found anywhere; several
// such words are one text, with one space between them.
func ParseSearch(s string) (Filter, error) {
	var f Filter
	var text []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		name, rest, named := strings.Cut(s, ":")
		to := f.field(name)
		if named && (to != nil || name == "status") {
			word, after, err := searchWord(rest)
			if err != nil {
				return f, err
			}
			s = after
			if name == "status" {
				if f.Status, err = strconv.Atoi(word); err != nil {
					return f, hark.Invalidf("q", "status: must be a number, such as status:401")
				}
				continue
			}
			if word == "" {
				return f, hark.Invalidf("q", name+": must be followed by what to find")
			}
			if *to != "" {
				return f, hark.Invalidf("q", name+": is there twice")
			}
			*to = word
			continue
		}
		word, after, err := searchWord(s)
		if err != nil {
			return f, err
		}
		text, s = append(text, word), after
	}
	f.Text = strings.Join(text, " ")
	return f, f.Check()
}

func (f *Filter) field(name string) *string {
	switch name {
	case "method":
		return &f.Method
	case "path":
		return &f.Path
	case "header":
		return &f.Header
	case "body":
		return &f.Body
	case "reason":
		return &f.Reason
	}
	return nil
}

// searchWord takes the first word off s.
func searchWord(s string) (word, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, " \t\r\n")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", hark.Invalidf("q", `a quotation mark has no end; write \" for one inside quotes`)
}
