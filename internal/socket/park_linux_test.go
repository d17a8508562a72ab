package socket

import (
	"net"
	"testing"
)

// TestBuriedBeforeSleep: a connection whose writer gave it back before its reader first wanted
// to sleep is not remembered for ever.
func TestBuriedBeforeSleep(t *testing.T) {
	g, err := NewGroup(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newConn(g, &echo{gone: make(chan string, 1)})
	if c.net, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	c.bury()
	if g.sleepers.sleep(c) {
		t.Error("it sleeps")
	}
	if n := len(g.sleepers.byID); n > 0 {
		t.Errorf("%d are remembered", n)
	}
}
