package destination

import (
	"context"
	"errors"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/message"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/internal/webpush"
)

// Audiences push events to the devices of an app.
type Audiences interface {
	// Push carries e to every device of the audience that wants it, from where an earlier
	// call was stopped. Attempt counts from 1 over all runs of the delivery.
	Push(ctx context.Context, a *hark.Destination, e *hark.Event, attempt int) Result
}

const vapidPrefix = "vapid_"

// maxApp bounds the name of an app.
const maxApp = 64

// audienceKind pushes to devices. Its secrets are VAPID keys, which never expire by
// themselves: each subscription is bound to one.
var audienceKind = Kind{
	Name: hark.AudienceKind, Title: "Audience", Mode: Push, lasts: true, keepsSecrets: true,
	Help: "Pushes to the devices of an app: browsers (Web Push), Android and others (FCM), iPhones and Macs (APNs).",
	Fields: append([]setting.Field{
		{Key: "app", Type: setting.Text, Title: "App", Default: hark.DefaultApp, MaxBytes: maxApp,
			Help: "Whose devices. An app has one audience, and this cannot change."},
		wording("title", "Title", "{body.from} wrote", "What the title says, of events that are not a message already."),
		wording("body", "Body", "{body.text}", "What the text below the title says."),
		wording("link", "Link", "/chat/{body.id}", "What a click opens, relative to the site or a whole URL."),
		{Key: "icon", Type: setting.Text, Title: "Icon", MaxBytes: 2048, Help: "The URL of a picture beside the text, where a message has none of its own."},
		{Key: "ttl", Type: setting.Duration, Title: "Time to live", Max: 28 * 24 * 3600,
			Help: "How long a message is worth delivering, if it does not say: 28 days unless you do."},
		{Key: "urgency", Type: setting.Text, Title: "Urgency", Enum: []string{"very-low", "low", "normal", "high"},
			Help: "How much it matters that a message comes at once, if it does not say: normal unless you do."},
	}, platformFields()...),
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

func wording(key, title, example, help string) setting.Field {
	return setting.Field{Key: key, Type: setting.Text, Title: title, Multiline: true, Example: example,
		Help: help + " Text with {body.path}, {topic} and {attributes.name}; the built-in wording without it."}
}

func checkAudience(c *setting.Check, v setting.Values) {
	if app := v.Text("app"); app == "" || strings.Trim(app, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		c.Fault("settings.app", "must be made of A-Z a-z 0-9 _ and -")
	}
	for _, key := range []string{"title", "body", "link"} {
		if text := v.Text(key); text != "" {
			if _, err := message.Parse(text); err != nil {
				c.Fault("settings."+key, sentence(err))
			}
		}
	}
	checkPlatforms(c, v)
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
	return s.audiences.Push(ctx, s.dest, e, m.Attempt)
}
