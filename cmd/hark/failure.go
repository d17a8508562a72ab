package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

// The exit codes are part of the contract: scripts read them.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
	exitNotFound    = 5
	exitInterrupted = 130
)

// failure is an error as the user meets it: one line, and what to try.
type failure struct {
	msg  string
	try  string
	code int
	err  error
}

func (f *failure) Error() string { return f.msg }
func (f *failure) Unwrap() error { return f.err }

// wrongUse is a fault of the command line that was found before any request.
func wrongUse(try, format string, args ...any) error {
	return &failure{msg: fmt.Sprintf(format, args...), try: try, code: exitUsage}
}

// failed is any other failure with something to try.
func failed(try, format string, args ...any) error {
	return &failure{msg: fmt.Sprintf(format, args...), try: try, code: exitFailure}
}

// errQuiet fails without a word: the verb said everything itself.
var errQuiet = &failure{code: exitFailure}

// fail writes an error to stderr and returns the exit code.
func (a *app) fail(err error) int {
	f := a.explain(err)
	if f.msg == "" {
		return f.code
	}
	if a.json {
		a.failJSON(f)
		return f.code
	}
	fmt.Fprintf(a.stderr, "hark: %s\n", oneLine(f.msg))
	if f.try != "" {
		fmt.Fprintf(a.stderr, "  try: %s\n", f.try)
	}
	return f.code
}

// failJSON writes {"error":{"msg","try"?,"exit","status"?,"code"?,"errors"?,"request_id"?}}.
func (a *app) failJSON(f *failure) {
	report := struct {
		Msg       string              `json:"msg"`
		Try       string              `json:"try,omitempty"`
		Exit      int                 `json:"exit"`
		Status    int                 `json:"status,omitempty"`
		Code      string              `json:"code,omitempty"`
		Errors    []client.FieldError `json:"errors,omitempty"`
		RequestID string              `json:"request_id,omitempty"`
	}{Msg: f.msg, Try: f.try, Exit: f.code}
	if e, ok := errors.AsType[*client.Error](f.err); ok {
		report.Status, report.Code, report.Errors, report.RequestID = e.Status, e.Code, e.Errors, e.RequestID
	}
	enc := json.NewEncoder(a.stderr)
	enc.SetEscapeHTML(false)
	enc.Encode(map[string]any{"error": report})
}

// explain turns any error into a failure.
func (a *app) explain(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if errors.Is(err, errInterrupted) || errors.Is(context.Cause(a.ctx), errInterrupted) && errors.Is(err, context.Canceled) {
		return &failure{msg: "interrupted", code: exitInterrupted}
	}
	if u, ok := errors.AsType[*client.UnreachableError](err); ok {
		f := &failure{msg: u.Error(), code: exitUnreachable, err: err,
			try: "is the server running? Start one with: hark dev; or name another with --server or HARK_URL"}
		if strings.Contains(f.msg, "nobody whom this machine trusts") {
			f.try = "--ca with the file of its certificate, if it is yours"
		} else if strings.Contains(f.msg, "TLS") || strings.Contains(f.msg, "certificate") {
			f.try = "another --server, or what hark doctor says"
		}
		return f
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return explainAnswer(e)
	}
	if e, ok := errors.AsType[*hark.Error](err); ok { // found by the client's own checks
		return &failure{msg: err.Error(), code: exitUsage, err: err, try: tryFor(e.Field)}
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return &failure{msg: p.Path + ": " + p.Err.Error(), code: exitFailure, err: err}
	}
	return &failure{msg: err.Error(), code: exitFailure, err: err}
}

func explainAnswer(e *client.Error) *failure {
	f := &failure{msg: e.Error(), code: exitFailure, err: e}
	switch e.Status {
	case http.StatusUnauthorized:
		f.code, f.try = exitRefused, "give a key with --api-key or HARK_KEY; an admin makes one with: hark key create"
	case http.StatusForbidden:
		f.code, f.try = exitRefused, "use a key with the scope that this needs: hark key list"
	case http.StatusNotFound:
		f.code, f.try = exitNotFound, listOf(e.Path)
	case http.StatusGone:
		f.code = exitNotFound
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if f.try = "try again later"; e.RetryAfter > 0 {
			f.try = fmt.Sprintf("again in %v", e.RetryAfter)
		}
	case http.StatusInternalServerError:
		if e.RequestID != "" {
			f.try = "look for " + e.RequestID + " in the server's log"
		}
	}
	return f
}

// listOf names the verb that lists what a path is about.
func listOf(path string) string {
	switch {
	case strings.HasPrefix(path, "/v1/destinations"):
		return "hark destination list"
	case strings.HasPrefix(path, "/v1/sources"):
		return "hark source list"
	case strings.HasPrefix(path, "/v1/deliveries"):
		return "hark deliveries list"
	case strings.HasPrefix(path, "/v1/devices"):
		return "hark device list"
	case strings.HasPrefix(path, "/v1/keys"):
		return "hark key list"
	case strings.HasPrefix(path, "/v1/tenants"):
		return "hark tenant list"
	}
	return ""
}

func tryFor(field string) string {
	switch field {
	case "topic":
		return "hark publish orders.paid --data '{\"total\": 42}'"
	case "topics":
		return "a pattern such as 'orders.*' (one token) or 'orders.>' (one or more)"
	}
	return ""
}

func oneLine(s string) string {
	return cmp.Or(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; "), "failed")
}

// closest returns the word that was probably meant, or "".
func closest(word string, words []string) string {
	best, least := "", len(word)/3+2
	for _, w := range words {
		if d := distance(word, w); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance counts the letters to change, add or take away.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, row[j+1]+1, cost)
		}
	}
	return row[len(b)]
}
