package main

import (
	"errors"
	"net/http"
	"slices"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/internal/sample"
	"github.com/harkhq/hark/internal/scheme"
)

// anySender are the schemes whose sources take requests of any provider.
var anySender = []string{"standard", "hmac", "token", "none", "cloudevents"}

// toSource signs for a source of the server, as its own scheme says.
func (t *trigger) toSource() error {
	source, err := t.findSource()
	if err != nil {
		return err
	}
	if source.Scheme != t.sample.Scheme && !slices.Contains(anySender, source.Scheme) {
		if own := sample.Of(source.Scheme); len(own) > 0 {
			return wrongUse("hark trigger "+own[0].Provider+" "+own[0].Event+" --source "+t.Source,
				"%s is a source of %s, and would refuse what %s sends", source.ID, source.Scheme, t.Provider)
		}
		return failed("the program of the server's version", "%s is a source of %s, of which this program has no samples", source.ID, clean(source.Scheme))
	}
	t.url, t.isSource = source.URL, true
	row := scheme.Find(source.Scheme)
	settings, err := t.mergeSettings(row, source.Settings)
	if err != nil {
		return err
	}
	d := &hark.Source{Scheme: source.Scheme, Settings: settings}
	secrets := source.Secrets
	if len(secrets) == 0 && source.Secret != "" { // one that was replaced, and verifies for a while
		secrets = []hark.Secret{source.Secret}
	}
	for _, s := range secrets {
		d.Secrets = append(d.Secrets, hark.SigningSecret{Value: s})
	}
	if row != nil && row.Secrets != scheme.NoSecrets && row.CanSign() && len(d.Secrets) == 0 && t.Secret == "" {
		return failed("hark source rotate "+t.Source, "%s has no secret yet: %s", source.ID, clean(source.SecretHelp))
	}
	return t.sign(d)
}

// findSource asks the server for the source, with its secrets unless --secret gives one.
func (t *trigger) findSource() (*client.Source, error) {
	c, err := t.client()
	if err != nil {
		return nil, err
	}
	id, err := sourceRef(t.Source).find(t.app.ctx, c)
	if err != nil {
		return nil, err
	}
	if t.Secret != "" {
		return c.Source(t.app.ctx, id)
	}
	source, err := c.RevealSource(t.app.ctx, id)
	if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusForbidden {
		return nil, &failure{msg: "only an admin's key may see the source's secret", try: "--secret with the source's secret, or an admin's key", code: exitRefused, err: err}
	}
	return source, err
}
