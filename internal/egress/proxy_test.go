package egress

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// fakeProxy forwards requests and tunnels to one target, whatever they name.
type fakeProxy struct {
	url    *url.URL
	target string
	status atomic.Int64 // refuses with it, if set
	asked  atomic.Value // the last host asked for
	auth   atomic.Value
	hits   atomic.Int64
}

func newProxy(t *testing.T, target string) *fakeProxy {
	t.Helper()
	p := &fakeProxy{target: target}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.url, _ = url.Parse(srv.URL)
	p.url.User = url.UserPassword("user", "hunter2")
	return p
}

func (p *fakeProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.hits.Add(1)
	p.asked.Store(r.Host)
	p.auth.Store(r.Header.Get("Proxy-Authorization"))
	if s := p.status.Load(); s != 0 {
		w.WriteHeader(int(s))
		return
	}
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer up.Close()
	if r.Method != http.MethodConnect {
		r.RequestURI = ""
		res, err := (&http.Transport{DisableKeepAlives: true, Proxy: nil, Dial: func(string, string) (net.Conn, error) { return net.Dial("tcp", p.target) }}).RoundTrip(r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
		io.Copy(w, res.Body)
		return
	}
	down, _, _ := w.(http.Hijacker).Hijack()
	defer down.Close()
	io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(up, down)
	io.Copy(down, up)
}

func TestProxy(t *testing.T) {
	plain := server(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "plain "+r.Host) })
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secure "+r.Proto) }))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	dns := newDNS()
	// example.com is a name in the certificate of the test server.
	dns.set(t, "example.com", "93.184.215.14")
	dns.set(t, "inside.test", "10.0.0.1")
	dns.set(t, "mixed.test", "93.184.215.14 127.0.0.1")
	c := newCanary(t)

	cfg := Config{Resolver: dns.resolver(), RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	p := newProxy(t, plain.Listener.Addr().String())
	cfg.ProxyURL = p.url // on loopback, which the guard would refuse
	client := newClient(t, cfg)
	if r := mustGet(t, client, "http://example.com/x"); string(r.Snippet) != "plain example.com" || p.asked.Load() != "example.com" {
		t.Errorf("%+v, the proxy was asked for %v", r, p.asked.Load())
	}
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:hunter2")); p.auth.Load() != want {
		t.Errorf("authorization %v", p.auth.Load())
	}

	p.target = secure.Listener.Addr().String()
	if r := mustGet(t, client, "https://example.com/x"); string(r.Snippet) != "secure HTTP/2.0" || p.asked.Load() != "example.com:443" {
		t.Errorf("%+v, the proxy was asked for %v", r, p.asked.Load())
	}

	before := p.hits.Load()
	for _, host := range []string{"inside.test", "mixed.test", "127.0.0.1", "[::1]", "localhost", "169.254.169.254", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "127.0.0.1."} {
		for _, scheme := range []string{"http", "https"} {
			_, err := get(t, client, scheme+"://"+host+":"+c.port)
			if f := FaultOf(err); f != FaultRefused && f != FaultRequest {
				t.Errorf("%s: %v", host, err)
			}
		}
	}
	_, err := get(t, client, "http://missing.test")
	wantFault(t, err, FaultDNS)
	_, err = get(t, client, "http://example.com:25")
	wantFault(t, err, FaultRefused)
	if p.hits.Load() != before || c.hits.Load() != 0 {
		t.Error("what is refused reached the proxy")
	}

	// A proxy that checks on its own is asked for names we do not know, but not
	// for addresses.
	cfg.ProxyChecks = true
	p.target = plain.Listener.Addr().String()
	client = newClient(t, cfg)
	if r := mustGet(t, client, "http://missing.test"); string(r.Snippet) != "plain missing.test" {
		t.Errorf("%+v", r)
	}
	_, err = get(t, client, "http://127.0.0.1:"+c.port)
	wantFault(t, err, FaultRefused)
}

// A proxy that is reached over TLS and would speak HTTP/2 if it were asked.
func TestHTTPSProxy(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secure") }))
	t.Cleanup(secure.Close)
	p := &fakeProxy{target: secure.Listener.Addr().String()}
	front := httptest.NewUnstartedServer(p)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	p.url, _ = url.Parse(front.URL)
	dns := newDNS()
	dns.set(t, "example.com", "93.184.215.14")
	pool := front.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	client := newClient(t, Config{Resolver: dns.resolver(), ProxyURL: p.url, RootCAs: pool})
	if r := mustGet(t, client, "https://example.com/"); string(r.Snippet) != "secure" {
		t.Errorf("%+v", r)
	}

	client = newClient(t, Config{Resolver: dns.resolver(), ProxyURL: p.url}) // does not trust it
	_, err := get(t, client, "https://example.com/")
	wantFault(t, err, FaultProxy)
}

func TestSOCKSProxy(t *testing.T) {
	srv := server(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	asked := make(chan string, 1)
	addr := rawServer(t, func(c net.Conn) {
		buf := make([]byte, 300)
		io.ReadFull(c, buf[:2])
		io.ReadFull(c, buf[:buf[1]]) // methods
		c.Write([]byte{5, 0})        // none needed
		io.ReadFull(c, buf[:5])      // version, connect, 0, name, length
		n := int(buf[4])             //
		io.ReadFull(c, buf[:n+2])    // name, port
		asked <- string(buf[:n])
		c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		up, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			return
		}
		defer up.Close()
		go io.Copy(up, c)
		io.Copy(c, up)
	})
	dns := newDNS()
	dns.set(t, "example.com", "93.184.215.14")
	client := newClient(t, Config{Resolver: dns.resolver(), ProxyURL: &url.URL{Scheme: "socks5", Host: addr}})
	if r := mustGet(t, client, "http://example.com/"); string(r.Snippet) != "example.com" {
		t.Errorf("%+v", r)
	}
	if host := <-asked; host != "example.com" {
		t.Errorf("the proxy was asked for %s", host)
	}
}

func TestProxyFaults(t *testing.T) {
	dns := newDNS()
	dns.set(t, "example.com", "93.184.215.14")
	p := newProxy(t, "127.0.0.1:1")
	p.status.Store(403)
	client := newClient(t, Config{Resolver: dns.resolver(), ProxyURL: p.url})
	_, err := get(t, client, "https://example.com/")
	wantFault(t, err, FaultProxy)
	if err.Error() != "the outbound proxy answered 403" || FaultOf(err).Charged() {
		t.Errorf("%v", err)
	}

	l, _ := net.Listen("tcp", "127.0.0.1:0")
	addr := l.Addr().String()
	l.Close()
	client = newClient(t, Config{Resolver: dns.resolver(), ProxyURL: &url.URL{Scheme: "http", Host: addr, User: url.UserPassword("u", "hunter2")}})
	for _, scheme := range []string{"http", "https"} {
		_, err = get(t, client, scheme+"://example.com/")
		wantFault(t, err, FaultProxy)
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), "hunter2") {
				t.Errorf("the error tells a password: %v", e)
			}
		}
	}
}
