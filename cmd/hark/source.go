package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/internal/sample"
	"github.com/harkhq/hark/internal/scheme"
	"github.com/harkhq/hark/internal/setting"
)

type sourceCmd struct {
	Add     sourceAdd     `cmd:"" help:"Add a source, and tell what to enter at the provider."`
	List    sourceList    `cmd:"" aliases:"ls" help:"List sources."`
	Show    sourceShow    `cmd:"" aliases:"get" help:"Show one."`
	Pause   sourcePause   `cmd:"" help:"Answer senders that they shall try again later."`
	Resume  sourceResume  `cmd:"" help:"Take requests again."`
	Rotate  sourceRotate  `cmd:"" help:"Replace the secret that verifies."`
	Remove  sourceRemove  `cmd:"" aliases:"rm,delete" help:"Remove a source; its URL is gone for good."`
	Schemes sourceSchemes `cmd:"" help:"List the ways in which senders prove who they are."`
}

func (*sourceCmd) Help() string {
	return `A source is a URL where a provider sends its webhooks. It is named by its id (src_…) or by the uid that you gave it.

Example:
  hark source add github --uid github`
}

// sourceRef is a source as people name it: by id, or by the uid they gave it.
type sourceRef string

// find returns the source's id. Only a uid costs a request.
func (s sourceRef) find(ctx context.Context, c *client.Client) (hark.SourceID, error) {
	if strings.HasPrefix(string(s), "src_") {
		id, err := hark.ParseSourceID(string(s))
		if err != nil {
			return 0, wrongUse("hark source list", "%v", err)
		}
		return id, nil
	}
	if s == "" {
		return 0, wrongUse("hark source list", "name a source, by its id or uid")
	}
	for found, err := range c.Sources(ctx, client.SourceQuery{UID: string(s), PageSize: 1}) {
		if err != nil {
			return 0, err
		}
		return found.ID, nil
	}
	return 0, &failure{msg: fmt.Sprintf("there is no source with the uid %q", string(s)), try: "hark source list", code: exitNotFound}
}

// oneSource is the server and the source in question.
type oneSource struct {
	Source sourceRef `arg:"" help:"Id (src_…) or uid of the source."`
	remote
}

func (o *oneSource) find(a *app) (*client.Client, hark.SourceID, error) {
	c, err := o.client()
	if err != nil {
		return nil, 0, err
	}
	id, err := o.Source.find(a.ctx, c)
	return c, id, err
}

type sourceAdd struct {
	Scheme string `arg:"" help:"How senders prove who they are: github, stripe, …, token, hmac, none. See hark source schemes."`

	Secret    []string          `help:"What verifies: the provider's secret or your own, or @FILE, @- for the standard input; may be repeated. One is made where the scheme can." placeholder:"TEXT" sep:"none"`
	Topic     string            `help:"Template of the events' topics (the scheme's own)." placeholder:"TEMPLATE" short:"t"`
	Key       string            `help:"Template of the events' keys." placeholder:"TEMPLATE"`
	Attribute map[string]string `help:"Template of an attribute; may be repeated." placeholder:"NAME=TEMPLATE" short:"a" mapsep:"none"`
	Set       map[string]string `help:"A setting of the scheme; may be repeated. A value may be JSON." placeholder:"NAME=VALUE" mapsep:"none"`
	UID       string            `name:"uid" help:"Your own name for it. Adding it again changes the one that has it."`
	Name      string            `help:"A name for people."`

	AllowIP     []string `name:"allow-ip" help:"Address or network that may send; may be repeated (all)." placeholder:"CIDR"`
	CORS        []string `name:"cors" help:"Origin of web pages that may send, or * for all; may be repeated (none)." placeholder:"ORIGIN"`
	Respond     string   `help:"What senders are answered: a status, or JSON with status, headers and body, or @FILE (200)." placeholder:"STATUS|JSON"`
	MaxBody     int      `help:"Largest body in bytes (the largest event)." placeholder:"N"`
	RateLimit   float64  `help:"Requests per second at most." placeholder:"N"`
	Concurrency int      `help:"Requests at once at most." placeholder:"N"`

	place
	APIKey string `name:"api-key" help:"API key." placeholder:"hk_…" env:"HARK_KEY" group:"remote"`
}

func (*sourceAdd) Help() string {
	return `Examples:
  hark source add github --uid github
  hark source add stripe --secret @secret.txt --topic 'payments.{body.type}'
  hark source add hmac --set header=X-Signature --set encoding=base64
  hark source add token --cors https://app.example.com --respond '{"status":202,"body":"thank you"}'`
}

func (s *sourceAdd) Run(a *app) error {
	if strings.HasPrefix(s.Key, "hk_") {
		return wrongUse("--api-key or HARK_KEY", "--key is a template of the events' ordering keys, and this looks like an API key")
	}
	spec, err := s.spec(a)
	if err != nil {
		return err
	}
	c, err := s.client(s.APIKey)
	if err != nil {
		return err
	}
	add := c.CreateSource
	if s.UID != "" {
		add = c.PutSource
	}
	made, err := add(a.ctx, *spec)
	if err != nil {
		return explainScheme(a, c, s.Scheme, err)
	}
	return a.answer(made, func() {
		a.facts("id", made.ID, "uid", made.UID, "scheme", made.Scheme, "topic", made.Topic, "key", made.Key,
			"url", styled(bold, made.URL), "secret", styled(warn, made.Secret.Reveal()))
		a.showSetup(made)
		if !made.Created.Equal(made.Updated) {
			a.note("it was there before, and is as you said now")
		}
		a.noteSource(made, s.Server)
		a.noteSample(made, s.Server)
	})
}

// noteSample says how to try a source without its provider, if that can be done: it has
// what verifies, and this program can sign as the provider does.
func (a *app) noteSample(s *client.Source, server string) {
	samples, row := sample.Of(s.Scheme), scheme.Find(s.Scheme)
	if len(samples) == 0 || row == nil || s.SecretHelp != "" || row.Secrets != scheme.NoSecrets && !row.CanSign() {
		return
	}
	a.note("next: %s trigger %s %s --source %s%s", commandWord(), samples[0].Provider, samples[0].Event, cmp.Or(s.UID, s.ID.String()), serverFlag(server))
}

// explainScheme guesses which scheme was meant.
func explainScheme(a *app, c *client.Client, name string, err error) error {
	f := a.explain(err)
	if !strings.HasPrefix(f.msg, "scheme: ") {
		return err
	}
	f.try = "hark source schemes"
	if table, err := c.Schemes(a.ctx); err == nil {
		names := make([]string, len(table))
		for i, s := range table {
			names[i] = s.Name
		}
		if meant := closest(name, names); meant != "" {
			f.try = "hark source add " + meant
		}
	}
	return f
}

// showSetup writes what to enter at the provider.
func (a *app) showSetup(s *client.Source) {
	if len(s.Setup) == 0 {
		return
	}
	a.printf("\n%s\n", a.paint(faint, "At the sender:"))
	for _, line := range s.Setup {
		a.printf("  %s\n", line)
	}
	a.printf("\n")
}

// noteSource says what is still to do.
func (a *app) noteSource(s *client.Source, server string) {
	name := cmp.Or(s.UID, s.ID.String())
	if s.Secret != "" {
		a.note("the secret proves who sends; later only an admin sees it: hark source show %s --reveal", name)
	} else if s.Verifying > 0 {
		a.note("the secret is not shown again; an admin sees it: %s source show %s --reveal%s", commandWord(), name, serverFlag(server))
	}
	if s.SecretHelp != "" {
		a.note("it takes nothing before it has the secret: %s. Then:\n  %s source rotate %s --secret …%s", s.SecretHelp, commandWord(), name, serverFlag(server))
	}
	if u, err := url.Parse(s.URL); err == nil && onlyHere(u.Hostname()) {
		a.note("this URL is for senders on this machine or network; for others start the server with --public-url")
	}
}

// onlyHere reports whether a host is none that the internet reaches.
func onlyHere(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified()
	}
	return host == "localhost" || net.ParseIP(host) == nil && !strings.Contains(host, ".")
}

func (s *sourceAdd) spec(a *app) (*client.SourceSpec, error) {
	spec := &client.SourceSpec{Scheme: s.Scheme, UID: s.UID, Name: s.Name, Topic: s.Topic, Key: s.Key, Attributes: s.Attribute,
		AllowIPs: s.AllowIP, CORSOrigins: s.CORS, MaxBody: s.MaxBody, RateLimit: s.RateLimit, Concurrency: s.Concurrency}
	for _, text := range s.Secret {
		secret, err := secretText(a, text)
		if err != nil {
			return nil, err
		}
		spec.Secrets = append(spec.Secrets, secret)
	}
	if len(s.Set) > 0 {
		var fields []setting.Field
		if row := scheme.Find(s.Scheme); row != nil {
			fields = row.Fields
		}
		spec.Settings = settingsOf(fields, s.Set)
	}
	if s.Respond != "" {
		var err error
		if spec.Response, err = responseText(a, s.Respond); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

// secretText is a secret as it is given: itself, or the file that holds it.
func secretText(a *app, text string) (hark.Secret, error) {
	if path, ok := strings.CutPrefix(text, "@"); ok {
		read, err := readInput(a, path)
		if err != nil {
			return "", err
		}
		text = strings.TrimRight(string(read), "\r\n")
	}
	if text == "" {
		return "", wrongUse("leave --secret out, and one is made where the scheme can", "--secret is empty")
	}
	return hark.Secret(text), nil
}

// settingsOf reads NAME=VALUE. A value that is JSON is taken as such, but for settings
// that are text whatever they look like: the number of a chat, say.
func settingsOf(fields []setting.Field, set map[string]string) map[string]any {
	isText := func(name string) bool {
		return slices.ContainsFunc(fields, func(f setting.Field) bool {
			return f.Key == name && (f.Type == setting.Text || f.Type == setting.URL)
		})
	}
	settings := make(map[string]any, len(set))
	for name, value := range set {
		settings[name] = value
		if v := json.RawMessage(value); json.Valid(v) && !isText(name) {
			settings[name] = v
		}
	}
	return settings
}

// responseText reads --respond.
func responseText(a *app, text string) (*hark.SourceResponse, error) {
	const try = `--respond 202, or --respond '{"status":202,"headers":{"Content-Type":"text/plain"},"body":"thank you"}'`
	if status, err := strconv.Atoi(text); err == nil {
		return &hark.SourceResponse{Status: status}, nil
	}
	given := []byte(text)
	if path, ok := strings.CutPrefix(text, "@"); ok {
		var err error
		if given, err = readInput(a, path); err != nil {
			return nil, err
		}
	}
	if err := checkJSON(given); err != nil {
		return nil, wrongUse(try, "--respond is neither a status nor JSON: %v", err)
	}
	r := new(hark.SourceResponse)
	if err := json.Unmarshal(given, r); err != nil {
		return nil, wrongUse(try, "--respond must be an object with status, headers and body")
	}
	return r, nil
}

type sourceList struct {
	Scheme string `help:"Only this scheme."`
	State  string `help:"Only active or paused ones." enum:",active,paused" default:""`
	Limit  int    `help:"How many at most (100)." default:"100"`
	remote
}

func (*sourceList) Help() string { return "Example:\n  hark source list --state paused" }

func (s *sourceList) Run(a *app) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	list := struct {
		Sources []*client.Source `json:"sources"`
	}{[]*client.Source{}}
	q := client.SourceQuery{Scheme: s.Scheme, State: hark.SourceState(s.State), PageSize: pageSize(s.Limit)}
	for one, err := range c.Sources(a.ctx, q) {
		if err != nil {
			return err
		}
		if list.Sources = append(list.Sources, one); len(list.Sources) >= s.Limit {
			break
		}
	}
	return a.answer(list, func() {
		if len(list.Sources) == 0 {
			a.note("no sources; add one with: hark source add github")
			return
		}
		rows := [][]cell{header("ID", "UID", "SCHEME", "STATE", "TOPIC", "URL")}
		for _, one := range list.Sources {
			rows = append(rows, []cell{plain(one.ID), plain(one.UID), plain(one.Scheme), sourceState(one), plain(snippet([]byte(one.Topic), 40)), plain(one.URL)})
		}
		a.table(rows...)
	})
}

// sourceState is the state, and what keeps an active one from taking anything.
func sourceState(s *client.Source) cell {
	if s.State == hark.SourceActive && s.SecretHelp != "" {
		return styled(bad, "no secret")
	}
	return stateCell(string(s.State))
}

type sourceShow struct {
	oneSource
	Reveal bool `help:"Show the secrets, too; needs an admin key."`
}

func (*sourceShow) Help() string { return "Example:\n  hark source show github" }

func (s *sourceShow) Run(a *app) error {
	c, id, err := s.find(a)
	if err != nil {
		return err
	}
	get := c.Source
	if s.Reveal {
		get = c.RevealSource
	}
	one, err := get(a.ctx, id)
	if err != nil {
		return err
	}
	return a.answer(one, func() {
		a.showSource(one)
		a.showSetup(one)
		if one.Secret == "" {
			a.noteSource(one, s.Server)
		}
	})
}

func (a *app) showSource(s *client.Source) {
	facts := []any{"id", s.ID, "uid", s.UID, "name", s.Name, "url", styled(bold, s.URL), "scheme", s.Scheme, "settings", settingsText(s.Settings),
		"topic", s.Topic, "key", s.Key}
	for _, name := range slices.Sorted(maps.Keys(s.Attributes)) {
		facts = append(facts, "attribute", name+"="+s.Attributes[name])
	}
	facts = append(facts, "answer", responseLine(s.Response), "may send", strings.Join(s.AllowIPs, ", "), "web origins", strings.Join(s.CORSOrigins, ", "),
		"largest body", orNone("%d bytes", s.MaxBody), "rate limit", orNone("%g per second", s.RateLimit), "concurrency", orNone("at most %d", s.Concurrency),
		"state", sourceState(s), "verifying", secretsText(s), "secret", styled(warn, s.Secret.Reveal()))
	for _, more := range s.Secrets[min(1, len(s.Secrets)):] {
		facts = append(facts, "secret", styled(warn, more.Reveal()))
	}
	for _, old := range s.OldSecrets {
		facts = append(facts, "old secret", styled(warn, old.Secret.Reveal()+", until "+stamp(old.Expires)))
	}
	a.facts(append(facts, "created", stamp(s.Created), "updated", stamp(s.Updated))...)
}

func settingsText(settings json.RawMessage) string {
	if string(settings) == "{}" {
		return ""
	}
	return string(settings)
}

func secretsText(s *client.Source) string {
	if s.Verifying == 0 {
		return ""
	}
	return "with " + count(s.Verifying, "secret")
}

func responseLine(r *hark.SourceResponse) string {
	if r == nil {
		return ""
	}
	text := strconv.Itoa(cmp.Or(r.Status, 200))
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		text += ", " + name + ": " + r.Headers[name]
	}
	if r.Body != "" {
		text += ", " + snippet([]byte(r.Body), 60)
	}
	return text
}

type sourcePause struct{ oneSource }

func (*sourcePause) Help() string {
	return "Senders are answered 503, so that they try again later.\n\nExample:\n  hark source pause github"
}

func (s *sourcePause) Run(a *app) error {
	c, id, err := s.find(a)
	if err != nil {
		return err
	}
	return a.sourceIs(c.PauseSource(a.ctx, id))
}

type sourceResume struct{ oneSource }

func (*sourceResume) Help() string { return "Example:\n  hark source resume github" }

func (s *sourceResume) Run(a *app) error {
	c, id, err := s.find(a)
	if err != nil {
		return err
	}
	return a.sourceIs(c.ResumeSource(a.ctx, id))
}

// sourceIs tells what became of a source.
func (a *app) sourceIs(s *client.Source, err error) error {
	if err != nil {
		return err
	}
	return a.answer(s, func() { a.printf("%s is %s\n", s.ID, a.paint(stateCell(string(s.State)).style, string(s.State))) })
}

type sourceRotate struct {
	oneSource
	Secret  string        `help:"The new secret, or @FILE, @- for the standard input. One is made where the scheme can." placeholder:"TEXT"`
	Overlap time.Duration `help:"How long what verified before still verifies; 0s ends it at once (24h)." placeholder:"DURATION" default:"24h"`
}

func (*sourceRotate) Help() string {
	return "Examples:\n  hark source rotate github --overlap 1h\n  hark source rotate stripe --secret @secret.txt"
}

func (s *sourceRotate) Run(a *app) error {
	if s.Overlap < 0 {
		return wrongUse("--overlap 24h", "--overlap must not be negative")
	}
	var given hark.Secret
	if s.Secret != "" {
		var err error
		if given, err = secretText(a, s.Secret); err != nil {
			return err
		}
	}
	c, id, err := s.find(a)
	if err != nil {
		return err
	}
	made, err := c.RotateSourceSecret(a.ctx, id, given, s.Overlap)
	if err != nil {
		return err
	}
	return a.answer(made, func() {
		a.facts("id", made.ID, "secret", styled(warn, made.Secret.Reveal()))
		if given == "" {
			a.showSetup(made)
		}
		for _, old := range made.OldSecrets {
			a.note("an old one verifies, too, until %s", stamp(old.Expires))
		}
		if len(made.OldSecrets) == 0 {
			a.note("no other verifies")
		}
		a.noteSample(made, s.Server)
	})
}

type sourceRemove struct{ oneSource }

func (*sourceRemove) Help() string { return "Example:\n  hark source remove github" }

func (s *sourceRemove) Run(a *app) error {
	c, id, err := s.find(a)
	if err != nil {
		return err
	}
	if err := c.DeleteSource(a.ctx, id); err != nil {
		return err
	}
	return a.answer(map[string]any{"id": id, "removed": true}, func() { a.printf("%s is removed\n", id) })
}

type sourceSchemes struct{ remote }

func (*sourceSchemes) Help() string { return "Example:\n  hark source schemes" }

func (s *sourceSchemes) Run(a *app) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	table, err := c.Schemes(a.ctx)
	if err != nil {
		return err
	}
	return a.answer(map[string]any{"schemes": table}, func() {
		rows := [][]cell{header("SCHEME", "FOR", "SECRET", "TOPIC")}
		for _, one := range table {
			secret := "the provider's"
			switch {
			case one.Secrets == "none":
				secret = "none"
			case one.Secrets == "public":
				secret = "the provider's public key"
			case one.MakesSecret:
				secret = "yours, or made"
			}
			rows = append(rows, []cell{styled(bold, one.Name), plain(one.Title), plain(secret), plain(one.Topic)})
		}
		a.table(rows...)
	})
}
