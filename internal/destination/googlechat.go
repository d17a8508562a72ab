package destination

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/message"
	"github.com/harkhq/hark/internal/setting"
)

// googlechatKind posts cards to a space of Google Chat, by its incoming webhook
// (developers.google.com/workspace/chat/quickstart/webhooks). A message has at most
// 32,000 bytes (…/chat/api/reference/rest/v1/spaces.messages/create); too many get 429
// without a Retry-After (…/chat/limits).
//
// It is a card and not a text: in a text, <users/all> mentions everybody, and nothing
// escapes it (…/chat/format-messages). In a card, text is HTML, and escapes as such.
var googlechatKind = Kind{
	Name: "googlechat", Title: "Google Chat", Mode: Push,
	Help: "Posts a message to a space of Google Chat.",
	Fields: []setting.Field{
		roomURL("https://chat.googleapis.com/v1/spaces/…/messages?key=…&token=…"),
		ownWording,
		{Key: "thread", Type: setting.Text, Title: "Thread", MaxBytes: 1024, Example: "{key}",
			Help: "A template: messages for which it says the same are one thread. Without it, each starts its own."},
	},
	hosts: []string{"chat.googleapis.com"},
	host:  roomHost,
	check: func(c *setting.Check, v setting.Values) {
		checkRoom(c, v)
		if _, err := message.ParseLine(v.Text("thread")); err != nil {
			c.Fault("settings.thread", sentence(err))
		}
	},
	open: func(env *environment, _ *hark.Destination, v setting.Values) (opened, error) {
		thread, err := message.ParseLine(v.Text("thread"))
		if err != nil {
			return nil, err
		}
		s, err := openURL(env, v, chat{answer: googlechatAnswer, payload: func(m *message.Message, e *hark.Event) any {
			p := googlechatPayload(m)
			if key := strings.TrimSpace(thread.Expand(message.Lookup(e))); key != "" {
				p["thread"] = map[string]any{"threadKey": head(key, 1000)}
			}
			return p
		}})
		if err == nil && v.Text("thread") != "" {
			room := s.(*roomSender)
			room.url = withQuery(room.url, "messageReplyOption", "REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD")
		}
		return s, err
	},
}

// head is at most the first n bytes of s, whole characters only.
func head(s string, n int) string { return strings.ToValidUTF8(s[:min(n, len(s))], "") }

// googlechatText is the HTML that cards know; code has no look of its own there.
var googlechatText = dialect{
	text: escapeHTML.Replace, code: escapeHTML.Replace, newline: "<br>",
	bold: func(s string) string { return "<b>" + s + "</b>" },
	link: func(s, url string) string { return `<a href="` + escapeHTML.Replace(url) + `">` + s + "</a>" },
}

// Limits that keep a whole message under 32,000 bytes.
const (
	googlechatLines   = 12_000
	googlechatField   = 600
	googlechatPreview = 500
)

func googlechatPayload(m *message.Message) map[string]any {
	text := googlechatText.write(append([]message.Line{headline(m)}, m.Lines...), googlechatLines, sizeBytes)
	if m.Footer != "" {
		text += `<br><font color="#80868b">` + googlechatText.text(m.Footer) + "</font>"
	}
	widgets := []any{map[string]any{"textParagraph": map[string]any{"text": text}}}
	for _, f := range m.Fields {
		widgets = append(widgets, map[string]any{"decoratedText": map[string]any{
			"topLabel": head(f.Name, 100), "text": googlechatText.write([]message.Line{f.Value}, googlechatField, sizeBytes), "wrapText": true}})
	}
	return map[string]any{
		// What a phone's notification says.
		"fallbackDescription": plain(m, googlechatPreview),
		"cardsV2": []any{map[string]any{"cardId": "hark", "card": map[string]any{
			"sections": []any{map[string]any{"widgets": widgets}}}}},
	}
}

func googlechatAnswer(res *egress.Response, r *Result) {
	switch {
	case res.Status == http.StatusNotFound && bytes.Contains(res.Snippet, []byte("NOT_FOUND")):
		r.gone("Google Chat knows no such space or webhook: it was deleted")
	case res.Status == http.StatusBadRequest && bytes.Contains(res.Snippet, []byte("INVALID_ARGUMENT")):
		r.Error = "Google Chat does not take the message"
	}
}
