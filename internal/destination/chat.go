package destination

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/message"
	"github.com/harkhq/hark/internal/setting"
)

// What the kinds of chat rooms share: a message is made of the event (package message),
// written as the app wants it, posted as JSON, and the app's answer is understood.
// A room does not verify signatures: the secret is in the URL.

// chat is what an app's file adds.
type chat struct {
	url *url.URL
	// secrets are texts that nobody may see besides the URL's own.
	secrets []string
	// payload is the app's JSON for a message. It keeps to the app's limits.
	payload func(m *message.Message, e *hark.Event) any
	// answer corrects what the status alone says by what the app says in its body.
	answer func(res *egress.Response, r *Result)
}

// roomURL is the setting of apps whose rooms have a URL; the URL is the secret.
func roomURL(example string) setting.Field {
	return setting.Field{Key: "url", Type: setting.URL, Title: "Webhook URL", Required: true, Secret: true, Example: example,
		Help: "The room's webhook URL, as the app shows it. Who has it can post, so it is shown to nobody."}
}

// ownWording is the setting of every room.
var ownWording = setting.Field{Key: "template", Type: setting.Text, Title: "Template", Multiline: true, Example: "**{topic}**: {body.text}",
	Help: "What to say instead of the built-in wording: text with {body.path}, {topic}, {attributes.name}, **bold**, `code` and [text](url)."}

// checkRoom checks the settings that rooms share.
func checkRoom(c *setting.Check, v setting.Values) {
	if raw, ok := v["url"].(string); ok {
		if _, err := c.CheckURL(raw); err != nil {
			c.Fault("settings.url", urlFault(err))
		}
	}
	if text, ok := v["template"].(string); ok {
		if _, err := message.Parse(text); err != nil {
			c.Fault("settings.template", sentence(err))
		}
	}
}

// sentence is what an error of a setting says, without the field that it does not know.
func sentence(err error) string {
	if faults := hark.Faults(err); len(faults) > 0 {
		return faults[0].Msg
	}
	return "is not right"
}

// roomHost is whom a room with a URL dials.
func roomHost(v setting.Values) string {
	u, err := url.Parse(v.Text("url"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}

// openRoom makes what sends to a room.
func openRoom(env *environment, v setting.Values, c chat) (opened, error) {
	s := &roomSender{env: env, chat: c}
	if text := v.Text("template"); text != "" {
		var err error
		if s.own, err = message.Parse(text); err != nil {
			return nil, errors.New("settings.template: " + sentence(err))
		}
	}
	s.hide(c.url)
	return s, nil
}

// openURL is openRoom for apps whose rooms have a URL.
func openURL(env *environment, v setting.Values, c chat) (opened, error) {
	u, err := url.Parse(v.Text("url"))
	if err != nil {
		return nil, errors.New("settings.url: this is not a valid URL")
	}
	u.Host = strings.ToLower(u.Host)
	c.url = u
	return openRoom(env, v, c)
}

// withQuery returns u with parameters added.
func withQuery(u *url.URL, pairs ...string) *url.URL {
	q := u.Query()
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	out := *u
	out.RawQuery = q.Encode()
	return &out
}

// roomSender sends to one revision of one room.
type roomSender struct {
	env *environment
	chat
	own    *message.Template // nil for the built-in wording
	hidden []string
}

// hide collects what of a URL is secret, the longest first.
func (s *roomSender) hide(u *url.URL) {
	s.hidden = append(slices.Clone(s.secrets), u.String(), u.RequestURI())
	parts := strings.Split(u.EscapedPath(), "/")
	for _, values := range u.Query() {
		parts = append(parts, values...)
	}
	for _, part := range parts {
		// "services" and "messages" are words; what is more than small letters is a token.
		if len(part) >= 20 || len(part) >= 8 && strings.Trim(part, "abcdefghijklmnopqrstuvwxyz") != "" {
			s.hidden = append(s.hidden, part)
			if plain, err := url.PathUnescape(part); err == nil && plain != part {
				s.hidden = append(s.hidden, plain)
			}
		}
	}
	s.hidden = slices.DeleteFunc(s.hidden, func(text string) bool { return len(text) < 4 })
	slices.SortFunc(s.hidden, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
}

func (s *roomSender) send(ctx context.Context, e *hark.Event, m Meta) Result {
	var said *message.Message
	if s.own != nil {
		said = s.own.Of(e)
	} else {
		said = message.Of(e)
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // limits count what is sent
	if err := enc.Encode(s.payload(said, e)); err != nil {
		return Result{Outcome: hark.Unsendable, Error: "the message cannot be written as JSON"}
	}
	data := bytes.TrimSpace(body.Bytes())
	req := &http.Request{Method: http.MethodPost, URL: s.url, Host: s.url.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}, "User-Agent": {s.env.userAgent}},
		Body:   io.NopCloser(bytes.NewReader(data)), ContentLength: int64(len(data)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
	res, err := s.env.client.Do(ctx, req.WithContext(ctx), hark.SnippetBytes)
	if err != nil {
		return unanswered(err)
	}
	r := answered(&res, m.Time)
	s.answer(&res, &r)
	if r.Outcome == hark.OK {
		r.RetryAfter = 0
	}
	r.Snippet, r.Error = s.clean(r.Snippet), string(s.clean([]byte(r.Error)))
	return r
}

// clean takes secrets out of what an app answers.
func (s *roomSender) clean(text []byte) []byte {
	for _, secret := range s.hidden {
		text = bytes.ReplaceAll(text, []byte(secret), []byte(setting.Redacted))
	}
	return text[:min(len(text), hark.SnippetBytes)]
}

// gone says that the room is no more: the destination is disabled and keeps its cursor.
func (r *Result) gone(why string) { r.Outcome, r.Error = hark.Unsubscribed, why }

// reject says that a 2xx was no success.
func (r *Result) reject(why string) { r.Outcome, r.Error = hark.Rejected, why }

// seconds reads a number of seconds that may have a fraction, rounded up; 0 for none.
func seconds(text string) time.Duration {
	f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(f > 0) {
		return 0
	}
	return time.Duration(math.Ceil(min(f, maxRetryAfter.Seconds()))) * time.Second
}

// marks stand before a title where the app has no colour for a message.
var marks = map[message.Severity]string{message.Good: "✅ ", message.Warning: "⚠️ ", message.Bad: "❌ "}

// headline is the title with its mark.
func headline(m *message.Message) message.Line {
	if mark := marks[m.Severity]; mark != "" {
		return append(message.Line{{Text: mark}}, m.Title...)
	}
	return m.Title
}

// script is the whole message as lines, for apps that have nothing else.
func script(m *message.Message) []message.Line {
	all := append([]message.Line{headline(m)}, m.Lines...)
	for _, f := range m.Fields {
		all = append(all, append(message.Line{{Text: f.Name + ":", Bold: true}, {Text: " "}}, f.Value...))
	}
	return all
}

// fit returns as much of lines as costs at most limit, each line break costing breaks.
// What is left out is shown as "…".
func fit(lines []message.Line, limit, breaks int, cost func(message.Span) int) (out []message.Line) {
	ellipsis := message.Span{Text: "…"}
	limit -= breaks + cost(ellipsis) // kept for when it does not all fit
	for i, l := range lines {
		if i > 0 {
			limit -= breaks
		}
		if limit < 0 {
			return append(out, message.Line{ellipsis})
		}
		kept := message.Line{}
		for j, s := range l {
			c := cost(s)
			if last := i == len(lines)-1 && j == len(l)-1; c <= limit || last && c <= limit+breaks+cost(ellipsis) {
				kept, limit = append(kept, s), limit-c
				continue
			}
			if cut := shorten(s, limit+cost(ellipsis), cost); cut.Text != "" {
				return append(out, append(kept, cut))
			}
			return append(out, append(kept, ellipsis))
		}
		out = append(out, kept)
	}
	return out
}

// shorten returns the longest beginning of s that costs at most limit with an
// ellipsis; its text is empty if there is none.
func shorten(s message.Span, limit int, cost func(message.Span) int) message.Span {
	runes := []rune(s.Text)
	n := sort.Search(len(runes), func(n int) bool {
		s.Text = string(runes[:n+1]) + "…"
		return cost(s) > limit
	})
	if s.Text = strings.TrimRight(string(runes[:n]), " "); s.Text != "" {
		s.Text += "…"
	}
	return s
}

// dialect is how an app writes rich text in one string.
type dialect struct {
	// text escapes plain text so that it stays plain text.
	text func(s string) string
	// code writes a text as code; bold and link get what is written already.
	code func(s string) string
	bold func(written string) string
	link func(written, url string) string
	// newline separates lines.
	newline string
}

func (d *dialect) span(s message.Span) string {
	out := ""
	if s.Code {
		out = d.code(s.Text)
	} else {
		out = d.text(s.Text)
	}
	if s.Bold && strings.TrimSpace(s.Text) != "" {
		out = d.bold(out)
	}
	if s.URL != "" {
		out = d.link(out, s.URL)
	}
	return out
}

func (d *dialect) line(l message.Line) string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(d.span(s))
	}
	return b.String()
}

// write writes lines in at most limit units of size.
func (d *dialect) write(lines []message.Line, limit int, size func(string) int) string {
	all := make([]string, 0, len(lines))
	for _, l := range fit(lines, limit, size(d.newline), func(s message.Span) int { return size(d.span(s)) }) {
		all = append(all, d.line(l))
	}
	return strings.Join(all, d.newline)
}

// The units in which apps count. Those that say "characters" may mean UTF-16.
func sizeBytes(s string) int { return len(s) }

func sizeUTF16(s string) (n int) {
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

func plainCost(s message.Span) int { return sizeUTF16(s.Text) }

// plain is a beginning of the message as plain text, for previews.
func plain(m *message.Message, limit int) string {
	d := dialect{text: same, code: same, bold: same, link: func(s, _ string) string { return s }, newline: "\n"}
	return d.write(script(m), limit, sizeUTF16)
}

func same(s string) string { return s }

// escapeHTML escapes what is markup in HTML, and nothing else.
var escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// unmention parts every @ that could begin a mention from what follows it, by a mark
// without width; an address such as ann@example.com stays whole.
func unmention(s string) string {
	if !strings.Contains(s, "@") {
		return s
	}
	var b strings.Builder
	word := false
	for _, r := range s {
		b.WriteRune(r)
		if r == '@' && !word {
			b.WriteRune('\u2060')
		}
		word = r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
	}
	return b.String()
}
