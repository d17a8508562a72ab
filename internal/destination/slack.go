package destination

import (
	"slices"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/message"
	"github.com/harkhq/hark/internal/setting"
)

// slackKind posts to a channel of Slack, by an incoming webhook
// (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks, which lists the
// answers, too). Rich text (docs.slack.dev/reference/block-kit/blocks/rich-text-block)
// is a list of texts and their looks: nothing in it is markup, so nothing in an event
// can be. Only the preview in "text" is escaped.
var slackKind = Kind{
	Name: "slack", Title: "Slack", Mode: Push,
	Help:   "Posts a message to a channel of Slack.",
	Fields: []setting.Field{roomURL("https://hooks.slack.com/services/T…/B…/…"), ownWording},
	hosts:  []string{"hooks.slack.com", "hooks.slack-gov.com"},
	host:   roomHost,
	check:  checkRoom,
	open: func(env *environment, _ *hark.Destination, v setting.Values) (opened, error) {
		return openURL(env, v, chat{answer: slackAnswer, payload: func(m *message.Message, _ *hark.Event) any { return slackPayload(m) }})
	},
}

// Slack documents 3,000 characters for a text in a block and 40,000 for a message, and
// refuses all blocks together from about 13,000 on.
const (
	slackLines   = 3000
	slackPreview = 500
	slackFooter  = 300
)

func slackPayload(m *message.Message) map[string]any {
	elements := []any{}
	for i, l := range fit(script(m), slackLines, 1, plainCost) {
		if i > 0 {
			elements = append(elements, map[string]any{"type": "text", "text": "\n"})
		}
		for _, s := range l {
			elements = append(elements, slackElement(s))
		}
	}
	blocks := []any{map[string]any{"type": "rich_text", "elements": []any{map[string]any{"type": "rich_text_section", "elements": elements}}}}
	if m.Footer != "" {
		blocks = append(blocks, map[string]any{"type": "context", "elements": []any{
			map[string]any{"type": "plain_text", "text": head(m.Footer, slackFooter), "emoji": false}}})
	}
	return map[string]any{"text": slackEscape.Replace(plain(m, slackPreview)), "blocks": blocks, "unfurl_links": false, "unfurl_media": false}
}

// slackEscape takes mentions and links from a text
// (docs.slack.dev/messaging/formatting-message-text#escaping).
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func slackElement(s message.Span) map[string]any {
	e := map[string]any{"type": "text", "text": s.Text}
	if s.URL != "" {
		e["type"], e["url"] = "link", s.URL
	}
	style := map[string]any{}
	if s.Bold {
		style["bold"] = true
	}
	if s.Code {
		style["code"] = true
	}
	if len(style) > 0 {
		e["style"] = style
	}
	return e
}

// slackGone are the answers of channels that are no more.
var slackGone = []string{"no_service", "no_service_id", "no_team", "team_disabled", "channel_not_found", "channel_is_archived", "invalid_token"}

func slackAnswer(res *egress.Response, r *Result) {
	said := strings.TrimSpace(string(res.Snippet))
	switch {
	case res.Status/100 == 2 && said != "ok":
		r.reject("the answer is not Slack's ok: is settings.url a webhook of Slack?")
	case r.Outcome != hark.OK && slices.Contains(slackGone, said):
		r.gone("Slack says " + said + ": the webhook or its channel is no more")
	case r.Outcome == hark.Rejected && said != "" && len(said) < 64 && !strings.ContainsAny(said, " <{"):
		r.Error = "Slack says " + said
	}
}
