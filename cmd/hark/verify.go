package main

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"os"
	"strings"
	"time"

	"github.com/harkhq/hark/webhook"
)

type verifyCmd struct {
	Secret []string `help:"The secret (whsec_…), or the public or private key (whpk_…, whsk_…); may be repeated." placeholder:"whsec_…" env:"HARK_SECRET"`

	Request   string `help:"A whole request from this file: lines of headers, an empty line, the body; - for the standard input." placeholder:"FILE"`
	ID        string `name:"id" help:"The header webhook-id." placeholder:"TEXT"`
	Timestamp string `help:"The header webhook-timestamp." placeholder:"SECONDS"`
	Signature string `help:"The header webhook-signature." placeholder:"v1,…"`
	Body      string `help:"The body, from this file; - for the standard input." placeholder:"FILE"`

	At        moment        `help:"Judge the timestamp by this time (now)." placeholder:"TIME"`
	Tolerance time.Duration `help:"How far the timestamp may be from the clock (5m)." default:"5m"`
}

func (*verifyCmd) Help() string {
	return `It fails (exit code 1) when the signature is not right, and says why.

Examples:
  hark verify --secret whsec_… --request dump.txt       what you logged: headers, empty line, body
  hark verify --secret whsec_… --id evt_… --timestamp 1767225600 --signature v1,… --body body.json`
}

func (v *verifyCmd) Run(a *app) error {
	keys, err := parseSecrets(v.Secret)
	if err != nil {
		return err
	}
	if len(v.Secret) == 0 {
		return wrongUse("--secret or HARK_SECRET", "give the secret or public key that hark destination add showed")
	}
	if v.Tolerance <= 0 {
		return wrongUse("--tolerance 5m", "--tolerance must be more than nothing")
	}
	h, body, err := v.read(a)
	if err != nil {
		return err
	}
	now := time.Now()
	if !v.At.IsZero() {
		now = v.At.Time
	}
	found := inspect(h, body, keys, now, v.Tolerance)
	if err := a.answer(found, func() { a.showVerdict(found) }); err != nil || found.Verified {
		return err
	}
	return errQuiet
}

func (a *app) showVerdict(v verdict) {
	mark := a.paint(good, "✓ verified")
	if !v.Verified {
		mark = a.paint(bad, "✗ not verified") + ": " + v.Detail
	}
	a.printf("%s\n", mark)
	if v.Try != "" {
		a.printf("  try: %s\n", v.Try)
	}
	a.facts("  id", clean(v.ID), "  signed", stamp(v.Timestamp), "  body", plain(count(v.BodyBytes, "byte")))
}

// read gets headers and body, from a dump or from flags.
func (v *verifyCmd) read(a *app) (http.Header, []byte, error) {
	apart := v.ID != "" || v.Timestamp != "" || v.Signature != ""
	if apart && v.Request != "" || !apart && v.Body != "" {
		return nil, nil, wrongUse("hark verify --help", "give either --request, or --id, --timestamp, --signature and --body")
	}
	if !apart {
		if v.Request == "" && isTerminal(a.stdin) {
			return nil, nil, wrongUse("hark verify --help", "there is nothing to verify: give --request, or headers as flags")
		}
		dump, err := readInput(a, cmp.Or(v.Request, "-"))
		if err != nil {
			return nil, nil, err
		}
		return parseDump(dump)
	}
	h := http.Header{}
	for name, value := range map[string]string{webhook.HeaderID: v.ID, webhook.HeaderTimestamp: v.Timestamp, webhook.HeaderSignature: v.Signature} {
		if value != "" {
			h.Set(name, value)
		}
	}
	body, err := readInput(a, cmp.Or(v.Body, "-"))
	return h, body, err
}

func readInput(a *app, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(a.stdin)
	}
	return os.ReadFile(path)
}

// parseDump reads a request as people have it: raw, as curl -v shows it (lines with
// "> "), or only header lines, an empty line and the body.
func parseDump(dump []byte) (http.Header, []byte, error) {
	head, body := splitDump(dump)
	var lines []string
	for line := range strings.Lines(string(head)) {
		line = strings.TrimRight(line, "\r\n")
		for _, mark := range []string{"> ", "< ", "* "} {
			line = strings.TrimPrefix(line, mark)
		}
		name, _, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsAny(name, " \t") { // POST /hook HTTP/1.1, and what curl says by itself
			continue
		}
		lines = append(lines, line)
	}
	text := strings.Join(lines, "\r\n") + "\r\n\r\n"
	h, err := textproto.NewReader(bufio.NewReader(strings.NewReader(text))).ReadMIMEHeader()
	if err != nil || len(h) == 0 {
		return nil, nil, wrongUse("hark verify --help", "this is not a request: header lines, an empty line, then the body")
	}
	header := http.Header(h)
	if strings.EqualFold(header.Get("Transfer-Encoding"), "chunked") {
		if plain, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body))); err == nil {
			body = plain
		}
	}
	return header, body, nil
}

// splitDump finds the first empty line, also one that curl marked.
func splitDump(dump []byte) (head, body []byte) {
	at := 0
	for line := range bytes.Lines(dump) {
		at += len(line)
		switch string(bytes.TrimRight(line, " \t\r\n")) {
		case "", ">", "<":
			return dump[:at], dump[at:]
		}
	}
	return dump, nil
}
