package scheme

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"unicode"
)

// A diagnosis looks for what happened to a request whose signature is not right: it
// tries the changes that proxies, frameworks and people make, and a variant that would
// match tells which. It only ever chooses the words of a refusal.
//
// Whoever can send can make us do it, so it is bounded: a number of variants that does
// not depend on the request, bodies of at most maxDiagnosedBody, and diagnosisBudget
// bytes hashed for one request.
const (
	maxDiagnosedBody    = 1 << 20
	maxReformattedBody  = 64 << 10 // indenting makes a body longer
	maxReformattedDepth = 32
	diagnosisBudget     = 4 << 20
	maxDiagnosedSecrets = 4
)

// needed returns the only value of a header that the scheme needs; a verdict without
// a reason has no objection. A header that stands there twice is refused: what reads
// the request later might take the other one.
func (s *Source) needed(r *Request, name string) (string, Verdict) {
	switch value, n := r.Header.count(name); {
	case n == 0 || n == 1 && value == "":
		return "", refused(HeaderMissing, "there is no header %s: is the secret entered at %s, too?", name, s.Scheme.Title)
	case n > 1:
		return "", refused(Malformed, "the header %s stands there %d times", name, n)
	default:
		return value, Verdict{}
	}
}

// attempt is a signature tried in a diagnosis: with the key that one of the secrets
// makes, and another body or URL.
type attempt func(key []byte, url string, body []byte) bool

// diagnose says why no signature of r is right.
func (rc *recipe) diagnose(s *Source, r *Request, got *sent) Verdict {
	return s.diagnose(r, rc, s.signs("url"), func(key []byte, url string, body []byte) bool {
		other := *r
		other.URL, other.Body = url, body
		with := macs{hash: rc.newHash(), key: key}
		return rc.isSigned(got, with.of(s.pieces, &other, got).sum)
	})
}

// signs reports whether the template holds that.
func (s *Source) signs(kind string) bool {
	for _, p := range s.pieces {
		if p.kind == kind {
			return true
		}
	}
	return false
}

// diagnose is the diagnosis of any scheme whose secrets are keys of an HMAC: rc says
// how they become keys.
func (s *Source) diagnose(r *Request, rc *recipe, signsURL bool, try attempt) Verdict {
	if len(r.Body) > maxDiagnosedBody {
		return s.noSecretMatches()
	}
	d := &diagnosis{try: try, budget: diagnosisBudget}
	for _, secret := range s.live(r.Received) {
		if len(d.keys) == maxDiagnosedSecrets {
			break
		}
		if key, err := rc.parseKey(secret); err == nil {
			d.keys = append(d.keys, key)
		}
		for _, x := range keyVariants(secret, rc) {
			if d.matches(x.key, r.URL, r.Body) {
				return refused(NoSecretMatches, "%s", x.advice)
			}
		}
	}
	if signsURL {
		for _, url := range urlVariants(r) {
			if d.anyKey(url, r.Body) {
				return refused(URLChanged, "the signature is right for %s, and the request came to %s: set the server's public URL to what senders use", clip(url), clip(r.URL))
			}
		}
	}
	return s.diagnoseBody(r, func(body []byte) bool { return d.anyKey(r.URL, body) })
}

// diagnoseBody is the part of a diagnosis for any scheme that signs the body.
func (s *Source) diagnoseBody(r *Request, matches func(body []byte) bool) Verdict {
	if len(r.Body) > maxDiagnosedBody {
		return s.noSecretMatches()
	}
	budget := diagnosisBudget
	for what, body := range bodyVariants(r.Body) {
		if budget -= len(body) + 1024; budget < 0 {
			break
		}
		if matches(body) {
			return refused(BodyChanged, "the signature is right for the body %s: something between sender and Hark changed it", what)
		}
	}
	return s.byDigest(r)
}

// diagnosis holds what the variants of one request share.
type diagnosis struct {
	keys   [][]byte
	try    attempt
	budget int
}

// matches tries a variant, while the budget lasts.
func (d *diagnosis) matches(key []byte, url string, body []byte) bool {
	d.budget -= len(url) + len(body) + 1024
	return d.budget >= 0 && d.try(key, url, body)
}

func (d *diagnosis) anyKey(url string, body []byte) bool {
	for _, key := range d.keys {
		if d.matches(key, url, body) {
			return true
		}
	}
	return false
}

// clip bounds what a verdict repeats of a URL.
func clip(url string) string {
	if len(url) > 300 {
		return url[:300] + "…"
	}
	return url
}

// byDigest is the verdict where no variant matched: a digest beside the body tells
// whether that is as it was sent.
func (s *Source) byDigest(r *Request) Verdict {
	switch where, same := digestBeside(r); {
	case where == "":
		return s.noSecretMatches()
	case same:
		return refused(NoSecretMatches, "the body is as it was sent (%s fits it), so the secret is another: compare the secret at %s with the source's", where, s.Scheme.Title)
	default:
		return refused(BodyChanged, "the body is not the one that was sent: %s does not fit it", where)
	}
}

func (s *Source) noSecretMatches() Verdict {
	return refused(NoSecretMatches, "the signature is of another secret or of other content: compare the secret at %s with the source's", s.Scheme.Title)
}

// bodyVariants yields what a body may have been before it was changed on its way, and
// how it differs.
func bodyVariants(body []byte) func(yield func(string, []byte) bool) {
	return func(yield func(string, []byte) bool) {
		var last []byte
		try := func(what string, variant []byte) bool {
			if bytes.Equal(variant, body) || last != nil && bytes.Equal(variant, last) {
				return true
			}
			last = variant
			return yield(what, variant)
		}
		_ = try("without its last line end", bytes.TrimSuffix(bytes.TrimSuffix(body, []byte("\n")), []byte("\r"))) &&
			try("with a line end after it", append(body[:len(body):len(body)], '\n')) &&
			try("with CR LF after it", append(body[:len(body):len(body)], "\r\n"...)) &&
			try("without the white space around it", bytes.TrimSpace(body)) &&
			try("with LF instead of CR LF", bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))) &&
			try("with CR LF instead of LF", crlf(body)) &&
			try("without its byte order mark", bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))) &&
			try("empty", []byte{}) &&
			reformatted(body, try)
	}
}

func crlf(body []byte) []byte {
	if len(body) > maxDiagnosedBody/2 {
		return body
	}
	return bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// reformatted yields a JSON body as serialisers write it.
func reformatted(body []byte, try func(string, []byte) bool) bool {
	if len(body) > maxReformattedBody || depth(body) > maxReformattedDepth {
		return true
	}
	var compact bytes.Buffer
	if json.Compact(&compact, body) != nil {
		return true
	}
	if !try("without white space between its JSON tokens", compact.Bytes()) ||
		!try("with a space after each comma and colon of its JSON", spaced(compact.Bytes())) {
		return false
	}
	for _, indent := range []string{"  ", "    ", "\t"} {
		var b bytes.Buffer
		if json.Indent(&b, compact.Bytes(), "", indent) == nil && !try("with its JSON indented", b.Bytes()) {
			return false
		}
	}
	return true
}

// depth is how deep brackets nest, those in strings too: it is a bound.
func depth(body []byte) (deepest int) {
	n := 0
	for _, b := range body {
		switch b {
		case '{', '[':
			n++
			deepest = max(deepest, n)
		case '}', ']':
			n--
		}
	}
	return deepest
}

// spaced is compact JSON as Python's json.dumps writes it.
func spaced(compact []byte) []byte {
	out := make([]byte, 0, len(compact)*5/4)
	quoted := false
	for i, b := range compact {
		out = append(out, b)
		switch {
		case b == '"' && !escaped(compact, i):
			quoted = !quoted
		case (b == ',' || b == ':') && !quoted:
			out = append(out, ' ')
		}
	}
	return out
}

// escaped reports whether an odd number of backslashes stands before i.
func escaped(text []byte, i int) bool {
	n := 0
	for i--; i >= 0 && text[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

type keyVariant struct {
	key    []byte
	advice string
}

// keyVariants are what people make of a secret when they copy it.
func keyVariants(secret string, rc *recipe) (all []keyVariant) {
	add := func(key []byte, err error, advice string) {
		if err == nil && len(key) > 0 {
			all = append(all, keyVariant{key, advice})
		}
	}
	if trimmed := strings.TrimFunc(secret, unicode.IsSpace); trimmed != secret {
		key, err := rc.parseKey(trimmed)
		add(key, err, "the secret has white space around it, and matches without: enter it again")
	}
	for _, end := range []string{"\n", "\r\n", " "} {
		key, err := rc.parseKey(secret + end)
		add(key, err, "the sender's secret has white space after it: enter it there again, without")
	}
	if rc.key != "" && rc.key != "text" {
		add([]byte(secret), nil, "the sender uses the secret's text as the key, and the scheme decodes it: the sender should decode it, or the source use another scheme")
		return all
	}
	const decoded = "the sender uses what the secret decodes to (%) as the key, and the scheme the text: the sender should not decode it, or the source use another scheme"
	bare := strings.TrimPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(bare)
	add(key, err, strings.Replace(decoded, "%", "base64", 1))
	key, err = hex.DecodeString(bare)
	add(key, err, strings.Replace(decoded, "%", "hex", 1))
	if bare != secret {
		add([]byte(bare), nil, "the sender's secret has no whsec_ before it: enter the whole secret there")
	}
	return all
}

// urlVariants are the URLs that a sender may have used, where Hark sees another.
func urlVariants(r *Request) (all []string) {
	scheme, rest, ok := strings.Cut(r.URL, "://")
	if !ok {
		return nil
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	hosts := []string{authority}
	for _, name := range []string{"Host", "X-Forwarded-Host", "X-Original-Host"} {
		if host := r.Header.Get(name); host != "" && len(host) <= 255 {
			hosts = append(hosts, host)
		}
	}
	for _, host := range hosts {
		bare, _, _ := strings.Cut(host, ":")
		for _, proto := range []string{scheme, "https", "http"} {
			for _, at := range []string{host, bare, bare + defaultPort(proto)} {
				for _, path := range pathVariants(tail) {
					if u := proto + "://" + at + path; u != r.URL && len(all) < 64 {
						all = append(all, u)
					}
				}
			}
		}
	}
	return all
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return ":80"
	}
	return ":443"
}

// pathVariants are path and query as they are, with a slash more or less, and without the query.
func pathVariants(tail string) []string {
	path, query, hasQuery := strings.Cut(tail, "?")
	slash := strings.TrimSuffix(path, "/")
	if slash == path {
		slash += "/"
	}
	if !hasQuery {
		return []string{tail, slash}
	}
	return []string{tail, slash + "?" + query, path}
}

// digestBeside finds a digest of the body in the headers (RFC 9530, RFC 3230, RFC
// 1864); where is "" for none, and same whether it fits.
func digestBeside(r *Request) (where string, same bool) {
	for _, name := range []string{"Content-Digest", "Digest", "Content-MD5"} {
		value, ok := r.Header.Lookup(name)
		if !ok {
			continue
		}
		algorithm, text, _ := strings.Cut(value, "=")
		if name == "Content-MD5" {
			algorithm, text = "md5", value
		}
		given, err := base64.StdEncoding.DecodeString(strings.Trim(strings.TrimSpace(text), ":"))
		if sum := digest(algorithm, r.Body); err == nil && sum != nil && len(given) == len(sum) {
			return name, bytes.Equal(given, sum)
		}
	}
	return "", false
}

func digest(algorithm string, body []byte) []byte {
	switch strings.ToLower(strings.TrimSpace(algorithm)) {
	case "md5":
		sum := md5.Sum(body)
		return sum[:]
	case "sha":
		sum := sha1.Sum(body)
		return sum[:]
	case "sha-256":
		sum := sha256.Sum256(body)
		return sum[:]
	case "sha-512":
		sum := sha512.Sum512(body)
		return sum[:]
	}
	return nil
}
