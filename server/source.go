package server

import (
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/ingest"
	"github.com/harkhq/hark/internal/scheme"
	"github.com/harkhq/hark/internal/setting"
)

// openFront sets how this server is seen from outside. The settings were checked.
func (s *Server) openFront() error {
	trusted, err := parsePrefixes(s.cfg.TrustedProxy)
	if err != nil {
		return err
	}
	s.front, err = ingest.NewFront(s.cfg.PublicURL, trusted)
	return err
}

// schemes is the table of verification schemes as the registry sees it.
type schemes struct{}

func (schemes) Check(old, d *hark.Source) error { return scheme.Check(old, d) }

func (schemes) NewSecret(d *hark.Source) hark.Secret {
	if s := scheme.Find(d.Scheme); s != nil && s.Generate != nil {
		return hark.Secret(s.Generate())
	}
	return ""
}

// schemeViews is the table of verification schemes as the API shows it.
func schemeViews() (views []api.SchemeView) {
	for _, s := range scheme.Schemes() {
		views = append(views, api.SchemeView{Name: s.Name, Title: s.Title, Help: s.Help, Settings: fieldViews(s.Fields),
			Secrets: string(s.Secrets), SecretHelp: s.SecretHelp, MakesSecret: s.Generate != nil, Signs: s.CanSign(),
			Topic: s.Topic, Setup: s.Setup, Redact: s.Redact})
	}
	return views
}

func fieldViews(fields []setting.Field) []api.FieldView {
	views := make([]api.FieldView, len(fields))
	for i, f := range fields {
		views[i] = api.FieldView{Key: f.Key, Type: string(f.Type), Title: f.Title, Help: f.Help, Required: f.Required, Secret: f.Secret,
			Default: f.Default, Enum: f.Enum, Example: f.Example, Min: f.Min, Max: f.Max}
		if len(f.Fields) > 0 {
			views[i].Fields = fieldViews(f.Fields)
		}
	}
	return views
}
