package egress

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// MaxURL bounds the length of a URL that CheckURL accepts.
const MaxURL = 4096

// URLError says what is wrong with a URL in a sentence for whoever wrote it. It
// repeats at most the host: paths and queries often hold secrets.
type URLError struct {
	Msg string
	Err error // a *RefusedError, if the guard would refuse the host or port
}

func (e *URLError) Error() string { return e.Msg }

// Unwrap returns the refusal behind the error, if there is one.
func (e *URLError) Unwrap() error { return e.Err }

// CheckURL parses the URL of a destination and returns it in normal form: scheme
// and host in lower case, an international name in ASCII. It refuses what could
// never be delivered to, what two programs may read differently, and hosts
// written as an address that the guard refuses. It does not resolve names: what
// they resolve to is checked at connect time.
func (g *Guard) CheckURL(raw string) (*url.URL, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	host, err := g.checkHost(u)
	if err != nil {
		return nil, err
	}
	if text := u.Port(); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return nil, &URLError{Msg: "the port must be between 1 and 65535"}
		}
		host += ":" + strconv.FormatUint(port, 10)
		if err := g.CheckPort(uint16(port)); err != nil {
			return nil, &URLError{Msg: err.Error(), Err: err}
		}
	} else if err := g.CheckPort(defaultPort(u)); err != nil {
		return nil, &URLError{Msg: err.Error(), Err: err}
	}
	u.Host = host
	return u, nil
}

func defaultPort(u *url.URL) uint16 {
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

func parseURL(raw string) (*url.URL, error) {
	switch {
	case raw == "":
		return nil, &URLError{Msg: "the URL is empty"}
	case len(raw) > MaxURL:
		return nil, &URLError{Msg: "the URL is longer than " + strconv.Itoa(MaxURL) + " bytes"}
	case strings.IndexFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) >= 0:
		return nil, &URLError{Msg: "the URL holds white space or control characters"}
	case strings.Contains(raw, `\`):
		return nil, &URLError{Msg: `the URL holds a backslash: use / instead`}
	}
	u, err := url.Parse(raw)
	if scheme, _, ok := strings.Cut(raw, "://"); !ok || err == nil && u.Scheme != "http" && u.Scheme != "https" || scheme == "" {
		return nil, &URLError{Msg: "the URL must begin with https:// or http://"}
	}
	// The parser's own message repeats what it met, which may be a password.
	if err != nil {
		return nil, &URLError{Msg: "this is not a valid URL: look at its host, its port and its % signs"}
	}
	switch {
	case u.Opaque != "" || u.Host == "" || u.Hostname() == "":
		return nil, &URLError{Msg: "the URL has no host"}
	case u.User != nil:
		return nil, &URLError{Msg: "the URL must not hold a user name or password: put credentials in a header"}
	case strings.Contains(raw, "#"):
		return nil, &URLError{Msg: "the URL must not have a fragment (#…): it is never sent"}
	}
	return u, nil
}

// checkHost returns the host as it goes into the normal form, without the port.
func (g *Guard) checkHost(u *url.URL) (string, error) {
	host := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		return g.checkIPv6(host)
	}
	host, err := asciiHost(host)
	if err != nil {
		return "", err
	}
	if err := checkLabels(host); err != nil {
		return "", err
	}
	name := strings.TrimSuffix(host, ".")
	if endsInNumber(name) {
		if err := g.checkIPv4(host); err != nil {
			return "", err
		}
		return host, nil
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		v4, v6 := g.Check(netip.AddrFrom4([4]byte{127, 0, 0, 1})), g.Check(netip.IPv6Loopback())
		if v4 != nil && v6 != nil {
			return "", &URLError{Msg: v4.Error(), Err: v4}
		}
	}
	return host, nil
}

func (g *Guard) checkIPv6(host string) (string, error) {
	a, err := netip.ParseAddr(host)
	if err != nil || !a.Is6() {
		return "", &URLError{Msg: "what stands in [brackets] must be an IPv6 address"}
	}
	if a.Zone() != "" {
		return "", &URLError{Msg: "the IPv6 address must not have a zone (%…)"}
	}
	if a.Is4In6() {
		return "", &URLError{Msg: "write the IPv4 address " + a.Unmap().String() + " as such"}
	}
	if err := g.Check(a); err != nil {
		return "", &URLError{Msg: err.Error(), Err: err}
	}
	return "[" + a.String() + "]", nil
}

// checkIPv4 is for hosts that end in a number. Every resolver reads four decimal
// numbers the same way; the other notations (2130706433, 0x7f.1, 0177.0.0.1)
// are an address to some and a name to others, so they are refused.
func (g *Guard) checkIPv4(host string) error {
	a, err := netip.ParseAddr(host)
	if err == nil {
		if err := g.Check(a); err != nil {
			return &URLError{Msg: err.Error(), Err: err}
		}
		return nil
	}
	if a, ok := parseLooseIPv4(strings.TrimSuffix(host, ".")); ok {
		return &URLError{Msg: "the host is the address " + a.String() + " in another notation: write it like that", Err: g.Check(a)}
	}
	return &URLError{Msg: "the host ends in a number but is no IPv4 address"}
}

// asciiHost lowers case and turns an international name into the form that is
// looked up. That mapping folds look-alikes too (full-width digits, circled
// digits, the ideographic full stop), so the result is checked, not the input.
func asciiHost(host string) (string, error) {
	host = strings.ToLower(host)
	if isASCII(host) && !strings.Contains(host, "xn--") {
		return host, nil
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return "", &URLError{Msg: "the host is not a valid international domain name"}
	}
	return ascii, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// checkLabels accepts what resolvers accept: letters, digits, hyphens inside,
// and the underscore, which no host should have and some do.
func checkLabels(host string) error {
	name := strings.TrimSuffix(host, ".")
	if name == "" || len(name) > 253 {
		return &URLError{Msg: "the host must be 1 to 253 characters"}
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return &URLError{Msg: "each part of the host between dots must be 1 to 63 characters"}
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return &URLError{Msg: "no part of the host may begin or end with a hyphen"}
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return &URLError{Msg: "the host may hold letters, digits, hyphens and dots only"}
			}
		}
	}
	return nil
}

// endsInNumber is the rule of the URL standard for when a host is meant as an
// IPv4 address.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	_, ok := parseNumber(last)
	return ok || strings.Trim(last, "0123456789") == ""
}

// parseLooseIPv4 reads the notations of inet_aton: one to four numbers, decimal,
// octal or hexadecimal, the last of which fills all remaining bytes.
func parseLooseIPv4(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var sum uint64
	for i, p := range parts {
		n, ok := parseNumber(p)
		if !ok {
			return netip.Addr{}, false
		}
		if i == len(parts)-1 {
			if n >= 1<<(8*(5-len(parts))) {
				return netip.Addr{}, false
			}
			sum += n
			break
		}
		if n > 255 {
			return netip.Addr{}, false
		}
		sum += n << (8 * (3 - i))
	}
	return netip.AddrFrom4([4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}), true
}

func parseNumber(s string) (uint64, bool) {
	base := 10
	switch {
	case s == "":
		return 0, false
	case strings.HasPrefix(s, "0x"):
		s, base = s[2:], 16
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	if s == "" {
		return 0, true // "0x" alone counts as zero
	}
	n, err := strconv.ParseUint(s, base, 32)
	return n, err == nil
}
