package rig

import (
	"fmt"
	"net"
	"time"
)

// OneByOne publishes single events on one connection.
type OneByOne struct {
	conn net.Conn
	w    *wire
	req  *request
	n    int64
}

// NewOneByOne connects to the load's Addr.
func NewOneByOne(l Load) (*OneByOne, error) {
	l.Batch = 1
	conn, err := l.dial()
	if err != nil {
		return nil, err
	}
	return &OneByOne{conn: conn, w: newWire(conn), req: newRequest(l)}, nil
}

// Publish sends the next event and returns when it was sent and when it was answered.
func (o *OneByOne) Publish() (sent, answered time.Time, err error) {
	sent = time.Now()
	if _, err = o.conn.Write(o.req.at(sent, o.n)); err != nil {
		return sent, sent, err
	}
	o.n++
	head, body, err := o.w.next()
	if err != nil {
		return sent, sent, err
	}
	if code := status(head); code/100 != 2 {
		return sent, sent, fmt.Errorf("publishing: %d %s", code, body)
	}
	return sent, time.Now(), nil
}

// Close ends the connection.
func (o *OneByOne) Close() { o.conn.Close() }
