package scheme

import (
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Request is an inbound request as it arrived. Nobody changes one.
type Request struct {
	Method string
	// URL is absolute, as the sender wrote it: the public base URL and the target.
	// Some providers sign it.
	URL string
	// Proto is "HTTP/1.1" or "HTTP/2.0".
	Proto string
	// Header holds every field in the order, case and number in which it was sent
	// (HTTP/2 has lower case only).
	Header Header
	Body   []byte
	// Remote is the sender's address, taken from forwarding headers only when a
	// trusted proxy set them.
	Remote   netip.Addr
	Received time.Time
}

// Field is one header field.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Header is the fields of a request in order.
type Header []Field

// Get returns the first value of a field, "" for none; names match in any case.
func (h Header) Get(name string) string {
	v, _ := h.Lookup(name)
	return v
}

// Lookup is Get that tells whether the field is there.
func (h Header) Lookup(name string) (string, bool) {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			return h[i].Value, true
		}
	}
	return "", false
}

// Values returns every value of a field.
func (h Header) Values(name string) (values []string) {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			values = append(values, h[i].Value)
		}
	}
	return values
}

// count returns the first value of a field, and how many it has.
func (h Header) count(name string) (first string, n int) {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			if n == 0 {
				first = h[i].Value
			}
			n++
		}
	}
	return first, n
}

// Set replaces a field, at the place of its first, or adds it at the end.
func (h *Header) Set(name, value string) {
	out, done := (*h)[:0:0], false
	for _, f := range *h {
		switch {
		case !strings.EqualFold(f.Name, name):
			out = append(out, f)
		case !done:
			out, done = append(out, Field{name, value}), true
		}
	}
	if !done {
		out = append(out, Field{name, value})
	}
	*h = out
}

// HTTP returns the fields as net/http has them.
func (h Header) HTTP() http.Header {
	out := make(http.Header, len(h))
	for _, f := range h {
		out.Add(f.Name, f.Value)
	}
	return out
}
