package pushservice

import (
	"net/http"
	"slices"

	"github.com/harkhq/hark/internal/store"
)

// window is how many messages are on their way to a user agent that stays, at most; the next
// follow when these are acknowledged.
const window = 20

// outlet is where the messages of a user agent go while it is connected. Its methods that say
// nothing else are called with the agent locked.
type outlet struct {
	agent   *agent
	channel store.PushChannel // only these; zero for all
	urgency byte              // at least this; the user agent may want more
	window  int               // how many are on their way at most
	wake    func()            // there may be something to take; never waits
	replace func()            // another one takes its place; never waits

	next    uint64 // the first message that was not looked at
	flights []flight
	passing []*store.PushMessage // with TTL 0, not taken yet
	dirty   bool                 // something may be there to take
}

// flight is a message that was taken and is not acknowledged.
type flight struct {
	sequence uint64
	channel  store.PushChannel
	passed   *store.PushMessage // nil of a stored one
}

// attach makes a user agent's messages go to o, instead of where they went.
func (s *Service) attach(a *agent, o *outlet) {
	for _, old := range slices.Clone(a.outlets) {
		if old.channel == o.channel {
			s.detachLocked(old)
			old.replace()
		}
	}
	o.agent, o.next, o.dirty = a, a.row.Floor, true
	a.outlets = append(a.outlets, o)
	s.seen(a)
}

// detach ends an outlet. Its agent is not locked.
func (s *Service) detach(o *outlet) {
	o.agent.mu.Lock()
	defer o.agent.mu.Unlock()
	s.detachLocked(o)
	s.seen(o.agent) // until now
}

func (s *Service) detachLocked(o *outlet) {
	i := slices.Index(o.agent.outlets, o)
	if i < 0 {
		return
	}
	o.agent.outlets = slices.Delete(o.agent.outlets, i, i+1)
	s.ground(o, func(store.PushChannel) bool { return true })
	for _, m := range o.passing { // deliver now or never
		_ = s.miss(m)
	}
	o.passing = nil
}

// ground ends the flights of some channels: nothing that is said of them is awaited any more.
func (s *Service) ground(o *outlet, of func(store.PushChannel) bool) {
	o.flights = slices.DeleteFunc(o.flights, func(f flight) bool {
		if !of(f.channel) {
			return false
		}
		if f.passed != nil {
			_ = s.miss(f.passed)
		}
		return true
	})
}

func (o *outlet) attached() bool { return slices.Contains(o.agent.outlets, o) }

// least is the urgency of what is wanted now.
func (o *outlet) least() byte { return max(o.urgency, o.agent.row.Urgency) }

// poke: there may be something more.
func (o *outlet) poke() {
	o.dirty = true
	o.wake()
}

// again has all that waits looked at once more.
func (o *outlet) again() {
	o.next = o.agent.row.Floor
	o.poke()
}

// pass takes a message with TTL 0, if there is room for it now.
func (o *outlet) pass(m *store.PushMessage) bool {
	if o.channel != (store.PushChannel{}) && o.channel != m.Channel || m.Urgency < o.least() ||
		len(o.flights)+len(o.passing) >= o.window {
		return false
	}
	o.passing = append(o.passing, m)
	o.poke()
	return true
}

// landed notes that a message is not to be waited for any more; passed is the message if it is not stored.
func (o *outlet) landed(sequence uint64) (passed *store.PushMessage, ok bool) {
	i := slices.IndexFunc(o.flights, func(f flight) bool { return f.sequence == sequence })
	if i < 0 {
		return nil, false
	}
	passed = o.flights[i].passed
	o.flights = slices.Delete(o.flights, i, i+1)
	return passed, true
}

func (o *outlet) flying(sequence uint64) bool {
	return slices.ContainsFunc(o.flights, func(f flight) bool { return f.sequence == sequence })
}

// take returns messages that are to be sent now, and remembers that they were; none when there
// are none, or no room in the window. The agent is not locked.
func (s *Service) take(o *outlet) ([]*store.PushMessage, error) {
	a := o.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	if !o.dirty || !o.attached() {
		return nil, nil
	}
	o.dirty = false
	batch := o.passing
	o.passing = nil
	for _, m := range batch {
		o.flights = append(o.flights, flight{m.Sequence, m.Channel, m})
	}
	waste := change{a: a}
	more := true
	var err error
	for more && len(batch) < window && len(o.flights) < o.window && len(waste.removed) < window {
		var stored []*store.PushMessage
		if stored, more, err = s.look(o, min(o.window-len(o.flights), window-len(batch)), &waste); err != nil {
			o.dirty = true
			break
		}
		for _, m := range stored {
			o.flights = append(o.flights, flight{m.Sequence, m.Channel, nil})
		}
		batch = append(batch, stored...)
	}
	if more && len(o.flights) < o.window {
		o.dirty = true
		o.wake()
	}
	s.note("expire", s.apply(&waste))
	return batch, err
}

// look reads on, room messages at most. What it meets that is of no use any more it adds to waste.
func (s *Service) look(o *outlet, room int, waste *change) (batch []*store.PushMessage, more bool, err error) {
	a, now := o.agent, s.now().UnixMilli()
	if a.row.Count == 0 {
		o.next = a.row.Last + 1
		return nil, false, nil
	}
	atFloor, first := o.next == a.row.Floor, true
	var met []*store.PushMessage
	more, err = s.store.PushMessages(a.number, o.next, func(m *store.PushMessage) bool {
		if len(met) == room {
			return false
		}
		if first && atFloor {
			a.row.Floor = m.Sequence
		}
		first = false
		met = append(met, m)
		return true
	})
	if err != nil {
		return nil, false, err
	}
	for _, m := range met {
		o.next = m.Sequence + 1
		live, err := s.isLive(m)
		switch {
		case err != nil:
			return nil, false, err
		case !live:
			waste.remove(m, Dropped, http.StatusGone)
		case m.Expiry <= now:
			waste.remove(m, Expired, http.StatusGone)
		case m.Urgency < o.least(), o.channel != (store.PushChannel{}) && o.channel != m.Channel, o.flying(m.Sequence):
		default:
			batch = append(batch, m)
		}
	}
	if !more {
		o.next = max(o.next, a.row.Last+1)
	}
	return batch, more, nil
}

// maySend reports whether a message that was taken is still to be sent: it may have been
// replaced since. The agent is not locked.
func (s *Service) maySend(o *outlet, m *store.PushMessage) bool {
	o.agent.mu.Lock()
	defer o.agent.mu.Unlock()
	return o.flying(m.Sequence)
}

// isLive reports whether a message's subscription is there.
func (s *Service) isLive(m *store.PushMessage) (bool, error) {
	sub, ok, err := s.store.PushSubscription(m.Agent, m.Channel)
	return ok && sub.Made == m.Made, err
}

// setUrgency changes what a user agent wants; a is locked.
func (s *Service) setUrgency(a *agent, level byte) error {
	row := a.row
	row.Urgency = level
	if a.stored {
		if err := s.commit(true, &store.PushAgentKept{Agent: row}); err != nil {
			return err
		}
	}
	a.row = row
	for _, o := range a.outlets {
		o.again()
	}
	return nil
}
