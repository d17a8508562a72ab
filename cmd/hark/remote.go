package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

// remote names a server and how to speak to it. Every verb that asks a server embeds
// it; publish, whose --key is the event's, embeds place alone.
type remote struct {
	place
	APIKey string `name:"api-key" aliases:"key" help:"API key." placeholder:"hk_…" env:"HARK_KEY" group:"remote"`
}

// place is a server without its key.
type place struct {
	Server string        `help:"The server's URL (http://127.0.0.1:8080)." placeholder:"URL" env:"HARK_URL" default:"http://127.0.0.1:8080" group:"remote"`
	Tenant string        `help:"Act for this tenant; needs an admin key." env:"HARK_TENANT" group:"remote"`
	CA     string        `name:"ca" help:"File with the certificate to trust, for a server with its own." type:"path" env:"HARK_CA" group:"remote"`
	Wait   time.Duration `name:"timeout" help:"How long to wait for an answer (30s)." default:"30s" group:"remote"`
}

func (r *remote) client() (*client.Client, error) { return r.place.client(r.APIKey) }

func (p *place) client(key string) (*client.Client, error) {
	o := client.Options{Tenant: p.Tenant, Timeout: p.Wait, Retries: 2, MaxWait: 10 * time.Second, UserAgent: "hark/" + readBuild().Version}
	if p.Wait <= 0 {
		return nil, wrongUse("--timeout 30s", "--timeout must be more than nothing")
	}
	if p.CA != "" {
		roots, err := readRoots(p.CA)
		if err != nil {
			return nil, err
		}
		o.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	c, err := client.New(p.Server, strings.TrimSpace(key), o)
	if err != nil {
		return nil, wrongUse("--server http://127.0.0.1:8080", "%v", err)
	}
	return c, nil
}

// readRoots reads the certificates to trust.
func readRoots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, wrongUse("", "%s holds no certificate in PEM", path)
	}
	return roots, nil
}

// destinationRef is a destination as people name it: by id, or by the uid they gave it.
type destinationRef string

// find returns the destination's id. Only a uid costs a request.
func (d destinationRef) find(ctx context.Context, c *client.Client) (hark.DestinationID, error) {
	if strings.HasPrefix(string(d), "dst_") {
		id, err := hark.ParseDestinationID(string(d))
		if err != nil {
			return 0, wrongUse("hark destination list", "%v", err)
		}
		return id, nil
	}
	if d == "" {
		return 0, wrongUse("hark destination list", "name a destination, by its id or uid")
	}
	for found, err := range c.Destinations(ctx, client.DestinationQuery{UID: string(d), PageSize: 1}) {
		if err != nil {
			return 0, err
		}
		return found.ID, nil
	}
	return 0, &failure{msg: fmt.Sprintf("there is no destination with the uid %q", string(d)), try: "hark destination list", code: exitNotFound}
}

// moment is a point in time as people write it: RFC 3339, a date, or a duration ago.
type moment struct{ time.Time }

// UnmarshalText reads it; kong calls it before anything is asked.
func (m *moment) UnmarshalText(text []byte) error {
	s := string(text)
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			m.Time = t
			return nil
		}
	}
	if d, err := parseSpan(s); err == nil && d >= 0 {
		m.Time = time.Now().Add(-d)
		return nil
	}
	return fmt.Errorf("%q is not a time: write 2026-01-31T15:04:05Z, 2026-01-31, or 2h for two hours ago", s)
}

// parseSpan reads a duration and knows days, too.
func parseSpan(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days, "%d", &n); err == nil && fmt.Sprint(n) == days && n < 100_000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(s)
}

// startText checks where reading or replaying begins, and puts it as the API wants it.
func startText(flag, s string) (string, error) {
	if s == "" || s == "earliest" || s == "now" {
		return s, nil
	}
	if strings.HasPrefix(s, "evt_") {
		if _, err := hark.ParseEventID(s); err != nil {
			return "", wrongUse("", "%s: %v", flag, err)
		}
		return s, nil
	}
	var m moment
	if err := m.UnmarshalText([]byte(s)); err != nil {
		return "", wrongUse("", `%s: must be "earliest", an event id, a time like 2026-01-31T15:04:05Z, or 2h for two hours ago`, flag)
	}
	return m.UTC().Format(time.RFC3339Nano), nil
}

// checkJSON explains what is wrong with JSON, in bytes and words.
func checkJSON(text []byte) error {
	var v json.RawMessage
	d := json.NewDecoder(bytes.NewReader(text))
	err := d.Decode(&v)
	if err == nil && len(bytes.TrimSpace(text[d.InputOffset():])) > 0 {
		return fmt.Errorf("there is more after the JSON value, at byte %d", d.InputOffset())
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("%v, at byte %d", syntax, syntax.Offset)
	}
	if err != nil {
		return errors.New("it ends too early")
	}
	return nil
}

// patterns checks topic patterns before anything is asked.
func patterns(flag string, texts []string) ([]hark.Pattern, error) {
	var ps []hark.Pattern
	for _, t := range texts {
		if err := hark.CheckPattern(hark.Pattern(t)); err != nil {
			msg := err.Error()
			if e, ok := errors.AsType[*hark.Error](err); ok {
				msg = e.Msg
			}
			return nil, wrongUse(tryFor("topics"), "%s: %s", flag, msg)
		}
		ps = append(ps, hark.Pattern(t))
	}
	return ps, nil
}
