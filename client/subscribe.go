package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/harkhq/hark"
)

// SubscribeOptions say where a subscription begins and how it connects. The zero value
// begins at now. At most one of After, Earliest, From, FromEvent and Last may be set.
type SubscribeOptions struct {
	// After is a position to go on after, such as what Position was in an earlier run.
	After hark.Cursor
	// Earliest begins with the oldest event there is.
	Earliest bool
	// From begins with the first event received at this time or later.
	From time.Time
	// FromEvent begins with this event.
	FromEvent hark.EventID
	// Last begins with the newest events that match, so many of them, 1 to 1000.
	Last int

	// Position, if it is not nil, is kept at the position reached: give it as After
	// to go on in another run. It moves past events that did not match, too.
	Position *hark.Cursor
	// Token is asked for the token to connect with, instead of the client's key: at
	// first, and again when the server says that the last one has expired or is refused.
	Token func(context.Context) (string, error)
	// OnState is told when the connection is made and when it is lost. It must not block.
	OnState func(SubscribeState)
	// LongPoll never tries a stream, for networks that are known to hold streams back.
	LongPoll bool
}

// SubscribeState is what the connection of a subscription is doing.
type SubscribeState struct {
	// Transport is "stream" or "longpoll".
	Transport string
	// Connected tells that what is published from now on arrives at once.
	Connected bool
	// Err is why there is no connection; Retry is how long until the next try.
	Err   error
	Retry time.Duration
}

// EndError is how a server ends a stream politely: the subscription comes back in a while.
type EndError struct {
	// Reason is stopping, expired, revoked, lifetime, overloaded or slow.
	Reason string `json:"reason"`
	// ReconnectMS is how many milliseconds the server asks to wait.
	ReconnectMS int64 `json:"reconnect_ms"`
}

// Error tells the reason.
func (e *EndError) Error() string { return "the server ended the stream: " + e.Reason }

// ErrSilent is why a connection was given up: the server sends something at least every
// 20 seconds, and nothing came for much longer.
var ErrSilent = errors.New("client: nothing came for too long, not even a keep-alive")

const (
	openWithin  = 10 * time.Second // for a stream to begin: its first line comes at once
	silentAfter = 45 * time.Second // two keep-alives are missing
	steadyAfter = 3 * time.Second  // a stream that lived so long was no failure
	streamAgain = 5 * time.Minute  // between tries whether streams get through by now
	longPollFor = 25 * time.Second // one long poll
	maxLine     = 64 << 20         // an event of 8 MiB, the most a server can be told to take, each byte of it escaped
	blockedAt   = 2                // streams in a row that did not begin
)

// Subscribe yields each event that matches one of topics, as it is published, until ctx
// ends; none means every topic that the credential reaches. The connection is kept up:
// when it is cut, falls silent or the server restarts, another one goes on after the last
// event, with nothing lost and nothing twice. Where streams do not get through, it polls.
//
//	for e, err := range c.Subscribe(ctx, []hark.Pattern{"orders.>"}, client.SubscribeOptions{}) {
//		if gap, ok := errors.AsType[*client.GapError](err); ok { … load what is missing; continue }
//		if err != nil { return err }
//		…
//	}
//
// Events that were removed before they could be sent are told as a [*GapError], after
// which it goes on. Any other error is the last: the server refuses the credential, the
// topics or the position. Nothing is yielded when ctx ends.
func (c *Client) Subscribe(ctx context.Context, topics []hark.Pattern, o SubscribeOptions) iter.Seq2[hark.Event, error] {
	return func(yield func(hark.Event, error) bool) {
		s := &subscription{c: c, o: o, yield: yield, where: EventQuery{Topics: topics, After: o.After, Earliest: o.Earliest,
			From: o.From, FromEvent: o.FromEvent, Last: o.Last, PageSize: hark.MaxPageSize, Wait: longPollFor}}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if err := s.run(ctx); err != nil && !errors.Is(err, errUnsubscribed) && ctx.Err() == nil {
			yield(hark.Event{}, err)
		}
	}
}

// errUnsubscribed: the loop over the events was left.
var errUnsubscribed = errors.New("client: unsubscribed")

// blockedError is why a stream did not begin though the server may be well: something
// between holds it back.
type blockedError struct{ error }

func (b *blockedError) Unwrap() error { return b.error }

type subscription struct {
	c     *Client
	o     SubscribeOptions
	yield func(hark.Event, error) bool
	where EventQuery // After is the position reached, once there is one

	token string // of o.Token; empty to ask for another
	fresh bool   // it was not accepted yet

	up      bool // the present connection was made
	blocked int  // streams in a row that did not begin
}

// run connects again and again until that is of no use.
func (s *subscription) run(ctx context.Context) error {
	if _, err := s.where.values(); err != nil {
		return err
	}
	s.reached(s.o.After)
	for failures := 0; ; failures++ {
		began, from := time.Now(), s.where.After
		s.up = false
		transport, err := s.connect(ctx)
		if errors.Is(err, errUnsubscribed) || ctx.Err() != nil || s.refused(err) {
			return err
		}
		if s.up && (s.where.After != from || time.Since(began) > steadyAfter) {
			failures = 0
		}
		if err == nil {
			continue
		}
		wait := again(failures, err)
		if end, ok := errors.AsType[*EndError](err); ok {
			asked := time.Duration(min(max(end.ReconnectMS, 0), maxReturn.Milliseconds())) * time.Millisecond
			wait = max(asked, pause(failures, nil)) // one that asks for nothing, again and again, is spared all the same
		}
		s.tell(SubscribeState{Transport: transport, Err: err, Retry: wait})
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// connect makes one connection and uses it until its end. nil means to try another
// transport at once.
func (s *subscription) connect(ctx context.Context) (transport string, err error) {
	if s.o.Token != nil && s.token == "" {
		if s.token, err = s.o.Token(ctx); err != nil {
			return "", fmt.Errorf("no token: %w", err)
		}
		s.fresh = true
	}
	if s.o.LongPoll || s.blocked >= blockedAt {
		s.blocked = blockedAt - 1 // one more that is blocked leads back here
		return "longpoll", s.poll(ctx, time.Now().Add(streamAgain))
	}
	err = s.stream(ctx)
	if _, ok := errors.AsType[*blockedError](err); ok {
		s.blocked++
	}
	return "stream", err
}

// refused reports whether err is for good. A token that was accepted before gets a successor.
func (s *subscription) refused(err error) bool {
	if end, ok := errors.AsType[*EndError](err); ok {
		if end.Reason == "expired" || end.Reason == "revoked" {
			s.token = ""
		}
		return false
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return errors.Is(err, errNoHark)
	}
	if e.Status == http.StatusUnauthorized && s.o.Token != nil && !s.fresh {
		s.token = ""
		return false
	}
	return hopeless(e)
}

func (s *subscription) tell(state SubscribeState) {
	if s.o.OnState != nil {
		s.o.OnState(state)
	}
}

// accepted notes that the server took the credential.
func (s *subscription) accepted(transport string) {
	s.fresh, s.up = false, true
	s.tell(SubscribeState{Transport: transport, Connected: true})
}

// reached moves the position. What was asked for at the beginning is done with.
func (s *subscription) reached(at hark.Cursor) {
	if at.IsZero() {
		return
	}
	s.where.After, s.where.Earliest, s.where.From, s.where.FromEvent, s.where.Last = at, false, time.Time{}, hark.EventID{}, 0
	if s.o.Position != nil {
		*s.o.Position = at
	}
}

func (s *subscription) event(e hark.Event) error {
	s.reached(e.ID) // before yielding: whoever stops at an event has seen it
	if !s.yield(e, nil) {
		return errUnsubscribed
	}
	return nil
}

func (s *subscription) gap(g hark.Gap) error {
	s.reached(g.To)
	if !s.yield(hark.Event{}, &GapError{g}) {
		return errUnsubscribed
	}
	return nil
}

func (s *subscription) header() http.Header {
	h := http.Header{}
	if s.o.Token != nil {
		h.Set("Authorization", "Bearer "+s.token)
	}
	return h
}

// poll long-polls until a time, then returns nil; or until a poll fails.
func (s *subscription) poll(ctx context.Context, until time.Time) error {
	for told, empty := false, 0; s.o.LongPoll || time.Now().Before(until); {
		asked, from := time.Now(), s.where.After
		page, err := s.c.eventPage(ctx, s.where, s.header(), false)
		if err != nil {
			return err
		}
		if !told {
			s.accepted("longpoll")
			told = true
		}
		if page.Gap != nil {
			if err := s.gap(*page.Gap); err != nil {
				return err
			}
		}
		for _, e := range page.Events {
			if err := s.event(e); err != nil {
				return err
			}
		}
		s.reached(page.Cursor)
		news := (len(page.Events) > 0 || page.More) && s.where.After != from
		if news || time.Since(asked) > time.Second {
			empty = 0
			continue
		}
		// A server that stops answers at once, with nothing; one that is broken, with the
		// same again and again.
		if empty++; !sleep(ctx, pause(empty, nil)) {
			return ctx.Err()
		}
	}
	return nil
}

// stream reads one NDJSON stream to its end.
func (s *subscription) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(openWithin, func() { cancel(ErrSilent) })
	defer watch.Stop()

	body, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	watched := &watchedReader{body, watch, openWithin}
	lines := bufio.NewReaderSize(watched, 16<<10)
	first, err := readLine(lines)
	if err != nil {
		return &blockedError{s.cut(ctx, err)}
	}
	s.blocked = 0
	s.accepted("stream")
	if err := s.line(first); err != nil {
		return err
	}
	for watched.limit = silentAfter; ; {
		line, err := readLine(lines)
		if err != nil {
			return s.cut(ctx, err)
		}
		if err := s.line(line); err != nil {
			return err
		}
	}
}

// open asks for a stream.
func (s *subscription) open(ctx context.Context) (io.ReadCloser, error) {
	query, err := s.where.values()
	if err != nil {
		return nil, err
	}
	query.Del("limit")
	query.Del("wait")
	u := s.c.base.JoinPath("/v1/stream")
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, "GET", u.String(), nil)
	if err != nil {
		return nil, err
	}
	h := s.header()
	h.Set("Accept", "application/x-ndjson")
	s.c.setHeader(r.Header, call{header: h})
	endless := *s.c.http
	endless.Timeout = 0 // it counts the reading of the body, too
	resp, err := endless.Do(r)
	if err != nil {
		err = s.cut(ctx, err)
		if errors.Is(err, ErrSilent) {
			err = &blockedError{err}
		}
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		e := readProblem(r, resp)
		if e.Status/100 == 5 && e.Code == "" { // not our own words
			return nil, &blockedError{e}
		}
		return nil, e
	}
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "application/x-ndjson" {
		resp.Body.Close()
		return nil, &blockedError{fmt.Errorf("%w: the stream is of type %q", errNoStream, media)}
	}
	return resp.Body, nil
}

var (
	errNoStream = errors.New("client: something between this program and the server lets no stream through")
	errNoHark   = errors.New("client: this is not what a hark server says")
)

// cut says why a stream ended without a word.
func (s *subscription) cut(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrSilent) {
		err = cause
	}
	if errors.Is(err, errNoHark) {
		return err
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return &UnreachableError{URL: s.c.URL(), Err: err}
}

// line acts on one line of a stream. A line that it does not know is a newer server's.
func (s *subscription) line(text []byte) error {
	switch {
	case len(text) == 0: // a keep-alive
		return nil
	case bytes.HasPrefix(text, []byte(`{"id":`)):
		e, err := parseEvent(text)
		if err != nil {
			return fmt.Errorf("%w: %w", errNoHark, err)
		}
		return s.event(e)
	}
	var said struct {
		Cursor hark.Cursor `json:"cursor"`
		Gap    *hark.Gap   `json:"gap"`
		End    *EndError   `json:"end"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return fmt.Errorf("%w: %w", errNoHark, err)
	}
	switch {
	case said.Gap != nil:
		return s.gap(*said.Gap)
	case said.End != nil:
		return said.End
	}
	s.reached(said.Cursor)
	return nil
}

// readLine returns one line without its end; what is no whole line is dropped. The text
// is valid until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	text, err := r.ReadSlice('\n')
	if err == nil {
		return bytes.TrimRight(text, "\r\n"), nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	long := bytes.Clone(text)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long) > maxLine {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", errNoHark, maxLine)
		}
		text, err = r.ReadSlice('\n')
		long = append(long, text...)
	}
	return bytes.TrimRight(long, "\r\n"), err
}

// watchedReader counts the time that the other side is silent, not the time that our
// reader takes to come again.
type watchedReader struct {
	io.Reader
	watch *time.Timer
	limit time.Duration
}

func (w *watchedReader) Read(p []byte) (int, error) {
	w.watch.Reset(w.limit)
	defer w.watch.Stop()
	return w.Reader.Read(p)
}
