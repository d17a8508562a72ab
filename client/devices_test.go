package client_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

// subscription is what a browser gives; its key is the vector of RFC 8291, appendix A.
const subscription = `{"endpoint":"https://push.example.com/1","keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}}`

// TestDevices against the real server: registered twice it is one, found by user and topic,
// changed and removed; and its secrets print nowhere.
func TestDevices(t *testing.T) {
	c := real(t)
	key := must[*client.PushKey](t)(c.PushKey(t.Context(), ""))
	if key.App != hark.DefaultApp || len(key.PublicKey) != 87 || key.VAPIDKey == "" {
		t.Fatalf("the key is %+v", key)
	}
	spec := client.DeviceSpec{Kind: "webpush", User: "42", Topics: []hark.Pattern{"user.42.>"}, Locale: "de-AT", Subscription: json.RawMessage(subscription), VAPIDKey: key.VAPIDKey}
	made := must[*client.Device](t)(c.RegisterDevice(t.Context(), spec))
	spec.Name = "laptop"
	again := must[*client.Device](t)(c.RegisterDevice(t.Context(), spec))
	if again.ID != made.ID || again.Name != "laptop" || again.EndpointOrigin != "https://push.example.com" || again.State != hark.DeviceActive {
		t.Errorf("registered again: %+v", again)
	}
	phone := client.DeviceSpec{Kind: "apns", User: "7", Topics: []hark.Pattern{"user.7.>"}, Token: hark.Secret(strings.Repeat("00fc13ad", 8)), Environment: "production"}
	must[*client.Device](t)(c.RegisterDevice(t.Context(), phone))
	if text := fmt.Sprintf("%v %+v", phone, slog.AnyValue(phone)); strings.Contains(text, "00fc13ad") {
		t.Errorf("it prints %s", text)
	}

	found := func(q client.DeviceQuery) (users string) {
		for d, err := range c.Devices(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			users += d.User + " "
		}
		return users
	}
	for _, q := range []struct {
		client.DeviceQuery
		want string
	}{
		{client.DeviceQuery{PageSize: 1}, "42 7 "}, {client.DeviceQuery{User: "42"}, "42 "}, {client.DeviceQuery{Topic: "user.7.x"}, "7 "},
		{client.DeviceQuery{Kind: "apns"}, "7 "}, {client.DeviceQuery{State: hark.DeviceSuspect}, ""},
	} {
		if got := found(q.DeviceQuery); got != q.want {
			t.Errorf("%+v finds %q, not %q", q.DeviceQuery, got, q.want)
		}
	}

	changed := must[*client.Device](t)(c.PatchDevice(t.Context(), made.ID, client.Patch{"topics": []string{"news"}}))
	if len(changed.Topics) != 1 || changed.Topics[0] != "news" {
		t.Errorf("changed: %+v", changed)
	}
	if err := c.DeleteDevice(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Device(t.Context(), made.ID); hark.KindOf(err) != hark.NotFound {
		t.Errorf("removed: %v", err)
	}

	rotated := must[*client.PushKey](t)(c.RotatePushKey(t.Context(), ""))
	if rotated.VAPIDKey == key.VAPIDKey || must[*client.PushKey](t)(c.PushKey(t.Context(), hark.DefaultApp)).PublicKey != rotated.PublicKey {
		t.Errorf("rotated: %+v", rotated)
	}
}
