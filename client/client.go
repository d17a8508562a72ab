package client

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options of a [Client]. The zero value is usable.
type Options struct {
	// Tenant acts for another tenant (the header Hark-Tenant); only an admin key may.
	Tenant string
	// Timeout bounds one try of one request; 0 means 30 seconds. What a request
	// asks the server to wait is added to it.
	Timeout time.Duration
	// Retries is how often a request is repeated; 0 means 4, negative never.
	Retries int
	// MaxWait is the longest pause before a repetition; 0 means 30 seconds. When the
	// server asks for more, its answer is returned at once.
	MaxWait time.Duration
	// TLS is for servers with a certificate of their own; nil for the usual roots.
	// It is ignored when HTTP is set.
	TLS *tls.Config
	// HTTP does the requests; nil for a client of our own that keeps connections.
	// Redirects are never followed: they would carry the key to somewhere else.
	HTTP *http.Client
	// UserAgent is sent with each request; empty for "hark-go".
	UserAgent string
}

// Client is a connection to one server with one key.
type Client struct {
	base    *url.URL
	key     string
	options Options
	http    *http.Client
}

// New makes a client of the server at address, such as "http://127.0.0.1:8080". The
// key may be empty for a server that needs none (hark dev). Nothing is sent yet.
func New(address, key string, options Options) (*Client, error) {
	base, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("the API key holds characters that no key has: was it copied whole, without spaces?")
	}
	options.Timeout = cmp.Or(options.Timeout, 30*time.Second)
	options.Retries = cmp.Or(options.Retries, 4)
	options.MaxWait = cmp.Or(options.MaxWait, 30*time.Second)
	options.UserAgent = cmp.Or(options.UserAgent, "hark-go")
	c := &Client{base: base, key: key, options: options}
	c.http = httpClient(options)
	return c, nil
}

func httpClient(o Options) *http.Client {
	h := new(http.Client)
	if o.HTTP != nil {
		*h = *o.HTTP
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if h.Transport == nil && o.HTTP == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 64 // the default of 2 would dial anew for each worker
		t.TLSClientConfig = o.TLS
		t.ForceAttemptHTTP2 = true
		h.Transport = t
	}
	return h
}

func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(address, "/"))
	switch {
	case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil:
		return u, nil
	case err == nil && u.User != nil:
		return nil, fmt.Errorf("the server's URL must not hold a name or password: give the API key apart")
	case !strings.Contains(address, "://"):
		return nil, fmt.Errorf("%q is not the URL of a server: write http://%s", address, cmp.Or(strings.TrimLeft(address, "/"), "127.0.0.1:8080"))
	}
	return nil, fmt.Errorf("%q is not the URL of a server: write it like http://127.0.0.1:8080 or https://hark.example.com", address)
}

// URL returns the server's address.
func (c *Client) URL() string { return c.base.String() }

// Close drops idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }
