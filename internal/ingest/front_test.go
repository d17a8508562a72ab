package ingest

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"testing"
)

func TestFront(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, c := range []struct {
		name, public, remote string
		trust                bool
		tls                  bool
		header               http.Header
		client, base         string
	}{
		{"nothing", "", "192.0.2.1:99", true, false, nil, "192.0.2.1", "http://h.example"},
		{"tls", "", "192.0.2.1:99", false, true, nil, "192.0.2.1", "https://h.example"},
		{"forged", "", "192.0.2.1:99", true, false, http.Header{"X-Forwarded-For": {"198.51.100.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil.example"}}, "192.0.2.1", "http://h.example"},
		{"no proxies", "", "10.0.0.1:99", false, false, http.Header{"X-Forwarded-For": {"198.51.100.7"}}, "10.0.0.1", "http://h.example"},
		{"proxy", "", "10.0.0.1:99", true, false, http.Header{"X-Forwarded-For": {"198.51.100.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"hooks.example"}}, "198.51.100.7", "https://hooks.example"},
		{"two proxies, forged beyond", "", "[::1]:99", true, false, http.Header{"X-Forwarded-For": {"203.0.113.9, 198.51.100.7", "10.1.1.1"}}, "198.51.100.7", "http://h.example"},
		{"with port", "", "10.0.0.1:99", true, false, http.Header{"X-Forwarded-For": {"[2001:db8::1]:443"}}, "2001:db8::1", "http://h.example"},
		{"nonsense", "", "10.0.0.1:99", true, false, http.Header{"X-Forwarded-For": {"1.2.3.4, <script>"}, "X-Forwarded-Proto": {"javascript"}, "X-Forwarded-Host": {"a/b"}}, "10.0.0.1", "http://h.example"},
		{"mapped", "", "[::ffff:10.0.0.1]:99", true, false, http.Header{"X-Forwarded-For": {"::ffff:198.51.100.7"}}, "198.51.100.7", "http://h.example"},
		{"fixed", "https://hooks.example/hark/", "10.0.0.1:99", true, false, http.Header{"X-Forwarded-Host": {"x"}}, "10.0.0.1", "https://hooks.example/hark"},
	} {
		f, err := NewFront(c.public, nil)
		if c.trust {
			f, err = NewFront(c.public, trusted)
		}
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{RemoteAddr: c.remote, Host: "h.example", Header: c.header}
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := f.Client(r).String(); got != c.client {
			t.Errorf("%s: client %s, want %s", c.name, got, c.client)
		}
		if got := f.Base(r); got != c.base {
			t.Errorf("%s: base %s, want %s", c.name, got, c.base)
		}
	}
	for _, bad := range []string{"hooks.example", "ftp://x", "https://u:p@x", "https://x?a", "https://x#a", "https://", "http://x/%zz"} {
		if _, err := NewFront(bad, nil); err == nil {
			t.Errorf("%s passed", bad)
		}
	}
}
