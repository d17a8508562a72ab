package pushservice

import (
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/harkhq/hark/internal/store"
)

// goneFor is how long an endpoint that has ended is told from one that never was.
const goneFor = 30 * day

func (s *Service) forgetAt() uint32 {
	return store.PushMinute(s.now().Add(goneFor).UnixMilli()) + 1
}

// keyHash is what is stored of the VAPID key that a subscription is restricted to.
func keyHash(key []byte) store.PushHash {
	if len(key) == 0 {
		return store.PushHash{}
	}
	return sha256.Sum256(key)
}

// wish is a subscription to make.
type wish struct {
	agent   *agent // locked
	secret  secret // of the agent
	channel store.PushChannel
	key     store.PushHash
	from    netip.Prefix
	receive bool // make it a URL to receive and unsubscribe by
}

// subscribe makes a subscription, or finds the one that there is. It returns after the sync.
func (s *Service) subscribe(w wish) (store.PushSubscription, *refusal) {
	a := w.agent
	before, ok, err := s.store.PushSubscription(a.number, w.channel)
	switch {
	case err != nil:
		return before, s.ours("subscribe", err)
	case a.gone:
		return before, errGone
	case ok && before.Key == w.key:
		return before, nil
	}
	if no := s.mayMake(a, w.from, ok); no != nil {
		return before, no
	}
	row := a.row
	row.Made++
	sub := store.PushSubscription{Agent: a.number, Channel: w.channel, Made: row.Made, Key: w.key,
		Endpoint: w.secret.derive(toSend, row.Made).hash()}
	if w.receive {
		sub.Secret = w.secret.derive(toReceive, row.Made).hash()
	}
	var recs []store.Record
	if !a.stored {
		recs = append(recs, &store.PushAgentMade{Secret: row.Secret, Number: row.Number},
			&store.PushDueNoted{Due: agentDue(a.number, s.now().Add(forgetAfter))})
	}
	if ok { // restricted to another key now: another subscription
		recs = append(recs, &store.PushUnsubscribed{Subscription: before, Forget: s.forgetAt()})
		row.Subs--
	}
	row.Subs++
	recs = append(recs, &store.PushAgentKept{Agent: row}, &store.PushSubscribed{Subscription: sub})
	if err := s.commit(true, recs...); err != nil {
		return sub, s.ours("subscribe", err)
	}
	if !a.stored {
		s.agentCount.Add(1)
	}
	s.subscriptionCount.Add(int64(row.Subs) - int64(a.row.Subs))
	a.stored, a.row = true, row
	return sub, nil
}

// mayMake tells whether there may be one more subscription.
func (s *Service) mayMake(a *agent, from netip.Prefix, replaces bool) *refusal {
	l := &s.cfg.Limits
	switch {
	case s.diskLow():
		return errDisk
	case !replaces && int(a.row.Subs) >= l.Subscriptions:
		return tooMany(time.Hour, "a user agent has at most %d subscriptions: end some first", l.Subscriptions)
	case !a.stored && s.agentCount.Load() >= int64(l.Agents):
		return errFullAgents
	}
	if !a.stored {
		if wait := s.newAgents.take(from, s.now()); wait > 0 {
			return tooMany(wait, "more than %.0f new user agents an hour come from your address", l.NewAgents)
		}
	}
	if wait := s.newSubscriptions.take(from, s.now()); wait > 0 {
		return tooMany(wait, "more than %.0f new subscriptions an hour come from your address", l.NewSubscriptions)
	}
	return nil
}

func (s *Service) diskLow() bool { return s.cfg.DiskLow != nil && s.cfg.DiskLow() }

// unsubscribe ends subscriptions of a, which is locked. It returns after the sync. Their
// messages go when they are met.
func (s *Service) unsubscribe(a *agent, subs ...store.PushSubscription) error {
	row, forget := a.row, s.forgetAt()
	row.Subs -= uint32(len(subs))
	recs := make([]store.Record, 0, len(subs)+2)
	ended := make(map[store.PushChannel]bool, len(subs))
	for _, sub := range subs {
		recs = append(recs, &store.PushUnsubscribed{Subscription: sub, Forget: forget})
		ended[sub.Channel] = true
	}
	recs = append(recs, &store.PushAgentKept{Agent: row})
	if row.Subs == 0 {
		recs = append(recs, &store.PushDueNoted{Due: agentDue(a.number, s.now().Add(forgetIdleAfter))})
	}
	if err := s.commit(true, recs...); err != nil {
		return err
	}
	s.subscriptionCount.Add(-int64(len(subs)))
	a.row = row
	for _, o := range a.outlets { // they pass over what is left, and take it away
		s.ground(o, func(c store.PushChannel) bool { return ended[c] })
		o.again()
	}
	return nil
}

// endpoint is what a URL to send to is good for.
type endpoint struct {
	hash    store.PushHash
	agent   uint64
	channel store.PushChannel
	key     store.PushHash
}

// find looks up what a URL is good for.
func (s *Service) find(token string, kind store.PushCapabilityKind) (e endpoint, no *refusal) {
	x, ok := parseSecret(token)
	if !ok {
		return e, errNoSuch
	}
	e.hash = x.hash()
	c, ok, err := s.store.PushCapability(e.hash)
	switch {
	case err != nil:
		return e, s.ours("endpoint", err)
	case !ok || c.Kind != kind && c.Kind != store.PushGone:
		return e, errNoSuch
	case c.Kind == store.PushGone:
		return e, errGone
	}
	e.agent, e.channel = c.Agent, c.Channel
	sub, no := s.subscriptionOf(e)
	e.key = sub.Key
	return e, no
}

// subscriptionOf reads the subscription of a URL, as it is now.
func (s *Service) subscriptionOf(e endpoint) (store.PushSubscription, *refusal) {
	sub, ok, err := s.store.PushSubscription(e.agent, e.channel)
	switch {
	case err != nil:
		return sub, s.ours("subscription", err)
	case !ok || sub.Endpoint != e.hash && sub.Secret != e.hash:
		return sub, errGone
	}
	return sub, nil
}
