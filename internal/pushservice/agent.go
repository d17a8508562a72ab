package pushservice

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/harkhq/hark/internal/store"
)

// agent is a user agent in memory, while something is done with it or it is connected.
type agent struct {
	number uint64
	refs   int // guarded by Service.mu

	mu      sync.Mutex // guards below; held across commits, see the package
	loaded  bool
	stored  bool // its row is in the store; one that never subscribed has none
	gone    bool // forgotten, or never there
	row     store.PushAgent
	outlets []*outlet
}

// hold returns the user agent of a number, locked; release must follow.
func (s *Service) hold(number uint64) (*agent, error) {
	s.mu.Lock()
	a := s.agents[number]
	if a == nil {
		a = &agent{number: number}
		s.agents[number] = a
	}
	a.refs++
	s.mu.Unlock()
	a.mu.Lock()
	if a.loaded {
		return a, nil
	}
	row, ok, err := s.store.PushAgent(number)
	if err != nil {
		s.release(a)
		return nil, err
	}
	a.loaded, a.stored, a.gone, a.row = true, ok, !ok, row
	return a, nil
}

// release unlocks a user agent; that of who keeps it is unlocked by unlock.
func (s *Service) release(a *agent) {
	a.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.refs--; a.refs == 0 {
		delete(s.agents, a.number)
	}
}

// keep lets a user agent stay in memory after its release; drop must follow.
func (s *Service) keep(a *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.refs++
}

func (s *Service) drop(a *agent) {
	a.mu.Lock()
	s.release(a)
}

// meet returns the user agent that shows x, locked; nil when there is none.
func (s *Service) meet(x secret) (*agent, error) {
	number, ok, err := s.store.PushAgentOf(x.hash())
	if !ok || err != nil {
		return nil, err
	}
	a, err := s.hold(number)
	if err != nil {
		return nil, err
	}
	if a.gone {
		s.release(a)
		return nil, nil
	}
	return a, nil
}

// newAgent makes one, locked. It is stored when it subscribes.
func (s *Service) newAgent(x secret) *agent {
	var b [8]byte
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		rand.Read(b[:])
		number := binary.BigEndian.Uint64(b[:])
		if s.agents[number] != nil {
			continue
		}
		now := s.now().Unix()
		a := &agent{number: number, refs: 1, loaded: true, row: store.PushAgent{Number: number, Secret: x.hash(), Created: now, Seen: now}}
		a.mu.Lock()
		s.agents[number] = a
		return a
	}
}

const (
	day = 24 * time.Hour
	// forgetAfter is how long a user agent may stay away; one without subscriptions less.
	forgetAfter, forgetIdleAfter = 180 * day, day
)

// seen notes, once a day, that a user agent is there. a is locked.
func (s *Service) seen(a *agent) {
	now := s.now().Unix()
	if !a.stored || now-a.row.Seen < int64(day/time.Second) {
		return
	}
	row := a.row
	row.Seen = now
	if err := s.commit(false, &store.PushAgentKept{Agent: row}); err != nil {
		s.note("seen", err)
		return
	}
	a.row = row
}

// forget removes user agents that did not come for long, and those that have nothing. It is
// called when one is due, and notes when to look again.
func (s *Service) forget(number uint64) error {
	a, err := s.hold(number)
	if err != nil {
		return err
	}
	defer s.release(a)
	if a.gone || !a.stored {
		return nil
	}
	now := s.now()
	patience := forgetAfter
	if a.row.Subs == 0 {
		patience = forgetIdleAfter
	}
	if again := time.Unix(a.row.Seen, 0).Add(patience); again.After(now) || len(a.outlets) > 0 {
		if !again.After(now) {
			again = now.Add(day)
		}
		return s.commit(false, &store.PushDueNoted{Due: agentDue(number, again)})
	}
	var recs []store.Record
	err = s.store.PushSubscriptions(number, func(sub store.PushSubscription) bool {
		recs = append(recs, &store.PushUnsubscribed{Subscription: sub, Forget: s.forgetAt()})
		return true
	})
	if err != nil {
		return err
	}
	recs = append(recs, &store.PushAgentForgotten{Secret: a.row.Secret, Number: number})
	if err := s.commit(true, recs...); err != nil {
		return err
	}
	s.agentCount.Add(-1)
	s.subscriptionCount.Add(-int64(a.row.Subs))
	s.messageCount.Add(-int64(a.row.Count))
	s.messageBytes.Add(-int64(a.row.Bytes))
	a.gone, a.stored = true, false
	return nil
}

func agentDue(number uint64, at time.Time) store.PushDue {
	return store.PushDue{Minute: store.PushMinute(at.UnixMilli()) + 1, Kind: store.PushDueAgent, Agent: number}
}
