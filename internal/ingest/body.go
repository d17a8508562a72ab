package ingest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/scheme"
)

const (
	// firstBuffer is what a body gets before any of it arrived: announcing is cheap.
	firstBuffer = 16 << 10
	// bodyTimeout is how long a body may take: no provider waits longer for its answer.
	bodyTimeout = 20 * time.Second
)

// budget bounds the memory of all bodies.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// maxBody is the source's limit.
func (v *visit) maxBody() int {
	if v.src.MaxBody > 0 {
		return v.src.MaxBody
	}
	return v.door.cfg.MaxBody
}

// buffered is a body of which a part was read with the head.
type buffered interface{ Buffered() []byte }

// readBody reads the body, bounded while it arrives. With an error it returns what there is of it.
func (v *visit) readBody() ([]byte, *hark.Error) {
	limit, declared := v.maxBody(), v.r.ContentLength
	if declared > int64(limit) {
		v.truncated = true
		return nil, errBodyTooLarge(limit)
	}
	if declared == 0 {
		return nil, nil
	}
	size := firstBuffer
	if declared > 0 {
		size = int(min(declared, firstBuffer))
	}
	if !v.reserve(size) {
		return nil, errNoMemory()
	}
	if b, ok := v.r.Body.(buffered); ok && int64(len(b.Buffered())) == declared {
		return slices.Clone(b.Buffered()), nil
	}
	timer := http.NewResponseController(v.w)
	timer.SetReadDeadline(v.received.Add(bodyTimeout))
	body, err := v.readAll(make([]byte, 0, size), limit, declared)
	if err == nil {
		timer.SetReadDeadline(time.Time{}) // the server sets its own for the next request
	}
	return body, err
}

// readAll reads the body into a buffer that grows with what arrives.
func (v *visit) readAll(body []byte, limit int, declared int64) ([]byte, *hark.Error) {
	for {
		if len(body) == cap(body) {
			if declared >= 0 && int64(len(body)) == declared {
				return body, nil // without another read, which would only tell the end
			}
			room := min(2*cap(body), limit+1)
			if declared > 0 {
				room = min(room, int(declared))
			}
			if !v.reserve(room - cap(body)) {
				v.truncated = true
				return body, errNoMemory()
			}
			grown := make([]byte, len(body), room)
			copy(grown, body)
			body = grown
		}
		n, err := v.r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if len(body) > limit {
			v.truncated = true
			return body[:limit], errBodyTooLarge(limit)
		}
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			v.truncated = true
			return body, bodyError(err)
		}
	}
}

// reserve takes memory for a body; giveBack returns all of it.
func (v *visit) reserve(n int) bool {
	if v.held += int64(n); v.open.meter.held.Add(int64(n)) > v.door.cfg.Budget/4 || !v.door.budget.take(int64(n)) {
		v.open.meter.held.Add(-int64(n))
		v.held -= int64(n)
		return false
	}
	return true
}

func (v *visit) giveBack() {
	v.open.meter.held.Add(-v.held)
	v.door.budget.used.Add(-v.held)
	v.held = 0
}

func errBodyTooLarge(limit int) *hark.Error {
	return &hark.Error{Kind: hark.TooLarge, Code: "body-too-large", Msg: fmt.Sprintf("the body is over this source's limit of %d bytes", limit)}
}

func errNoMemory() *hark.Error {
	return &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second, Msg: "too many large requests are under way; try again"}
}

func bodyError(err error) *hark.Error {
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timeout.Timeout() {
		return &hark.Error{Kind: hark.Timeout, Code: "body-timeout", Msg: "the body did not arrive in time", Err: err}
	}
	return &hark.Error{Kind: hark.Invalid, Code: "body-cut", Msg: "the body ended before its declared length, or is not framed as it says", Err: err}
}

func statusOf(err error) int {
	if e, ok := errors.AsType[*hark.Error](err); ok {
		if status := statuses[e.Kind]; status != 0 {
			return status
		}
	}
	return http.StatusInternalServerError
}

// statuses of the kinds that the door answers; package api has them all.
var statuses = map[hark.Kind]int{
	hark.Invalid: 400, hark.Unauthenticated: 401, hark.Forbidden: 403, hark.NotFound: 404, hark.Timeout: 408,
	hark.TooLarge: 413, hark.Mismatch: 422, hark.TooMany: 429, hark.Unavailable: 503,
}

// headerOf returns the fields in the order in which they were sent, as far as that is known.
func headerOf(head string, r *http.Request) scheme.Header {
	if head != "" {
		return parseHead(head)
	}
	out := make(scheme.Header, 1, len(r.Header)+1)
	out[0] = scheme.Field{Name: "host", Value: r.Host}
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		shown := name
		if r.ProtoMajor > 1 {
			shown = strings.ToLower(name)
		}
		for _, value := range r.Header[name] {
			out = append(out, scheme.Field{Name: shown, Value: value})
		}
	}
	return out
}

// parseHead splits a head that net/http has accepted into its fields.
func parseHead(head string) scheme.Header {
	_, head, _ = strings.Cut(head, "\n")
	out := make(scheme.Header, 0, strings.Count(head, "\n"))
	for head != "" {
		var line string
		if line, head, _ = strings.Cut(head, "\n"); line == "" || line == "\r" {
			break
		}
		line = strings.TrimSuffix(line, "\r")
		if (line[0] == ' ' || line[0] == '\t') && len(out) > 0 { // it goes on with the value before
			last := &out[len(out)-1].Value
			*last = strings.TrimSpace(*last + " " + strings.TrimSpace(line))
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		out = append(out, scheme.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	return out
}
