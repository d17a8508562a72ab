package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Transport is one way to follow.
type Transport string

// The transports.
const (
	SSE       Transport = "sse"
	NDJSON    Transport = "ndjson"
	Poll      Transport = "poll"
	LongPoll  Transport = "longpoll"
	WebSocket Transport = "websocket"
)

// All are the transports, in a fixed order.
var All = []Transport{SSE, NDJSON, LongPoll, WebSocket, Poll}

// Streams are the transports that hold one connection open.
var Streams = []Transport{SSE, NDJSON, WebSocket}

// Streams reports whether one connection stays open.
func (t Transport) Streams() bool { return t == SSE || t == NDJSON || t == WebSocket }

// Always picks one transport for every connection.
func Always(t Transport) func() Transport { return func() Transport { return t } }

// AtRandom picks one of several for each connection.
func AtRandom(random *rand.Rand, of ...Transport) func() Transport {
	return func() Transport { return of[random.IntN(len(of))] }
}

// Target is a server, and who is asking.
type Target struct {
	URL   string
	Token string
	// Dial makes the connections; nil for plain TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TokenBy says how the token travels: "header" (default), "query", "cookie";
	// for WebSocket also "subprotocol" and "frame".
	TokenBy string
}

// Start says what to follow, and from where.
type Start struct {
	Topics []string
	After  string
	From   string
	Last   int
	// Limit is of the pages of poll and long poll; 0 leaves it to the server.
	Limit int
	// Wait bounds a long poll; 0 is 20 s.
	Wait time.Duration
	// Pause lies between polls; 0 is 50 ms.
	Pause time.Duration
	// Rounds ends a connection of poll or long poll after so many answers; 0 goes on.
	Rounds int
	// Extra is added to the query.
	Extra url.Values
}

// Event is an event as it arrived.
type Event struct {
	ID    string
	Topic string
	// Token is the "token" in the data, which names what was published.
	Token string
}

// Gap is a gap as it was told.
type Gap struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason"`
}

// End is a polite end.
type End struct {
	Reason      string `json:"reason"`
	ReconnectMS int    `json:"reconnect_ms"`
}

// Note is one thing that a connection told. Exactly one of Opened, Event, Gap,
// Cursor, End and Alive is set.
type Note struct {
	// Opened is the head of the answer; Start cursor and gap are told after it.
	Opened http.Header
	Event  *Event
	Gap    *Gap
	Cursor string
	End    *End
	Alive  bool
	// Retry comes with a cursor or an end of SSE.
	Retry time.Duration
}

// Refused is an answer that is not the transport's.
type Refused struct {
	Status int
	Header http.Header
	Body   string
}

func (r *Refused) Error() string { return fmt.Sprintf("refused: %d %s", r.Status, r.Body) }

// Code is that of the problem, or "".
func (r *Refused) Code() string {
	var p struct {
		Code string `json:"code"`
	}
	json.Unmarshal([]byte(r.Body), &p)
	return p.Code
}

// Broken is a breach of the contract by the server.
type Broken struct{ What string }

func (b *Broken) Error() string { return "breach: " + b.What }

func broken(format string, args ...any) error { return &Broken{fmt.Sprintf(format, args...)} }

// Closed is the end of a WebSocket.
type Closed struct {
	Code   int
	Reason string
}

func (c *Closed) Error() string { return fmt.Sprintf("closed: %d %q", c.Code, c.Reason) }

// Follow carries one connection: it tells what it learns until the connection
// ends, tell returns an error, or ctx is over. Polls and long polls go on as
// long as they are answered. The error says why it ended; io.EOF is a clean end.
func Follow(ctx context.Context, to Target, by Transport, start Start, tell func(Note) error) error {
	f := &follower{Target: to, Start: start, by: by, tell: tell}
	transport := &http.Transport{DialContext: to.Dial, DisableCompression: true, MaxIdleConnsPerHost: 1}
	if transport.DialContext == nil {
		transport.DialContext = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	defer transport.CloseIdleConnections()
	f.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	switch by {
	case SSE:
		return f.sse(ctx)
	case NDJSON:
		return f.ndjson(ctx)
	case Poll, LongPoll:
		return f.poll(ctx)
	case WebSocket:
		return f.websocket(ctx)
	}
	return errors.New("no such transport: " + string(by))
}

// follower is one connection.
type follower struct {
	Target
	Start
	by     Transport
	client *http.Client
	tell   func(Note) error
}

// query is what all transports by URL share.
func (f *follower) query() url.Values {
	q := url.Values{"topic": f.Topics}
	for name, value := range map[string]string{"after": f.After, "from": f.From} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Last > 0 {
		q.Set("last", strconv.Itoa(f.Last))
	}
	for name, values := range f.Extra {
		q[name] = values
	}
	return q
}

// request makes a GET with the credential.
func (f *follower) request(ctx context.Context, path string, q url.Values) (*http.Request, error) {
	if f.Token != "" && f.TokenBy == "query" {
		q.Set("token", f.Token)
	}
	req, err := http.NewRequestWithContext(ctx, "GET", f.URL+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	f.identify(req.Header)
	return req, nil
}

func (f *follower) identify(h http.Header) {
	switch {
	case f.Token == "":
	case f.TokenBy == "" || f.TokenBy == "header":
		h.Set("Authorization", "Bearer "+f.Token)
	case f.TokenBy == "cookie":
		h.Set("Cookie", "hark_token="+f.Token)
	}
}

// refusal reads an answer that is not the transport's.
func refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return &Refused{resp.StatusCode, resp.Header, strings.TrimSpace(string(text))}
}

// event reads the JSON of an event.
func event(text []byte) (*Event, error) {
	var e struct {
		ID    string          `json:"id"`
		Topic string          `json:"topic"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &e); err != nil || e.ID == "" || e.Topic == "" {
		return nil, broken("an event is %.200q: %v", text, err)
	}
	var data struct {
		Token string `json:"token"`
	}
	json.Unmarshal(e.Data, &data) // other tests publish what they like
	return &Event{e.ID, e.Topic, data.Token}, nil
}

// headGap reads the header Hark-Gap: from, to and reason.
func headGap(h http.Header) (*Gap, error) {
	text := h.Get("Hark-Gap")
	if text == "" {
		return nil, nil
	}
	parts := strings.Fields(text)
	if len(parts) != 3 {
		return nil, broken("Hark-Gap is %q", text)
	}
	return &Gap{parts[0], parts[1], parts[2]}, nil
}

// sameGap checks that a gap at the start is told in the header and in the body.
func sameGap(header, body *Gap) error {
	switch {
	case header == nil && body == nil:
		return nil
	case header == nil:
		return broken("the gap %+v is not told in the header", *body)
	case body == nil:
		return broken("the gap %+v of the header is not told in the body", *header)
	case *header != *body:
		return broken("the header tells the gap %+v, the body %+v", *header, *body)
	}
	return nil
}
