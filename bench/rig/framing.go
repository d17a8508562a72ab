package rig

import (
	"bytes"
	"encoding/binary"
)

// chunks takes the framing of a chunked body away, in place and in pieces.
type chunks struct {
	state chunkState
	left  int // bytes of the chunk still to come
}

type chunkState uint8

const (
	chunkSize  chunkState = iota // in a size's digits
	chunkSkip                    // in the rest of its line
	chunkData                    // in the data
	chunkAfter                   // in the line break after the data
	chunkEnd                     // after the last chunk
)

// strip removes the framing from data and returns what is left of it, in the same memory.
// The end of the body is state chunkEnd; trailers are not expected and ignored.
func (c *chunks) strip(data []byte) []byte {
	out := 0
	for in := 0; in < len(data); {
		switch b := data[in]; c.state {
		case chunkSize:
			in++
			switch {
			case '0' <= b && b <= '9':
				c.left = c.left<<4 | int(b-'0')
			case 'a' <= b|0x20 && b|0x20 <= 'f':
				c.left = c.left<<4 | int(b|0x20-'a'+10)
			case b == '\n':
				c.sized()
			default:
				c.state = chunkSkip
			}
		case chunkSkip:
			in++
			if b == '\n' {
				c.sized()
			}
		case chunkData:
			n := min(c.left, len(data)-in)
			if in > out {
				copy(data[out:], data[in:in+n])
			}
			in, out, c.left = in+n, out+n, c.left-n
			if c.left == 0 {
				c.state = chunkAfter
			}
		case chunkAfter:
			in++
			if b == '\n' {
				c.state = chunkSize
			}
		case chunkEnd:
			in++
		}
	}
	return data[:out]
}

func (c *chunks) sized() {
	c.state = chunkData
	if c.left == 0 {
		c.state = chunkEnd
	}
}

// head is what matters of a response's head.
type head struct {
	size    int // with its empty line; 0 when it has not all come
	status  int
	chunked bool
	length  int // of the body; negative when the head does not say
}

func parseHead(data []byte) head {
	end := bytes.Index(data, headEnd)
	if end < 0 {
		return head{}
	}
	text := data[:end+len(headEnd)]
	h := head{size: len(text), status: status(text), length: -1}
	h.chunked = bytes.EqualFold(header(text, []byte("\r\ntransfer-encoding:")), []byte("chunked"))
	if header(text, lengthKey) != nil {
		h.length, _ = contentLength(text)
	}
	return h
}

// Opcodes of RFC 6455, section 5.2.
const (
	wsText  = 1
	wsClose = 8
	wsPing  = 9
	wsPong  = 10
)

// wsFrame reads the frame at the start of data, of a server, so without a mask. n is its
// length, 0 when it has not all come.
func wsFrame(data []byte) (op byte, final bool, payload []byte, n int) {
	if len(data) < 2 {
		return 0, false, nil, 0
	}
	at, size := 2, int(data[1]&0x7f)
	switch size {
	case 126:
		if len(data) < 4 {
			return 0, false, nil, 0
		}
		at, size = 4, int(binary.BigEndian.Uint16(data[2:]))
	case 127:
		if len(data) < 10 {
			return 0, false, nil, 0
		}
		at, size = 10, int(binary.BigEndian.Uint64(data[2:]))
	}
	if size < 0 || len(data)-at < size {
		return 0, false, nil, 0
	}
	return data[0] & 0x0f, data[0]&0x80 != 0, data[at : at+size], at + size
}

// appendWSFrame appends a client's frame. Its mask is zero: RFC 6455 wants a random one against
// proxies that there are none of here.
func appendWSFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	if len(payload) < 126 {
		dst = append(dst, 0x80|byte(len(payload)))
	} else {
		dst = append(dst, 0x80|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(payload)))
	}
	return append(append(dst, 0, 0, 0, 0), payload...)
}

// webSocket reads the whole frames at the start of data and returns how long they are, with
// what must be answered.
func (j *judge) webSocket(p *place, data []byte, now int64) (n int, answer []byte) {
	for {
		op, final, payload, size := wsFrame(data[n:])
		if size == 0 {
			return n, answer
		}
		n += size
		switch {
		case !final:
			j.bad("a message in pieces")
		case op == wsText:
			j.message(p, payload, now)
		case op == wsPing:
			j.Comments++
			answer = appendWSFrame(answer, wsPong, payload)
		case op == wsClose:
			j.bad("closed: %q", payload)
		}
	}
}
