package hark

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// AppendEventJSON appends the JSON form of e to dst: the one that lists, live
// transports and webhooks in envelope form all use.
//
//	{"id","topic","time"?,"received","key"?,"content_type","data" or "data_base64","attributes"?,"source"?}
//
// The stored bytes are never re-serialised. Which field carries them follows from
// the content type and the bytes alone, so that a reader gets them back exactly:
//
//   - JSON content type and one valid JSON value: "data" is that value, byte for byte;
//   - a text type ([IsText]) and valid UTF-8: "data" is a JSON string;
//   - anything else: "data_base64" (standard alphabet, padded).
//
// Data that is JSON may hold line breaks between its tokens: framings by line
// use [AppendEventJSONLine].
func AppendEventJSON(dst []byte, e *Event) []byte { return appendEvent(dst, e, false) }

// AppendEventJSONLine is [AppendEventJSON] on one line: line breaks inside the
// data value, which in JSON can only be white space between tokens, become
// spaces. No newline is added at the end.
func AppendEventJSONLine(dst []byte, e *Event) []byte { return appendEvent(dst, e, true) }

func appendEvent(dst []byte, e *Event, line bool) []byte {
	dst = slices.Grow(dst, 256+len(e.Topic)+len(e.Key)+len(e.Data))
	dst = append(dst, `{"id":"`...)
	dst = append(dst, e.ID.String()...)
	dst = append(dst, `","topic":`...)
	dst = appendString(dst, e.Topic)
	if !e.Time.IsZero() && jsonYear(e.Time) {
		dst = appendTime(append(dst, `,"time":`...), e.Time)
	}
	dst = appendTime(append(dst, `,"received":`...), e.Received)
	if e.Key != "" {
		dst = appendString(append(dst, `,"key":`...), e.Key)
	}
	dst = appendString(append(dst, `,"content_type":`...), e.ContentType)
	dst = appendData(dst, e, line)
	if len(e.Attributes) > 0 {
		dst = appendAttributes(append(dst, `,"attributes":`...), e.Attributes)
	}
	if e.Source != "" {
		dst = appendString(append(dst, `,"source":`...), e.Source)
	}
	return append(dst, '}')
}

func appendData(dst []byte, e *Event, line bool) []byte {
	switch {
	case IsJSON(e.ContentType) && validJSON(e.Data):
		dst = append(dst, `,"data":`...)
		start := len(dst)
		dst = append(dst, e.Data...)
		if line {
			for i, c := range dst[start:] {
				if c == '\n' || c == '\r' {
					dst[start+i] = ' '
				}
			}
		}
		return dst
	case IsText(e.ContentType) && utf8.Valid(e.Data):
		return appendString(append(dst, `,"data":`...), e.Data)
	default:
		dst = append(dst, `,"data_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, e.Data)
		return append(dst, '"')
	}
}

func appendAttributes(dst []byte, attrs map[string]string) []byte {
	var few [8]string
	names := few[:0]
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names) // the same event is the same text, for ETags and for eyes
	for i, name := range names {
		c := byte(',')
		if i == 0 {
			c = '{'
		}
		dst = append(appendString(append(dst, c), name), ':')
		dst = appendString(dst, attrs[name])
	}
	return append(dst, '}')
}

// IsText reports whether contentType names data that is text for people, so that
// valid UTF-8 in it is shown as text: text/*, +xml, and a few application types.
// JSON is not among them: see [IsJSON].
func IsText(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	switch mediaType {
	case "text/json":
		return false
	case "application/xml", "application/yaml", "application/x-yaml", "application/javascript", "application/toml",
		"application/x-www-form-urlencoded", "application/x-ndjson", "application/jsonl", "application/graphql",
		"application/sql":
		return true
	}
	return strings.HasPrefix(mediaType, "text/") || strings.HasSuffix(mediaType, "+xml")
}

// jsonYear: RFC 3339 has four digits for the year.
func jsonYear(t time.Time) bool { y := t.UTC().Year(); return y >= 0 && y <= 9999 }

func appendTime(dst []byte, t time.Time) []byte {
	if !jsonYear(t) {
		t = time.Time{}
	}
	return append(t.UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Broken UTF-8 becomes U+FFFD. It escapes
// what JSON demands, and U+2028 and U+2029 for old JavaScript; not <, > and &,
// since the answer is never embedded in HTML.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = appendEscape(append(dst, s[start:i]...), c)
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		if (r == utf8.RuneError && n == 1) || r == '\u2028' || r == '\u2029' {
			dst = append(dst, s[start:i]...)
			dst = append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			start = i + n
		}
		i += n
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// eventJSON is what a reader of [AppendEventJSON] sees.
type eventJSON struct {
	ID          EventID           `json:"id"`
	Topic       string            `json:"topic"`
	Time        time.Time         `json:"time"`
	Received    time.Time         `json:"received"`
	Key         string            `json:"key"`
	ContentType string            `json:"content_type"`
	Data        json.RawMessage   `json:"data"`
	DataBase64  *string           `json:"data_base64"`
	Attributes  map[string]string `json:"attributes"`
	Source      string            `json:"source"`
}

// ParseEventJSON reads what [AppendEventJSON] wrote: the inverse, for clients and
// for receivers of envelopes. Data comes back byte for byte. Fields it does not know
// are ignored, so that an older client can read a newer server.
func ParseEventJSON(text []byte) (*Event, error) {
	var v eventJSON
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, &Error{Kind: Invalid, Code: "bad-event", Msg: "this is not an event in JSON", Err: err}
	}
	e := &Event{ID: v.ID, Topic: v.Topic, Time: v.Time, Received: v.Received, Key: v.Key,
		ContentType: v.ContentType, Attributes: v.Attributes, Source: v.Source}
	switch {
	case v.DataBase64 != nil:
		data, err := base64.StdEncoding.DecodeString(*v.DataBase64)
		if err != nil {
			return nil, &Error{Kind: Invalid, Code: "bad-event", Field: "data_base64", Msg: "is not base64", Err: err}
		}
		e.Data = data
	case v.Data == nil:
	case IsJSON(v.ContentType):
		e.Data = v.Data
	default:
		var s string
		if err := json.Unmarshal(v.Data, &s); err != nil {
			return nil, &Error{Kind: Invalid, Code: "bad-event", Field: "data",
				Msg: fmt.Sprintf("must be a string when the content type is %q", clip(v.ContentType, 64)), Err: err}
		}
		e.Data = []byte(s)
	}
	return e, nil
}
