package store

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// The push service's rows know no tenant. A user agent has a number of its own; what strangers
// hold of it are secrets, of which only hashes are here.

// PushChannel names a subscription of a user agent: a UUID.
type PushChannel [16]byte

// PushHash is a SHA-256 of a secret.
type PushHash [32]byte

// PushReceipt names a receipt subscription; it is the first half of a secret's hash.
type PushReceipt [16]byte

// PushAgent is a user agent.
type PushAgent struct {
	Number  uint64
	Secret  PushHash // of what it shows
	Created int64    // Unix seconds
	Seen    int64    // Unix seconds, to within a day
	Made    uint32   // subscriptions it ever made
	Subs    uint32   // those that are there
	Urgency byte     // the least it wants
	Last    uint64   // sequence of its newest message
	Floor   uint64   // no message before this one is there
	Count   uint32   // messages that are there
	Bytes   uint64   // and what they take
}

const pushVersion = 1

func (a *PushAgent) value() key {
	k := append(make(key, 0, 96), pushVersion)
	k = append(k, a.Secret[:]...)
	k = k.u64(uint64(a.Created)).u64(uint64(a.Seen)).u32(a.Made).u32(a.Subs).u8(a.Urgency)
	return k.u64(a.Last).u64(a.Floor).u32(a.Count).u64(a.Bytes)
}

func readPushAgent(number uint64, v []byte) (PushAgent, error) {
	r := reader{b: v}
	if version := r.u8(); version != pushVersion {
		return PushAgent{}, fmt.Errorf("push agent version %d: %w", version, errCorrupt)
	}
	a := PushAgent{Number: number}
	copy(a.Secret[:], r.take(32))
	a.Created, a.Seen, a.Made, a.Subs, a.Urgency = int64(r.u64()), int64(r.u64()), r.u32(), r.u32(), r.u8()
	a.Last, a.Floor, a.Count, a.Bytes = r.u64(), r.u64(), r.u32(), r.u64()
	if r.bad {
		return PushAgent{}, fmt.Errorf("push agent: %w", errCorrupt)
	}
	return a, nil
}

// PushAgentKept creates or changes a user agent. It goes with every change of what it counts.
type PushAgentKept struct{ Agent PushAgent }

func (r *PushAgentKept) apply(b *pebble.Batch) {
	set(b, pushAgentKey(r.Agent.Number), r.Agent.value())
}

// PushAgentMade makes a user agent findable by its secret.
type PushAgentMade struct {
	Secret PushHash
	Number uint64
}

func (r *PushAgentMade) apply(b *pebble.Batch) {
	set(b, append(newKey(tablePushSecret), r.Secret[:]...), key(nil).u64(r.Number))
}

// PushAgentForgotten removes a user agent, which has no subscription any more, with its messages.
type PushAgentForgotten struct {
	Secret PushHash
	Number uint64
}

func (r *PushAgentForgotten) apply(b *pebble.Batch) {
	must(b.Delete(append(newKey(tablePushSecret), r.Secret[:]...), nil))
	must(b.Delete(pushAgentKey(r.Number), nil))
	for _, table := range []byte{tablePushMessage, tablePushTopic, tablePushSubscription} {
		k := newKey(table).u64(r.Number)
		must(b.DeleteRange(k, k.after(), nil))
	}
}

// PushSubscription is a subscription of a user agent.
type PushSubscription struct {
	Agent    uint64
	Channel  PushChannel
	Made     uint32   // which of all that its agent ever made
	Key      PushHash // of the VAPID key that alone may send; zero for anyone
	Endpoint PushHash
	Secret   PushHash // of what its user agent shows to receive and to unsubscribe by HTTP; zero for none
	Count    uint32   // messages that are there
	Bytes    uint64
}

func (s *PushSubscription) value() key {
	k := append(make(key, 0, 128), pushVersion).u32(s.Made)
	k = append(append(append(k, s.Key[:]...), s.Endpoint[:]...), s.Secret[:]...)
	return k.u32(s.Count).u64(s.Bytes)
}

func readPushSubscription(agent uint64, c PushChannel, v []byte) (PushSubscription, error) {
	r := reader{b: v}
	if version := r.u8(); version != pushVersion {
		return PushSubscription{}, fmt.Errorf("push subscription version %d: %w", version, errCorrupt)
	}
	s := PushSubscription{Agent: agent, Channel: c, Made: r.u32()}
	copy(s.Key[:], r.take(32))
	copy(s.Endpoint[:], r.take(32))
	copy(s.Secret[:], r.take(32))
	s.Count, s.Bytes = r.u32(), r.u64()
	if r.bad {
		return PushSubscription{}, fmt.Errorf("push subscription: %w", errCorrupt)
	}
	return s, nil
}

// PushSubscriptionKept changes a subscription.
type PushSubscriptionKept struct{ Subscription PushSubscription }

func (r *PushSubscriptionKept) apply(b *pebble.Batch) {
	set(b, pushSubscriptionKey(r.Subscription.Agent, r.Subscription.Channel), r.Subscription.value())
}

// PushSubscribed creates a subscription, which is found by its endpoint from now on.
type PushSubscribed struct{ Subscription PushSubscription }

func (r *PushSubscribed) apply(b *pebble.Batch) {
	s := &r.Subscription
	(&PushSubscriptionKept{*s}).apply(b)
	setPushCapability(b, s.Endpoint, PushCapability{Kind: PushToSend, Agent: s.Agent, Channel: s.Channel})
	if s.Secret != (PushHash{}) {
		setPushCapability(b, s.Secret, PushCapability{Kind: PushToReceive, Agent: s.Agent, Channel: s.Channel})
	}
}

// PushUnsubscribed removes a subscription. That its endpoint was one is remembered until the
// minute Forget.
type PushUnsubscribed struct {
	Subscription PushSubscription
	Forget       uint32
}

func (r *PushUnsubscribed) apply(b *pebble.Batch) {
	s := &r.Subscription
	must(b.Delete(pushSubscriptionKey(s.Agent, s.Channel), nil))
	for _, hash := range []PushHash{s.Endpoint, s.Secret} {
		if hash == (PushHash{}) {
			continue
		}
		setPushCapability(b, hash, PushCapability{Kind: PushGone})
		set(b, pushDueKey(&PushDue{Minute: r.Forget, Kind: PushDueCapability, Hash: hash}), nil)
	}
	topics := append(newKey(tablePushTopic).u64(s.Agent), s.Channel[:]...)
	must(b.DeleteRange(topics, topics.after(), nil))
}

// PushCapability is what a secret URL is good for.
type PushCapability struct {
	Kind    PushCapabilityKind
	Agent   uint64
	Channel PushChannel
}

// PushCapabilityKind says what may be done with a URL.
type PushCapabilityKind byte

// The kinds of capabilities.
const (
	PushToSend    PushCapabilityKind = 1
	PushToReceive PushCapabilityKind = 2
	PushGone      PushCapabilityKind = 3 // it was one of them
)

func setPushCapability(b *pebble.Batch, hash PushHash, c PushCapability) {
	k := key{pushVersion, byte(c.Kind)}.u64(c.Agent)
	set(b, append(newKey(tablePushEndpoint), hash[:]...), append(k, c.Channel[:]...))
}

// PushCapabilityForgotten removes what is known of a URL that is good for nothing any more.
type PushCapabilityForgotten struct{ Hash PushHash }

func (r *PushCapabilityForgotten) apply(b *pebble.Batch) {
	must(b.Delete(append(newKey(tablePushEndpoint), r.Hash[:]...), nil))
}

// PushMessage is a message that waits for its user agent.
type PushMessage struct {
	Agent    uint64
	Sequence uint64
	Channel  PushChannel
	Made     uint32 // of its subscription: another one of the same channel has nothing to do with it
	Expiry   int64  // Unix milliseconds
	Urgency  byte
	Receipt  PushReceipt // whom to tell; zero for nobody
	Topic    string

	Encoding, Encryption, CryptoKey string

	Body []byte
}

// Size is what a message counts for in quotas.
func (m *PushMessage) Size() int {
	return 128 + len(m.Topic) + len(m.Encryption) + len(m.CryptoKey) + len(m.Body)
}

// Due is the minute after which a message is not delivered any more.
func (m *PushMessage) Due() uint32 { return PushMinute(m.Expiry) + 1 }

// PushMinute is the minute of a time in Unix milliseconds.
func PushMinute(ms int64) uint32 { return uint32(ms / 60000) }

func (m *PushMessage) value() key {
	k := append(make(key, 0, 64+m.Size()), pushVersion)
	k = append(k, m.Channel[:]...).u32(m.Made).u64(uint64(m.Expiry)).u8(m.Urgency)
	k = append(k, m.Receipt[:]...)
	for _, s := range []string{m.Topic, m.Encoding, m.Encryption, m.CryptoKey} {
		k = appendBytes(k, s)
	}
	return append(k, m.Body...)
}

func readPushMessage(agent, sequence uint64, v []byte) (*PushMessage, error) {
	r := reader{b: v}
	if version := r.u8(); version != pushVersion {
		return nil, fmt.Errorf("push message version %d: %w", version, errCorrupt)
	}
	m := &PushMessage{Agent: agent, Sequence: sequence}
	copy(m.Channel[:], r.take(16))
	m.Made, m.Expiry, m.Urgency = r.u32(), int64(r.u64()), r.u8()
	copy(m.Receipt[:], r.take(16))
	for _, s := range []*string{&m.Topic, &m.Encoding, &m.Encryption, &m.CryptoKey} {
		*s = string(r.bytes())
	}
	if r.bad {
		return nil, fmt.Errorf("push message: %w", errCorrupt)
	}
	m.Body = append([]byte(nil), r.b...)
	return m, nil
}

// PushMessageStored keeps a message. If it has a topic, it is the one to replace from now on.
type PushMessageStored struct{ Message *PushMessage }

func (r *PushMessageStored) apply(b *pebble.Batch) {
	m := r.Message
	set(b, pushMessageKey(m.Agent, m.Sequence), m.value())
	set(b, pushDueKey(&PushDue{Minute: m.Due(), Kind: PushDueMessage, Agent: m.Agent, Sequence: m.Sequence}), nil)
	if m.Topic != "" {
		set(b, pushTopicKey(m.Agent, m.Channel, m.Topic), key(nil).u64(m.Sequence))
	}
}

// PushMessageRemoved takes a message away.
type PushMessageRemoved struct {
	Message *PushMessage
	// Topic tells that it is the one to replace.
	Topic bool
}

func (r *PushMessageRemoved) apply(b *pebble.Batch) {
	m := r.Message
	must(b.Delete(pushMessageKey(m.Agent, m.Sequence), nil))
	must(b.Delete(pushDueKey(&PushDue{Minute: m.Due(), Kind: PushDueMessage, Agent: m.Agent, Sequence: m.Sequence}), nil))
	if r.Topic {
		must(b.Delete(pushTopicKey(m.Agent, m.Channel, m.Topic), nil))
	}
}

// PushDueKind says what is due.
type PushDueKind byte

// What can be due.
const (
	PushDueMessage    PushDueKind = 1
	PushDueCapability PushDueKind = 2
	PushDueReceipt    PushDueKind = 3
	PushDueAgent      PushDueKind = 4
)

// PushDue says when to look at something again. What it names is set by its kind.
type PushDue struct {
	Minute   uint32
	Kind     PushDueKind
	Agent    uint64
	Sequence uint64
	Hash     PushHash
	Receipt  PushReceipt
}

func pushDueKey(d *PushDue) key {
	k := newKey(tablePushDue).u32(d.Minute).u8(byte(d.Kind))
	switch d.Kind {
	case PushDueMessage:
		return k.u64(d.Agent).u64(d.Sequence)
	case PushDueCapability:
		return append(k, d.Hash[:]...)
	case PushDueReceipt:
		return append(k, d.Receipt[:]...)
	default:
		return k.u64(d.Agent)
	}
}

// PushDueNoted has something looked at when its minute is over.
type PushDueNoted struct{ Due PushDue }

func (r *PushDueNoted) apply(b *pebble.Batch) { set(b, pushDueKey(&r.Due), nil) }

// PushDuesDone forgets all that was due before a minute; it was looked at.
type PushDuesDone struct{ Before uint32 }

func (r *PushDuesDone) apply(b *pebble.Batch) {
	must(b.DeleteRange(newKey(tablePushDue), newKey(tablePushDue).u32(r.Before), nil))
}

// PushReceiptKept creates a receipt subscription, which ends at Expiry (Unix seconds), or keeps it longer.
type PushReceiptKept struct {
	Receipt PushReceipt
	Expiry  int64
}

func (r *PushReceiptKept) apply(b *pebble.Batch) {
	set(b, append(newKey(tablePushReceipt), r.Receipt[:]...), key(nil).u64(uint64(r.Expiry)))
	(&PushDueNoted{PushDue{Minute: PushMinute(r.Expiry*1000) + 1, Kind: PushDueReceipt, Receipt: r.Receipt}}).apply(b)
}

// PushReceiptTold keeps what became of a message, until who asked for it was told.
type PushReceiptTold struct {
	Receipt PushReceipt
	Message [16]byte
	Status  uint16
}

func (r *PushReceiptTold) apply(b *pebble.Batch) {
	set(b, pushReceiptKey(r.Receipt, r.Message), binary.BigEndian.AppendUint16(nil, r.Status))
}

// PushReceiptTaken forgets what was told.
type PushReceiptTaken struct {
	Receipt PushReceipt
	Message [16]byte
}

func (r *PushReceiptTaken) apply(b *pebble.Batch) {
	must(b.Delete(pushReceiptKey(r.Receipt, r.Message), nil))
}

// PushReceiptForgotten removes a receipt subscription.
type PushReceiptForgotten struct{ Receipt PushReceipt }

func (r *PushReceiptForgotten) apply(b *pebble.Batch) {
	k := append(newKey(tablePushReceipt), r.Receipt[:]...)
	must(b.DeleteRange(k, k.after(), nil))
}

// PushMasterKept keeps the secret that makes the ids of messages.
type PushMasterKept struct{ Secret [16]byte }

func (r *PushMasterKept) apply(b *pebble.Batch) { set(b, metaKey("push secret"), r.Secret[:]) }

func pushAgentKey(number uint64) key { return newKey(tablePushAgent).u64(number) }

func pushSubscriptionKey(agent uint64, c PushChannel) key {
	return append(newKey(tablePushSubscription).u64(agent), c[:]...)
}

func pushMessageKey(agent, sequence uint64) key {
	return newKey(tablePushMessage).u64(agent).u64(sequence)
}

func pushTopicKey(agent uint64, c PushChannel, topic string) key {
	return append(append(newKey(tablePushTopic).u64(agent), c[:]...), topic...)
}

func pushReceiptKey(r PushReceipt, message [16]byte) key {
	return append(append(newKey(tablePushReceipt), r[:]...), message[:]...)
}
