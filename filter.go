package hark

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Filter decides by an event's content whether a destination wants it. It is a
// JSON object whose members must all hold:
//
//	{"data.total": {"$gte": 100}, "attributes.region": "eu"}
//
// A member's name is a path: topic, key, content_type, source, attributes.NAME,
// or data and its fields (data.order.items.0.sku; a number is a place in an
// array). Its value is what must be there, or an object of operators that must
// all hold: $eq $ne $in $nin $gt $gte $lt $lte $starts $ends $contains $exists.
// $and and $or take a list of filters, $not takes one.
//
// Numbers compare by value, text by bytes. An operator on a path that is not
// there is false, but for $ne, $nin and {"$exists": false}. Data that is not
// JSON has no fields. The zero Filter matches everything.
type Filter struct{ all []condition }

// Bounds of one filter.
const (
	maxFilterDepth      = 8
	maxFilterConditions = 100
	MaxFilterBytes      = 16 << 10
)

type condition func(*filterInput) bool

// filterInput is an event whose data is parsed at most once, and only if asked for.
type filterInput struct {
	event  *Event
	parsed bool
	data   any
	isJSON bool
}

// ParseFilter reads a filter; its errors name the path that is wrong.
func ParseFilter(text []byte) (Filter, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || bytes.Equal(text, []byte("null")) {
		return Filter{}, nil
	}
	if len(text) > MaxFilterBytes {
		return Filter{}, Invalidf("filter", fmt.Sprintf("at most %d bytes", MaxFilterBytes))
	}
	v, err := parseNumbers(text)
	object, ok := v.(map[string]any)
	if err != nil || !ok {
		return Filter{}, Invalidf("filter", `must be a JSON object, such as {"data.total": {"$gte": 100}}`)
	}
	p := filterParser{}
	all, err := p.object("filter", object, 1)
	return Filter{all}, err
}

// parseNumbers keeps numbers as they were written.
func parseNumbers(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one value")
	}
	return v, nil
}

// IsZero reports whether the filter matches everything.
func (f Filter) IsZero() bool { return len(f.all) == 0 }

// Match reports whether the destination wants e.
func (f Filter) Match(e *Event) bool {
	if len(f.all) == 0 {
		return true
	}
	return allHold(f.all, &filterInput{event: e})
}

func allHold(conditions []condition, in *filterInput) bool {
	for _, holds := range conditions {
		if !holds(in) {
			return false
		}
	}
	return true
}

type filterParser struct{ conditions int }

func (p *filterParser) object(at string, object map[string]any, depth int) ([]condition, error) {
	if depth > maxFilterDepth {
		return nil, Invalidf(at, fmt.Sprintf("nested deeper than %d", maxFilterDepth))
	}
	var all []condition
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if p.conditions++; p.conditions > maxFilterConditions {
			return nil, Invalidf(at, fmt.Sprintf("more than %d conditions", maxFilterConditions))
		}
		c, err := p.member(at+"."+name, name, object[name], depth)
		if err != nil {
			return nil, err
		}
		all = append(all, c...)
	}
	return all, nil
}

func (p *filterParser) member(at, name string, value any, depth int) ([]condition, error) {
	switch name {
	case "$and", "$or":
		return p.list(at, name, value, depth)
	case "$not":
		object, ok := value.(map[string]any)
		if !ok {
			return nil, Invalidf(at, "must be a filter")
		}
		inner, err := p.object(at, object, depth+1)
		return []condition{func(in *filterInput) bool { return !allHold(inner, in) }}, err
	}
	read, err := filterPath(at, name)
	if err != nil {
		return nil, err
	}
	operators, ok := value.(map[string]any)
	if !ok || !hasOperator(operators) {
		return []condition{compare(read, func(v any, there bool) bool { return there && equalJSON(v, value) })}, nil
	}
	var all []condition
	for _, op := range slices.Sorted(maps.Keys(operators)) {
		test, err := operator(at+"."+op, op, operators[op])
		if err != nil {
			return nil, err
		}
		all = append(all, compare(read, test))
	}
	return all, nil
}

func (p *filterParser) list(at, name string, value any, depth int) ([]condition, error) {
	items, ok := value.([]any)
	if !ok || len(items) == 0 {
		return nil, Invalidf(at, "must be a list of filters")
	}
	var inner [][]condition
	for i, item := range items {
		object, ok := item.(map[string]any)
		if !ok {
			return nil, Invalidf(fmt.Sprintf("%s[%d]", at, i), "must be a filter")
		}
		c, err := p.object(fmt.Sprintf("%s[%d]", at, i), object, depth+1)
		if err != nil {
			return nil, err
		}
		inner = append(inner, c)
	}
	return []condition{func(in *filterInput) bool {
		for _, c := range inner {
			if allHold(c, in) == (name == "$or") {
				return name == "$or"
			}
		}
		return name == "$and"
	}}, nil
}

func hasOperator(m map[string]any) bool {
	for name := range m {
		if strings.HasPrefix(name, "$") {
			return true
		}
	}
	return false
}

type pathReader func(*filterInput) (v any, there bool)

func compare(read pathReader, test func(v any, there bool) bool) condition {
	return func(in *filterInput) bool { return test(read(in)) }
}

func filterPath(at, path string) (pathReader, error) {
	field := func(get func(*Event) string) pathReader {
		return func(in *filterInput) (any, bool) { s := get(in.event); return s, s != "" }
	}
	switch path {
	case "topic":
		return field(func(e *Event) string { return e.Topic }), nil
	case "key":
		return field(func(e *Event) string { return e.Key }), nil
	case "content_type":
		return field(func(e *Event) string { return e.ContentType }), nil
	case "source":
		return field(func(e *Event) string { return e.Source }), nil
	case "data":
		return func(in *filterInput) (any, bool) { return in.json() }, nil
	}
	if name, ok := strings.CutPrefix(path, "attributes."); ok && name != "" {
		return func(in *filterInput) (any, bool) { v, there := in.event.Attributes[name]; return v, there }, nil
	}
	if rest, ok := strings.CutPrefix(path, "data."); ok && rest != "" {
		steps := strings.Split(rest, ".")
		return func(in *filterInput) (any, bool) {
			v, there := in.json()
			return walk(v, there, steps)
		}, nil
	}
	return nil, Invalidf(at, "paths begin with data., attributes., or are topic, key, content_type or source")
}

func walk(v any, there bool, steps []string) (any, bool) {
	for _, step := range steps {
		if !there {
			return nil, false
		}
		switch inner := v.(type) {
		case map[string]any:
			v, there = inner[step]
		case []any:
			i, err := strconv.Atoi(step)
			if there = err == nil && i >= 0 && i < len(inner); there {
				v = inner[i]
			}
		default:
			there = false
		}
	}
	return v, there
}

func (in *filterInput) json() (any, bool) {
	if !in.parsed {
		in.parsed = true
		if IsJSON(in.event.ContentType) {
			v, err := parseNumbers(in.event.Data)
			in.data, in.isJSON = v, err == nil
		}
	}
	return in.data, in.isJSON
}

func operator(at, name string, want any) (func(v any, there bool) bool, error) {
	text, isText := want.(string)
	items, isList := want.([]any)
	yes, isBool := want.(bool)
	fits := true
	var test func(v any, there bool) bool
	switch name {
	case "$eq":
		test = func(v any, there bool) bool { return there && equalJSON(v, want) }
	case "$ne":
		test = func(v any, there bool) bool { return !there || !equalJSON(v, want) }
	case "$in":
		fits, test = isList, func(v any, there bool) bool { return there && oneOf(v, items) }
	case "$nin":
		fits, test = isList, func(v any, there bool) bool { return !there || !oneOf(v, items) }
	case "$exists":
		fits, test = isBool, func(_ any, there bool) bool { return there == yes }
	case "$starts":
		fits, test = isText, onText(func(s string) bool { return strings.HasPrefix(s, text) })
	case "$ends":
		fits, test = isText, onText(func(s string) bool { return strings.HasSuffix(s, text) })
	case "$contains":
		test = func(v any, there bool) bool { return there && containsJSON(v, want) }
	case "$gt", "$gte", "$lt", "$lte":
		fits, test = isText || isNumber(want), func(v any, there bool) bool { return there && ordered(name, v, want) }
	default:
		return nil, Invalidf(at, "unknown operator; known are $eq $ne $in $nin $gt $gte $lt $lte $starts $ends $contains $exists")
	}
	if !fits {
		return nil, Invalidf(at, "its value is of the wrong type")
	}
	return test, nil
}

func onText(test func(string) bool) func(any, bool) bool {
	return func(v any, there bool) bool { s, ok := v.(string); return there && ok && test(s) }
}

func isNumber(v any) bool { _, ok := v.(json.Number); return ok }

func oneOf(v any, items []any) bool {
	return slices.ContainsFunc(items, func(item any) bool { return equalJSON(v, item) })
}

// containsJSON: a text holds a text, a list holds an item.
func containsJSON(v, want any) bool {
	switch v := v.(type) {
	case string:
		s, ok := want.(string)
		return ok && strings.Contains(v, s)
	case []any:
		return oneOf(want, v)
	}
	return false
}

func ordered(name string, v, want any) bool {
	c := 0
	if a, ok := v.(string); ok {
		b, ok := want.(string)
		if !ok {
			return false
		}
		c = strings.Compare(a, b)
	} else {
		a, okA := number(v)
		b, okB := number(want)
		if !okA || !okB {
			return false
		}
		if a < b {
			c = -1
		} else if a > b {
			c = 1
		}
	}
	switch name {
	case "$gt":
		return c > 0
	case "$gte":
		return c >= 0
	case "$lt":
		return c < 0
	}
	return c <= 0
}

func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

func equalJSON(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return false
		}
		if a == b {
			return true
		}
		x, errX := a.Float64()
		y, errY := b.Float64()
		return errX == nil && errY == nil && x == y
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, equalJSON)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equalJSON)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}
