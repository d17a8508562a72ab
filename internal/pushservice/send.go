package pushservice

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/store"
	"github.com/harkhq/hark/internal/webpush"
)

// MaxBody is the largest body of a message, in bytes: what autopush takes. RFC 8030 wants 4,096 at least.
const MaxBody = 5630

// maxCryptoHeader bounds the headers that go with a message of the draft's encoding.
const maxCryptoHeader = 512

// ServeSend answers POST /push/w/{token} (RFC 8030 section 5).
func (s *Service) ServeSend(w http.ResponseWriter, r *http.Request) {
	status, no := s.send(w, r)
	if no != nil {
		status = no.status
		no.write(w)
	}
	if s.cfg.Hooks.Sent != nil {
		s.cfg.Hooks.Sent(status)
	}
}

func (s *Service) send(w http.ResponseWriter, r *http.Request) (status int, no *refusal) {
	if s.isStopping() {
		return 0, errStopping
	}
	e, no := s.find(r.PathValue("token"), store.PushToSend)
	if no != nil {
		return 0, s.strangely(r, no)
	}
	if wait := s.sends.take(e.hash, s.now()); wait > 0 {
		return 0, tooMany(wait, "this subscription takes %.0f messages a second", s.cfg.Limits.SendRate)
	}
	m := &store.PushMessage{}
	ttl, no := readHeaders(r.Header, m)
	if no == nil {
		no = readBody(w, r, m)
	}
	if no == nil {
		no = s.authorize(r, e, m)
	}
	if no != nil {
		return 0, s.strangely(r, no)
	}
	status = http.StatusCreated
	base := s.base(r)
	if respondAsync(r.Header) {
		link, no := s.askReceipt(r, m)
		if no != nil {
			return 0, no
		}
		w.Header()["Link"] = []string{`<` + base + receiptPath + link + `>; rel="` + relReceipt + `"`}
		status = http.StatusAccepted
	}
	id, no := s.accept(e, m, ttl)
	if no != nil {
		delete(w.Header(), "Link")
		return 0, no
	}
	h := w.Header()
	h["Location"] = []string{base + messagePath + id.String()}
	h["Ttl"] = []string{strconv.FormatInt(int64(ttl/time.Second), 10)}
	h["Content-Length"] = []string{"0"}
	w.WriteHeader(status)
	return status, nil
}

// strangely counts a refusal: an address that is refused too often is told to wait.
func (s *Service) strangely(r *http.Request, no *refusal) *refusal {
	if wait := s.strange.take(network(s.cfg.Client(r)), s.now()); wait > 0 {
		return tooMany(wait, "your address sends too much that is refused: %s", no.msg)
	}
	return no
}

// readHeaders reads what RFC 8030 and the encoding say of a message.
func readHeaders(h http.Header, m *store.PushMessage) (ttl time.Duration, no *refusal) {
	if ttl, no = readTTL(h["Ttl"]); no != nil {
		return 0, no
	}
	m.Urgency = normalUrgency
	if list := h["Urgency"]; len(list) > 0 {
		level, ok := urgencyOf(strings.ToLower(strings.TrimSpace(list[0])))
		if len(list) > 1 || !ok {
			return 0, refuse(http.StatusBadRequest, errnoUrgency, "Urgency must be one of very-low, low, normal and high")
		}
		m.Urgency = level
	}
	if list := h["Topic"]; len(list) > 0 {
		if m.Topic = list[0]; len(list) > 1 || !isTopic(m.Topic) {
			return 0, refuse(http.StatusBadRequest, errnoTopic, "Topic must be 1 to 32 characters of the base64url alphabet")
		}
	}
	return ttl, readEncoding(h, m)
}

func readTTL(list []string) (time.Duration, *refusal) {
	if len(list) == 0 {
		return 0, refuse(http.StatusBadRequest, errnoMissing, "TTL is missing: how many seconds the message may wait")
	}
	text := strings.TrimSpace(list[0])
	if len(list) > 1 || text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, refuse(http.StatusBadRequest, errnoTTL, "TTL must be a number of seconds, 0 or more")
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds > int64(maxTTL/time.Second) { // as long as it may be
		return maxTTL, nil
	}
	return time.Duration(seconds) * time.Second, nil
}

func isTopic(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// readEncoding reads the headers of the encryption. That a message with a body has them all is
// checked with the body.
func readEncoding(h http.Header, m *store.PushMessage) *refusal {
	encoding := h["Content-Encoding"]
	m.Encryption, m.CryptoKey = strings.Join(h["Encryption"], ","), strings.Join(h["Crypto-Key"], ";")
	if len(encoding) > 0 {
		m.Encoding = strings.ToLower(strings.TrimSpace(encoding[0]))
	}
	if len(encoding) > 1 || m.Encoding != "" && m.Encoding != webpush.AES128GCM && m.Encoding != webpush.AESGCM {
		return refuse(http.StatusBadRequest, errnoCrypto, "Content-Encoding must be aes128gcm")
	}
	for name, value := range map[string]string{"Encryption": m.Encryption, "Crypto-Key": m.CryptoKey} {
		if len(value) > maxCryptoHeader || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return refuse(http.StatusBadRequest, errnoCrypto, "%s has more than %d bytes, or some that are not ASCII", name, maxCryptoHeader)
		}
	}
	if m.Encoding != webpush.AES128GCM {
		return nil
	}
	// The old form of VAPID is in Crypto-Key, too.
	if hasParameter(m.CryptoKey, "dh") || hasParameter(m.Encryption, "salt") {
		return refuse(http.StatusBadRequest, errnoCrypto, "aes128gcm has its salt and key in the body: Encryption: salt and Crypto-Key: dh must not be there")
	}
	m.Encryption, m.CryptoKey = "", ""
	return nil
}

func hasParameter(header, name string) bool {
	for part := range strings.FieldsFuncSeq(header, func(r rune) bool { return r == ';' || r == ',' }) {
		if key, _, ok := strings.Cut(part, "="); ok && strings.EqualFold(strings.TrimSpace(key), name) {
			return true
		}
	}
	return false
}

var errLarge = refuse(http.StatusRequestEntityTooLarge, errnoTooLarge, "the body may have %d bytes at most", MaxBody)

// readBody reads a message's body.
func readBody(w http.ResponseWriter, r *http.Request, m *store.PushMessage) *refusal {
	if r.ContentLength > MaxBody {
		return errLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return errLarge
	}
	if err != nil {
		return refuse(http.StatusBadRequest, errnoMissing, "the body could not be read to its end")
	}
	m.Body = body
	if len(body) == 0 {
		m.Encoding, m.Encryption, m.CryptoKey = "", "", ""
		return nil
	}
	switch {
	case m.Encoding == "":
		return refuse(http.StatusBadRequest, errnoCrypto, "a message with a body is encrypted: Content-Encoding must be aes128gcm")
	case m.Encoding == webpush.AESGCM && (!hasParameter(m.Encryption, "salt") || !hasParameter(m.CryptoKey, "dh")):
		return refuse(http.StatusBadRequest, errnoCrypto, "aesgcm needs Encryption: salt=… and Crypto-Key: dh=…")
	case m.Encoding == webpush.AES128GCM && webpush.MessageKey(encrypted(m)) == nil:
		return refuse(http.StatusBadRequest, errnoKey, "the body does not begin with the header of aes128gcm (RFC 8188 section 2.1)")
	}
	return nil
}

func encrypted(m *store.PushMessage) webpush.Encrypted {
	return webpush.Encrypted{Encoding: m.Encoding, Encryption: m.Encryption, CryptoKey: m.CryptoKey, Body: m.Body}
}

// authorize checks who sends (RFC 8292): whoever the subscription is restricted to, and whoever
// shows anything must show something true.
func (s *Service) authorize(r *http.Request, e endpoint, m *store.PushMessage) *refusal {
	authorization := r.Header.Get("Authorization")
	restricted := e.key != (store.PushHash{})
	if authorization == "" {
		if restricted {
			return refuse(http.StatusUnauthorized, errnoVAPID, "only who holds its VAPID key may send to this subscription: Authorization: vapid t=<token>, k=<key>")
		}
		return nil
	}
	h := webpush.VAPIDHeader{Authorization: authorization, CryptoKey: strings.Join(r.Header["Crypto-Key"], ";")}
	if len(m.Body) > 0 {
		h.MessageKey = webpush.MessageKey(encrypted(m))
	}
	claims, err := s.verifier.Verify(h, s.audiences(r), s.now())
	if err != nil {
		why, _ := errors.AsType[*webpush.Error](err)
		switch {
		case why == nil:
			return s.ours("vapid", err)
		case why.Reason == webpush.SameKey:
			return refuse(http.StatusBadRequest, errnoKey, "%s", why.Detail)
		case slices.Contains(noToken, why.Reason):
			return refuse(http.StatusUnauthorized, errnoVAPID, "%s: %s", why.Field, why.Detail)
		}
		return refuse(http.StatusForbidden, errnoVAPID, "%s: %s", why.Field, why.Detail)
	}
	if restricted && keyHash(claims.Public[:]) != e.key {
		return refuse(http.StatusForbidden, errnoVAPID, "this subscription is for another VAPID key")
	}
	return nil
}

// noToken are the reasons for which what was shown is no credential at all.
var noToken = []webpush.Reason{webpush.Absent, webpush.Malformed, webpush.MalformedBase64, webpush.KeySize, webpush.KeyForm, webpush.NotOnCurve}

// audiences are the origins that a token may be for.
func (s *Service) audiences(r *http.Request) []string {
	if len(s.cfg.Origins) == 0 {
		return []string{originOf(s.cfg.Base(r))}
	}
	all := make([]string, len(s.cfg.Origins))
	for i, base := range s.cfg.Origins {
		all[i] = originOf(base)
	}
	return all
}

// originOf cuts the path from a URL.
func originOf(base string) string {
	scheme, rest, _ := strings.Cut(base, "://")
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host
}

// respondAsync reports whether a receipt is asked for (RFC 7240).
func respondAsync(h http.Header) bool { return prefers(h, "respond-async", "") }

// prefers reports whether Prefer holds a preference, with a value if there is one.
func prefers(h http.Header, name, value string) bool {
	for _, line := range h["Prefer"] {
		for part := range strings.SplitSeq(line, ",") {
			token, _, _ := strings.Cut(part, ";")
			key, given, _ := strings.Cut(token, "=")
			if strings.EqualFold(strings.TrimSpace(key), name) && strings.Trim(strings.TrimSpace(given), `"`) == value {
				return true
			}
		}
	}
	return false
}

// ServeDiscovery answers GET /push/w/{token}: apps ask so whether a URL is UnifiedPush's.
func (s *Service) ServeDiscovery(w http.ResponseWriter, r *http.Request) {
	if _, no := s.find(r.PathValue("token"), store.PushToSend); no != nil {
		s.strangely(r, no).write(w)
		return
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	io.WriteString(w, `{"unifiedpush":{"version":1}}`+"\n")
}

// isOptions reports whether a body says that it is JSON of push options.
func isOptions(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/webpush-options+json" || kind == "application/json")
}
