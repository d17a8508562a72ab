package auth

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

func local(method, host string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "/v1/events", nil)
	r.Host, r.RemoteAddr = host, "127.0.0.1:51234"
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// TestHostileRequests: what a web page open on the same machine, or somebody else's
// machine, can send to hark dev on port 8080.
func TestHostileRequests(t *testing.T) {
	remote := local("POST", "localhost:8080")
	remote.RemoteAddr = "192.168.1.7:4000"
	mapped := local("POST", "localhost:8080")
	mapped.RemoteAddr = "[::ffff:10.0.0.1]:4000"
	for what, r := range map[string]*http.Request{
		"another machine":                 remote,
		"another machine, mapped":         mapped,
		"dns rebinding":                   local("POST", "evil.example:8080"),
		"dns rebinding, same origin":      local("POST", "evil.example:8080", "Origin", "http://evil.example:8080", "Sec-Fetch-Site", "same-origin"),
		"wildcard dns":                    local("POST", "127.0.0.1.nip.io:8080"),
		"localhost as a label":            local("POST", "localhost.evil.example:8080"),
		"sub.localhost":                   local("POST", "app.localhost:8080"),
		"localhost with a dot":            local("POST", "localhost.:8080"),
		"no host":                         local("POST", ""),
		"other port":                      local("POST", "localhost:9090"),
		"no port":                         local("POST", "localhost"),
		"port as a name":                  local("POST", "localhost:http"),
		"0.0.0.0":                         local("POST", "0.0.0.0:8080"),
		"short address":                   local("POST", "127.1:8080"),
		"decimal address":                 local("POST", "2130706433:8080"),
		"octal address":                   local("POST", "0177.0.0.1:8080"),
		"mapped address":                  local("POST", "[::ffff:127.0.0.1]:8080"),
		"zone":                            local("POST", "[::1%25lo]:8080"),
		"bare v6":                         local("POST", "::1:8080"),
		"private address":                 local("POST", "192.168.1.2:8080"),
		"user in host":                    local("POST", "localhost@evil:8080"),
		"cross-site fetch":                local("POST", "localhost:8080", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"),
		"no-cors text/plain":              local("POST", "localhost:8080", "Content-Type", "text/plain", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"),
		"form post":                       local("POST", "localhost:8080", "Content-Type", "application/x-www-form-urlencoded", "Origin", "https://evil.example"),
		"form post, no-referrer":          local("POST", "localhost:8080", "Origin", "null"),
		"sandboxed frame":                 local("POST", "localhost:8080", "Origin", "null", "Sec-Fetch-Site", "cross-site"),
		"old browser, referer only":       local("POST", "localhost:8080", "Referer", "https://evil.example/x"),
		"image":                           local("GET", "localhost:8080", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Dest", "image"),
		"link":                            local("GET", "localhost:8080", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"),
		"page on another local port":      local("POST", "localhost:8080", "Origin", "http://localhost:3000", "Sec-Fetch-Site", "same-site"),
		"other port, no metadata":         local("POST", "localhost:8080", "Origin", "http://localhost:3000"),
		"127.0.0.1 page, localhost":       local("POST", "localhost:8080", "Origin", "http://127.0.0.1:8080"),
		"websocket":                       local("GET", "localhost:8080", "Upgrade", "websocket", "Origin", "https://evil.example"),
		"event source":                    local("GET", "localhost:8080", "Accept", "text/event-stream", "Origin", "https://evil.example"),
		"extension":                       local("POST", "localhost:8080", "Origin", "chrome-extension://abcdef"),
		"file":                            local("POST", "localhost:8080", "Origin", "file://"),
		"origin with our host as user":    local("POST", "localhost:8080", "Origin", "http://localhost:8080@evil.example"),
		"two origins":                     local("POST", "localhost:8080", "Origin", "http://localhost:8080", "Origin", "https://evil.example"),
		"two sites":                       local("POST", "localhost:8080", "Sec-Fetch-Site", "none", "Sec-Fetch-Site", "cross-site"),
		"empty origin":                    local("POST", "localhost:8080", "Origin", ""),
		"empty site":                      local("POST", "localhost:8080", "Sec-Fetch-Site", ""),
		"site in capitals":                local("POST", "localhost:8080", "Sec-Fetch-Site", "Cross-Site"),
		"preflight":                       local("OPTIONS", "localhost:8080", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"),
		"preflight without origin":        local("OPTIONS", "localhost:8080", "Access-Control-Request-Method", "POST"),
		"private network preflight":       local("OPTIONS", "localhost:8080", "Access-Control-Request-Private-Network", "true"),
		"same-origin claim, other origin": local("POST", "localhost:8080", "Sec-Fetch-Site", "same-origin", "Origin", "https://evil.example"),
		"tunnel":                          local("POST", "localhost:8080", "X-Forwarded-For", "203.0.113.9"),
		"tunnel, forwarded":               local("POST", "localhost:8080", "Forwarded", "for=203.0.113.9"),
	} {
		if err := CheckLocal(r, "8080"); hark.KindOf(err) != hark.Forbidden {
			t.Errorf("%s: %v", what, err)
		}
		a, _, _ := newAuth(t, Config{})
		a.AllowLocal("8080")
		if p, err := a.Authenticate(r); err == nil || p.Scopes != 0 {
			t.Errorf("%s: is %+v", what, p)
		}
	}
}

func TestFriendlyRequests(t *testing.T) {
	a, _, _ := newAuth(t, Config{})
	pipe := local("POST", "localhost:8080")
	pipe.RemoteAddr = "pipe"
	friendly := map[string]*http.Request{
		"curl":               local("POST", "localhost:8080"),
		"curl by address":    local("POST", "127.0.0.1:8080"),
		"another loopback":   local("POST", "127.8.9.1:8080"),
		"v6":                 local("POST", "[::1]:8080"),
		"capitals":           local("POST", "LocalHost:8080"),
		"in memory":          pipe,
		"address bar":        local("GET", "localhost:8080", "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"),
		"our page":           local("POST", "localhost:8080", "Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:8080", "Referer", "http://localhost:8080/ui"),
		"our page, old":      local("POST", "localhost:8080", "Origin", "http://localhost:8080"),
		"our page, older":    local("POST", "localhost:8080", "Referer", "http://localhost:8080/ui"),
		"our page's sockets": local("GET", "127.0.0.1:8080", "Origin", "http://127.0.0.1:8080", "Upgrade", "websocket"),
	}
	for what, r := range friendly {
		if _, err := a.Authenticate(r); hark.KindOf(err) != hark.Unauthenticated {
			t.Errorf("%s: believed without AllowLocal: %v", what, err)
		}
	}
	a.AllowLocal("8080")
	for what, r := range friendly {
		if p, err := a.Authenticate(r); err != nil || p.Require(registry.ScopeAdmin) != nil || p.Name != "dev" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := CheckLocal(local("GET", "localhost", "Origin", "http://localhost"), "80"); err != nil {
		t.Error("port 80:", err)
	}
	// With a key, a request is the key's, wherever it comes from; with a bad one it is nobody's.
	text, _ := key(t, a, registry.Key{Scopes: registry.ScopePublish})
	if p, err := a.Authenticate(bearer(text)); err != nil || p.Scopes != registry.ScopePublish {
		t.Error(p, err)
	}
	bad := local("POST", "localhost:8080", "Authorization", "Bearer hk_x")
	if _, err := a.Authenticate(bad); hark.KindOf(err) != hark.Unauthenticated {
		t.Error("a bad key falls back to dev:", err)
	}
}

func FuzzCheckLocalHost(f *testing.F) {
	for _, s := range []string{"localhost:8080", "[::1]:8080", "127.0.0.1:8080", "evil:8080", "[", "]:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		_ = CheckLocal(local("POST", host), "8080")
		_ = sameOrigin(host, host)
	})
}
