package webpush

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// MaxSubject is the most bytes of a subject.
const MaxSubject = 255

// Names that lead nowhere from outside (RFC 2606, RFC 6762, and those in use at home).
var nowhere = []string{"localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "test", "example", "invalid"}

// CheckSubject says whether a push service will take a subject (the claim sub of VAPID), and
// why not. Apple's answers 403 BadJwtToken to a placeholder, without a word of what is wrong.
func CheckSubject(sub string) error {
	bad := func(why string) error {
		return refuse(BadSubject, "subject", "%s; give mailto:somebody@your-domain or https://your-domain/contact: push services ask there when something goes wrong, and Apple refuses all messages (403 BadJwtToken) of a sender it cannot ask", why)
	}
	switch {
	case sub == "":
		return bad("is empty")
	case len(sub) > MaxSubject:
		return bad("is too long")
	case strings.ContainsFunc(sub, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return bad("has a space in it")
	case strings.ContainsAny(sub, `<>"`):
		return bad("has brackets or quotes in it: only the address belongs there")
	}
	if address, ok := strings.CutPrefix(sub, "mailto:"); ok {
		name, domain, _ := strings.Cut(address, "@")
		if name == "" || domain == "" || strings.ContainsAny(domain, "@?,/") {
			return bad("is not one mail address")
		}
		return checkDomain(domain, bad)
	}
	u, err := url.Parse(sub)
	if err != nil || u.Scheme != "https" || u.User != nil {
		return bad("begins neither with mailto: nor with https:")
	}
	return checkDomain(u.Hostname(), bad)
}

func checkDomain(domain string, bad func(string) error) error {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if _, err := netip.ParseAddr(domain); err == nil || strings.HasPrefix(domain, "[") {
		return bad("has an address instead of a domain")
	}
	labels := strings.Split(domain, ".")
	if last := labels[len(labels)-1]; slices.Contains(nowhere, last) {
		return bad("has the domain " + domain + ", which nobody outside can reach")
	}
	if len(labels) < 2 || slices.Contains(labels, "") {
		return bad("has no domain of the internet")
	}
	return nil
}
