package testenv

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Hit is one request that a [Receiver] got.
type Hit struct {
	Path   string
	ID     string // webhook-id
	Topic  string // hark-topic
	Header http.Header
	Body   []byte
	// Era is the receiver's when the connection was accepted: which start of the
	// server sent it.
	Era   int
	Begin time.Time
	// End is when the answer was given; zero while the request is under way.
	End    time.Time
	Status int
	// Note is for Answer to keep what it found out.
	Note string
}

// OK reports whether the hit was answered 2xx.
func (h *Hit) OK() bool { return h.Status/100 == 2 }

// Receiver is a webhook endpoint that remembers every request.
type Receiver struct {
	URL string
	// Answer decides on a request; it may take its time. Nil answers 204 at once.
	Answer func(*Hit) int
	// Slim forgets headers and bodies after the answer: for hundreds of thousands of hits.
	Slim bool

	server *http.Server

	mu   sync.Mutex // guards below
	hits []*Hit
	era  int
	open int           // connections
	news chan struct{} // closed and replaced at every hit
}

type eraKey struct{}

// NewReceiver listens on a free loopback port.
func NewReceiver(answer func(*Hit) int) (*Receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Receiver{URL: "http://" + l.Addr().String(), Answer: answer, news: make(chan struct{})}
	r.server = &http.Server{
		Handler: r,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, eraKey{}, r.Era())
		},
		ConnState: r.track,
	}
	go r.server.Serve(l)
	return r, nil
}

// Close ends it and every connection.
func (r *Receiver) Close() { r.server.Close() }

// Era is how many starts of the server came before.
func (r *Receiver) Era() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.era
}

// NextEra begins the next, when all of the last server's requests are over; call it while no server
// runs. Connections are accepted in the order in which they were made: after one of its own, none of
// that server is left to accept.
func (r *Receiver) NextEra() error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	res, err := client.Head(r.URL)
	if err != nil {
		return err
	}
	res.Body.Close()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		open := r.open
		if open == 0 {
			r.era++
		}
		r.mu.Unlock()
		if open == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d connections of a server that ended are open", open)
		}
	}
}

// track counts connections.
func (r *Receiver) track(_ net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch state {
	case http.StateNew:
		r.open++
	case http.StateClosed, http.StateHijacked:
		r.open--
	}
}

func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodHead {
		return // NextEra
	}
	h := &Hit{Path: req.URL.Path, ID: req.Header.Get("Webhook-Id"), Topic: req.Header.Get("Hark-Topic"),
		Header: req.Header, Era: req.Context().Value(eraKey{}).(int), Begin: time.Now()}
	var err error
	if h.Body, err = io.ReadAll(req.Body); err != nil {
		return // whoever sent it died in its midst: it is no delivery
	}
	r.mu.Lock()
	r.hits = append(r.hits, h)
	r.mu.Unlock()
	status := http.StatusNoContent
	if r.Answer != nil {
		status = r.Answer(h)
	}
	r.mu.Lock()
	h.Status, h.End = status, time.Now()
	if r.Slim {
		h.Header, h.Body = nil, nil
	}
	close(r.news)
	r.news = make(chan struct{})
	r.mu.Unlock()
	w.WriteHeader(status)
}

// Hits returns copies of all hits so far, by path if one is given, in the order
// in which they began.
func (r *Receiver) Hits(paths ...string) []Hit {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Hit
	for _, h := range r.hits {
		if len(paths) == 0 || slices.Contains(paths, h.Path) {
			out = append(out, *h)
		}
	}
	return out
}

// Wait returns the hits of a path once there are n that were answered 2xx.
func (r *Receiver) Wait(ctx context.Context, path string, n int) ([]Hit, error) {
	for {
		r.mu.Lock()
		news := r.news
		r.mu.Unlock()
		hits := r.Hits(path)
		done := 0
		for i := range hits {
			if hits[i].OK() {
				done++
			}
		}
		if done >= n {
			return hits, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return hits, fmt.Errorf("%s got %d of %d deliveries (%d requests) before the time was up", path, done, n, len(hits))
		}
	}
}
