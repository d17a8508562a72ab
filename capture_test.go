package hark

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// TestCaptureJSON: every body comes back byte for byte, text or not.
func TestCaptureJSON(t *testing.T) {
	for _, body := range []string{"", "plain", "<script>&\u2028", "\x00\x01", "\xff\xfe binary", `{"a":1}`} {
		c := Capture{ID: 1 << 50, Source: 7, Received: time.UnixMicro(1_800_000_000_000_001).UTC(), Remote: "203.0.113.7", Method: "PURGE",
			Target: "/in/x/a%2Fb?q=<1>", Proto: "HTTP/1.1", Head: []byte("PURGE / HTTP/1.1\r\nX: \xff\r\n\r\n"),
			Header: []HeaderField{{"X-A", "1"}, {"x-a", "2"}}, Body: []byte(body), BodySize: len(body), Truncated: true, Scheme: "github", Reason: "no-secret-matches",
			Detail: "d", Event: EventID{1, 2, 3}, Duplicate: true, Status: 401, ReplayOf: 9}
		if body == "" {
			c.Body = nil
		}
		text, err := json.Marshal(&c)
		if err != nil {
			t.Fatal(err)
		}
		var back Capture
		if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%q: %v\n%s\n%+v", body, err, text, back)
		}
	}
}

// TestCaptureIDOrder: texts sort as the ids do.
func TestCaptureIDOrder(t *testing.T) {
	last := ""
	for _, id := range []CaptureID{1, 31, 32, 1 << 20, 1 << 50, 1<<63 + 5} {
		s := id.String()
		if back, err := ParseCaptureID(s); err != nil || back != id || s <= last {
			t.Errorf("%d: %q after %q, back %d, %v", id, s, last, back, err)
		}
		last = s
	}
	if _, err := ParseCaptureID("evt_1"); err == nil {
		t.Error("another prefix passes")
	}
}
