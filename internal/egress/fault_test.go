package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Each way in which a server can fail, and its class. The texts of net/http that
// requestFault goes by are held here.
func TestFaults(t *testing.T) {
	answer := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, text)
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		}
	}
	hang := func(c net.Conn) { io.Copy(io.Discard, c) }
	for _, c := range []struct {
		name   string
		scheme string
		f      func(net.Conn)
		want   Fault
	}{
		{"closes at once", "http", func(net.Conn) {}, FaultReset},
		{"closes after the request", "http", readRequest, FaultReset},
		{"resets", "http", func(c net.Conn) { readRequest(c); c.(*net.TCPConn).SetLinger(0) }, FaultReset},
		{"stops in the header", "http", answer("HTTP/1.1 200 OK\r\nA: b\r\n"), FaultReset},
		{"never answers", "http", hang, FaultTimeout},
		{"drips its header", "http", func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(c, "A: b\r\n"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}, FaultTimeout},
		{"speaks SSH", "http", answer("SSH-2.0-OpenSSH_9.9\r\n"), FaultProtocol},
		{"speaks garbage", "http", answer("\x00\xff\xfe\x01\r\n\r\n"), FaultProtocol},
		{"no status", "http", answer("HTTP/1.1 \r\n\r\n"), FaultProtocol},
		{"two lengths", "http", answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12"), FaultProtocol},
		{"a long line of garbage", "http", answer(strings.Repeat("x", 10_000) + "\r\n\r\n"), FaultProtocol},
		{"switches protocols", "http", answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), FaultProtocol},
		{"huge header", "http", answer("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"), FaultTooLarge},
		{"many headers", "http", answer("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 50_000) + "\r\n"), FaultTooLarge},
		{"an endless line", "http", func(c net.Conn) {
			readRequest(c)
			for {
				if _, err := io.WriteString(c, strings.Repeat("x", 32<<10)); err != nil {
					return
				}
			}
		}, FaultTooLarge},
		{"no TLS", "https", func(c net.Conn) { c.Read(make([]byte, 1)); io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, FaultTLS},
		{"closes in the handshake", "https", func(c net.Conn) { c.Read(make([]byte, 100)) }, FaultTLS},
		{"hangs in the handshake", "https", hang, FaultTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := rawServer(t, c.f)
			client := newClient(t, Config{Guard: local(t)})
			enough := time.Minute
			if c.want == FaultTimeout {
				enough = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), enough)
			defer cancel()
			req, _ := http.NewRequest("GET", c.scheme+"://"+addr+"/secret-path", nil)
			r, err := client.Do(ctx, req, 100)
			if err == nil {
				t.Fatalf("got an answer: %+v", r)
			}
			wantFault(t, err, c.want)
			if !FaultOf(err).Charged() || len(err.Error()) > 300 || strings.Contains(err.Error(), "secret-path") {
				t.Errorf("error %q", err)
			}
		})
	}
}

// Informational answers without end are cut off.
func TestInformationalFlood(t *testing.T) {
	addr := rawServer(t, func(c net.Conn) {
		readRequest(c)
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"); err != nil {
				return
			}
		}
	})
	_, err := get(t, newClient(t, Config{Guard: local(t)}), "http://"+addr)
	if err == nil {
		t.Fatal("got an answer")
	}
	if f := FaultOf(err); f != FaultTooLarge && f != FaultProtocol {
		t.Errorf("%v: %v", f, err)
	}
}

func TestHTTP2Faults(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/header":
			n, _ := strconv.Atoi(r.URL.Query().Get("n"))
			for i := range n {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 100))
			}
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/abort-body":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "abc")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/hang":
			<-r.Context().Done()
		}
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	client := newClient(t, Config{Guard: local(t), RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})

	_, err := get(t, client, srv.URL+"/header?n=490")
	wantFault(t, err, FaultTooLarge)
	// Far over the limit, net/http gives up the connection instead.
	_, err = get(t, client, srv.URL+"/header?n=5000")
	wantFault(t, err, FaultProtocol)
	_, err = get(t, client, srv.URL+"/abort")
	wantFault(t, err, FaultReset)
	if r := mustGet(t, client, srv.URL+"/abort-body"); r.Status != 200 || r.BodyFault != FaultReset || string(r.Snippet) != "abc" {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequest("GET", srv.URL+"/hang", nil)
	_, err = client.Do(ctx, req, 0)
	wantFault(t, err, FaultTimeout)
	mustGet(t, client, srv.URL) // the connection survives all that
}

func TestTLSFaults(t *testing.T) {
	start := func(cfg *tls.Config) (*httptest.Server, Config) {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		srv.TLS = cfg
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv, Config{Guard: local(t), RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	}
	srv, cfg := start(nil)
	_, err := get(t, newClient(t, Config{Guard: local(t)}), srv.URL)
	wantFault(t, err, FaultTLS) // unknown authority

	dns := newDNS()
	dns.set(t, "other.test", "127.0.0.1")
	cfg.Resolver = dns.resolver()
	_, err = get(t, newClient(t, cfg), strings.Replace(srv.URL, "127.0.0.1", "other.test", 1))
	wantFault(t, err, FaultTLS) // certificate for another name

	srv, cfg = start(&tls.Config{MaxVersion: tls.VersionTLS11})
	_, err = get(t, newClient(t, cfg), srv.URL)
	wantFault(t, err, FaultTLS)

	srv, cfg = start(&tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12})
	_, err = get(t, newClient(t, cfg), srv.URL)
	wantFault(t, err, FaultTLS)

	mute, _ := net.Listen("tcp", "127.0.0.1:0")
	defer mute.Close()
	_, err = get(t, newClient(t, Config{Guard: local(t), TLSTimeout: 50 * time.Millisecond}), "https://"+mute.Addr().String())
	wantFault(t, err, FaultTimeout)
}

func TestConnectFaults(t *testing.T) {
	client := newClient(t, Config{Guard: local(t)})
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	addr := l.Addr().String()
	l.Close()
	_, err := get(t, client, "http://"+addr)
	wantFault(t, err, FaultConnect)
	if want := "connecting to " + addr + ": connection refused"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}

	for _, c := range []struct {
		err  error
		want Fault
	}{
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.EMFILE}, FaultBusy},
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.EADDRNOTAVAIL}, FaultBusy},
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}, FaultConnect},
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ETIMEDOUT}, FaultTimeout},
		{context.DeadlineExceeded, FaultTimeout},
		{&net.OpError{Op: "dial", Net: "tcp", Err: context.Canceled}, FaultCanceled},
		{&net.DNSError{UnwrapErr: context.Canceled, Name: "h", Err: "operation was canceled"}, FaultCanceled},
		{errors.New("odd"), FaultConnect},
	} {
		if got := dialFault("h:1", c.err); got.Fault != c.want {
			t.Errorf("%v: %v, want %v", c.err, got.Fault, c.want)
		}
	}
}

func TestDNSFaults(t *testing.T) {
	dns := newDNS()
	dns.fail["broken.test"] = dnsmessage.RCodeServerFailure
	dns.answers["empty.test"] = nil
	dns.set(t, "empty.test", "")
	client := newClient(t, Config{Guard: local(t), Resolver: dns.resolver()})
	for _, name := range []string{"missing.test", "broken.test", "empty.test"} {
		_, err := get(t, client, "http://"+name+":8080/")
		wantFault(t, err, FaultDNS)
		if !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), ":53") {
			t.Errorf("%s: %q", name, err)
		}
	}
	silent := newDNS()
	silent.mute = true
	_, err := get(t, newClient(t, Config{Guard: local(t), Resolver: silent.resolver(), DialTimeout: 100 * time.Millisecond}), "http://silent.test/")
	wantFault(t, err, FaultDNS)
}

func TestRequestFaults(t *testing.T) {
	client := newClient(t, Config{Guard: local(t)})
	u, _ := url.Parse("http://127.0.0.1:8080/")
	for name, req := range map[string]*http.Request{
		"method":  {Method: "GE T", URL: u, Header: http.Header{}},
		"header":  {Method: "GET", URL: u, Header: http.Header{"X": {"a\r\nhunter2: b"}}},
		"name":    {Method: "GET", URL: u, Header: http.Header{"X Y": {"a"}}},
		"scheme":  {Method: "GET", URL: &url.URL{Scheme: "ftp", Host: "127.0.0.1"}, Header: http.Header{}},
		"no host": {Method: "GET", URL: &url.URL{Scheme: "http"}, Header: http.Header{}},
		"no URL":  {Method: "GET", Header: http.Header{}},
		"no map":  {Method: "GET", URL: u},
	} {
		_, err := client.Do(t.Context(), req, 10)
		if FaultOf(err) != FaultRequest {
			t.Errorf("%s: %v (%v)", name, err, FaultOf(err))
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: the error tells a value: %v", name, err)
		}
	}
}

func TestCanceled(t *testing.T) {
	addr := rawServer(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	client := newClient(t, Config{Guard: local(t)})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	req, _ := http.NewRequest("GET", "http://"+addr, nil)
	_, err := client.Do(ctx, req, 10)
	wantFault(t, err, FaultCanceled)
	if FaultOf(err).Charged() {
		t.Error("the destination is charged for our shutdown")
	}
}

func TestFaultNames(t *testing.T) {
	seen := map[string]bool{}
	for f := FaultNone; f <= FaultCanceled; f++ {
		if s := f.String(); s == "" || seen[s] || strings.HasPrefix(s, "fault(") {
			t.Errorf("fault %d is called %q", uint8(f), s)
		}
		seen[f.String()] = true
	}
	if len(faultNames) != int(FaultCanceled)+1 || Fault(99).String() != "fault(99)" {
		t.Error("the list of names is not the list of faults")
	}
	if FaultOf(nil) != FaultNone || FaultOf(io.EOF) != FaultProtocol || FaultOf(&RefusedError{}) != FaultRefused || FaultNone.Charged() {
		t.Error("FaultOf")
	}
}
