package compare

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// event is as much of an event as a client reads here.
type event struct {
	Data json.RawMessage `json:"data"`
}

// poll asks every so often, at times of its own; 0 is a long poll, whose next request
// follows the last answer.
func poll(every time.Duration) func(context.Context, *listener) error {
	return func(ctx context.Context, l *listener) error {
		cursor, err := l.ask(ctx, "", "", http.Header{})
		if err != nil {
			return err
		}
		l.ready()
		if every == 0 {
			for err == nil && ctx.Err() == nil {
				cursor, err = l.ask(ctx, cursor, "&wait=25", http.Header{})
			}
			return err
		}
		for wait := rand.N(every); ; wait = every {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
			if cursor, err = l.ask(ctx, cursor, "", http.Header{"If-None-Match": {`"` + cursor + `"`}}); err != nil {
				return err
			}
		}
	}
}

// ask makes one poll and returns the cursor to go on with.
func (l *listener) ask(ctx context.Context, cursor, query string, header http.Header) (string, error) {
	if cursor != "" {
		query += "&after=" + cursor
	}
	r, err := l.request(ctx, "/v1/events", query)
	if err != nil {
		return cursor, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	l.run.tally.requests.Add(1)
	resp, err := l.http.Do(r)
	if err != nil {
		return cursor, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return cursor, err
	case resp.StatusCode == http.StatusNotModified:
		return cursor, nil
	case resp.StatusCode == http.StatusTooManyRequests:
		l.run.tally.refused.Add(1)
		return cursor, nil
	case resp.StatusCode != http.StatusOK:
		return cursor, fmt.Errorf("the server answers a poll with %s", resp.Status)
	}
	var page struct {
		Events []event `json:"events"`
		Cursor string  `json:"cursor"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return cursor, err
	}
	for _, e := range page.Events {
		if err := l.got(e.Data); err != nil {
			return cursor, err
		}
	}
	return page.Cursor, nil
}

// stream reads Server-Sent Events.
func stream(ctx context.Context, l *listener) error {
	r, err := l.request(ctx, "/v1/stream", "")
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/event-stream")
	l.run.tally.requests.Add(1)
	resp, err := l.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers a stream with %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		l.ready() // at the first line
		text, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		var e event
		if err := json.Unmarshal(text, &e); err != nil {
			return err
		}
		if e.Data == nil {
			return fmt.Errorf("the server ends the stream: %s", text)
		}
		if err := l.got(e.Data); err != nil {
			return err
		}
	}
	return errors.Join(lines.Err(), errors.New("the stream ended"))
}

// webSocket subscribes by a frame.
func webSocket(ctx context.Context, l *listener) error {
	header := http.Header{}
	if l.token != "" {
		header.Set("Authorization", "Bearer "+l.token)
	}
	l.run.tally.requests.Add(1)
	conn, _, err := websocket.Dial(ctx, l.run.Client.URL()+"/v1/ws", &websocket.DialOptions{HTTPClient: l.http, HTTPHeader: header, Subprotocols: []string{"hark.v1"}})
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(16 << 20)
	if err := conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"subscribe","sub":"a","topics":[%q]}`, l.run.topic)); err != nil {
		return err
	}
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var frame struct {
			Type   string  `json:"type"`
			Events []event `json:"events"`
		}
		if err := json.Unmarshal(text, &frame); err != nil {
			return err
		}
		switch frame.Type {
		case "subscribed":
			l.ready()
		case "error", "end":
			return fmt.Errorf("the server says %s", text)
		}
		for _, e := range frame.Events {
			if err := l.got(e.Data); err != nil {
				return err
			}
		}
	}
}
