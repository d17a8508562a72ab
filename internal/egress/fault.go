package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Fault classes why a request got no answer. Its text is stable.
type Fault uint8

// The faults. Those up to FaultRequest are the destination's, see Charged.
const (
	FaultNone     Fault = iota
	FaultRefused        // the guard refuses the address or port: see RefusedError
	FaultDNS            // the name could not be resolved
	FaultConnect        // no TCP connection: refused, unreachable
	FaultTLS            // no TLS: certificate, version, or not a TLS server
	FaultTimeout        // out of time, at whatever step
	FaultReset          // the connection ended before the answer was whole
	FaultProtocol       // what came back is not HTTP
	FaultTooLarge       // the header of the answer is over Config.MaxHeader
	FaultRequest        // the request itself cannot be sent: method, header, scheme
	FaultProxy          // the outbound proxy could not be reached, or refused
	FaultBusy           // we are out of sockets, ports or file descriptors
	FaultCanceled       // the caller's context was cancelled
)

var faultNames = [...]string{"none", "refused", "dns", "connect", "tls", "timeout", "reset", "protocol", "too_large", "request", "proxy", "busy", "canceled"}

func (f Fault) String() string {
	if int(f) < len(faultNames) {
		return faultNames[f]
	}
	return fmt.Sprintf("fault(%d)", uint8(f))
}

// Charged reports whether the fault is the destination's or its settings', so
// that the attempt counts against it. The others say nothing about it: our proxy
// was down, we were out of sockets, we are shutting down.
func (f Fault) Charged() bool { return f != FaultNone && f <= FaultRequest }

// Error is why a request got no answer.
type Error struct {
	Fault Fault
	Msg   string // for the destination's owner
	Err   error  // the cause; its text may tell about our own network
}

func (e *Error) Error() string { return e.Msg }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// FaultOf returns the fault in err's chain: FaultNone for nil, FaultProtocol for
// an error that is not from this room.
func FaultOf(err error) Fault {
	if err == nil {
		return FaultNone
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Fault
	}
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return FaultRefused
	}
	return FaultProtocol
}

// dialFault classes an error of net.Dialer for addr, "host:port".
func dialFault(addr string, err error) *Error {
	fail := func(f Fault, format string, args ...any) *Error {
		return &Error{Fault: f, Msg: fmt.Sprintf(format, args...), Err: err}
	}
	if e, ok := errors.AsType[*RefusedError](err); ok {
		return fail(FaultRefused, "%v", e)
	}
	if errors.Is(err, context.Canceled) {
		return canceled(err)
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return dnsFault(e, err)
	}
	if isBusy(err) {
		return fail(FaultBusy, "out of sockets: %v", errnoText(err))
	}
	// The error knows which of the name's addresses it was.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
		addr = op.Addr.String()
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return fail(FaultTimeout, "connecting to %s took too long", addr)
	}
	return fail(FaultConnect, "connecting to %s: %s", addr, errnoText(err))
}

// canceled is an error that is the caller's doing, so that nobody is charged:
// a stop of the server is no failure of a host that it was connecting to.
func canceled(err error) *Error {
	return &Error{Fault: FaultCanceled, Msg: "the request was cancelled", Err: err}
}

// dnsFault leaves out which server was asked: that is about our network.
func dnsFault(e *net.DNSError, err error) *Error {
	msg := "looking up " + quote(e.Name) + ": "
	switch {
	case e.IsNotFound:
		msg += "no such host"
	case e.IsTimeout:
		msg += "no answer from the name servers"
	default:
		msg += "the name servers failed"
	}
	return &Error{Fault: FaultDNS, Msg: msg, Err: err}
}

// isBusy tells our own exhaustion from a fault of the destination.
func isBusy(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EADDRINUSE} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func tlsFault(err error) *Error {
	if errors.Is(err, context.Canceled) {
		return canceled(err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Fault: FaultTimeout, Msg: "the TLS handshake took too long", Err: err}
	}
	msg := "TLS handshake: "
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		msg += "the server does not speak TLS on this port"
	} else if errors.Is(err, io.EOF) {
		msg += "the server closed the connection"
	} else if text := errnoText(err); strings.Contains(text, "no application protocol") {
		msg += "the server does not speak HTTP/2"
	} else {
		msg += strings.TrimPrefix(text, "tls: ")
	}
	return &Error{Fault: FaultTLS, Msg: msg, Err: err}
}

// isTLS is for handshakes that net/http does on its own, behind a proxy.
func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	return strings.Contains(err.Error(), "tls: ")
}

// requestFault classes an error of RoundTrip. net/http has types for few of its
// errors; the rest is told by its text, and the tests hold these texts.
func requestFault(ctx context.Context, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	fail := func(f Fault, msg string) *Error { return &Error{Fault: f, Msg: msg, Err: err} }
	switch ctx.Err() {
	case context.DeadlineExceeded:
		return fail(FaultTimeout, "no answer in time")
	case context.Canceled:
		return canceled(err)
	}
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "net/http: invalid") || strings.HasPrefix(text, "unsupported protocol scheme") ||
		strings.HasPrefix(text, "http: no Host") || strings.HasPrefix(text, "http: nil Request"):
		return fail(FaultRequest, "the request cannot be sent: "+quote(text))
	case strings.Contains(text, "response headers exceeded") || strings.Contains(text, "header list larger than") || strings.Contains(text, "header list too large"):
		return fail(FaultTooLarge, "the header of the answer is too large")
	case isTimeout(err):
		return fail(FaultTimeout, "no answer in time")
	case isTLS(err):
		return tlsFault(err)
	case isReset(err, text):
		msg := "the connection was closed before the answer was complete"
		if why := goAwayReason(text); why != "" {
			msg += "; the server said: " + quote(why)
		}
		return fail(FaultReset, msg)
	}
	return fail(FaultProtocol, "the answer is not valid HTTP: "+quote(strings.TrimPrefix(text, "net/http: ")))
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}

func isReset(err error, text string) bool {
	for _, cause := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, net.ErrClosed} {
		if errors.Is(err, cause) {
			return true
		}
	}
	for _, part := range []string{"server closed idle connection", "client connection lost", "client connection force closed", "client conn", "GOAWAY", "received from peer", "server closed connection"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// goAwayReason returns what a GOAWAY frame said besides its code.
func goAwayReason(text string) string {
	_, quoted, ok := strings.Cut(text, "debug=")
	if !ok {
		return ""
	}
	why, err := strconv.Unquote(quoted)
	if err != nil {
		return ""
	}
	return why
}

// errnoText returns the innermost text: the outer ones name our own address.
func errnoText(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return quote(op.Err.Error())
	}
	return quote(err.Error())
}

// quote bounds text that came from outside.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
