package rawhead

import (
	"bytes"
	"math"
)

// MaxHead is how many bytes of a head are kept at most. A server that allows more must not be wrapped.
const MaxHead = 64 << 10

// slack is how much beyond its limit net/http reads before it refuses a head.
const slack = 8 << 10

// place says what the next byte of a connection belongs to.
type place uint8

const (
	inHead place = iota
	inBody
	inChunkSize
	inChunkExtension
	inChunk
	inChunkEnd
	inTrailer
	lost // this is no HTTP/1, or something net/http refuses: nothing is looked at any more
)

// frame follows the requests of one connection.
type frame struct {
	keep  func(target []byte) bool
	place place
	left  uint64 // bytes of a body or chunk; digits' value of a chunk's size
	count uint8  // bytes of a chunk's end, digits of its size, bytes of a trailer's line (0, a CR alone, more)
	part  []byte // the beginning of a head
	stray bool   // line ends before a head were read
	took  func(head string)
}

// feed takes the next bytes that were read.
func (f *frame) feed(p []byte) {
	for len(p) > 0 && f.place != lost {
		switch f.place {
		case inHead:
			p = f.head(p)
		case inBody, inChunk:
			n := min(f.left, uint64(len(p)))
			p, f.left = p[n:], f.left-n
			switch {
			case f.left > 0:
			case f.place == inBody:
				f.place = inHead
			default:
				f.place, f.count = inChunkEnd, 0
			}
		case inChunkEnd:
			p = p[1:]
			if f.count++; f.count == 2 {
				f.place, f.count = inChunkSize, 0
			}
		default:
			f.chunkByte(p[0])
			p = p[1:]
		}
	}
}

// chunkByte reads a chunk's size (RFC 9112 section 7.1) or a trailer.
func (f *frame) chunkByte(c byte) {
	switch {
	case f.place == inTrailer:
		f.trailerByte(c)
	case c == '\n':
		if f.left > 0 {
			f.place = inChunk
		} else {
			f.place, f.count = inTrailer, 0
		}
	case f.place == inChunkExtension:
	default:
		digit, ok := hexDigit(c)
		if !ok {
			f.place = inChunkExtension // or its line end, or nonsense that net/http refuses
			return
		}
		if f.count++; f.count > 16 {
			f.place = lost
			return
		}
		f.left = f.left<<4 | digit
	}
}

// trailerByte: an empty line ends a trailer.
func (f *frame) trailerByte(c byte) {
	switch {
	case c == '\n' && f.count < 2:
		f.place, f.count = inHead, 0
	case c == '\n':
		f.count = 0
	case c == '\r' && f.count == 0:
		f.count = 1
	default:
		f.count = 2
	}
}

func hexDigit(c byte) (uint64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return uint64(c - '0'), true
	case c >= 'a' && c <= 'f':
		return uint64(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return uint64(c-'A') + 10, true
	}
	return 0, false
}

// head reads a head, or more of one, and returns what follows it.
func (f *frame) head(p []byte) (rest []byte) {
	if len(f.part) == 0 {
		// Line ends after a body: net/http allows a few (RFC 9112 section 2.2).
		if p = bytes.TrimLeft(p, "\r\n"); len(p) == 0 {
			f.stray = true
			return nil
		}
		f.stray = false
		if end := headEnd(p, 0); end > 0 { // the whole of it at once, as nearly always
			f.begun(p[:end])
			return p[end:]
		}
		if c := p[0]; c <= ' ' || c >= 0x7f { // no method
			f.place = lost
			return nil
		}
	}
	before := len(f.part)
	f.part = append(f.part, p...)
	end := headEnd(f.part, max(0, before-2))
	switch {
	case end > 0:
		head := f.part[:end]
		f.part = nil
		f.begun(head)
		return p[end-before:]
	case len(f.part) > MaxHead+slack:
		f.place, f.part = lost, nil
	}
	return nil
}

// headEnd returns where the head at the beginning of b ends, behind its empty line; 0 for
// not yet. from is how much of it is known to hold no end.
func headEnd(b []byte, from int) int {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		switch next := b[from:]; {
		case len(next) > 0 && next[0] == '\n':
			return from + 1
		case len(next) > 1 && next[0] == '\r' && next[1] == '\n':
			return from + 2
		}
	}
}

// begun: a head is complete. It says how long the body is, as RFC 9112 section 6 has it and
// net/http reads it.
func (f *frame) begun(head []byte) {
	line, fields, _ := bytes.Cut(head, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	_, rest, ok := bytes.Cut(line, []byte(" "))
	target, proto, alsoOK := bytes.Cut(rest, []byte(" "))
	if !ok || !alsoOK || !bytes.HasPrefix(proto, []byte("HTTP/1.")) {
		f.place, f.part = lost, nil // PRI * HTTP/2.0, too
		return
	}
	if len(head) <= MaxHead && f.keep(target) {
		f.took(string(head))
	}
	length, chunked := bodyOf(fields)
	switch {
	case chunked && !bytes.Equal(proto, []byte("HTTP/1.0")):
		f.place, f.left, f.count = inChunkSize, 0, 0
	case length > 0:
		f.place, f.left = inBody, length
	}
}

// bodyOf reads the two fields that frame a body.
func bodyOf(fields []byte) (length uint64, chunked bool) {
	for len(fields) > 0 {
		line := fields
		if i := bytes.IndexByte(fields, '\n'); i >= 0 {
			line, fields = fields[:i], fields[i+1:]
		} else {
			fields = nil
		}
		if len(line) == 0 {
			continue
		}
		switch line[0] | 0x20 {
		case 'c':
			if value, ok := fieldNamed(line, "content-length"); ok {
				value, fields = unfold(value, fields)
				length = digits(value)
			}
		case 't':
			if value, ok := fieldNamed(line, "transfer-encoding"); ok {
				value, fields = unfold(value, fields)
				chunked = bytes.EqualFold(value, []byte("chunked"))
			}
		}
	}
	return length, chunked
}

func fieldNamed(line []byte, name string) (value []byte, ok bool) {
	if len(line) <= len(name) || line[len(name)] != ':' || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return line[len(name)+1:], true
}

// unfold adds lines that go on with a value: those that begin with white space.
func unfold(value, fields []byte) (whole, rest []byte) {
	for len(fields) > 0 && (fields[0] == ' ' || fields[0] == '\t') {
		var line []byte
		line, fields, _ = bytes.Cut(fields, []byte("\n"))
		value = append(append(bytes.Clone(bytes.TrimSpace(value)), ' '), bytes.TrimSpace(line)...)
	}
	return bytes.TrimSpace(value), fields
}

// digits reads a length; what is none, net/http refuses.
func digits(value []byte) (n uint64) {
	for _, c := range value {
		if c < '0' || c > '9' || n > math.MaxInt64/10 {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}
