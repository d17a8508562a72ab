package server

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"

	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/push/post"
)

// outbound is how this program dials out, in a form that can be told to a worker of it.
type outbound struct {
	Allow, Deny []netip.Prefix
	Ports       []uint16
	Proxy       string // may hold a password
	SourceIP    string
	CA          []byte // PEM
}

// openEgress makes the one client that dials out.
func (s *Server) openEgress() (err error) {
	if s.outbound, err = s.cfg.outbound(); err != nil {
		return err
	}
	s.egress, err = s.outbound.client(0)
	return err
}

func (c *Config) outbound() (o outbound, err error) {
	if o.Allow, err = parsePrefixes(c.AllowCIDR); err != nil {
		return o, err
	}
	if o.Deny, err = parsePrefixes(c.DenyCIDR); err != nil {
		return o, err
	}
	if c.Dev {
		o.Allow = append(o.Allow, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	}
	o.Ports, o.Proxy, o.SourceIP = c.AllowPort, c.OutboundProxy, c.SourceIP
	if c.OutboundCA != "" {
		if o.CA, err = os.ReadFile(c.OutboundCA); err != nil {
			return o, fmt.Errorf("--outbound-ca: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(o.CA) {
			return o, fmt.Errorf("--outbound-ca: %s holds no certificate in PEM", c.OutboundCA)
		}
	}
	return o, nil
}

// client makes a client of so many sockets; 0 for its default.
func (o *outbound) client(sockets int) (_ *egress.Client, err error) {
	out := egress.Config{Guard: egress.Guard{AllowCIDRs: o.Allow, DenyCIDRs: o.Deny, AllowPorts: o.Ports}, MaxConns: sockets}
	if o.Proxy != "" {
		if out.ProxyURL, err = url.Parse(o.Proxy); err != nil {
			return nil, err
		}
	}
	if o.SourceIP != "" {
		if out.SourceAddr, err = netip.ParseAddr(o.SourceIP); err != nil {
			return nil, err
		}
	}
	if o.CA != nil {
		if out.RootCAs, err = x509.SystemCertPool(); err != nil {
			out.RootCAs = x509.NewCertPool()
		}
		out.RootCAs.AppendCertsFromPEM(o.CA)
	}
	return egress.New(out)
}

// pushWorker is how to have a worker for pushes, if there are to be any.
func (s *Server) pushWorker() (post.Worker, error) {
	settings, err := json.Marshal(s.outbound)
	if err != nil {
		return post.Worker{}, err
	}
	w := post.Worker{Settings: settings, Posted: func(apart bool) {
		if apart {
			s.metrics.postedApart.Inc()
		} else {
			s.metrics.postedHere.Inc()
		}
	}, Beside: collectSeldom, Failed: func(err error) {
		s.log.Warn("the push worker ended; the server pushes without it for a while", "error", err)
	}}
	if post.Possible && !s.cfg.NoPushWorker {
		w.Command = s.cfg.PushWorker
	}
	return w, nil
}

const (
	// workerSockets bounds the connections of a push worker: push services are few, and their
	// connections carry hundreds of messages at once.
	workerSockets = 2000
	// workerGC trades memory, of which a worker has little, for processor time.
	workerGC = 300
)

// RunPushWorker is the whole work of the program that [Config.PushWorker] starts: it posts what
// comes over conn, at the lowest priority, until conn ends.
func RunPushWorker(conn net.Conn) error {
	if err := post.Lowest(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	debug.SetGCPercent(workerGC)
	return post.Serve(conn, func(settings []byte) (post.Doer, error) {
		var o outbound
		if err := json.Unmarshal(settings, &o); err != nil {
			return nil, err
		}
		return o.client(workerSockets)
	})
}
