package server

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/auth"
	"github.com/harkhq/hark/internal/registry"
)

// checkTokens tells what is wrong with the settings that say who may listen.
func (c *Config) checkTokens(fault func(setting, format string, args ...any)) {
	for _, origin := range c.CORSOrigin {
		if origin != "*" && !isOrigin(origin) {
			fault("cors-origin", "%q is not an origin: write it like https://app.example.com, without a path, or * for all", origin)
		}
	}
	for _, p := range c.AnonymousTopic {
		if err := hark.CheckPattern(hark.Pattern(p)); err != nil {
			fault("anonymous-topic", "%v", err)
		} else if hark.IsReserved(p) {
			fault("anonymous-topic", "%q: Hark's own events are not for everybody", p)
		}
	}
	if len(c.AnonymousTopic) > hark.MaxPatterns {
		fault("anonymous-topic", "there are more than %d", hark.MaxPatterns)
	}
	if u, err := url.Parse(c.JWTJWKS); c.JWTJWKS != "" && (err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname()))) {
		fault("jwt-jwks", "%q is not an https URL: on the way of another, the keys could be replaced", c.JWTJWKS)
	}
	if c.JWTMaxAge < 0 {
		fault("jwt-max-age", "must be positive")
	}
	outside := len(c.JWTSecret)+len(c.JWTKey) > 0 || c.JWTJWKS != ""
	if !outside && (c.JWTIssuer != "" || len(c.JWTAudience) > 0 || c.JWTOptionalExp) {
		fault("jwt-key", "what tokens must say is set, and no key that verifies them: set --jwt-secret, --jwt-key or --jwt-jwks")
	}
}

// isOrigin reports whether s is an origin as browsers write it, with any scheme.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && u.Host != "" && s == u.Scheme+"://"+u.Host && u.User == nil && !strings.ContainsAny(s, " *")
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// openAuth reads the keys that verify tokens, and makes who says who is calling.
func (s *Server) openAuth() error {
	cfg := &s.cfg
	issuer := auth.Issuer{JWKS: cfg.JWTJWKS, Name: cfg.JWTIssuer, Audiences: cfg.JWTAudience, Tenant: cfg.JWTTenant,
		MaxAge: cfg.JWTMaxAge, OptionalExp: cfg.JWTOptionalExp}
	if issuer.Tenant == "*" {
		issuer.Tenant, issuer.AnyTenant = hark.DefaultTenantName, true
	}
	var errs []error
	for _, file := range cfg.JWTSecret {
		text, err := os.ReadFile(file)
		if err == nil {
			var key *auth.Key
			key, err = auth.ParseSecret(text)
			issuer.Keys = append(issuer.Keys, key)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--jwt-secret: %s: %w", file, err))
		}
	}
	for _, file := range cfg.JWTKey {
		text, err := os.ReadFile(file)
		if err == nil {
			var keys []*auth.Key
			keys, err = auth.ParseKeys(text)
			issuer.Keys = append(issuer.Keys, keys...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--jwt-key: %s: %w", file, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, origin := range cfg.CORSOrigin {
		if s.cors.any = s.cors.any || origin == "*"; origin != "*" {
			s.cors.origins = append(s.cors.origins, strings.ToLower(origin))
		}
	}
	var anonymous []hark.Pattern
	for _, p := range cfg.AnonymousTopic {
		anonymous = append(anonymous, hark.Pattern(p))
	}
	s.auth = auth.New(auth.Config{Registry: s.registry, Issuer: issuer, Fetch: newFetcher(s.egress).get,
		Origin: s.ownOrigin(), Origins: s.cors.origins, Anonymous: anonymous, RateLimit: max(0, cfg.KeyRate), TokenRate: max(0, cfg.TokenRate), Hooks: auth.Hooks{
			Refused:     func(code string) { s.metrics.refused.WithLabelValues(code).Inc() },
			WriteFailed: func(err error) { s.log.Error("what keys and tokens leave behind could not be written", "error", err) },
			KeysFailed: func(err error) {
				s.log.Error("the keys that verify tokens could not be fetched", "url", cfg.JWTJWKS, "error", err)
			},
		}})
	return nil
}

// ownOrigin is our origin as the outside knows it, if it was told; else "".
func (s *Server) ownOrigin() string {
	u, err := url.Parse(s.cfg.PublicURL)
	if err != nil || u.Host == "" {
		return ""
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}

// tokenMint mints and revokes tokens for the API.
type tokenMint struct{ s *Server }

// Mint implements api.Tokens.
func (m tokenMint) Mint(t hark.TenantID, by hark.KeyID, spec api.TokenBody) (api.TokenView, error) {
	made, err := m.s.auth.MintToken(auth.Mint{Tenant: t, By: by, User: spec.User, Subscribe: spec.Subscribe, Publish: spec.Publish, TTL: time.Duration(spec.TTL)})
	if err != nil {
		return api.TokenView{}, err
	}
	return api.TokenView{ID: made.ID, Token: made.Text.Reveal(), Expires: made.Expires}, nil
}

// Revoke implements api.Tokens.
func (m tokenMint) Revoke(t hark.TenantID, tokenID, user string) (*registry.Revocation, error) {
	return m.s.auth.Revoke(t, tokenID, user)
}

// Rotate implements api.Tokens.
func (m tokenMint) Rotate(t hark.TenantID, overlap time.Duration) (*registry.TokenKey, error) {
	return m.s.registry.RotateTokenKey(t, overlap)
}

// Revocations implements api.Tokens.
func (m tokenMint) Revocations(t hark.TenantID, after hark.RevocationID, limit int) ([]*registry.Revocation, bool) {
	return m.s.registry.Revocations(t, after, limit)
}
