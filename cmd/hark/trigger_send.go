package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/internal/scheme"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// sent is what became of one request.
type sent struct {
	Provider string `json:"provider"`
	Event    string `json:"event"`
	URL      string `json:"url"`
	Signed   bool   `json:"signed"`
	Tampered bool   `json:"tampered,omitempty"`
	Status   int    `json:"status"`
	OK       bool   `json:"ok"` // taken: the status is 2xx
	Millis   int64  `json:"duration_ms"`
	Answer   string `json:"answer,omitempty"`
}

// send posts a request from this machine. Redirects are not followed, as no provider
// follows them.
func (t *trigger) send(r *scheme.Request) (*sent, error) {
	req, err := http.NewRequestWithContext(t.app.ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, wrongUse("--to http://127.0.0.1:3000/webhook", "%v", err)
	}
	req.Header = r.Header.HTTP()
	poster, err := t.poster()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	resp, err := poster.Do(req)
	if err != nil {
		return nil, t.unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, t.unreachable(err)
	}
	return &sent{Provider: t.sample.Provider, Event: t.sample.Event, URL: r.URL, Signed: t.signer != nil, Tampered: t.Tamper,
		Status: resp.StatusCode, OK: resp.StatusCode/100 == 2, Millis: time.Since(start).Milliseconds(), Answer: snippet(answer, 2000)}, nil
}

func (t *trigger) poster() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if t.CA != "" {
		roots, err := readRoots(t.CA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: t.Wait,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// unreachable explains why nothing was answered.
func (t *trigger) unreachable(err error) error {
	if t.app.ctx.Err() != nil {
		return err
	}
	if t.isSource {
		return &client.UnreachableError{URL: t.url, Err: err}
	}
	if u, ok := err.(*url.Error); ok {
		err = u.Err
	}
	return &failure{msg: fmt.Sprintf("%s does not answer: %v", t.url, plainNet(err)), code: exitUnreachable, err: err,
		try: "is the receiver running? To see what arrives, start one with: hark receive; to see the request: --dry-run"}
}

// show writes one result for people.
func (t *trigger) show(s *sent) {
	mark := t.app.paint(good, "✓")
	if s.OK == t.Tamper {
		mark = t.app.paint(bad, "✗")
	}
	word := "unsigned"
	if s.Tampered {
		word = "tampered with"
	} else if s.Signed {
		word = "signed"
	}
	t.app.printf("%s %s %s  %s  answered %d %s in %s\n", mark, t.app.paint(bold, s.Provider), t.app.paint(bold, s.Event), word,
		s.Status, http.StatusText(s.Status), span(time.Duration(s.Millis)*time.Millisecond))
	if s.Answer != "" {
		t.app.printf("  %s\n", snippet([]byte(s.Answer), 200))
	}
}

// rawRequest is a request as it goes over the wire, but for line endings.
func rawRequest(r *scheme.Request) string {
	var b strings.Builder
	u, err := url.Parse(r.URL)
	if err != nil {
		return ""
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\nHost: %s\n", r.Method, u.RequestURI(), u.Host)
	for _, f := range r.Header {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
	}
	fmt.Fprintf(&b, "Content-Length: %d\n\n%s\n", len(r.Body), r.Body)
	return b.String()
}

// curlCommand is a line for a shell that sends exactly r.
func curlCommand(r *scheme.Request) string {
	var b strings.Builder
	isText := utf8.Valid(r.Body) && !bytes.ContainsFunc(r.Body, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' || c == 0x7f })
	if !isText { // no shell can quote every byte
		fmt.Fprintf(&b, "echo %s | base64 -d | ", base64.StdEncoding.EncodeToString(r.Body))
	}
	fmt.Fprintf(&b, "curl --globoff -i -X %s %s", r.Method, quoted(r.URL))
	for _, f := range r.Header {
		fmt.Fprintf(&b, " \\\n  -H %s", quoted(f.Name+": "+f.Value))
	}
	switch {
	case !isText:
		b.WriteString(" \\\n  --data-binary @-")
	case len(r.Body) > 0:
		fmt.Fprintf(&b, " \\\n  --data-raw %s", quoted(string(r.Body)))
	}
	return b.String()
}

// quoted is one word for a POSIX shell.
func quoted(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
