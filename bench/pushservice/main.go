// Command pushservice measures the push service: what a browser costs that is connected and
// waits, and how many messages reach browsers in a second, each synced before it is answered and
// acknowledged by its browser.
//
//	go run ./bench/pushservice          # medians of 3 runs
//	go run ./bench/pushservice -short   # 1 run
//
// The browsers are goroutines of this process that speak the protocol; only the server's memory counts.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark/bench/rig"
	"github.com/harkhq/hark/e2e/testenv"
)

const (
	connected = 10_000
	senders   = 64
)

type bench struct{ rig.Common }

func main() {
	rig.Roles()
	b := &bench{}
	b.Define("1 run of 3 s")
	b.DefineProfile()
	flag.IntVar(&b.Runs, "runs", 0, "runs; the medians count (3; 1 if short)")
	flag.DurationVar(&b.Steady, "steady", 0, "how long messages are sent (6s; 3s if short)")
	b.Parse()
	b.Runs = rig.Pick(b.Runs, b.Short, 3, 1)
	b.Steady = rig.Pick(b.Steady, b.Short, 6*time.Second, 3*time.Second)
	b.Main("pushservice", b.measure)
}

func (b *bench) measure(ctx context.Context) (*rig.Result, error) {
	done, err := b.Prepare(ctx, "pushservice")
	if err != nil {
		return nil, err
	}
	defer done()
	result := &rig.Result{Machine: rig.ThisMachine(b.Dir), Setup: fmt.Sprintf("%s browsers; %d runs of %v", rig.Number(connected), b.Runs, b.Steady)}
	idle := rig.Figure{Name: fmt.Sprintf("memory of a connected browser, %s of them", rig.Number(connected)), Unit: "KB each", Bar: rig.Bar{AtMost: 5}}
	live := rig.Figure{Name: "  of a WebSocket of /v1/ws, as many", Unit: "KB each"}
	rate := rig.Figure{Name: "messages, from the send to the browser and its acknowledgment", Unit: "/s", Note: fmt.Sprintf("%d senders; each answered after its sync", senders)}
	after := rig.Figure{Name: "memory of each after that", Unit: "KB"}
	for run := range b.Runs {
		idle1, after1, rate1, err := b.browsers(ctx, fmt.Sprintf("%s/push%d", b.Dir, run))
		if err != nil {
			return nil, err
		}
		live1, err := b.sockets(ctx, fmt.Sprintf("%s/live%d", b.Dir, run))
		if err != nil {
			return nil, err
		}
		idle.Ours, after.Ours, rate.Ours, live.Ours = append(idle.Ours, idle1), append(after.Ours, after1), append(rate.Ours, rate1), append(live.Ours, live1)
	}
	result.Figures = []*rig.Figure{&idle, &live, &rate, &after}
	return result, nil
}

// browsers connects them, lets them be, then sends to them.
func (b *bench) browsers(ctx context.Context, data string) (idle, after, rate float64, err error) {
	s, err := b.Start(ctx, data, "--push-service", "--push-address-rate=-1", fmt.Sprint("--push-address-sockets=", 2*connected))
	if err != nil {
		return 0, 0, 0, err
	}
	defer s.Kill()
	before, err := testenv.RSS(s.PID())
	if err != nil {
		return 0, 0, 0, err
	}
	all := make([]*browser, connected)
	err = each(connected, 32, func(i int) error {
		c, err := dial(s.Setup.Addr, "/push/", "push-notification")
		if err != nil {
			return err
		}
		all[i] = &browser{client: c}
		return all[i].greet(i)
	})
	defer func() {
		for _, c := range all {
			if c != nil {
				c.conn.Close()
			}
		}
	}()
	if err != nil {
		return 0, 0, 0, err
	}
	if err := rig.Sleep(ctx, 3*time.Second); err != nil {
		return 0, 0, 0, err
	}
	grown, err := testenv.RSS(s.PID())
	if err != nil {
		return 0, 0, 0, err
	}
	idle = float64(grown-before) / 1024 / connected
	profiled := b.ProfileServer(ctx, "pushservice", b.Steady)
	rate, err = b.send(ctx, all)
	<-profiled
	if err != nil {
		return 0, 0, 0, err
	}
	grown, err = testenv.RSS(s.PID())
	return idle, float64(grown-before) / 1024 / connected, rate, err
}

// send sends messages to browsers for a while, and waits until all were received.
func (b *bench) send(ctx context.Context, all []*browser) (rate float64, err error) {
	var received, sent atomic.Int64
	for _, c := range all {
		go c.receive(&received)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}, Timeout: 30 * time.Second}
	body := make([]byte, 300)
	body[20], body[21] = 65, 4 // the head of aes128gcm: nobody opens it here
	body[18] = 16
	began := time.Now()
	err = each(senders, senders, func(n int) error {
		for i := n; time.Since(began) < b.Steady && ctx.Err() == nil; i += senders {
			if err := post(client, all[i%len(all)].endpoint, body); err != nil {
				return err
			}
			sent.Add(1)
		}
		return nil
	})
	for deadline := time.Now().Add(10 * time.Second); err == nil && received.Load() < sent.Load(); {
		if time.Now().After(deadline) {
			err = fmt.Errorf("%d messages were sent and %d received", sent.Load(), received.Load())
		}
		if slept := rig.Sleep(ctx, time.Millisecond); slept != nil {
			err = slept
		}
	}
	return float64(received.Load()) / time.Since(began).Seconds(), err
}

// sockets connects as many to the live transport.
func (b *bench) sockets(ctx context.Context, data string) (each1 float64, err error) {
	s, err := b.Start(ctx, data, "--anonymous-topic=open.>")
	if err != nil {
		return 0, err
	}
	defer s.Kill()
	before, err := testenv.RSS(s.PID())
	if err != nil {
		return 0, err
	}
	all := make([]*client, connected)
	err = each(connected, 32, func(i int) (err error) {
		if all[i], err = dial(s.Setup.Addr, "/v1/ws", "hark.v1"); err != nil {
			return err
		}
		all[i].write([]byte(`{"type":"subscribe","sub":"a","topics":["open.a"]}`))
		for range 2 { // hello, subscribed
			if _, err := all[i].read(); err != nil {
				return err
			}
		}
		return nil
	})
	defer func() {
		for _, c := range all {
			if c != nil {
				c.conn.Close()
			}
		}
	}()
	if err != nil {
		return 0, err
	}
	if err := rig.Sleep(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	grown, err := testenv.RSS(s.PID())
	return float64(grown-before) / 1024 / connected, err
}

// each calls fn with 0 to n-1, so many at once, until one fails.
func each(n, atOnce int, fn func(int) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	var failed atomic.Pointer[error]
	for range atOnce {
		wg.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := fn(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// client is a WebSocket of few bytes.
type client struct {
	conn net.Conn
	br   *bufio.Reader
	mu   sync.Mutex
}

func dial(addr, path, protocol string) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", path, addr, protocol)
	c := &client{conn: conn, br: bufio.NewReaderSize(conn, 1024)}
	resp, err := http.ReadResponse(c.br, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New("the upgrade was answered with " + resp.Status)
	}
	return c, err
}

// read returns the next message; pings are answered.
func (c *client) read() ([]byte, error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(c.br, head[:]); err != nil {
			return nil, err
		}
		n := int(head[1] & 127)
		if n == 126 {
			var long [2]byte
			if _, err := io.ReadFull(c.br, long[:]); err != nil {
				return nil, err
			}
			n = int(long[0])<<8 | int(long[1])
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(c.br, payload); err != nil {
			return nil, err
		}
		switch head[0] & 15 {
		case 1:
			return payload, nil
		case 8:
			return nil, fmt.Errorf("closed: %q", payload)
		case 9:
			c.frame(10, payload)
		}
	}
}

func (c *client) write(text []byte) { c.frame(1, text) }

// frame writes one with a mask of zeros.
func (c *client) frame(kind byte, payload []byte) {
	b := []byte{0x80 | kind}
	if len(payload) < 126 {
		b = append(b, 0x80|byte(len(payload)))
	} else {
		b = append(b, 0x80|126, byte(len(payload)>>8), byte(len(payload)))
	}
	b = append(append(b, 0, 0, 0, 0), payload...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.Write(b)
}

// browser is a user agent with one subscription.
type browser struct {
	*client
	channel, endpoint string
}

func (c *browser) greet(i int) error {
	c.channel = fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
	c.write([]byte(`{"messageType":"hello","use_webpush":true}`))
	if _, err := c.read(); err != nil {
		return err
	}
	c.write([]byte(`{"messageType":"register","channelID":"` + c.channel + `"}`))
	text, err := c.read()
	if err != nil {
		return err
	}
	var answer struct {
		Status       int
		PushEndpoint string
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Status != 200 {
		return fmt.Errorf("register was answered with %s", text)
	}
	c.endpoint = answer.PushEndpoint
	return nil
}

// receive acknowledges what comes, until the connection ends.
func (c *browser) receive(n *atomic.Int64) {
	for {
		text, err := c.read()
		if err != nil {
			return
		}
		var m struct{ MessageType, Version string }
		if json.Unmarshal(text, &m) == nil && m.MessageType == "notification" {
			n.Add(1)
			c.write([]byte(`{"messageType":"ack","updates":[{"channelID":"` + c.channel + `","version":"` + m.Version + `","code":100}]}`))
		}
	}
}

func post(client *http.Client, endpoint string, body []byte) error {
	r, err := http.NewRequest("POST", endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("TTL", "60")
	r.Header.Set("Content-Encoding", "aes128gcm")
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = errors.New(resp.Status + ": " + string(text))
	}
	return err
}
