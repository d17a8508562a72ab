package capture

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// inlineBody is the largest body that stands in the command line itself: one argument
// may have 128 KiB on Linux.
const inlineBody = 32 << 10

// ofTheConnection are fields that curl must make itself, or that belong to the
// connection that the request came on.
var ofTheConnection = []string{"Host", "Content-Length", "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect"}

// Hop reports whether a field belongs to the connection a request came on, and not to
// the request: it is left out when the request is sent again.
func Hop(name string) bool {
	return slices.ContainsFunc(ofTheConnection, func(f string) bool { return strings.EqualFold(f, name) })
}

// Curl writes a command line for a POSIX shell and curl that sends c to url again, byte
// for byte: nothing in it is expanded, and a body that is not plain text goes through
// base64. What curl would add by itself and c does not have is taken away.
func Curl(c *hark.Capture, url string) string {
	var b strings.Builder
	if c.Truncated {
		b.WriteString("# only the beginning of the body was kept\n")
	}
	inline := len(c.Body) <= inlineBody && utf8.Valid(c.Body) && !bytes.ContainsFunc(c.Body, unprintable)
	if !inline {
		b.WriteString("base64 -d <<'END' | ")
	}
	b.WriteString("curl --globoff --path-as-is ")
	if c.Method == "HEAD" {
		b.WriteString("--head ")
	} else if c.Method != "GET" || len(c.Body) > 0 {
		b.WriteString("-X " + quoted(c.Method) + " ")
	}
	b.WriteString(quoted(url))
	has := map[string]bool{}
	for _, f := range c.Header {
		has[strings.ToLower(f.Name)] = true
		switch {
		case Hop(f.Name):
		case f.Value == "":
			b.WriteString(" \\\n  -H " + quoted(f.Name+";"))
		default:
			b.WriteString(" \\\n  -H " + quoted(f.Name+": "+f.Value))
		}
	}
	body := len(c.Body) > 0 || has["content-length"] && c.Method != "GET" && c.Method != "HEAD"
	for _, own := range []string{"Accept", "User-Agent", "Content-Type"} {
		if !has[strings.ToLower(own)] && (own != "Content-Type" || body) {
			b.WriteString(" \\\n  -H " + quoted(own+":"))
		}
	}
	switch {
	case !body:
	case inline:
		b.WriteString(" \\\n  --data-raw " + quoted(string(c.Body)))
	default:
		b.WriteString(" \\\n  -H 'Expect:' --data-binary @-")
	}
	b.WriteByte('\n')
	if !inline {
		text := base64.StdEncoding.EncodeToString(c.Body)
		for len(text) > 76 {
			b.WriteString(text[:76] + "\n")
			text = text[76:]
		}
		b.WriteString(text + "\nEND\n")
	}
	return b.String()
}

// unprintable reports what a terminal or an editor may change when it is pasted.
func unprintable(r rune) bool {
	return r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError
}

// quoted puts s between single quotes, where a POSIX shell expands nothing.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
