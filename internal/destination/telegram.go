package destination

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/message"
	"github.com/harkhq/hark/internal/setting"
)

// telegramKind posts as a bot to a chat of Telegram (core.telegram.org/bots/api#sendmessage).
// A text has at most 4,096 characters after its HTML was read. An error is an object
// with error_code, description and parameters (…/bots/api#responseparameters).
var telegramKind = Kind{
	Name: "telegram", Title: "Telegram", Mode: Push,
	Help: "Posts a message to a chat, group or channel of Telegram, as a bot.",
	Fields: []setting.Field{
		{Key: "token", Type: setting.Text, Title: "Bot token", Required: true, Secret: true, MaxBytes: 128, Example: "123456:ABC…",
			Help: "The bot's token, from @BotFather. Who has it is the bot, so it is shown to nobody."},
		{Key: "chat_id", Type: setting.Text, Title: "Chat", Required: true, MaxBytes: 64, Example: "-1001234567890",
			Help: "The chat's number, or @name of a public channel."},
		ownWording,
		{Key: "thread", Type: setting.Int, Title: "Topic", Min: 1, Max: 1 << 31, Help: "The number of a topic of the group (message_thread_id)."},
		{Key: "silent", Type: setting.Bool, Title: "Silent", Default: "false", Help: "Without a sound."},
		{Key: "api", Type: setting.URL, Title: "API", Default: "https://api.telegram.org", Help: "Where the Bot API is, for a server of your own."},
	},
	check: checkTelegram,
	host: func(v setting.Values) string {
		u, err := url.Parse(v.Text("api"))
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	},
	fromURL: telegramFromURL,
	open:    openTelegram,
}

var (
	telegramToken = regexp.MustCompile(`^[0-9]+:[A-Za-z0-9_-]+$`)
	telegramChat  = regexp.MustCompile(`^(-?[0-9]{1,20}|@[A-Za-z0-9_]+)$`)
)

func checkTelegram(c *setting.Check, v setting.Values) {
	checkRoom(c, v)
	if !telegramToken.MatchString(v.Text("token")) {
		c.Fault("settings.token", "is not a bot's token, such as \"123456:ABC…\"")
	}
	if !telegramChat.MatchString(v.Text("chat_id")) {
		c.Fault("settings.chat_id", "must be a number, such as \"-1001234567890\", or the @name of a public channel")
	}
	if u, err := c.CheckURL(v.Text("api")); err != nil {
		c.Fault("settings.api", urlFault(err))
	} else if u.RawQuery != "" {
		c.Fault("settings.api", "must not have a query")
	}
}

// telegramFromURL takes the address of sendMessage apart.
func telegramFromURL(u *url.URL) map[string]string {
	bot, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	token, ok := strings.CutPrefix(bot, "bot")
	if u.Hostname() != "api.telegram.org" || !ok {
		return nil
	}
	settings := map[string]string{"token": token}
	if chat := u.Query().Get("chat_id"); chat != "" {
		settings["chat_id"] = chat
	}
	return settings
}

func openTelegram(env *environment, _ *hark.Destination, v setting.Values) (opened, error) {
	u, err := url.Parse(v.Text("api"))
	if err != nil {
		return nil, err
	}
	u = u.JoinPath("bot"+v.Text("token"), "sendMessage")
	u.Host = strings.ToLower(u.Host)
	chatID, thread, silent := v.Text("chat_id"), v.Int("thread"), v.Bool("silent")
	return openRoom(env, v, chat{url: u, secrets: []string{v.Text("token")}, answer: telegramAnswer, payload: func(m *message.Message, _ *hark.Event) any {
		p := map[string]any{"chat_id": chatID, "text": telegramPayload(m), "parse_mode": "HTML", "link_preview_options": map[string]any{"is_disabled": true}}
		if thread > 0 {
			p["message_thread_id"] = thread
		}
		if silent {
			p["disable_notification"] = true
		}
		return p
	}})
}

// telegramText is the HTML that Telegram knows. It finds mentions in plain text.
var telegramText = dialect{
	text: func(s string) string { return escapeHTML.Replace(unmention(s)) }, newline: "\n",
	code: func(s string) string { return "<code>" + escapeHTML.Replace(s) + "</code>" },
	bold: func(s string) string { return "<b>" + s + "</b>" },
	link: func(s, url string) string { return `<a href="` + escapeHTML.Replace(url) + `">` + s + "</a>" },
}

// telegramLines leaves room for the footer under 4,096.
const telegramLines = 3800

func telegramPayload(m *message.Message) string {
	lines := fit(script(m), telegramLines, 1, func(s message.Span) int { return sizeUTF16(unmention(s.Text)) })
	text := telegramText.write(lines, 1<<20, sizeUTF16)
	if m.Footer != "" {
		text += "\n<i>" + telegramText.text(head(m.Footer, 200)) + "</i>"
	}
	return text
}

func telegramAnswer(res *egress.Response, r *Result) {
	var said struct {
		OK          bool   `json:"ok"`
		Code        int    `json:"error_code"`
		Description string `json:"description"`
		Parameters  struct {
			RetryAfter int   `json:"retry_after"`
			MigrateTo  int64 `json:"migrate_to_chat_id"`
		} `json:"parameters"`
	}
	if res.Status/100 == 2 {
		// The message that it answers with may be longer than what is read.
		if !bytes.HasPrefix(bytes.Join(bytes.Fields(res.Snippet), nil), []byte(`{"ok":true`)) {
			r.reject("the answer is not Telegram's: is settings.api its Bot API?")
		}
		return
	}
	if json.Unmarshal(res.Snippet, &said) != nil || said.Code == 0 {
		return
	}
	r.Error = "Telegram says: " + head(said.Description, 200)
	switch {
	case res.Status == http.StatusTooManyRequests && said.Parameters.RetryAfter > 0:
		r.RetryAfter = time.Duration(min(said.Parameters.RetryAfter, int(maxRetryAfter/time.Second))) * time.Second
	case said.Parameters.MigrateTo != 0:
		r.gone("the group became a supergroup: set settings.chat_id to " + strconv.FormatInt(said.Parameters.MigrateTo, 10))
	case res.Status == http.StatusForbidden, res.Status == http.StatusUnauthorized, // blocked, kicked, left; the token was revoked
		res.Status == http.StatusNotFound, // the token is none
		res.Status == http.StatusBadRequest && strings.Contains(said.Description, "chat not found"):
		r.gone(r.Error)
	}
}
