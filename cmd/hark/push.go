package main

import (
	"encoding/json"
	"regexp"
	"time"

	"github.com/harkhq/hark"
)

type pushCmd struct {
	Keys    pushKeys   `cmd:"" aliases:"key" help:"The key that browsers subscribe with; keys rotate makes a new one."`
	Send    pushSend   `cmd:"" help:"Send a message to a user's devices, or to whoever wants a topic."`
	Devices deviceList `cmd:"" help:"List devices, as hark device list does."`
}

func (*pushCmd) Help() string {
	return "Example:\n  hark push send --user 42 --title 'Your parcel is here' --link /parcels/7"
}

type pushKeys struct {
	Act string `arg:"" optional:"" name:"rotate" help:"rotate: make a new key for new subscriptions. Those there are go on with theirs."`
	App string `help:"Whose key (default)." placeholder:"APP"`
	remote
}

func (*pushKeys) Help() string {
	return "Examples:\n  hark push keys\n  hark push keys rotate"
}

func (k *pushKeys) Run(a *app) error {
	if k.Act != "" && k.Act != "rotate" {
		return wrongUse("hark push keys rotate", "%q is not what can be done with keys: leave it out, or rotate", k.Act)
	}
	c, err := k.client()
	if err != nil {
		return err
	}
	ask := c.PushKey
	if k.Act == "rotate" {
		ask = c.RotatePushKey
	}
	key, err := ask(a.ctx, k.App)
	if err != nil {
		return err
	}
	return a.answer(key, func() {
		a.facts("public key", key.PublicKey, "id", key.VAPIDKey, "app", key.App)
		if k.Act == "rotate" {
			a.note("new subscriptions are bound to this key; those there are go on with theirs until their pages are opened again")
		}
	})
}

type pushSend struct {
	User  string `help:"Send to this user's devices: publish to user.USER.push, which user.USER.> matches." placeholder:"USER" xor:"to" required:""`
	Topic string `help:"Publish to this topic: to all devices that want it." placeholder:"TOPIC" xor:"to" required:"" short:"t"`

	Title    string `help:"What it is." placeholder:"TEXT"`
	Body     string `help:"And more of it." placeholder:"TEXT"`
	Link     string `help:"What a click opens: a URL, or a path of your site." placeholder:"URL"`
	Icon     string `help:"A picture beside it." placeholder:"URL"`
	Urgency  string `help:"very-low, low, normal or high (normal)." placeholder:"URGENCY"`
	TTL      string `name:"ttl" help:"How long it is worth delivering; 0s for now or never (28d)." placeholder:"DURATION"`
	Collapse string `help:"It replaces an undelivered message of this name." placeholder:"NAME"`
	Badge    *int   `help:"The number on the app's icon; 0 takes it away." placeholder:"N"`
	Receipt  bool   `help:"Have hark.push.delivered and hark.push.clicked tell."`
	Data     string `help:"Data for the app, in JSON." placeholder:"JSON"`
	later
	remote
}

func (*pushSend) Help() string {
	return `Examples:
  hark push send --user 42 --title 'Ann' --body 'Lunch?' --link /chat/7
  hark push send --topic news.sport --title 'Goal' --urgency high --ttl 10m
  hark push send --user 42 --title 'Stand-up' --in 2h`
}

var userToken = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (p *pushSend) Run(a *app) error {
	topic, message, err := p.message()
	if err != nil {
		return err
	}
	at, err := p.due()
	if err != nil {
		return err
	}
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	e := hark.Event{Topic: topic, ContentType: "application/json", Data: data}
	if !at.IsZero() {
		receipt, err := c.Schedule(a.ctx, e, at)
		if err != nil {
			return err
		}
		return a.answerScheduled(receipt)
	}
	receipt, err := c.Publish(a.ctx, e)
	if err != nil {
		return err
	}
	return a.answer(map[string]any{"id": receipt.ID, "topic": topic}, func() {
		a.printf("%s\n", receipt.ID)
		a.note("published to %s; what becomes of it: hark deliveries list --topic %s", topic, topic)
	})
}

// message checks the flags and makes the event's data of them.
func (p *pushSend) message() (topic string, m map[string]any, err error) {
	topic = p.Topic
	if p.User != "" {
		if !userToken.MatchString(p.User) {
			return "", nil, wrongUse("--topic with the topic that this user's devices want", "--user: %q cannot be a part of a topic", p.User)
		}
		topic = "user." + p.User + ".push"
	}
	if err := hark.CheckTopic(topic); err != nil {
		return "", nil, err
	}
	m = map[string]any{}
	for name, value := range map[string]string{"title": p.Title, "body": p.Body, "link": p.Link, "icon": p.Icon, "urgency": p.Urgency, "collapse": p.Collapse} {
		if value != "" {
			m[name] = value
		}
	}
	switch p.Urgency {
	case "", "very-low", "low", "normal", "high":
	default:
		return "", nil, wrongUse("--urgency high", "--urgency: %q is not one of very-low, low, normal, high", p.Urgency)
	}
	if p.TTL != "" {
		ttl, err := parseSpan(p.TTL)
		if err != nil || ttl < 0 || ttl > 28*24*time.Hour {
			return "", nil, wrongUse("--ttl 1h", "--ttl: %q is not between 0s and 28d", p.TTL)
		}
		m["ttl"] = hark.Duration(ttl)
	}
	if p.Data != "" {
		if err := checkJSON([]byte(p.Data)); err != nil {
			return "", nil, wrongUse(`--data '{"order":1042}'`, "--data: %v", err)
		}
		m["data"] = json.RawMessage(p.Data)
	}
	if p.Badge != nil {
		m["badge"] = *p.Badge
	}
	if p.Receipt {
		m["receipt"] = true
	}
	if p.Title == "" && p.Body == "" && p.Data == "" {
		return "", nil, wrongUse("--title 'Your parcel is here'", "say what to send: --title, --body or --data")
	}
	return topic, m, nil
}
