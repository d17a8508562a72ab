package push

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/webpush"
)

func webpushFixture() *fixture {
	keys := []*webpush.ReceiverKey{webpush.NewReceiverKey(), webpush.NewReceiverKey()}
	set := func(d *hark.Device, change func(sub, keys map[string]any)) {
		var sub map[string]any
		if err := json.Unmarshal(d.Subscription, &sub); err != nil {
			panic(err)
		}
		change(sub, sub["keys"].(map[string]any))
		d.Subscription, _ = json.Marshal(sub)
	}
	text := func(s string) func(*hark.Device) {
		return func(d *hark.Device) { d.Subscription = json.RawMessage(s) }
	}
	return &fixture{
		settings: `{"subject":"mailto:push@hark.dev","padding":0}`,
		badSettings: map[string]string{
			`{"subject":"mailto:x@localhost"}`: "subject", `{"subject":"ann"}`: "subject", `{"subject":7}`: "subject",
			`{"padding":4000}`: "padding", `{"padding":-1}`: "padding", `{"ttl":"1h"}`: "ttl",
		},
		device: func(n int) *hark.Device {
			sub, _ := keys[n%2].Subscription(fmt.Sprintf("https://push.example.net/p/device-number-%d", n)).MarshalJSON()
			return &hark.Device{ID: hark.DeviceID(n), Kind: "webpush", App: hark.DefaultApp, Subscription: sub}
		},
		same: func(d *hark.Device) {
			set(d, func(sub, keys map[string]any) {
				sub["expirationTime"], sub["options"] = nil, map[string]any{"userVisibleOnly": true}
				keys["auth"] = keys["auth"].(string) + "=="
			})
		},
		badDevices: map[string][]func(*hark.Device){
			"subscription":             {text(""), text("null"), text(`"https://push.example.net/p/device-number-1"`), text("[]"), text("{")},
			"subscription.endpoint":    {text("{}"), text(`{"endpoint":"ftp://push.example.net/p/device-number-1"}`), text(`{"endpoint":"https://u:pass-word@push.example.net/device-number-1"}`)},
			"subscription.keys.p256dh": {func(d *hark.Device) { set(d, func(_, k map[string]any) { k["p256dh"] = "BAAA" }) }, func(d *hark.Device) { set(d, func(_, k map[string]any) { delete(k, "p256dh") }) }},
			"subscription.keys.auth":   {func(d *hark.Device) { set(d, func(_, k map[string]any) { k["auth"] = "AAAA" }) }},
			"token":                    {func(d *hark.Device) { d.Token = "device-token" }},
			"fid":                      {func(d *hark.Device) { d.FID = "device-fid" }},
			"environment":              {func(d *hark.Device) { d.Environment = "sandbox" }},
			"vapid_key":                {func(d *hark.Device) { d.VAPIDKey = strings.Repeat("x", 65) }},
		},
		accepted: status(201, "", "Location", "https://push.example.net/m/1", "TTL", "60"),
		answers: []answer{
			{name: "200 of an old service", status: 200, want: Accepted},
			{name: "202 with a receipt", status: 202, want: Accepted},
			{name: "not found", status: 404, want: TargetGone},
			{name: "gone, Mozilla", status: 410, body: `{"code":410,"errno":106,"error":"Gone"}`, want: TargetGone, code: "106"},
			{name: "gone, Apple", status: 410, body: `{"reason":"Unregistered"}`, want: TargetGone, code: "Unregistered"},
			{name: "key mismatch, Apple", status: 400, body: `{"reason":"VapidPkHashMismatch"}`, want: TargetSuspect, code: "VapidPkHashMismatch"},
			{name: "key mismatch, Chrome", status: 403, body: "the VAPID credentials in the authorization header do not correspond", want: TargetSuspect},
			{name: "placeholder as subject, Apple", status: 403, body: `{"reason":"BadJwtToken"}`, want: ConfigError, code: "BadJwtToken"},
			{name: "every VAPID fault, Mozilla", status: 401, body: `{"code":401,"errno":109,"error":"Unauthorized"}`, want: ConfigError, code: "109"},
			{name: "bad request", status: 400, body: `{"errno":111}`, want: PayloadError, code: "111"},
			{name: "too large", status: 413, want: PayloadError},
			{name: "redirect", status: 307, header: []string{"Location", "https://elsewhere.example/"}, want: PayloadError},
			{name: "slow down", status: 429, header: []string{"Retry-After", "30"}, want: RetryAt, wide: true, after: 30 * time.Second},
			{name: "slow down, for how long?", status: 429, want: RetryAt, wide: true},
			{name: "overloaded", status: 503, want: RetryAt},
			{name: "draining", status: 503, header: []string{"Retry-After", "120"}, want: RetryAt, wide: true, after: 2 * time.Minute},
			{name: "broken", status: 500, want: RetryAt},
			{name: "timeout", status: 408, want: RetryAt},
		},
	}
}
