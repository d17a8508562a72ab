package server

import (
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/ingest"
	"github.com/harkhq/hark/internal/scheme"
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
