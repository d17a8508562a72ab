package destination

import (
	"encoding/json"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/message"
	"github.com/harkhq/hark/internal/setting"
)

// mattermostKind posts to a channel of Mattermost, by an incoming webhook
// (developers.mattermost.com/integrate/webhooks/incoming). A post has at most 16,383
// characters, 4,000 before version 5.0. Mentions in the text of a webhook count, and
// nothing turns them off: they are parted.
var mattermostKind = Kind{
	Name: "mattermost", Title: "Mattermost", Mode: Push,
	Help: "Posts a message to a channel of Mattermost.",
	Fields: []setting.Field{
		roomURL("https://mattermost.example.com/hooks/…"),
		ownWording,
		{Key: "channel", Type: setting.Text, Title: "Channel", MaxBytes: 64, Help: "Another channel than the webhook's, by its name in URLs, if the webhook may."},
		{Key: "username", Type: setting.Text, Title: "User name", MaxBytes: 64, Help: "Another name for the sender than the webhook's, if the server allows it."},
	},
	host:  roomHost,
	check: checkRoom,
	open: func(env *environment, _ *hark.Destination, v setting.Values) (opened, error) {
		channel, username := v.Text("channel"), v.Text("username")
		return openURL(env, v, chat{answer: mattermostAnswer, payload: func(m *message.Message, _ *hark.Event) any {
			p := map[string]any{"text": mattermostPayload(m)}
			if channel != "" {
				p["channel"] = channel
			}
			if username != "" {
				p["username"] = username
			}
			return p
		}})
	},
}

// mattermostText is CommonMark, in which a backslash escapes punctuation.
var mattermostText = dialect{
	text: func(s string) string { return unmention(escapeMarkdown(s)) }, newline: "\n",
	code: func(s string) string { return "`" + strings.ReplaceAll(s, "`", "ˋ") + "`" },
	bold: func(s string) string { return "**" + s + "**" },
	link: func(s, url string) string { return "[" + s + "](" + url + ")" },
}

const mattermostLines = 3700

func mattermostPayload(m *message.Message) string {
	text := mattermostText.write(script(m), mattermostLines, sizeUTF16)
	if m.Footer != "" {
		text += "\n_" + mattermostText.text(head(m.Footer, 100)) + "_"
	}
	return text
}

func mattermostAnswer(res *egress.Response, r *Result) {
	var said struct {
		ID      string `json:"id"`
		Message string `json:"message"`
	}
	if r.Outcome != hark.Rejected || json.Unmarshal(res.Snippet, &said) != nil || said.ID == "" {
		return
	}
	r.Error = "Mattermost says: " + head(said.Message, 200)
	switch said.ID {
	case "web.incoming_webhook.invalid.app_error", "web.incoming_webhook.channel.app_error", "api.post.create_post.can_not_post_to_deleted.error":
		r.gone(r.Error)
	}
}
