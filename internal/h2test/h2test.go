// Package h2test is an HTTP/2 server for tests that works frame by frame, so that a test
// decides what no other server lets it: how many streams a connection allows and when
// that changes, a GOAWAY in the middle of a burst and which streams it covers, a reset, a
// connection that ends without a word. It counts what clients must not do.
//
// It is no server for anything else: answers are not held back by flow control, so their
// bodies must be small (16 KB, and a megabyte in flight on one connection).
package h2test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// MaxBody is the longest request that is read; a longer one is reset.
const MaxBody = 1 << 20

// Config is what a server is made of.
type Config struct {
	// Listener is where it listens, without TLS; by default on a free port of loopback.
	Listener net.Listener
	// MaxStreams is what the first SETTINGS of a connection allow; 0 to say nothing.
	MaxStreams uint32
	// NoPong leaves the client's pings unanswered, as a dead peer does.
	NoPong bool
	// Opened is called with each new connection before its first request; may be nil.
	Opened func(*Conn)
	// Arrived is called when the header of a request was read, in order, before the next
	// frame of its connection is; may be nil. It must not wait.
	Arrived func(*Stream)
	// Handle is called with each complete request in a goroutine of its own.
	Handle func(*Stream)
}

// Server is one that runs.
type Server struct {
	URL   string         // "https://127.0.0.1:port"
	CAPEM []byte         // the authority that its certificate is of
	CA    *x509.CertPool // the same

	cfg    Config
	tls    *tls.Config
	conns  sync.WaitGroup
	opened atomic.Int64

	mu     sync.Mutex // guards below
	live   map[*Conn]struct{}
	closed bool
}

// Start makes a server that runs until Close.
func Start(cfg Config) (*Server, error) {
	if cfg.Listener == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		cfg.Listener = l
	}
	cert, caPEM, err := certificate()
	if err != nil {
		cfg.Listener.Close()
		return nil, err
	}
	s := &Server{
		URL: "https://" + cfg.Listener.Addr().String(), CAPEM: caPEM, CA: x509.NewCertPool(),
		cfg: cfg, tls: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}},
		live: make(map[*Conn]struct{}),
	}
	s.CA.AppendCertsFromPEM(caPEM)
	s.conns.Go(s.accept)
	return s, nil
}

// Close ends the server and all its connections.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cfg.Listener.Close()
	for _, c := range s.Conns() {
		c.Close()
	}
	s.conns.Wait()
}

// Conns returns the connections that are open.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Conn, 0, len(s.live))
	for c := range s.live {
		all = append(all, c)
	}
	return all
}

// Opened counts the connections since the start.
func (s *Server) Opened() int { return int(s.opened.Load()) }

func (s *Server) accept() {
	for {
		nc, err := s.cfg.Listener.Accept()
		if err != nil {
			return
		}
		s.conns.Go(func() { s.serve(nc) })
	}
}

func (s *Server) serve(nc net.Conn) {
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	tc := tls.Server(nc, s.tls)
	if tc.Handshake() != nil || tc.ConnectionState().NegotiatedProtocol != "h2" {
		return
	}
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := readFull(tc, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	nc.SetDeadline(time.Time{})
	c := &Conn{server: s, nc: tc, Number: int(s.opened.Add(1)), framer: http2.NewFramer(tc, tc), streams: make(map[uint32]*Stream), limit: noLimit, last: noLimit}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.SetMaxReadFrameSize(1 << 20)
	c.encoder = hpack.NewEncoder(&c.block)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.live[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.live, c)
		s.mu.Unlock()
	}()
	c.start()
	for c.next() == nil {
	}
}

func readFull(c net.Conn, b []byte) (int, error) {
	for n := 0; n < len(b); {
		m, err := c.Read(b[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return len(b), nil
}

const noLimit = 1<<31 - 1

// Conn is a connection of a client.
type Conn struct {
	Number int // counts from 1
	// Over counts the requests that came while as many were open as the client had
	// agreed to. They are refused, as RFC 9113 section 5.1.2 says.
	Over atomic.Int64
	// Pings counts the client's.
	Pings atomic.Int64

	server *Server
	nc     net.Conn
	framer *http2.Framer

	mu      sync.Mutex // guards below, and writing
	encoder *hpack.Encoder
	block   bytes.Buffer
	streams map[uint32]*Stream
	limit   uint32   // that the client has acknowledged
	offered []uint32 // and those that it has not; 0 for no change
	highest uint32   // stream that was begun
	last    uint32   // that is still processed, once a GOAWAY was sent
}

func (c *Conn) start() {
	if c.server.cfg.Opened != nil {
		c.server.cfg.Opened(c)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.server.cfg.MaxStreams; n > 0 {
		c.settingsLocked(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n})
		return
	}
	c.settingsLocked()
}

func (c *Conn) settingsLocked(settings ...http2.Setting) {
	offer := uint32(0)
	for _, s := range settings {
		if s.ID == http2.SettingMaxConcurrentStreams {
			offer = s.Val
		}
	}
	c.offered = append(c.offered, offer)
	c.framer.WriteSettings(settings...)
}

// SetMaxStreams tells the client how many streams it may have open.
func (c *Conn) SetMaxStreams(n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settingsLocked(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n})
}

// Open returns how many requests are open.
func (c *Conn) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// GoAway says that no request after the last one that was begun is processed: those that
// still come are ignored.
func (c *Conn) GoAway(code http2.ErrCode, debug string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goAwayLocked(c.highest, code, debug)
}

// GoAwayBefore says so of st and all after it, and forgets them. They must not have been
// answered.
func (c *Conn) GoAwayBefore(st *Stream, code http2.ErrCode, debug string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goAwayLocked(max(st.ID, 2)-2, code, debug)
}

func (c *Conn) goAwayLocked(last uint32, code http2.ErrCode, debug string) {
	c.last = min(c.last, last)
	for id := range c.streams {
		if id > c.last {
			delete(c.streams, id)
		}
	}
	c.framer.WriteGoAway(c.last, code, []byte(debug))
}

// Close ends the connection without a word.
func (c *Conn) Close() { c.nc.Close() }

// next handles one frame.
func (c *Conn) next() error {
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return err
	}
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.begin(f)
	case *http2.DataFrame:
		return c.data(f)
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.Pings.Add(1)
			if c.server.cfg.NoPong {
				return nil
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.framer.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		c.mu.Lock()
		if st := c.streams[f.StreamID]; st != nil {
			delete(c.streams, f.StreamID)
			close(st.gone)
		}
		c.mu.Unlock()
	case *http2.GoAwayFrame:
		return errors.New("the client said goodbye")
	}
	return nil
}

func (c *Conn) settings(f *http2.SettingsFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !f.IsAck() {
		return c.framer.WriteSettingsAck()
	}
	if len(c.offered) > 0 {
		if c.offered[0] > 0 {
			c.limit = c.offered[0]
		}
		c.offered = c.offered[1:]
	}
	return nil
}

func (c *Conn) begin(f *http2.MetaHeadersFrame) error {
	st := &Stream{Conn: c, ID: f.StreamID, Header: make(http.Header), Arrived: time.Now(), gone: make(chan struct{})}
	for _, field := range f.Fields {
		switch field.Name {
		case ":method":
			st.Method = field.Value
		case ":path":
			st.Path = field.Value
		case ":authority":
			st.Authority = field.Value
		case ":scheme":
		default:
			st.Header.Add(field.Name, field.Value)
		}
	}
	c.mu.Lock()
	if f.StreamID > c.last {
		c.mu.Unlock()
		return nil
	}
	if uint32(len(c.streams)) >= c.limit {
		defer c.mu.Unlock()
		c.Over.Add(1)
		return c.framer.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
	}
	c.highest = f.StreamID
	c.streams[f.StreamID] = st
	st.Before = len(c.streams) - 1
	c.mu.Unlock()
	if c.server.cfg.Arrived != nil {
		c.server.cfg.Arrived(st)
	}
	if f.StreamEnded() {
		go c.server.cfg.Handle(st)
	}
	return nil
}

func (c *Conn) data(f *http2.DataFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := uint32(f.Length); n > 0 {
		c.framer.WriteWindowUpdate(0, n)
	}
	st := c.streams[f.StreamID]
	if st == nil {
		return nil
	}
	if len(st.Body)+len(f.Data()) > MaxBody {
		delete(c.streams, f.StreamID)
		return c.framer.WriteRSTStream(f.StreamID, http2.ErrCodeEnhanceYourCalm)
	}
	st.Body = append(st.Body, f.Data()...)
	if f.StreamEnded() {
		go c.server.cfg.Handle(st)
	} else if n := uint32(f.Length); n > 0 {
		c.framer.WriteWindowUpdate(f.StreamID, n)
	}
	return nil
}

// Stream is a request.
type Stream struct {
	Conn                    *Conn
	ID                      uint32
	Method, Path, Authority string
	Header                  http.Header
	Body                    []byte
	Arrived                 time.Time
	Before                  int // requests that were open when it came

	gone chan struct{}
}

// Gone is closed when the client took the request back.
func (s *Stream) Gone() <-chan struct{} { return s.gone }

// Answer answers the request. It reports whether the answer was written: not if the
// client took the request back or a GOAWAY did.
func (s *Stream) Answer(status int, header http.Header, body []byte) bool {
	return s.AnswerThen(status, header, body, func() {})
}

// AnswerThen calls then if it will answer, before it does.
func (s *Stream) AnswerThen(status int, header http.Header, body []byte, then func()) bool {
	c := s.Conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[s.ID] != s {
		return false
	}
	then()
	c.block.Reset()
	c.encoder.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)})
	for name, values := range header {
		for _, v := range values {
			c.encoder.WriteField(hpack.HeaderField{Name: string(bytes.ToLower([]byte(name))), Value: v})
		}
	}
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.ID, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: len(body) == 0})
	if err == nil && len(body) > 0 {
		err = c.framer.WriteData(s.ID, true, body)
	}
	delete(c.streams, s.ID)
	return err == nil
}

// Reset ends the request with RST_STREAM.
func (s *Stream) Reset(code http2.ErrCode) {
	c := s.Conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[s.ID] == s {
		delete(c.streams, s.ID)
		c.framer.WriteRSTStream(s.ID, code)
	}
}

// certificate makes one for loopback, and the authority that signs it.
func certificate() (tls.Certificate, []byte, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "h2test authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1), Subject: pkix.Name{CommonName: "h2test"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return tls.Certificate{Certificate: [][]byte{der, caDER}, PrivateKey: key}, caPEM, nil
}
