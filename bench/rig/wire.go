package rig

import (
	"bytes"
	"errors"
	"io"
	"net"
)

// wire reads HTTP/1.1 messages with a Content-Length from one connection. It is
// just enough for a sink and a publisher, and refuses what it does not know.
type wire struct {
	conn       net.Conn
	buf        []byte
	start, end int
}

func newWire(conn net.Conn) *wire { return &wire{conn: conn, buf: make([]byte, 16<<10)} }

var (
	errWire   = errors.New("not the HTTP that this rig speaks")
	headEnd   = []byte("\r\n\r\n")
	lengthKey = []byte("\r\ncontent-length:")
)

// next returns the head (first line and headers, up to and with the empty line)
// and the body of the next message. Both are valid until the next call.
func (w *wire) next() (head, body []byte, err error) {
	headLen := 0
	for {
		if i := bytes.Index(w.buf[w.start:w.end], headEnd); i >= 0 {
			headLen = i + len(headEnd)
			break
		}
		if err := w.fill(0); err != nil {
			return nil, nil, err
		}
	}
	head = w.buf[w.start : w.start+headLen]
	size, err := contentLength(head)
	if err != nil {
		return nil, nil, err
	}
	for w.end-w.start < headLen+size {
		if err := w.fill(headLen + size); err != nil {
			return nil, nil, err
		}
	}
	message := w.buf[w.start : w.start+headLen+size]
	w.start += headLen + size
	if w.start == w.end {
		w.start, w.end = 0, 0
	}
	return message[:headLen], message[headLen:], nil
}

// fill reads more, after making room for a message of size bytes.
func (w *wire) fill(size int) error {
	if w.start > 0 {
		w.end = copy(w.buf, w.buf[w.start:w.end])
		w.start = 0
	}
	if size > len(w.buf) || w.end == len(w.buf) {
		if max(size, 2*len(w.buf)) > 16<<20 {
			return errWire
		}
		w.buf = append(make([]byte, 0, max(size, 2*len(w.buf))), w.buf[:w.end]...)
		w.buf = w.buf[:cap(w.buf)]
	}
	n, err := w.conn.Read(w.buf[w.end:])
	w.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// header returns a header's value; key is "\r\nlower-case-name:".
func header(head, key []byte) []byte {
	for from := 0; ; {
		i := bytes.IndexByte(head[from:], '\r')
		if i < 0 || from+i+len(key) > len(head) {
			return nil
		}
		from += i
		if equalFold(head[from:from+len(key)], key) {
			value := head[from+len(key):]
			return bytes.TrimSpace(value[:bytes.IndexByte(value, '\r')])
		}
		from++
	}
}

// equalFold compares ASCII; lower is in lower case.
func equalFold(text, lower []byte) bool {
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func contentLength(head []byte) (int, error) {
	value := header(head, lengthKey)
	if len(value) > 8 {
		return 0, errWire
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, errWire
		}
		n = n*10 + int(c-'0')
	}
	if value == nil && header(head, []byte("\r\ntransfer-encoding:")) != nil {
		return 0, errWire
	}
	return n, nil
}

// status returns the code of a response's first line, 0 for none.
func status(head []byte) int {
	if len(head) < 12 || head[8] != ' ' {
		return 0
	}
	n := 0
	for _, c := range head[9:12] {
		n = n*10 + int(c-'0')
	}
	return n
}

// digits reads a decimal number at the start of text, 0 for none.
func digits(text []byte) (n int64) {
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// putDigits writes n into the whole of text, with leading zeros.
func putDigits(text []byte, n int64) {
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = byte('0' + n%10)
		n /= 10
	}
}
