package rawhead

import (
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
)

// maxPlainBody is the longest body of a plain request.
const maxPlainBody = 1 << 30

// plainHead reads a head, with its empty line, as that of a plain request: POST, HTTP/1.1, one
// Host, one Content-Length, and nothing that a server must heed besides. Context, body and
// address of r are the caller's.
//
// What it takes is a strict subset of what net/http takes, and means the same: a fuzz test
// holds it to that. Whatever is unusual, even if it is allowed, is left to net/http.
func plainHead(head string) (r http.Request, ok bool) {
	line, fields, _ := strings.Cut(head, "\r\n")
	target, isPost := strings.CutPrefix(line, "POST ")
	target, isHTTP := strings.CutSuffix(target, " HTTP/1.1")
	if !isPost || !isHTTP || !strings.HasPrefix(target, "/") || !isVisible(target) {
		return r, false
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return r, false
	}
	r = http.Request{Method: http.MethodPost, URL: u, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1}
	n := strings.Count(fields, "\n")
	r.Header = make(http.Header, n)
	values := make([]string, 0, n)
	for fields != "\r\n" {
		var whole bool
		if line, fields, whole = strings.Cut(fields, "\r\n"); !whole {
			return r, false
		}
		name, value, colon := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !colon || !isToken(name) || !isText(value) || !steers(&r, name, value) {
			return r, false
		}
		if len(name) == len("Host") && strings.EqualFold(name, "Host") {
			continue
		}
		key := canonical.of(name)
		if more := r.Header[key]; more != nil {
			r.Header[key] = append(more, value)
			continue
		}
		values = append(values, value)
		r.Header[key] = values[len(values)-1 : len(values) : len(values)]
	}
	return r, r.Host != "" && r.ContentLength >= 0
}

// canonicalNames remembers canonical forms of field names that are usually written in another, so
// that they are not made for each request.
type canonicalNames struct {
	mu    sync.Mutex                        // held while names are added
	names atomic.Pointer[map[string]string] // never changed
}

// A stranger may fill it: then others are made each time.
const maxCanonical, maxCanonicalName = 512, 64

var canonical canonicalNames

func (c *canonicalNames) of(name string) string {
	names := c.names.Load()
	if names != nil {
		if key, ok := (*names)[name]; ok {
			return key
		}
	}
	key := textproto.CanonicalMIMEHeaderKey(name)
	if key == name || len(name) > maxCanonicalName || names != nil && len(*names) >= maxCanonical {
		return key
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	more := map[string]string{}
	if names = c.names.Load(); names != nil {
		more = maps.Clone(*names)
	}
	more[strings.Clone(name)] = key
	c.names.Store(&more)
	return key
}

// steers takes over what a field says about the request, and reports whether it is one
// that a plain request may have.
func steers(r *http.Request, name, value string) bool {
	switch {
	case strings.EqualFold(name, "Host"):
		if r.Host != "" || value == "" || !isHost(value) {
			return false
		}
		r.Host = value
	case strings.EqualFold(name, "Content-Length"):
		if r.ContentLength >= 0 || value == "" || len(value) > 10 || strings.Trim(value, "0123456789") != "" {
			return false
		}
		length := digits([]byte(value))
		r.ContentLength = int64(length)
		return length <= maxPlainBody
	case strings.EqualFold(name, "Connection"):
		return strings.EqualFold(value, "keep-alive")
	}
	return !isSteering(name)
}

// isSteering reports whether a field steers connection or body (or, Pragma, is changed by net/http).
func isSteering(name string) bool {
	switch len(name) {
	case 2:
		return strings.EqualFold(name, "TE")
	case 6:
		return strings.EqualFold(name, "Expect") || strings.EqualFold(name, "Pragma")
	case 7:
		return strings.EqualFold(name, "Upgrade") || strings.EqualFold(name, "Trailer")
	case 10:
		return strings.EqualFold(name, "Keep-Alive")
	case 14:
		return strings.EqualFold(name, "HTTP2-Settings")
	case 16:
		return strings.EqualFold(name, "Proxy-Connection")
	case 17:
		return strings.EqualFold(name, "Transfer-Encoding")
	}
	return false
}

// kinds of bytes, in a table as each byte of a head is looked at.
const (
	tokenByte   = 1 << iota // of a field's name, RFC 9110 section 5.6.2
	visibleByte             // ASCII that is seen
	textByte                // of a field's value
	hostByte
)

var kinds = func() (kinds [256]uint8) {
	for c := range 256 {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if letter || c < 0x7f && strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0 {
			kinds[c] |= tokenByte
		}
		if c > ' ' && c < 0x7f {
			kinds[c] |= visibleByte
		}
		if c >= ' ' && c < 0x7f || c == '\t' {
			kinds[c] |= textByte
		}
		if letter || c < 0x7f && strings.IndexByte(".:-[]_", byte(c)) >= 0 {
			kinds[c] |= hostByte
		}
	}
	return kinds
}()

func isToken(s string) bool   { return s != "" && isAll(s, tokenByte) }
func isVisible(s string) bool { return isAll(s, visibleByte) }
func isText(s string) bool    { return isAll(s, textByte) }
func isHost(s string) bool    { return isAll(s, hostByte) }

func isAll(s string, kind uint8) bool {
	for i := range len(s) {
		if kinds[s[i]]&kind == 0 {
			return false
		}
	}
	return true
}
