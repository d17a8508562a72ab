package scheme

import (
	"encoding/json"
	"strings"
)

// bodyMember returns a text, number or truth value of a JSON body; path has dots
// between names. False where there is none.
func bodyMember(body []byte, path string) (string, bool) {
	value := json.RawMessage(body)
	for name := range strings.SplitSeq(path, ".") {
		var members map[string]json.RawMessage
		if json.Unmarshal(value, &members) != nil {
			return "", false
		}
		var ok bool
		if value, ok = members[name]; !ok {
			return "", false
		}
	}
	switch value[0] {
	case '"':
		var text string
		err := json.Unmarshal(value, &text)
		return text, err == nil
	case '{', '[', 'n':
		return "", false
	}
	return string(value), true
}

// idInHeader is a [Scheme]'s deliveryID that stands in a header.
func idInHeader(name string) func(*Source, *Request) string {
	return func(_ *Source, r *Request) string { return r.Header.Get(name) }
}

// idInBody is one that is a member of the JSON body.
func idInBody(path string) func(*Source, *Request) string {
	return func(_ *Source, r *Request) string {
		id, _ := bodyMember(r.Body, path)
		return id
	}
}
