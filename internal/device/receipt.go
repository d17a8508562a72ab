package device

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

// ReceiptWords are what a device may tell of a message, and where it is told.
var ReceiptWords = map[string]string{"shown": "hark.push.delivered", "clicked": "hark.push.clicked", "dismissed": "hark.push.dismissed"}

const (
	// receiptLife is how long a receipt is taken: as long as the log remembers that it was.
	receiptLife = 72 * time.Hour
	receiptBody = 1 + 4 + (2 + 8 + 8) + 8 + 8 // version, tenant, event, device, end
	receiptMAC  = 16
)

// Receipts makes and takes the tokens with which devices tell what became of a message.
// A token names tenant, event, device and when it ends, and is signed: it is all
// that its holder needs, and good for nothing else.
type Receipts struct {
	key [32]byte
	log Log
	dev *Devices
}

const receiptKeyName = "receipts"

// OpenReceipts reads the key that signs tokens, and makes it at the first start.
func OpenReceipts(d *Devices, log Log) (*Receipts, error) {
	r := &Receipts{log: log, dev: d}
	key, found, err := d.store.VendorToken(receiptKeyName)
	if err != nil {
		return nil, err
	}
	if found && len(key) == len(r.key) {
		copy(r.key[:], key)
		return r, nil
	}
	rand.Read(r.key[:])
	return r, d.store.Commit(&store.VendorTokenSaved{Name: receiptKeyName, Value: r.key[:]})
}

// Token makes the token of an event for a device.
func (r *Receipts) Token(e *hark.Event, d *hark.Device, now time.Time) string {
	b := make([]byte, 0, receiptBody+receiptMAC)
	b = append(b, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(d.Tenant))
	b = binary.BigEndian.AppendUint16(b, e.ID.Shard)
	b = binary.BigEndian.AppendUint64(b, e.ID.Incarnation)
	b = binary.BigEndian.AppendUint64(b, uint64(e.ID.Offset))
	b = binary.BigEndian.AppendUint64(b, uint64(d.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(now.Add(receiptLife).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, r.mac(b)...))
}

func (r *Receipts) mac(b []byte) []byte {
	h := hmac.New(sha256.New, r.key[:])
	h.Write(b)
	return h.Sum(nil)[:receiptMAC]
}

var errReceipt = &hark.Error{Kind: hark.NotFound, Code: "no-such-receipt", Msg: "this is not a receipt that this server asked for"}

// Take tells what became of a message, once for each event, device and word.
func (r *Receipts) Take(ctx context.Context, token, what string, now time.Time) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != receiptBody+receiptMAC {
		return errReceipt
	}
	body := b[:len(b)-receiptMAC]
	if !hmac.Equal(r.mac(body), b[len(body):]) || body[0] != 1 {
		return errReceipt
	}
	t := hark.TenantID(binary.BigEndian.Uint32(body[1:]))
	event := hark.EventID{Shard: binary.BigEndian.Uint16(body[5:]), Incarnation: binary.BigEndian.Uint64(body[7:]), Offset: hark.Offset(binary.BigEndian.Uint64(body[15:]))}
	id := hark.DeviceID(binary.BigEndian.Uint64(body[23:]))
	if expires := int64(binary.BigEndian.Uint64(body[31:])); now.Unix() > expires {
		return &hark.Error{Kind: hark.Gone, Code: "receipt-expired", Msg: "this receipt came more than three days after its message was sent"}
	}
	topic := ReceiptWords[what]
	if topic == "" {
		return hark.Invalidf("what", "must be shown, clicked or dismissed")
	}
	return r.tell(ctx, t, event, id, topic, now)
}

func (r *Receipts) tell(ctx context.Context, t hark.TenantID, event hark.EventID, id hark.DeviceID, topic string, now time.Time) error {
	told := struct {
		Event  hark.EventID  `json:"event"`
		Device hark.DeviceID `json:"device"`
		App    string        `json:"app,omitempty"`
		User   string        `json:"user,omitempty"`
		At     time.Time     `json:"at"`
	}{Event: event, Device: id, At: now.UTC().Truncate(time.Millisecond)}
	d, err := r.dev.Get(t, id)
	if err == nil {
		told.App, told.User = d.App, d.User
	} else if hark.KindOf(err) != hark.NotFound {
		return err
	}
	data, err := json.Marshal(told)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%v/%v/%s", event, id, topic)
	_, err = r.log.AppendWith(ctx, t, []hark.Event{{Topic: topic, ContentType: "application/json", Data: data, Key: id.String()}},
		eventlog.Idempotency{Scope: "receipt", Key: key, Body: sha256.Sum256([]byte(key)), Window: receiptLife}, nil)
	if e, ok := errors.AsType[*hark.Error](err); ok && e.Kind == hark.NotFound {
		return errReceipt // the tenant is gone
	}
	return err
}
