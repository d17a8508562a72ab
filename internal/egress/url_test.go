package egress

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestCheckURL(t *testing.T) {
	var g Guard
	for raw, want := range map[string]string{
		"https://example.com":                        "https://example.com",
		"HTTPS://Example.COM/Path?q=A":               "https://example.com/Path?q=A",
		"http://example.com:8080/":                   "http://example.com:8080/",
		"https://example.com:/x":                     "https://example.com/x",
		"https://example.com:0443/x":                 "https://example.com:443/x",
		"https://example.com./x":                     "https://example.com./x",
		"https://my_service.example.com/":            "https://my_service.example.com/",
		"https://bücher.example/ü":                   "https://xn--bcher-kva.example/%C3%BC",
		"https://BÜCHER.example":                     "https://xn--bcher-kva.example",
		"https://xn--bcher-kva.example":              "https://xn--bcher-kva.example",
		"https://例え。テスト/":                            "https://xn--r8jz45g.xn--zckzah/",
		"https://8.8.8.8/":                           "https://8.8.8.8/",
		"https://[2606:4700:4700:0:0::1111]:8443/x":  "https://[2606:4700:4700::1111]:8443/x",
		"https://hooks.slack.com/services/T/B/x%2Fy": "https://hooks.slack.com/services/T/B/x%2Fy",
		"http://app:3000/hook":                       "http://app:3000/hook",
		"https://1e100.net":                          "https://1e100.net",
		"https://a.0xg":                              "https://a.0xg",
		"https://example.com/?a=b@c:d":               "https://example.com/?a=b@c:d",
	} {
		u, err := g.CheckURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		} else if u.String() != want {
			t.Errorf("%s: got %s, want %s", raw, u, want)
		}
	}

	for raw, want := range map[string]string{
		"":                                             "empty",
		"example.com":                                  "must begin with https://",
		"//example.com":                                "must begin with https://",
		"ftp://example.com":                            "must begin with https://",
		"file:///etc/passwd":                           "must begin with https://",
		"gopher://example.com:70/_x":                   "must begin with https://",
		"javascript:alert(1)//://":                     "must begin with https://",
		"http:example.com":                             "must begin with https://",
		"http:/example.com://":                         "no host",
		"http://":                                      "no host",
		"http:///path":                                 "no host",
		"http://:80/":                                  "no host",
		"https://user@example.com":                     "user name or password",
		"https://user:hunter2@h.com":                   "user name or password",
		"https://@example.com":                         "user name or password",
		"https://example.com/#frag":                    "fragment",
		"https://example.com/#":                        "fragment",
		" https://example.com":                         "white space",
		"https://example.com/a b":                      "white space",
		"https://example.com/\x00":                     "white space or control",
		"https://example.com\r\nx: y":                  "white space or control",
		`https://good.com\@evil.com/`:                  "backslash",
		"https://example.com:0/":                       "between 1 and 65535",
		"https://example.com:65536/":                   "between 1 and 65535",
		"https://example.com:25/":                      "another protocol",
		"https://example.com:x/":                       "not a valid URL",
		"https://exa%6dple.com/":                       "not a valid URL",
		"https://example.com/%zz":                      "not a valid URL",
		"https://a:b:c/":                               "",
		"https://-a.com/":                              "hyphen",
		"https://a-.com/":                              "hyphen",
		"https://a..com/":                              "1 to 63",
		"https://.com/":                                "1 to 63",
		"https://./":                                   "1 to 253",
		"https://a$b.com/":                             "letters, digits",
		"https://a,b/":                                 "letters, digits",
		"https://xn--a.example/":                       "international",
		"https://a\u202eb.example/":                    "international",
		"https://[127.0.0.1]/":                         "",
		"https://[v1.fe80]/":                           "",
		"https://[::ffff:8.8.8.8]/":                    "write the IPv4 address 8.8.8.8",
		"https://[2606:4700::1%25eth0]/":               "zone",
		"https://127.1/":                               "is the address 127.0.0.1 in another notation",
		"https://0x08.8.8.8/":                          "is the address 8.8.8.8 in another notation",
		"https://134744072/":                           "is the address 8.8.8.8 in another notation",
		"https://1.2.3.4.5/":                           "ends in a number",
		"https://example.123/":                         "ends in a number",
		"https://256.1.1.1/":                           "ends in a number",
		"https://99999999999/":                         "ends in a number",
		"https://10.1.2.3/":                            "it is private (10.0.0.0/8); permit it with --allow-cidr",
		"https://169.254.169.254/":                     "metadata",
		"https://" + strings.Repeat("a", 64) + ".com":  "1 to 63",
		"https://" + strings.Repeat("a.", 127) + "com": "1 to 253",
		"https://e.com/" + strings.Repeat("a", 4096):   "longer than",
	} {
		u, err := g.CheckURL(raw)
		if err == nil {
			t.Errorf("%q is permitted as %s", raw, u)
			continue
		}
		if _, ok := errors.AsType[*URLError](err); !ok {
			t.Errorf("%q: %T is not a *URLError", raw, err)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %q, want %q", raw, err, want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error tells a password", raw)
		}
	}
}

func TestCheckURLFollowsTheGuard(t *testing.T) {
	g := Guard{AllowCIDRs: cidrs(t, "127.0.0.0/8", "10.0.0.0/8", "::1/128"), DenyCIDRs: cidrs(t, "10.9.0.0/16", "8.8.8.8/32"), AllowPorts: []uint16{25}}
	for raw, ok := range map[string]bool{
		"http://127.0.0.1:3000": true, "http://localhost:3000/": true, "http://[::1]:3000": true, "https://10.1.1.1": true,
		"https://10.9.1.1": false, "https://8.8.8.8": false, "http://example.com:22": false, "http://example.com:25": true, "https://example.com": true, "https://192.168.1.1": false,
		"http://2130706433:3000": false,
	} {
		_, err := g.CheckURL(raw)
		if (err == nil) != ok {
			t.Errorf("%s: %v", raw, err)
		}
	}
	_, err := (&Guard{}).CheckURL("https://localhost/")
	if FaultOf(err) != FaultRefused {
		t.Errorf("localhost: %v is no refusal", err)
	}
}

// What CheckURL returns, it accepts again unchanged; and no host that it accepts
// is an address the guard refuses, in any notation.
func FuzzCheckURL(f *testing.F) {
	for _, h := range hostileHosts {
		f.Add("http://" + h + "/")
	}
	for _, s := range []string{"https://example.com:8443/a?b=c", "https://bücher.example", "https://[2606:4700::1]:443/", "https://xn--bcher-kva.example.", "http://a_b:3000", "https://8.8.8.8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		var g Guard
		u, err := g.CheckURL(raw)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without a word")
			}
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
			t.Fatalf("%q is permitted as %#v", raw, u)
		}
		again, err := g.CheckURL(u.String())
		if err != nil {
			if _, ok := errors.AsType[*URLError](err); ok && len(u.String()) > MaxURL {
				return // escaping made it longer
			}
			t.Fatalf("%q is permitted as %q, which is not: %v", raw, u, err)
		}
		if again.String() != u.String() {
			t.Fatalf("%q: %q is not stable, becomes %q", raw, u, again)
		}
		host := u.Hostname()
		if !isASCII(host) {
			t.Fatalf("%q: host %q is not ASCII", raw, host)
		}
		if a, err := netip.ParseAddr(host); err == nil {
			if err := g.Check(a); err != nil {
				t.Fatalf("%q: %v", raw, err)
			}
		} else if a, ok := parseLooseIPv4(strings.TrimSuffix(host, ".")); ok {
			t.Fatalf("%q: host %q can be read as %v", raw, host, a)
		}
	})
}
