package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/internal/destination"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/webhook"
)

type destinationCmd struct {
	Add    destinationAdd    `cmd:"" help:"Add a destination."`
	List   destinationList   `cmd:"" aliases:"ls" help:"List destinations."`
	Show   destinationShow   `cmd:"" aliases:"get" help:"Show one: its settings, and what it is doing now."`
	Test   destinationTest   `cmd:"" help:"Send a test event now and tell how it went."`
	Pause  destinationPause  `cmd:"" help:"Send nothing for now; what comes meanwhile waits."`
	Resume destinationResume `cmd:"" help:"Send again, from where it stopped."`
	Replay destinationReplay `cmd:"" help:"Deliver a past range again."`
	Rotate destinationRotate `cmd:"" help:"Make a new signing secret."`
	Remove destinationRemove `cmd:"" aliases:"rm,delete" help:"Remove a destination."`
}

func (*destinationCmd) Help() string {
	return `A destination is named by its id (dst_…) or by the uid that you gave it.

Example:
  hark destination add https://example.com/hook --topic 'orders.*'`
}

// addRemote is the server and the destination in question.
type oneDestination struct {
	Destination destinationRef `arg:"" help:"Id (dst_…) or uid of the destination."`
	remote
}

func (o *oneDestination) find(a *app) (*client.Client, hark.DestinationID, error) {
	c, err := o.client()
	if err != nil {
		return nil, 0, err
	}
	id, err := o.Destination.find(a.ctx, c)
	return c, id, err
}

type destinationAdd struct {
	What string `arg:"" optional:"" name:"url|kind" help:"The URL of a webhook or of a chat room, or a kind of destination, such as pull."`

	URL     string            `name:"url" help:"Where to send." placeholder:"URL"`
	Kind    string            `kong:"-"`
	Topic   []string          `help:"Which topics: * is one token, a last > one or more; may be repeated (all topics)." placeholder:"PATTERN" short:"t"`
	Set     map[string]string `help:"A setting of the kind; may be repeated. A value may be JSON." placeholder:"NAME=VALUE" mapsep:"none"`
	Filter  string            `help:"Which of these events matter, by their content: JSON, or @FILE." placeholder:"JSON"`
	UID     string            `name:"uid" help:"Your own name for it. Adding it again changes the one that has it."`
	Name    string            `help:"A name for people."`
	Secret  string            `help:"A signing secret of your own, or a private key (whsk_…); one is made when it is missing." placeholder:"whsec_…"`
	Start   string            `help:"Begin at earliest, an event id or a time (now)." placeholder:"WHERE"`
	Ordered bool              `help:"One delivery in flight per event key, in order."`
	OnDead  string            `help:"What an ordered one does after a delivery died: continue or stop." enum:",continue,stop" default:"" placeholder:"WHAT"`

	Schedule    []string      `help:"Wait before each attempt, such as 0s,5s,1m,1h." placeholder:"WAIT,…"`
	Attempt     time.Duration `name:"attempt-timeout" help:"How long one attempt may take (20s)." placeholder:"DURATION"`
	RateLimit   float64       `help:"Deliveries per second at most." placeholder:"N"`
	Concurrency int           `help:"Deliveries in flight at most (adapts, up to 256)." placeholder:"N"`
	remote
}

func (*destinationAdd) Help() string {
	return `Examples:
  hark destination add https://example.com/hook --topic 'orders.*' --uid billing
  hark destination add pull --topic 'jobs.>' --uid workers
  hark destination add googlechat --url 'https://chat.googleapis.com/v1/spaces/…' --topic 'github.>'
  hark destination add https://example.com/hook --topic 'orders.*' --filter '{"data.total":{"$gte":100}}'
  hark destination add https://example.com/hook --set method=PUT --set 'headers={"x-team":"blue"}'`
}

// kindAndURL takes apart what may be either. A URL that a chat app shows says by
// itself which kind it is for.
func (d *destinationAdd) kindAndURL() error {
	d.Kind = "webhook"
	switch isURL := strings.ContainsAny(d.What, ":/."); {
	case isURL && d.URL != "":
		return wrongUse("hark destination add --help", "give the URL once")
	case isURL:
		kind, settings := destination.Recognise(d.What)
		d.Kind, d.URL = kind, settings["url"]
		delete(settings, "url")
		for name, value := range settings {
			if _, given := d.Set[name]; !given {
				if d.Set == nil {
					d.Set = map[string]string{}
				}
				d.Set[name] = value
			}
		}
	case d.What != "":
		d.Kind = d.What
	}
	return nil
}

func (d *destinationAdd) Run(a *app) error {
	if err := d.kindAndURL(); err != nil {
		return err
	}
	spec, err := d.spec(a)
	if err != nil {
		return err
	}
	c, err := d.client()
	if err != nil {
		return err
	}
	add := c.CreateDestination
	if d.UID != "" {
		add = c.PutDestination
	}
	made, err := add(a.ctx, *spec)
	if err != nil {
		return err
	}
	return a.answer(made, func() {
		a.facts("id", made.ID, "uid", made.UID, "kind", made.Kind, "topics", join(made.Topics), "filter", string(made.Filter),
			"secret", secretCell(made), "public key", styled(warn, made.PublicKey))
		if !made.Created.Equal(made.Updated) {
			a.note("it was there before, and is as you said now")
		}
		a.noteKeys(made)
		if made.Kind != "pull" {
			a.note("next: %s destination test %s%s", commandWord(), made.ID, serverFlag(d.Server))
		}
	})
}

// secretCell is the secret that receivers need, empty if they need a public key.
func secretCell(d *client.Destination) cell {
	if d.PublicKey != "" {
		return plain("")
	}
	return styled(warn, d.Secret.Reveal())
}

// noteKeys says what the keys are for, after they were made.
func (a *app) noteKeys(d *client.Destination) {
	switch {
	case d.PublicKey != "":
		a.note("the public key verifies what arrives; the private one stays with Hark")
	case d.Secret != "":
		a.note("the secret verifies what arrives; later only an admin sees it: hark destination show %s --reveal", cmp.Or(d.UID, d.ID.String()))
	}
}

func (d *destinationAdd) spec(a *app) (*client.DestinationSpec, error) {
	if len(d.Topic) == 0 {
		d.Topic = []string{">"}
	}
	topics, err := patterns("--topic", d.Topic)
	if err != nil {
		return nil, err
	}
	start, err := startText("--start", d.Start)
	if err != nil {
		return nil, err
	}
	settings, err := d.settings()
	if err != nil {
		return nil, err
	}
	if d.Secret != "" {
		if _, err := webhook.ParseSigningKey(d.Secret); err != nil {
			return nil, wrongUse("leave --secret out, and one is made", "--secret: %s", strings.TrimPrefix(err.Error(), "webhook: "))
		}
	}
	filter, err := d.filter(a)
	if err != nil {
		return nil, err
	}
	retry, err := d.retry()
	if err != nil {
		return nil, err
	}
	spec := &client.DestinationSpec{Kind: d.Kind, Topics: topics, Settings: settings, UID: d.UID, Name: d.Name, Start: start,
		Secret: hark.Secret(d.Secret), Ordered: d.Ordered, OnDead: hark.OnDead(d.OnDead), Retry: retry,
		RateLimit: d.RateLimit, Concurrency: d.Concurrency}
	if len(filter) > 0 {
		spec.Filter = filter
	}
	return spec, nil
}

// filter reads and checks --filter.
func (d *destinationAdd) filter(a *app) (json.RawMessage, error) {
	text := []byte(d.Filter)
	if path, ok := strings.CutPrefix(d.Filter, "@"); ok {
		var err error
		if text, err = readInput(a, path); err != nil {
			return nil, err
		}
	}
	if len(text) == 0 {
		return nil, nil
	}
	const try = `--filter '{"data.total":{"$gte":100}}'`
	if err := checkJSON(text); err != nil {
		return nil, wrongUse(try, "--filter is not JSON: %v", err)
	}
	if _, err := hark.ParseFilter(text); err != nil {
		return nil, wrongUse(try, "%v", err)
	}
	return text, nil
}

func (d *destinationAdd) settings() (map[string]any, error) {
	var fields []setting.Field
	if k := destination.Find(d.Kind); k != nil {
		fields = k.Fields
	}
	settings := settingsOf(fields, d.Set)
	if d.URL != "" {
		u, err := url.Parse(d.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, wrongUse("https://example.com/hook", "%q is not an http or https URL", d.URL)
		}
		settings["url"] = d.URL
	} else if d.Kind == "webhook" && settings["url"] == nil {
		return nil, wrongUse("hark destination add https://example.com/hook --topic 'orders.*'", "a webhook needs the URL to send to")
	}
	return settings, nil
}

func (d *destinationAdd) retry() (*hark.Retry, error) {
	if len(d.Schedule) == 0 && d.Attempt == 0 {
		return nil, nil
	}
	r := &hark.Retry{Timeout: hark.Duration(d.Attempt)}
	for _, s := range d.Schedule {
		wait, err := parseSpan(s)
		if err != nil {
			return nil, wrongUse("--schedule 0s,5s,1m,1h", "--schedule: %q is not a duration", s)
		}
		r.Schedule = append(r.Schedule, hark.Duration(wait))
	}
	if err := r.Check(); err != nil {
		return nil, wrongUse("--schedule 0s,5s,1m,1h --attempt-timeout 20s", "%v", err)
	}
	return r, nil
}

type destinationList struct {
	Kind  string `help:"Only this kind."`
	State string `help:"Only active, paused or disabled ones." enum:",active,paused,disabled" default:""`
	Limit int    `help:"How many at most (100)." default:"100"`
	remote
}

func (*destinationList) Help() string { return "Example:\n  hark destination list --state disabled" }

func (d *destinationList) Run(a *app) error {
	c, err := d.client()
	if err != nil {
		return err
	}
	list := struct {
		Destinations []*client.Destination `json:"destinations"`
	}{[]*client.Destination{}}
	q := client.DestinationQuery{Kind: d.Kind, State: hark.DestinationState(d.State), PageSize: pageSize(d.Limit)}
	for one, err := range c.Destinations(a.ctx, q) {
		if err != nil {
			return err
		}
		if list.Destinations = append(list.Destinations, one); len(list.Destinations) >= d.Limit {
			break
		}
	}
	return a.answer(list, func() {
		if len(list.Destinations) == 0 {
			a.note("no destinations; add one with: hark destination add https://example.com/hook --topic 'orders.*'")
			return
		}
		rows := [][]cell{header("ID", "UID", "KIND", "STATE", "TOPICS", "TO")}
		for _, one := range list.Destinations {
			rows = append(rows, []cell{plain(one.ID), plain(one.UID), plain(one.Kind), stateCell(string(one.State)), plain(snippet([]byte(join(one.Topics)), 40)), plain(snippet([]byte(target(one)), 60))})
		}
		a.table(rows...)
	})
}

func pageSize(limit int) int { return max(1, min(limit, hark.MaxPageSize)) }

func join(ps []hark.Pattern) string {
	var texts []string
	for _, p := range ps {
		texts = append(texts, string(p))
	}
	return strings.Join(texts, ", ")
}

// target is what people would call the place a destination sends to.
func target(d *client.Destination) string {
	var settings struct {
		URL    string `json:"url"`
		ChatID string `json:"chat_id"`
	}
	if json.Unmarshal(d.Settings, &settings) != nil {
		return ""
	}
	return cmp.Or(settings.URL, settings.ChatID)
}

func stateCell(state string) cell {
	switch state {
	case "active", "delivered", "closed":
		return styled(good, state)
	case "disabled", "dead", "expired", "open":
		return styled(bad, state)
	case "paused", "due", "sending", "cancelled", "probing":
		return styled(warn, state)
	}
	return plain(state)
}

type destinationShow struct {
	oneDestination
	Reveal bool `help:"Show the signing secret, too; needs an admin key."`
}

func (*destinationShow) Help() string { return "Example:\n  hark destination show billing" }

func (d *destinationShow) Run(a *app) error {
	c, id, err := d.find(a)
	if err != nil {
		return err
	}
	get := c.Destination
	if d.Reveal {
		get = c.RevealDestination
	}
	one, err := get(a.ctx, id)
	if err != nil {
		return err
	}
	return a.answer(one, func() { a.showDestination(one) })
}

func (a *app) showDestination(d *client.Destination) {
	private := ""
	if d.PublicKey != "" {
		private = d.Secret.Reveal()
	}
	facts := []any{"id", d.ID, "uid", d.UID, "name", d.Name, "kind", d.Kind, "topics", join(d.Topics), "to", target(d),
		"settings", string(d.Settings), "filter", string(d.Filter), "order", order(d), "retry", retryText(d.Retry),
		"rate limit", orNone("%g per second", d.RateLimit), "concurrency", orNone("at most %d", d.Concurrency),
		"state", stateCell(string(d.State)), "reason", d.Reason,
		"secret", secretCell(d), "public key", d.PublicKey, "private key", styled(warn, private),
		"created", stamp(d.Created), "updated", stamp(d.Updated)}
	if s := d.Status; s != nil {
		facts = append(facts, statusFacts(s)...)
	}
	a.facts(facts...)
}

func statusFacts(s *hark.DestinationStatus) []any {
	replay := ""
	if s.Replay != nil {
		replay = fmt.Sprintf("at %v, to %v", s.Replay.Cursor, s.Replay.To)
	}
	facts := []any{"behind", s.Behind, "waiting", s.Waiting, "in flight", s.InFlight, "breaker", stateCell(s.Breaker),
		"retry at", stamp(s.RetryAt), "failing since", stamp(s.FailingSince), "filtered", zeroEmpty(s.Filtered),
		"cursor", s.Cursor, "replay", replay}
	for _, g := range s.Gaps {
		facts = append(facts, "gap", plainf("%v to %v, told %s", g.From, g.To, ago(g.At)))
	}
	return facts
}

func order(d *client.Destination) string {
	switch {
	case !d.Ordered:
		return ""
	case d.OnDead == hark.OnDeadStop:
		return "one per key; stops after one that died"
	}
	return "one per key"
}

func retryText(r *hark.Retry) string {
	if r == nil {
		return ""
	}
	var parts []string
	if len(r.Schedule) > 0 {
		var waits []string
		for _, w := range r.Schedule {
			waits = append(waits, time.Duration(w).String())
		}
		parts = append(parts, "after "+strings.Join(waits, ", "))
	}
	if r.Timeout > 0 {
		parts = append(parts, "each attempt at most "+time.Duration(r.Timeout).String())
	}
	return strings.Join(parts, "; ")
}

// orNone writes a number, or nothing for 0.
func orNone[T int | float64](format string, n T) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}

func zeroEmpty(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
