package setting

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// Redacted stands for a secret in settings that are shown.
const Redacted = "[redacted]"

const (
	defaultMaxBytes = 4096
	maxMapEntries   = 64
)

// Values are settings that passed their Fields: string, int64, bool, time.Duration,
// map[string]string or Values, with defaults in place.
type Values map[string]any

// Text returns a text, "" for none.
func (v Values) Text(key string) string { s, _ := v[key].(string); return s }

// Duration returns a duration, 0 for none.
func (v Values) Duration(key string) time.Duration { d, _ := v[key].(time.Duration); return d }

// Text returns a text, "" for none.
// Int returns a number, 0 for none.
func (v Values) Int(key string) int64 { n, _ := v[key].(int64); return n }

// Bool returns a truth value, false for none.
func (v Values) Bool(key string) bool { b, _ := v[key].(bool); return b }

// Texts returns a map of texts.
func (v Values) Texts(key string) map[string]string {
	m, _ := v[key].(map[string]string)
	return m
}

// Object returns an object, nil for none.
func (v Values) Object(key string) Values { o, _ := v[key].(Values); return o }

// Check collects faults.
type Check struct {
	// CheckURL parses a URL and refuses what could never be reached.
	CheckURL func(raw string) (*url.URL, error)
	Faults   []error
}

// Fault adds one: field as the user wrote it, msg says what would be right.
func (c *Check) Fault(field, msg string) { c.Faults = append(c.Faults, hark.Invalidf(field, msg)) }

// Parse reads an object of settings that stands at a field, such as "settings", with
// all faults in c.
func Parse(c *Check, at string, fields []Field, raw json.RawMessage) Values {
	var given map[string]json.RawMessage
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &given); err != nil {
			c.Fault(at, "must be a JSON object")
			return nil
		}
	}
	v := make(Values, len(fields))
	for i := range fields {
		f := &fields[i]
		value, ok := given[f.Key]
		delete(given, f.Key)
		switch name := at + "." + f.Key; {
		case ok && string(value) != "null":
			if parsed := f.Parse(c, name, value); parsed != nil {
				v[f.Key] = parsed
			}
		case f.Required:
			c.Fault(name, "is needed"+example(f))
		case f.Default != "":
			v[f.Key] = f.Parse(c, name, f.DefaultJSON())
		}
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		c.Fault(at+"."+Clip(key), "there is no such setting; there are "+keys(fields))
	}
	return v
}

func example(f *Field) string {
	if f.Example == "" {
		return ""
	}
	return ", such as " + strconv.Quote(f.Example)
}

func keys(fields []Field) string {
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].Key
	}
	return strings.Join(names, ", ")
}

// DefaultJSON returns the default as it would be written in settings.
func (f *Field) DefaultJSON() json.RawMessage {
	if f.Type == Int || f.Type == Bool {
		return json.RawMessage(f.Default)
	}
	return json.RawMessage(strconv.Quote(f.Default))
}

// Parse returns the value of one setting, or nil and a fault. It repeats no value:
// it may be a secret.
func (f *Field) Parse(c *Check, name string, raw json.RawMessage) any {
	switch f.Type {
	case Int:
		var n int64
		if json.Unmarshal(raw, &n) != nil || !f.within(n) {
			c.Fault(name, "must be a whole number"+f.bounds(""))
			return nil
		}
		return n
	case Bool:
		var b bool
		if json.Unmarshal(raw, &b) != nil {
			c.Fault(name, "must be true or false")
			return nil
		}
		return b
	case Duration:
		var d hark.Duration
		if raw[0] != '"' || json.Unmarshal(raw, &d) != nil || d < 0 ||
			!f.within(int64((time.Duration(d)+time.Second-1)/time.Second)) {
			c.Fault(name, "must be a duration, such as \"30s\" or \"2h\""+f.bounds(" seconds"))
			return nil
		}
		return time.Duration(d)
	case Map:
		return f.parseMap(c, name, raw)
	case Object:
		if raw[0] != '{' {
			c.Fault(name, "must be an object with "+keys(f.Fields))
			return nil
		}
		return Parse(c, name, f.Fields, raw)
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		c.Fault(name, "must be text")
		return nil
	}
	if f.checkText(c, name, s) {
		return s
	}
	return nil
}

func (f *Field) parseMap(c *Check, name string, raw json.RawMessage) any {
	var m map[string]string
	if json.Unmarshal(raw, &m) != nil || len(m) > maxMapEntries {
		c.Fault(name, fmt.Sprintf("must be an object of at most %d texts", maxMapEntries))
		return nil
	}
	ok := true
	for _, key := range slices.Sorted(maps.Keys(m)) {
		ok = f.checkText(c, name+"."+Clip(key), m[key]) && ok
	}
	if !ok {
		return nil
	}
	return m
}

func (f *Field) checkText(c *Check, name, s string) bool {
	limit := f.MaxBytes
	if limit == 0 {
		limit = defaultMaxBytes
	}
	switch {
	case f.Secret && s == Redacted:
		c.Fault(name, "is redacted, and nothing is stored in its place: give the value itself")
	case f.Required && s == "":
		c.Fault(name, "must not be empty"+example(f))
	case len(s) > limit:
		c.Fault(name, fmt.Sprintf("has %d bytes and the limit is %d", len(s), limit))
	case !utf8.ValidString(s) || strings.ContainsFunc(s, f.isControl):
		c.Fault(name, "must not hold line breaks or other control characters")
	case len(f.Enum) > 0 && !slices.Contains(f.Enum, s):
		c.Fault(name, "must be one of "+strings.Join(f.Enum, ", "))
	default:
		return true
	}
	return false
}

func (f *Field) isControl(r rune) bool {
	return (r < ' ' || r == 0x7f) && !(f.Multiline && (r == '\n' || r == '\r' || r == '\t'))
}

func (f *Field) within(n int64) bool {
	return f.Min == 0 && f.Max == 0 || n >= f.Min && n <= f.Max
}

func (f *Field) bounds(unit string) string {
	if f.Min == 0 && f.Max == 0 {
		return ""
	}
	return fmt.Sprintf(", between %d and %d%s", f.Min, f.Max, unit)
}

// Clip bounds what a fault repeats of a name.
func Clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// Redact returns settings with every secret replaced by [Redacted]. What fields do
// not describe is left out: it may be one.
func Redact(fields []Field, settings json.RawMessage) json.RawMessage {
	given, err := object(settings)
	if err != nil {
		return json.RawMessage("{}")
	}
	return encode(redact(fields, given))
}

func redact(fields []Field, given map[string]any) map[string]any {
	shown := make(map[string]any, len(given))
	for i := range fields {
		f := &fields[i]
		value, ok := given[f.Key]
		if !ok {
			continue
		}
		switch part, isObject := value.(map[string]any); {
		case f.Type == Object && isObject:
			shown[f.Key] = redact(f.Fields, part)
		case f.Secret && f.Type == Map && isObject:
			hidden := make(map[string]any, len(part))
			for name := range part {
				hidden[name] = Redacted
			}
			shown[f.Key] = hidden
		case f.Secret || isObject && f.Type != Map:
			shown[f.Key] = Redacted
		default:
			shown[f.Key] = value
		}
	}
	return shown
}

// Restore returns given settings with stored secrets where they say [Redacted].
func Restore(fields []Field, old, given json.RawMessage) json.RawMessage {
	was, err1 := object(old)
	is, err2 := object(given)
	if err1 == nil && err2 == nil && restore(fields, was, is) {
		return encode(is)
	}
	return given
}

// restore puts stored secrets where settings say [Redacted], in place, and reports
// whether it did.
func restore(fields []Field, old, given map[string]any) (changed bool) {
	for i := range fields {
		f := &fields[i]
		was, had := old[f.Key]
		value, has := given[f.Key]
		if !had || !has {
			continue
		}
		before, isObject := was.(map[string]any)
		part, areBoth := value.(map[string]any)
		switch {
		case isObject && areBoth && f.Type == Object:
			changed = restore(f.Fields, before, part) || changed
		case isObject && areBoth && f.Type == Map && f.Secret:
			for name, v := range part {
				if stored, ok := before[name]; ok && v == Redacted {
					part[name], changed = stored, true
				}
			}
		case f.Secret && value == Redacted:
			given[f.Key], changed = was, true
		}
	}
	return changed
}

func object(settings json.RawMessage) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(settings))
	d.UseNumber() // numbers come back as they were written
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("not an object")
	}
	return m, nil
}

func encode(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // a URL stays legible
	if err := e.Encode(v); err != nil {
		return json.RawMessage("{}") // never: v came out of JSON
	}
	return bytes.TrimSpace(b.Bytes())
}

// Schema returns the JSON schema of settings, for OpenAPI and editors.
func Schema(fields []Field) json.RawMessage { return encode(schema(fields)) }

func schema(fields []Field) map[string]any {
	properties := make(map[string]any, len(fields))
	required := []string{}
	for i := range fields {
		f := &fields[i]
		properties[f.Key] = f.schema()
		if f.Required {
			required = append(required, f.Key)
		}
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func (f *Field) schema() map[string]any {
	s := map[string]any{"type": "string"}
	switch f.Type {
	case Int:
		s["type"] = "integer"
	case Bool:
		s["type"] = "boolean"
	case URL:
		s["format"] = "uri"
	case Map:
		s["type"], s["additionalProperties"], s["maxProperties"] = "object", map[string]any{"type": "string"}, maxMapEntries
	case Object:
		s = schema(f.Fields)
	}
	if f.Type == Int && f.within(f.Min) && f.Max != 0 {
		s["minimum"], s["maximum"] = f.Min, f.Max
	}
	for key, text := range map[string]string{"title": f.Title, "description": f.Help} {
		if text != "" {
			s[key] = text
		}
	}
	if f.Default != "" {
		s["default"] = f.DefaultJSON()
	}
	if len(f.Enum) > 0 {
		s["enum"] = f.Enum
	}
	if f.Example != "" {
		s["examples"] = []string{f.Example}
	}
	if f.Secret {
		s["writeOnly"] = true
	}
	return s
}
