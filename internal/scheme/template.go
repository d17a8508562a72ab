package scheme

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// piece is a part of what is signed.
type piece struct {
	kind string // pieceText, pieceHeader, or the name in the template
	text string // the literal text, or the header's name
}

const (
	pieceText   = ""
	pieceHeader = "header"
)

var pieceNames = []string{"body", "id", "ts", "method", "url", "path"}

// parseTemplate reads a template of what is signed: see [recipe].
func parseTemplate(template string) ([]piece, error) {
	var pieces []piece
	for rest := template; rest != ""; {
		text, inner, opened := strings.Cut(rest, "{")
		if text != "" {
			pieces = append(pieces, piece{pieceText, text})
		}
		if !opened {
			break
		}
		name, after, closed := strings.Cut(inner, "}")
		if !closed {
			return nil, errors.New("a { is not closed")
		}
		if header, ok := strings.CutPrefix(name, "header."); ok && header != "" {
			pieces = append(pieces, piece{pieceHeader, http.CanonicalHeaderKey(header)})
		} else if slices.Contains(pieceNames, name) {
			pieces = append(pieces, piece{name, ""})
		} else {
			return nil, errors.New("there are {" + strings.Join(pieceNames, "} {") + "} and {header.NAME}")
		}
		rest = after
	}
	return pieces, nil
}

func (p *piece) write(w io.Writer, r *Request, got *sent) {
	switch p.kind {
	case "body":
		w.Write(r.Body)
	case "id":
		io.WriteString(w, got.id)
	case "ts":
		io.WriteString(w, got.ts)
	case "method":
		io.WriteString(w, r.Method)
	case "url":
		io.WriteString(w, r.URL)
	case "path":
		io.WriteString(w, target(r.URL))
	case pieceHeader:
		io.WriteString(w, r.Header.Get(p.text))
	default:
		io.WriteString(w, p.text)
	}
}

// target returns path and query of an absolute URL, as they are written.
func target(absolute string) string {
	_, rest, ok := strings.Cut(absolute, "://")
	if !ok {
		return absolute
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		return rest[i:]
	}
	return "/"
}

// queryValue returns the first value of a query parameter, "" for none.
func queryValue(r *Request, name string) string {
	u, err := url.Parse(r.URL)
	if err != nil {
		return ""
	}
	return u.Query().Get(name)
}
