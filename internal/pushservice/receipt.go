package pushservice

import (
	"net/http"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/store"
)

// Receipts (RFC 8030 sections 5.1 and 6.3): what became of messages, for who sent them.

const (
	messagePath      = "/push/m/"
	receiptPath      = "/push/r/"
	subscriptionPath = "/push/s/"

	relPush    = "urn:ietf:params:push"
	relSet     = "urn:ietf:params:push:set"
	relReceipt = "urn:ietf:params:push:receipt"
)

// receiptFor is how long a receipt subscription is there after it was last used: longer than
// the messages that it tells of.
const receiptFor = maxTTL + 2*day

// maxReceipts is about how much waits to be read of one receipt subscription at most: nothing
// else takes it away for a month.
const maxReceipts = 1000

func receiptName(x secret) store.PushReceipt {
	hash := x.hash()
	return store.PushReceipt(hash[:16])
}

// askReceipt has m's sender told what becomes of it: under a receipt subscription that it
// names (Link), or a new one. It returns the last part of its URL.
func (s *Service) askReceipt(r *http.Request, m *store.PushMessage) (text string, no *refusal) {
	if s.diskLow() {
		return "", errDisk
	}
	now := s.now()
	if x, ok := linked(r.Header, relReceipt, receiptPath); ok {
		name := receiptName(x)
		expiry, ok, err := s.store.PushReceiptExpiry(name)
		if err != nil {
			return "", s.ours("receipt", err)
		}
		if ok {
			if no := s.mayTell(name); no != nil {
				return "", no
			}
			m.Receipt = name
			if time.Unix(expiry, 0).Sub(now) > maxTTL {
				return x.text(), nil
			}
			if err := s.commit(false, &store.PushReceiptKept{Receipt: name, Expiry: now.Add(receiptFor).Unix()}); err != nil {
				return "", s.ours("receipt", err)
			}
			return x.text(), nil
		}
	}
	if wait := s.newSubscriptions.take(network(s.cfg.Client(r)), now); wait > 0 {
		return "", tooMany(wait, "your address makes too many receipt subscriptions: name the one you have in a header Link with rel=\"%s\"", relReceipt)
	}
	x := newSecret()
	m.Receipt = receiptName(x)
	if err := s.commit(true, &store.PushReceiptKept{Receipt: m.Receipt, Expiry: now.Add(receiptFor).Unix()}); err != nil {
		return "", s.ours("receipt", err)
	}
	return x.text(), nil
}

// mayTell tells whether more may wait to be read of a receipt subscription. Those that wait are
// counted once for many requests: where many are told and read, the store has to pass over
// what it has not cleared away yet.
func (s *Service) mayTell(name store.PushReceipt) *refusal {
	s.mu.Lock()
	left := s.askable[name]
	if left > 0 {
		s.askable[name]--
	}
	s.mu.Unlock()
	if left > 0 {
		return nil
	}
	waiting := 0
	err := s.store.PushReceipts(name, func([16]byte, uint16) bool {
		waiting++
		return waiting < maxReceipts
	})
	switch {
	case err != nil:
		return s.ours("receipt", err)
	case waiting >= maxReceipts:
		return tooMany(time.Minute, "%d receipts wait to be read: GET them, or send without Prefer: respond-async", waiting)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.askable) >= maxBuckets {
		clear(s.askable)
	}
	s.askable[name] = max(maxReceipts-waiting, maxReceipts/10) - 1
	return nil
}

// linked finds the secret of a resource of ours that a header Link names by a relation.
func linked(h http.Header, rel, path string) (secret, bool) {
	for _, line := range h["Link"] {
		for part := range strings.SplitSeq(line, ",") {
			target, parameters, _ := strings.Cut(strings.TrimSpace(part), ">")
			if !strings.HasPrefix(target, "<") || !strings.Contains(parameters, rel+`"`) && !strings.HasSuffix(strings.TrimSpace(parameters), rel) {
				continue
			}
			if i := strings.LastIndex(target, path); i >= 0 {
				return parseSecret(target[i+len(path):])
			}
		}
	}
	return secret{}, false
}

// receiptOf is the record that tells a message's sender; nil if it did not ask, or is not to be told.
func (s *Service) receiptOf(m *store.PushMessage, status uint16) *store.PushReceiptTold {
	if status == 0 || m.Receipt == (store.PushReceipt{}) {
		return nil
	}
	if _, ok, err := s.store.PushReceiptExpiry(m.Receipt); !ok && err == nil { // nobody asks any more
		return nil
	}
	return &store.PushReceiptTold{Receipt: m.Receipt, Message: s.messageID(m.Agent, m.Sequence, forSender), Status: status}
}

// receiptWatch is a request that waits for receipts.
type receiptWatch struct{ wake func() } // never waits

func (s *Service) watchReceipt(name store.PushReceipt, wake func()) *receiptWatch {
	rw := &receiptWatch{wake}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipts[name] = append(s.receipts[name], rw)
	return rw
}

func (s *Service) unwatchReceipt(name store.PushReceipt, rw *receiptWatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.receipts[name]
	for i := range list {
		if list[i] == rw {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if s.receipts[name] = list; len(list) == 0 {
		delete(s.receipts, name)
	}
}

// wakeReceipt: there may be something to tell.
func (s *Service) wakeReceipt(name store.PushReceipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rw := range s.receipts[name] {
		rw.wake()
	}
}

// forgetReceipt removes a receipt subscription whose time is over.
func (s *Service) forgetReceipt(name store.PushReceipt) error {
	expiry, ok, err := s.store.PushReceiptExpiry(name)
	if err != nil || !ok || expiry > s.now().Unix() { // it was used again, and is due later
		return err
	}
	return s.commit(false, &store.PushReceiptForgotten{Receipt: name})
}
