package rig

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark/webhook"
)

// BareSetup starts a bare program: the least that a Go server or client can do
// that posts signed webhooks. What Hark adds (durability, authentication,
// matching, attempts, retries) is the difference.
type BareSetup struct {
	// Sink is the sink's host:port.
	Sink string `json:"sink"`
	// Conns, Topics and Size are the client loop's.
	Conns  int `json:"conns,omitempty"`
	Topics int `json:"topics,omitempty"`
	Size   int `json:"size,omitempty"`
}

// sender posts to the sink with a tuned net/http client.
type sender struct {
	client *http.Client
	signer *webhook.Signer
	urls   []string
	number atomic.Uint64
}

func newSender(sink string, topics int) (*sender, error) {
	signer, err := webhook.NewSigner(webhook.GenerateSecret())
	if err != nil {
		return nil, err
	}
	s := &sender{
		signer: signer,
		client: &http.Client{
			Timeout: 30 * time.Second,
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				MaxIdleConnsPerHost: 4096, DisableCompression: true,
			},
		},
	}
	for i := range topics {
		s.urls = append(s.urls, fmt.Sprintf("http://%s/bare/%d", sink, i))
	}
	return s, nil
}

func (s *sender) send(ctx context.Context, topic int, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.urls[topic], bytes.NewReader(body))
	if err != nil {
		return err
	}
	id := "evt_" + strconv.FormatUint(1e15+s.number.Add(1), 32)
	req.Header["Content-Type"] = []string{"application/json"}
	if err := s.signer.SetHeader(req.Header, id, time.Now(), body); err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the sink answered %s", resp.Status)
	}
	return nil
}

// bareRole is a server that forwards each request's body, signed, and answers
// when the sink has.
func bareRole(c *control) error {
	var setup BareSetup
	if err := c.read(&setup); err != nil {
		return err
	}
	s, err := newSender(setup.Sink, setup.Topics)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := c.write(started{Addr: l.Addr().String()}); err != nil {
		return err
	}
	go http.Serve(l, http.HandlerFunc(s.forward))
	return untilClosed(c)
}

func (s *sender) forward(w http.ResponseWriter, r *http.Request) {
	topic, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil || topic >= len(s.urls) {
		http.NotFound(w, r)
		return
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.send(r.Context(), topic, body); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, `{"id":"evt_000000000000000000000000"}`)
}

// loopRole is a client that posts in a loop on so many connections.
func loopRole(c *control) error {
	var setup BareSetup
	if err := c.read(&setup); err != nil {
		return err
	}
	s, err := newSender(setup.Sink, setup.Topics)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range setup.Conns {
		wg.Go(func() { s.loop(ctx, setup.Size) })
	}
	if err := c.write(started{}); err != nil {
		return err
	}
	return untilClosed(c)
}

func (s *sender) loop(ctx context.Context, size int) {
	body, random := newData(size), padding()
	spots := spotsOf(body, size)
	for n := int64(0); ctx.Err() == nil; n++ {
		spots.fill(time.Now(), n, random)
		if err := s.send(ctx, int(n)%len(s.urls), body); err != nil {
			time.Sleep(time.Millisecond)
		}
	}
}

func untilClosed(c *control) error {
	var nothing any
	for c.read(&nothing) == nil {
	}
	return nil
}

// Bare is a running bare program.
type Bare struct {
	Addr string
	*child
}

// StartBareServer starts the bare publisher → server → sink program.
func StartBareServer(setup BareSetup) (*Bare, error) { return startBare("bare", setup) }

// StartClientLoop starts the bare client loop; it posts at once.
func StartClientLoop(setup BareSetup) (*Bare, error) { return startBare("loop", setup) }

func startBare(role string, setup BareSetup) (*Bare, error) {
	c, err := startChild(role)
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
