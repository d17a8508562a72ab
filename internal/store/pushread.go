package store

import "encoding/binary"

// PushMaster returns the secret that makes the ids of messages.
func (s *Store) PushMaster() (secret [16]byte, ok bool, err error) {
	v, ok, err := s.get(metaKey("push secret"))
	copy(secret[:], v)
	return secret, ok && len(v) == 16, err
}

// PushAgentOf finds a user agent by the hash of its secret.
func (s *Store) PushAgentOf(secret PushHash) (number uint64, ok bool, err error) {
	v, ok, err := s.get(append(newKey(tablePushSecret), secret[:]...))
	if !ok || len(v) != 8 {
		return 0, false, err
	}
	return binary.BigEndian.Uint64(v), true, nil
}

// PushAgent returns a user agent.
func (s *Store) PushAgent(number uint64) (PushAgent, bool, error) {
	v, ok, err := s.get(pushAgentKey(number))
	if !ok {
		return PushAgent{}, false, err
	}
	a, err := readPushAgent(number, v)
	return a, err == nil, err
}

// PushAgents calls fn for every user agent.
func (s *Store) PushAgents(fn func(PushAgent)) error {
	prefix := newKey(tablePushAgent)
	var failed error
	err := s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		a, err := readPushAgent(binary.BigEndian.Uint64(k[1:]), v)
		if failed = err; err == nil {
			fn(a)
		}
		return err == nil
	})
	if err == nil {
		err = failed
	}
	return err
}

// PushCapability tells what a secret URL is good for, by its hash.
func (s *Store) PushCapability(hash PushHash) (c PushCapability, ok bool, err error) {
	v, closer, err := s.getUnsafe(append(newKey(tablePushEndpoint), hash[:]...))
	if closer == nil {
		return c, false, err
	}
	defer closer.Close()
	r := reader{b: v}
	version := r.u8()
	c.Kind, c.Agent = PushCapabilityKind(r.u8()), r.u64()
	copy(c.Channel[:], r.take(16))
	if r.bad || version != pushVersion {
		return c, false, errCorrupt
	}
	return c, true, nil
}

// PushSubscription returns a subscription.
func (s *Store) PushSubscription(agent uint64, c PushChannel) (PushSubscription, bool, error) {
	v, closer, err := s.getUnsafe(pushSubscriptionKey(agent, c))
	if closer == nil {
		return PushSubscription{}, false, err
	}
	defer closer.Close()
	sub, err := readPushSubscription(agent, c, v)
	return sub, err == nil, err
}

// PushSubscriptions calls fn for each subscription of a user agent until it returns false.
func (s *Store) PushSubscriptions(agent uint64, fn func(PushSubscription) bool) error {
	prefix := newKey(tablePushSubscription).u64(agent)
	var failed error
	err := s.scanAll(prefix, prefix.after(), func(k, v []byte) bool {
		sub, err := readPushSubscription(agent, PushChannel(k[len(prefix):]), v)
		failed = err
		return err == nil && fn(sub)
	})
	if err == nil {
		err = failed
	}
	return err
}

// PushMessage returns a message.
func (s *Store) PushMessage(agent, sequence uint64) (*PushMessage, bool, error) {
	v, closer, err := s.getUnsafe(pushMessageKey(agent, sequence))
	if closer == nil {
		return nil, false, err
	}
	defer closer.Close()
	m, err := readPushMessage(agent, sequence, v)
	return m, err == nil, err
}

// PushMessages calls fn for a user agent's messages from a sequence on, in order, until it
// returns false or [scanLimit] were read; more is true when some may be left.
func (s *Store) PushMessages(agent, from uint64, fn func(*PushMessage) bool) (more bool, err error) {
	prefix := newKey(tablePushMessage).u64(agent)
	var failed error
	more, err = s.scan(pushMessageKey(agent, from), prefix.after(), scanLimit, func(k, v []byte) bool {
		m, err := readPushMessage(agent, binary.BigEndian.Uint64(k[len(prefix):]), v)
		failed = err
		return err == nil && fn(m)
	})
	if err == nil {
		err = failed
	}
	return more, err
}

// PushTopic returns the sequence of the message of a topic that a new one replaces.
func (s *Store) PushTopic(agent uint64, c PushChannel, topic string) (sequence uint64, ok bool, err error) {
	v, ok, err := s.get(pushTopicKey(agent, c, topic))
	if !ok || len(v) != 8 {
		return 0, false, err
	}
	return binary.BigEndian.Uint64(v), true, nil
}

// PushDues returns what is due before a minute, from after the last of those that a former
// call returned on: at most [scanLimit], and none when there is no more.
func (s *Store) PushDues(from *PushDue, before uint32) ([]PushDue, error) {
	lower := pushDueKey(from)
	if from.Kind != 0 {
		lower = append(lower, 0)
	}
	var all []PushDue
	_, err := s.scan(lower, newKey(tablePushDue).u32(before), scanLimit, func(k, _ []byte) bool {
		r := reader{b: k[1:]}
		d := PushDue{Minute: r.u32(), Kind: PushDueKind(r.u8())}
		switch d.Kind {
		case PushDueMessage:
			d.Agent, d.Sequence = r.u64(), r.u64()
		case PushDueCapability:
			copy(d.Hash[:], r.take(32))
		case PushDueReceipt:
			copy(d.Receipt[:], r.take(16))
		default:
			d.Agent = r.u64()
		}
		if !r.bad {
			all = append(all, d)
		}
		return true
	})
	return all, err
}

// PushReceiptExpiry returns when a receipt subscription ends, in Unix seconds.
func (s *Store) PushReceiptExpiry(receipt PushReceipt) (expiry int64, ok bool, err error) {
	v, ok, err := s.get(append(newKey(tablePushReceipt), receipt[:]...))
	if !ok || len(v) != 8 {
		return 0, false, err
	}
	return int64(binary.BigEndian.Uint64(v)), true, nil
}

// PushReceipts calls fn for what is to be told to a receipt subscription, until it returns false.
func (s *Store) PushReceipts(receipt PushReceipt, fn func(message [16]byte, status uint16) bool) error {
	prefix := append(newKey(tablePushReceipt), receipt[:]...)
	return s.scanAll(append(prefix.clone(), 0), prefix.after(), func(k, v []byte) bool {
		if len(k) != len(prefix)+16 || len(v) != 2 {
			return true
		}
		return fn([16]byte(k[len(prefix):]), binary.BigEndian.Uint16(v))
	})
}
