package post

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/webpush"
)

// What server and worker say to each other: frames of a length (4 bytes, little endian) and so
// many bytes. Numbers are varints, texts have their length before them.
//
//	first       settings, as the program gives them     →
//	            empty: the worker is ready              ←
//	request     id · deadline (µs, Unix) · padding · TTL · subscription · authorization ·  →
//	            topic · urgency · user agent · plaintext
//	answer      id · how many were begun · kind, and    ←
//	  answered  status · body fault · more · protocol · number of header lines · name, value … · snippet
//	  unsealed  reason · field · detail
//	  lost      fault · text
//	  begun     (id 0) how many were begun, when there was no answer to tell it

// maxFrame bounds a frame: an answer's header may have 64 KiB, its snippet 4. Settings may hold
// the certificates of many authorities.
const (
	maxFrame    = 256 << 10
	maxSettings = 16 << 20
)

// Kinds of answers.
const (
	answered = iota + 1
	unsealed
	lost
	begun
)

var errFrame = errors.New("push worker: a frame that cannot be read")

// answer is what became of a message, as of [Apart.Post].
type answer struct {
	res egress.Response
	err error
}

// frame appends a frame that write fills.
func frame(dst []byte, write func([]byte) []byte) []byte {
	at := len(dst)
	dst = write(append(dst, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// readFrame reads the next frame, into buf if it fits.
func readFrame(r io.Reader, buf []byte) ([]byte, error) { return readFrameUpTo(r, buf, maxFrame) }

func readFrameUpTo(r io.Reader, buf []byte, most int) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.LittleEndian.Uint32(size[:]))
	if n > most {
		return nil, errFrame
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendRequest(dst []byte, id uint64, deadline time.Time, m *Message) []byte {
	return frame(dst, func(b []byte) []byte {
		b = binary.AppendUvarint(b, id)
		b = binary.AppendUvarint(b, uint64(deadline.UnixMicro()))
		b = binary.AppendUvarint(b, uint64(m.Padding))
		b = binary.AppendUvarint(b, uint64(m.TTL))
		b = appendText(b, m.To)
		b = appendText(b, m.Authorization)
		b = appendText(b, m.Topic)
		b = appendText(b, m.Urgency)
		b = appendText(b, m.UserAgent)
		return append(b, m.Plaintext...)
	})
}

// reader takes a frame apart; after a fault it returns nothing.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.rest, r.err = nil, errFrame
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.rest, r.err = nil, errFrame
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes(r.number())) }

// decodeRequest reads a request; subscription and plaintext are parts of b.
func decodeRequest(b []byte) (id uint64, deadline time.Time, m *Message, err error) {
	r := &reader{rest: b}
	m = new(Message)
	id = r.number()
	deadline = time.UnixMicro(int64(r.number()))
	m.Padding = int(min(r.number(), webpush.MaxPlaintext+1)) // which is refused
	m.TTL = int64(r.number() &^ (1 << 63))
	m.To = r.bytes(r.number())
	m.Authorization, m.Topic, m.Urgency, m.UserAgent = r.text(), r.text(), r.text(), r.text()
	m.Plaintext = r.rest
	return id, deadline, m, r.err
}

func appendAnswer(dst []byte, id, started uint64, a *answer) []byte {
	return frame(dst, func(b []byte) []byte {
		b = binary.AppendUvarint(binary.AppendUvarint(b, id), started)
		if e, ok := errors.AsType[*webpush.Error](a.err); ok {
			return appendText(appendText(appendText(append(b, unsealed), string(e.Reason)), e.Field), e.Detail)
		}
		if a.err != nil {
			msg := "the request failed"
			if e, ok := errors.AsType[*egress.Error](a.err); ok {
				msg = e.Msg
			}
			return appendText(append(b, lost, byte(egress.FaultOf(a.err))), msg)
		}
		more := byte(0)
		if a.res.More {
			more = 1
		}
		b = append(binary.AppendUvarint(append(b, answered), uint64(a.res.Status)), byte(a.res.BodyFault), more)
		b = appendText(b, a.res.Proto)
		lines := 0
		for _, values := range a.res.Header {
			lines += len(values)
		}
		b = binary.AppendUvarint(b, uint64(lines))
		for name, values := range a.res.Header {
			for _, v := range values {
				b = appendText(appendText(b, name), v)
			}
		}
		return append(b, a.res.Snippet...)
	})
}

func appendBegun(dst []byte, n uint64) []byte {
	return frame(dst, func(b []byte) []byte {
		return append(binary.AppendUvarint(append(b, 0), n), begun)
	})
}

// decodeAnswer keeps nothing of b.
func decodeAnswer(b []byte) (id, started uint64, a answer, err error) {
	r := &reader{rest: b}
	id, started = r.number(), r.number()
	switch r.number() {
	case answered:
		a.res.Status = int(min(r.number(), 999))
		a.res.BodyFault = egress.Fault(r.number())
		a.res.More = r.number() == 1
		a.res.Proto = r.text()
		lines := r.number()
		a.res.Header = make(http.Header, min(lines, 16))
		for ; lines > 0 && r.err == nil; lines-- {
			name, value := r.text(), r.text()
			a.res.Header[name] = append(a.res.Header[name], value)
		}
		a.res.Snippet = append([]byte(nil), r.rest...)
	case unsealed:
		a.err = &webpush.Error{Reason: webpush.Reason(r.text()), Field: r.text(), Detail: r.text()}
	case lost:
		a.err = &egress.Error{Fault: egress.Fault(r.number()), Msg: r.text()}
	case begun:
	default:
		r.err = errFrame
	}
	return id, started, a, r.err
}
