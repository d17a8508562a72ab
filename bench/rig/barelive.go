package rig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark"
)

// BareLive starts a bare program for live streams: the least that a Go server can do. It
// takes POST /{topic, five digits} with an event's data, and GET /v1/stream, and sends frames
// of the same bytes as Hark's.
type BareLive struct {
	Mode LiveMode `json:"mode"`
	// Prefix is that of the topics.
	Prefix string `json:"prefix"`
	// Dir is where [LiveSynced] appends.
	Dir string `json:"dir,omitempty"`
	// Events and Size are what [LiveReplay] sends to everybody.
	Events int `json:"events,omitempty"`
	Size   int `json:"size,omitempty"`
	// Cert and Key are files of PEM: TLS. Only [LivePlain] speaks it.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// LiveMode is what a bare program does.
type LiveMode string

const (
	// LiveEach has hijacked connections without goroutines; two threads write each frame to each
	// of them. A publisher is answered when its frame is in the queue.
	LiveEach LiveMode = "each"
	// LiveCoalesce joins the frames that wait into one write for each connection.
	LiveCoalesce LiveMode = "coalesce"
	// LiveSynced is LiveEach with a topic for each connection. Before that, the frame is appended to a file, which
	// is synced for all that have come meanwhile.
	LiveSynced LiveMode = "synced"
	// LiveReplay sends the same stored frames to everybody who comes, in one write each.
	LiveReplay LiveMode = "replay"
	// LivePlain is a plain net/http handler: a goroutine for each, a queue, a flush, a keep-alive every 17 s.
	LivePlain LiveMode = "plain"
)

// fan is the bare program.
type fan struct {
	setup   BareLive
	writers [2]*fanWriter
	log     *groupLog
	replay  []byte

	mu    sync.Mutex // guards below
	seq   hark.Offset
	conns int
	plain map[chan []byte]bool
	past  [][]byte // LivePlain's last frames, for long polls
}

func bareLiveRole(c *control) error {
	f := &fan{plain: map[chan []byte]bool{}}
	if err := c.read(&f.setup); err != nil {
		return err
	}
	for i := range f.writers {
		f.writers[i] = newFanWriter(f.setup.Mode)
		go f.writers[i].run()
	}
	switch f.setup.Mode {
	case LiveSynced:
		var err error
		if f.log, err = newGroupLog(f.setup.Dir, f.hand); err != nil {
			return err
		}
		go f.log.run()
	case LiveReplay:
		data, random := newData(f.setup.Size), padding()
		spots := spotsOf(data, f.setup.Size)
		for n := range f.setup.Events {
			spots.fill(time.Now(), int64(n), random)
			f.replay = append(f.replay, chunk(f.frame(hark.Offset(n+1), 0, data))...)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := c.write(started{Addr: l.Addr().String()}); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/stream", f.subscribe)
	mux.HandleFunc("GET /v1/events", f.poll)
	mux.HandleFunc("POST /{topic}", f.publish)
	server := &http.Server{Handler: mux, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	if f.setup.Cert != "" {
		go server.ServeTLS(l, f.setup.Cert, f.setup.Key)
	} else {
		go server.Serve(l)
	}
	return untilClosed(c)
}

func (f *fan) id(n hark.Offset) hark.EventID {
	return hark.EventID{Shard: 1, Incarnation: 1, Offset: n}
}

// frame is an event as an SSE stream has it.
func (f *fan) frame(n hark.Offset, topic int, data []byte) []byte {
	e := hark.Event{ID: f.id(n), Topic: fmt.Sprintf("%s.%05d", f.setup.Prefix, topic), Received: time.Now(),
		ContentType: "application/json", Data: data}
	b := make([]byte, 0, 256+len(data))
	b = append(append(append(b, "id: "...), e.ID.String()...), "\ndata: "...)
	return append(hark.AppendEventJSONLine(b, &e), "\n\n"...)
}

func (f *fan) publish(w http.ResponseWriter, r *http.Request) {
	topic, err := strconv.Atoi(r.PathValue("topic"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	data := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, data); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var synced chan struct{}
	f.mu.Lock()
	f.seq++
	frame := f.frame(f.seq, topic, data)
	if f.setup.Mode != LivePlain { // net/http does it there
		frame = chunk(frame)
	}
	if f.log != nil {
		synced = f.log.add(frame, topic)
	} else {
		f.hand(frame, topic)
	}
	f.mu.Unlock()
	if synced != nil {
		<-synced
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, `{"id":"evt_000000000000000000000000"}`)
}

// hand gives a frame to those who write it.
func (f *fan) hand(frame []byte, topic int) {
	switch f.setup.Mode {
	case LiveSynced:
		f.writers[topic%2].add(frame, topic)
	case LivePlain:
		if f.past = append(f.past, frame); len(f.past) > 2048 {
			f.past = slices.Clone(f.past[1024:])
		}
		for queue := range f.plain {
			select {
			case queue <- frame:
			default: // it will be missed, and the benchmark fails: a bound that loses is none
			}
		}
	default:
		f.writers[0].add(frame, topic)
		f.writers[1].add(frame, topic)
	}
}

const bareHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"

// chunk is the chunk that a body has of b.
func chunk(b []byte) []byte {
	out := strconv.AppendInt(make([]byte, 0, len(b)+10), int64(len(b)), 16)
	return append(append(append(out, "\r\n"...), b...), "\r\n"...)
}

// opening is a hijacked stream's head and first block.
func (f *fan) opening(at hark.Offset) []byte {
	return append([]byte(bareHead), chunk([]byte("retry: 2350\nid: "+f.id(at).String()+"\n\n"))...)
}

func (f *fan) subscribe(w http.ResponseWriter, r *http.Request) {
	if f.setup.Mode == LivePlain {
		f.servePlain(w, r)
		return
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	if f.setup.Mode == LiveReplay {
		conn.Write(f.opening(0))
		conn.Write(f.replay)
		var one [1]byte
		conn.Read(one[:]) // until the other side closes
		conn.Close()
		return
	}
	_, digits, _ := strings.Cut(r.URL.Query().Get("topic"), ".")
	topic, _ := strconv.Atoi(digits)
	f.mu.Lock()
	defer f.mu.Unlock()
	c := newBareConn(conn)
	c.write(f.opening(f.seq))
	writer := f.writers[f.conns%2]
	if f.setup.Mode == LiveSynced {
		writer = f.writers[topic%2]
	}
	f.conns++
	writer.join(c, topic)
}

func (f *fan) servePlain(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	queue := make(chan []byte, 256)
	f.mu.Lock()
	f.plain[queue] = true
	prime := f.id(f.seq).String()
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.plain, queue)
		f.mu.Unlock()
	}()
	control := http.NewResponseController(w)
	alive := time.NewTicker(17 * time.Second)
	defer alive.Stop()
	frame := []byte("retry: 2350\nid: " + prime + "\n\n")
	for {
		if _, err := w.Write(frame); err != nil || control.Flush() != nil {
			return
		}
		select {
		case frame = <-queue:
		case <-alive.C:
			frame = []byte(":\n\n")
		case <-r.Context().Done():
			return
		}
	}
}

// poll is a plain long poll: everything after a cursor, or a wait for the next.
func (f *fan) poll(w http.ResponseWriter, r *http.Request) {
	after, _ := hark.ParseCursor(r.URL.Query().Get("after"))
	wait, _ := strconv.Atoi(r.URL.Query().Get("wait"))
	queue := make(chan []byte, 1)
	f.mu.Lock()
	seq := f.seq
	missed := f.past[max(0, len(f.past)-int(seq-min(after.Offset, seq))):]
	if len(missed) == 0 && wait > 0 {
		f.plain[queue] = true
	}
	f.mu.Unlock()
	if len(missed) == 0 && wait > 0 {
		select {
		case frame := <-queue:
			seq, missed = seq+1, [][]byte{frame}
		case <-time.After(time.Duration(wait) * time.Second):
		case <-r.Context().Done():
		}
		f.mu.Lock()
		delete(f.plain, queue)
		f.mu.Unlock()
	}
	out := []byte(`{"events":[`)
	for i, frame := range missed {
		if i > 0 {
			out = append(out, ',')
		}
		_, event, _ := bytes.Cut(frame, []byte("\ndata: "))
		out = append(out, bytes.TrimSuffix(event, blockEnd)...)
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.Write(fmt.Appendf(out, `],"cursor":"%s","gap":null,"more":false}`, f.id(seq)))
}

// groupLog appends frames to a file and syncs them in groups.
type groupLog struct {
	file *os.File
	hand func(frame []byte, topic int)
	wake chan struct{}

	mu    sync.Mutex // guards below
	group []logged
}

type logged struct {
	frame []byte
	topic int
	done  chan struct{}
}

func newGroupLog(dir string, hand func([]byte, int)) (*groupLog, error) {
	file, err := os.CreateTemp(dir, "bare-log-")
	if err != nil {
		return nil, err
	}
	os.Remove(file.Name())
	return &groupLog{file: file, hand: hand, wake: make(chan struct{}, 1)}, nil
}

func (l *groupLog) add(frame []byte, topic int) chan struct{} {
	done := make(chan struct{})
	l.mu.Lock()
	l.group = append(l.group, logged{frame, topic, done})
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return done
}

func (l *groupLog) run() {
	var text []byte
	for range l.wake {
		l.mu.Lock()
		group := l.group
		l.group = nil
		l.mu.Unlock()
		text = text[:0]
		for _, e := range group {
			text = append(text, e.frame...)
		}
		_, err := l.file.Write(text)
		if err == nil {
			err = syncData(l.file)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bare log:", err)
			os.Exit(1)
		}
		for _, e := range group {
			l.hand(e.frame, e.topic)
			close(e.done)
		}
	}
}

// StartBareLive starts it.
func StartBareLive(setup BareLive) (*Bare, error) {
	c, err := startChild("bare-live")
	if err != nil {
		return nil, err
	}
	var s started
	if err := c.ask(setup, &s); err != nil {
		c.Close()
		return nil, err
	}
	return &Bare{s.Addr, c}, nil
}

// WriteCert writes a certificate for 127.0.0.1 and its key (ECDSA P-256) to two files.
func WriteCert(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return errors.Join(err,
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}
