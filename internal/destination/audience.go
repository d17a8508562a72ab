package destination

import (
	"context"
	"errors"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/internal/webpush"
)

// Audiences push events to the devices of an app.
type Audiences interface {
	// Push carries e to every device of the audience that wants it, from where an earlier
	// call was stopped.
	Push(ctx context.Context, a *hark.Destination, e *hark.Event) Result
}

const vapidPrefix = "vapid_"

// audienceKind pushes to devices. Its secrets are VAPID keys, which never expire by
// themselves: each subscription is bound to one.
var audienceKind = Kind{
	Name: hark.AudienceKind, Title: "Audience", Mode: Push, lasts: true, keepsSecrets: true,
	Help:      "Pushes to the devices of an app: browsers (Web Push), Android and others (FCM), iPhones and Macs (APNs).",
	Fields:    push.Fields(),
	check:     checkAudience,
	newSecret: func(setting.Values) hark.Secret { return hark.Secret(webpush.GenerateKey().Reveal()) },
	parseSecret: func(text string) (hark.Secret, error) {
		k, err := webpush.ParseKey(text)
		if err != nil {
			return "", errors.New(strings.TrimPrefix(err.Error(), "webpush: "))
		}
		return hark.Secret(k.Reveal()), nil
	},
	settle: settleAudience,
	open: func(env *environment, d *hark.Destination, _ setting.Values) (opened, error) {
		if env.audiences == nil {
			return nil, errors.New("this Hark pushes to no devices")
		}
		return &audienceSender{env.audiences, d}, nil
	},
}

func checkAudience(c *setting.Check, v setting.Values) {
	if app := v.Text("app"); app == "" || strings.Trim(app, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		c.Fault("settings.app", "must be made of A-Z a-z 0-9 _ and -")
	}
	push.CheckSettings(c, v)
}

// settleAudience gives an audience the name by which its app has but one.
func settleAudience(c *setting.Check, old, d *hark.Destination, v setting.Values) {
	uid := hark.AudienceUID + v.Text("app")
	switch {
	case old != nil && old.UID != "" && old.UID != uid:
		c.Fault("settings.app", "cannot change: make another audience")
	case d.UID != "" && d.UID != uid:
		c.Fault("uid", "is made of the app: leave it out")
	}
	d.UID = uid
}

// audienceSender pushes one revision of one audience.
type audienceSender struct {
	audiences Audiences
	dest      *hark.Destination
}

func (s *audienceSender) send(ctx context.Context, e *hark.Event, m Meta) Result {
	return s.audiences.Push(ctx, s.dest, e)
}
