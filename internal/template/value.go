package template

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Walk follows a path into a value: names into objects, numbers into arrays. It
// returns nil where the path leads nowhere.
func Walk(v any, path []string) any {
	for _, name := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case map[string]string:
			text, ok := x[name]
			if !ok {
				return nil
			}
			v = text
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// Text writes a value: texts as they are, numbers as they were sent, times as RFC
// 3339 in UTC, nothing as the empty text, objects and arrays as JSON.
func Text(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case json.Number:
		return x.String()
	case bool:
		return strconv.FormatBool(x)
	case int:
		return strconv.Itoa(x)
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	case time.Time:
		if x.IsZero() {
			return ""
		}
		return x.UTC().Format(time.RFC3339)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return "" // no value of Lookup's is one that JSON does not have
	}
	return strings.TrimSuffix(b.String(), "\n")
}
