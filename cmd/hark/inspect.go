package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark/webhook"
)

// secrets are what signatures are checked with.
type secrets struct {
	texts []string
	keys  []webhook.VerifyingKey
}

func parseSecrets(texts []string) (s secrets, err error) {
	for _, text := range texts {
		if err := s.add(text); err != nil {
			return s, wrongUse("the whole secret or public key, as hark destination add showed it", "--secret: %s", strings.TrimPrefix(err.Error(), "webhook: "))
		}
	}
	if len(s.keys) > webhook.MaxKeys {
		return s, wrongUse("", "at most %d secrets", webhook.MaxKeys)
	}
	return s, nil
}

// add takes one more, unless it cannot be read.
func (s *secrets) add(text string) error {
	k, err := verifyingKey(text)
	if err == nil {
		s.texts, s.keys = append(s.texts, text), append(s.keys, k)
	}
	return err
}

// verifyingKey reads a secret or a public key; of a private key it takes the public half.
func verifyingKey(text string) (webhook.VerifyingKey, error) {
	if !isPrivate(text) {
		return webhook.ParseVerifyingKey(text)
	}
	private, err := webhook.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	return private.Public(), nil
}

func isPrivate(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "whsk_") }

// standard returns the headers under the standard's names, for webhooks with a
// signature_prefix of their own.
func standard(h http.Header) http.Header {
	if h.Get(webhook.HeaderSignature) != "" {
		return h
	}
	for name := range h {
		prefix, ok := strings.CutSuffix(name, "-Signature")
		id, at := h.Get(prefix+"-Id"), h.Get(prefix+"-Timestamp")
		if !ok || id == "" || at == "" {
			continue
		}
		h = h.Clone()
		h.Set(webhook.HeaderID, id)
		h.Set(webhook.HeaderTimestamp, at)
		h.Set(webhook.HeaderSignature, h.Get(name))
		return h
	}
	return h
}

// verdict is what is to be said of one request.
type verdict struct {
	Verified bool `json:"verified"`
	// Reason is one of package webhook's; Detail says it in words.
	Reason    webhook.Reason `json:"reason,omitempty"`
	Detail    string         `json:"detail,omitempty"`
	Try       string         `json:"try,omitempty"`
	ID        string         `json:"id,omitempty"`
	Timestamp time.Time      `json:"timestamp,omitzero"`
	BodyBytes int            `json:"body_bytes"`
}

// inspect verifies a request and, when it fails, looks for what went wrong.
func inspect(h http.Header, body []byte, s secrets, now time.Time, tolerance time.Duration) verdict {
	h = standard(h)
	found := verdict{ID: h.Get(webhook.HeaderID), BodyBytes: len(body)}
	v, err := webhook.NewVerifier(s.keys...)
	if err != nil {
		found.Detail = strings.TrimPrefix(err.Error(), "webhook: ")
		return found
	}
	v.Tolerance, v.AcceptSvix = -1, true // time is judged apart, so that both faults are told
	msg, err := v.VerifyAt(now, h, body)
	if err != nil {
		found.Reason = webhook.ReasonOf(err)
		found.Detail, found.Try = found.explain(err, h, body, s)
		return found
	}
	found.ID, found.Timestamp = msg.ID, msg.Timestamp
	switch age := now.Sub(msg.Timestamp); {
	case age > tolerance:
		found.Reason = webhook.TooOld
		found.Detail = fmt.Sprintf("the signature is right, but the timestamp is %s old, and %s is tolerated", span(age), span(tolerance))
		found.Try = "if this is an old request, --at with its time; else set this machine's clock, or the sender's"
	case -age > tolerance:
		found.Reason = webhook.TooNew
		found.Detail = fmt.Sprintf("the signature is right, but the timestamp is %s in the future, and %s is tolerated", span(-age), span(tolerance))
		found.Try = "set this machine's clock, or the sender's"
	default:
		found.Verified = true
	}
	return found
}

func (v *verdict) explain(err error, h http.Header, body []byte, s secrets) (detail, try string) {
	detail = strings.TrimPrefix(err.Error(), "webhook: ")
	switch v.Reason {
	case webhook.MissingHeader:
		if scheme := otherScheme(h); scheme != "" {
			return detail + "; this request is signed in another way: " + scheme, ""
		}
		return detail, "keep all headers of the request: webhook-id, webhook-timestamp, webhook-signature"
	case webhook.MalformedTimestamp:
		if n, err := strconv.ParseInt(h.Get(webhook.HeaderTimestamp), 10, 64); err == nil && n > 1e12 {
			return detail + ": this looks like milliseconds", "divide by 1000"
		}
	case webhook.UnknownVersion:
		return explainVersion(h, detail)
	case webhook.NoMatch:
		return explainMismatch(h, body, s)
	}
	return detail, ""
}

// otherSchemes are headers of senders that sign by rules of their own.
var otherSchemes = [][2]string{{"X-Hub-Signature-256", "X-Hub-Signature-256 (GitHub and others)"}, {"Stripe-Signature", "Stripe-Signature"},
	{"X-Slack-Signature", "X-Slack-Signature"}, {"X-Shopify-Hmac-Sha256", "X-Shopify-Hmac-Sha256"}, {"X-Gitlab-Token", "X-Gitlab-Token"}}

func otherScheme(h http.Header) string {
	for _, s := range otherSchemes {
		if h.Get(s[0]) != "" {
			return s[1]
		}
	}
	return ""
}

func explainVersion(h http.Header, detail string) (string, string) {
	switch sig := h.Get(webhook.HeaderSignature); {
	case strings.HasPrefix(sig, "v1a,"):
		return "the request is signed with a private key (v1a), and a secret cannot check that", "--secret with the public key, whpk_…, which hark destination show ID tells"
	case strings.HasPrefix(sig, "v1,"):
		return "the request is signed with a secret (v1), and a public key cannot check that", "--secret with the secret, whsec_…"
	case !strings.Contains(sig, ","):
		return "the signature does not begin with its version", "the whole header, which begins with v1,"
	}
	return detail, ""
}

// explainMismatch tries the usual accidents: if one of them makes the signature right,
// that is what happened.
func explainMismatch(h http.Header, body []byte, s secrets) (string, string) {
	for _, accident := range accidents(body) {
		if !bytes.Equal(accident.body, body) && matches(h, accident.body, s.keys) {
			return "the body was changed on its way: " + accident.what, "verify the raw bytes of the request, before anything parses them"
		}
	}
	for _, text := range s.texts {
		for raw, what := range map[string]string{text: "with its prefix", strings.TrimPrefix(text, "whsec_"): "without its prefix"} {
			if k, err := webhook.NewSecret([]byte(raw)); err == nil && matches(h, body, []webhook.VerifyingKey{k}) {
				return "the secret is right, but the sender signed with its text (" + what + ") instead of the bytes that it decodes to",
					"the sender must decode the base64 after whsec_"
			}
		}
	}
	if n := h.Get("Content-Length"); n != "" && n != strconv.Itoa(len(body)) {
		return fmt.Sprintf("the body was changed on its way: Content-Length says %s bytes, and here are %d", clean(n), len(body)), "the exact bytes of the request"
	}
	return "another secret signed this, or its body, id or timestamp was changed on its way",
		"compare the secret: hark destination show ID --reveal; and verify the raw bytes of the request"
}

func matches(h http.Header, body []byte, keys []webhook.VerifyingKey) bool {
	v, err := webhook.NewVerifier(keys...)
	if err != nil {
		return false
	}
	v.Tolerance, v.AcceptSvix = -1, true
	_, err = v.Verify(h, body)
	return err == nil
}

type accident struct {
	what string
	body []byte
}

// accidents are bodies that this one may have been before.
func accidents(body []byte) []accident {
	all := []accident{
		{"a line break was added at its end", bytes.TrimSuffix(bytes.TrimSuffix(body, []byte("\n")), []byte("\r"))},
		{"the line break at its end was lost", append(slices.Clone(body), '\n')},
		{"white space was added around it", bytes.TrimSpace(body)},
		{"its line breaks became CR LF", bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))},
		{"its line breaks were CR LF", bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))},
		{"it was signed empty", nil},
	}
	for what, text := range reformatted(body) {
		what = "JSON was formatted anew: " + what
		all = append(all, accident{what, text}, accident{what, append(slices.Clone(text), '\n')})
	}
	return all
}

// reformatted writes a JSON body as it may have been before somebody parsed it.
func reformatted(body []byte) map[string][]byte {
	var compact bytes.Buffer
	if json.Compact(&compact, body) != nil {
		return nil
	}
	all := map[string][]byte{"white space was added": compact.Bytes(), "spaces after , and : were lost": spaced(compact.Bytes())}
	for what, indent := range map[string]string{"two spaces": "  ", "four spaces": "    ", "tabs": "\t"} {
		var indented bytes.Buffer
		if json.Indent(&indented, body, "", indent) == nil {
			all["its indentation by "+what+" was lost"] = indented.Bytes()
		}
	}
	return all
}

// spaced writes compact JSON as some languages do: with a space after , and :.
func spaced(compact []byte) []byte {
	var out []byte
	quoted, escaped := false, false
	for _, c := range compact {
		out = append(out, c)
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == ':'):
			out = append(out, ' ')
		}
	}
	return out
}
