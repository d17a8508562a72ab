package live

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// SSE is Server-Sent Events (WHATWG HTML section 9.2). An event is a message without a
// name, so that onmessage sees it; its id is its cursor.
var SSE = &Format{
	Variant:     &Variant{Name: "sse", Append: appendSSE},
	ContentType: "text/event-stream; charset=utf-8",
	Prelude: func(dst []byte, at hark.Cursor, reconnect time.Duration) []byte {
		// No data, so nothing is dispatched; but the browser has a cursor from now on.
		return appendID(appendRetry(dst, reconnect), at)
	},
	Gap: func(dst []byte, g *hark.Gap) []byte {
		dst = append(append(append(dst, "event: gap\nid: "...), g.To.String()...), "\ndata: "...)
		return append(appendGap(dst, g), "\n\n"...)
	},
	Cursor:    appendID,
	KeepAlive: ":\n\n",
	End: func(dst []byte, why string, reconnect time.Duration) []byte {
		dst = append(appendRetry(dst, reconnect), "event: end\ndata: "...)
		return append(appendEnd(dst, why, reconnect), "\n\n"...)
	},
}

// sseFormats is [SSE] as kinds of clients need it, by [kind].
var sseFormats = [...]*Format{SSE, variation(SSE, false, true), variation(SSE, true, false), variation(SSE, true, true)}

// kind is an index of [sseFormats].
func kind(browser, ping bool) (n int) {
	if ping {
		n++
	}
	if browser {
		n += 2
	}
	return n
}

// variation returns SSE for a browser's own EventSource, for clients that want to notice
// silence, or for both.
//
// A browser is told its cursor by an event, which pages that have no listener for it never
// see: Firefox 153 forgets the id of a block without data, whatever WHATWG HTML section 9.2.6
// says, and would lose what came before its first event if that connection broke.
func variation(of *Format, browser, ping bool) *Format {
	f := *of
	if browser {
		f.Cursor = func(dst []byte, at hark.Cursor) []byte {
			return append(append(append(dst, "event: cursor\nid: "...), at.String()...), "\ndata: {}\n\n"...)
		}
		f.Prelude = func(dst []byte, at hark.Cursor, reconnect time.Duration) []byte {
			return f.Cursor(appendRetry(dst, reconnect), at)
		}
	}
	if ping {
		f.KeepAlive = "event: ping\ndata: {}\n\n"
	}
	return &f
}

func appendSSE(dst []byte, e *hark.Event, line []byte) []byte {
	dst = append(append(dst, "id: "...), e.ID.String()...)
	dst = append(append(dst, "\ndata: "...), line...)
	return append(dst, "\n\n"...)
}

func appendRetry(dst []byte, d time.Duration) []byte {
	return append(strconv.AppendInt(append(dst, "retry: "...), d.Milliseconds(), 10), '\n')
}

func appendID(dst []byte, at hark.Cursor) []byte {
	return append(append(append(dst, "id: "...), at.String()...), "\n\n"...)
}

// appendGap appends a gap as JSON.
func appendGap(dst []byte, g *hark.Gap) []byte {
	dst = append(append(append(dst, `{"from":"`...), g.From.String()...), `","to":"`...)
	dst = append(append(append(dst, g.To.String()...), `","reason":"`...), g.Reason...)
	return append(dst, `"}`...)
}

// appendEnd appends why a stream ends, and when to come back, as JSON.
func appendEnd(dst []byte, why string, reconnect time.Duration) []byte {
	dst = append(append(append(dst, `{"reason":"`...), why...), `","reconnect_ms":`...)
	return append(strconv.AppendInt(dst, reconnect.Milliseconds(), 10), '}')
}

// ServeStream answers GET /v1/stream: SSE, or NDJSON for who asks for it.
func (h *Hub) ServeStream(w http.ResponseWriter, r *http.Request) error {
	c, q := h.cfg.CallerOf(r.Context()), r.URL.Query()
	format, err := formatOf(r, q.Get("format"), q.Get("ping"))
	if err != nil {
		return err
	}
	a, err := h.askedBy(r, c, q, "format", "ping")
	if err != nil {
		return err
	}
	return h.Stream(w, r, &Stream{Query: Query{Tenant: c.TenantID(), Patterns: a.patterns}, Format: format,
		After: a.after, Gap: a.gap, Caller: c})
}

// formatOf chooses the row of the table of streams.
func formatOf(r *http.Request, format, ping string) (*Format, error) {
	if format == "" {
		format = "sse"
		accept := strings.Join(r.Header["Accept"], ",")
		if !strings.Contains(accept, "text/event-stream") && (strings.Contains(accept, "application/x-ndjson") || strings.Contains(accept, "application/jsonl")) {
			format = "ndjson"
		}
	}
	switch {
	case format == "ndjson" && ping == "":
		return NDJSON, nil
	case format == "sse" && (ping == "" || ping == "event"):
		return sseFormats[kind(isEventSource(r), ping != "")], nil
	case format == "sse":
		return nil, hark.Invalidf("ping", `must be "event", or left out`)
	case format == "ndjson":
		return nil, hark.Invalidf("ping", "is for SSE: an NDJSON stream's keep-alives are empty lines")
	}
	return nil, hark.Invalidf("format", `must be "sse" or "ndjson"`)
}

// ServeBusy answers GET /v1/stream of a client that cannot be served just now, whoever it
// is: with a stream that ends at once and says when to come back. To a browser, 429 and
// 503 are for good.
func (h *Hub) ServeBusy(w http.ResponseWriter, r *http.Request, reconnect time.Duration) {
	q := r.URL.Query()
	format, err := formatOf(r, q.Get("format"), q.Get("ping"))
	if err != nil {
		format = SSE
	}
	head := w.Header()
	head.Set("Content-Type", format.ContentType)
	head.Set("Cache-Control", "private, no-cache, no-store, must-revalidate, max-age=0")
	if r.Method == http.MethodHead {
		return
	}
	_ = h.refuse(w, &Stream{Format: format}, endOverloaded, reconnect+spread(5*time.Second)) // whoever hangs up need not be told
}
