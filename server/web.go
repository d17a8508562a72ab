package server

import (
	"context"
	"net/http"
	"slices"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/capture"
	"github.com/harkhq/hark/internal/registry"
	"github.com/harkhq/hark/internal/scheme"
	"github.com/harkhq/hark/internal/web"
)

// pages makes what people look at.
func (s *Server) pages() *web.Web {
	c := web.Config{Bins: binsOfPages{s}, Caller: s.mayManage, Base: s.front.Base, Curl: capture.Curl, Log: s.log,
		Demo: s.cfg.Dev || s.cfg.Demo}
	for _, row := range scheme.Schemes() {
		c.Schemes = append(c.Schemes, web.Scheme{Name: row.Name, Title: row.Title, SecretHelp: row.SecretHelp,
			Secret: row.Secrets != scheme.NoSecrets, Sign: row.CanSign(), Settings: needsSettings(row)})
	}
	if s.cfg.Dev {
		c.Create = func(_ context.Context, t hark.TenantID) (*hark.Source, error) {
			return s.registry.CreateSource(t, api.NewBin())
		}
		c.List = s.newestBins
	}
	return web.New(c)
}

// needsSettings tells whether a scheme verifies nothing until it has settings: then a
// name and a secret are not enough, and the API is the place to choose it.
func needsSettings(row *scheme.Scheme) bool {
	for _, f := range row.Fields {
		if f.Required {
			return true
		}
	}
	return false
}

// maxListedBins bounds the list of bins in hark dev.
const maxListedBins = 20

// newestBins returns the bins of a tenant that were made last.
func (s *Server) newestBins(t hark.TenantID) []*hark.Source {
	var newest []*hark.Source
	q := registry.SourceQuery{Bins: true, Limit: 100}
	for {
		page, more := s.registry.Sources(t, q)
		for _, bin := range page {
			newest = append([]*hark.Source{bin}, newest...)
		}
		newest = newest[:min(len(newest), maxListedBins)]
		if !more {
			return newest
		}
		q.After = page[len(page)-1].ID
	}
}

// mayManage returns the tenant in which r's sender may manage bins.
func (s *Server) mayManage(r *http.Request) (hark.TenantID, error) {
	p, err := s.auth.Authenticate(r)
	if err == nil {
		err = p.Require(registry.ScopeManage)
	}
	return p.Tenant, err
}

// binsOfPages is bins and what they captured as the pages see them.
type binsOfPages struct{ *Server }

// Bin implements web.Bins.
func (b binsOfPages) Bin(id hark.SourceID) (*hark.Source, error) {
	if bin := b.registry.BinByID(id); bin != nil {
		return bin, nil
	}
	return nil, hark.NoSuch("bin", id.String())
}

// Requests implements web.Bins.
func (b binsOfPages) Requests(ctx context.Context, bin *hark.Source, q web.Query) (web.Page, error) {
	filter, err := capture.ParseSearch(q.Search)
	if err != nil {
		return web.Page{}, err
	}
	p, err := b.captures.Captures(ctx, bin.Tenant, bin.ID, capture.Query{Filter: filter, Before: q.Before, Forward: q.Forward, After: q.After, Limit: q.Limit})
	if err != nil {
		return web.Page{}, err
	}
	if q.Forward { // the page shows the newest first
		slices.Reverse(p.Captures)
	}
	total := b.captures.Usage(bin.Tenant, bin.ID).Requests
	return web.Page{Requests: p.Captures, Next: p.Next, More: p.More, Total: int(total)}, nil
}

// Request implements web.Bins.
func (b binsOfPages) Request(_ context.Context, bin *hark.Source, id hark.CaptureID) (*hark.Capture, error) {
	return b.captures.Get(bin.Tenant, bin.ID, id)
}
