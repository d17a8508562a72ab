package destination

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
)

// maxRetryAfter only keeps nonsense from overflowing; package deliver caps it lower.
const maxRetryAfter = 366 * 24 * time.Hour

// Verdict turns an HTTP status into an outcome. It is the only place that does.
func Verdict(status int) hark.Outcome {
	switch {
	case status/100 == 2:
		return hark.OK
	case status == http.StatusGone:
		return hark.Unsubscribed
	case status == http.StatusTooManyRequests:
		return hark.Throttled
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return hark.Overloaded
	}
	return hark.Rejected // 3xx too: a redirect is never followed
}

// RetryAfter reads the header of that name, seconds or an HTTP date; 0 for none.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	values := h["Retry-After"]
	if len(values) == 0 {
		return 0
	}
	text := strings.TrimSpace(values[0])
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return maxRetryAfter
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// answered is the result of a request that got an answer.
func answered(res *egress.Response, now time.Time) Result {
	r := Result{Outcome: Verdict(res.Status), Status: res.Status, Snippet: res.Snippet}
	if r.Outcome == hark.OK {
		return r
	}
	r.RetryAfter = RetryAfter(res.Header, now)
	if res.Status/100 == 3 {
		r.Error = "the answer is a redirect, which is never followed: change settings.url"
	}
	return r
}

// unanswered is the result of a request that got none.
func unanswered(err error) Result {
	r := Result{Outcome: hark.ConnectError, Error: "the request failed"}
	// Only this error's own text is made for owners; its cause may hold the URL.
	if e, ok := errors.AsType[*egress.Error](err); ok {
		r.Error = e.Msg
	}
	switch fault := egress.FaultOf(err); fault {
	case egress.FaultRefused:
		r.Outcome = hark.Refused
	case egress.FaultTimeout:
		r.Outcome = hark.TimedOut
	case egress.FaultRequest:
		r.Outcome = hark.Unsendable
	default: // it could not be reached, or what it answered is not HTTP
		r.Ours = !fault.Charged()
	}
	return r
}
