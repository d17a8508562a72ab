package client

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/harkhq/hark"
)

// Problem is what the server says about a request that it refused (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail is a sentence for people that says what to do.
	Detail string `json:"detail"`
	// Code is a stable short name.
	Code string `json:"code"`
	// Errors name each field at fault.
	Errors []FieldError `json:"errors,omitempty"`
	// RequestID finds the request in the server's log.
	RequestID string `json:"request_id"`
}

// FieldError is one fault of a request.
type FieldError struct {
	Field string `json:"field"`
	Msg   string `json:"msg"`
}

// Error is an answer of the server that is not success.
type Error struct {
	// Method and Path are the request's.
	Method, Path string
	Problem
	// RetryAfter is what the server asked to wait; 0 for nothing.
	RetryAfter time.Duration
}

// Error returns the server's sentence and the fields at fault.
func (e *Error) Error() string {
	var parts []string
	for _, f := range e.Errors {
		s := f.Msg
		if f.Field != "" {
			s = f.Field + ": " + s
		}
		if !strings.Contains(e.Detail, f.Msg) {
			parts = append(parts, s)
		}
	}
	s := strings.Join(parts, "; ")
	switch {
	case e.Detail == "" && s == "":
		return fmt.Sprintf("the server answered %d %s", e.Status, http.StatusText(e.Status))
	case e.Detail == "":
		return s
	case s == "":
		return e.Detail
	}
	return strings.TrimSuffix(e.Detail, ".") + ": " + s
}

// Unwrap returns the error as the words of package hark have it, so that
// [hark.KindOf] works on both sides of the wire.
func (e *Error) Unwrap() error {
	h := &hark.Error{Kind: kindOf(e.Status), Code: e.Code, Msg: e.Detail, RetryAfter: e.RetryAfter}
	if len(e.Errors) > 0 {
		h.Field = e.Errors[0].Field
	}
	return h
}

// kinds is the inverse of the server's table of statuses.
var kinds = map[int]hark.Kind{
	http.StatusBadRequest: hark.Invalid, http.StatusUnauthorized: hark.Unauthenticated, http.StatusForbidden: hark.Forbidden,
	http.StatusNotFound: hark.NotFound, http.StatusRequestTimeout: hark.Timeout, http.StatusConflict: hark.Conflict,
	http.StatusPreconditionFailed: hark.Conflict,
	http.StatusGone:               hark.Gone, http.StatusRequestEntityTooLarge: hark.TooLarge, http.StatusUnsupportedMediaType: hark.Unsupported,
	http.StatusUnprocessableEntity: hark.Mismatch, http.StatusTooManyRequests: hark.TooMany, http.StatusServiceUnavailable: hark.Unavailable,
}

func kindOf(status int) hark.Kind {
	if k, ok := kinds[status]; ok {
		return k
	}
	if status/100 == 4 {
		return hark.Invalid
	}
	return hark.Internal
}

// UnreachableError says that there was no answer, or none that could be read.
type UnreachableError struct {
	URL string
	Err error
}

// Error says which server, and why in few words.
func (e *UnreachableError) Error() string { return "cannot reach " + e.URL + ": " + plain(e.Err) }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// plain leaves out what net/http repeats: method, URL, addresses.
func plain(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return "no answer in time"
		}
		err = u.Err
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was cut"
	}
	if d, ok := errors.AsType[*net.DNSError](err); ok && d.IsNotFound {
		return "no such host " + d.Name
	}
	if told := aboutTLS(err); told != "" {
		return told
	}
	return err.Error()
}

// aboutTLS tells what is wrong with a certificate, or that there is none.
func aboutTLS(err error) string {
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the server's certificate is not for " + e.Host
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return "the server's certificate is out of date, or this machine's clock is wrong"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the server's certificate is signed by nobody whom this machine trusts"
	}
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return "the server speaks no TLS: write http://"
	}
	return ""
}

// GapError tells that matching events between two positions may be missing:
// retention removed them, or a restore did. Reading goes on after it.
type GapError struct{ hark.Gap }

// Error says from where to where.
func (e *GapError) Error() string {
	return fmt.Sprintf("events between %v and %v may be missing: they were removed before they were read", e.From, e.To)
}

// readProblem makes an error of an answer that is not success.
func readProblem(r *http.Request, resp *http.Response) *Error {
	e := &Error{Method: r.Method, Path: r.URL.Path, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	known := strings.HasSuffix(media, "json") && json.Unmarshal(text, &e.Problem) == nil
	e.Status = resp.StatusCode
	switch {
	case resp.StatusCode/100 == 3:
		e.Detail = fmt.Sprintf("the server redirects to %s: use that URL if you trust it", resp.Header.Get("Location"))
	case resp.StatusCode == http.StatusBadRequest && strings.Contains(string(text), "HTTP request to an HTTPS server"):
		e.Problem = Problem{Status: resp.StatusCode, Detail: fmt.Sprintf("the server speaks TLS: write https://%s", r.URL.Host)}
	case !known || e.Detail == "" && e.Title == "" && len(e.Errors) == 0:
		e.Problem = Problem{Status: resp.StatusCode, RequestID: e.RequestID,
			Detail: fmt.Sprintf("the server answered %d %s without saying why: is %s://%s a hark server, or a proxy in front of it?",
				resp.StatusCode, http.StatusText(resp.StatusCode), r.URL.Scheme, r.URL.Host)}
	case e.Detail == "" && len(e.Errors) == 0:
		e.Detail = e.Title
	}
	return e
}

// retryAfter reads seconds or a date; 0 for neither. It is at most what 32 bits of
// seconds hold, so that adding to it overflows nothing.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return time.Duration(max(n, 0)) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(at.Sub(now), 0), math.MaxInt32*time.Second)
	}
	return 0
}
