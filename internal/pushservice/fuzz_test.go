package pushservice

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark/internal/store"
)

var exampleFrames = []string{
	`{"messageType":"hello","broadcasts":{},"use_webpush":true}`,
	`{"messageType":"hello","uaid":"7fc711c503105e582202314ab3c0b0a6","channelIDs":[]}`,
	`{"messageType":"register","channelID":"6cf92efc-2512-4197-b60c-c32f99ae6c3a","key":"BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs="}`,
	`{"messageType":"unregister","channelID":"6cf92efc-2512-4197-b60c-c32f99ae6c3a","code":200}`,
	`{"messageType":"ack","updates":[{"channelID":"6cf92efc-2512-4197-b60c-c32f99ae6c3a","version":"AAAAAAAAAAAAAAAAAAAAAA","code":100}]}`,
	`{"messageType":"nack","version":"x","code":301}`,
	`{"messageType":"urgency","min":"high"}`,
	`{"messageType":"broadcast_subscribe","broadcasts":{"a":"1"}}`,
	`{}`,
}

// FuzzFrame: whatever comes is a frame within bounds, or none; what is answered is JSON.
func FuzzFrame(f *testing.F) {
	for _, text := range exampleFrames {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		frame, err := parseFrame(text)
		if err != nil {
			return
		}
		if len(frame.Updates) > maxUpdates || len(frame.Channel) > maxText {
			t.Errorf("%.100q is taken", text)
		}
		for _, b := range [][]byte{appendRegistered(nil, frame.Channel, frame.Key), appendRefused(nil, "register", frame.Channel, errStopping), appendHello(nil, newSecret().uaid())} {
			if !json.Valid(b) {
				t.Errorf("%q is answered with %q", text, b)
			}
		}
		if c, ok := parseChannel(frame.Channel); ok && !strings.EqualFold(string(appendChannel(nil, c)), frame.Channel) {
			t.Errorf("%q is written %q", frame.Channel, appendChannel(nil, c))
		}
	})
}

// FuzzHeaders: no header of a sender breaks the JSON that its message becomes.
func FuzzHeaders(f *testing.F) {
	f.Add("60", "high", "abc", "aes128gcm", "", "", []byte("x"))
	f.Add("0", "", "", "aesgcm", `keyid="a"; salt=lngarbyKfMoi9Z75xYXmkg`, `dh=BNoRDbb84JGm8g5Z5CFxurSqsXWJ11ItfXEWYVLE85Y7CYkDjXsIEc4aqxYaQ1G8BqkXCJ6DPpDrWtdWj_mugHU;p256ecdsa=x`, []byte("y"))
	f.Fuzz(func(t *testing.T, ttl, urgency, topic, encoding, encryption, cryptoKey string, body []byte) {
		h := http.Header{}
		for name, value := range map[string]string{"Ttl": ttl, "Urgency": urgency, "Topic": topic, "Content-Encoding": encoding, "Encryption": encryption, "Crypto-Key": cryptoKey} {
			if value != "" {
				h[name] = []string{value}
			}
		}
		m := &store.PushMessage{Body: body}
		wait, no := readHeaders(h, m)
		if no != nil {
			if no.status != 400 || no.msg == "" {
				t.Errorf("refused with %+v", no)
			}
			return
		}
		if wait < 0 || wait > maxTTL || len(m.Topic) > 32 || m.Urgency > 3 {
			t.Errorf("%v is taken as %+v", h, m)
		}
		if text := appendNotification(nil, m, messageID{}); !json.Valid(text) {
			t.Errorf("%v becomes %q", h, text)
		}
	})
}

// FuzzConversation: frames in any order, cut anywhere; the service lives, and the next client is served.
func FuzzConversation(f *testing.F) {
	f.Add([]byte(strings.Join(exampleFrames, "\n")))
	f.Add([]byte(exampleFrames[0] + "\n" + exampleFrames[0]))
	f.Add([]byte("\n\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		w := newWorld(t, Config{})
		b := w.open(t)
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			if b.conn.Write(t.Context(), websocket.MessageText, line) != nil {
				break
			}
		}
		for {
			if _, err := b.listen(20 * time.Millisecond); err != nil {
				break
			}
		}
		next := w.visit(t)
		s := next.subscribe(nil)
		w.wants(w.send(s, "x"), 201)
		if m := next.notified(); next.text(m) != "x" {
			t.Errorf("got %+v", m)
		}
		next.conn.CloseNow()
	})
}
