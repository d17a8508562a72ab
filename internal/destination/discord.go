package destination

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/message"
	"github.com/harkhq/hark/internal/setting"
)

// discordKind posts to a channel of Discord, by its webhook
// (discord.com/developers/docs/resources/webhook#execute-webhook). With wait=true the
// answer comes after the message is there, and says what is wrong with it. Limits of
// embeds: …/docs/resources/message#embed-object-embed-limits; rate limits:
// …/docs/topics/rate-limits.
var discordKind = Kind{
	Name: "discord", Title: "Discord", Mode: Push,
	Help: "Posts a message to a channel of Discord.",
	Fields: []setting.Field{
		roomURL("https://discord.com/api/webhooks/…/…"),
		ownWording,
		{Key: "username", Type: setting.Text, Title: "User name", MaxBytes: 80, Help: "Another name for the sender than the webhook's."},
		{Key: "thread", Type: setting.Text, Title: "Thread", MaxBytes: 20, Example: "1234567890", Help: "The id of a thread of the channel to post to."},
	},
	hosts: []string{"discord.com", "discordapp.com", "canary.discord.com", "ptb.discord.com"},
	host:  roomHost,
	check: func(c *setting.Check, v setting.Values) {
		checkRoom(c, v)
		if strings.Trim(v.Text("thread"), "0123456789") != "" {
			c.Fault("settings.thread", "must be the number of a thread")
		}
	},
	open: func(env *environment, _ *hark.Destination, v setting.Values) (opened, error) {
		username := v.Text("username")
		s, err := openURL(env, v, chat{answer: discordAnswer, payload: func(m *message.Message, _ *hark.Event) any {
			p := discordPayload(m)
			if username != "" {
				p["username"] = username
			}
			return p
		}})
		if err == nil {
			room := s.(*roomSender)
			room.url = discordURL(room.url, v.Text("thread"))
		}
		return s, err
	},
}

func discordURL(u *url.URL, thread string) *url.URL {
	u = withQuery(u, "wait", "true")
	if thread != "" {
		u = withQuery(u, "thread_id", thread)
	}
	return u
}

// discordText is Discord's Markdown.
var discordText = dialect{
	text: escapeMarkdown, newline: "\n",
	code: func(s string) string { return "`" + strings.ReplaceAll(s, "`", "ˋ") + "`" },
	bold: func(s string) string { return "**" + s + "**" },
	link: func(s, url string) string { return "[" + s + "](" + url + ")" },
}

// escapeMarkdown puts a backslash before whatever could be markup.
func escapeMarkdown(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\*_~`|>#[]()<:-+&", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Discord's limits of an embed: 4,096 characters of description, 256 of a field's name
// and 1,024 of its value, 2,048 of the footer, and 6,000 of all. Lines, 12 fields and
// the footer stay under them together.
const (
	discordLines     = 3500
	discordFieldName = 60
	discordField     = 100
	discordFooter    = 200
)

var discordColours = map[message.Severity]int{message.Info: 0x5865f2, message.Good: 0x23a55a, message.Warning: 0xf0b232, message.Bad: 0xf23f43}

func discordPayload(m *message.Message) map[string]any {
	embed := map[string]any{
		"description": discordText.write(append([]message.Line{m.Title}, m.Lines...), discordLines, sizeUTF16),
		"color":       discordColours[m.Severity],
		"timestamp":   m.Time.UTC().Format(time.RFC3339),
	}
	fields := []any{}
	for _, f := range m.Fields {
		value := discordText.write([]message.Line{f.Value}, discordField, sizeUTF16)
		if utf8.RuneCountInString(value) == 0 {
			continue // Discord wants a value
		}
		fields = append(fields, map[string]any{"name": discordText.write([]message.Line{{{Text: f.Name}}}, discordFieldName, sizeUTF16), "value": value, "inline": true})
	}
	if len(fields) > 0 {
		embed["fields"] = fields
	}
	if m.Footer != "" {
		embed["footer"] = map[string]any{"text": head(m.Footer, discordFooter)}
	}
	// Without it, @everyone in an event would call everyone.
	return map[string]any{"embeds": []any{embed}, "allowed_mentions": map[string]any{"parse": []string{}}}
}

// Discord's codes of errors (discord.com/developers/docs/topics/opcodes-and-status-codes).
const (
	discordUnknownWebhook      = 10015
	discordInvalidWebhookToken = 50027
)

func discordAnswer(res *egress.Response, r *Result) {
	var said struct {
		Code       int         `json:"code"`
		RetryAfter json.Number `json:"retry_after"`
	}
	_ = json.Unmarshal(res.Snippet, &said) // what is none of Discord's says nothing
	switch {
	case res.Status == http.StatusTooManyRequests:
		for _, text := range []string{said.RetryAfter.String(), res.Header.Get("X-Ratelimit-Reset-After")} {
			if after := seconds(text); after > 0 {
				r.RetryAfter = after
				return
			}
		}
	case res.Status == http.StatusNotFound && said.Code == discordUnknownWebhook,
		res.Status == http.StatusUnauthorized && said.Code == discordInvalidWebhookToken:
		r.gone("Discord knows no such webhook: it was deleted")
	}
}
