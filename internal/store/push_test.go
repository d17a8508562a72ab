package store

import (
	"reflect"
	"testing"
)

// TestPushCodecs: what is written is read, and every shorter value is refused.
func TestPushCodecs(t *testing.T) {
	a := PushAgent{Number: 7, Secret: PushHash{1}, Created: 2, Seen: 3, Made: 4, Subs: 5, Urgency: 1, Last: 6, Floor: 7, Count: 8, Bytes: 9}
	if got, err := readPushAgent(7, a.value()); err != nil || got != a {
		t.Errorf("agent %+v, %v", got, err)
	}
	s := PushSubscription{Agent: 7, Channel: PushChannel{1}, Made: 2, Key: PushHash{3}, Endpoint: PushHash{4}, Secret: PushHash{5}, Count: 6, Bytes: 7}
	if got, err := readPushSubscription(7, s.Channel, s.value()); err != nil || got != s {
		t.Errorf("subscription %+v, %v", got, err)
	}
	m := &PushMessage{Agent: 7, Sequence: 8, Channel: PushChannel{1}, Made: 2, Expiry: 3, Urgency: 3, Receipt: PushReceipt{4}, Topic: "t", Encoding: "e", Encryption: "n", CryptoKey: "c", Body: []byte("b")}
	if got, err := readPushMessage(7, 8, m.value()); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("message %+v, %v", got, err)
	}
	for n := range len(a.value()) {
		if _, err := readPushAgent(7, a.value()[:n]); err == nil {
			t.Errorf("an agent of %d bytes", n)
		}
	}
	for n := range len(s.value()) {
		if _, err := readPushSubscription(7, s.Channel, s.value()[:n]); err == nil {
			t.Errorf("a subscription of %d bytes", n)
		}
	}
	for n := range len(m.value()) - len(m.Body) {
		if _, err := readPushMessage(7, 8, m.value()[:n]); err == nil {
			t.Errorf("a message of %d bytes", n)
		}
	}
}

// FuzzPush: no stored bytes make a reader panic.
func FuzzPush(f *testing.F) {
	f.Add([]byte((&PushAgent{}).value()))
	f.Add([]byte((&PushSubscription{}).value()))
	f.Add([]byte((&PushMessage{Topic: "t", Body: []byte("b")}).value()))
	f.Fuzz(func(t *testing.T, v []byte) {
		_, _ = readPushAgent(1, v)
		_, _ = readPushSubscription(1, PushChannel{}, v)
		_, _ = readPushMessage(1, 2, v)
	})
}
