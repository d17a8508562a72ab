package destination

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
)

var update = flag.Bool("update", false, "accept what rooms are sent now")

// rooms are settings of one room of each app.
var rooms = map[string]string{
	"googlechat": `{"url":"https://example.com/v1/spaces/A/messages?key=k&token=t"%s}`, "slack": `{"url":"https://example.com/services/T/B/x"%s}`,
	"discord": `{"url":"https://example.com/api/webhooks/1/x"%s}`, "teams": `{"url":"https://example.com/workflows/1"%s}`,
	"telegram": `{"token":"1:x","chat_id":"7"%s}`, "mattermost": `{"url":"https://example.com/hooks/x"%s}`,
}

// posted is what a room would be sent of an event.
func posted(t testing.TB, kind, more string, e *hark.Event) (*http.Request, []byte) {
	t.Helper()
	f := &fake{res: egress.Response{Status: 200, Snippet: []byte(chatFixtures[kind].ok)}}
	s := New(Config{Client: f})
	d := build(t, s, Find(kind), strings.Replace(rooms[kind], "%s", more, 1), "")
	if r := s.Send(t.Context(), d, e, Meta{Attempt: 1}); r.Outcome != hark.OK {
		t.Fatalf("%s: %+v", kind, r)
	}
	body, err := io.ReadAll(f.last.Body)
	if err != nil || !json.Valid(body) || f.last.ContentLength != int64(len(body)) || f.last.Method != http.MethodPost {
		t.Fatalf("%s: %s %q %v", kind, f.last.Method, body, err)
	}
	return f.last, body
}

func jsonEvent(topic, data string) *hark.Event {
	return &hark.Event{ID: hark.EventID{Shard: 1, Incarnation: 2, Offset: 3}, Topic: topic, Key: "k7", ContentType: "application/json", Data: []byte(data), Received: time.Unix(1e9, 0)}
}

const pushed = `{"ref":"refs/heads/main","before":"aa","compare":"https://github.com/acme/shop/compare/aa...bb","repository":{"full_name":"acme/shop","html_url":"https://github.com/acme/shop"},
	"sender":{"login":"ann","html_url":"https://github.com/ann"},"forced":true,"commits":[{"id":"0123456789abcdef","message":"Fix *this* & <that>\n\nmore","url":"https://github.com/acme/shop/commit/0123456789abcdef","author":{"username":"bob"}}]}`

const opened2 = `{"action":"opened","repository":{"full_name":"acme/shop","html_url":"https://github.com/acme/shop"},"sender":{"login":"ann","html_url":"https://github.com/ann"},
	"pull_request":{"number":12,"title":"Count","html_url":"https://github.com/acme/shop/pull/12","body":"Now it is.","head":{"ref":"count"},"base":{"ref":"main"},"additions":1,"deletions":2,"changed_files":3}}`

// TestRoomsGolden: what each app is sent, as files, which e2e gives to the apps' own
// schemas and types. go test -update accepts.
func TestRoomsGolden(t *testing.T) {
	for kind := range rooms {
		for name, data := range map[string]string{"push": pushed, "opened": opened2} {
			_, body := posted(t, kind, "", jsonEvent("github.push", data))
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, body, "", "  "); err != nil {
				t.Fatal(err)
			}
			pretty.WriteByte('\n')
			path := "testdata/rooms/" + kind + "-" + name + ".json"
			if *update {
				if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(want, pretty.Bytes()) {
				t.Errorf("%s: %v\n%s", path, err, pretty.Bytes())
			}
		}
	}
}

func TestRoomRequests(t *testing.T) {
	e := jsonEvent("orders.paid", `{"n":1}`)
	for kind, c := range map[string]struct{ more, url, body string }{
		"googlechat": {`,"thread":"order-{body.n}"`, "https://example.com/v1/spaces/A/messages?key=k&messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD&token=t", `"thread":{"threadKey":"order-1"}`},
		"discord":    {`,"thread":"9","username":"Ann"`, "https://example.com/api/webhooks/1/x?thread_id=9&wait=true", `"username":"Ann"`},
		"telegram":   {`,"thread":9,"silent":true`, "https://api.telegram.org/bot1:x/sendMessage", `"disable_notification":true,"link_preview_options":{"is_disabled":true},"message_thread_id":9,"parse_mode":"HTML"`},
		"mattermost": {`,"channel":"town","username":"Ann"`, "https://example.com/hooks/x", `"channel":"town","text":"**orders\.paid**`},
		"slack":      {``, "https://example.com/services/T/B/x", `"unfurl_links":false`},
		"teams":      {``, "https://example.com/workflows/1", `"type":"message"`},
	} {
		req, body := posted(t, kind, c.more, e)
		c.body = strings.ReplaceAll(c.body, `orders\.`, `orders.`)
		if req.URL.String() != c.url || !strings.Contains(string(body), c.body) || req.Header.Get("Content-Type") != "application/json; charset=utf-8" || req.Header.Get("User-Agent") != "Hark/dev" {
			t.Errorf("%s: %s %v\n%s", kind, req.URL, req.Header, body)
		}
	}
}

// hostile is what an attacker would write into a commit message.
const hostile = "@everyone @here @channel @all @ann <!channel> <!here|x> <@U123> <@&1> <users/all> <#C1> <https://evil.example|click> [click](https://evil.example) ![i](https://evil.example/i.png)" +
	" <b>bold</b> <a href=\"https://evil.example\">x</a> <script>alert(1)</script> **b** *i* __u__ ~~s~~ `c` ```d``` ||spoiler|| # h \\* &lt; &amp; javascript:alert(1) \u202e mail@example.com"

var tag = regexp.MustCompile(`<[^>]*>?`)

// TestNothingInAnEventIsMarkup: no text of an event mentions anybody, links anywhere
// or looks like more than text.
func TestNothingInAnEventIsMarkup(t *testing.T) {
	text, _ := json.Marshal(hostile)
	events := []*hark.Event{
		jsonEvent("x", `{"text":`+string(text)+`,"field":`+string(text)+`}`),
		jsonEvent("x", `{"ref":"refs/heads/main","before":"aa","compare":`+string(text)+`,"repository":{"full_name":`+string(text)+`,"html_url":"javascript:alert(1)"},
			"sender":{"login":`+string(text)+`,"html_url":`+string(text)+`},"commits":[{"id":`+string(text)+`,"message":`+string(text)+`,"url":"https://x.example/)|>\">"}]}`),
	}
	for _, more := range []string{"", `,"template":"say {body.text}{body.sender.login} [here]({body.compare}{body.text})\n` + "`{body.field}`" + `"`} {
		for _, e := range events {
			for kind := range rooms {
				_, body := posted(t, kind, more, e)
				var p struct {
					Text            string
					AllowedMentions struct{ Parse []string } `json:"allowed_mentions"`
					Embeds          []struct{ Description string }
					CardsV2         []struct {
						Card struct {
							Sections []struct {
								Widgets []struct {
									TextParagraph, DecoratedText struct{ Text string }
								}
							}
						}
					}
				}
				if err := json.Unmarshal(body, &p); err != nil {
					t.Fatal(err)
				}
				s := string(body)
				if strings.Contains(s, "href=\\\"javascript") || strings.Contains(s, "](javascript") || strings.Contains(s, `"url":"javascript`) {
					t.Errorf("%s links to a script: %s", kind, s)
				}
				switch kind {
				case "googlechat":
					for _, w := range p.CardsV2[0].Card.Sections[0].Widgets {
						onlyTags(t, kind, w.TextParagraph.Text+w.DecoratedText.Text, "<b>", "</b>", "<br>", "</a>", "</font>", `<font color="#80868b">`)
					}
				case "telegram":
					onlyTags(t, kind, p.Text, "<b>", "</b>", "<code>", "</code>", "<i>", "</i>", "</a>")
					if outside := regexp.MustCompile(`(?s)<code>.*?</code>`).ReplaceAllString(p.Text, ""); regexp.MustCompile(`(^|[^0-9A-Za-z_])@[a-z]`).MatchString(outside) {
						t.Errorf("telegram mentions: %s", p.Text)
					}
				case "slack":
					if strings.ContainsAny(p.Text, "<>") {
						t.Errorf("slack: %s", p.Text)
					}
					if strings.Contains(s, "mrkdwn") || !strings.Contains(s, `"rich_text"`) {
						t.Error("slack is sent markup")
					}
				case "teams":
					if strings.Contains(s, `"TextBlock"`) || strings.Contains(s, `"FactSet"`) || strings.Contains(s, `"entities"`) {
						t.Error("teams is sent markup")
					}
				case "discord":
					if p.AllowedMentions.Parse == nil || len(p.AllowedMentions.Parse) != 0 {
						t.Error("discord may mention")
					}
					onlyOurMarkdown(t, kind, p.Embeds[0].Description)
				case "mattermost":
					onlyOurMarkdown(t, kind, p.Text)
					if outside := regexp.MustCompile("`[^`]*`").ReplaceAllString(p.Text, ""); regexp.MustCompile(`(^|[^0-9A-Za-z_])@[a-z]`).MatchString(outside) {
						t.Errorf("mattermost mentions: %s", p.Text)
					}
				}
			}
		}
	}
}

func onlyTags(t *testing.T, kind, html string, allowed ...string) {
	t.Helper()
	for _, found := range tag.FindAllString(html, -1) {
		ok := regexp.MustCompile(`^<a href="https://[^"<>]*">$`).MatchString(found)
		for _, a := range allowed {
			ok = ok || a == found
		}
		if !ok {
			t.Errorf("%s: %s in %s", kind, found, html)
		}
	}
}

// onlyOurMarkdown takes out what is escaped and what is code: nothing of the event's
// markup may be left.
func onlyOurMarkdown(t *testing.T, kind, text string) {
	t.Helper()
	rest := regexp.MustCompile("`[^`]*`").ReplaceAllString(text, "")
	rest = regexp.MustCompile(`\\[[:punct:]]`).ReplaceAllString(rest, "")
	for _, bad := range []string{"](https://evil", "<", "~~", "__", "||", "![", "\n#"} {
		if strings.Contains(rest, bad) {
			t.Errorf("%s: %q is left in %s", kind, bad, text)
		}
	}
}

// TestRoomLimits: however much an event says, an app takes the message.
func TestRoomLimits(t *testing.T) {
	var values []string
	for _, unit := range []string{"word ", "<&\"*_", "é", "😀", "@a ", "\\\\", "a\\n", "\\n\\n", "[x](https://a.example) "} {
		values = append(values, strings.Repeat(unit, 20_000))
	}
	for _, v := range values {
		commit := `{"id":"0123456","message":"` + v + `","url":"https://a.example/` + strings.Repeat("x", 1500) + `"}`
		for _, data := range []string{`{"text":"` + v + `","a":"` + v + `"}`, `"` + v + `"`,
			`{"ref":"r","before":"b","repository":{"full_name":"` + v + `","html_url":"https://a.example/` + strings.Repeat("y", 1500) + `"},"sender":{"login":"` + v + `"},"commits":[` + strings.Repeat(commit+",", 5) + commit + `]}`} {
			for _, more := range []string{"", `,"template":"{body}\n**{body.text}**\n[{body.text}](https://a.example/{topic})` + strings.Repeat(`\n`, 90) + `{body.a}"`} {
				for kind := range rooms {
					_, body := posted(t, kind, more, jsonEvent("x", data))
					checkLimits(t, kind, body)
				}
			}
		}
	}
}

func checkLimits(t *testing.T, kind string, body []byte) {
	t.Helper()
	var p struct {
		Text   string
		Embeds []struct {
			Description string
			Fields      []struct{ Name, Value string }
			Footer      struct{ Text string }
		}
		Blocks []struct {
			Elements []struct{ Elements []struct{ Text string } }
		}
	}
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatal(err)
	}
	units := func(s string) int { return len(utf16.Encode([]rune(s))) }
	n, limit := 0, 0
	switch kind {
	case "googlechat":
		n, limit = len(body), 32_000
	case "slack":
		limit = 3000
		for _, e := range p.Blocks[0].Elements[0].Elements {
			n += units(e.Text)
		}
		if units(p.Text) > 3000 || len(p.Blocks) > 50 {
			t.Errorf("slack: a preview of %d", units(p.Text))
		}
	case "discord":
		limit = 6000
		em := p.Embeds[0]
		n = units(em.Description) + units(em.Footer.Text)
		for _, f := range em.Fields {
			n += units(f.Name) + units(f.Value)
			if f.Name == "" || f.Value == "" || units(f.Name) > 256 || units(f.Value) > 1024 {
				t.Errorf("discord: a field %q of %d", f.Name, units(f.Value))
			}
		}
		if units(em.Description) > 4096 || len(em.Fields) > 25 || len(p.Embeds) > 10 {
			t.Error("discord: limits of an embed")
		}
	case "teams":
		n, limit = 2*units(string(body)), 28<<10
	case "telegram":
		n, limit = units(strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "&amp;", "&").Replace(regexp.MustCompile(`</?(b|i|a|code)[^>]*>`).ReplaceAllString(p.Text, ""))), 4096
	case "mattermost":
		n, limit = units(p.Text), 4000
	}
	if n > limit || n == 0 {
		t.Errorf("%s: %d of %d", kind, n, limit)
	}
}

func TestRecognise(t *testing.T) {
	for raw, want := range map[string]string{
		"https://chat.googleapis.com/v1/spaces/A/messages?key=k": "googlechat", "https://hooks.slack.com/services/T/B/x": "slack",
		"https://discord.com/api/webhooks/1/x": "discord", "https://discordapp.com/api/webhooks/1/x": "discord",
		"https://acme.webhook.office.com/webhookb2/x": "teams", "https://prod-1.westeurope.logic.azure.com:443/workflows/x": "teams",
		"https://x.y.environment.api.powerplatform.com:443/powerautomate/x": "teams",
		"https://api.telegram.org/bot1:x/sendMessage?chat_id=7":             "telegram",
		"https://example.com/hook":                                          "webhook", "https://hooks.slack.com.evil.example/": "webhook", "https://evilwebhook.office.com": "webhook", "http://hooks.slack.com/x": "webhook",
		"https://api.telegram.org/": "webhook", ":": "webhook",
	} {
		kind, settings := Recognise(raw)
		if kind != want {
			t.Errorf("%s: %s, want %s", raw, kind, want)
		}
		if kind == "telegram" && (settings["token"] != "1:x" || settings["chat_id"] != "7") || kind != "telegram" && settings["url"] != raw {
			t.Errorf("%s: %v", raw, settings)
		}
	}
}

func TestUnmention(t *testing.T) {
	for s, want := range map[string]string{"@ann": "@\u2060ann", "a @ann b": "a @\u2060ann b", "ann@example.com": "ann@example.com", "(@x)": "(@\u2060x)", "": "", "@": "@\u2060", "é@x": "é@\u2060x"} {
		if got := unmention(s); got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
}
