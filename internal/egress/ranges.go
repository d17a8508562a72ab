package egress

import "net/netip"

// span is a range that is refused unless it is allowed.
type span struct {
	prefix netip.Prefix
	why    string

	// exact spans open only to an entry that names a single address.
	exact bool
}

func spans(why string, exact bool, cidrs ...string) []span {
	var out []span
	for _, c := range cidrs {
		out = append(out, span{netip.MustParsePrefix(c), why, exact})
	}
	return out
}

// special lists what is refused, metadata first because those addresses lie in
// other ranges too. Sources: the IANA special-purpose registries for IPv4 and
// IPv6, and the documentation of the clouds.
var special = concat(
	spans("a cloud's metadata service", true,
		"169.254.169.254/32",                    // nearly everyone
		"169.254.170.2/32", "169.254.170.23/32", // AWS container credentials
		"169.254.0.23/32",                       // Tencent
		"100.100.100.200/32",                    // Alibaba
		"192.0.0.192/32",                        // Oracle
		"168.63.129.16/32",                      // Azure: looks public
		"fd00:ec2::254/128", "fd00:ec2::23/128", // AWS
		"fd20:ce::254/128", "fe80::a9fe:a9fe/128", // Google, OpenStack
	),

	spans("unspecified", false, "0.0.0.0/8", "::/128"),
	spans("loopback", false, "127.0.0.0/8", "::1/128"),
	spans("private", false, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
	spans("link-local", false, "169.254.0.0/16", "fe80::/10"),
	spans("shared by a carrier (CGNAT)", false, "100.64.0.0/10"),
	spans("broadcast", false, "255.255.255.255/32"),
	spans("multicast", false, "224.0.0.0/4", "ff00::/8"),
	spans("for documentation", false, "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
	spans("for benchmarks", false, "198.18.0.0/15"),
	spans("a 6to4 relay", false, "192.88.99.0/24"),
	spans("reserved", false, "192.0.0.0/24", "240.0.0.0/4"),

	spans("IPv4 in IPv6 (compatible)", false, "::/96"),
	spans("IPv4 in IPv6 (translated)", false, "::ffff:0:0:0/96"),
	spans("IPv4 in IPv6 (NAT64)", false, "64:ff9b::/96", "64:ff9b:1::/48"),
	spans("IPv4 in IPv6 (6to4)", false, "2002::/16"),
	spans("IPv4 in IPv6 (Teredo)", false, "2001::/32"),
	spans("reserved for protocols", false, "2001::/23"),
	spans("site-local", false, "fec0::/10"),
)

// global is the only part of IPv6 that is routed on the internet.
var global = netip.MustParsePrefix("2000::/3")

func concat(lists ...[]span) []span {
	var out []span
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

// specialSpan tells why a is refused by default, if it is. a is not mapped.
func specialSpan(a netip.Addr) (span, bool) {
	for _, s := range special {
		if s.prefix.Contains(a) {
			return s, true
		}
	}
	if !a.Is6() {
		return span{}, false
	}
	if !global.Contains(a) {
		return span{prefix: netip.PrefixFrom(a, 128), why: "not global unicast"}, true
	}
	if isISATAP(a.As16()) {
		return span{prefix: netip.PrefixFrom(a, 128), why: "IPv4 in IPv6 (ISATAP)"}, true
	}
	return span{}, false
}

// isISATAP looks at the interface identifier (RFC 5214): it may stand in any
// prefix.
func isISATAP(b [16]byte) bool {
	return (b[8] == 0 || b[8] == 2) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

var (
	compatible = netip.MustParsePrefix("::/96")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
)

// embedded returns the IPv4 addresses to which something on the way may
// translate a: each must be allowed on its own.
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() || a == netip.IPv6Unspecified() || a == netip.IPv6Loopback() {
		return nil
	}
	b := a.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case compatible.Contains(a), translated.Contains(a), nat64.Contains(a):
		return []netip.Addr{last}
	case nat64Local.Contains(a):
		// Whoever runs the translator chose the length of its prefix, and with
		// it where the address stands (RFC 6052): look everywhere. What begins
		// with zero is padding, not an address: no translator forwards 0.0.0.0/8.
		var out []netip.Addr
		for _, v4 := range [][4]byte{{b[6], b[7], b[9], b[10]}, {b[7], b[9], b[10], b[11]}, {b[9], b[10], b[11], b[12]}, [4]byte(b[12:16])} {
			if v4[0] != 0 {
				out = append(out, netip.AddrFrom4(v4))
			}
		}
		return out
	case sixToFour.Contains(a):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case teredo.Contains(a):
		client := [4]byte{^b[12], ^b[13], ^b[14], ^b[15]}
		return []netip.Addr{netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4(client)}
	case isISATAP(b):
		return []netip.Addr{last}
	}
	return nil
}
