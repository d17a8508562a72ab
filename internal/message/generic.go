package message

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/harkhq/hark/internal/template"
)

// shownValue is how many characters of a value a summary shows.
const shownValue = 200

// sayGeneric summarises whatever it is: JSON as fields, text as text, other bytes by
// size and type.
func sayGeneric(p *payload) *Message {
	m := &Message{Title: line(bold(p.event.Topic))}
	switch body := p.body.(type) {
	case map[string]any:
		sayObject(m, p, body)
	case []any:
		m.Title = append(m.Title, Span{Text: ": " + count(len(body), "element", "elements")})
		for i, v := range body {
			if i == maxCommits && len(body) > maxCommits+1 {
				m.Lines = append(m.Lines, line("… and "+template.Text(len(body)-i)+" more"))
				break
			}
			m.Lines = append(m.Lines, line("• ", Span{Text: clean(summary(v), shownValue)}))
		}
	case string:
		m.Lines = lines(body, 20, MaxLine)
	case json.Number, bool:
		m.Title = append(m.Title, Span{Text: ": " + clean(template.Text(body), shownValue)})
	default:
		sayBytes(m, p)
	}
	return m
}

// spoken are the members of an object that people would read rather than look up, in
// the order in which they are looked for.
var spoken = []string{"text", "message", "summary", "title", "description"}

func sayObject(m *Message, p *payload, body map[string]any) {
	said := ""
	for _, name := range spoken {
		if s, ok := body[name].(string); ok && strings.TrimSpace(s) != "" {
			said, m.Lines = name, lines(s, 20, MaxLine)
			break
		}
	}
	fields := flatten(nil, "", body, 0)
	fields = slices.DeleteFunc(fields, func(f Field) bool { return f.Name == said && said != "" })
	if more := len(fields) - MaxFields; more > 0 {
		fields = append(fields[:MaxFields-1], Field{"…", line(count(more+1, "more value", "more values"))})
	}
	m.Fields = fields
	if len(body) == 0 {
		m.Lines = []Line{line("without content")}
	}
}

const (
	maxFlatDepth = 3
	maxFlat      = 200 // of an object with a million members, nobody reads more
)

// flatten names what is inside an object: scalars by path, arrays in short.
func flatten(fields []Field, prefix string, object map[string]any, depth int) []Field {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if len(fields) >= maxFlat {
			break
		}
		switch v := object[name].(type) {
		case nil:
		case map[string]any:
			if depth+1 < maxFlatDepth {
				fields = flatten(fields, prefix+name+".", v, depth+1)
				continue
			}
			fields = append(fields, field(prefix+name, summary(v)))
		default:
			if s := summary(v); s != "" {
				fields = append(fields, field(prefix+name, s))
			}
		}
	}
	return fields
}

// field is a value with its name; an address is a link to itself.
func field(name, value string) Field {
	if to := goodURL(value); to != "" && len(value) <= shownValue {
		return Field{clean(name, 80), Line{link(value, to)}}
	}
	return Field{clean(name, 80), Line{{Text: clean(value, shownValue)}}}
}

// summary is a value in a few words.
func summary(v any) string {
	switch v := v.(type) {
	case nil:
		return "–"
	case map[string]any:
		for _, name := range []string{"name", "title", "text", "message", "id"} {
			if s := scalar(v[name]); s != "" {
				return s
			}
		}
		return count(len(v), "value", "values")
	case []any:
		var parts []string
		for _, e := range v[:min(len(v), 8)] {
			s := scalar(e)
			if s == "" {
				return count(len(v), "element", "elements")
			}
			parts = append(parts, s)
		}
		if len(v) > len(parts) {
			parts = append(parts, "… "+template.Text(len(v)-len(parts))+" more")
		}
		return strings.Join(parts, ", ")
	}
	return template.Text(v)
}

func sayBytes(m *Message, p *payload) {
	kind := mediaType(p.event)
	isText := strings.HasPrefix(kind, "text/") || kind == "" || p.event.ContentType != "" && kind == "application/json" ||
		strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "xml") || strings.HasSuffix(kind, "yaml")
	switch data := p.event.Data; {
	case len(data) == 0:
		m.Lines = []Line{line("without content")}
	case string(data) == "null":
		m.Title = append(m.Title, Span{Text: ": null"})
	case isText && utf8.Valid(data) && !slices.Contains(data, 0):
		m.Lines = lines(string(data), 20, MaxLine)
	case kind == "":
		m.Lines = []Line{line(size(len(data)) + " of unknown type")}
	default:
		m.Lines = []Line{line(size(len(data))+" of ", code(kind))}
	}
}

// size writes a number of bytes as people do.
func size(n int) string {
	switch {
	case n < 1000:
		return count(n, "byte", "bytes")
	case n < 1_000_000:
		return fmt.Sprintf("%d KB", (n+500)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
