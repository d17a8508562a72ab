package destination

import (
	"net/http"
	"time"

	"github.com/harkhq/hark"
)

// badRooms are bad settings of every room with a URL.
func badRooms(more ...badSettings) []badSettings {
	return append([]badSettings{
		{`{}`, []string{"settings.url"}},
		{`{"url":"ftp://a/"}`, []string{"settings.url"}},
		{`{"url":"https://10.0.0.1/"}`, []string{"settings.url"}},
		{`{"url":"https://ann:Spw@example.com"}`, []string{"settings.url"}},
		{`{"url":"[redacted]"}`, []string{"settings.url"}},
		{`{"url":"%URL%","template":""}`, []string{"settings.template"}},
		{`{"url":"%URL%","template":"{env.HOME}"}`, []string{"settings.template"}},
		{`{"url":"%URL%","template":"{body"}`, []string{"settings.template"}},
		{`{"url":"%URL%","template":"a\u0000b"}`, []string{"settings.template"}},
		{`{"url":"%URL%","color":"red"}`, []string{"settings.color"}},
	}, more...)
}

var chatFixtures = map[string]fixture{
	"googlechat": {
		good: []string{
			`{"url":"%URL%/v1/spaces/AAAA1234567/messages?key=Skey-12345678&token=Stoken-9876543","template":"**{topic}**\n{body.n}","thread":"{key}"}`,
			`{"url":"%URL%/v1/spaces/A/messages?key=k&token=t"}`,
		},
		secrets: []string{"Skey-12345678", "Stoken-9876543", "AAAA1234567"},
		bad:     badRooms(badSettings{`{"url":"%URL%","thread":"{nope}"}`, []string{"settings.thread"}}),
		ok:      `{"name":"spaces/A/messages/B"}`,
		answers: []answer{
			{404, nil, `{"error":{"code":404,"message":"Space not found.","status":"NOT_FOUND"}}`, hark.Unsubscribed, 0, "was deleted"},
			{404, nil, `<html>no such page</html>`, hark.Rejected, 0, ""},
			{429, nil, `{"error":{"code":429,"message":"Resource has been exhausted","status":"RESOURCE_EXHAUSTED"}}`, hark.Throttled, 0, ""},
			{400, nil, `{"error":{"code":400,"message":"Invalid JSON payload","status":"INVALID_ARGUMENT"}}`, hark.Rejected, 0, "does not take"},
			{503, http.Header{"Retry-After": {"30"}}, ``, hark.Overloaded, 30 * time.Second, ""},
		},
	},
	"slack": {
		good: []string{
			`{"url":"%URL%/services/T12345678/B12345678/Ssecret-abcdef0123","template":"{topic}"}`,
			`{"url":"%URL%/services/T/B/x"}`,
		},
		secrets: []string{"Ssecret-abcdef0123", "T12345678", "B12345678"},
		bad:     badRooms(),
		ok:      "ok",
		answers: []answer{
			{200, nil, "ok\n", hark.OK, 0, ""},
			{200, nil, "<html>log in</html>", hark.Rejected, 0, "not Slack's ok"},
			{404, nil, "no_service", hark.Unsubscribed, 0, "no_service"},
			{404, nil, "channel_not_found", hark.Unsubscribed, 0, "channel_not_found"},
			{410, nil, "channel_is_archived", hark.Unsubscribed, 0, "channel_is_archived"},
			{403, nil, "invalid_token", hark.Unsubscribed, 0, "invalid_token"},
			{403, nil, "action_prohibited", hark.Rejected, 0, "action_prohibited"},
			{404, nil, "404 page not found", hark.Rejected, 0, ""},
			{400, nil, "invalid_payload", hark.Rejected, 0, "invalid_payload"},
			{429, http.Header{"Retry-After": {"30"}}, "rate_limited", hark.Throttled, 30 * time.Second, ""},
		},
	},
	"discord": {
		good: []string{
			`{"url":"%URL%/api/webhooks/123456789012345678/Stoken-abcdefghijkl","template":"{topic}","username":"Hark","thread":"99"}`,
			`{"url":"%URL%/api/webhooks/1/x"}`,
		},
		secrets: []string{"Stoken-abcdefghijkl", "123456789012345678"},
		bad:     badRooms(badSettings{`{"url":"%URL%","thread":"general"}`, []string{"settings.thread"}}),
		answers: []answer{
			{204, nil, "", hark.OK, 0, ""},
			{429, http.Header{"Retry-After": {"1"}, "X-Ratelimit-Reset-After": {"1.2"}}, `{"message":"You are being rate limited.","retry_after":64.57,"global":false}`, hark.Throttled, 65 * time.Second, ""},
			{429, http.Header{"X-Ratelimit-Reset-After": {"1.2"}}, ``, hark.Throttled, 2 * time.Second, ""},
			{429, http.Header{"Retry-After": {"9"}}, `error code: 1015`, hark.Throttled, 9 * time.Second, ""},
			{404, nil, `{"message":"Unknown Webhook","code":10015}`, hark.Unsubscribed, 0, "was deleted"},
			{404, nil, `{"message":"Unknown Channel","code":10003}`, hark.Rejected, 0, ""},
			{401, nil, `{"message":"Invalid Webhook Token","code":50027}`, hark.Unsubscribed, 0, "was deleted"},
			{400, nil, `{"message":"Invalid Form Body","code":50035}`, hark.Rejected, 0, ""},
		},
	},
	"teams": {
		good: []string{
			`{"url":"%URL%/powerautomate/automations/direct/workflows/Sflow123456789/triggers/manual/paths/invoke?api-version=1&sig=Ssig-0123456789","template":"{topic}"}`,
			`{"url":"%URL%/webhookb2/x"}`,
		},
		secrets: []string{"Sflow123456789", "Ssig-0123456789"},
		bad:     badRooms(),
		answers: []answer{
			{202, nil, "", hark.OK, 0, ""},
			{200, nil, "1", hark.OK, 0, ""},
			{200, nil, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x", hark.Throttled, 0, "error 429"},
			{200, nil, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413 with ContextId x", hark.Rejected, 0, "error 413"},
			{200, nil, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 503", hark.Overloaded, 0, "error 503"},
			{200, nil, "Webhook message delivery failed", hark.Rejected, 0, "did not take"},
			{404, nil, `{"error":{"code":"WorkflowNotFound","message":"x"}}`, hark.Unsubscribed, 0, "was deleted"},
			{400, nil, `{"error":{"code":"WorkflowTriggerIsNotEnabled","message":"x"}}`, hark.Rejected, 0, "turned off"},
			{429, http.Header{"Retry-After": {"11"}}, "", hark.Throttled, 11 * time.Second, ""},
		},
	},
	"telegram": {
		good: []string{
			`{"api":"%URL%","token":"123456:Stoken_abcdefgh-1","chat_id":"-1001234567890","template":"{topic}","thread":7,"silent":true}`,
			`{"api":"%URL%/base","token":"1:x","chat_id":"@news"}`,
		},
		secrets: []string{"123456:Stoken_abcdefgh-1"},
		bad: []badSettings{
			{`{}`, []string{"settings.token", "settings.chat_id"}},
			{`{"token":"abc","chat_id":"1"}`, []string{"settings.token"}},
			{`{"token":"1:a/../x","chat_id":"1"}`, []string{"settings.token"}},
			{`{"token":"1:x","chat_id":"news"}`, []string{"settings.chat_id"}},
			{`{"token":"1:x","chat_id":"1","template":"{"}`, []string{"settings.template"}},
			{`{"token":"1:x","chat_id":"1","api":"https://10.0.0.1"}`, []string{"settings.api"}},
			{`{"token":"1:x","chat_id":"1","api":"https://a.example/?x=1"}`, []string{"settings.api"}},
			{`{"token":"[redacted]","chat_id":"1"}`, []string{"settings.token"}},
			{`{"token":"1:x","chat_id":"1","thread":0}`, []string{"settings.thread"}},
		},
		ok: `{"ok":true,"result":{}}`,
		answers: []answer{
			{200, nil, `{"ok": true, "result": {"message_id": 1, "text": "cut`, hark.OK, 0, ""},
			{200, nil, `<html>`, hark.Rejected, 0, "Bot API"},
			{429, nil, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}`, hark.Throttled, 35 * time.Second, "Too Many Requests"},
			{403, nil, `{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}`, hark.Unsubscribed, 0, "blocked"},
			{403, nil, `<html>proxy says no</html>`, hark.Rejected, 0, ""},
			{401, nil, `{"ok":false,"error_code":401,"description":"Unauthorized"}`, hark.Unsubscribed, 0, "Unauthorized"},
			{400, nil, `{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}`, hark.Unsubscribed, 0, "chat not found"},
			{400, nil, `{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1009}}`, hark.Unsubscribed, 0, "-1009"},
			{400, nil, `{"ok":false,"error_code":400,"description":"Bad Request: can't parse entities"}`, hark.Rejected, 0, "can't parse"},
		},
	},
	"mattermost": {
		good: []string{
			`{"url":"%URL%/hooks/Shook1234567890","template":"{topic}","channel":"town-square","username":"hark"}`,
			`{"url":"%URL%/hooks/x"}`,
		},
		secrets: []string{"Shook1234567890"},
		bad:     badRooms(),
		answers: []answer{
			{200, nil, "ok", hark.OK, 0, ""},
			{400, nil, `{"id":"web.incoming_webhook.invalid.app_error","message":"Invalid webhook.","status_code":400}`, hark.Unsubscribed, 0, "Invalid webhook"},
			{404, nil, `{"id":"web.incoming_webhook.channel.app_error","message":"Couldn't find the channel.","status_code":404}`, hark.Unsubscribed, 0, "find the channel"},
			{400, nil, `{"id":"model.post.is_valid.msg.app_error","message":"Invalid message.","status_code":400}`, hark.Rejected, 0, "Invalid message"},
			{429, http.Header{"Retry-After": {"3"}}, "limit exceeded", hark.Throttled, 3 * time.Second, ""},
		},
	},
}
