package server

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/device"
)

const exampleDevice = "dev_0001m5b2t0g00"

// deviceSchema is a device as readers get it.
func deviceSchema() *huma.Schema { return &huma.Schema{Ref: "#/components/schemas/DeviceView"} }

func docRegisterDevices(op *huma.Operation) {
	op.Description += " One device, or an array of at most 1,000, of which all are registered or none. A device whose target (endpoint, token) is registered" +
		" already is changed, and its registration counts from now. A token registers devices of its own user, for topics that it may subscribe to: all of them" +
		" if topics is missing. At most 64 topics a device, 3 times * in a topic, 50 devices a user and app."
	subscription := object([]string{"endpoint", "keys"}, map[string]*huma.Schema{"endpoint": text(), "expirationTime": {},
		"keys": object([]string{"p256dh", "auth"}, map[string]*huma.Schema{"p256dh": text(), "auth": text()})})
	subscription.Description = "Of kind webpush: what PushSubscription.toJSON() gives."
	body := object([]string{"kind"}, map[string]*huma.Schema{
		"kind": {Type: huma.TypeString, Enum: []any{"webpush", "fcm", "apns"}}, "user": text(), "topics": list(text()), "app": text(), "locale": text(), "name": text(),
		"subscription": subscription,
		"vapid_key":    {Type: huma.TypeString, Description: "The id of the key that it subscribed with; the newest when it is missing."},
		"token":        {Type: huma.TypeString, Description: "FCM's registration token, or APNs' device token in hex."},
		"fid":          {Type: huma.TypeString, Description: "A Firebase installation id, in the token's place."},
		"environment":  {Type: huma.TypeString, Enum: []any{"production", "sandbox"}, Description: "Of kind apns."}})
	op.RequestBody = &huma.RequestBody{Required: true, Content: jsonBody(map[string]any{"kind": "webpush", "user": "42", "topics": []string{"user.42.>"},
		"subscription": map[string]any{"endpoint": "https://push.example.net/wpush/v2/gAAAA", "keys": map[string]any{"p256dh": "BNcRd…", "auth": "tBHI…"}}},
		&huma.Schema{OneOf: []*huma.Schema{body, list(body)}})}
	example := map[string]any{"id": exampleDevice, "app": "default", "kind": "webpush", "user": "42", "topics": []string{"user.42.>"},
		"endpoint_origin": "https://push.example.net", "vapid_key": "nYq3VdC1Wv0x", "state": "active", "created": "2026-01-31T15:04:05.123Z", "registered": "2026-01-31T15:04:05.123Z"}
	answer := &huma.Schema{OneOf: []*huma.Schema{deviceSchema(), object([]string{"devices"}, map[string]*huma.Schema{"devices": list(deviceSchema())})}}
	op.Responses = map[string]*huma.Response{
		"201": {Description: "Registered and synced.", Content: jsonBody(example, answer)},
		"200": {Description: "It was registered already, and is changed.", Content: jsonBody(example, answer)},
	}
	addProblems(op, http.StatusBadRequest, 401, 403, 409, 413, 422, 429)
}

var _ api.Devices = (*device.Audiences)(nil)

func docReceipt(op *huma.Operation) {
	op.Description = "For the service worker that showed a message which asked for a receipt: its URL came with the message, and is all that is needed. It is told once, as an event of" +
		" hark.push.delivered, hark.push.clicked or hark.push.dismissed; again is no fault. It is taken for three days after the message was sent."
	op.Parameters = []*huma.Param{pathParam("token", "What came with the message.", "AQAAAAE…")}
	what := object([]string{"what"}, map[string]*huma.Schema{"what": {Type: huma.TypeString, Enum: []any{"shown", "clicked", "dismissed"}}})
	op.RequestBody = &huma.RequestBody{Required: true, Content: jsonBody(map[string]any{"what": "shown"}, what)}
	op.Responses = map[string]*huma.Response{"204": {Description: "Told."}}
	addProblems(op, 400, 404, 410, 413, 422, 429, 503)
}
