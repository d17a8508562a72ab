package capture

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/harkhq/hark"
)

// TestCurl runs what Curl writes with a real shell and the real curl, and compares what
// arrives, byte for byte.
func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("the test needs curl: ", err)
	}
	binary := make([]byte, 100_000)
	for i := range binary {
		binary[i] = byte(i * 7)
	}
	fields := func(pairs ...string) (h []hark.HeaderField) {
		for i := 0; i < len(pairs); i += 2 {
			h = append(h, hark.HeaderField{Name: pairs[i], Value: pairs[i+1]})
		}
		return h
	}
	for name, c := range map[string]*hark.Capture{
		"plain":       {Method: "POST", Body: []byte(`{"a":1}`), Header: fields("Content-Type", "application/json", "X-A", "1", "X-A", "2")},
		"hostile":     {Method: "POST", Body: []byte("'; rm -rf /; echo '$HOME `id` \\ \n\n\"!!\"\n"), Header: fields("X-Evil", `$(id) '"\`)},
		"at sign":     {Method: "POST", Body: []byte("@/etc/passwd"), Header: fields("X-At", "@/etc/passwd")},
		"binary":      {Method: "PUT", Body: binary, Header: fields("Content-Type", "application/octet-stream")},
		"nul":         {Method: "POST", Body: []byte("a\x00b\r\nc"), Header: fields("Content-Type", "text/plain")},
		"invalid":     {Method: "POST", Body: []byte("\xff\xfe"), Header: nil},
		"large text":  {Method: "POST", Body: []byte(strings.Repeat("long ' line\n", 50_000)), Header: fields("Content-Type", "text/plain")},
		"no body":     {Method: "DELETE", Header: fields("Accept", "*/*", "User-Agent", "x/1")},
		"empty body":  {Method: "POST", Header: fields("Content-Length", "0")},
		"get":         {Method: "GET", Header: fields("Accept-Encoding", "gzip, deflate", "X-Empty", "")},
		"get, body":   {Method: "GET", Body: []byte("q"), Header: fields("Content-Type", "text/plain")},
		"head":        {Method: "HEAD"},
		"odd method":  {Method: "PROPFIND!'", Header: nil},
		"latin-1":     {Method: "POST", Header: fields("X-Name", "caf\xe9"), Body: []byte("x")},
		"unicode":     {Method: "POST", Body: []byte("żółć 👋"), Header: fields("Content-Type", "text/plain; charset=utf-8")},
		"as was sent": {Method: "POST", Body: []byte("x"), Header: fields("Host", "other.example", "Content-Length", "999", "Transfer-Encoding", "chunked", "Expect", "100-continue")},
	} {
		t.Run(name, func(t *testing.T) {
			type seen struct {
				method, target string
				header         http.Header
				body           string
			}
			got := make(chan seen, 2)
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got <- seen{r.Method, r.RequestURI, r.Header, string(body)}
			}))
			defer server.Close()
			target := "/a/../b%2F[1]?x={y}&z='"
			line := Curl(c, server.URL+target)
			cmd := exec.Command("/bin/sh")
			cmd.Stdin = strings.NewReader(line) // an argument of its own has a bound
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, line[:min(len(line), 2000)])
			}
			s := <-got
			want := http.Header{}
			for _, f := range c.Header {
				if !Hop(f.Name) {
					want.Add(f.Name, f.Value)
				}
			}
			s.header.Del("Content-Length")
			if s.method != c.Method || s.target != target || s.body != string(c.Body) || !reflect.DeepEqual(s.header, want) {
				t.Errorf("%s %s, body of %d bytes (want %d)\nheader %q\nwant   %q\n%s", s.method, s.target, len(s.body), len(c.Body), s.header, want, line[:min(len(line), 2000)])
			}
		})
	}
}

// TestParseSearch reads what people type.
func TestParseSearch(t *testing.T) {
	for text, want := range map[string]Filter{
		"":                         {},
		"  hello   world ":         {Text: "hello world"},
		"method:POST path:/a x":    {Method: "POST", Path: "/a", Text: "x"},
		"header:x-github-event":    {Header: "x-github-event"},
		"header:x-e:push":          {Header: "x-e:push"},
		`header:"user-agent: a b"`: {Header: "user-agent: a b"},
		`body:"a \"b\" \\"`:        {Body: `a "b" \`},
		"reason:rejected":          {Reason: Rejected},
		"status:401 more":          {Status: 401, Text: "more"},
		"https://x.example/y":      {Text: "https://x.example/y"},
		`"method:POST"`:            {Text: "method:POST"},
	} {
		if got, err := ParseSearch(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{`"open`, "status:x", "status:99", "method:", "method:a method:b", "body:" + strings.Repeat("x", 2000)} {
		if got, err := ParseSearch(text); hark.KindOf(err) != hark.Mismatch {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func FuzzParseSearch(f *testing.F) {
	f.Add(`method:POST "a b" header:x:y`)
	f.Fuzz(func(_ *testing.T, s string) { ParseSearch(s) })
}
