package destination

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/setting"
)

// table holds every kind, in the order of the dashboard.
var table = []*Kind{&webhookKind, &pullKind, &googlechatKind, &slackKind, &discordKind, &teamsKind, &telegramKind, &mattermostKind, &audienceKind}

// Mode says who moves.
type Mode string

// The modes.
const (
	Push Mode = "push" // we send
	Pull Mode = "pull" // workers fetch, under a lease
)

// Kind is one way to carry events, as a row that describes itself.
type Kind struct {
	// Name is what a destination says in "kind".
	Name  string
	Title string
	Help  string
	Mode  Mode
	// Fields are its settings, in the order of the form.
	Fields []setting.Field

	// check adds what Fields cannot say. Values hold only what Fields let pass.
	check func(c *setting.Check, v setting.Values)
	// host names whom it dials, for the caps per host; nil for nobody.
	host func(v setting.Values) string
	// hosts are those by which a URL tells that it is a room of this kind; with a dot
	// before it, a host under any name. FromURL makes settings of such a URL, where they
	// are more than the URL; nil if it is none.
	hosts   []string
	fromURL func(u *url.URL) map[string]string
	// newSecret makes a signing secret; nil for a kind that does not sign.
	newSecret func(v setting.Values) hark.Secret
	// parseSecret returns a secret in its full form; nil for those of webhooks.
	parseSecret func(text string) (hark.Secret, error)
	// keepsSecrets says that a rotated secret goes on signing for what is bound to it.
	keepsSecrets bool
	// settle does with a whole destination what check does with its settings; nil for nothing.
	settle func(c *setting.Check, old, d *hark.Destination, v setting.Values)
	// lasts says that a send takes as long as it takes: no attempt's timeout ends it.
	lasts bool
	// open makes what sends to d; nil in mode pull.
	open func(env *environment, d *hark.Destination, v setting.Values) (opened, error)
}

// parse reads settings of the kind, with all faults in c.
func (k *Kind) parse(c *setting.Check, settings json.RawMessage) setting.Values {
	had := len(c.Faults)
	v := setting.Parse(c, "settings", k.Fields, settings)
	if k.check != nil && len(c.Faults) == had {
		k.check(c, v)
	}
	return v
}

// Redact returns settings with every secret replaced by [setting.Redacted].
func (k *Kind) Redact(settings json.RawMessage) json.RawMessage {
	return setting.Redact(k.Fields, settings)
}

// Schema returns the JSON schema of the kind's settings, for OpenAPI and editors.
func (k *Kind) Schema() json.RawMessage { return setting.Schema(k.Fields) }

// Signs reports whether destinations of the kind have signing secrets.
func (k *Kind) Signs() bool { return k.newSecret != nil }

// Lasts reports whether a send takes as long as it takes: no attempt's timeout is for it.
func (k *Kind) Lasts() bool { return k.lasts }

// Recognise tells the kind that a URL belongs to, and the settings it gives, for those
// who paste what an app shows them. Without such a kind it is a webhook.
func Recognise(raw string) (kind string, settings map[string]string) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" {
		return webhookKind.Name, map[string]string{"url": raw}
	}
	host := strings.ToLower(u.Hostname())
	for _, k := range table {
		if k.fromURL != nil {
			if settings := k.fromURL(u); settings != nil {
				return k.Name, settings
			}
		}
		for _, h := range k.hosts {
			if host == h || h[0] == '.' && strings.HasSuffix(host, h) {
				return k.Name, map[string]string{"url": raw}
			}
		}
	}
	return webhookKind.Name, map[string]string{"url": raw}
}

// opened sends to one revision of one destination. It is safe for concurrent use.
type opened interface {
	send(ctx context.Context, e *hark.Event, m Meta) Result
}

// Kinds returns the table.
func Kinds() []*Kind { return slices.Clone(table) }

// Find returns the kind of that name, or nil.
func Find(name string) *Kind {
	for _, k := range table {
		if k.Name == name {
			return k
		}
	}
	return nil
}
