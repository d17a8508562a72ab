package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
)

// dial connects to addr, "host:port", wherever the guard lets it.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !c.reserve() {
		return nil, &Error{Fault: FaultBusy, Msg: "out of sockets: the limit of open connections is reached"}
	}
	nc, err := c.dialer.DialContext(ctx, network, addr)
	if err != nil {
		c.open.Add(-1)
		return nil, dialFault(addr, err)
	}
	c.dialed.Add(1)
	return &conn{Conn: nc, open: &c.open}, nil
}

// reserve counts a socket. At the limit it gives up what is kept for reuse
// first: a connection wanted now is worth more.
func (c *Client) reserve() bool {
	for range 2 {
		if c.open.Add(1) <= int64(c.cfg.MaxConns) {
			return true
		}
		c.open.Add(-1)
		c.CloseIdle()
	}
	return false
}

// conn gives its place back when it is closed.
type conn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

func (c *conn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// dialTLS does the handshake itself, and not net/http, so that a failure is
// known to be one of TLS.
func (c *Client) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	return c.dialTLSWith(ctx, network, addr, c.tls.NextProtos)
}

func (c *Client) dialTLSWith(ctx context.Context, network, addr string, protos []string) (net.Conn, error) {
	nc, err := c.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		nc.Close()
		return nil, dialFault(addr, err)
	}
	cfg := c.tls.Clone()
	cfg.ServerName, cfg.NextProtos = host, protos
	tc := tls.Client(nc, cfg)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.TLSTimeout)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, tlsFault(err)
	}
	return tc, nil
}

// useProxy sends everything through the proxy. Its own address is exempt from
// the guard, so the targets are checked before: Transport calls Proxy for each
// request.
func (c *Client) useProxy() {
	proxy := *c.cfg.ProxyURL
	dial := c.dial
	if proxy.Scheme == "https" {
		// Transport would offer HTTP/2 to such a proxy and then speak HTTP/1.1:
		// we do the TLS, and tell it of a plain one.
		dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return c.dialTLSWith(ctx, network, addr, []string{"http/1.1"})
		}
		proxy.Scheme = "http"
		if proxy.Port() == "" {
			proxy.Host = net.JoinHostPort(proxy.Hostname(), "443")
		}
	}
	c.dialer.ControlContext = nil
	c.transport.DialTLSContext = nil // it is for connections without a proxy
	c.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := dial(ctx, network, addr)
		if err != nil {
			e := err.(*Error)
			if e.Fault != FaultBusy {
				e = &Error{Fault: FaultProxy, Msg: "the outbound proxy cannot be reached", Err: err}
			}
			return nil, e
		}
		return nc, nil
	}
	c.transport.Proxy = func(req *http.Request) (*url.URL, error) {
		if err := c.checkTarget(req.Context(), req.URL); err != nil {
			return nil, err
		}
		return &proxy, nil
	}
	c.transport.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return &Error{Fault: FaultProxy, Msg: "the outbound proxy answered " + strconv.Itoa(res.StatusCode)}
		}
		return nil
	}
}

// checkTarget decides about a request that a proxy will carry.
func (c *Client) checkTarget(ctx context.Context, u *url.URL) error {
	refused := func(err error) error {
		return &Error{Fault: FaultRefused, Msg: err.Error(), Err: err}
	}
	port := defaultPort(u)
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return &Error{Fault: FaultRequest, Msg: "the port must be between 1 and 65535"}
		}
		port = uint16(n)
	}
	if err := c.cfg.Guard.CheckPort(port); err != nil {
		return refused(err)
	}
	// The proxy may read a host in other ways than our resolver, so hosts that
	// can be read in two ways do not get that far.
	host, err := c.cfg.Guard.checkHost(u)
	if err != nil {
		if r, ok := errors.AsType[*RefusedError](err); ok {
			return refused(r)
		}
		return &Error{Fault: FaultRequest, Msg: err.Error(), Err: err}
	}
	name := strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(name); err == nil || c.cfg.ProxyChecks {
		return nil // an address was checked with the host
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	addrs, err := c.cfg.Resolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return dialFault(host, err)
	}
	for _, a := range addrs {
		if err := c.cfg.Guard.Check(a); err != nil {
			return refused(err)
		}
	}
	return nil
}
