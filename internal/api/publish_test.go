package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/harkhq/hark"
)

// TestPlainAgrees: the short way and encoding/json read the same.
func TestPlainAgrees(t *testing.T) {
	for _, body := range []string{
		`{"topic":"a"}`, `{}`, ` { "topic" : "a" , "data" : {"x":[1,2,"\u0041"]} } `, `{"topic":"a","topic":"b"}`,
		`{"topic":"a","data":null}`, `{"topic":"a","key":"\u0041"}`, `{"topic":"é","key":"é"}`, `{"Topic":"a"}`,
		`{"topic":"a"} x`, `{"topic":"a",}`, `{"topic":null}`, `{"topic":"a","data":}`, `{"to\u0070ic":"a"}`, `{"topic":"a","data":01}`,
	} {
		agree(t, []byte(body))
	}
}

func FuzzPublish(f *testing.F) {
	f.Add([]byte(`{"topic":"a","data":{"x":1},"key":"k","content_type":"text/plain"}`), "application/json")
	f.Add([]byte(`[{"topic":"a"},{"topic":"b","data_base64":"AA=="}]`), "")
	f.Add([]byte(`[{"topic":"a","deliver_at":"2026-12-01T09:00:00Z"},{"topic":"b"}]`), "")
	f.Add([]byte("{\"topic\":\"a\"}\n{\"topic\":\"b\"}"), "application/x-ndjson")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		agree(t, body)
		d, err := parsePublish(contentType, body)
		if err != nil {
			if hark.KindOf(err) == hark.Internal {
				t.Fatalf("not the client's fault? %v", err)
			}
			return
		}
		if d.at != nil && len(d.at) != len(d.events) {
			t.Fatalf("%d times for %d events", len(d.at), len(d.events))
		}
		for i := range d.events {
			_ = d.events[i].Check(hark.MaxEventBytes)
		}
	})
}

func agree(t *testing.T, body []byte) {
	t.Helper()
	plain, ok := parsePlain(body)
	if !ok {
		return
	}
	var slow publishJSON
	if err := decodeStrict(body, &slow); err != nil {
		t.Fatalf("%q: taken, though encoding/json says %v", body, err)
	}
	if slow.Topic != plain.Topic || slow.Key != plain.Key || slow.ContentType != plain.ContentType || !bytes.Equal(slow.Data, plain.Data) {
		t.Fatalf("%q: %+v, encoding/json says %+v", body, plain, slow)
	}
}

func BenchmarkParse(b *testing.B) {
	data, _ := json.Marshal(map[string]string{"text": strings.Repeat("x", 460)})
	body := []byte(`{"topic":"orders.paid","data":` + string(data) + `}`)
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			parsePlain(body)
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		var p publishJSON
		for b.Loop() {
			decodeStrict(body, &p)
		}
	})
}

// TestPublishJSONIsAtOnce: who publishes otherwise than by HTTP is told that nothing waits there.
func TestPublishJSONIsAtOnce(t *testing.T) {
	_, _, err := (&API{}).PublishJSON(t.Context(), nil, []byte(`{"topic":"a","deliver_at":"2026-12-01T09:00:00Z"}`), "")
	if e, ok := errors.AsType[*hark.Error](err); !ok || e.Field != "deliver_at" {
		t.Errorf("%v", err)
	}
}
