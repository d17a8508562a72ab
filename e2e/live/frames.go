package live

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Opcodes of RFC 6455 section 5.2.
const (
	OpContinue = 0x0
	OpText     = 0x1
	OpBinary   = 0x2
	OpClose    = 0x8
	OpPing     = 0x9
	OpPong     = 0xA
)

// Frames is a WebSocket of bare frames, for what no proper client would send.
type Frames struct {
	Conn net.Conn
	in   *bufio.Reader
}

// DialFrames shakes hands; header lines, such as "Origin: x", are added.
func DialFrames(ctx context.Context, to Target, lines ...string) (*Frames, error) {
	dial := to.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	addr := strings.TrimPrefix(to.URL, "http://")
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	lines = append([]string{"GET /v1/ws HTTP/1.1", "Host: " + addr, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, lines...)
	if to.Token != "" {
		lines = append(lines, "Authorization: Bearer "+to.Token)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		conn.Close()
		return nil, err
	}
	f := &Frames{conn, bufio.NewReaderSize(conn, 4096)}
	resp, err := http.ReadResponse(f.in, nil)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		return nil, refusal(resp)
	}
	// RFC 6455 section 1.3 has this nonce and its answer.
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		conn.Close()
		return nil, broken("Sec-WebSocket-Accept is %q", got)
	}
	conn.SetDeadline(time.Time{})
	return f, nil
}

// Text is a whole, masked text frame, as clients send them.
func Text(payload string) []byte { return Bare(0x80|OpText, true, []byte(payload)) }

// Promise is the head of a masked text frame that says how much will come.
func Promise(size uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0x80 | OpText, 0x80 | 127}, size)
}

// Bare makes a frame: first is the byte of FIN, the reserved bits and the opcode.
func Bare(first byte, masked bool, payload []byte) []byte {
	frame := []byte{first, 0}
	switch n := len(payload); {
	case n < 126:
		frame[1] = byte(n)
	case n < 1<<16:
		frame[1] = 126
		frame = binary.BigEndian.AppendUint16(frame, uint16(n))
	default:
		frame[1] = 127
		frame = binary.BigEndian.AppendUint64(frame, uint64(n))
	}
	if !masked {
		return append(frame, payload...)
	}
	frame[1] |= 0x80
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	frame = append(frame, mask[:]...)
	for i, b := range payload {
		frame = append(frame, b^mask[i%4])
	}
	return frame
}

// Read reads one frame of the server, which must be whole and bare of masks.
func (f *Frames) Read() (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0x70 != 0 || head[1]&0x80 != 0 {
		return 0, nil, broken("a frame with reserved bits or a mask: %x", head)
	}
	size := uint64(head[1])
	var long [8]byte
	switch size {
	case 126:
		_, err = io.ReadFull(f.in, long[6:])
		size = binary.BigEndian.Uint64(long[:])
	case 127:
		_, err = io.ReadFull(f.in, long[:])
		size = binary.BigEndian.Uint64(long[:])
	}
	if err != nil {
		return 0, nil, err
	}
	if size > 64<<20 {
		return 0, nil, broken("a frame of %d bytes", size)
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(f.in, payload)
	return head[0] & 0x0F, payload, err
}

// Fate reads until the connection ends, at most for a time, and says how: the code of
// the close frame, 0 for an end without one. last is the text before it.
func (f *Frames) Fate(within time.Duration) (code int, last string, err error) {
	f.Conn.SetReadDeadline(time.Now().Add(within))
	for {
		opcode, payload, err := f.Read()
		if e, ok := err.(net.Error); ok && e.Timeout() {
			return 0, last, fmt.Errorf("after %v it is still open", within)
		}
		if b, ok := err.(*Broken); ok {
			return 0, last, b
		}
		if err != nil {
			return 0, last, nil
		}
		switch opcode {
		case OpClose:
			if len(payload) < 2 {
				return 1005, last, nil
			}
			return int(binary.BigEndian.Uint16(payload)), last, nil
		case OpText:
			last = string(payload)
		}
	}
}
