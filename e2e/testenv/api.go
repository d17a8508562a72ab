package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// API speaks to a server. The zero Key sends no credential.
type API struct {
	Base string
	Key  string
	// Tenant acts for another tenant (header Hark-Tenant).
	Tenant string
	Client *http.Client
}

// API returns a client with the server's admin key.
func (s *Server) API() API { return API{Base: s.URL, Key: s.Key, Client: NewClient()} }

// NewClient returns a client with connections of its own.
func NewClient() *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 256, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Raw is a body that is sent as it is; any other is marshalled to JSON.
type Raw struct {
	Type string
	Body []byte
}

// Answer is a response, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// String is for failures: "409 {…}".
func (a Answer) String() string {
	return fmt.Sprintf("%d %s", a.Status, bytes.TrimSpace(a.Body[:min(len(a.Body), 2000)]))
}

// OK reports whether the status is 2xx.
func (a Answer) OK() bool { return a.Status/100 == 2 }

// Problem is an application/problem+json body.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Errors []struct {
		Field string `json:"field"`
		Msg   string `json:"msg"`
	} `json:"errors"`
}

// Problem reads the body, or says why it is none.
func (a Answer) Problem() (Problem, error) {
	var p Problem
	if t := a.Header.Get("Content-Type"); t != "application/problem+json" {
		return p, fmt.Errorf("Content-Type is %q, want application/problem+json", t)
	}
	if err := json.Unmarshal(a.Body, &p); err != nil {
		return p, err
	}
	if p.Status != a.Status || p.Type == "" || p.Title == "" || p.Detail == "" {
		return p, fmt.Errorf("type, title, status or detail are missing or do not fit the status")
	}
	return p, nil
}

// Do sends one request; headers are name, value pairs. The error is the
// transport's: any answer is an answer.
func (a API) Do(ctx context.Context, method, path string, body any, headers ...string) (Answer, error) {
	var send io.Reader
	contentType := ""
	switch b := body.(type) {
	case nil:
	case Raw:
		send, contentType = bytes.NewReader(b.Body), b.Type
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return Answer{}, err
		}
		send, contentType = bytes.NewReader(text), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, method, a.Base+path, send)
	if err != nil {
		return Answer{}, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if a.Key != "" {
		req.Header.Set("Authorization", "Bearer "+a.Key)
	}
	if a.Tenant != "" {
		req.Header.Set("Hark-Tenant", a.Tenant)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	client := a.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return Answer{resp.StatusCode, resp.Header, text}, err
}

// Call is [API.Do] for requests that must succeed; out may be nil.
func (a API) Call(ctx context.Context, method, path string, in, out any) error {
	answer, err := a.Do(ctx, method, path, in)
	if err != nil {
		return err
	}
	if !answer.OK() {
		return fmt.Errorf("%s %s: %s", method, path, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Body, out); err != nil {
		return fmt.Errorf("%s %s: %w in %s", method, path, err, answer)
	}
	return nil
}

// Destination is what the tests send and read of one.
type Destination struct {
	ID          string          `json:"id,omitempty"`
	UID         string          `json:"uid,omitempty"`
	Kind        string          `json:"kind"`
	Topics      []string        `json:"topics"`
	Settings    map[string]any  `json:"settings"`
	Ordered     bool            `json:"ordered,omitempty"`
	Retry       map[string]any  `json:"retry,omitempty"`
	Concurrency int             `json:"concurrency,omitempty"`
	RateLimit   float64         `json:"rate_limit,omitempty"`
	Start       string          `json:"start,omitempty"`
	State       string          `json:"state,omitempty"`
	Secret      string          `json:"secret,omitempty"`
	Status      json.RawMessage `json:"status,omitempty"`
}

// Webhook describes a destination that posts to url.
func Webhook(url string, topics ...string) Destination {
	return Destination{Kind: "webhook", Topics: topics, Settings: map[string]any{"url": url}}
}

// AddDestination creates one.
func (a API) AddDestination(ctx context.Context, d Destination) (Destination, error) {
	var made Destination
	err := a.Call(ctx, "POST", "/v1/destinations", d, &made)
	if err == nil && made.ID == "" {
		err = fmt.Errorf("POST /v1/destinations answered no id")
	}
	return made, err
}

// Event is what the tests publish.
type Event struct {
	Topic       string            `json:"topic"`
	Data        any               `json:"data,omitempty"`
	DataBase64  string            `json:"data_base64,omitempty"`
	Key         string            `json:"key,omitempty"`
	ContentType string            `json:"content_type,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
}

// Published is the answer to a publish: ID for one, IDs for a batch.
type Published struct {
	ID        string   `json:"id"`
	IDs       []string `json:"ids"`
	Duplicate bool     `json:"duplicate"`
}

// All returns the ids of either form.
func (p Published) All() []string {
	if p.ID != "" {
		return []string{p.ID}
	}
	return p.IDs
}

// Publish publishes one event, or a batch if given a slice.
func (a API) Publish(ctx context.Context, event any) (Published, error) {
	var p Published
	err := a.Call(ctx, "POST", "/v1/events", event, &p)
	return p, err
}
