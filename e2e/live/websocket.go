package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Frame is a frame of hark.v1, either way.
type Frame struct {
	Type        string            `json:"type"`
	Token       string            `json:"token,omitempty"`
	Sub         string            `json:"sub,omitempty"`
	Ref         string            `json:"ref,omitempty"`
	Topics      []string          `json:"topics,omitempty"`
	After       string            `json:"after,omitempty"`
	From        string            `json:"from,omitempty"`
	Last        int               `json:"last,omitempty"`
	Topic       string            `json:"topic,omitempty"`
	Data        any               `json:"data,omitempty"`
	Idempotency string            `json:"idempotency_key,omitempty"`
	Version     int               `json:"version,omitempty"`
	PingMS      int               `json:"ping_ms,omitempty"`
	Cursor      string            `json:"cursor,omitempty"`
	Events      []json.RawMessage `json:"events,omitempty"`
	Gap         *Gap              `json:"gap,omitempty"`
	ID          string            `json:"id,omitempty"`
	Duplicate   bool              `json:"duplicate,omitempty"`
	Expires     any               `json:"expires,omitempty"`
	Status      int               `json:"status,omitempty"`
	Code        string            `json:"code,omitempty"`
	Detail      string            `json:"detail,omitempty"`
	Field       string            `json:"field,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	ReconnectMS int               `json:"reconnect_ms,omitempty"`
}

// Socket is an open WebSocket whose server said hello.
type Socket struct {
	conn *websocket.Conn
	// Head is that of the answer to the upgrade.
	Head http.Header
}

// OpenSocket opens a WebSocket, with the token as the target says, and reads the hello.
func OpenSocket(ctx context.Context, to Target) (*Socket, error) {
	client := &http.Client{}
	if to.Dial != nil {
		client.Transport = &http.Transport{DialContext: to.Dial}
	}
	f := &follower{Target: to, client: client}
	return f.open(ctx)
}

func (f *follower) open(ctx context.Context) (*Socket, error) {
	header, protocols := http.Header{}, []string{"hark.v1"}
	f.identify(header)
	url := "ws" + strings.TrimPrefix(f.URL, "http") + "/v1/ws"
	switch {
	case f.Token != "" && f.TokenBy == "query":
		url += "?token=" + f.Token
	case f.Token != "" && f.TokenBy == "subprotocol":
		protocols = append(protocols, "hark.token."+f.Token)
	}
	conn, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: f.client, HTTPHeader: header, Subprotocols: protocols})
	if err != nil {
		if resp != nil && resp.StatusCode >= 300 {
			return nil, refusal(resp)
		}
		return nil, err
	}
	conn.SetReadLimit(64 << 20)
	s := &Socket{conn, resp.Header}
	if conn.Subprotocol() != "hark.v1" {
		s.Abort()
		return nil, broken("the subprotocol is %q", conn.Subprotocol())
	}
	if f.Token != "" && f.TokenBy == "frame" {
		if err := s.Send(ctx, Frame{Type: "auth", Token: f.Token}); err != nil {
			s.Abort()
			return nil, err
		}
	}
	if err := s.greet(ctx, f.Token != "" && f.TokenBy == "frame"); err != nil {
		s.Abort()
		return nil, err
	}
	return s, nil
}

// greet reads what comes first: hello, and the answer to a token in a frame. A server that
// stops, or has no room, may end the connection instead.
func (s *Socket) greet(ctx context.Context, authenticated bool) error {
	want := []string{"hello"}
	if authenticated {
		want = append(want, "authenticated")
	}
	for _, typ := range want {
		hello, err := s.Read(ctx)
		if err != nil {
			return err
		}
		switch hello.Type {
		case "error":
			return refusedBy(hello)
		case "end":
			_, err := s.Read(ctx)
			return &endedEarly{End{hello.Reason, hello.ReconnectMS}, err}
		}
		if hello.Type != typ || typ == "hello" && (hello.Version != 1 || hello.PingMS <= 0) {
			return broken("the frame %+v came for %s", *hello, typ)
		}
	}
	return nil
}

// endedEarly is a connection that was ended politely before it was taken up.
type endedEarly struct {
	end End
	err error // what came after it
}

func (e *endedEarly) Error() string {
	return fmt.Sprintf("ended (%s) before it began: %v", e.end.Reason, e.err)
}

func (e *endedEarly) Unwrap() error { return e.err }

// refusedBy is what an error frame says, as a problem would.
func refusedBy(f *Frame) error {
	text, err := json.Marshal(map[string]string{"code": f.Code, "detail": f.Detail})
	if err != nil {
		return err
	}
	return &Refused{Status: f.Status, Body: string(text)}
}

// Send sends a frame.
func (s *Socket) Send(ctx context.Context, f Frame) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return closed(s.conn.Write(ctx, websocket.MessageText, text))
}

// Read reads the next frame. The end of the connection is a [Closed] if it was said.
func (s *Socket) Read(ctx context.Context) (*Frame, error) {
	kind, text, err := s.conn.Read(ctx)
	if err != nil {
		return nil, closed(err)
	}
	f := &Frame{}
	if err := json.Unmarshal(text, f); err != nil || kind != websocket.MessageText || f.Type == "" {
		if e, ok := errors.AsType[*json.SyntaxError](err); ok && e.Offset == int64(len(text)) { // it is the beginning of a frame
			if cut := s.cut(ctx); cut != nil {
				return nil, cut
			}
		}
		return nil, broken("a frame (%v) is %.200q: %v", kind, text, err)
	}
	return f, nil
}

// cut is how the connection ended, if it did without a word. The library takes what came of a message
// before that for all of it (msgReader.Read).
func (s *Socket) cut(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, _, err := s.conn.Read(ctx)
	if err = closed(err); err == nil || ctx.Err() != nil {
		return nil
	}
	if _, said := errors.AsType[*Closed](err); said {
		return nil
	}
	return err
}

// Close says good-bye.
func (s *Socket) Close() { s.conn.Close(websocket.StatusNormalClosure, "") }

// Abort drops the connection.
func (s *Socket) Abort() { s.conn.CloseNow() }

func closed(err error) error {
	var c websocket.CloseError
	if errors.As(err, &c) {
		return &Closed{int(c.Code), c.Reason}
	}
	return err
}

// websocket follows with one subscription.
func (f *follower) websocket(ctx context.Context) error {
	s, err := f.open(ctx)
	var early *endedEarly
	switch {
	case errors.As(err, &early):
		return errors.Join(f.tell(Note{End: &early.end}), early.err)
	case err != nil:
		return err
	}
	defer s.Abort()
	const sub = "it"
	if err := s.Send(ctx, Frame{Type: "subscribe", Sub: sub, Topics: f.Topics, After: f.After, From: f.From, Last: f.Last}); err != nil {
		return err
	}
	subscribed := false
	for {
		frame, err := s.Read(ctx)
		if err != nil {
			return err
		}
		switch {
		case frame.Type == "error":
			return refusedBy(frame)
		case frame.Type == "end":
			if err := f.tell(Note{End: &End{frame.Reason, frame.ReconnectMS}}); err != nil {
				return err
			}
			continue
		case frame.Sub != sub:
			return broken("a frame for nobody: %+v", *frame)
		case (frame.Type == "subscribed") == subscribed:
			return broken("the frame %+v, subscribed: %v", *frame, subscribed)
		}
		if frame.Type == "subscribed" {
			subscribed = true
			if err := f.tell(Note{Opened: s.Head}); err != nil {
				return err
			}
		}
		if err := f.frame(frame); err != nil {
			return err
		}
	}
}

// frame tells what a frame of the subscription says.
func (f *follower) frame(frame *Frame) error {
	switch frame.Type {
	case "subscribed", "cursor":
	case "gap":
		if frame.Gap == nil {
			return broken("a gap frame without gap: %+v", *frame)
		}
		return f.tell(Note{Gap: frame.Gap})
	case "events":
		if len(frame.Events) == 0 {
			return broken("an events frame without events: %+v", *frame)
		}
		for _, text := range frame.Events {
			e, err := event(text)
			if err != nil {
				return err
			}
			if err := f.tell(Note{Event: e}); err != nil {
				return err
			}
		}
	default:
		return broken("an unknown frame: %+v", *frame)
	}
	if frame.Cursor == "" {
		return broken("a frame without cursor: %+v", *frame)
	}
	return f.tell(Note{Cursor: frame.Cursor})
}
