package rig

import (
	"crypto/tls"
	"net"
	"time"
)

// runTLS connects the thread's subscribers over TLS, a goroutine for each.
func (t *readerThread) runTLS() {
	t.mu.Lock()
	t.started = time.Now().UnixNano()
	t.mu.Unlock()
	tickets := make(chan struct{}, max(1, t.s.setup.Pending/t.s.setup.Threads))
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	for i := range t.subs {
		tickets <- struct{}{}
		go t.overTLS(&t.subs[i], config, tickets)
	}
}

// overTLS is one subscriber's life.
func (t *readerThread) overTLS(c *subscriber, config *tls.Config, tickets chan struct{}) {
	dialer := net.Dialer{Timeout: 30 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(t.s.setup.Source), byte(1+c.number%sources))}}
	t.mu.Lock()
	c.state, c.since = subHead, time.Now().UnixNano()
	t.pending++
	t.mu.Unlock()
	conn, err := tls.DialWithDialer(&dialer, "tcp", t.s.setup.Addr, config)
	if err == nil {
		_, err = conn.Write(t.s.request(nil, int(c.number), t.s.setup.After))
	}
	if err != nil {
		<-tickets
		t.loseTLS(c, err)
		return
	}
	defer conn.Close()
	buf := make([]byte, 4<<10)
	for held := true; ; {
		n, err := conn.Read(buf)
		if err != nil {
			t.loseTLS(c, err)
			return
		}
		if t.takeTLS(c, buf[:n]); held && c.live {
			held = false
			<-tickets
		}
	}
}

func (t *readerThread) loseTLS(c *subscriber, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lose(c, "%v", err)
}

func (t *readerThread) takeTLS(c *subscriber, got []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.judge.Events
	kept := len(c.carry)
	c.carry = append(c.carry, got...)
	rest, _ := t.take(c, kept, c.carry, time.Now().UnixNano())
	if c.state == subGone {
		return
	}
	c.carry = append(c.carry[:0], rest...)
	if c.primed && !c.live {
		t.isLive(c)
	}
	t.want(c)
	if got := t.judge.Events - before; got > 0 {
		t.s.counters.Delivered.Add(got)
	}
}
