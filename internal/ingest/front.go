package ingest

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Front is how the server is seen from outside: behind which proxies, under which URL.
type Front struct {
	base    string
	trusted []netip.Prefix
}

// NewFront checks and makes a front. PublicURL may have a path, for a proxy that takes
// one away; "" for what each request says. Trusted are the proxies whose
// X-Forwarded-For, -Proto and -Host are believed.
func NewFront(publicURL string, trusted []netip.Prefix) (*Front, error) {
	f := &Front{trusted: trusted}
	if publicURL == "" {
		return f, nil
	}
	u, err := url.Parse(publicURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not a URL like https://hooks.example.com", publicURL)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Contains(publicURL, "?") {
		return nil, errors.New("the public URL has a scheme, a host and perhaps a path, and nothing else")
	}
	f.base = strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/")
	return f, nil
}

// Base is the URL under which the sender of r sees this server, without a slash at its end.
func (f *Front) Base(r *http.Request) string { return f.url(r, "") }

// url is [Front.Base] with a path behind it.
func (f *Front) url(r *http.Request, path string) string {
	if f.base != "" {
		return f.base + path
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if len(f.trusted) > 0 && f.trusts(peer(r)) {
		if proto := lastOf(r.Header["X-Forwarded-Proto"]); strings.EqualFold(proto, "https") || strings.EqualFold(proto, "http") {
			scheme = strings.ToLower(proto)
		}
		if forwarded := lastOf(r.Header["X-Forwarded-Host"]); isHost(forwarded) {
			host = forwarded
		}
	}
	return scheme + "://" + host + path
}

// Fixed is the configured public URL, "" for none.
func (f *Front) Fixed() string { return f.base }

// Client is the address of who sent r: the nearest one that is no trusted proxy.
func (f *Front) Client(r *http.Request) netip.Addr {
	addr := peer(r)
	if len(f.trusted) == 0 || !f.trusts(addr) {
		return addr
	}
	lists := r.Header["X-Forwarded-For"]
	for i := len(lists) - 1; i >= 0; i-- {
		for rest := lists[i]; rest != ""; {
			var text string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				text, rest = rest[comma+1:], rest[:comma]
			} else {
				text, rest = rest, ""
			}
			next, ok := parseAddr(strings.TrimSpace(text))
			if !ok {
				return addr // nothing left of it can be believed
			}
			if addr = next; !f.trusts(addr) {
				return addr
			}
		}
	}
	return addr
}

func (f *Front) trusts(a netip.Addr) bool { return contains(f.trusted, a) }

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// parseAddr reads an address, perhaps with a port, as proxies write them.
func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = ap.Addr()
	}
	return a.Unmap().WithZone(""), true
}

func lastOf(lists []string) string {
	if len(lists) == 0 {
		return ""
	}
	s := lists[len(lists)-1]
	return strings.TrimSpace(s[strings.LastIndexByte(s, ',')+1:])
}

// isHost reports whether s may be shown as a host and port.
func isHost(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-:[]_", c) >= 0) {
			return false
		}
	}
	return s != "" && len(s) <= 255
}
