package client

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// Bin is a request bin as the server shows it: a URL that takes anything and shows it.
type Bin struct {
	ID   hark.SourceID `json:"id"`
	UID  string        `json:"uid,omitempty"`
	Name string        `json:"name,omitempty"`
	// URL is where senders send. Page is where people look; whoever has it can see this
	// bin, and nothing else.
	URL  string `json:"url"`
	Page string `json:"page"`

	Scheme string `json:"scheme"`
	// Verifying tells that it has a secret to verify with.
	Verifying bool                 `json:"verifying"`
	Response  *hark.SourceResponse `json:"response,omitempty"`
	TTL       hark.Duration        `json:"ttl"`
	// Expires is when it and all it holds go; each request moves it.
	Expires     time.Time `json:"expires"`
	MaxRequests int       `json:"max_requests"`
	MaxBytes    int64     `json:"max_bytes"`
	// Requests and Bytes are what it holds, Newest the newest of them.
	Requests uint64           `json:"requests"`
	Bytes    uint64           `json:"bytes"`
	Newest   hark.CaptureID   `json:"newest,omitempty"`
	State    hark.SourceState `json:"state"`
	Created  time.Time        `json:"created"`
	Updated  time.Time        `json:"updated"`
	Revision uint64           `json:"revision"`
	// Secret is what it verifies with; only the answer to its creation has it.
	Secret hark.Secret `json:"secret,omitempty"`
}

// BinSpec is what an owner says about a bin. All of it is optional.
type BinSpec struct {
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
	// Scheme and Secret verify, and what fails is kept all the same.
	Scheme   string      `json:"scheme,omitempty"`
	Settings any         `json:"settings,omitempty"`
	Secret   hark.Secret `json:"secret,omitempty"`
	// Response is what senders are answered; nil for 200 at once.
	Response *hark.SourceResponse `json:"response,omitempty"`
	// TTL is how long it lives after the last request.
	TTL         hark.Duration `json:"ttl,omitzero"`
	MaxRequests int           `json:"max_requests,omitempty"`
	MaxBytes    int64         `json:"max_bytes,omitempty"`
	CORSOrigins []string      `json:"cors_origins,omitempty"`
}

func binPath(id hark.SourceID, parts ...string) string {
	return "/v1/bins/" + strings.Join(append([]string{id.String()}, parts...), "/")
}

// CreateBin makes a bin.
func (c *Client) CreateBin(ctx context.Context, spec BinSpec) (*Bin, error) {
	return c.bin(ctx, call{method: "POST", path: "/v1/bins", body: spec})
}

// Bin returns one.
func (c *Client) Bin(ctx context.Context, id hark.SourceID) (*Bin, error) {
	return c.bin(ctx, call{method: "GET", path: binPath(id), safe: true})
}

// UpdateBin changes the given fields.
func (c *Client) UpdateBin(ctx context.Context, id hark.SourceID, patch Patch) (*Bin, error) {
	return c.bin(ctx, call{method: "PATCH", path: binPath(id), body: patch, safe: true})
}

// DeleteBin removes one and all it holds.
func (c *Client) DeleteBin(ctx context.Context, id hark.SourceID) error {
	return c.do(ctx, call{method: "DELETE", path: binPath(id)}, nil)
}

func (c *Client) bin(ctx context.Context, k call) (*Bin, error) {
	var b Bin
	if err := c.do(ctx, k, &b); err != nil {
		return nil, err
	}
	return &b, nil
}

// Bins lists bins, oldest first; uid chooses, "" for all. The first error ends it.
func (c *Client) Bins(ctx context.Context, uid string) iter.Seq2[*Bin, error] {
	return pages[*Bin](ctx, c, "/v1/bins", "bins", values("uid", uid), 0)
}

// BinQuery chooses requests of a bin. Search is in the server's language, such as
// "method:POST header:x-github-event:push reason:rejected"; empty for all.
type BinQuery struct {
	Search string
	// PageSize is how many one request asks for; 0 leaves it to the server.
	PageSize int
}

// BinRequests lists what a bin holds, newest first, without bodies. The first error ends it.
func (c *Client) BinRequests(ctx context.Context, id hark.SourceID, q BinQuery) iter.Seq2[*hark.Capture, error] {
	return func(yield func(*hark.Capture, error) bool) {
		query := values("q", q.Search)
		if q.PageSize > 0 {
			query.Set("limit", strconv.Itoa(q.PageSize))
		}
		for {
			p, err := c.requests(ctx, id, query)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, r := range p.Requests {
				if !yield(r, nil) {
					return
				}
			}
			if p.Next == 0 {
				return
			}
			query.Set("before", p.Next.String())
		}
	}
}

type requestPage struct {
	Requests []*hark.Capture `json:"requests"`
	Next     hark.CaptureID  `json:"next"`
	More     bool            `json:"more"`
	Gap      bool            `json:"gap"`
}

func (c *Client) requests(ctx context.Context, id hark.SourceID, query url.Values) (*requestPage, error) {
	var p requestPage
	if err := c.do(ctx, call{method: "GET", path: binPath(id, "requests"), query: query, safe: true}, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

// BinRequest returns one request with its body.
func (c *Client) BinRequest(ctx context.Context, id hark.SourceID, request hark.CaptureID) (*hark.Capture, error) {
	var r hark.Capture
	if err := c.do(ctx, call{method: "GET", path: binPath(id, "requests", request.String()), safe: true}, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// ClearBin deletes all requests of a bin.
func (c *Client) ClearBin(ctx context.Context, id hark.SourceID) error {
	return c.do(ctx, call{method: "DELETE", path: binPath(id, "requests")}, nil)
}

// maxBinWait is the longest that one request waits.
const maxBinWait = time.Minute

// WaitForRequest returns the first request after a position that matches a search, as
// soon as there is one; nil when the time is over. After is 0 for the oldest there is.
// Next is the position to wait from the next time.
func (c *Client) WaitForRequest(ctx context.Context, id hark.SourceID, search string, after hark.CaptureID, timeout time.Duration) (r *hark.Capture, next hark.CaptureID, err error) {
	next = after
	for end := time.Now().Add(timeout); ; {
		wait := min(maxBinWait, max(0, time.Until(end)))
		var answer struct {
			Request *hark.Capture  `json:"request"`
			Next    hark.CaptureID `json:"next"`
		}
		query := values("q", search, "after", next.String(), "timeout", wait.String())
		if err := c.do(ctx, call{method: "GET", path: binPath(id, "wait"), query: query, wait: wait, safe: true}, &answer); err != nil {
			return nil, next, err
		}
		next = max(next, answer.Next)
		if answer.Request != nil || !time.Now().Before(end) {
			return answer.Request, next, nil
		}
	}
}

// ErrBinGap says that a bin let go of requests before they were read.
var ErrBinGap = errors.New("the bin let go of requests before they were read")

// WatchBin yields every request after a position that matches, with its body, as it comes,
// until ctx ends. A connection that breaks is made again where it was. [ErrBinGap] is
// yielded between requests and ends nothing; any other error ends it.
func (c *Client) WatchBin(ctx context.Context, id hark.SourceID, search string, after hark.CaptureID) iter.Seq2[*hark.Capture, error] {
	return func(yield func(*hark.Capture, error) bool) {
		for {
			query := values("q", search, "bodies", "true")
			query.Set("after", after.String())
			p, err := c.requests(ctx, id, query)
			if err != nil {
				yield(nil, err)
				return
			}
			if p.Gap && after != 0 && !yield(nil, ErrBinGap) {
				return
			}
			for _, r := range p.Requests {
				if !yield(r, nil) {
					return
				}
			}
			after = max(after, p.Next)
			if p.More {
				continue
			}
			r, next, err := c.WaitForRequest(ctx, id, search, after, maxBinWait)
			if err != nil {
				yield(nil, err)
				return
			}
			if r != nil && !yield(r, nil) {
				return
			}
			after = next
		}
	}
}

// ReplayRequest says where a captured request goes again. One of URL, Source and
// Destination is needed.
type ReplayRequest struct {
	URL         string             `json:"url,omitempty"`
	Source      hark.SourceID      `json:"source,omitempty"`
	Destination hark.DestinationID `json:"destination,omitempty"`
	Edit        *ReplayEdit        `json:"edit,omitempty"`
	// Resign signs anew: as the source does, or with Scheme and Secret.
	Resign bool        `json:"resign,omitempty"`
	Scheme string      `json:"scheme,omitempty"`
	Secret hark.Secret `json:"secret,omitempty"`
}

// ReplayEdit is what is changed before a request is sent again.
type ReplayEdit struct {
	Method *string `json:"method,omitempty"`
	Path   *string `json:"path,omitempty"`
	// Headers are set, or removed where the value is nil.
	Headers map[string]*string `json:"headers,omitempty"`
	// Body takes the place of the body; nil leaves it.
	Body []byte `json:"body_base64,omitempty"`
}

// ReplayedRequest is what came of it.
type ReplayedRequest struct {
	ReplayOf   hark.CaptureID     `json:"replay_of"`
	To         string             `json:"to"`
	Status     int                `json:"status,omitempty"`
	Header     []hark.HeaderField `json:"header,omitempty"`
	Body       string             `json:"body,omitempty"`
	BodyBase64 []byte             `json:"body_base64,omitempty"`
	DurationMS float64            `json:"duration_ms"`
	Error      string             `json:"error,omitempty"`
	Event      hark.EventID       `json:"event,omitzero"`
	Capture    hark.CaptureID     `json:"capture,omitempty"`
}

// ReplayBinRequest sends a captured request again. The error is about the asking;
// whether there was an answer is in the result.
func (c *Client) ReplayBinRequest(ctx context.Context, id hark.SourceID, request hark.CaptureID, to ReplayRequest) (*ReplayedRequest, error) {
	var r ReplayedRequest
	k := call{method: "POST", path: binPath(id, "requests", request.String(), "replay"), body: to, wait: 30 * time.Second}
	if err := c.do(ctx, k, &r); err != nil {
		return nil, err
	}
	return &r, nil
}
