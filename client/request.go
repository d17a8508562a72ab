package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/harkhq/hark"
)

// maxAnswer bounds what one answer may take in memory.
const maxAnswer = 256 << 20

// call is one request, which may be tried several times.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	// body is JSON-encoded unless it is []byte; nil for none.
	body        any
	contentType string
	// safe calls may be repeated though an earlier try may have had its effect.
	safe bool
	// once calls are not repeated here: the caller does it.
	once bool
	// wait is how long the server was asked to hold its answer.
	wait time.Duration
}

// do makes the call and decodes the answer into v, if v is not nil.
func (c *Client) do(ctx context.Context, k call, v any) error {
	resp, cancel, err := c.send(ctx, k)
	if err != nil {
		return err
	}
	defer cancel()
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return c.failed(ctx, err)
	}
	if len(text) > maxAnswer {
		return fmt.Errorf("the answer to %s %s has more than %d bytes: ask for fewer at once", k.method, k.path, maxAnswer)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("the answer to %s %s is not what a hark server says: %w", k.method, k.path, err)
	}
	return nil
}

// send makes the call until it succeeds or a repetition is of no use. The caller
// closes the body, then calls cancel.
func (c *Client) send(ctx context.Context, k call) (*http.Response, context.CancelFunc, error) {
	body, err := k.encode()
	if err != nil {
		return nil, nil, err
	}
	for try := 0; ; try++ {
		resp, cancel, err := c.once(ctx, k, body)
		if err == nil {
			return resp, cancel, nil
		}
		if k.once || try >= c.options.Retries || ctx.Err() != nil || !k.repeatable(err) {
			return nil, nil, err
		}
		wait := pause(try, err)
		if wait > c.options.MaxWait {
			return nil, nil, err
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
			return nil, nil, err
		}
		if !sleep(ctx, wait) {
			return nil, nil, err
		}
	}
}

func (k *call) encode() ([]byte, error) {
	if b, ok := k.body.([]byte); ok || k.body == nil {
		return b, nil
	}
	k.contentType = "application/json"
	return json.Marshal(k.body)
}

// once tries once. Only a 2xx is no error.
func (c *Client) once(ctx context.Context, k call, body []byte) (*http.Response, context.CancelFunc, error) {
	u := c.base.JoinPath(k.path)
	u.RawQuery = k.query.Encode()
	try, cancel := context.WithTimeout(ctx, c.options.Timeout+k.wait)
	r, err := http.NewRequestWithContext(try, k.method, u.String(), bytes.NewReader(body))
	if err != nil {
		cancel()
		return nil, nil, err
	}
	c.setHeader(r.Header, k)
	resp, err := c.http.Do(r)
	if err != nil {
		cancel()
		return nil, nil, c.failed(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, cancel, nil
	}
	defer cancel()
	defer resp.Body.Close()
	return nil, nil, readProblem(r, resp)
}

func (c *Client) setHeader(h http.Header, k call) {
	maps.Copy(h, k.header)
	if h.Get("Accept") == "" {
		h.Set("Accept", "application/json")
	}
	h.Set("User-Agent", c.options.UserAgent)
	if k.contentType != "" {
		h.Set("Content-Type", k.contentType)
	}
	if c.key != "" && h.Get("Authorization") == "" {
		h.Set("Authorization", "Bearer "+c.key)
	}
	if c.options.Tenant != "" {
		h.Set("Hark-Tenant", c.options.Tenant)
	}
}

// failed wraps an error of the connection. The caller's own cancellation stays as it is.
func (c *Client) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &UnreachableError{URL: c.URL(), Err: err}
}

// repeatable reports whether another try can help and can do no harm.
func (k *call) repeatable(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		switch e.Status {
		case http.StatusTooManyRequests:
			return true // refused before anything was done
		case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
			return k.safe
		}
		return false
	}
	if k.safe {
		_, ok := errors.AsType[*UnreachableError](err)
		return ok
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" // never sent
}

// pause is what the server asks for, else it doubles from 100 ms to 10 s; jitter keeps
// many clients from coming back at the same moment.
func pause(try int, err error) time.Duration {
	if e, ok := errors.AsType[*hark.Error](err); ok && e.RetryAfter > 0 {
		return e.RetryAfter + rand.N(e.RetryAfter/10+1)
	}
	d := min(100*time.Millisecond<<min(try, 10), 10*time.Second)
	return d/2 + rand.N(d)
}

// maxReturn is the longest a server may ask a loop that never ends to stay away.
const maxReturn = 10 * time.Minute

// again is pause for a loop that never ends: one wrong Retry-After, of a proxy or of a
// clock, must not end it.
func again(try int, err error) time.Duration { return min(pause(try, err), maxReturn) }

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
