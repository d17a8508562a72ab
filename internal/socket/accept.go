package socket

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Refusal is what is wrong with a request for a WebSocket.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Accept does the handshake (RFC 6455 section 4.2), with the first of the subprotocols that the
// client offers. The request's Origin is not looked at. Without an error there is no connection
// if the client went away. With a [Refusal], the request is not answered yet.
func (g *Group) Accept(w http.ResponseWriter, r *http.Request, h Handler, subprotocols ...string) (*Conn, error) {
	key, err := checkRequest(w.Header(), r)
	if err != nil {
		return nil, err
	}
	head := w.Header()
	head["Upgrade"] = []string{"websocket"}
	head["Connection"] = []string{"Upgrade"}
	head["Sec-Websocket-Accept"] = []string{acceptKey(key)}
	if p := chooseProtocol(r, subprotocols); p != "" {
		head["Sec-Websocket-Protocol"] = []string{p}
	}
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	early, _ := buf.Reader.Peek(buf.Reader.Buffered()) // of a client that does not wait for our answer
	early = bytes.Clone(early)
	if err := buf.Writer.Flush(); err != nil {
		conn.Close()
		return nil, nil
	}
	c := newConn(g, h)
	if c.net, err = lean(conn, g.cfg.SlowAfter); err != nil {
		conn.Close()
		return nil, nil
	}
	if len(early) > 0 {
		c.br = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), c.net), readBuffer)
		c.early = true
	}
	return c, nil
}

// checkRequest returns the client's key.
func checkRequest(answer http.Header, r *http.Request) (key string, err error) {
	switch {
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor > 1:
		return "", Refusal("a WebSocket begins with a request of HTTP/1.1")
	case !hasToken(r.Header["Connection"], "upgrade") || !hasToken(r.Header["Upgrade"], "websocket"):
		answer["Upgrade"] = []string{"websocket"}
		return "", Refusal("the request must ask for a WebSocket with \"Connection: Upgrade\" and \"Upgrade: websocket\"")
	case r.Method != http.MethodGet:
		return "", Refusal("a WebSocket begins with a GET")
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		answer["Sec-Websocket-Version"] = []string{"13"}
		return "", Refusal("Sec-WebSocket-Version must be 13")
	}
	keys := r.Header["Sec-Websocket-Key"]
	if len(keys) != 1 {
		return "", Refusal("there must be one Sec-WebSocket-Key")
	}
	key = strings.TrimSpace(keys[0])
	if b, err := base64.StdEncoding.DecodeString(key); err != nil || len(b) != 16 {
		return "", Refusal("Sec-WebSocket-Key must be 16 bytes in base64")
	}
	return key, nil
}

func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

func chooseProtocol(r *http.Request, ours []string) string {
	for _, p := range ours {
		if hasToken(r.Header["Sec-Websocket-Protocol"], p) {
			return p
		}
	}
	return ""
}

// acceptKey is what shows a client that its key was read.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// lean takes a connection out of what the listeners wrapped around it: their buffers, and
// their count of connections that make requests.
func lean(c net.Conn, slowAfter time.Duration) (net.Conn, error) {
	if !CanPark {
		return c, nil
	}
	// The kernel's patience is longer than ours: the last words are to be sent.
	fd, err := Unpark(c, slowAfter+30*time.Second)
	if errors.Is(err, errors.ErrUnsupported) { // TLS
		return c, nil
	} else if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "websocket")
	defer f.Close()
	return net.FileConn(f)
}
