package post

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"

	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/webpush"
)

// Message is one push message: what it says and to whom, and what goes with it.
type Message struct {
	To        []byte // a [webpush.Subscription] in its JSON form
	Plaintext []byte // at most [webpush.MaxPlaintext]
	Padding   int    // see [webpush.Sealer.Seal]

	TTL           int64  // seconds
	Authorization string // the sender's word, see [webpush.Signer]
	Topic         string // of RFC 8030, section 5.4; empty for none
	Urgency       string // empty for normal
	UserAgent     string
}

// Doer sends requests; [egress.Client] is one.
type Doer interface {
	// Do answers within ctx, with at most snippetMax bytes of the body.
	Do(ctx context.Context, req *http.Request, snippetMax int) (egress.Response, error)
}

// snippetMax is how much of an answer is read: it holds a word or two for what is wrong.
const snippetMax = 4 << 10

// Here posts from this process. It is safe for concurrent use.
type Here struct {
	client Doer
	sealer *webpush.Sealer
	turns  *turns // nil for who has the processors for itself
	busy   atomic.Int64
}

// NewHere makes one that holds up to keys one-shot keys ahead, if its Run runs.
func NewHere(client Doer, keys int) *Here {
	return &Here{client: client, sealer: webpush.NewSealer(keys), turns: newTurns()}
}

// Run makes one-shot keys ahead while there is nothing to post, until ctx ends.
func (h *Here) Run(ctx context.Context) error { return h.sealer.Run(ctx) }

// Post is as [Apart.Post].
func (h *Here) Post(ctx context.Context, m *Message) (egress.Response, error) {
	h.busy.Add(1)
	defer h.busy.Add(-1)
	to, err := webpush.ParseSubscription(m.To)
	if err != nil {
		return egress.Response{}, err
	}
	u, err := url.Parse(to.Endpoint)
	if err != nil {
		return egress.Response{}, &webpush.Error{Reason: webpush.MalformedEndpoint, Field: "endpoint", Detail: "is not a URL"}
	}
	body, err := h.seal(ctx, &to, m)
	if err != nil {
		return egress.Response{}, err
	}
	res, err := h.client.Do(ctx, request(ctx, u, m, body), snippetMax)
	res.Header = told(res.Header)
	return res, err
}

// told is what outcomes are made of, of an answer's header: the rest need not travel.
func told(all http.Header) http.Header {
	h := make(http.Header, 2)
	for _, name := range [...]string{"Location", "Retry-After"} {
		if v := all[name]; v != nil {
			h[name] = v
		}
	}
	return h
}

func (h *Here) seal(ctx context.Context, to *webpush.Subscription, m *Message) (body []byte, err error) {
	work := func() { body, err = h.sealer.Seal(nil, to, m.Plaintext, m.Padding) }
	if h.turns == nil && ctx.Err() == nil {
		work()
		Yield()
	} else if h.turns == nil || !h.turns.do(ctx, work) {
		return nil, noTime()
	}
	return body, err
}

func noTime() error {
	return &egress.Error{Fault: egress.FaultCanceled, Msg: "there was no time to send it"}
}

// request is the one of RFC 8030, section 5.
func request(ctx context.Context, u *url.URL, m *Message, body []byte) *http.Request {
	req := &http.Request{Method: http.MethodPost, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Authorization": {m.Authorization}, "Content-Encoding": {webpush.AES128GCM}, "Content-Type": {"application/octet-stream"},
			"Ttl": {strconv.FormatInt(m.TTL, 10)}, "User-Agent": {m.UserAgent}},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }}
	if m.Topic != "" {
		req.Header["Topic"] = []string{m.Topic}
	}
	if m.Urgency != "" {
		req.Header["Urgency"] = []string{m.Urgency}
	}
	return req.WithContext(ctx)
}
