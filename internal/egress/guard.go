package egress

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// Guard decides to which addresses and ports we connect. Its zero value is the
// strictest; set its fields before its first use.
type Guard struct {
	// AllowCIDRs opens ranges that are refused by default: 127.0.0.0/8 and
	// ::1/128 for development, 10.1.0.0/16 for services next door.
	AllowCIDRs []netip.Prefix

	// DenyCIDRs closes ranges, whatever AllowCIDRs says. 0.0.0.0/0 says nothing
	// about IPv6, nor ::/0 about IPv4; this holds for AllowCIDRs too.
	DenyCIDRs []netip.Prefix

	// Every port is open but those of well-known protocols other than HTTP, and of
	// these AllowPorts are open too.
	AllowPorts []uint16
}

// RefusedError says that the guard does not let us connect. It is about policy,
// not about the state of the network: trying again changes nothing until the
// name resolves to something else or the policy changes.
type RefusedError struct {
	Addr netip.Addr // the address, unless it is the port that is refused
	Port uint16     // the port, if it is refused
	Why  string     // "private (10.0.0.0/8)"
	Hint string     // which setting to change
}

func (e *RefusedError) Error() string {
	if e.Port != 0 {
		return fmt.Sprintf("refused to connect to port %d: %s; %s", e.Port, e.Why, e.Hint)
	}
	return fmt.Sprintf("refused to connect to %s: it is %s; %s", e.Addr, e.Why, e.Hint)
}

// Check returns a [*RefusedError] unless we may connect to addr.
func (g *Guard) Check(addr netip.Addr) error {
	a := addr.Unmap().WithZone("")
	if !a.IsValid() {
		return &RefusedError{Addr: addr, Why: "no address", Hint: "give a host"}
	}
	if p, ok := find(g.DenyCIDRs, a); ok {
		return &RefusedError{Addr: a, Why: fmt.Sprintf("denied (%s)", p), Hint: "change --deny-cidr to permit it"}
	}
	if s, ok := specialSpan(a); ok {
		p, allowed := find(g.AllowCIDRs, a)
		if s.exact && allowed && !p.IsSingleIP() {
			return &RefusedError{Addr: a, Why: s.why, Hint: fmt.Sprintf("only an entry %s of its own in --allow-cidr permits it", netip.PrefixFrom(a, a.BitLen()))}
		}
		if !allowed {
			return &RefusedError{Addr: a, Why: s.String(), Hint: "permit it with --allow-cidr"}
		}
	}
	for _, v4 := range embedded(a) {
		if err := g.Check(v4); err != nil {
			inner := err.(*RefusedError)
			return &RefusedError{Addr: a, Why: fmt.Sprintf("a way to %s, which is %s", v4, inner.Why), Hint: inner.Hint}
		}
	}
	return nil
}

func (s span) String() string {
	if s.prefix.IsSingleIP() {
		return s.why
	}
	return fmt.Sprintf("%s (%s)", s.why, s.prefix)
}

// CheckPort returns a [*RefusedError] unless we may connect to port.
func (g *Guard) CheckPort(port uint16) error {
	if port == 0 || slices.Contains(otherProtocols, port) && !slices.Contains(g.AllowPorts, port) {
		return &RefusedError{Port: port, Why: "it belongs to another protocol than HTTP", Hint: "permit it with --allow-port"}
	}
	return nil
}

// control is the hook of net.Dialer that sees each address right before the
// socket connects to it.
func (g *Guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return &RefusedError{Why: "no TCP address", Hint: "use http or https"}
	}
	// An address without an IP (":80", which connects to ourselves) does not
	// parse and ends here too.
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &RefusedError{Why: "no address", Hint: "give a host"}
	}
	if err := g.CheckPort(ap.Port()); err != nil {
		return err
	}
	return g.Check(ap.Addr())
}

// find returns the most specific prefix that holds a, which is not mapped.
func find(prefixes []netip.Prefix, a netip.Addr) (best netip.Prefix, ok bool) {
	for _, p := range prefixes {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Contains(a) && (!ok || p.Bits() > best.Bits()) {
			best, ok = p, true
		}
	}
	return best, ok
}

// otherProtocols are the ports browsers refuse (the Fetch standard, "bad
// ports"), and those of stores that have been fooled by HTTP requests.
var otherProtocols = []uint16{
	1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
	111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
	540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
	6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
	3306, 5432, 6379, 11211,
}
