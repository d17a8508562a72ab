package mercure

import (
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// IDOf returns the id of the update that e is, or is a copy of.
func IDOf(e *hark.Event) string {
	if id := e.Attributes[attrID]; id != "" && isField(id) {
		return id
	}
	id := e.ID
	if strings.HasPrefix(e.Topic, Alternate) {
		id.Offset += hark.Offset(viewOf(e).copy)
	}
	return id.String()
}

// AppendFrame appends e as a block of an event stream, as hubs write them: type,
// retry, id, data. Attributes may come from anyone who may publish natively: what
// could forge a line is left out.
func AppendFrame(dst []byte, e *hark.Event) []byte {
	dst = slices.Grow(dst, 64+len(e.Data))
	if kind := e.Attributes[attrType]; kind != "" && isField(kind) {
		dst = append(append(append(dst, "event: "...), kind...), '\n')
	}
	if retry := e.Attributes[attrRetry]; retry != "" && strings.Trim(retry, "0123456789") == "" {
		dst = append(append(append(dst, "retry: "...), retry...), '\n')
	}
	dst = append(append(append(dst, "id: "...), IDOf(e)...), '\n')
	if !utf8.Valid(e.Data) { // an event stream is UTF-8
		dst = append(dst, "data: "...)
		dst = base64.StdEncoding.AppendEncode(dst, e.Data)
		return append(dst, '\n', '\n')
	}
	return append(appendData(dst, e.Data), '\n')
}

// appendData appends a data line for each line. CR, LF and CRLF all end one.
func appendData(dst, data []byte) []byte {
	dst = append(dst, "data: "...)
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\r' && i+1 < len(data) && data[i+1] == '\n':
		case c == '\r' || c == '\n':
			dst = append(dst, "\ndata: "...)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '\n')
}
