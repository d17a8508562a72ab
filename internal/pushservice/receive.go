package pushservice

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/harkhq/hark/internal/store"
)

// RFC 8030 for user agents: subscribing and unsubscribing. What they receive: monitor.go.

const maxOptions = 4 << 10

// ServeSubscribe answers POST /push/subscribe (RFC 8030 section 4, RFC 8292 section 4.1).
func (s *Service) ServeSubscribe(w http.ResponseWriter, r *http.Request) {
	if no := s.subscribeHTTP(w, r); no != nil {
		s.strangely(r, no).write(w)
	}
}

func (s *Service) subscribeHTTP(w http.ResponseWriter, r *http.Request) *refusal {
	if s.isStopping() {
		return errStopping
	}
	key, no := readOptions(w, r)
	if no != nil {
		return no
	}
	a, x, no := s.setOf(r)
	if no != nil {
		return no
	}
	defer s.release(a)
	sub, no := s.subscribe(wish{agent: a, secret: x, channel: newChannel(), key: keyHash(key), from: network(s.cfg.Client(r)), receive: true})
	if no != nil {
		return no
	}
	base := s.base(r)
	h := w.Header()
	h["Location"] = []string{base + subscriptionPath + x.derive(toReceive, sub.Made).text()}
	h["Link"] = []string{
		`<` + base + sendPath + x.derive(toSend, sub.Made).text() + `>; rel="` + relPush + `"`,
		`<` + base + subscriptionPath + x.text() + `>; rel="` + relSet + `"`,
	}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{"0"}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// setOf returns the user agent, locked, of the subscription set that a request names, or a new one.
func (s *Service) setOf(r *http.Request) (a *agent, x secret, no *refusal) {
	x, named := linked(r.Header, relSet, subscriptionPath)
	if !named && strings.Contains(strings.Join(r.Header["Link"], ","), relSet) {
		return nil, x, errBadSet
	}
	if !named {
		x = newSecret()
		return s.newAgent(x), x, nil
	}
	a, err := s.meet(x)
	switch {
	case err != nil:
		return nil, x, s.ours("subscribe", err)
	case a == nil:
		return nil, x, errBadSet
	}
	return a, x, nil
}

const sendPath = "/push/w/"

var errBadSet = refuse(http.StatusBadRequest, errnoMissing, "Link names a subscription set that is not there: leave it out to make one")

// readOptions reads the VAPID key that a subscription is to be restricted to; nil for none.
func readOptions(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOptions))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, refuse(http.StatusRequestEntityTooLarge, errnoTooLarge, "the options may have %d bytes at most", maxOptions)
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, errnoMissing, "the body could not be read to its end")
	}
	if len(body) == 0 || !isOptions(r.Header.Get("Content-Type")) {
		return nil, nil
	}
	var options struct {
		VAPID string `json:"vapid"`
	}
	if json.Unmarshal(body, &options) != nil {
		return nil, refuse(http.StatusBadRequest, errnoKey, `the options must be JSON: {"vapid":"<base64url of the public key>"}`)
	}
	if options.VAPID == "" {
		return nil, nil
	}
	key, ok := parseKey(options.VAPID)
	if !ok {
		return nil, refuse(http.StatusBadRequest, errnoKey, "vapid must be base64url of a public key of P-256: 65 bytes, uncompressed")
	}
	return key, nil
}

// parseKey reads a VAPID public key, base64 of either alphabet, padded or not.
func parseKey(text string) ([]byte, bool) {
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	if len(text) != 87 {
		return nil, false
	}
	key, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	_, err = ecdh.P256().NewPublicKey(key)
	return key, err == nil
}

// ServeUnsubscribe answers DELETE /push/s/{subscription}: of one, or of a set with all in it.
func (s *Service) ServeUnsubscribe(w http.ResponseWriter, r *http.Request) {
	if no := s.unsubscribeHTTP(r.PathValue("subscription")); no != nil {
		s.strangely(r, no).write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Service) unsubscribeHTTP(text string) *refusal {
	a, channel, no := s.receiver(text)
	if no != nil {
		return no
	}
	defer s.release(a)
	var subs []store.PushSubscription
	err := s.store.PushSubscriptions(a.number, func(sub store.PushSubscription) bool {
		if channel == (store.PushChannel{}) || sub.Channel == channel {
			subs = append(subs, sub)
		}
		return true
	})
	if err == nil && len(subs) > 0 {
		err = s.unsubscribe(a, subs...)
	}
	if err != nil {
		return s.ours("unsubscribe", err)
	}
	if channel == (store.PushChannel{}) {
		for _, o := range a.outlets {
			o.replace()
		}
	}
	return nil
}

// receiver finds the user agent, which it locks, of the URL of a subscription, or of a set;
// then channel is zero.
func (s *Service) receiver(text string) (a *agent, channel store.PushChannel, no *refusal) {
	x, ok := parseSecret(text)
	if !ok {
		return nil, channel, errNoSuch
	}
	number, ok, err := s.store.PushAgentOf(x.hash())
	if err != nil {
		return nil, channel, s.ours("receive", err)
	}
	if !ok {
		e, no := s.find(text, store.PushToReceive)
		if no != nil {
			return nil, channel, no
		}
		number, channel = e.agent, e.channel
	}
	if a, err = s.hold(number); err != nil {
		return nil, channel, s.ours("receive", err)
	}
	if a.gone {
		s.release(a)
		return nil, channel, errGone
	}
	return a, channel, nil
}

// ServeEnd answers DELETE /push/m/{message}: a user agent acknowledges, a sender withdraws.
func (s *Service) ServeEnd(w http.ResponseWriter, r *http.Request) {
	if no := s.end(r.PathValue("message")); no != nil {
		s.strangely(r, no).write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Service) end(text string) *refusal {
	id, ok := parseMessageID(text)
	if !ok {
		return errNoMessage
	}
	number, sequence, whom := s.place(id)
	a, err := s.hold(number)
	if err != nil {
		return s.ours("message", err)
	}
	defer s.release(a)
	there := false
	switch {
	case a.gone:
	case whom == forSender:
		there, err = s.remove(a, sequence, Withdrawn, 0, true)
	default:
		there, err = s.acknowledge(a, sequence, Delivered, true)
	}
	switch {
	case err != nil:
		return s.ours("message", err)
	case !there:
		return errNoMessage
	}
	return nil
}

// writeMessage answers with a message.
func writeMessage(w http.ResponseWriter, m *store.PushMessage, base string) {
	h := w.Header()
	h["Content-Length"] = []string{strconv.Itoa(len(m.Body))}
	h["Cache-Control"] = []string{"private, no-store"}
	h["Content-Type"] = []string{"application/octet-stream"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	if m.Encoding != "" {
		h["Content-Encoding"] = []string{m.Encoding}
	}
	if m.Encryption != "" {
		h["Encryption"] = []string{m.Encryption}
	}
	if m.CryptoKey != "" {
		h["Crypto-Key"] = []string{m.CryptoKey}
	}
	h["Link"] = []string{`<` + base + `>; rel="` + relPush + `"`}
	w.Write(m.Body)
}
