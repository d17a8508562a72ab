package auth

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// proxyHeaders betray that a request came through something else, perhaps from
// another machine: its sender is then not who sits at this one.
var proxyHeaders = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via", "Cf-Connecting-Ip"}

// CheckLocal tells whether a request without a credential comes from the person at
// this machine: typed, scripted, or sent by our own pages, and not by a web page that
// happens to be open here. Port is our listener's.
//
// What it stops, in order: requests of other machines; tunnels and proxies; DNS
// rebinding (the page's own name in Host); pages of other origins, also on other
// ports of this machine, by fetch, form, image, frame or link; preflights, those of
// Private Network Access included. Programs other than browsers send neither Origin
// nor Sec-Fetch-Site, and pass.
func CheckLocal(r *http.Request, port string) error {
	if remote, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && !remote.Addr().Unmap().IsLoopback() {
		return notLocal("it comes from another machine")
	}
	for _, name := range proxyHeaders {
		if r.Header[name] != nil {
			return notLocal("it came through a proxy (" + name + ")")
		}
	}
	if !isLocalHost(r.Host, port) {
		return notLocal("the host it names is not localhost:" + port)
	}
	if sites := r.Header["Sec-Fetch-Site"]; len(sites) > 1 || len(sites) == 1 && sites[0] != "same-origin" && sites[0] != "none" {
		return notLocal("a web page of another origin sent it")
	}
	if origins := r.Header["Origin"]; len(origins) > 1 || len(origins) == 1 && !sameOrigin(origins[0], r.Host) {
		return notLocal("a web page of another origin sent it")
	}
	// Browsers that know neither header, for requests that change something.
	if referers := r.Header["Referer"]; len(referers) > 0 && r.Header["Sec-Fetch-Site"] == nil && r.Header["Origin"] == nil &&
		r.Method != http.MethodGet && r.Method != http.MethodHead && !sameOrigin(referers[0], r.Host) {
		return notLocal("a web page of another origin sent it")
	}
	if r.Method == http.MethodOptions && (r.Header["Access-Control-Request-Method"] != nil ||
		r.Header["Access-Control-Request-Private-Network"] != nil || r.Header["Access-Control-Request-Local-Network"] != nil) {
		return notLocal("a web page asks for leave to send requests here")
	}
	return nil
}

func notLocal(why string) error {
	return forbidden("not-local", "this request is not believed to come from the person at this machine: "+why+
		"; send a key (\"Authorization: Bearer hk_…\"), or call http://localhost directly")
}

// isLocalHost reports whether a Host header names this machine's loopback and port.
func isLocalHost(hostport, port string) bool {
	host, p, err := net.SplitHostPort(hostport)
	if err != nil { // no port
		host, p = hostport, "80"
		if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
			host = host[1 : len(host)-1]
		} else if strings.Contains(host, ":") {
			return false
		}
	} else if strings.Contains(host, ":") != strings.HasPrefix(hostport, "[") {
		return false
	}
	if p != port {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Zone() == "" && !addr.Is4In6() && addr.IsLoopback()
}

// sameOrigin reports whether an Origin or Referer is of the host that was asked.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Host == "" {
		return false
	}
	return strings.EqualFold(withPort(u.Host, u.Scheme), withPort(host, "http"))
}

func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if scheme == "https" {
		return host + ":443"
	}
	return host + ":80"
}
