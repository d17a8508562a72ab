package push

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/egress"
)

// snippetMax is how much of an answer a platform reads.
const snippetMax = 4 << 10

// maxAfter keeps nonsense from overflowing.
const maxAfter = 24 * time.Hour

// unanswered is the result of a request that got no answer: always RetryAt.
func unanswered(err error) Result {
	r := Result{Outcome: RetryAt, Code: egress.FaultOf(err).String(), Error: "the request failed"}
	// Only this error's own text is made for owners; its cause may hold the URL.
	if e, ok := errors.AsType[*egress.Error](err); ok {
		r.Error = e.Msg
		r.ours = !e.Fault.Charged()
	}
	return r
}

// overloaded is the result of 5xx and 429: again, when the answer says or by the schedule.
// Wide says that all of the origin is meant.
func overloaded(res *egress.Response, now time.Time, wide bool) Result {
	return Result{Outcome: RetryAt, Status: res.Status, After: retryAfter(res.Header, now), Wide: wide,
		Error: "the push service answered " + strconv.Itoa(res.Status) + ": it is tried again"}
}

// retryAfter reads the header of that name, seconds or an HTTP date; 0 for none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxAfter)
}

// clip bounds what is repeated of an answer, on one line.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
