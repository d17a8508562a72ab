package webpush

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"sync/atomic"
	"time"
)

// Bounds of a message (RFC 8291, section 4; RFC 8030, section 7.2).
const (
	MaxBody      = 4096 // every push service takes as much
	MaxPlaintext = MaxBody - headerSize - publicSize - 1 - tagSize
)

// quiet is how long nobody must have sealed before keys are made ahead.
const quiet = 20 * time.Millisecond

// Sealer encrypts messages. It is safe for concurrent use.
type Sealer struct {
	pool  chan *ecdh.PrivateKey
	taken chan struct{} // has one when the pool may want filling
	seals atomic.Uint64 // how many were begun
}

// NewSealer makes a Sealer that holds up to pool key pairs ahead (about 300 bytes each), if
// its Run runs.
func NewSealer(pool int) *Sealer {
	s := &Sealer{pool: make(chan *ecdh.PrivateKey, pool), taken: make(chan struct{}, 1)}
	s.taken <- struct{}{}
	return s
}

// Run makes key pairs ahead while nobody seals, until ctx ends.
func (s *Sealer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.taken:
		}
		for len(s.pool) < cap(s.pool) {
			seen := s.seals.Load()
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(quiet):
			}
			for len(s.pool) < cap(s.pool) && s.seals.Load() == seen && ctx.Err() == nil {
				s.pool <- newEphemeral() // Run alone puts in, so there is room
			}
		}
	}
}

// ephemeral returns a key pair that nobody had before.
func (s *Sealer) ephemeral() *ecdh.PrivateKey {
	s.seals.Add(1)
	select {
	case k := <-s.pool:
		select {
		case s.taken <- struct{}{}:
		default:
		}
		return k
	default:
		return newEphemeral()
	}
}

func newEphemeral() *ecdh.PrivateKey {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // never: the system's generator does not fail
	}
	return k
}

// Seal appends to dst a message that only the subscription's user agent can read: a whole
// body in content coding aes128gcm. Plaintext and padding have padTo bytes at least, 0 for no
// padding. It refuses more than [MaxPlaintext], and a key that is no point of P-256.
func (s *Sealer) Seal(dst []byte, to *Subscription, plaintext []byte, padTo int) ([]byte, error) {
	if err := checkSize(plaintext, padTo); err != nil {
		return dst, err
	}
	var salt [saltSize]byte
	rand.Read(salt[:])
	return seal(dst, s.ephemeral(), &salt, to, plaintext, padTo)
}

func checkSize(plaintext []byte, padTo int) error {
	if len(plaintext) > MaxPlaintext {
		return refuse(TooLarge, "", "has %d bytes and a Web Push message holds %d", len(plaintext), MaxPlaintext)
	}
	if padTo < 0 || padTo > MaxPlaintext {
		return refuse(BadPadding, "", "padding must be between 0 and %d bytes, message included", MaxPlaintext)
	}
	return nil
}

// seal is Seal with the randomness of the caller.
func seal(dst []byte, own *ecdh.PrivateKey, salt *[saltSize]byte, to *Subscription, plaintext []byte, padTo int) ([]byte, error) {
	public := own.PublicKey().Bytes()
	shared, err := agree(own, "keys.p256dh", to.P256dh[:])
	if err != nil {
		return dst, err
	}
	ikm := messageIKM(shared, to.Auth[:], to.P256dh[:], public)
	return sealRecord(dst, ikm, salt[:], public, plaintext, recordSize, max(0, padTo-len(plaintext))), nil
}

// agree returns the secret that own shares with another's public key.
func agree(own *ecdh.PrivateKey, field string, other []byte) ([]byte, error) {
	if len(other) != publicSize || other[0] != 4 {
		return nil, checkPoint(field, other)
	}
	key, err := ecdh.P256().NewPublicKey(other)
	if err != nil {
		return nil, refuse(NotOnCurve, field, "is not a point of P-256")
	}
	shared, err := own.ECDH(key)
	if err != nil {
		return nil, refuse(NotOnCurve, field, "is not a point to agree with")
	}
	return shared, nil
}

// messageIKM combines the shared secret with who talks to whom (RFC 8291, section 3.4).
func messageIKM(shared, auth, agent, server []byte) []byte {
	key := mac(auth, shared)
	ikm := mac(key[:], []byte("WebPush: info\x00"), agent, server, []byte{1})
	return ikm[:]
}
