package rawhead

import (
	"bufio"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

const plainPost = "POST /in/a?b=%20c HTTP/1.1\r\nHost: hooks.example.com:8080\r\nuser-agent: Me/1.0 (x)\r\nAccept:*/*\r\nX-GitHub-Event: \t push \r\n" +
	"x-two: 1\r\nX-Two: 2\r\nEmpty:\r\nConnection: keep-alive\r\ncontent-length: 12\r\n\r\n"

// sameAsNetHTTP fails unless net/http reads a plain request's head as plainHead did.
func sameAsNetHTTP(t *testing.T, head string, got *http.Request) {
	t.Helper()
	want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		t.Fatalf("%q: net/http says %v", head, err)
	}
	if got.Method != want.Method || got.RequestURI != want.RequestURI || !reflect.DeepEqual(got.URL, want.URL) || got.Proto != want.Proto ||
		got.ProtoMajor != want.ProtoMajor || got.ProtoMinor != want.ProtoMinor || got.Host != want.Host || !reflect.DeepEqual(got.Header, want.Header) ||
		got.ContentLength != want.ContentLength || want.Close || want.TransferEncoding != nil || want.Trailer != nil {
		t.Fatalf("%q\n got %+v\nwant %+v", head, got, want)
	}
}

func TestPlainHead(t *testing.T) {
	r, ok := plainHead(plainPost)
	if !ok {
		t.Fatal("it is a plain one")
	}
	sameAsNetHTTP(t, plainPost, &r)
	for what, edit := range map[string][2]string{
		"another method":          {"POST ", "PUT "},
		"a method in lower case":  {"POST ", "post "},
		"two spaces":              {"POST ", "POST  "},
		"another version":         {"HTTP/1.1", "HTTP/1.0"},
		"a later version":         {"HTTP/1.1", "HTTP/1.2"},
		"an absolute target":      {"/in/a", "http://x/in/a"},
		"a broken target":         {"/in/a", "/in/%zz"},
		"a space in the target":   {"b=", "b= "},
		"a bare line feed":        {"Accept:*/*\r\n", "Accept:*/*\n"},
		"a bare carriage return":  {"Me/1.0", "Me\r1.0"},
		"a NUL":                   {"Me/1.0", "Me\x001.0"},
		"a byte beyond ASCII":     {"Me/1.0", "M\xe9/1.0"},
		"a folded line":           {"Accept:*/*\r\n", "Accept:*/*\r\n more\r\n"},
		"a fold at the beginning": {"Host:", " Host:"},
		"a space before a colon":  {"Accept:", "Accept :"},
		"no colon":                {"Accept:*/*", "Accept"},
		"no name":                 {"Accept:", ":"},
		"an odd name":             {"Accept:", "Acc(ept:"},
		"no host":                 {"Host: hooks.example.com:8080\r\n", ""},
		"an empty host":           {"Host: hooks.example.com:8080", "Host:"},
		"two hosts":               {"Accept:*/*", "host: hooks.example.com:8080"},
		"an odd host":             {"Host: hooks.example.com", "Host: a/b"},
		"no length":               {"content-length: 12\r\n", ""},
		"an empty length":         {"content-length: 12", "content-length:"},
		"two lengths":             {"Accept:*/*", "Content-Length: 12"},
		"a list of lengths":       {"content-length: 12", "content-length: 12, 12"},
		"a signed length":         {"content-length: 12", "content-length: +12"},
		"a hex length":            {"content-length: 12", "content-length: 0x12"},
		"a huge length":           {"content-length: 12", "content-length: 9999999999"},
		"a longer length":         {"content-length: 12", "content-length: 00000000012"},
		"chunks":                  {"Accept:*/*", "transfer-encoding: chunked"},
		"identity":                {"Accept:*/*", "Transfer-Encoding: identity"},
		"a close":                 {"Connection: keep-alive", "Connection: close"},
		"an upgrade":              {"Connection: keep-alive", "Connection: keep-alive, Upgrade"},
		"a protocol":              {"Accept:*/*", "Upgrade: websocket"},
		"what HTTP/2 begins with": {"Accept:*/*", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"},
		"an expectation":          {"Accept:*/*", "Expect: 100-continue"},
		"trailers":                {"Accept:*/*", "Trailer: X"},
		"TE":                      {"Accept:*/*", "TE: trailers"},
		"what is changed":         {"Accept:*/*", "Pragma: no-cache"},
		"no end":                  {"\r\n\r\n", "\r\n"},
		"another end":             {"\r\n\r\n", "\n\n"},
	} {
		head := strings.Replace(plainPost, edit[0], edit[1], 1)
		if head == plainPost {
			t.Fatalf("%s: nothing changed", what)
		}
		if _, ok := plainHead(head); ok {
			t.Errorf("%s is plain: %q", what, head)
		}
	}
}

// FuzzPlainHead: what is plain is the same to net/http.
func FuzzPlainHead(f *testing.F) {
	f.Add("/in/a", "x:80", "12", "X-A", "1", "\r\n")
	f.Add("/", "[::1]", "007", "cookie", "a=b", "\r\nCookie: c\r\n")
	f.Add("//a/../%2F?b;c#d", "a_b-c.d", "0", "Connection", " keep-alive\t", "\r\nX:\r\nX: \r\n")
	f.Fuzz(func(t *testing.T, target, host, length, name, value, end string) {
		head := "POST " + target + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: " + length + "\r\n" + name + ":" + value + end + "\r\n"
		if headEnd([]byte(head), 0) != len(head) {
			return // whoever asks cuts there
		}
		if r, ok := plainHead(head); ok {
			sameAsNetHTTP(t, head, &r)
		}
	})
}
