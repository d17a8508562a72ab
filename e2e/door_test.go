package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// doorWorld is a server with a source that takes everything.
func doorWorld(t *testing.T, source map[string]any) (w *world, path string) {
	t.Helper()
	w = start(t, testenv.Setup{Flags: []string{"--source-rate=-1"}})
	return w, w.source(source)
}

// source makes a source and returns the path of its URL.
func (w *world) source(source map[string]any) string {
	w.Helper()
	var made struct{ URL string }
	w.post("/v1/sources", source, &made)
	return made.URL[strings.Index(made.URL, "/in/"):]
}

// raw says bytes on a connection of its own and returns the answer.
func (w *world) raw(say string) (status int, header http.Header, body string) {
	w.Helper()
	conn, err := net.Dial("tcp", w.server.Setup.Addr)
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(enough))
	go io.WriteString(conn, say)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.Fatalf("%.100q: %v", say, err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode/100 == 3 || strings.Contains(resp.Header.Get("Content-Type"), "html") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		w.Errorf("%.100q: answered %s %v", say, resp.Status, resp.Header)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func posting(path, body string, headers ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n%s", path, strings.Join(append(headers, ""), "\r\n"), len(body), body)
}

// TestDoorTricks: what a stranger can make of a path, a method or a header leads to a clear
// answer, never to a redirect or to HTML, and to an event only where it should.
func TestDoorTricks(t *testing.T) {
	t.Parallel()
	w, path := doorWorld(t, map[string]any{"scheme": "none", "topic": "t.{body.kind}.{header.X-Kind}", "key": "{body.kind}", "attributes": map[string]string{"kind": "{body.kind}"}})
	for _, c := range []struct {
		say    string
		status int
	}{
		{posting(path, "x"), 200}, {posting(path+"/", "x"), 200}, {posting(path+"//a/../../v1/keys%2F%00", "x"), 200},
		{"DELETE " + path + " HTTP/1.1\r\nHost: h\r\n\r\n", 200}, {"POST " + path + " HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", 200},
		{posting("http://other.example"+path, "x"), 200},
		{posting("/"+path, "x"), 404}, {posting("/in/.."+path, "x"), 404}, {posting("/x/.."+path, "x"), 404}, {posting("/in/", "x"), 404},
		{posting("/in%2F"+path[4:], "x"), 404}, {posting(path+"%2Fx", "x"), 404}, {posting(path+"<script>", "x"), 404}, {posting(strings.ToUpper(path), "x"), 404},
		{"POST " + path + " HTTP/1.1\r\nHost: h\r\nOrigin: https://evil.example\r\nContent-Length: 1\r\n\r\nx", 403},
	} {
		if status, _, body := w.raw(c.say); status != c.status || status != 200 && !strings.Contains(body, `"code"`) {
			t.Errorf("%.80q: %d %s, want %d", c.say, status, body, c.status)
		}
	}
	if events := w.storedEvents("%3E"); len(events) != 6 {
		t.Errorf("%d events, 6 were accepted", len(events))
	}

	// HTTP/2 without TLS, too.
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	resp, err := h2.Post(w.server.URL+path, "application/json", strings.NewReader(`{"kind":"h2"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	h2.CloseIdleConnections()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("%s %s", resp.Proto, resp.Status)
	}

	// Values that would break out of where they stand, and a body too deep to look into.
	for body, topic := range map[string]string{
		`{"kind":"a\r\nX-Evil: 1\u0000<b>"}`:                                   "t.a__X-Evil__1__b_.unknown",
		`{"kind":"hark.delivery.dead"}`:                                        "t.hark.delivery.dead.unknown",
		`{"kind":` + strings.Repeat("[", 500_000):                              "t.unknown.unknown",
		`{"kind":` + strings.Repeat(`{"a":`, 100_000) + strings.Repeat("}", 9): "t.unknown.unknown",
		`{"kind":"` + strings.Repeat("a.", 400) + `"}`:                         "t.a.a.a.a.a.a.a.a" + strings.Repeat("_a", 119) + ".unknown",
	} {
		status, _, answer := w.raw(posting(path, body, "Content-Type: application/json"))
		if status != 200 {
			t.Errorf("%.60s: %d %s", body, status, answer)
			continue
		}
		events := w.storedEvents("%3E")
		last := events[len(events)-1]
		if last.Topic != topic && !(len(topic) > 255 && strings.HasPrefix(topic, last.Topic)) {
			t.Errorf("%.60s: topic %s, want %s", body, last.Topic, topic)
		}
	}
	// A sender's address is not what it says.
	closed := w.source(map[string]any{"scheme": "none", "allow_ips": []string{"192.0.2.0/24"}})
	if status, _, body := w.raw(posting(closed, "x", "X-Forwarded-For: 192.0.2.7", "Forwarded: for=192.0.2.7", "X-Real-IP: 192.0.2.7")); status != 403 || !strings.Contains(body, "sender-not-allowed") {
		t.Errorf("%d %s", status, body)
	}
}

// TestDoorFloods: bodies without end, bombs and slow senders cost a bounded amount of
// memory and time, and others are served meanwhile.
func TestDoorFloods(t *testing.T) {
	t.Parallel()
	w, path := doorWorld(t, map[string]any{"scheme": "none", "topic": "flood"})
	before, err := testenv.RSS(w.server.PID())
	if err != nil {
		t.Fatal(err)
	}
	head := "POST " + path + " HTTP/1.1\r\nHost: h\r\n"
	const patience = 28 * time.Second
	kinds := []slowClient{
		{name: "10 GB declared", say: head + "Content-Length: 10737418240\r\n\r\n" + strings.Repeat("x", 1<<20), within: patience, statuses: "413"},
		{name: "chunks without end", say: head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 64), within: patience, statuses: "413"},
		{name: "a body that never comes", say: head + "Content-Length: 1000000\r\n\r\n", within: patience, statuses: "408"},
		{name: "a body byte by byte", say: head + "Content-Length: 1000000\r\n\r\n", drip: "x", within: patience, statuses: "408"},
		{name: "chunks byte by byte", say: head + "Transfer-Encoding: chunked\r\n\r\n", drip: "1\r\nx\r\n", within: patience, statuses: "408"},
		{name: "headers without number", say: head + strings.Repeat("X-A: b\r\n", 1<<16), within: patience, statuses: "431"},
		{name: "a header of a megabyte", say: head + "X-A: " + strings.Repeat("a", 1<<20), within: patience, statuses: "431"},
	}
	const each = 30
	done := make(chan string, each*len(kinds))
	for _, kind := range kinds {
		for range each {
			go func() { done <- kind.play(w.server.Setup.Addr) }()
		}
	}
	most := before
	for range 20 {
		begin := time.Now()
		if status, _, body := w.raw(posting(path, "fine")); status != 200 {
			t.Errorf("beside a flood: %d %s", status, body)
		}
		if took := time.Since(begin); took > patience/2 { // long before the others are cut off
			t.Errorf("an answer took %v beside a flood", took)
		}
		now, err := testenv.RSS(w.server.PID())
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, now)
		time.Sleep(50 * time.Millisecond)
	}
	for range cap(done) {
		if s := <-done; s != "" {
			t.Error(s)
		}
	}
	t.Logf("memory %d MiB, at most %d MiB beside the flood", before>>20, most>>20)
	if grown := most - before; grown > 150<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	if events := w.storedEvents("flood"); len(events) != 20 {
		t.Errorf("%d events, 20 were sent whole", len(events))
	}
}

// TestDoorKeepsBytes: a gzip bomb is bytes like others, stored as they were sent.
func TestDoorKeepsBytes(t *testing.T) {
	t.Parallel()
	w, path := doorWorld(t, map[string]any{"scheme": "none", "topic": "bomb.{body.a}"})
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	io.CopyN(z, zeros{}, 200<<20)
	z.Close()
	before, _ := testenv.RSS(w.server.PID())
	if status, _, body := w.raw(posting(path, bomb.String(), "Content-Encoding: gzip", "Content-Type: application/json")); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	after, _ := testenv.RSS(w.server.PID())
	if grown := after - before; grown > 50<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	var page struct {
		Events []struct {
			Topic      string
			Data64     string            `json:"data_base64"`
			Attributes map[string]string `json:"attributes"`
		}
	}
	if err := w.api.Call(context.Background(), "GET", "/v1/events?from=earliest&topic=bomb.*", nil, &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Events) != 1 || page.Events[0].Attributes["content-encoding"] != "gzip" || page.Events[0].Data64 != base64.StdEncoding.EncodeToString(bomb.Bytes()) {
		t.Errorf("%d events", len(page.Events))
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
