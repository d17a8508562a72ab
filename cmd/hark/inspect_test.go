package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/webhook"
)

const testSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func signWith(t *testing.T, key webhook.SigningKey, body string) http.Header {
	t.Helper()
	s, err := webhook.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	if err := s.SetHeader(h, "msg_1", time.Now(), []byte(body)); err != nil {
		t.Fatal(err)
	}
	return h
}

func mustSecrets(t *testing.T, texts ...string) secrets {
	t.Helper()
	s, err := parseSecrets(texts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAccidents: what was signed, what arrived, and what must be said of it.
func TestAccidents(t *testing.T) {
	key, err := webhook.ParseSecret(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ sent, arrived, told string }{
		{`{"a":1}`, "{\"a\":1}\n", "a line break was added at its end"},
		{`{"a":1}`, "{\"a\":1}\r\n", "a line break was added at its end"},
		{"{\"a\":1}\n", `{"a":1}`, "the line break at its end was lost"},
		{`{"a":1}`, "  {\"a\":1} ", "white space was added around it"},
		{"a\nb", "a\r\nb", "its line breaks became CR LF"},
		{"a\r\nb", "a\nb", "its line breaks were CR LF"},
		{"", "{}", "it was signed empty"},
		{`{"a":1,"b":"x, y: z"}`, `{"a": 1, "b": "x, y: z"}`, "white space was added"},
		{`{"a": 1, "b": "x, \"y: z"}`, `{"a":1,"b":"x, \"y: z"}`, "spaces after , and : were lost"},
		{"{\n  \"a\": 1\n}", `{"a":1}`, "indentation by two spaces was lost"},
		{"{\n\t\"a\": 1\n}\n", `{"a":1}`, "indentation by tabs was lost"},
		{`{"a":1}`, `{"a":2}`, "another secret signed this"},
	} {
		v := inspect(signWith(t, key, c.sent), []byte(c.arrived), mustSecrets(t, testSecret), time.Now(), webhook.DefaultTolerance)
		if v.Verified || v.Reason != webhook.NoMatch || !strings.Contains(v.Detail, c.told) {
			t.Errorf("%q arrived as %q: %+v", c.sent, c.arrived, v)
		}
	}
}

func TestInspectKeys(t *testing.T) {
	raw, err := webhook.NewSecret([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	v := inspect(signWith(t, raw, "x"), []byte("x"), mustSecrets(t, testSecret), time.Now(), webhook.DefaultTolerance)
	if !strings.Contains(v.Detail, "signed with its text (with its prefix)") {
		t.Errorf("%+v", v)
	}
	private := webhook.GeneratePrivateKey()
	v = inspect(signWith(t, private, "x"), []byte("x"), mustSecrets(t, testSecret), time.Now(), webhook.DefaultTolerance)
	if !strings.Contains(v.Detail, "signed with a private key") || !strings.Contains(v.Try, "whpk_") {
		t.Errorf("%+v", v)
	}
	v = inspect(signWith(t, private, "x"), []byte("x"), mustSecrets(t, testSecret, private.Public().String()), time.Now(), webhook.DefaultTolerance)
	if !v.Verified {
		t.Errorf("%+v", v)
	}
	h := signWith(t, private, "x")
	h.Set("Content-Length", "7")
	v = inspect(h, []byte("y"), mustSecrets(t, private.Public().String()), time.Now(), webhook.DefaultTolerance)
	if !strings.Contains(v.Detail, "Content-Length says 7 bytes, and here are 1") {
		t.Errorf("%+v", v)
	}
	// The headers of the standard's older name.
	key, _ := webhook.ParseSecret(testSecret)
	h = http.Header{}
	for name, value := range signWith(t, key, "x") {
		h[strings.Replace(name, "Webhook-", "Svix-", 1)] = value
	}
	if v := inspect(h, []byte("x"), mustSecrets(t, testSecret), time.Now(), webhook.DefaultTolerance); !v.Verified {
		t.Errorf("%+v", v)
	}
}

func TestParseDump(t *testing.T) {
	head := "webhook-id: msg_1\nWebhook-Timestamp:1\nwebhook-signature: v1,x"
	for name, c := range map[string]struct{ dump, body string }{
		"raw":       {"POST / HTTP/1.1\r\n" + strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n{\"a\":\n\n1}\n", "{\"a\":\n\n1}\n"},
		"headers":   {head + "\n\nbody", "body"},
		"response":  {"HTTP/2 200\n" + head + "\n\nbody", "body"},
		"curl":      {"* Connected to x (1.2.3.4) port 80\n> POST / HTTP/1.1\n> " + strings.ReplaceAll(head, "\n", "\n> ") + "\n>\nbody", "body"},
		"no body":   {head, ""},
		"chunked":   {head + "\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"},
		"not quite": {head + "\nTransfer-Encoding: chunked\n\nabcde", "abcde"},
	} {
		h, body, err := parseDump([]byte(c.dump))
		if err != nil || h.Get("Webhook-Id") != "msg_1" || h.Get("Webhook-Timestamp") != "1" || string(body) != c.body {
			t.Errorf("%s: %v, %q, %v", name, h, body, err)
		}
	}
	for _, bad := range []string{"", "\n", "hello", "{\"a\":1}\n\n"} {
		if h, _, err := parseDump([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a request: %v", bad, h)
		}
	}
}

func FuzzParseDump(f *testing.F) {
	f.Add("POST / HTTP/1.1\r\nwebhook-id: msg_1\r\n\r\n{}")
	f.Add("> a: b\n>\n")
	s, err := parseSecrets([]string{testSecret})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, dump string) {
		h, body, err := parseDump([]byte(dump))
		if err != nil {
			return
		}
		if v := inspect(h, body, s, time.Now(), time.Minute); v.Verified {
			t.Fatal("something unsigned was verified")
		}
		_ = clean(h.Get("webhook-id"))
	})
}
