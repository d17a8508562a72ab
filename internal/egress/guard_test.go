package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

// hostileAddrs are addresses nobody may make us connect to, in every range.
var hostileAddrs = []string{
	"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.1.2.3", "127.255.255.254",
	"10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255",
	"169.254.0.1", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.127.255.255", "100.100.100.200",
	"192.0.0.1", "192.0.0.192", "168.63.129.16", "192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "198.19.255.255",
	"192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
	"::", "::1", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fd12:3456::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "ff0e::1",
	"2001:db8::1", "3fff::1", "100::1", "5f00::1", "2001:2::1", "2001:10::1", "2001:20::1", "4000::1", "0:1::1",
	// IPv4 inside, also where the inner address is public.
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8",
	"64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::7f00:1", "64:ff9b:1:808:8:800::",
	"2002:7f00:1::", "2002:808:808::1", "2001::1", "2001:0:4136:e378:8000:63bf:80ff:fffe",
	"2001:470:1f0b::5efe:127.0.0.1", "2001:470:1f0b::200:5efe:10.0.0.1", "2a00:1450::5efe:8.8.8.8",
}

var harmlessAddrs = []string{
	"8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255",
	"169.253.255.255", "192.0.1.1", "192.0.3.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.17", "::ffff:8.8.8.8",
	"2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:200::1", "2001:4860:4860::8888", "2003::1", "3ffe::1",
}

func TestGuardDefaults(t *testing.T) {
	var g Guard
	for _, s := range hostileAddrs {
		err := g.Check(netip.MustParseAddr(s))
		if r, ok := errors.AsType[*RefusedError](err); !ok {
			t.Errorf("%s is permitted", s)
		} else if r.Why == "" || !strings.Contains(r.Hint, "--allow-cidr") || !strings.Contains(err.Error(), r.Addr.String()) {
			t.Errorf("%s: error says too little: %v", s, err)
		}
	}
	for _, s := range harmlessAddrs {
		if err := g.Check(netip.MustParseAddr(s)); err != nil {
			t.Errorf("%s is refused: %v", s, err)
		}
	}
	if g.Check(netip.Addr{}) == nil {
		t.Error("no address is permitted")
	}
	if g.Check(netip.MustParseAddr("fe80::1%eth0")) == nil {
		t.Error("a zone hides a link-local address")
	}
}

func TestGuardSettings(t *testing.T) {
	all := []string{"0.0.0.0/0", "::/0"}
	for _, c := range []struct {
		allow, deny string
		addr        string
		ok          bool
	}{
		{"10.0.0.0/8", "", "10.1.2.3", true},
		{"10.0.0.0/8", "", "::ffff:10.1.2.3", true},
		{"::ffff:10.0.0.0/104", "", "10.1.2.3", true},
		{"10.0.0.0/8", "", "192.168.0.1", false},
		{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", false},
		{"10.1.2.3/32", "10.0.0.0/8", "10.1.2.3", false},
		{"", "8.8.8.0/24", "8.8.8.8", false},
		{"", "8.8.8.0/24", "::ffff:8.8.8.8", false},
		{"", "::ffff:8.8.8.0/120", "8.8.8.8", false},
		{"", "0.0.0.0/0", "2606:4700::1", true},
		{"", "::/0", "2606:4700::1", false},
		{"127.0.0.0/8", "", "127.0.0.1", true},
		{"::1/128", "", "::1", true},
		{"fe80::/10", "", "fe80::1%eth0", true},

		// Metadata opens only to an entry of its own.
		{"169.254.0.0/16", "", "169.254.1.1", true},
		{"169.254.0.0/16", "", "169.254.169.254", false},
		{"0.0.0.0/0", "", "169.254.169.254", false},
		{"0.0.0.0/0 169.254.169.254/32", "", "169.254.169.254", true},
		{"169.254.169.254/32 0.0.0.0/0", "", "169.254.169.254", true},
		{"100.64.0.0/10", "", "100.100.100.200", false},
		{"fc00::/7", "", "fd00:ec2::254", false},
		{"fd00:ec2::254/128", "", "fd00:ec2::254", true},
		{"168.63.129.16/32", "", "168.63.129.16", true},

		// What carries an IPv4 address is only as open as that.
		{"64:ff9b::/96", "", "64:ff9b::808:808", true},
		{"64:ff9b::/96", "", "64:ff9b::a00:1", false},
		{"64:ff9b::/96 10.0.0.0/8", "", "64:ff9b::a00:1", true},
		{"64:ff9b::/96", "8.8.8.8/32", "64:ff9b::808:808", false},
		{"64:ff9b::/96 10.0.0.0/8", "", "64:ff9b::a9fe:a9fe", false},
		{"64:ff9b:1::/48", "", "64:ff9b:1::808:808", true},
		{"64:ff9b:1::/48", "", "64:ff9b:1::7f00:1", false},
		{"64:ff9b:1::/48", "", "64:ff9b:1:7f00:0:100::", false},
		{"64:ff9b:1::/48", "", "64:ff9b:1:0:7f:0:100:0", false},
		{"2002::/16", "", "2002:808:808::1", true},
		{"2002::/16", "", "2002:c0a8:1::1", false},
		{"2001::/32", "", "2001:0:808:808:0:0:f5ff:fffe", false}, // client 10.0.0.1
		{"2001::/32", "", "2001:0:a00:1:0:0:f7f7:f7f7", false},   // server 10.0.0.1
		{"2001::/32", "", "2001:0:808:808:0:0:f7f7:f7f7", true},
		{"::/96", "", "::a00:1", false},
		{"::/96", "", "::808:808", true},
		{"2a00:1450::/32", "", "2a00:1450::5efe:a00:1", false},
		{"2a00:1450::/32", "", "2a00:1450::5efe:808:808", true},
		{"::/0", "", "::ffff:0:7f00:1", false},
		{"::/0", "", "64:ff9b::7f00:1", false},
	} {
		g := Guard{AllowCIDRs: cidrs(t, strings.Fields(c.allow)...), DenyCIDRs: cidrs(t, strings.Fields(c.deny)...)}
		if err := g.Check(netip.MustParseAddr(c.addr)); (err == nil) != c.ok {
			t.Errorf("allow %q deny %q: %s: %v, want permitted %v", c.allow, c.deny, c.addr, err, c.ok)
		}
	}

	g := Guard{AllowCIDRs: cidrs(t, all...)}
	for _, s := range hostileAddrs {
		a := netip.MustParseAddr(s).Unmap()
		sp, _ := specialSpan(a)
		if err := g.Check(a); (err == nil) == sp.exact {
			t.Errorf("everything allowed: %s: %v", s, err)
		}
	}
}

func TestGuardPorts(t *testing.T) {
	var g Guard
	for _, p := range []uint16{0, 22, 25, 53, 6379, 11211, 6667} {
		if g.CheckPort(p) == nil {
			t.Errorf("port %d is permitted", p)
		}
	}
	for _, p := range []uint16{80, 443, 3000, 8080, 8443, 65535} {
		if err := g.CheckPort(p); err != nil {
			t.Error(err)
		}
	}
	g.AllowPorts = []uint16{25}
	if g.CheckPort(443) != nil || g.CheckPort(25) != nil || g.CheckPort(22) == nil {
		t.Error("an allowed port adds to the others")
	}
}

// The hook of the dialer must not let through what it cannot read.
func TestControlRefusesTheUnreadable(t *testing.T) {
	var g Guard
	for _, c := range [][2]string{{"tcp4", ":80"}, {"tcp4", ""}, {"tcp4", "example.com:80"}, {"udp4", "8.8.8.8:80"}, {"unix", "/run/x"}, {"tcp4", "8.8.8.8"}, {"tcp6", "[::]:80"}, {"tcp4", "8.8.8.8:25"}} {
		if g.control(context.Background(), c[0], c[1], nil) == nil {
			t.Errorf("%v is permitted", c)
		}
	}
	if err := g.control(context.Background(), "tcp4", "8.8.8.8:443", nil); err != nil {
		t.Error(err)
	}
}

// Every DNS answer that holds only hostile addresses is refused at connect time,
// by address, and the canary hears nothing.
func TestHostileAnswers(t *testing.T) {
	c, dns := newCanary(t), newDNS()
	client := newClient(t, Config{Resolver: dns.resolver()})
	for i, s := range hostileAddrs {
		dns.set(t, fmt.Sprintf("h%d.test", i), s)
	}
	dns.set(t, "several.test", "127.0.0.1 10.0.0.1 ::1 169.254.169.254 ::ffff:127.0.0.1")
	names := map[string]string{"several.test": "several"}
	for i, s := range hostileAddrs {
		names[fmt.Sprintf("h%d.test", i)] = s
	}
	for name, addr := range names {
		for _, scheme := range []string{"http", "https"} {
			_, err := get(t, client, scheme+"://"+name+":"+c.port+"/latest/meta-data/")
			if FaultOf(err) != FaultRefused {
				t.Errorf("%s over %s: %v", addr, scheme, err)
			}
			if _, ok := errors.AsType[*RefusedError](err); !ok {
				t.Errorf("%s over %s: no RefusedError in %v", addr, scheme, err)
			}
			if strings.Contains(fmt.Sprint(err), "meta-data") {
				t.Errorf("the error tells the path: %v", err)
			}
		}
	}
	if n := c.hits.Load(); n != 0 {
		t.Fatalf("the canary heard %d connections", n)
	}
	if s := client.Stats(); s.Open != 0 || s.Dialed != 0 {
		t.Errorf("sockets are counted that were never opened: %+v", s)
	}

	// The canary is not deaf.
	dns.set(t, "open.test", "127.0.0.1")
	open := newClient(t, Config{Resolver: dns.resolver(), Guard: local(t)})
	get(t, open, "http://open.test:"+c.port)
	get(t, open, "http://127.0.0.1:"+c.port)
	if c.hits.Load() < 2 {
		t.Fatal("the canary does not hear what is allowed")
	}
}

// hostileHosts are hosts written so that somebody reads them as an address.
var hostileHosts = []string{
	"127.0.0.1", "localhost", "LOCALHOST", "localhost.", "a.localhost", "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0X7F.1",
	"0x7f.0.0.1", "0177.0.0.1", "0177.0x0.0.1", "127.0.0.1.", "127.000.000.001", "0", "0.0.0.0", "00", "0x0", "0x", "4294967295", "127.0.0.01",
	"[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
	"[fe80::1]", "[fe80::1%25lo]", "[::1%25lo]", "[::ffff:0:127.0.0.1]",
	"１２７.0.0.1", "127。0。0。1", "①②⑦.⓪.⓪.①", "ｌｏｃａｌｈｏｓｔ", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "127．0．0．1",
	"10.0.0.1", "169.254.169.254", "2852039166", "0xa9fea9fe", "[fd00:ec2::254]", "100.100.100.200", "192.168.1.1", "172.16.0.1",
}

// The same hosts in a URL: refused when the settings are checked, and, if
// somebody skips that, when we connect.
func TestHostileHosts(t *testing.T) {
	c := newCanary(t)
	client := newClient(t, Config{})
	var guard Guard
	for _, h := range hostileHosts {
		raw := "http://" + h + ":" + c.port + "/"
		if u, err := guard.CheckURL(raw); err == nil {
			t.Errorf("%s: CheckURL permits it as %s", h, u)
		}
		u, err := url.Parse(raw)
		if err != nil {
			continue // net/http cannot be given it either
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err = client.Do(ctx, &http.Request{Method: "GET", URL: u, Header: http.Header{}}, 10)
		cancel()
		// A name that no resolver knows is as good.
		if f := FaultOf(err); f != FaultRefused && f != FaultDNS && f != FaultRequest {
			t.Errorf("%s: %v (%v)", h, err, f)
		}
	}
	// No host at all: the dialer would take that for ourselves.
	for _, u := range []*url.URL{{Scheme: "http", Host: ":" + c.port}, {Scheme: "http", Opaque: "//127.0.0.1:" + c.port}, {Scheme: "http", Host: ""}, {Scheme: "http", Host: "[]:" + c.port}} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := client.Do(ctx, &http.Request{Method: "GET", URL: u, Header: http.Header{}}, 10)
		cancel()
		if err == nil {
			t.Errorf("%#v: got an answer", u)
		}
	}
	if n := c.hits.Load(); n != 0 {
		t.Fatalf("the canary heard %d connections", n)
	}
	if n := len(hostileAddrs) + len(hostileHosts); n < 60 {
		t.Fatalf("only %d hostile cases", n)
	}
}

// The name is public while it is checked and private when it matters.
func TestRebinding(t *testing.T) {
	c, dns := newCanary(t), newDNS()
	good := server2(t)
	_, port, _ := net.SplitHostPort(good)
	// 127.0.0.2 plays the public address.
	client := newClient(t, Config{Resolver: dns.resolver(), Guard: Guard{AllowCIDRs: cidrs(t, "127.0.0.2/32")}})
	dns.set(t, "rebind.test", "127.0.0.2", "127.0.0.1", "::1", "169.254.169.254")

	if r := mustGet(t, client, "http://rebind.test:"+port); r.Status != 200 {
		t.Fatalf("first: %d", r.Status)
	}
	client.CloseIdle()
	for range 3 {
		_, err := get(t, client, "http://rebind.test:"+c.port)
		wantFault(t, err, FaultRefused)
	}
	if n := c.hits.Load(); n != 0 {
		t.Fatalf("the canary heard %d connections", n)
	}
}

// One good address among hostile ones is used, whatever their order.
func TestMixedAnswers(t *testing.T) {
	dns := newDNS()
	good := server2(t)
	_, port, _ := net.SplitHostPort(good)
	var heard canary
	for _, a := range []string{"127.0.0.1", "127.0.0.3"} {
		if l, err := net.Listen("tcp4", a+":"+port); err == nil {
			defer l.Close()
			go func() {
				for {
					nc, err := l.Accept()
					if err != nil {
						return
					}
					heard.hits.Add(1)
					nc.Close()
				}
			}()
		}
	}
	client := newClient(t, Config{Resolver: dns.resolver(), Guard: Guard{AllowCIDRs: cidrs(t, "127.0.0.2/32")}})
	for i, answer := range []string{"127.0.0.1 127.0.0.2", "127.0.0.2 127.0.0.1", "127.0.0.3 127.0.0.2 127.0.0.1 10.0.0.1", "::1 127.0.0.2", "fe80::1 ::1 127.0.0.1 127.0.0.2"} {
		name := fmt.Sprintf("mixed%d.test", i)
		dns.set(t, name, answer)
		ctx := WithTrace(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+name+":"+port, nil)
		r, err := client.Do(ctx, req, 10)
		if err != nil || r.Status != 200 || r.Remote.Addr().String() != "127.0.0.2" {
			t.Errorf("%s: %+v, %v", answer, r, err)
		}
		client.CloseIdle()
	}
	if n := heard.hits.Load(); n != 0 {
		t.Errorf("refused addresses heard %d connections", n)
	}
}

// server2 listens on 127.0.0.2 only.
func server2(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.2:0")
	if err != nil {
		t.Fatalf("this test needs 127.0.0.2: %v", err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}
