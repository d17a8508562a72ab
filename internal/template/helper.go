package template

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Helper changes the value of a placeholder.
type Helper struct {
	Name string
	// Arg names what follows the colon; empty for no argument.
	Arg  string
	Help string

	number bool // the argument is a whole number from 1 to 10,000
	apply  func(v any, arg string) any
}

var helpers = []Helper{
	{Name: "default", Arg: "text", Help: "the text, where there is nothing or an empty text", apply: orElse},
	{Name: "upper", Help: "in capitals", apply: onText(strings.ToUpper)},
	{Name: "lower", Help: "in small letters", apply: onText(strings.ToLower)},
	{Name: "trim", Help: "without white space around it", apply: onText(strings.TrimSpace)},
	{Name: "line", Help: "the first line", apply: onText(firstLine)},
	{Name: "short", Arg: "characters", number: true, Help: "at most so many characters, the last one … where it was longer", apply: short},
	{Name: "first", Arg: "characters", number: true, Help: "the first characters, as of a commit's hash", apply: first},
	{Name: "after", Arg: "text", Help: "what follows the last such text, all where there is none", apply: after},
	{Name: "count", Help: "how many elements an array or object has", apply: count},
	{Name: "list", Arg: "name", Help: "a line for each of an array's first 10 elements: what is at that path in it", apply: list},
	{Name: "date", Help: "a time (RFC 3339 or Unix seconds) as 2 Jan 2006 15:04 UTC", apply: date},
	{Name: "cents", Help: "a number of hundredths as 1,234.50", apply: cents},
	{Name: "json", Help: "as JSON", apply: asJSON},
}

// Helpers returns the helpers, for documentation.
func Helpers() []Helper { return append([]Helper(nil), helpers...) }

func helperNames() string {
	names := make([]string, len(helpers))
	for i, h := range helpers {
		names[i] = h.Name
	}
	return strings.Join(names, ", ")
}

// checkArg says what is wrong with an argument, "" for nothing.
func (h *Helper) checkArg(arg string, has bool) string {
	switch {
	case h.Arg == "" && has:
		return h.Name + " takes no argument"
	case h.Arg != "" && (!has || arg == "" && h.Name != "default"):
		return fmt.Sprintf("%s needs an argument: %s:%s", h.Name, h.Name, h.Arg)
	case h.number:
		if n, err := strconv.Atoi(arg); err != nil || n < 1 || n > 10_000 {
			return h.Name + " takes a whole number from 1 to 10000"
		}
	}
	return ""
}

func onText(fn func(string) string) func(any, string) any {
	return func(v any, _ string) any { return fn(Text(v)) }
}

func orElse(v any, arg string) any {
	if Text(v) == "" {
		return arg
	}
	return v
}

func firstLine(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexAny(s, "\r\n"); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	return s
}

func short(v any, arg string) any {
	n, _ := strconv.Atoi(arg)
	return Short(Text(v), n)
}

// Short returns at most n characters of s, the last one … where it was longer.
func Short(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	return strings.TrimRightFunc(cut(s, n-1), unicode.IsSpace) + "…"
}

// cut returns the first n characters.
func cut(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}

func first(v any, arg string) any {
	n, _ := strconv.Atoi(arg)
	return cut(Text(v), n)
}

func after(v any, arg string) any {
	s := Text(v)
	if i := strings.LastIndex(s, arg); i >= 0 {
		return s[i+len(arg):]
	}
	return s
}

func count(v any, _ string) any {
	switch x := v.(type) {
	case []any:
		return len(x)
	case map[string]any:
		return len(x)
	}
	return 0
}

// maxListed bounds what list shows of an array.
const maxListed = 10

func list(v any, arg string) any {
	all, _ := v.([]any)
	path := strings.Split(arg, ".")
	var b strings.Builder
	for i, element := range all {
		if i == maxListed {
			fmt.Fprintf(&b, "\n…and %d more", len(all)-maxListed)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("• " + firstLine(Text(Walk(element, path))))
	}
	return b.String()
}

func date(v any, _ string) any {
	at, ok := v.(time.Time)
	if !ok {
		text := Text(v)
		if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds > -1<<40 && seconds < 1<<40 {
			at = time.Unix(seconds, 0)
		} else if at, err = time.Parse(time.RFC3339, text); err != nil {
			return v
		}
	}
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2 Jan 2006 15:04 UTC")
}

func cents(v any, _ string) any {
	if text, ok := Decimal(Text(v), 2); ok {
		return text
	}
	return v
}

// Decimal writes a whole number of minor units with so many digits after the point
// and commas between thousands: 123450 with 2 is 1,234.50.
func Decimal(units string, digits int) (string, bool) {
	sign := ""
	if strings.HasPrefix(units, "-") {
		sign, units = "-", units[1:]
	}
	if units == "" || len(units) > 30 || strings.Trim(units, "0123456789") != "" {
		return "", false
	}
	if units = strings.TrimLeft(units, "0"); len(units) <= digits {
		units = strings.Repeat("0", digits+1-len(units)) + units
	}
	whole, rest := units[:len(units)-digits], units[len(units)-digits:]
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if digits > 0 {
		whole += "." + rest
	}
	return sign + whole, true
}

func asJSON(v any, _ string) any {
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}
