package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestLiveBadRequests: what is asked wrongly is refused for good, on every transport, by a
// problem that names the field; never with a stream, never with a 5xx.
func TestLiveBadRequests(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	id := a.say(0, "a.first")
	many := make([]string, 5000)
	for i := range many {
		many[i] = fmt.Sprintf("topic.number.%d", i)
	}
	for _, bad := range []struct {
		field string
		query url.Values
	}{
		{"after", url.Values{"after": {"nonsense"}}},
		{"after", url.Values{"after": {"evt_zz"}}},
		{"after", url.Values{"after": {id + "0"}}},
		{"after", url.Values{"after": {strings.ToUpper(id)}}},
		{"after", url.Values{"after": {"evt_" + strings.Repeat("v", 24)}}},
		{"after", url.Values{"after": {strings.Repeat("x", 3000)}}},
		{"after", url.Values{"after": {id}, "from": {"earliest"}}},
		{"last", url.Values{"after": {id}, "last": {"5"}}},
		{"last", url.Values{"from": {"now"}, "last": {"5"}}},
		{"last", url.Values{"last": {"0"}}},
		{"last", url.Values{"last": {"1001"}}},
		{"last", url.Values{"last": {"-1"}}},
		{"last", url.Values{"last": {"9999999999999999999999"}}},
		{"from", url.Values{"from": {"yesterday"}}},
		{"from", url.Values{"from": {"2026-13-01T00:00:00Z"}}},
		{"topic", url.Values{"topic": {"a..b"}}},
		{"topic", url.Values{"topic": {""}}},
		{"topic", url.Values{"topic": {">.a"}}},
		{"topic", url.Values{"topic": {"a b"}}},
		{"topic", url.Values{"topic": {strings.Repeat("a", 256)}}},
		{"topic", url.Values{"topic": many[:65]}},
		{"topic", url.Values{"topic": many[:1000]}},
		{"", url.Values{"topic": many}}, // the head alone is too large
	} {
		for by, path := range map[live.Transport]string{live.SSE: "/v1/stream", live.NDJSON: "/v1/stream", live.Poll: "/v1/events", live.LongPoll: "/v1/events"} {
			q := url.Values{"topic": {"a.>"}}
			for name, values := range bad.query {
				q[name] = values
			}
			accept := map[live.Transport]string{live.SSE: "text/event-stream", live.NDJSON: "application/x-ndjson"}[by]
			if by == live.LongPoll {
				q.Set("wait", "20")
			}
			answer, err := a.api.Do(a.ctx, "GET", path+"?"+q.Encode(), nil, "Accept", accept)
			a.refused(fmt.Sprintf("%s %.100q", by, bad.query), bad.field, answer, err)
		}
	}
	for _, header := range []string{"nonsense", "evt_zz", "\xff\xfe", strings.Repeat("e", 5000)} {
		answer, err := a.api.Do(a.ctx, "GET", "/v1/stream?topic=a", nil, "Accept", "text/event-stream", "Last-Event-ID", header)
		a.refused(fmt.Sprintf("Last-Event-ID %.30q", header), "", answer, err)
	}
	for _, query := range []string{"wait=31", "wait=-1", "wait=NaN", "wait=1e9", "limit=0", "limit=1001", "limit=x"} {
		answer, err := a.api.Do(a.ctx, "GET", "/v1/events?topic=a&"+query, nil)
		field, _, _ := strings.Cut(query, "=")
		a.refused(query, field, answer, err)
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		for _, path := range []string{"/v1/stream", "/v1/ws"} {
			answer, err := a.api.Do(a.ctx, method, path, nil)
			if err != nil || answer.Status != 405 {
				t.Errorf("%s %s: %s %v", method, path, answer, err)
			}
		}
	}
	for _, path := range []string{"/v1/stream?topic=a", "/v1/events?topic=a"} {
		answer, err := testenv.API{Base: a.server.URL}.Do(a.ctx, "GET", path, nil)
		if err != nil || answer.Status != 401 {
			t.Errorf("%s without a credential: %s %v", path, answer, err)
		}
	}
	a.say(0, "a.still.here")
}

// refused checks an answer for good.
func (a *audience) refused(what, field string, answer testenv.Answer, err error) {
	a.Helper()
	if err != nil {
		a.Errorf("%s: %v", what, err)
		return
	}
	if field == "" && (answer.Status == 431 || answer.Status == 414) {
		return
	}
	p, err := answer.Problem()
	if answer.Status != 400 && answer.Status != 422 || err != nil {
		a.Errorf("%s was answered %.300s, %v", what, answer, err)
		return
	}
	if field == "after" && p.Code == "bad-id" && strings.Contains(p.Detail, "cursor") {
		return
	}
	if field != "" && !strings.Contains(p.Detail, field) && !slices.ContainsFunc(p.Errors, func(e struct {
		Field string `json:"field"`
		Msg   string `json:"msg"`
	}) bool {
		return strings.Contains(e.Field, field)
	}) {
		a.Errorf("%s: the problem does not name %s: %s", what, field, answer)
	}
}

// TestLiveBadSockets: heads that never end, floods of headers, connections that are
// opened and left, requests one behind another, talk on a stream: all bounded, and a
// follower beside them notices nothing.
func TestLiveBadSockets(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	for _, by := range live.All {
		c := a.client("beside, "+string(by), "a.>")
		c.Start.Rounds = 0
		a.follow(c, live.Always(by), live.Patience{})
	}
	a.listening()
	before := a.memory()
	addr, auth := a.server.Setup.Addr, "Host: h\r\nAuthorization: Bearer "+a.api.Key+"\r\n"
	var kinds []slowClient
	for _, path := range []string{"/v1/stream?topic=a", "/v1/ws", "/v1/events?topic=a&wait=20"} {
		head := "GET " + path + " HTTP/1.1\r\n" + auth
		kinds = append(kinds,
			slowClient{name: path + ": headers that never end", say: head + "X-A: ", within: 20 * time.Second, statuses: "408 400"},
			slowClient{name: path + ": headers byte by byte", say: head, drip: "X-A: b\r\n", within: 20 * time.Second, statuses: "408 400"},
			slowClient{name: path + ": a header of megabytes", say: head + "Last-Event-ID: " + strings.Repeat("a", 4<<20), within: 20 * time.Second, statuses: "431 400"},
			slowClient{name: path + ": headers without number", say: head + strings.Repeat("X-A: b\r\n", 1<<19), within: 20 * time.Second, statuses: "431 400"},
			slowClient{name: path + ": a cookie of a megabyte", say: head + "Cookie: hark_token=" + strings.Repeat("a", 1<<20) + "\r\n\r\n", within: 20 * time.Second, statuses: "431 400"},
			slowClient{name: path + ": a URL of a megabyte", say: "GET " + path + strings.Repeat("&topic=a", 1<<17) + " HTTP/1.1\r\n" + auth + "\r\n", within: 20 * time.Second, statuses: "431 414 400"},
		)
	}
	said := make(chan string, 20*len(kinds))
	for _, kind := range kinds {
		for range 20 {
			go func() { said <- kind.play(addr) }()
		}
	}
	left := a.leave(addr, auth)
	for range 10 {
		a.say(1000, slices.Repeat([]string{"a.x"}, 100)...)
		if took := a.reached(a.clients, a.book.Last("a.>")); took > 8*time.Second { // before those are cut off
			t.Errorf("beside bad clients the others were %v late", took)
		}
	}
	for range cap(said) {
		if s := <-said; s != "" {
			t.Error(s)
		}
	}
	grown := a.memory() - before
	t.Logf("memory grew by %d MiB", grown>>20)
	if grown > 150<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	for _, c := range left {
		c.Close()
	}
	a.say(0, "a.after")
	a.settle()
	a.judge()
	for _, c := range a.clients {
		if n := len(c.Connections()); n != 1 {
			t.Errorf("%s needed %d connections: %v", c.Name, n, c.Errors())
		}
	}
}

// leave opens connections that nobody reads from: nothing sent, half a head, a stream, a
// stream with more requests and bytes behind it, one whose writing side is shut.
func (a *audience) leave(addr, auth string) (left []net.Conn) {
	a.Helper()
	stream := "GET /v1/stream?topic=a.%3E&from=earliest HTTP/1.1\r\n" + auth + "\r\n"
	for i := range 250 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			a.Fatal(err)
		}
		left = append(left, c)
		switch i % 5 {
		case 1:
			_, err = c.Write([]byte(stream[:20]))
		case 2:
			_, err = c.Write([]byte(stream))
		case 3:
			_, err = c.Write([]byte(strings.Repeat(stream, 20)))
		case 4:
			_, err = c.Write([]byte(stream))
			if err == nil {
				err = c.(*net.TCPConn).CloseWrite()
			}
		}
		if err != nil {
			a.Fatal(err)
		}
	}
	return left
}

// TestLiveTalkative: a client that shuts its writing side after its request, or goes on
// talking on its stream, still reads a stream.
func TestLiveTalkative(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	for name, after := range map[string]func(*net.TCPConn) error{
		"shuts its side": (*net.TCPConn).CloseWrite,
		"goes on talking": func(c *net.TCPConn) error {
			_, err := c.Write([]byte("and another thing\r\n\r\n"))
			return err
		},
	} {
		c, err := net.Dial("tcp", a.server.Setup.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /v1/stream?topic=a.%%3E HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nAccept: text/event-stream\r\n\r\n", a.api.Key)
		c.SetReadDeadline(time.Now().Add(enough))
		in := bufio.NewReader(c)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		blocks := live.NewBlocks(resp.Body)
		if b, err := blocks.Next(); err != nil || !b.HasID {
			t.Fatal(b, err)
		}
		if err := after(c.(*net.TCPConn)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // the server has noticed by then, if it does
		id := a.say(0, "a.x")
		for {
			b, err := blocks.Next()
			if name == "shuts its side" && err != nil {
				t.Logf("a client that %s is taken for gone: %v", name, err)
				break // as net/http does; RFC 9112 section 9.6 lets a server take it for the end
			}
			if err != nil {
				t.Errorf("a client that %s: %v", name, err)
				break
			}
			if b.HasData {
				if b.ID != id {
					t.Errorf("a client that %s got %+v", name, *b)
				}
				break
			}
		}
	}
}
