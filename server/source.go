package server

import (
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/scheme"
)

// schemes is the table of verification schemes as the registry sees it.
type schemes struct{}

func (schemes) Check(old, d *hark.Source) error { return scheme.Check(old, d) }

func (schemes) NewSecret(d *hark.Source) hark.Secret {
	if s := scheme.Find(d.Scheme); s != nil && s.Generate != nil {
		return hark.Secret(s.Generate())
	}
	return ""
}
