package main

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type deviceCmd struct {
	List   deviceList   `cmd:"" aliases:"ls" help:"List devices."`
	Show   deviceShow   `cmd:"" aliases:"get" help:"Show one."`
	Add    deviceAdd    `cmd:"" aliases:"register" help:"Register one: what a browser or phone was given."`
	Remove deviceRemove `cmd:"" aliases:"rm,delete" help:"Remove one: nothing is pushed to it any more."`
	Test   deviceTest   `cmd:"" help:"Push one message to it now, and tell what came of it."`
	Listen deviceListen `cmd:"" help:"Be a device: receive pushed messages in this terminal, or run a command with each."`
}

func (*deviceCmd) Help() string {
	return "Example:\n  hark device listen --topic 'alarms.>' --exec 'notify-send Alarm'"
}

type deviceList struct {
	User  string `help:"Of this user." placeholder:"USER"`
	App   string `help:"Of this app." placeholder:"APP"`
	Kind  string `help:"Of this kind: webpush, fcm or apns." placeholder:"KIND"`
	State string `help:"In this state: active or suspect." placeholder:"STATE"`
	Topic string `help:"Those that an event of this topic reaches." placeholder:"TOPIC" short:"t"`
	Limit int    `help:"How many at most (50)." default:"50" short:"n"`
	remote
}

func (*deviceList) Help() string {
	return "Examples:\n  hark device list --user 42\n  hark device list --topic orders.paid --state suspect"
}

func (l *deviceList) Run(a *app) error {
	switch {
	case l.State != "" && l.State != string(hark.DeviceActive) && l.State != string(hark.DeviceSuspect):
		return wrongUse("--state suspect", "--state: %q is not a state: active, suspect", l.State)
	case l.Limit < 1:
		return wrongUse("--limit 50", "--limit must be 1 or more")
	}
	c, err := l.client()
	if err != nil {
		return err
	}
	list := struct {
		Devices []*client.Device `json:"devices"`
	}{[]*client.Device{}}
	q := client.DeviceQuery{User: l.User, App: l.App, Kind: l.Kind, State: hark.DeviceState(l.State), Topic: l.Topic, PageSize: pageSize(l.Limit)}
	for one, err := range c.Devices(a.ctx, q) {
		if err != nil {
			return err
		}
		if list.Devices = append(list.Devices, one); len(list.Devices) >= l.Limit {
			break
		}
	}
	return a.answer(list, func() {
		if len(list.Devices) == 0 {
			a.note("no devices; a browser becomes one at %s/demo/push, this terminal with: hark device listen", strings.TrimRight(l.Server, "/"))
			return
		}
		rows := [][]cell{header("ID", "USER", "KIND", "NAME", "TOPICS", "STATE", "REGISTERED", "PUSHED", "AT")}
		for _, d := range list.Devices {
			rows = append(rows, []cell{plain(d.ID), plain(harmless(d.User, 30)), plain(d.Kind), plain(harmless(d.Name, 30)), plain(harmless(join(d.Topics), 40)),
				deviceStateCell(d.State), plain(ago(d.Registered)), plain(agoHours(d.Pushed)), plain(d.EndpointOrigin)})
		}
		a.table(rows...)
	})
}

func deviceStateCell(s hark.DeviceState) cell {
	if s == hark.DeviceSuspect {
		return styled(warn, string(s))
	}
	return styled(good, string(s))
}

// oneDevice is a verb's device, by its id.
type oneDevice struct {
	ID string `arg:"" help:"Id of the device (dev_…)."`
	remote
}

func (o *oneDevice) find() (*client.Client, hark.DeviceID, error) {
	id, err := hark.ParseDeviceID(o.ID)
	if err != nil {
		return nil, 0, wrongUse("hark device list", "%v", err)
	}
	c, err := o.client()
	return c, id, err
}

type deviceShow struct{ oneDevice }

func (*deviceShow) Help() string { return "Example:\n  hark device show dev_0001m5b2t0g00" }

func (s *deviceShow) Run(a *app) error {
	c, id, err := s.find()
	if err != nil {
		return err
	}
	d, err := c.Device(a.ctx, id)
	if err != nil {
		return err
	}
	return a.answer(d, func() { a.showDevice(d) })
}

func (a *app) showDevice(d *client.Device) {
	a.facts("id", d.ID, "user", harmless(d.User, 255), "name", harmless(d.Name, 255), "app", d.App, "kind", d.Kind, "topics", join(d.Topics), "locale", d.Locale,
		"push service", d.EndpointOrigin, "key", d.VAPIDKey, "environment", d.Environment, "state", deviceStateCell(d.State), "reason", harmless(d.Reason, 255),
		"suspected", stamp(d.Suspected), "created", stamp(d.Created), "registered", stamp(d.Registered), "pushed", stamp(d.Pushed))
}

type deviceAdd struct {
	Kind         string   `arg:"" help:"webpush, fcm or apns."`
	User         string   `help:"Whose it is." placeholder:"USER"`
	Topic        []string `help:"What it wants; may be repeated (with a user's token: all that it may)." placeholder:"PATTERN" short:"t"`
	App          string   `help:"Whose audience it belongs to (default)." placeholder:"APP"`
	Locale       string   `help:"Its language, such as de-AT." placeholder:"TAG"`
	Name         string   `help:"A name for people." placeholder:"TEXT"`
	Subscription string   `help:"webpush: what the browser gave, in JSON; a file as @FILE, or - for the standard input." placeholder:"JSON"`
	VAPIDKey     string   `name:"vapid-key" help:"webpush: the id of the key that it is bound to (the newest)." placeholder:"ID"`
	Token        string   `help:"fcm, apns: the token." placeholder:"TOKEN"`
	FID          string   `name:"fid" help:"fcm: the Firebase installation id, instead of a token." placeholder:"ID"`
	Sandbox      bool     `help:"apns: a token of a development build."`
	remote
}

func (*deviceAdd) Help() string {
	return `Examples:
  hark device add webpush --user 42 --topic 'user.42.>' --subscription @subscription.json
  hark device add apns --user 42 --topic 'user.42.>' --token 00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0`
}

func (d *deviceAdd) Run(a *app) error {
	spec := client.DeviceSpec{Kind: d.Kind, User: d.User, App: d.App, Locale: d.Locale, Name: d.Name, VAPIDKey: d.VAPIDKey, Token: hark.Secret(d.Token), FID: hark.Secret(d.FID)}
	var err error
	if spec.Topics, err = patterns("--topic", d.Topic); err != nil {
		return err
	}
	switch d.Kind {
	case "webpush":
		if spec.Subscription, err = d.subscription(a); err != nil {
			return err
		}
	case "fcm":
		if (d.Token == "") == (d.FID == "") {
			return wrongUse("--token with the registration token", "fcm: give --token or --fid")
		}
	case "apns":
		if d.Token == "" {
			return wrongUse("--token with the device token in hex", "apns: give --token")
		}
		if spec.Environment = "production"; d.Sandbox {
			spec.Environment = "sandbox"
		}
	default:
		return wrongUse("hark device add webpush --subscription @subscription.json", "%q is not a kind of device: webpush, fcm, apns", d.Kind)
	}
	c, err := d.client()
	if err != nil {
		return err
	}
	if d.Kind == "webpush" && spec.VAPIDKey == "" {
		key, err := c.PushKey(a.ctx, d.App)
		if err != nil {
			return err
		}
		spec.VAPIDKey = key.VAPIDKey
	}
	made, err := c.RegisterDevice(a.ctx, spec)
	if err != nil {
		return err
	}
	return a.answer(made, func() { a.showDevice(made) })
}

func (d *deviceAdd) subscription(a *app) (json.RawMessage, error) {
	const try = `--subscription '{"endpoint":…,"keys":{"p256dh":…,"auth":…}}', as JSON.stringify(subscription) gives it`
	if d.Subscription == "" {
		return nil, wrongUse(try, "webpush: give --subscription")
	}
	text := []byte(d.Subscription)
	var err error
	if file, ok := strings.CutPrefix(d.Subscription, "@"); ok {
		text, err = os.ReadFile(file)
	} else if d.Subscription == "-" {
		text, err = io.ReadAll(io.LimitReader(a.stdin, 1<<20))
	}
	if err != nil {
		return nil, err
	}
	if err := checkJSON(text); err != nil {
		return nil, wrongUse(try, "--subscription: %v", err)
	}
	return text, nil
}

type deviceRemove struct{ oneDevice }

func (*deviceRemove) Help() string { return "Example:\n  hark device remove dev_0001m5b2t0g00" }

func (r *deviceRemove) Run(a *app) error {
	c, id, err := r.find()
	if err != nil {
		return err
	}
	if err := c.DeleteDevice(a.ctx, id); err != nil {
		return err
	}
	return a.answer(map[string]any{"id": id, "removed": true}, func() { a.printf("%s is removed\n", id) })
}

type deviceTest struct {
	Title string `help:"What it says (Test)." placeholder:"TEXT"`
	Body  string `help:"And more of it." placeholder:"TEXT"`
	oneDevice
}

func (*deviceTest) Help() string {
	return "It ends with 1 unless the push service took the message.\n\nExample:\n  hark device test dev_0001m5b2t0g00 --title 'Do you see me?'"
}

func (d *deviceTest) Run(a *app) error {
	c, id, err := d.find()
	if err != nil {
		return err
	}
	o, err := c.TestDevice(a.ctx, id, d.Title, d.Body)
	if err != nil {
		return err
	}
	st := good
	if o.Outcome != "accepted" {
		st = bad
	}
	if err := a.answer(o, func() {
		status := ""
		if o.Status > 0 {
			status = plainf("%d", o.Status).text
		}
		a.facts("outcome", styled(st, o.Outcome), "status", status, "code", harmless(o.Code, 60), "error", harmless(o.Error, 300))
	}); err != nil {
		return err
	}
	if o.Outcome != "accepted" {
		return errQuiet
	}
	return nil
}

// agoHours tells how long ago something was that is known to the hour.
func agoHours(t time.Time) string {
	if !t.IsZero() && time.Since(t) < time.Hour {
		return "this hour"
	}
	return ago(t)
}
