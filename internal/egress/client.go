package egress

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Config is how the process dials out. The zero value works and is strict.
type Config struct {
	Guard Guard

	// ProxyURL, if set, is an http, https, socks5 or socks5h proxy for every
	// request. The package documentation says who then checks addresses.
	ProxyURL *url.URL

	// ProxyChecks leaves the check of names to the proxy.
	ProxyChecks bool

	// SourceAddr, if valid, is the local address to connect from. Only
	// destinations of the same family can then be reached.
	SourceAddr netip.Addr

	// RootCAs are the authorities to trust instead of the system's.
	RootCAs *x509.CertPool

	// Resolver resolves names. Default: Go's own, with the system's settings.
	Resolver *net.Resolver

	DialTimeout time.Duration // DNS and TCP together, default 10 s
	TLSTimeout  time.Duration // TLS handshake, default 10 s
	BodyTimeout time.Duration // from the header of an answer to its last byte, default 5 s
	IdleTimeout time.Duration // how long a connection is kept for reuse, default 90 s

	// MaxConns bounds the sockets open at once, default 12,000. Looking up a
	// name takes one or two more for that time.
	MaxConns int

	MaxIdle        int   // connections kept for reuse, default a quarter of MaxConns
	MaxIdlePerHost int   // of those for one host, default all: who closes what it needs again a moment later dials for ever
	MaxHeader      int64 // bytes of an answer's header, default 64 KiB
	DrainLimit     int64 // bytes read after the snippet to keep the connection, default 64 KiB
}

func (c Config) withDefaults() Config {
	c.DialTimeout = cmp.Or(c.DialTimeout, 10*time.Second)
	c.TLSTimeout = cmp.Or(c.TLSTimeout, 10*time.Second)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, 5*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 90*time.Second)
	c.MaxConns = cmp.Or(c.MaxConns, 12_000)
	c.MaxIdle = cmp.Or(c.MaxIdle, max(c.MaxConns/4, 1))
	c.MaxIdlePerHost = cmp.Or(c.MaxIdlePerHost, c.MaxIdle)
	c.MaxHeader = cmp.Or(c.MaxHeader, 64<<10)
	c.DrainLimit = cmp.Or(c.DrainLimit, 64<<10)
	if c.Resolver == nil {
		c.Resolver = &net.Resolver{PreferGo: true}
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	for name, list := range map[string][]netip.Prefix{"allow_cidrs": c.Guard.AllowCIDRs, "deny_cidrs": c.Guard.DenyCIDRs} {
		for _, p := range list {
			if !p.IsValid() {
				errs = append(errs, fmt.Errorf("%s: holds an invalid prefix", name))
			}
		}
	}
	if u := c.ProxyURL; u != nil {
		switch u.Scheme {
		case "http", "https", "socks5", "socks5h":
		default:
			errs = append(errs, errors.New("proxy: the URL must begin with http://, https://, socks5:// or socks5h://"))
		}
		if u.Hostname() == "" {
			errs = append(errs, errors.New("proxy: the URL has no host"))
		}
	}
	if c.SourceAddr.IsValid() && (c.SourceAddr.IsUnspecified() || c.SourceAddr.IsMulticast()) {
		errs = append(errs, errors.New("source address: must be an address of this machine"))
	}
	for name, n := range map[string]int64{
		"dial timeout": int64(c.DialTimeout), "TLS timeout": int64(c.TLSTimeout), "body timeout": int64(c.BodyTimeout), "idle timeout": int64(c.IdleTimeout),
		"max conns": int64(c.MaxConns), "max idle": int64(c.MaxIdle), "max idle per host": int64(c.MaxIdlePerHost), "max header": c.MaxHeader, "drain limit": c.DrainLimit,
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be negative", name))
		}
	}
	return errors.Join(errs...)
}

// Client sends requests. Make one for the process. It is safe for concurrent
// use.
type Client struct {
	cfg       Config
	dialer    net.Dialer
	tls       *tls.Config
	transport *http.Transport
	direct    direct
	peers     pools
	// peerTransport dials for peers: HTTP/2 only, and it never closes what is idle.
	peerTransport *http.Transport
	open          atomic.Int64
	dialed        atomic.Int64
}

// New makes a client. Its error names every setting at fault.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	c := &Client{cfg: cfg}
	c.direct = direct{client: c, idle: make(map[string][]*wire)}
	c.dialer = net.Dialer{Timeout: cfg.DialTimeout, Resolver: cfg.Resolver, ControlContext: c.cfg.Guard.control}
	if cfg.SourceAddr.IsValid() {
		c.dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(cfg.SourceAddr, 0))
	}
	c.tls = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            cfg.RootCAs,
		NextProtos:         []string{"h2", "http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(1024),
	}
	c.transport = &http.Transport{
		DialContext:            c.dial,
		DialTLSContext:         c.dialTLS,
		TLSClientConfig:        c.tls,
		TLSHandshakeTimeout:    cfg.TLSTimeout,
		DisableCompression:     true, // also: no decompression
		MaxIdleConns:           cfg.MaxIdle,
		MaxIdleConnsPerHost:    cfg.MaxIdlePerHost,
		IdleConnTimeout:        cfg.IdleTimeout,
		MaxResponseHeaderBytes: cfg.MaxHeader,
		ExpectContinueTimeout:  time.Second,
		Protocols:              new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			// What a hostile peer can make us buffer that we have not asked for.
			MaxReceiveBufferPerStream:     64 << 10,
			MaxReceiveBufferPerConnection: 1 << 20,
			// Many requests share such a connection: notice when it is dead.
			SendPingTimeout:  30 * time.Second,
			PingTimeout:      15 * time.Second,
			WriteByteTimeout: 15 * time.Second,
		},
	}
	c.transport.Protocols.SetHTTP1(true)
	c.transport.Protocols.SetHTTP2(true)
	if cfg.ProxyURL != nil {
		c.useProxy()
	}
	c.preparePeers()
	return c, nil
}

// Guard returns the guard, for checking settings.
func (c *Client) Guard() *Guard { return &c.cfg.Guard }

// CloseIdle closes the connections that no request uses.
func (c *Client) CloseIdle() {
	c.transport.CloseIdleConnections()
	c.direct.closeOlder(0)
	c.closeIdlePeers()
}

// Stats are for metrics.
type Stats struct {
	Open   int64 // sockets open or being opened
	Dialed int64 // connections made since the start
}

// Stats returns the counts of now.
func (c *Client) Stats() Stats { return Stats{c.open.Load(), c.dialed.Load()} }

// Response is what came back.
type Response struct {
	Status int
	Header http.Header
	Proto  string // "HTTP/1.1", "HTTP/2.0"

	// Snippet is the beginning of the body, at most as long as was asked for.
	// More tells that the body goes on after it, or may.
	Snippet []byte
	More    bool

	// BodyFault tells why the body could not be read up to the length of the
	// snippet: a timeout, a reset. The status stands all the same.
	BodyFault Fault

	// TTFB is the time until the header was there, dialling included.
	TTFB time.Duration

	// Remote is the address that answered (the proxy's, if there is one) and
	// Reused whether the connection was kept from an earlier request. They are
	// known only with WithTrace, and Remote not of a Peer.
	Remote netip.AddrPort
	Reused bool
}

type traceKey struct{}

// WithTrace makes Do fill in Response.Remote and Response.Reused.
func WithTrace(ctx context.Context) context.Context {
	return context.WithValue(ctx, traceKey{}, true)
}

// Do sends req under ctx, whose deadline bounds everything up to the end of the
// body, and reads at most snippetMax bytes of the answer's body into the
// response. Its error is always an [*Error]. The body of req is closed, as
// http.RoundTripper says.
func (c *Client) Do(ctx context.Context, req *http.Request, snippetMax int) (Response, error) {
	var t *trace
	if ctx.Value(traceKey{}) != nil {
		t = new(trace)
	}
	start := time.Now()
	res, err := c.roundTrip(ctx, req, t)
	if err != nil {
		return Response{}, requestFault(ctx, err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		res.Body.Close()
		return Response{}, &Error{Fault: FaultProtocol, Msg: "the answer switches to another protocol"}
	}
	r := Response{Status: res.StatusCode, Header: res.Header, Proto: res.Proto, TTFB: time.Since(start)}
	if t != nil {
		r.Remote, r.Reused = t.remote, t.reused
	}
	c.readBody(ctx, res, snippetMax, &r)
	return r, nil
}

// roundTrip sends req on the way that fits it.
func (c *Client) roundTrip(ctx context.Context, req *http.Request, t *trace) (*http.Response, error) {
	if c.isPlain(req) {
		res, w, err := c.direct.roundTrip(ctx, req)
		if err == nil && t != nil {
			t.gotConn(httptrace.GotConnInfo{Conn: w.nc, Reused: w.reused})
		}
		return res, err
	}
	if p, ok := ctx.Value(peerKey{}).(*Peer); ok && req.URL != nil && req.URL.Scheme == "https" && req.URL.Host != "" {
		return c.roundTripPeer(ctx, p, req, t)
	}
	if t != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: t.gotConn})
	}
	if req.Context() != ctx {
		req = req.WithContext(ctx)
	}
	return c.transport.RoundTrip(req)
}

// isPlain reports whether [direct] can carry a request. What is odd about a
// request is left to Transport, which says what is wrong with it.
func (c *Client) isPlain(req *http.Request) bool {
	if req.URL == nil || req.URL.Scheme != "http" || req.URL.Host == "" || req.Header == nil || c.cfg.ProxyURL != nil || !isToken(req.Method) {
		return false
	}
	for name, values := range req.Header {
		if !httpguts.ValidHeaderFieldName(name) || name == "Expect" || name == "Upgrade" {
			return false
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	return true
}

func isToken(method string) bool { return method != "" && httpguts.ValidHeaderFieldName(method) }

// trace is what httptrace tells. RoundTrip calls gotConn in the goroutine of its
// caller, again if it retries.
type trace struct {
	remote netip.AddrPort
	reused bool
}

func (t *trace) gotConn(info httptrace.GotConnInfo) {
	t.reused = info.Reused
	if a, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		t.remote = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
}

// readBody reads the snippet, then on to the end if that is near, so that the
// connection can be used again.
func (c *Client) readBody(ctx context.Context, res *http.Response, snippetMax int, r *Response) {
	if res.Body == http.NoBody {
		return
	}
	// Closing the body ends a read that hangs. No lock is held meanwhile.
	timer := time.AfterFunc(c.cfg.BodyTimeout, func() { res.Body.Close() })
	defer func() {
		timer.Stop()
		res.Body.Close()
	}()

	buf, err := readUpTo(res.Body, snippetMax, res.ContentLength)
	r.Snippet = buf
	if err == io.EOF {
		return
	}
	if err != nil {
		r.More = true
		r.BodyFault = requestFault(ctx, err).Fault
		if !timer.Stop() {
			r.BodyFault = FaultTimeout
		}
		return
	}
	if rest := res.ContentLength - int64(len(buf)); rest > c.cfg.DrainLimit {
		r.More = true
		return
	}
	n, err := io.CopyN(io.Discard, res.Body, c.cfg.DrainLimit)
	r.More = n > 0 || err != io.EOF
}

// readUpTo reads at most most bytes. It returns io.EOF if the body ended, nil if
// there may be more.
func readUpTo(body io.Reader, most int, length int64) ([]byte, error) {
	if most <= 0 {
		return nil, nil
	}
	size := min(most, 512)
	if length >= 0 {
		size = int(min(int64(most), length))
	}
	if size > 64<<10 {
		size = 64 << 10 // the length is a claim, the memory is ours
	}
	buf := make([]byte, 0, size)
	for {
		if len(buf) == cap(buf) {
			if len(buf) == most {
				return buf, nil
			}
			grown := make([]byte, len(buf), min(most, 2*cap(buf)+512))
			copy(grown, buf)
			buf = grown
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return slices.Clip(buf), err
		}
	}
}
