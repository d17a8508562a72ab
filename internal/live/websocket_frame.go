package live

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// Limits of what a client's frames say.
const (
	// maxFrame is the largest frame of who does not publish.
	maxFrame = 64 << 10
	// maxName bounds sub and ref.
	maxName    = 64
	maxMembers = 16
)

// frame is what a client says. Which members there are depends on the type: see frameTypes.
type frame struct {
	kind     string
	sub, ref string
	topics   []string
	start    start
	token    string
	key      string // of idempotency
	// event is the object that POST /v1/events would be sent: what a publish says besides
	// type, ref and idempotency_key, in the order in which it came.
	event []byte
}

// frameTypes holds what each type may and must say.
var frameTypes = map[string]struct{ may, must []string }{
	"auth":        {[]string{"token"}, []string{"token"}},
	"subscribe":   {[]string{"sub", "topics", "after", "from", "last"}, []string{"sub"}},
	"unsubscribe": {[]string{"sub"}, []string{"sub"}},
	"publish":     {[]string{"ref", "idempotency_key", "topic", "data", "data_base64", "key", "content_type", "attributes", "time"}, nil},
	"ping":        {[]string{"ref"}, nil},
}

// member is one member of a frame's object, as it is written.
type member struct{ name, value []byte }

// errNotJSON: what came is no frame at all. After that nothing can be believed.
var errNotJSON = &hark.Error{Kind: hark.Invalid, Code: "bad-frame", Msg: "a frame is one JSON object in UTF-8, in a text message, such as {\"type\":\"ping\"}"}

// parseFrame reads a frame. With an error, the frame holds what can be told of sub and ref.
func parseFrame(text []byte) (f frame, err error) {
	var all [maxMembers]member
	n, escaped := 0, false
	whole := utf8.Valid(text) && hark.EachJSONMember(text, func(name, value []byte) bool {
		if n == maxMembers {
			return false
		}
		all[n] = member{name, value}
		n++
		return true
	})
	if !whole {
		if escaped = utf8.Valid(text) && json.Valid(text); !escaped || bytes.TrimLeft(text, " \t\r\n")[0] != '{' {
			return f, errNotJSON
		}
	}
	members := all[:n]
	for _, m := range members { // whom the answer is for, before anything can be wrong
		switch string(m.name) {
		case "sub":
			f.sub, _ = textOf(m.value)
		case "ref":
			f.ref, _ = textOf(m.value)
		case "type":
			f.kind, _ = textOf(m.value)
		}
	}
	if len(f.sub) > maxName {
		f.sub = ""
	}
	if len(f.ref) > maxName {
		f.ref = ""
	}
	if escaped {
		return f, hark.Invalidf("type", fmt.Sprintf("a frame has at most %d members, whose names are written without escapes", maxMembers))
	}
	return f, f.fill(members)
}

// fill checks members and takes them over.
func (f *frame) fill(members []member) error {
	allowed, ok := frameTypes[f.kind]
	if !ok {
		return hark.Invalidf("type", `must be "auth", "subscribe", "unsubscribe", "publish" or "ping"`)
	}
	for i, m := range members {
		name := string(m.name)
		for _, before := range members[:i] {
			if string(before.name) == name {
				return hark.Invalidf(clipName(name), "is there twice")
			}
		}
		if name == "type" {
			continue
		}
		if !slices.Contains(allowed.may, name) {
			return hark.Invalidf(clipName(name), "unknown field of a frame of type "+f.kind)
		}
		if err := f.set(name, m.value); err != nil {
			return err
		}
	}
	for _, name := range allowed.must {
		if !slices.ContainsFunc(members, func(m member) bool { return string(m.name) == name }) {
			return hark.Invalidf(name, "is required in a frame of type "+f.kind)
		}
	}
	if f.kind == "publish" {
		f.event = eventOf(members)
	}
	return nil
}

func (f *frame) set(name string, value []byte) (err error) {
	switch name {
	case "sub":
		if f.sub, err = nameOf(name, value); err == nil && f.sub == "" {
			return hark.Invalidf(name, "must not be empty")
		}
	case "ref":
		f.ref, err = nameOf(name, value)
	case "token":
		f.token, err = stringOf(name, value)
	case "after":
		f.start.after, err = stringOf(name, value)
	case "from":
		f.start.from, err = stringOf(name, value)
	case "idempotency_key":
		if f.key, err = stringOf(name, value); err == nil && f.key == "" {
			return hark.Invalidf(name, "must not be empty")
		}
	case "last":
		if f.start.last, err = strconv.Atoi(string(value)); err != nil || f.start.last < 1 || f.start.last > MaxLast {
			return hark.Invalidf(name, "must be a number from 1 to "+strconv.Itoa(MaxLast))
		}
	case "topics":
		if len(value) > 0 && value[0] != '[' || json.Unmarshal(value, &f.topics) != nil || len(f.topics) == 0 {
			return hark.Invalidf(name, `must be an array of topic patterns, such as ["orders.>"]; leave it out for all that your credential reaches`)
		}
	}
	return err
}

// eventOf is the object of what a publish says of its event.
func eventOf(members []member) []byte {
	b := []byte{'{'}
	for _, m := range members {
		switch string(m.name) {
		case "type", "ref", "idempotency_key":
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), m.name...), `":`...)
		b = append(b, m.value...)
	}
	return append(b, '}')
}

// textOf reads a JSON string.
func textOf(value []byte) (s string, ok bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), true
	}
	return s, json.Unmarshal(value, &s) == nil
}

func stringOf(name string, value []byte) (string, error) {
	s, ok := textOf(value)
	if !ok {
		return "", hark.Invalidf(name, "must be a string")
	}
	return s, nil
}

func nameOf(name string, value []byte) (string, error) {
	s, ok := textOf(value)
	if !ok || len(s) > maxName {
		return "", hark.Invalidf(name, fmt.Sprintf("must be a string of at most %d bytes", maxName))
	}
	return s, nil
}

// clipName bounds what an answer repeats of what came.
func clipName(s string) string {
	switch {
	case s == "":
		return `""`
	case len(s) > maxName:
		return s[:maxName]
	}
	return s
}

// quoted is s as JSON.
func quoted(s string) []byte {
	b, _ := json.Marshal(s) // strings always can
	return b
}

// What the server says. A sub is given as JSON.

func appendHello(dst []byte, pingEvery time.Duration) []byte {
	dst = append(dst, `{"type":"hello","version":1,"ping_ms":`...)
	return append(strconv.AppendInt(dst, pingEvery.Milliseconds(), 10), '}')
}

func appendSub(dst []byte, kind string, sub []byte) []byte {
	dst = append(append(append(dst, `{"type":"`...), kind...), `","sub":`...)
	return append(dst, sub...)
}

func appendSubCursor(dst []byte, kind string, sub []byte, at hark.Cursor) []byte {
	dst = append(appendSub(dst, kind, sub), `,"cursor":"`...)
	return append(append(dst, at.String()...), `"}`...)
}

func appendSubGap(dst []byte, sub []byte, g *hark.Gap) []byte {
	dst = append(appendSub(dst, "gap", sub), `,"gap":`...)
	return append(appendGap(dst, g), '}')
}

// appendRef appends an answer to what carried a ref, open for more.
func appendRef(dst []byte, kind, ref string) []byte {
	dst = append(append(append(dst, `{"type":"`...), kind...), '"')
	if ref != "" {
		dst = append(append(dst, `,"ref":`...), quoted(ref)...)
	}
	return dst
}

func appendPublished(dst []byte, ref string, id hark.EventID, duplicate bool) []byte {
	dst = append(appendRef(dst, "published", ref), `,"id":"`...)
	dst = append(append(dst, id.String()...), '"')
	if duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	return append(dst, '}')
}

func appendAuthenticated(dst []byte, until time.Time) []byte {
	dst = append(dst, `{"type":"authenticated"`...)
	if !until.IsZero() {
		dst = append(until.UTC().AppendFormat(append(dst, `,"expires":"`...), time.RFC3339), '"')
	}
	return append(dst, '}')
}

func appendFault(dst []byte, f *frame, p Fault) []byte {
	dst = appendRef(dst, "error", f.ref)
	if f.sub != "" {
		dst = append(append(dst, `,"sub":`...), quoted(f.sub)...)
	}
	dst = strconv.AppendInt(append(dst, `,"status":`...), int64(p.Status), 10)
	dst = append(append(dst, `,"code":`...), quoted(p.Code)...)
	dst = append(append(dst, `,"detail":`...), quoted(p.Detail)...)
	if p.Field != "" {
		dst = append(append(dst, `,"field":`...), quoted(p.Field)...)
	}
	return append(dst, '}')
}

func appendEndFrame(dst []byte, why string, reconnect time.Duration) []byte {
	return append(append(dst, `{"type":"end",`...), appendEnd(nil, why, reconnect)[1:]...)
}
