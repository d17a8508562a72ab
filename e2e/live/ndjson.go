package live

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
)

func (f *follower) ndjson(ctx context.Context) error {
	req, err := f.request(ctx, "/v1/stream", f.query())
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/x-ndjson")
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return refusal(resp)
	}
	if err := f.streamHead(resp.Header, "application/x-ndjson; charset=utf-8"); err != nil {
		return err
	}
	gap, err := headGap(resp.Header)
	if err != nil {
		return err
	}
	if err := f.tell(Note{Opened: resp.Header}); err != nil {
		return err
	}
	in := bufio.NewReaderSize(resp.Body, 64<<10)
	for n := 0; ; n++ {
		text, err := in.ReadBytes('\n')
		if err == io.EOF && len(text) > 0 {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		note, err := line(bytes.TrimSuffix(text, []byte("\n")))
		if err != nil {
			return err
		}
		switch {
		case n == 0 && note.End != nil:
		case n == 0 && (note.Cursor == "" || note.Cursor != resp.Header.Get("Hark-Cursor")):
			return broken("the first line is %.200q, Hark-Cursor %q", text, resp.Header.Get("Hark-Cursor"))
		case n == 1 && gap != nil:
			if err := sameGap(gap, note.Gap); err != nil {
				return err
			}
		}
		if err := f.tell(note); err != nil {
			return err
		}
	}
}

// line reads one line of an NDJSON stream.
func line(text []byte) (Note, error) {
	if len(text) == 0 {
		return Note{Alive: true}, nil
	}
	var l struct {
		ID     string `json:"id"`
		Cursor string `json:"cursor"`
		Gap    *Gap   `json:"gap"`
		End    *End   `json:"end"`
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return Note{}, broken("a line is %.200q: %v", text, err)
	}
	switch {
	case l.ID != "":
		e, err := event(text)
		return Note{Event: e}, err
	case l.Gap != nil:
		return Note{Gap: l.Gap}, nil
	case l.End != nil:
		return Note{End: l.End}, nil
	case l.Cursor != "":
		return Note{Cursor: l.Cursor}, nil
	}
	return Note{}, broken("a line is %.200q", text)
}
