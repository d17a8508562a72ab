package hark

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func sampleEvent() *Event {
	return &Event{
		ID: EventID{Shard: 1, Incarnation: 2, Offset: 3}, Topic: "orders.paid",
		Time:     time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600)),
		Received: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC),
		Key:      "a\"b\\c", ContentType: "application/json", Data: []byte(" {\"n\": 1.0,\n\"s\":\"\\u00e9\"} "),
		Attributes: map[string]string{"b": "2", "a": "<1>\n"}, Source: "gh",
	}
}

func TestEventJSONText(t *testing.T) {
	got := string(AppendEventJSON([]byte("x"), sampleEvent()))
	want := `x{"id":"` + sampleEvent().ID.String() + `","topic":"orders.paid","time":"2026-01-02T02:04:05.0000006Z",` +
		`"received":"2026-01-02T03:04:06Z","key":"a\"b\\c","content_type":"application/json","data": {"n": 1.0,` + "\n" +
		`"s":"\u00e9"} ,"attributes":{"a":"<1>\n","b":"2"},"source":"gh"}`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if line := AppendEventJSONLine(nil, sampleEvent()); bytes.ContainsAny(line, "\r\n") || !json.Valid(line) {
		t.Errorf("a line with breaks: %q", line)
	}
}

func TestEventJSONDataField(t *testing.T) {
	for _, c := range []struct{ contentType, data, want string }{
		{"application/json", `1.0`, `"data":1.0`},
		{"application/vnd.x+json; charset=utf-8", `"a"`, `"data":"a"`},
		{"application/json", ``, `"data_base64":""`},
		{"application/json", `{`, `"data_base64":"ew=="`},
		{"application/json", `1 2`, `"data_base64":"MSAy"`},
		{"application/json", "\"\xff\"", `"data_base64":"Iv8i"`},
		{"text/plain", "a\x00\u2028", `"data":"a\u0000\u2028"`},
		{"text/plain", "\xff", `"data_base64":"/w=="`},
		{"text/plain", "", `"data":""`},
		{"application/octet-stream", "a", `"data_base64":"YQ=="`},
		{"", "a", `"data_base64":"YQ=="`},
	} {
		got := string(AppendEventJSON(nil, &Event{ContentType: c.contentType, Data: []byte(c.data)}))
		if !strings.Contains(got, c.want) {
			t.Errorf("%s %q: %s", c.contentType, c.data, got)
		}
	}
}

func TestParseEventJSONRefuses(t *testing.T) {
	for _, s := range []string{``, `[]`, `{"id":"x"}`, `{"data_base64":"%"}`, `{"content_type":"text/plain","data":1}`} {
		if _, err := ParseEventJSON([]byte(s)); KindOf(err) != Invalid {
			t.Errorf("%s: %v", s, err)
		}
	}
	if _, err := ParseEventJSON([]byte(`{"new_field":[1],"content_type":"application/json"}`)); err != nil {
		t.Error(err)
	}
}

func FuzzEventJSON(f *testing.F) {
	f.Add("orders.paid", "k", "application/json", []byte(`{"a":1}`), "name", "value", int64(1))
	f.Add("a", "\u2028\x7f", "text/plain", []byte("\xff\x00é"), "\x01", "\\", int64(-62135596800))
	f.Add("a", "", "", []byte(nil), "", "", int64(253402300800))
	f.Fuzz(func(t *testing.T, topic, key, contentType string, data []byte, name, value string, sec int64) {
		e := &Event{ID: EventID{Offset: 7}, Topic: topic, Key: key, ContentType: contentType, Data: data,
			Received: time.Unix(sec%1e12, 5).UTC(), Attributes: map[string]string{name: value}}
		text := AppendEventJSON(nil, e)
		if !json.Valid(text) || !utf8.Valid(text) {
			t.Fatalf("not JSON: %q", text)
		}
		if line := AppendEventJSONLine(nil, e); bytes.ContainsAny(line, "\r\n") || !json.Valid(line) {
			t.Fatalf("not a line: %q", line)
		}
		back, err := ParseEventJSON(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		// encoding/json trims white space around a raw value.
		want := e.Data
		if IsJSON(back.ContentType) && json.Valid(want) {
			want = bytes.Trim(want, " \t\r\n")
		}
		// Only valid UTF-8 comes back as it was; events in the log have no other.
		if utf8.ValidString(contentType) && !bytes.Equal(back.Data, want) {
			t.Fatalf("data %q came back as %q by %s", e.Data, back.Data, text)
		}
		if utf8.ValidString(strings.Join([]string{topic, key, name, value}, " ")) &&
			(back.Topic != topic || back.Key != key || !reflect.DeepEqual(back.Attributes, e.Attributes)) {
			t.Fatalf("came back as %+v by %s", back, text)
		}
		if jsonYear(e.Received) && !back.Received.Equal(e.Received) {
			t.Fatalf("received %v came back as %v", e.Received, back.Received)
		}
	})
}

func FuzzParseEventJSON(f *testing.F) {
	f.Add([]byte(`{"id":"","content_type":"application/json","data":{"a":[1]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseEventJSON(text)
		if err != nil {
			return
		}
		again, err := ParseEventJSON(AppendEventJSON(nil, e))
		if err != nil || !jsonYear(e.Received) {
			t.Fatalf("%v: %q", err, text)
		}
		if utf8.Valid(e.Data) && utf8.ValidString(e.ContentType) && !bytes.Equal(again.Data, e.Data) {
			t.Fatalf("%q, then %q", e.Data, again.Data)
		}
	})
}

func TestFaults(t *testing.T) {
	a, b := Invalidf("a", "x"), Invalidf("b", "y")
	err := fmt.Errorf("wrapped: %w", errors.Join(a, errors.New("other"), errors.Join(b)))
	if got := Faults(err); len(got) != 2 || got[0] != a || got[1] != b {
		t.Error(got)
	}
	if KindOf(err) != Mismatch || Faults(nil) != nil {
		t.Error(KindOf(err))
	}
}

func BenchmarkAppendEventJSON(b *testing.B) {
	e := sampleEvent()
	e.Data = []byte(`{"a":"` + strings.Repeat("x", 500) + `"}`)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEventJSON(buf[:0], e)
	}
}
