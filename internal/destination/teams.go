package destination

import (
	"bytes"
	"net/http"
	"regexp"
	"strconv"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/message"
	"github.com/harkhq/hark/internal/setting"
)

// teamsKind posts adaptive cards to a channel or chat of Microsoft Teams, by the
// trigger "When a Teams webhook request is received" of Workflows
// (learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using).
// A RichTextBlock (adaptivecards.io/explorer/RichTextBlock.html) is a list of texts and
// their looks: nothing in it is markup. A mention needs an entity of the card, and
// there is none.
var teamsKind = Kind{
	Name: "teams", Title: "Microsoft Teams", Mode: Push,
	Help:   "Posts a message to a channel or chat of Microsoft Teams.",
	Fields: []setting.Field{roomURL("https://….api.powerplatform.com/…/workflows/…/triggers/manual/paths/invoke?…&sig=…"), ownWording},
	hosts:  []string{".webhook.office.com", ".logic.azure.com", ".api.powerplatform.com"},
	host:   roomHost,
	check:  checkRoom,
	open: func(env *environment, _ *hark.Destination, v setting.Values) (opened, error) {
		return openURL(env, v, chat{answer: teamsAnswer, payload: func(m *message.Message, _ *hark.Event) any { return teamsPayload(m) }})
	},
}

// A message has at most 28 KB, counted as UTF-16. A line costs about 100 bytes of JSON
// and a span with a link about 200; text may be escaped, up to six bytes for one.
const (
	teamsBytes = 13_000
	teamsBreak = 100
	teamsSpan  = 120
)

func teamsCost(s message.Span) int {
	n := teamsSpan + len(strconv.Quote(s.Text))
	if s.URL != "" {
		n += 60 + len(s.URL)
	}
	return n
}

func teamsPayload(m *message.Message) map[string]any {
	body := []any{}
	for i, l := range fit(script(m), teamsBytes, teamsBreak, teamsCost) {
		runs := make([]any, 0, len(l))
		for _, s := range l {
			run := teamsRun(s)
			if i == 0 {
				run["size"] = "Medium"
			}
			runs = append(runs, run)
		}
		if len(runs) == 0 {
			runs = append(runs, map[string]any{"type": "TextRun", "text": " "})
		}
		block := map[string]any{"type": "RichTextBlock", "inlines": runs}
		if i > 1 {
			block["spacing"] = "None"
		}
		body = append(body, block)
	}
	if m.Footer != "" {
		body = append(body, map[string]any{"type": "RichTextBlock", "spacing": "Small", "inlines": []any{
			map[string]any{"type": "TextRun", "text": head(m.Footer, 200), "size": "Small", "isSubtle": true}}})
	}
	card := map[string]any{"type": "AdaptiveCard", "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "version": "1.4",
		"body": body, "fallbackText": plain(m, 200), "msteams": map[string]any{"width": "Full"}}
	return map[string]any{"type": "message", "attachments": []any{
		map[string]any{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": card}}}
}

func teamsRun(s message.Span) map[string]any {
	run := map[string]any{"type": "TextRun", "text": s.Text}
	if s.Bold {
		run["weight"] = "Bolder"
	}
	if s.Code {
		run["fontType"] = "Monospace"
	}
	if s.URL != "" {
		run["color"] = "Accent"
		run["selectAction"] = map[string]any{"type": "Action.OpenUrl", "url": s.URL}
	}
	return run
}

// teamsInner is how the older connectors tell an error: with status 200.
var teamsInner = regexp.MustCompile(`returned HTTP error (\d{3})`)

func teamsAnswer(res *egress.Response, r *Result) {
	switch inner := teamsInner.FindSubmatch(res.Snippet); {
	case res.Status/100 == 2 && inner != nil:
		status, _ := strconv.Atoi(string(inner[1]))
		r.Outcome = Verdict(status)
		if r.Outcome == hark.OK {
			r.Outcome = hark.Rejected
		}
		r.Error = "Teams says that it did not take the message: error " + string(inner[1])
	case res.Status/100 == 2 && bytes.Contains(res.Snippet, []byte("Webhook message delivery failed")):
		r.reject("Teams says that it did not take the message")
	case res.Status == http.StatusNotFound && bytes.Contains(res.Snippet, []byte("WorkflowNotFound")):
		r.gone("Teams knows no such workflow: it was deleted")
	case bytes.Contains(res.Snippet, []byte("WorkflowTriggerIsNotEnabled")):
		r.Error = "the workflow is turned off: turn it on in Teams"
	}
}
