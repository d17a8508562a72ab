package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// patience is how long a client may take for a whole request before it is cut
// off (60 s), and some time to do it in.
const patience = 75 * time.Second

// TestSlowClients: whoever sends a byte now and then, never ends a body, or
// floods with headers is told so or cut off in bounded time; meanwhile others
// are served and memory stays where it was.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	before, err := testenv.RSS(w.server.PID())
	if err != nil {
		t.Fatal(err)
	}
	head := "POST /v1/events HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nAuthorization: Bearer " + w.api.Key + "\r\n"
	kinds := []slowClient{
		{name: "headers byte by byte", say: "POST /v1/events HTTP/1.1\r\n", drip: "X-A: b\r\n", within: 20 * time.Second, statuses: "408 400"},
		{name: "headers that never end", say: head + "X-A: ", within: 20 * time.Second, statuses: "408 400"},
		{name: "a body byte by byte", say: head + "Content-Length: 100000\r\n\r\n{", drip: " ", within: patience, statuses: "408 400"},
		{name: "a body that never comes", say: head + "Content-Length: 10\r\n\r\n", within: patience, statuses: "408 400"},
		{name: "much promised and not sent", say: head + "Content-Length: 12000000\r\n\r\n" + strings.Repeat(" ", 70_000), within: patience, statuses: "408 400"},
		{name: "chunks byte by byte", say: head + "Transfer-Encoding: chunked\r\n\r\n", drip: "1\r\n \r\n", within: patience, statuses: "408 400"},
		{name: "a header of megabytes", say: head + "X-A: " + strings.Repeat("a", 4<<20), within: 20 * time.Second, statuses: "431 400"},
		{name: "headers without number", say: head + strings.Repeat("X-A: b\r\n", 1<<19), within: 20 * time.Second, statuses: "431 400"},
		{name: "a line of nonsense", say: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", within: 20 * time.Second, statuses: "400"},
		{name: "two lengths", say: head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", within: 20 * time.Second, statuses: "400"},
		{name: "length and chunks", say: head + "Content-Length: 2\r\nTransfer-Encoding: gzip\r\n\r\n{}", within: 20 * time.Second, statuses: "400 501"},
	}
	const each = 40
	done := make(chan string, each*len(kinds))
	for _, kind := range kinds {
		for range each {
			go func() { done <- kind.play(w.server.Setup.Addr) }()
		}
	}
	// Meanwhile, others are served.
	w.to("/meanwhile", "meanwhile")
	most := before
	for range 20 {
		begin := time.Now()
		w.publish("meanwhile", "x")
		if took := time.Since(begin); took > 10*time.Second { // long before the others are cut off
			t.Errorf("a publish took %v beside slow clients", took)
		}
		time.Sleep(50 * time.Millisecond)
		now, err := testenv.RSS(w.server.PID())
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, now)
	}
	w.wait("/meanwhile", 20)
	said := map[string]int{}
	for range cap(done) {
		if s := <-done; s != "" {
			said[s]++
		}
	}
	for s, n := range said {
		t.Errorf("%d× %s", n, s)
	}
	t.Logf("memory %d MiB, at most %d MiB beside slow clients", before>>20, most>>20)
	if grown := most - before; grown > 100<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	if events := w.storedEvents("%3E"); len(events) != 20 {
		t.Errorf("%d events are stored, 20 were published whole", len(events))
	}
}

// slowClient says something, then drips, and expects one of the statuses, or to
// be cut off, within a time.
type slowClient struct {
	name, say, drip string
	within          time.Duration
	statuses        string
}

// play returns what is wrong, "" for nothing.
func (s slowClient) play(addr string) string {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return s.name + ": " + err.Error()
	}
	defer conn.Close()
	begin := time.Now()
	conn.SetDeadline(begin.Add(s.within))
	go func() {
		if _, err := conn.Write([]byte(s.say)); err != nil || s.drip == "" {
			return
		}
		for time.Since(begin) < s.within {
			time.Sleep(time.Second)
			if _, err := conn.Write([]byte(s.drip)); err != nil {
				return
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return fmt.Sprintf("%s: after %v it is still served", s.name, s.within)
	}
	if err != nil {
		return "" // cut off
	}
	defer resp.Body.Close()
	if !strings.Contains(s.statuses, fmt.Sprint(resp.StatusCode)) {
		return fmt.Sprintf("%s: answered %s, want %s or a closed connection", s.name, resp.Status, s.statuses)
	}
	return ""
}
