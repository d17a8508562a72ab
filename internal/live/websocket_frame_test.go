package live

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/harkhq/hark"
)

// TestParseFrame: what is taken, and how what is not is named.
func TestParseFrame(t *testing.T) {
	for _, c := range []struct {
		text, field, code string
		event             string
	}{
		{text: `{"type":"auth","token":"hk_x"}`},
		{text: ` {"token":"hk_x", "type":"auth"} `},
		{text: `{"type":"subscribe","sub":"a","topics":["a.>","b"],"after":"evt_1"}`},
		{text: `{"type":"subscribe","sub":"\u00e9\n","last":1000}`},
		{text: `{"type":"unsubscribe","sub":"a"}`},
		{text: `{"type":"ping"}`},
		{text: `{"type":"ping","ref":"1"}`},
		{text: `{"topic":"a","type":"publish","ref":"1","data":{"n": 1},"idempotency_key":"k","key":"x"}`, event: `{"topic":"a","data":{"n": 1},"key":"x"}`},
		{text: `{"type":"publish"}`, event: `{}`}, // the publisher says what is missing

		{text: `{}`, field: "type", code: "invalid"},
		{text: `{"type":"shout"}`, field: "type", code: "invalid"},
		{text: `{"type":7}`, field: "type", code: "invalid"},
		{text: `{"type":"ping","sub":"a"}`, field: "sub", code: "invalid"},
		{text: `{"type":"ping","ref":1}`, field: "ref", code: "invalid"},
		{text: `{"type":"ping","ref":"` + strings.Repeat("r", 65) + `"}`, field: "ref", code: "invalid"},
		{text: `{"type":"subscribe"}`, field: "sub", code: "invalid"},
		{text: `{"type":"subscribe","sub":""}`, field: "sub", code: "invalid"},
		{text: `{"type":"subscribe","sub":null}`, field: "sub", code: "invalid"},
		{text: `{"type":"subscribe","sub":"a","topics":"a"}`, field: "topics", code: "invalid"},
		{text: `{"type":"subscribe","sub":"a","topics":[]}`, field: "topics", code: "invalid"},
		{text: `{"type":"subscribe","sub":"a","topics":[1]}`, field: "topics", code: "invalid"},
		{text: `{"type":"subscribe","sub":"a","last":0}`, field: "last", code: "invalid"},
		{text: `{"type":"subscribe","sub":"a","last":1001}`, field: "last", code: "invalid"},
		{text: `{"type":"subscribe","sub":"a","last":"5"}`, field: "last", code: "invalid"},
		{text: `{"type":"subscribe","sub":"a","sub":"b"}`, field: "sub", code: "invalid"},
		{text: `{"type":"subscribe","sub":"a","queue":"b"}`, field: "queue", code: "invalid"},
		{text: `{"type":"auth"}`, field: "token", code: "invalid"},
		{text: `{"type":"publish","idempotency_key":""}`, field: "idempotency_key", code: "invalid"},
		{text: `{"t\u0079pe":"ping"}`, field: "type", code: "invalid"},
		{text: `{"type":"ping"` + strings.Repeat(`,"a":1`, 20) + `}`, field: "type", code: "invalid"},

		{text: ``, code: "bad-frame"},
		{text: `[]`, code: "bad-frame"},
		{text: `"ping"`, code: "bad-frame"},
		{text: `{"type":"ping"`, code: "bad-frame"},
		{text: `{"type":"ping"}{}`, code: "bad-frame"},
		{text: `{type:"ping"}`, code: "bad-frame"},
		{text: "{\"type\":\"ping\",\"ref\":\"\xff\"}", code: "bad-frame"},
		{text: "{\"type\":\"ping\",\"ref\":\"\x01\"}", code: "bad-frame"},
	} {
		f, err := parseFrame([]byte(c.text))
		e, _ := errors.AsType[*hark.Error](err)
		switch {
		case c.code == "" && err != nil, c.code != "" && (e == nil || e.Code != c.code || e.Field != c.field):
			t.Errorf("%s: %v", c.text, err)
		case c.event != string(f.event):
			t.Errorf("%s: the event is %s", c.text, f.event)
		}
	}
	f, err := parseFrame([]byte(`{"type":"ping","ref":"r","sub":"s"}`))
	if err == nil || f.ref != "r" || f.sub != "s" {
		t.Errorf("an error does not know whom to answer: %+v", f)
	}
}

func FuzzFrame(f *testing.F) {
	for _, s := range []string{`{"type":"auth","token":"x"}`, `{"type":"subscribe","sub":"a","topics":["a.>"],"from":"earliest"}`,
		`{"type":"publish","ref":"1","topic":"a","data":[1,{"x":"\u0000"}],"attributes":{"a":"b"}}`, `{"type":"ping","ref":"\ud800"}`,
		`{"type":"subscribe","sub":"a","last":7}`, `{}`, `[{}]`, "{\"a\\u0062\":1}", strings.Repeat("[", 30000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseFrame(text)
		if err != nil {
			e, ok := errors.AsType[*hark.Error](err)
			if !ok || e.Code == "" || e.Code != "bad-frame" && e.Field == "" {
				t.Fatalf("%v", err)
			}
			if (e.Code == "bad-frame") != !isObject(text) {
				t.Fatalf("%s, but it is an object: %v", e.Code, isObject(text))
			}
			answer := appendFault(nil, &got, Fault{Status: 400, Code: e.Code, Detail: e.Msg, Field: e.Field})
			if !json.Valid(answer) {
				t.Fatalf("%s", answer)
			}
			return
		}
		if !isObject(text) || len(got.sub) > maxName || len(got.ref) > maxName || got.start.last > MaxLast {
			t.Fatalf("%+v", got)
		}
		if got.kind == "publish" && !json.Valid(got.event) {
			t.Fatalf("%s", got.event)
		}
	})
}

// isObject is what encoding/json says, which alone does not ask for UTF-8.
func isObject(text []byte) bool {
	trimmed := strings.TrimLeft(string(text), " \t\r\n")
	return json.Valid(text) && strings.ToValidUTF8(string(text), "") == string(text) && strings.HasPrefix(trimmed, "{")
}
