package live

import (
	"time"

	"github.com/harkhq/hark"
)

// NDJSON is one JSON object a line: an event, which has an id, or one of {"cursor"},
// {"gap"} and {"end"}. Keep-alives are empty lines.
var NDJSON = &Format{
	Variant: &Variant{Name: "ndjson", Append: func(dst []byte, _ *hark.Event, line []byte) []byte {
		return append(append(dst, line...), '\n')
	}},
	ContentType: "application/x-ndjson; charset=utf-8",
	Prelude: func(dst []byte, at hark.Cursor, _ time.Duration) []byte {
		return appendCursorLine(dst, at)
	},
	Gap: func(dst []byte, g *hark.Gap) []byte {
		return append(appendGap(append(dst, `{"gap":`...), g), "}\n"...)
	},
	Cursor:    appendCursorLine,
	KeepAlive: "\n",
	End: func(dst []byte, why string, reconnect time.Duration) []byte {
		return append(appendEnd(append(dst, `{"end":`...), why, reconnect), "}\n"...)
	},
}

func appendCursorLine(dst []byte, at hark.Cursor) []byte {
	return append(append(append(dst, `{"cursor":"`...), at.String()...), "\"}\n"...)
}
