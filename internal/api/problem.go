package api

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/harkhq/hark"
)

// Problem is an answer that says what went wrong and what to do, RFC 9457.
type Problem struct {
	Type   string `json:"type" doc:"A URI that names the kind of problem; stable."`
	Title  string `json:"title" doc:"The status in words."`
	Status int    `json:"status"`
	Detail string `json:"detail" doc:"What went wrong this time, and what to do."`
	Code   string `json:"code" doc:"The last part of type: a stable short name."`
	// Errors name the offending fields, all at once.
	Errors    []FieldError `json:"errors,omitempty"`
	RequestID string       `json:"request_id,omitempty"`
	// Reason says in one word why an inbound request was not verified.
	Reason string `json:"reason,omitempty"`

	retryAfter int
	cause      error
}

// FieldError is one thing that is wrong with the input.
type FieldError struct {
	Field string `json:"field,omitempty" doc:"The field as it was written, such as settings.url."`
	Msg   string `json:"msg"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// Unwrap returns what the problem was made of.
func (p *Problem) Unwrap() error { return p.cause }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return problemType }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	p.setHeaders(h)
	return h
}

const problemType = "application/problem+json"

// problemURI is the page that explains every code.
const problemURI = "https://github.com/harkhq/hark/blob/main/docs/problems.md#"

var statusOf = map[hark.Kind]int{
	hark.Internal: 500, hark.Invalid: 400, hark.Unauthenticated: 401, hark.Forbidden: 403, hark.NotFound: 404,
	hark.Timeout: 408, hark.Conflict: 409, hark.Gone: 410, hark.TooLarge: 413, hark.Unsupported: 415,
	hark.Mismatch: 422, hark.TooMany: 429, hark.Unavailable: 503,
}

// ProblemOf turns any error into an answer. What is not a [hark.Error] is our
// fault: the user learns nothing but the request id.
func ProblemOf(err error, requestID string) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		p.RequestID = requestID
		return p
	}
	first, ok := errors.AsType[*hark.Error](err)
	if !ok {
		if status, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return newProblem(413, "body-too-large", "the body is over the limit of "+strconv.FormatInt(status.Limit, 10)+" bytes", requestID, err)
		}
		return newProblem(500, "internal", "something went wrong on our side; the log tells more under the request id", requestID, err)
	}
	code := first.Code
	if code == "" {
		code = strings.ToLower(strings.ReplaceAll(http.StatusText(statusOf[first.Kind]), " ", "-"))
	}
	p := newProblem(statusOf[first.Kind], code, first.Msg, requestID, err)
	if first.RetryAfter > 0 {
		p.retryAfter = int(math.Ceil(first.RetryAfter.Seconds()))
	}
	if first.Kind == hark.Unauthenticated {
		p.Errors = nil
	}
	for _, e := range leaves(err) {
		if e.Field != "" {
			p.Errors = append(p.Errors, FieldError{Field: e.Field, Msg: e.Msg})
		}
	}
	switch {
	case len(p.Errors) > 1:
		p.Detail = "several fields are not acceptable"
	case first.Field != "":
		p.Detail = first.Field + ": " + first.Msg
	}
	if prefix := wrapping(err, first); prefix != "" {
		p.Detail = prefix + p.Detail
	}
	return p
}

// MethodNotAllowed is the answer to a method that a URL does not take.
func MethodNotAllowed(method, requestID string) *Problem {
	return newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "this URL does not take "+method+"; Allow says what it takes", requestID, nil)
}

// wrapping returns what was written before first's own text ("event 3 of the batch: ").
func wrapping(err error, first *hark.Error) string {
	if len(leaves(err)) > 1 {
		return ""
	}
	before, _, found := strings.Cut(err.Error(), first.Error())
	if !found {
		return ""
	}
	return before
}

// leaves finds every hark.Error in a tree of joined errors.
func leaves(err error) []*hark.Error {
	if e, ok := err.(*hark.Error); ok {
		return []*hark.Error{e}
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var all []*hark.Error
		for _, one := range e.Unwrap() {
			all = append(all, leaves(one)...)
		}
		return all
	case interface{ Unwrap() error }:
		return leaves(e.Unwrap())
	}
	return nil
}

func newProblem(status int, code, detail, requestID string, cause error) *Problem {
	return &Problem{Type: problemURI + code, Title: http.StatusText(status), Status: status, Detail: detail,
		Code: code, RequestID: requestID, cause: cause}
}

func (p *Problem) setHeaders(h http.Header) {
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		challenge := `Bearer realm="hark"`
		if p.Reason != "" { // there is no key to send: the provider's signature counts
			challenge = `Signature realm="hark"`
		}
		h.Set("WWW-Authenticate", challenge)
	}
}

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte(`{"title":"Internal Server Error","status":500}`)
	}
	h := w.Header()
	p.setHeaders(h)
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	w.Write(body)
}

// adoptErrors makes what huma finds wrong with input look like everything else.
var adoptErrors = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		code := "invalid"
		if status >= 500 {
			code, msg = "internal", "something went wrong on our side; the log tells more under the request id"
		}
		p := newProblem(status, code, msg, "", errors.Join(errs...))
		if status >= 500 {
			return p
		}
		for _, err := range errs {
			if d, ok := err.(huma.ErrorDetailer); ok {
				detail := d.ErrorDetail()
				p.Errors = append(p.Errors, FieldError{Field: fieldName(detail.Location), Msg: detail.Message})
			} else if err != nil {
				p.Errors = append(p.Errors, FieldError{Msg: err.Error()})
			}
		}
		if len(p.Errors) == 1 && p.Errors[0].Field != "" {
			p.Detail = p.Errors[0].Field + ": " + p.Errors[0].Msg
		}
		return p
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		err := huma.NewError(status, msg, errs...)
		if p, ok := err.(*Problem); ok {
			p.RequestID = RequestID(ctx.Context())
		}
		return err
	}
})

// fieldName turns "body.settings.url" into "settings.url".
func fieldName(location string) string {
	for _, part := range []string{"body.", "query.", "path.", "header."} {
		if rest, ok := strings.CutPrefix(location, part); ok {
			return rest
		}
	}
	return location
}
