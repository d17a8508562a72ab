package hark

import (
	"bytes"
	"unicode/utf8"
)

// maxJSONDepth is where encoding/json gives up too.
const maxJSONDepth = 10000

// validJSON reports whether b is one JSON value in UTF-8. It agrees with json.Valid
// on UTF-8 (which json.Valid does not demand) and takes a fraction of its time: it
// runs for each event that is shown.
func validJSON(b []byte) bool {
	i := skipSpace(b, 0)
	i = jsonValue(b, i, 0)
	return i >= 0 && skipSpace(b, i) == len(b) && utf8.Valid(b)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// jsonValue returns where the value at i ends, or -1. So do the functions below.
func jsonValue(b []byte, i, depth int) int {
	if i >= len(b) || depth > maxJSONDepth {
		return -1
	}
	switch c := b[i]; {
	case c == '"':
		return jsonString(b, i+1)
	case c == '{' || c == '[':
		return jsonComposite(b, i, depth+1)
	case c == '-' || c >= '0' && c <= '9':
		return jsonNumber(b, i)
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if len(b)-i >= len(word) && string(b[i:i+len(word)]) == word {
			return i + len(word)
		}
	}
	return -1
}

// jsonComposite reads an object or array, whose bracket is at i.
func jsonComposite(b []byte, i, depth int) int {
	isObject, last := b[i] == '{', b[i]+2 // } and ] follow { and [ at a distance of two
	if depth > maxJSONDepth {
		return -1
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == last {
		return i + 1
	}
	for {
		if isObject {
			if i >= len(b) || b[i] != '"' {
				return -1
			}
			if i = jsonString(b, i+1); i < 0 {
				return -1
			}
			if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
				return -1
			}
			i = skipSpace(b, i+1)
		}
		if i = jsonValue(b, i, depth); i < 0 {
			return -1
		}
		if i = skipSpace(b, i); i >= len(b) {
			return -1
		}
		if b[i] == last {
			return i + 1
		}
		if b[i] != ',' {
			return -1
		}
		i = skipSpace(b, i+1)
	}
}

// jsonString reads on from behind the opening quote.
func jsonString(b []byte, i int) int {
	for i < len(b) {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < 0x20:
			return -1
		case c != '\\':
			i++
		case i+1 >= len(b):
			return -1
		case b[i+1] == 'u':
			if i+6 > len(b) || !isHex(b[i+2]) || !isHex(b[i+3]) || !isHex(b[i+4]) || !isHex(b[i+5]) {
				return -1
			}
			i += 6
		default:
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			default:
				return -1
			}
		}
	}
	return -1
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func jsonNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	start := i
	if i = skipDigits(b, i); i == start || b[start] == '0' && i > start+1 {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		if i = skipDigits(b, start); i == start {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		if i = skipDigits(b, i); i == start {
			return -1
		}
	}
	return i
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

// EachJSONMember calls fn with each member of the JSON object b, in order: the
// name as it stands between its quotes, and the value as it is written. It
// returns false, perhaps after some calls, when b is not exactly one well-formed
// object, when a name holds an escape, or when fn returns false. It is the fast
// way through a known small object; who gets false asks encoding/json.
func EachJSONMember(b []byte, fn func(name, value []byte) bool) bool {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
		return skipSpace(b, i+1) == len(b)
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return false
		}
		start := i + 1
		if i = jsonString(b, start); i < 0 {
			return false
		}
		name := b[start : i-1]
		if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
			return false
		}
		start = skipSpace(b, i+1)
		if i = jsonValue(b, start, 1); i < 0 || bytes.IndexByte(name, '\\') >= 0 || !fn(name, b[start:i:i]) {
			return false
		}
		if i = skipSpace(b, i); i >= len(b) {
			return false
		}
		if b[i] == '}' {
			return skipSpace(b, i+1) == len(b)
		}
		if b[i] != ',' {
			return false
		}
		i = skipSpace(b, i+1)
	}
}

// EachJSONElement calls fn with each element of the JSON array b, in order, as it
// is written. It returns false, perhaps after some calls, when b is not exactly
// one well-formed array, or when fn returns false.
func EachJSONElement(b []byte, fn func(value []byte) bool) bool {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '[' {
		return false
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == ']' {
		return skipSpace(b, i+1) == len(b)
	}
	for {
		start := i
		if i = jsonValue(b, start, 1); i < 0 || !fn(b[start:i:i]) {
			return false
		}
		if i = skipSpace(b, i); i >= len(b) {
			return false
		}
		if b[i] == ']' {
			return skipSpace(b, i+1) == len(b)
		}
		if b[i] != ',' {
			return false
		}
		i = skipSpace(b, i+1)
	}
}
