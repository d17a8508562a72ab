package pushservice

import (
	"net/http"
	"time"

	"github.com/harkhq/hark/internal/store"
)

// maxTTL is how long a message waits at most; senders are told.
const maxTTL = 30 * day

// levels are the urgencies, least first (RFC 8030 section 5.3).
var levels = []string{"very-low", "low", "normal", "high"}

const normalUrgency = 2

func urgencyOf(text string) (level byte, ok bool) {
	for i, name := range levels {
		if name == text {
			return byte(i), true
		}
	}
	return 0, false
}

// accept takes a message for an endpoint; TTL is at most maxTTL. When it returns the id that
// its sender may use, the message was synced, or, with TTL 0, is on its way or dropped.
func (s *Service) accept(e endpoint, m *store.PushMessage, ttl time.Duration) (id messageID, no *refusal) {
	a, err := s.hold(e.agent)
	if err != nil {
		return id, s.ours("accept", err)
	}
	defer s.release(a)
	sub, no := s.subscriptionOf(e)
	if no != nil {
		return id, no
	}
	now := s.now()
	m.Agent, m.Channel, m.Made = a.number, sub.Channel, sub.Made
	m.Sequence = max(a.row.Last+1, uint64(now.UnixMicro()))
	m.Expiry = now.Add(ttl).UnixMilli()
	id = s.messageID(m.Agent, m.Sequence, forSender)
	if ttl == 0 {
		a.row.Last = m.Sequence
		return id, s.pass(a, m)
	}
	if no := s.mayStore(&sub, m); no != nil {
		return id, no
	}
	c := change{a: a, durable: true}
	if m.Topic != "" {
		if no := s.replace(&c, m); no != nil {
			return id, no
		}
	}
	c.add(m)
	if err := s.apply(&c); err != nil {
		return id, s.ours("accept", err)
	}
	for _, o := range a.outlets {
		o.poke()
	}
	return id, nil
}

// pass hands a message with TTL 0 to who is there now, or drops it.
func (s *Service) pass(a *agent, m *store.PushMessage) *refusal {
	for _, o := range a.outlets {
		if o.pass(m) {
			return nil
		}
	}
	return s.miss(m)
}

// miss ends a message with TTL 0 that nobody acknowledged who was there.
func (s *Service) miss(m *store.PushMessage) *refusal {
	s.ended(Dropped)
	return s.tellReceipt(m, http.StatusGone)
}

// tellReceipt tells a sender what became of a message that is not stored.
func (s *Service) tellReceipt(m *store.PushMessage, status uint16) *refusal {
	told := s.receiptOf(m, status)
	if told == nil {
		return nil
	}
	if err := s.commit(true, told); err != nil {
		return s.ours("receipt", err)
	}
	s.wakeReceipt(m.Receipt)
	return nil
}

// mayStore tells whether there is room for a message.
func (s *Service) mayStore(sub *store.PushSubscription, m *store.PushMessage) *refusal {
	l := &s.cfg.Limits
	switch {
	case s.diskLow():
		return errDisk
	case int(sub.Count) >= l.Messages || int64(sub.Bytes)+int64(m.Size()) > l.Bytes:
		return tooMany(10*time.Minute, "%d messages wait for this subscription, whose user agent does not come: send less, or with a topic or a shorter TTL", sub.Count)
	case s.messageCount.Load() >= l.AllMessages || s.messageBytes.Load()+int64(m.Size()) > l.AllBytes:
		return errFull
	}
	return nil
}

// replace takes the message away that m takes the place of, if there is one.
func (s *Service) replace(c *change, m *store.PushMessage) *refusal {
	sequence, ok, err := s.store.PushTopic(m.Agent, m.Channel, m.Topic)
	if err != nil {
		return s.ours("replace", err)
	}
	if !ok {
		return nil
	}
	old, ok, err := s.store.PushMessage(m.Agent, sequence)
	if err != nil {
		return s.ours("replace", err)
	}
	if ok && old.Made == m.Made && old.Topic == m.Topic {
		c.remove(old, Replaced, 0) // nobody is told (RFC 8030 section 6.3)
	}
	return nil
}

// change is what happens to the messages of one user agent, which is locked, at once.
type change struct {
	a       *agent
	durable bool
	added   *store.PushMessage
	removed []removal
}

type removal struct {
	message *store.PushMessage
	how     End
	status  uint16 // what its sender is told; 0 for nothing
}

func (c *change) add(m *store.PushMessage) { c.added = m }

func (c *change) remove(m *store.PushMessage, how End, status uint16) {
	c.removed = append(c.removed, removal{m, how, status})
}

// apply makes a change, with all that counts.
func (s *Service) apply(c *change) error {
	if c.added == nil && len(c.removed) == 0 {
		return nil
	}
	row, recs, err := s.recordsOf(c)
	if err == nil {
		err = s.commit(c.durable, recs...)
	}
	if err != nil {
		return err
	}
	s.messageCount.Add(int64(row.Count) - int64(c.a.row.Count))
	s.messageBytes.Add(int64(row.Bytes) - int64(c.a.row.Bytes))
	c.a.row = row
	for _, r := range c.removed {
		s.ended(r.how)
		for _, o := range c.a.outlets { // it is not sent any more, and makes room for others
			if _, ok := o.landed(r.message.Sequence); ok {
				o.poke()
			}
		}
		if r.status != 0 {
			s.wakeReceipt(r.message.Receipt)
		}
	}
	return nil
}

// recordsOf is what a change is in the store, and its user agent's row after it.
func (s *Service) recordsOf(c *change) (row store.PushAgent, recs []store.Record, err error) {
	t := tally{c.a.row, map[store.PushChannel]*store.PushSubscription{}}
	recs = make([]store.Record, 0, 4+2*len(c.removed))
	for _, r := range c.removed {
		if err := s.count(&t, r.message, -1); err != nil {
			return row, nil, err
		}
		topic, err := s.holdsTopic(r.message)
		if err != nil {
			return row, nil, err
		}
		recs = append(recs, &store.PushMessageRemoved{Message: r.message, Topic: topic})
		if told := s.receiptOf(r.message, r.status); told != nil {
			recs = append(recs, told)
		}
	}
	if m := c.added; m != nil { // after what it replaces
		if err := s.count(&t, m, 1); err != nil {
			return row, nil, err
		}
		t.row.Last = m.Sequence
		recs = append(recs, &store.PushMessageStored{Message: m})
	}
	if t.row.Count == 0 {
		t.row.Floor = t.row.Last + 1
	}
	recs = append(recs, &store.PushAgentKept{Agent: t.row})
	for _, sub := range t.subs {
		if sub.Made != 0 {
			recs = append(recs, &store.PushSubscriptionKept{Subscription: *sub})
		}
	}
	return t.row, recs, nil
}

// tally is what a user agent and its subscriptions have, during a change.
type tally struct {
	row  store.PushAgent
	subs map[store.PushChannel]*store.PushSubscription // Made is 0 of those that are not there
}

// count adds n times a message.
func (s *Service) count(t *tally, m *store.PushMessage, n int) error {
	sub := t.subs[m.Channel]
	if sub == nil {
		found, _, err := s.store.PushSubscription(m.Agent, m.Channel)
		if err != nil {
			return err
		}
		sub = &found
		t.subs[m.Channel] = sub
	}
	size := uint64(m.Size())
	t.row.Count, t.row.Bytes = t.row.Count+uint32(n), t.row.Bytes+uint64(n)*size
	if sub.Made == m.Made { // else it ended before
		sub.Count, sub.Bytes = sub.Count+uint32(n), sub.Bytes+uint64(n)*size
	}
	return nil
}

// holdsTopic reports whether a message is the one that the next of its topic replaces.
func (s *Service) holdsTopic(m *store.PushMessage) (bool, error) {
	if m.Topic == "" {
		return false, nil
	}
	sequence, ok, err := s.store.PushTopic(m.Agent, m.Channel, m.Topic)
	return ok && sequence == m.Sequence, err
}

// remove takes one message of a away, which is locked. It reports whether it was there.
func (s *Service) remove(a *agent, sequence uint64, how End, status uint16, durable bool) (bool, error) {
	m, ok, err := s.store.PushMessage(a.number, sequence)
	if !ok || err != nil {
		return false, err
	}
	c := change{a: a, durable: durable}
	c.remove(m, how, status)
	return true, s.apply(&c)
}

// acknowledge is what a user agent does with a message that it received.
func (s *Service) acknowledge(a *agent, sequence uint64, how End, durable bool) (there bool, err error) {
	status := uint16(http.StatusNoContent)
	if how != Delivered {
		status = http.StatusGone
	}
	if there, err = s.remove(a, sequence, how, status, durable); there || err != nil {
		return there, err
	}
	for _, o := range a.outlets { // it may not be stored
		passed, ok := o.landed(sequence)
		if !ok {
			continue
		}
		there = true
		s.ended(how)
		if no := s.tellReceipt(passed, status); no != nil {
			err = no
		}
		o.poke() // there is room in its window
	}
	return there, err
}
