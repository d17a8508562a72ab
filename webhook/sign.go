package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// The headers of a signed request.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

const (
	// MaxIDSize bounds the id of a message.
	MaxIDSize = 255

	// MaxKeys bounds the keys of one signer or verifier.
	MaxKeys = 16

	// MaxSignatures bounds the entries of a signature header, whatever their
	// version: checking an Ed25519 entry costs tens of microseconds, and the
	// number of entries is the sender's choice.
	MaxSignatures = 32
)

const (
	versionHMAC    = "v1"
	versionEd25519 = "v1a"

	macTextSize = 44 // base64 of 32 bytes
	edTextSize  = 88 // base64 of 64 bytes

	// keepBuffer is the largest buffer a signer or verifier holds on to. Only
	// Ed25519 needs the message in one piece.
	keepBuffer = 64 << 10
)

// Signer signs with one or several keys. It is safe for concurrent use.
type Signer struct {
	macs []Secret
	eds  []PrivateKey
	// order tells from which of the two lists each entry of the header comes:
	// entries stand in the order in which the keys were given.
	order []bool
	free  slot
}

// NewSigner makes a signer whose headers carry one entry for each key, in the
// order given. During a rotation give the new key first, then the old.
func NewSigner(keys ...SigningKey) (*Signer, error) {
	if err := countKeys(len(keys)); err != nil {
		return nil, err
	}
	s := new(Signer)
	for _, k := range keys {
		if k == nil {
			return nil, refuse(EmptyKey, "", "key is nil")
		}
		if err := k.addTo(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s Secret) addTo(to *Signer) error {
	if s.key == nil {
		return refuse(EmptyKey, "", "secret is empty")
	}
	to.macs, to.order = append(to.macs, s), append(to.order, false)
	return nil
}

func (k PrivateKey) addTo(to *Signer) error {
	if k.key == nil {
		return refuse(EmptyKey, "", "private key is empty")
	}
	to.eds, to.order = append(to.eds, k), append(to.order, true)
	return nil
}

func countKeys(n int) error {
	switch {
	case n == 0:
		return refuse(NoKeys, "", "no key given")
	case n > MaxKeys:
		return refuse(TooManyKeys, "", "%d keys given, want at most %d", n, MaxKeys)
	}
	return nil
}

// Sign returns the value of the signature header for a message: its id, the
// time of this attempt (cut to whole seconds) and the bytes of its body, which
// it only reads.
//
// It fails if id is not 1 to [MaxIDSize] printable ASCII characters other than a
// dot, or if the time lies before 1970.
func (s *Signer) Sign(id string, timestamp time.Time, body []byte) (string, error) {
	if err := checkID(id, ""); err != nil {
		return "", err
	}
	unix := timestamp.Unix()
	if unix < 0 {
		return "", refuse(MalformedTimestamp, "", "time lies before 1970")
	}
	return s.sign(id, unix, body), nil
}

// SetHeader signs and sets the three headers in h.
func (s *Signer) SetHeader(h http.Header, id string, timestamp time.Time, body []byte) error {
	sig, err := s.Sign(id, timestamp, body)
	if err != nil {
		return err
	}
	// One array backs the three values, and the keys are already canonical:
	// this runs once for each delivery.
	v := []string{id, strconv.FormatInt(timestamp.Unix(), 10), sig}
	h["Webhook-Id"], h["Webhook-Timestamp"], h["Webhook-Signature"] = v[0:1:1], v[1:2:2], v[2:3:3]
	return nil
}

func (s *Signer) sign(id string, unix int64, body []byte) string {
	w := s.free.take(s.macs)
	defer s.free.put(w)
	w.begin(id, unix)
	if len(s.eds) > 0 {
		w.join(body)
	}
	out := w.out[:0]
	mac, ed := 0, 0
	for i, isEd := range s.order {
		if i > 0 {
			out = append(out, ' ')
		}
		if isEd {
			out = append(out, versionEd25519...)
			out = append(out, ',')
			out = base64.StdEncoding.AppendEncode(out, ed25519.Sign(s.eds[ed].key(), w.msg))
			ed++
		} else {
			out = append(out, versionHMAC...)
			out = append(out, ',')
			out = base64.StdEncoding.AppendEncode(out, w.mac(mac, body))
			mac++
		}
	}
	w.out = out
	return string(out)
}

// work is the scratch space of one signature: HMAC states that are reset
// instead of made anew (making one costs as much as signing half a kilobyte),
// and buffers that would otherwise escape to the heap.
type work struct {
	macs []hash.Hash
	head int    // length of "id.timestamp." at the start of msg
	msg  []byte // the head, and the body too after join
	sum  [sha256.Size]byte
	out  []byte
}

// slot keeps one work for reuse. It is not a sync.Pool because a server has a
// signer for each destination, and the collector visits every pool with the
// world stopped. Whoever finds it empty makes a new work, and of two that come
// back one stays.
type slot struct{ atomic.Pointer[work] }

func (f *slot) take(secrets []Secret) *work {
	if w := f.Swap(nil); w != nil {
		return w
	}
	w := &work{macs: make([]hash.Hash, len(secrets))}
	for i, s := range secrets {
		w.macs[i] = hmac.New(sha256.New, s.key())
	}
	return w
}

func (f *slot) put(w *work) {
	if cap(w.msg) > keepBuffer {
		w.msg = nil
	}
	f.Store(w)
}

func (w *work) begin(id string, unix int64) {
	w.msg = append(w.msg[:0], id...)
	w.msg = append(w.msg, '.')
	w.msg = strconv.AppendInt(w.msg, unix, 10)
	w.msg = append(w.msg, '.')
	w.head = len(w.msg)
}

func (w *work) join(body []byte) { w.msg = append(w.msg[:w.head], body...) }

// mac returns the MAC under the i-th secret, valid until the next call.
func (w *work) mac(i int, body []byte) []byte {
	h := w.macs[i]
	h.Reset()
	h.Write(w.msg[:w.head])
	h.Write(body)
	return h.Sum(w.sum[:0])
}

func checkID(id, header string) error {
	if id == "" || len(id) > MaxIDSize {
		return refuse(MalformedID, header, "id is %d bytes, want 1 to %d", len(id), MaxIDSize)
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c == '.':
			return refuse(MalformedID, header, "id must not contain a dot")
		case c <= ' ' || c > '~':
			return refuse(MalformedID, header, "id must be printable ASCII without spaces")
		}
	}
	return nil
}
