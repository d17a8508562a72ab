package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// abuse is what somebody does to a WebSocket that said hello, and the close codes
// that may answer it; 0 stands for an end without a close frame.
type abuse struct {
	name  string
	send  func(f *live.Frames) error
	codes []int
}

func sends(frames ...[]byte) func(*live.Frames) error {
	return func(f *live.Frames) error {
		_, err := f.Conn.Write(slices.Concat(frames...))
		return err
	}
}

var (
	// breach is what RFC 6455 section 7.4.1 has for a breach of the protocol, and our own.
	breach   = []int{1002, 4400}
	tooLarge = []int{1009, 4413}
)

var abuses = []abuse{
	{"a frame without mask", sends(live.Bare(0x80|live.OpText, false, []byte(`{"type":"ping"}`))), breach},
	{"reserved bit 1", sends(live.Bare(0xC0|live.OpText, true, []byte(`{"type":"ping"}`))), breach},
	{"reserved bit 3", sends(live.Bare(0x90|live.OpText, true, []byte(`{"type":"ping"}`))), breach},
	{"a reserved opcode", sends(live.Bare(0x83, true, []byte(`{}`))), breach},
	{"a reserved control opcode", sends(live.Bare(0x8B, true, nil)), breach},
	{"a ping in fragments", sends(live.Bare(live.OpPing, true, []byte("a"))), breach},
	{"a ping of 126 bytes", sends(live.Bare(0x80|live.OpPing, true, make([]byte, 126))), breach},
	{"a continuation of nothing", sends(live.Bare(0x80, true, []byte(`{}`))), breach},
	{"a message within a message", sends(live.Bare(live.OpText, true, []byte(`{`)), live.Text(`{"type":"ping"}`)), breach},
	{"a length whose first bit is set", sends(live.Promise(1 << 63)), slices.Concat(breach, tooLarge)},
	{"a frame of a terabyte", sends(live.Promise(1<<40), make([]byte, 8<<20)), slices.Concat([]int{0}, tooLarge)},
	// Its pong cannot come either, so it may be taken for gone first.
	{"a frame that is promised and does not come", sends(live.Promise(1000)), []int{0, 4400}},
	{"invalid UTF-8", sends(live.Bare(0x80|live.OpText, true, []byte("{\"type\":\"\xff\xfe\"}"))), []int{1007, 4400}},
	{"UTF-8 cut by a fragment's end that never goes on", sends(live.Bare(live.OpText, true, []byte("{\"type\":\"\xe2\x82")), live.Bare(0x80, true, []byte(`"}`))), []int{1007, 4400}},
	{"a binary message", sends(live.Bare(0x80|live.OpBinary, true, []byte(`{"type":"ping"}`))), []int{1003, 4400}},
	{"a close of one byte", sends(live.Bare(0x80|live.OpClose, true, []byte{3})), breach},
	{"a close with a code that must not be sent", sends(live.Bare(0x80|live.OpClose, true, []byte{0x03, 0xED})), breach},
	{"no JSON", sends(live.Text(`hello`)), []int{4400}},
	{"no object", sends(live.Text(`[1,2]`)), []int{4400}},
	{"JSON of great depth", sends(live.Text(strings.Repeat(`[`, 100_000))), slices.Concat([]int{4400}, tooLarge)},
	{"fragments without end", endless, tooLarge},
	{"empty fragments without end", endlessEmpty, slices.Concat([]int{0, 1008}, breach, tooLarge)},
}

// endless sends a message in fragments of 16 KB that has no end.
func endless(f *live.Frames) error {
	frame := live.Bare(live.OpText, true, []byte(`{"type":"publish","topic":"a","data":"`))
	for range 4096 {
		if _, err := f.Conn.Write(frame); err != nil {
			return nil // cut off
		}
		frame = live.Bare(live.OpContinue, true, make([]byte, 16<<10))
	}
	return nil
}

// endlessEmpty sends fragments that carry nothing, for some time.
func endlessEmpty(f *live.Frames) error {
	if _, err := f.Conn.Write(live.Bare(live.OpText, true, []byte(`{`))); err != nil {
		return nil
	}
	many := slices.Repeat(live.Bare(live.OpContinue, true, nil), 1000)
	for range 200 {
		if _, err := f.Conn.Write(many); err != nil {
			return nil
		}
	}
	f.Conn.Write(live.Bare(0x80, true, []byte("no JSON"))) // perhaps it is cut off by now
	return nil
}

// TestLiveSocketAbuse: whatever is done to a WebSocket ends that one, with the close
// code that says why; beside it a follower goes on, and the server holds no more
// memory than before.
func TestLiveSocketAbuse(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	for _, by := range live.All {
		c := a.client("beside, "+string(by), "a.>")
		c.Start.Rounds = 0
		a.follow(c, live.Always(by), live.Patience{})
	}
	a.listening()
	before := a.memory()
	said := make(chan string, 10*len(abuses))
	for _, abuse := range abuses {
		for range 10 {
			go func() { said <- abuse.play(a) }()
		}
	}
	for range cap(said) {
		if s := <-said; s != "" {
			t.Error(s)
		}
	}
	a.pingFlood()
	a.neverReads()
	a.say(0, "a.after")
	a.settle()
	a.judge()
	for _, c := range a.clients {
		if n := len(c.Connections()); n != 1 {
			t.Errorf("%s needed %d connections: %v", c.Name, n, c.Errors())
		}
	}
	if grown := a.memory() - before; grown > 100<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
}

func (b abuse) play(a *audience) string {
	f, err := live.DialFrames(a.ctx, a.target)
	if err != nil {
		return b.name + ": " + err.Error()
	}
	defer f.Conn.Close()
	if err := b.send(f); err != nil && !slices.Contains(b.codes, 0) { // cut off in the midst of it
		return b.name + ": " + err.Error()
	}
	code, last, err := f.Fate(40 * time.Second)
	if err != nil {
		return b.name + ": " + err.Error()
	}
	if !slices.Contains(b.codes, code) && !(code == 0 && strings.Contains(b.name, "without end")) {
		return fmt.Sprintf("%s: closed with %d, want one of %v; before it came %s", b.name, code, b.codes, last)
	}
	return ""
}

// pingFlood sends pings and never reads: the pongs must not pile up.
func (a *audience) pingFlood() {
	a.Helper()
	before := a.memory()
	for range 5 {
		f, err := live.DialFrames(a.ctx, a.target)
		if err != nil {
			a.Fatal(err)
		}
		defer f.Conn.Close()
		f.Conn.SetWriteDeadline(time.Now().Add(3 * time.Second))
		many := slices.Repeat(live.Bare(0x80|live.OpPing, true, make([]byte, 125)), 500)
		for range 400 { // 25 MB of pings, and as many pongs
			if _, err := f.Conn.Write(many); err != nil {
				break // cut off, or no longer read: both are bounds
			}
		}
	}
	if grown := a.memory() - before; grown > 40<<20 {
		a.Errorf("unread pongs made memory grow by %d MiB", grown>>20)
	}
}

// neverReads subscribes to much and reads nothing.
func (a *audience) neverReads() {
	a.Helper()
	tap := live.NewTap()
	to := a.target
	to.Dial = tap.Dial
	for range 20 {
		f, err := live.DialFrames(a.ctx, to)
		if err != nil {
			a.Fatal(err)
		}
		defer f.Conn.Close()
		for i := range 100 {
			if _, err := f.Conn.Write(live.Text(fmt.Sprintf(`{"type":"subscribe","sub":"%d","topics":["a.>"]}`, i))); err != nil {
				a.Fatal(err)
			}
		}
	}
	before := a.memory()
	for range 20 {
		a.say(4000, slices.Repeat([]string{"a.much"}, 50)...) // 4 MB, for each of 2,000 subscriptions
	}
	if grown := a.memory() - before; grown > 120<<20 {
		a.Errorf("subscriptions that are not read made memory grow by %d MiB", grown>>20)
	}
}
