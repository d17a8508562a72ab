package live

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Block is one block of an event stream, up to its blank line.
type Block struct {
	Type    string
	Data    string
	HasData bool
	ID      string
	HasID   bool
	Retry   time.Duration
	// Comment is set if there was a comment line; a block of comments alone is a keep-alive.
	Comment bool
	fields  int
}

// Blocks reads an event stream as WHATWG HTML 9.2.6 says, but refuses what a
// server should not send: unknown fields, carriage returns, an id with NUL.
type Blocks struct {
	r     *bufio.Reader
	began bool
}

// NewBlocks reads from r.
func NewBlocks(r io.Reader) *Blocks { return &Blocks{r: bufio.NewReaderSize(r, 64<<10)} }

// Next returns the next block. At the end of the stream it is io.EOF, and
// io.ErrUnexpectedEOF if the stream ended within a block.
func (b *Blocks) Next() (*Block, error) {
	block := &Block{}
	for {
		line, err := b.r.ReadBytes('\n')
		if err == io.EOF && (len(line) > 0 || block.fields > 0) {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		line = line[:len(line)-1]
		if !b.began {
			line, b.began = bytes.TrimPrefix(line, []byte("\ufeff")), true
		}
		if len(line) == 0 {
			block.Data = strings.TrimSuffix(block.Data, "\n")
			return block, nil
		}
		if err := block.add(line); err != nil {
			return nil, err
		}
	}
}

func (b *Block) add(line []byte) error {
	if bytes.ContainsAny(line, "\r\x00") {
		return broken("a line of the event stream holds CR or NUL: %.200q", line)
	}
	if line[0] == ':' {
		b.Comment = true
		return nil
	}
	b.fields++
	name, value, _ := strings.Cut(string(line), ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "event":
		b.Type = value
	case "data":
		b.Data, b.HasData = b.Data+value+"\n", true
	case "id":
		b.ID, b.HasID = value, true
	case "retry":
		ms, err := strconv.Atoi(value)
		if err != nil || strings.Trim(value, "0123456789") != "" {
			return broken("retry is %q", value)
		}
		b.Retry = time.Duration(ms) * time.Millisecond
	default:
		return broken("an unknown field of the event stream: %.200q", line)
	}
	return nil
}

// cacheControl is what every answer that must not be kept says.
const cacheControl = "private, no-cache, no-store, must-revalidate, max-age=0"

func (f *follower) sse(ctx context.Context) error {
	q := f.query()
	req, err := f.request(ctx, "/v1/stream", q)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if f.After != "" {
		// As a browser does when it comes back: the header wins over what is in the URL.
		q.Del("after")
		req.URL.RawQuery = q.Encode()
		req.Header.Set("Last-Event-ID", f.After)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return refusal(resp)
	}
	if err := f.streamHead(resp.Header, "text/event-stream; charset=utf-8"); err != nil {
		return err
	}
	if err := f.tell(Note{Opened: resp.Header}); err != nil {
		return err
	}
	return f.blocks(resp.Header, NewBlocks(resp.Body))
}

// streamHead checks the head of SSE and NDJSON.
func (f *follower) streamHead(h http.Header, contentType string) error {
	for name, want := range map[string]string{"Content-Type": contentType, "Cache-Control": cacheControl, "X-Accel-Buffering": "no"} {
		if got := h.Get(name); got != want {
			return broken("%s of the %s stream is %q, want %q", name, f.by, got, want)
		}
	}
	return nil
}

// blocks tells what an event stream says. The first block primes the client;
// a gap at the start comes before anything else.
func (f *follower) blocks(head http.Header, in *Blocks) error {
	gap, err := headGap(head)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		b, err := in.Next()
		if err != nil {
			return err
		}
		note, err := b.Note(n == 0)
		if err != nil {
			return err
		}
		if n == 0 && note.End == nil && note.Cursor != head.Get("Hark-Cursor") {
			return broken("Hark-Cursor is %q, the first id %q", head.Get("Hark-Cursor"), note.Cursor)
		}
		if n == 1 && gap != nil {
			if err := sameGap(gap, note.Gap); err != nil {
				return err
			}
		}
		if err := f.tell(note); err != nil {
			return err
		}
	}
}

// Note is what a block says; the first of a stream primes the client, unless it is the
// end at once.
func (b *Block) Note(first bool) (note Note, err error) {
	note.Retry = b.Retry
	switch {
	case first && b.Type != "end" && (!b.HasID || b.Retry <= 0 || b.HasData || b.Type != ""):
		return note, broken("the first block is %+v, want a retry and an id alone", *b)
	case b.fields == 0, b.Type == "ping":
		note.Alive = true
	case b.Type == "end":
		note.End = &End{}
		err = json.Unmarshal([]byte(b.Data), note.End)
		if err == nil && b.Retry != time.Duration(note.End.ReconnectMS)*time.Millisecond {
			err = fmt.Errorf("retry is %v", b.Retry)
		}
	case b.Type == "gap":
		note.Gap = &Gap{}
		err = json.Unmarshal([]byte(b.Data), note.Gap)
		if err == nil && b.ID != note.Gap.To {
			err = fmt.Errorf("its id is %q", b.ID)
		}
	case b.Type != "":
		err = errors.New("its type is unknown")
	case !b.HasData:
		note.Cursor = b.ID
	default:
		note.Event, err = event([]byte(b.Data))
		if err == nil && b.ID != note.Event.ID {
			err = fmt.Errorf("its id is %q", b.ID)
		}
	}
	if err != nil {
		return note, broken("the block %+v: %v", *b, err)
	}
	return note, nil
}
