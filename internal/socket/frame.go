package socket

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"
)

// Frames (RFC 6455 section 5).

// Code is a close code.
type Code uint16

// Close codes of the RFC (section 7.4.1).
const (
	CloseNormal        Code = 1000
	CloseGoingAway     Code = 1001
	CloseProtocolError Code = 1002
	CloseInternal      Code = 1011

	closeNone Code = 1005 // a close frame without a code; never sent
)

const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10

	fin    = 0x80
	masked = 0x80

	maxControl = 125
)

// readBuffer is of who reads: what is larger than what is left of it goes past it.
const readBuffer = 4 << 10

// readers are buffers that nobody reads with.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// errProtocol: the client breaks the rules of the protocol.
var errProtocol = errors.New("protocol error")

// frameHead is the head of a frame.
type frameHead struct {
	final bool
	op    byte
	size  uint64
	mask  [4]byte
}

// readHead reads and checks one, by the rules that need no memory.
func readHead(br *bufio.Reader) (h frameHead, err error) {
	var b [8]byte
	if _, err = io.ReadFull(br, b[:2]); err != nil {
		return h, err
	}
	h.final, h.op, h.size = b[0]&fin != 0, b[0]&0x0f, uint64(b[1]&0x7f)
	switch {
	case b[0]&0x70 != 0, b[1]&masked == 0, h.op > opBinary && h.op < opClose, h.op > opPong:
		return h, errProtocol
	case h.op >= opClose && (!h.final || h.size > maxControl):
		return h, errProtocol
	}
	switch h.size {
	case 126:
		if _, err = io.ReadFull(br, b[:2]); err != nil {
			return h, err
		}
		h.size = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		if _, err = io.ReadFull(br, b[:]); err != nil {
			return h, err
		}
		if h.size = binary.BigEndian.Uint64(b[:]); h.size>>63 != 0 {
			return h, errProtocol
		}
	}
	_, err = io.ReadFull(br, h.mask[:])
	return h, err
}

// unmask undoes the client's mask.
func unmask(b []byte, mask [4]byte) {
	wide := uint64(binary.LittleEndian.Uint32(mask[:]))
	wide |= wide << 32
	i := 0
	for ; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], binary.LittleEndian.Uint64(b[i:])^wide)
	}
	for ; i < len(b); i++ {
		b[i] ^= mask[i&3]
	}
}

// growBy is how much more of a message is made room for at once: what a client only says that it
// will send takes no memory.
const growBy = 32 << 10

// readPayload appends a frame's payload.
func readPayload(br *bufio.Reader, dst []byte, h frameHead) ([]byte, error) {
	at := len(dst)
	for left := h.size; left > 0; {
		n := int(min(left, growBy))
		from := len(dst)
		if cap(dst)-from < n {
			grown := make([]byte, from, max(2*cap(dst), from+n))
			copy(grown, dst)
			dst = grown
		}
		dst = dst[:from+n]
		if _, err := io.ReadFull(br, dst[from:]); err != nil {
			return nil, err
		}
		left -= uint64(n)
	}
	unmask(dst[at:], h.mask)
	return dst, nil
}

// checkClose checks what a close frame says (section 7.4).
func checkClose(payload []byte) bool {
	if len(payload) == 0 {
		return true
	}
	if len(payload) == 1 {
		return false
	}
	switch code := binary.BigEndian.Uint16(payload); {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}

// writePart is how much is written at once: between two of them a slow client is seen to move.
const writePart = 64 << 10

// writeFrame sends one frame; it is the writer's.
func (c *Conn) writeFrame(op byte, payload []byte) error {
	var head [10]byte
	head[0] = fin | op
	n := 2
	switch size := len(payload); {
	case size < 126:
		head[1] = byte(size)
	case size <= 0xffff:
		head[1], n = 126, 4
		binary.BigEndian.PutUint16(head[2:], uint16(size))
	default:
		head[1], n = 127, 10
		binary.BigEndian.PutUint64(head[2:], uint64(size))
	}
	buf := writers.Get().(*[]byte)
	defer writers.Put(buf)
	first := payload[:min(len(payload), cap(*buf)-n)]
	out := append(append((*buf)[:0], head[:n]...), first...)
	payload = payload[len(first):]
	now := time.Now().UnixMilli()
	c.moved.Store(now)
	c.writing.Store(now)
	defer c.writing.Store(0)
	for {
		if _, err := c.net.Write(out); err != nil {
			return err
		}
		if len(payload) == 0 {
			return nil
		}
		c.moved.Store(time.Now().UnixMilli())
		out, payload = payload[:min(len(payload), writePart)], payload[min(len(payload), writePart):]
	}
}

// writers are where a frame's head is put before its payload.
var writers = sync.Pool{New: func() any {
	b := make([]byte, 0, 16<<10)
	return &b
}}
