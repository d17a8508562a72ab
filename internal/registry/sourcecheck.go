package registry

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// Bounds of what a source may say.
const (
	MaxTemplateBytes     = 1024
	MaxSourceAttributes  = 32
	MaxAttributeName     = 64
	MaxAllowIPs          = 256
	MaxCORSOrigins       = 64
	MaxResponseBytes     = 64 << 10 // headers and body together
	MaxResponseHeaders   = 64
	MaxResponseDelay     = 30 * time.Second
	MaxSourceConcurrency = 1000
	// MaxBinBody bounds a body sent to a bin, which has no event to fit into.
	MaxBinBody = hark.MaxBatchBytes

	MaxBinRequests = 1_000_000
	MaxBinBytes    = 10 << 30
	MinBinTTL      = time.Minute
	MaxBinTTL      = 90 * 24 * time.Hour
)

// checkSource tells everything that is wrong with d, which would replace old (nil at
// creation), and puts it in order: compact JSON, nothing twice, nil for empty. The
// caller holds write.
func (r *Registry) checkSource(home *tenant, old, d *hark.Source) error {
	if r.schemes == nil {
		return errors.New("no table of schemes")
	}
	var faults []error
	fault := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	fault(checkName("name", d.Name, hark.MaxNameBytes))
	fault(checkName("uid", d.UID, hark.MaxUIDBytes))
	if id, taken := home.sourceUIDs[d.UID]; taken && d.UID != "" && (old == nil || old.ID != id) {
		fault(uidTaken(id.String()))
	}
	if d.State != hark.SourceActive && d.State != hark.SourcePaused {
		fault(hark.Invalidf("state", "must be active or paused"))
	}
	if len(d.Settings) > hark.MaxSettingsBytes {
		fault(hark.Invalidf("settings", fmt.Sprintf("%d bytes; at most %d", len(d.Settings), hark.MaxSettingsBytes)))
	} else if err := compactJSON(&d.Settings); err != nil {
		fault(hark.Invalidf("settings", "must be a JSON object"))
	} else {
		fault(checkSecrets(d.Secrets))
		fault(r.schemes.Check(old, d))
		if err := compactJSON(&d.Settings); err != nil {
			return fmt.Errorf("scheme %s made settings that are not an object", d.Scheme)
		}
	}
	faults = append(faults, r.checkTemplates(d)...)
	faults = append(faults, checkSenders(d)...)
	faults = append(faults, checkResponse(d)...)
	faults = append(faults, r.checkIntake(d)...)
	if d.Bin != nil {
		faults = append(faults, checkBin(d.Bin)...)
	}
	return errors.Join(faults...)
}

func checkSecrets(secrets []hark.SigningSecret) error {
	if len(secrets) > MaxSecrets {
		return hark.Invalidf("secrets", fmt.Sprintf("at most %d verify at once", MaxSecrets))
	}
	for i, s := range secrets {
		text := s.Value.Reveal()
		if text == "" || len(text) > hark.MaxSettingsBytes/MaxSecrets || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return hark.Invalidf("secrets", fmt.Sprintf("each must be text of 1 to %d bytes", hark.MaxSettingsBytes/MaxSecrets))
		}
		if slices.ContainsFunc(secrets[:i], func(o hark.SigningSecret) bool { return o.Value == s.Value }) {
			return hark.Invalidf("secrets", "one is given twice")
		}
	}
	return nil
}

// checkTemplates checks topic, key and attributes.
func (r *Registry) checkTemplates(d *hark.Source) (faults []error) {
	check := func(field, template string) {
		if len(template) > MaxTemplateBytes {
			faults = append(faults, hark.Invalidf(field, fmt.Sprintf("%d bytes; at most %d", len(template), MaxTemplateBytes)))
		} else if err := r.template(field, template); err != nil {
			faults = append(faults, err)
		}
	}
	if d.Topic != "" {
		check("topic", d.Topic)
	}
	if d.Key != "" {
		check("key", d.Key)
	}
	if len(d.Attributes) == 0 {
		d.Attributes = nil
	}
	if len(d.Attributes) > MaxSourceAttributes {
		return append(faults, hark.Invalidf("attributes", fmt.Sprintf("at most %d templates", MaxSourceAttributes)))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		if name == "" || checkName("", name, MaxAttributeName) != nil {
			faults = append(faults, hark.Invalidf("attributes", fmt.Sprintf("names must be 1 to %d bytes of UTF-8 without control characters", MaxAttributeName)))
			continue
		}
		check("attributes."+name, d.Attributes[name])
	}
	return faults
}

// literalOnly is the check of templates where there is none: nothing is replaced, so
// nothing that looks like a template may be kept.
func literalOnly(field, template string) error {
	if strings.ContainsAny(template, "{}") {
		return hark.Invalidf(field, "must be literal text: templates are not available")
	}
	if field != "topic" {
		return checkName(field, template, MaxTemplateBytes)
	}
	if err := hark.CheckTopic(template); err != nil || hark.IsReserved(template) {
		return hark.Invalidf(field, "must be a topic, such as \"payments\", that does not begin with \"hark.\"")
	}
	return nil
}

// checkSenders checks who may send.
func checkSenders(d *hark.Source) (faults []error) {
	d.AllowIPs, d.CORSOrigins = distinct(d.AllowIPs), distinct(d.CORSOrigins)
	if len(d.AllowIPs) > MaxAllowIPs {
		faults = append(faults, hark.Invalidf("allow_ips", fmt.Sprintf("at most %d networks", MaxAllowIPs)))
	} else {
		for i, text := range d.AllowIPs {
			if _, err := ParseNetwork(text); err != nil {
				faults = append(faults, hark.Invalidf(fmt.Sprintf("allow_ips[%d]", i), "must be an address or a network, such as \"192.0.2.7\" or \"192.30.252.0/22\""))
			}
		}
	}
	if len(d.CORSOrigins) > MaxCORSOrigins {
		faults = append(faults, hark.Invalidf("cors_origins", fmt.Sprintf("at most %d origins", MaxCORSOrigins)))
		return faults
	}
	for i, text := range d.CORSOrigins {
		if text != "*" && !isOrigin(text) {
			faults = append(faults, hark.Invalidf(fmt.Sprintf("cors_origins[%d]", i), "must be an origin as browsers send it, such as \"https://app.example.com\", or \"*\" for every page"))
		}
	}
	return faults
}

// ParseNetwork reads one entry of [hark.Source.AllowIPs]: an address, or a network in
// CIDR form. IPv4 inside IPv6 is read as IPv4, as addresses of senders are.
func ParseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, errors.New("an address with a zone")
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, errors.New("a network of more than the IPv4 addresses")
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// isOrigin reports whether s is scheme, host and perhaps port in the form of the
// Origin header (RFC 6454 section 6.2): lower case, nothing behind.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= 300 && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" &&
		s == u.Scheme+"://"+u.Host && s == strings.ToLower(s) && !strings.Contains(s, "*") && !strings.ContainsFunc(s, notVisible)
}

// fixedHeaders belong to the server: a response that set them could break the framing
// of the answer, redirect, reach beyond the source's own URL into other pages of this
// host, or undo what keeps answers from being run as pages.
var fixedHeaders = []string{
	"Connection", "Content-Length", "Date", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Location", "Refresh", "Set-Cookie", "Clear-Site-Data", "Strict-Transport-Security", "Service-Worker-Allowed", "Alt-Svc",
	"Content-Security-Policy", "X-Content-Type-Options", "Content-Encoding", "Nel", "Report-To", "Reporting-Endpoints",
}

func checkResponse(d *hark.Source) (faults []error) {
	r := d.Response
	if r == nil {
		return nil
	}
	if r.Status == 0 && len(r.Headers) == 0 && r.Body == "" && r.Delay == 0 {
		d.Response = nil
		return nil
	}
	fault := func(field, msg string) { faults = append(faults, hark.Invalidf("response."+field, msg)) }
	switch s := r.Status; {
	case s != 0 && (s < 200 || s > 599 || s/100 == 3):
		fault("status", "must be between 200 and 599, and not 3xx: senders are never redirected")
	case (s == 204 || s == 205) && r.Body != "":
		fault("body", "must be empty: status "+fmt.Sprint(s)+" carries none")
	}
	if len(r.Headers) == 0 {
		r.Headers = nil
	}
	if len(r.Headers) > MaxResponseHeaders {
		fault("headers", fmt.Sprintf("at most %d", MaxResponseHeaders))
		return faults
	}
	n := len(r.Body)
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		value := r.Headers[name]
		n += len(name) + len(value)
		field := "headers." + strings.ToValidUTF8(name[:min(len(name), 64)], "?")
		lower := strings.ToLower(name)
		switch {
		case name == "" || strings.ContainsFunc(name, notTokenChar):
			fault("headers", "a name must be one or more of A-Z a-z 0-9 and !#$%&'*+-.^_`|~")
		case seen[lower]:
			fault(field, "is given twice")
		case strings.HasPrefix(lower, "access-control-"):
			fault(field, "is not yours to set: use cors_origins")
		case slices.ContainsFunc(fixedHeaders, func(f string) bool { return strings.EqualFold(f, name) }):
			fault(field, "is not yours to set: the server decides it")
		case strings.ContainsFunc(value, notVisible) || strings.TrimSpace(value) != value:
			fault(field, "its value must be visible ASCII characters and single spaces between them")
		}
		seen[lower] = true
	}
	if n > MaxResponseBytes || !utf8.ValidString(r.Body) {
		fault("body", fmt.Sprintf("must be UTF-8, and headers and body together at most %d bytes", MaxResponseBytes))
	}
	switch delay := time.Duration(r.Delay); {
	case delay != 0 && d.Bin == nil:
		fault("delay", "is for request bins only: senders of a source are answered as soon as the event is kept")
	case delay < 0 || delay > MaxResponseDelay:
		fault("delay", fmt.Sprintf("must be between 0s and %v", MaxResponseDelay))
	}
	return faults
}

// notVisible reports whether c may not stand in a header's value.
func notVisible(c rune) bool { return c < ' ' || c > '~' }

// notTokenChar reports whether c may not stand in a header's name (RFC 9110 section 5.6.2).
func notTokenChar(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// checkIntake checks how much may come.
func (r *Registry) checkIntake(d *hark.Source) (faults []error) {
	limit := r.limits.SourceBody
	if d.Bin != nil {
		limit = MaxBinBody
	}
	if d.MaxBody < 0 || d.MaxBody > limit {
		faults = append(faults, hark.Invalidf("max_body", fmt.Sprintf("must be between 1 and %d bytes, or 0 for the server's limit", limit)))
	}
	if err := checkRate("rate_limit", d.RateLimit); err != nil {
		faults = append(faults, err)
	}
	if d.Concurrency < 0 || d.Concurrency > MaxSourceConcurrency {
		faults = append(faults, hark.Invalidf("concurrency", fmt.Sprintf("must be between 1 and %d, or 0 for the server's default", MaxSourceConcurrency)))
	}
	return faults
}

func checkBin(b *hark.Bin) (faults []error) {
	b.Expires = b.Expires.UTC().Truncate(time.Millisecond)
	if ttl := time.Duration(b.TTL); ttl < MinBinTTL || ttl > MaxBinTTL {
		faults = append(faults, hark.Invalidf("ttl", fmt.Sprintf("must be between 1m and %.0fh", MaxBinTTL.Hours())))
	}
	if b.MaxRequests < 1 || b.MaxRequests > MaxBinRequests {
		faults = append(faults, hark.Invalidf("max_requests", fmt.Sprintf("must be between 1 and %d", MaxBinRequests)))
	}
	if b.MaxBytes < 1 || b.MaxBytes > MaxBinBytes {
		faults = append(faults, hark.Invalidf("max_bytes", fmt.Sprintf("must be between 1 and %d", int64(MaxBinBytes))))
	}
	return faults
}

// distinct returns the texts without repetition, nil for none.
func distinct(texts []string) []string {
	var kept []string
	seen := make(map[string]bool, len(texts))
	for _, s := range texts {
		if !seen[s] {
			seen[s] = true
			kept = append(kept, s)
		}
	}
	return kept
}

func uidTaken(id string) error {
	return &hark.Error{Kind: hark.Conflict, Code: "uid-taken", Field: "uid",
		Msg: id + " has this uid: change that one, or choose another uid"}
}
