package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/sample"
	"github.com/harkhq/hark/internal/scheme"
	"github.com/harkhq/hark/internal/setting"
)

const maxTriggers = 10_000

type triggerCmd struct {
	Provider string `arg:"" optional:"" help:"Who would send it: github, stripe, … Without, all are listed."`
	Event    string `arg:"" optional:"" help:"What happened, in the provider's word, such as push."`

	To     string            `help:"Send it to this URL." placeholder:"URL" xor:"where"`
	Source string            `help:"Send it to this source of the server, signed with the source's secret: its id (src_…) or uid." placeholder:"ID" xor:"where"`
	Secret string            `help:"Sign with this secret; with --source, in place of the source's." placeholder:"TEXT" env:"HARK_SECRET"`
	Set    map[string]string `help:"A setting of the scheme, with --to; may be repeated. A value may be JSON." placeholder:"NAME=VALUE" mapsep:"none"`

	Body   string `help:"Another body, from this file." placeholder:"FILE"`
	At     moment `help:"Sent and signed at this time (now)." placeholder:"TIME"`
	Tamper bool   `help:"Change a byte after signing: the receiver should refuse it."`
	Count  int    `help:"So many, one after the other, each with ids of its own (1)." default:"1" placeholder:"N"`

	DryRun bool `help:"Print the request, and send nothing." xor:"print"`
	Curl   bool `help:"Print a curl command that sends it, and send nothing." xor:"print"`
	remote
}

func (*triggerCmd) Help() string {
	return `Examples:
  hark trigger                                                        what there is
  hark trigger github push --source my-repo
  hark trigger stripe invoice.paid --to http://127.0.0.1:3000/stripe --secret whsec_…
  hark trigger github push --source my-repo --tamper                  should be refused
  hark trigger shopify orders/paid --to http://127.0.0.1:3000 --secret s --curl`
}

// trigger is a verb under way.
type trigger struct {
	*triggerCmd
	app    *app
	sample *sample.Sample
	body   []byte // in place of the sample's; nil for none
	url    string
	// signer signs; nil for no signature, and unsigned says why.
	signer   *scheme.Source
	unsigned string
	settings json.RawMessage
	isSource bool
}

func (c *triggerCmd) Run(a *app) error {
	if c.Provider == "" || c.Event == "" && c.To == "" && c.Source == "" {
		return c.list(a)
	}
	t := &trigger{triggerCmd: c, app: a}
	if err := t.prepare(); err != nil {
		return err
	}
	return t.run()
}

// list tells what there is, of one provider or of all.
func (c *triggerCmd) list(a *app) error {
	samples := sample.All()
	if c.Provider != "" {
		if samples = sample.Of(c.Provider); len(samples) == 0 {
			return unknownProvider(c.Provider)
		}
	}
	type row struct {
		Provider string `json:"provider"`
		Event    string `json:"event"`
		Title    string `json:"title"`
		Scheme   string `json:"scheme"`
	}
	rows := make([]row, len(samples))
	for i, s := range samples {
		rows[i] = row{s.Provider, s.Event, s.Title, s.Scheme}
	}
	return a.answer(map[string]any{"samples": rows}, func() {
		cells, last := [][]cell{header("PROVIDER", "EVENT", "WHAT HAPPENED")}, ""
		for _, s := range samples {
			name := styled(bold, s.Provider)
			if s.Provider == last {
				name = plain("")
			}
			last = s.Provider
			cells = append(cells, []cell{name, plain(s.Event), styled(faint, s.Title)})
		}
		a.table(cells...)
		a.note("send one: %s trigger %s %s --source ID, or --to URL --secret TEXT", commandWord(), samples[0].Provider, samples[0].Event)
	})
}

func unknownProvider(name string) error {
	if near := closest(strings.ToLower(name), sample.Providers()); near != "" {
		return wrongUse("hark trigger "+near, "there are no samples of %q; is %s meant?", name, near)
	}
	return wrongUse("hark trigger", "there are no samples of %q; there are %s", name, strings.Join(sample.Providers(), ", "))
}

func unknownEvent(provider, event string) error {
	var events []string
	for _, s := range sample.Of(provider) {
		events = append(events, s.Event)
	}
	try := "hark trigger " + provider + " " + cmp.Or(closest(strings.ToLower(event), events), events[0])
	if event == "" {
		return wrongUse(try, "name an event of %s: %s", provider, strings.Join(events, ", "))
	}
	return wrongUse(try, "there is no sample of %s %q; there are %s", provider, event, strings.Join(events, ", "))
}

// prepare finds sample, address and secret, and checks what can be checked beforehand.
func (t *trigger) prepare() (err error) {
	if len(sample.Of(t.Provider)) == 0 {
		return unknownProvider(t.Provider)
	}
	if t.sample = sample.Find(t.Provider, t.Event); t.sample == nil {
		return unknownEvent(t.Provider, t.Event)
	}
	if t.Count < 1 || t.Count > maxTriggers {
		return wrongUse("--count 3", "--count: must be from 1 to %d", maxTriggers)
	}
	if t.Body != "" {
		if t.body, err = readInput(t.app, t.Body); err != nil {
			return err
		}
		if t.body == nil {
			t.body = []byte{}
		}
	}
	if t.Source != "" {
		return t.toSource()
	}
	return t.toURL()
}

// toURL signs for any receiver.
func (t *trigger) toURL() error {
	t.url = t.To
	if t.url == "" {
		if !t.DryRun && !t.Curl {
			return wrongUse("--source ID for a source of the server, or --to http://127.0.0.1:3000/webhook", "say where to send it")
		}
		t.url = "https://example.com/webhook"
	}
	if u, err := url.Parse(t.url); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return wrongUse("--to http://127.0.0.1:3000/webhook", "--to: %q is no URL with http:// or https://", t.url)
	}
	row := scheme.Find(t.sample.Scheme)
	settings, err := t.mergeSettings(row, t.sample.Settings)
	if err != nil {
		return err
	}
	if row.Secrets != scheme.NoSecrets && row.CanSign() && t.Secret == "" {
		t.settings, t.unsigned = settings, "not signed: give the receiver's secret with --secret ("+row.SecretHelp+")"
		return nil
	}
	return t.sign(&hark.Source{Scheme: t.sample.Scheme, Settings: settings})
}

// mergeSettings puts what --set says over settings of a scheme.
func (t *trigger) mergeSettings(row *scheme.Scheme, base json.RawMessage) (json.RawMessage, error) {
	if len(t.Set) == 0 || row == nil {
		return base, nil
	}
	merged := map[string]any{}
	if len(base) > 0 {
		if err := json.Unmarshal(base, &merged); err != nil {
			return nil, err
		}
	}
	for name, value := range t.Set {
		isText := slices.ContainsFunc(row.Fields, func(f setting.Field) bool { return f.Key == name && f.Type == setting.Text })
		if merged[name] = value; !isText && json.Valid([]byte(value)) {
			merged[name] = json.RawMessage(value)
		}
	}
	return json.Marshal(merged)
}

// sign opens what signs for d, with the secret of --secret if there is one.
func (t *trigger) sign(d *hark.Source) error {
	t.settings = d.Settings
	row := scheme.Find(d.Scheme)
	switch {
	case row == nil:
		return failed("the program of the server's version", "this program knows no scheme %s", clean(d.Scheme))
	case !row.CanSign():
		t.unsigned = "not signed: only " + row.Title + " can sign its requests"
		return nil
	}
	if t.Secret != "" && row.Secrets != scheme.NoSecrets {
		d.Secrets = []hark.SigningSecret{{Value: hark.Secret(t.Secret)}}
	}
	if err := scheme.Check(nil, d); err != nil {
		return wrongUse("", "%s cannot be signed for: %v", row.Name, err)
	}
	signer, err := scheme.Open(nil, d)
	if err != nil {
		return err
	}
	t.signer = signer
	return nil
}

// request makes the next one, signed and perhaps tampered with.
func (t *trigger) request() (*scheme.Request, error) {
	at := t.At.Time
	if at.IsZero() {
		at = time.Now()
	}
	r, err := t.sample.Request(t.url, t.settings, at)
	if err != nil {
		return nil, err
	}
	if t.body != nil {
		r.Body = slices.Clone(t.body)
	}
	if t.signer == nil {
		if t.Tamper {
			return nil, wrongUse("--secret with the receiver's secret", "--tamper: there is no signature that it could break")
		}
		return r, nil
	}
	if a := t.signer.Challenge(r, false); a == nil { // a handshake before any secret is not signed
		if err := t.signer.Sign(r, at); err != nil {
			return nil, err
		}
	}
	if t.Tamper && !t.tamper(r) {
		return nil, wrongUse("another provider, such as github", "--tamper: %s signs no body, so that a change of it cannot be seen", t.signer.Scheme.Title)
	}
	return r, nil
}

// tamper changes a letter or digit of the body, the last one that matters to the
// signature, so that JSON stays JSON.
func (t *trigger) tamper(r *scheme.Request) bool {
	for i, b := range slices.Backward(r.Body) {
		if b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' {
			changed := bytes.Clone(r.Body)
			if changed[i] = b + 1; b == '9' || b == 'z' || b == 'Z' {
				changed[i] = b - 1
			}
			trial := *r
			if trial.Body = changed; !t.signer.Verify(context.Background(), &trial).OK() {
				*r = trial
				return true
			}
		}
	}
	return false
}

// run sends or prints.
func (t *trigger) run() error {
	var all []*sent
	for i := range t.Count {
		r, err := t.request()
		if err != nil {
			return err
		}
		if i == 0 && t.unsigned != "" && r.Method == http.MethodPost { // handshakes of other methods never are
			t.app.note("%s", t.unsigned)
		}
		switch {
		case t.DryRun:
			t.app.printf("%s", rawRequest(r))
			continue
		case t.Curl:
			t.app.printf("%s\n", curlCommand(r))
			continue
		}
		one, err := t.send(r)
		if err != nil {
			return err
		}
		all = append(all, one)
		if !t.app.json {
			t.show(one)
		}
	}
	if t.DryRun || t.Curl {
		return nil
	}
	return t.conclude(all)
}

// conclude tells what to look at next, and fails if one was not taken as it should.
func (t *trigger) conclude(all []*sent) error {
	right := func(s *sent) bool { return s.OK != t.Tamper }
	taken := 0
	for _, s := range all {
		if right(s) {
			taken++
		}
	}
	err := t.app.answer(map[string]any{"sent": all}, func() {
		if t.Count > 1 {
			what := "taken"
			if t.Tamper {
				what = "refused, as they should be"
			}
			t.app.printf("%d of %d %s\n", taken, len(all), what)
		}
		t.app.note("%s", t.next(taken == len(all)))
	})
	if err == nil && taken < len(all) {
		return errQuiet
	}
	return err
}

func (t *trigger) next(right bool) string {
	switch {
	case t.Tamper && right:
		return "it was changed after signing, and refused: as it should be"
	case t.Tamper:
		return "it was changed after signing, and taken: the receiver does not verify"
	case right && t.isSource:
		return fmt.Sprintf("next: %s deliveries list --since 1m%s", commandWord(), serverFlag(t.Server))
	case right:
		return "next: what the receiver made of it"
	case t.isSource:
		return fmt.Sprintf("next: %s source show %s%s", commandWord(), t.Source, serverFlag(t.Server))
	}
	return "next: the receiver's log; it answered with another status than 2xx"
}
