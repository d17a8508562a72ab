package ingest

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// values are what templates need of a body: paths in a tree, so that one pass finds
// all of them and most of the body is only skipped.
type values struct {
	root  node
	slots int
}

type node struct {
	next map[string]*node // members, or elements by number
	slot int              // of the value here, from 1; 0 for none
}

// add returns the slot of the value at a path.
func (v *values) add(path []string) int {
	n := &v.root
	for _, name := range path {
		child := n.next[name]
		if child == nil {
			if n.next == nil {
				n.next = make(map[string]*node, 1)
			}
			child = &node{}
			n.next[name] = child
		}
		n = child
	}
	if n.slot == 0 {
		v.slots++
		n.slot = v.slots
	}
	return n.slot - 1
}

// find returns the values by slot; "" for what is not there, is no string, number or
// boolean, or lies in a body that is neither JSON nor a form. Of members with one
// name the last counts, as with most parsers.
func (v *values) find(contentType string, body []byte) []string {
	if v.slots == 0 {
		return nil
	}
	out := make([]string, v.slots)
	if isForm(contentType) {
		v.findForm(string(body), out)
	} else if looksLikeJSON(body) {
		v.root.find(body, out)
	}
	return out
}

// looksLikeJSON: some providers send JSON as text/plain.
func looksLikeJSON(body []byte) bool {
	body = bytes.TrimLeft(body, " \t\r\n")
	return len(body) > 0 && (body[0] == '{' || body[0] == '[')
}

func isForm(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), "application/x-www-form-urlencoded")
}

// find is at most as deep as the deepest path; what it skips is not decoded.
func (n *node) find(value []byte, out []string) {
	if n.slot > 0 {
		out[n.slot-1] = scalar(value)
	}
	if len(n.next) == 0 {
		return
	}
	switch value = bytes.TrimLeft(value, " \t\r\n"); {
	case len(value) == 0:
	case value[0] == '{':
		n.findMembers(value, out)
	case value[0] == '[':
		i := 0
		hark.EachJSONElement(value, func(element []byte) bool {
			if child := n.next[strconv.Itoa(i)]; child != nil {
				child.find(element, out)
			}
			i++
			return true
		})
	}
}

func (n *node) findMembers(value []byte, out []string) {
	// The bytes of a member are looked at once for each level of paths above it.
	plain := hark.EachJSONMember(value, func(name, member []byte) bool {
		if child := n.next[string(name)]; child != nil {
			child.forget(out)
			child.find(member, out)
		}
		return true
	})
	if plain {
		return
	}
	// A name with an escape, or no JSON at all.
	n.forget(out)
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return
	}
	for name, child := range n.next {
		if member, ok := members[name]; ok {
			child.find(member, out)
		}
	}
}

// forget undoes what was found below n, and at it.
func (n *node) forget(out []string) {
	if n.slot > 0 {
		out[n.slot-1] = ""
	}
	for _, child := range n.next {
		child.forget(out)
	}
}

// scalar is the text of a string, number or boolean.
func scalar(value []byte) string {
	value = bytes.TrimSpace(value)
	if len(value) == 0 {
		return ""
	}
	switch c := value[0]; {
	case c == '"':
		if bytes.IndexByte(value, '\\') < 0 && utf8.Valid(value) {
			return cut(string(value[1:len(value)-1]), maxValue)
		}
		var s string
		if json.Unmarshal(value, &s) != nil {
			return ""
		}
		return cut(s, maxValue)
	case c == '-' || c >= '0' && c <= '9', c == 't', c == 'f':
		return cut(string(value), maxValue)
	}
	return ""
}

// findForm reads a form. Of fields with one name the first counts.
func (v *values) findForm(body string, out []string) {
	seen := make(map[string]bool, len(v.root.next))
	for pair := range strings.SplitSeq(body, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		child := v.root.next[name]
		if err != nil || child == nil || seen[name] {
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			continue
		}
		seen[name] = true
		if child.slot > 0 {
			out[child.slot-1] = cut(value, maxValue)
		}
		if len(child.next) > 0 {
			(&node{next: child.next}).find([]byte(value), out)
		}
	}
}

// queryValue returns the first value of a parameter.
func queryValue(query, name string) string {
	for pair := range strings.SplitSeq(query, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		if got, err := url.QueryUnescape(rawName); err != nil || got != name {
			continue
		}
		value, _ := url.QueryUnescape(rawValue)
		return cut(value, maxValue)
	}
	return ""
}

// contentTypeOf is a request's content type as an event may have it.
func contentTypeOf(sent string) string {
	if sent == "" || len(sent) > hark.MaxContentType {
		return "application/octet-stream"
	}
	for i := range len(sent) {
		if sent[i] < 0x20 || sent[i] > 0x7e {
			return "application/octet-stream"
		}
	}
	return sent
}
