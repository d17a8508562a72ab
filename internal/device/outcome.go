package device

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/push"
)

// Tally counts what came of the first try of each device of a job.
type Tally struct {
	Devices  int `json:"devices"`
	Accepted int `json:"accepted"`
	Gone     int `json:"gone"`
	Suspect  int `json:"suspect"`
	Retrying int `json:"retrying"`
	Expired  int `json:"expired"`
	Failed   int `json:"failed"`
}

func (t *Tally) add(o push.Outcome) {
	t.Devices++
	switch o {
	case push.Accepted:
		t.Accepted++
	case push.TargetGone:
		t.Gone++
	case push.TargetSuspect:
		t.Suspect++
	case push.RetryAt, push.ConfigError:
		t.Retrying++
	case push.Expired:
		t.Expired++
	default:
		t.Failed++
	}
}

func (t *Tally) counts() [7]*int {
	return [...]*int{&t.Devices, &t.Accepted, &t.Gone, &t.Suspect, &t.Retrying, &t.Expired, &t.Failed}
}

// text is the tally as an attempt shows it.
func (t *Tally) text() []byte {
	b, err := json.Marshal(t)
	if err != nil { // numbers only
		return nil
	}
	return b
}

// outcomeWords are the words of the API, by [push.Outcome].
var outcomeWords = [...]string{"", "accepted", "retrying", "gone", "suspect", "config_error", "failed", "expired"}

// Word is what an outcome is called.
func Word(o push.Outcome) string {
	if int(o) < len(outcomeWords) {
		return outcomeWords[o]
	}
	return "unknown"
}

// Outcome is what came of one try to push one event to one device.
type Outcome struct {
	Device  hark.DeviceID `json:"device"`
	Outcome string        `json:"outcome"`
	Status  int           `json:"status,omitempty"`
	// Code is the platform's word for it.
	Code  string    `json:"code,omitempty"`
	Error string    `json:"error,omitempty"`
	Try   int       `json:"try"`
	At    time.Time `json:"at"`
}

const outcomesVersion = 1

// encodeOutcomes packs outcomes of one event:
//
//	version 1, time of the commit (Unix ms, varint), texts (count, then each; code and
//	error are numbers of them, 0 for none), then for each: device (varint, to the one
//	before), outcome 1, status, try, code, error (uvarints)
func encodeOutcomes(at int64, all []*tried) []byte {
	texts, number := []string{}, map[string]uint64{"": 0}
	of := func(s string) uint64 {
		n, known := number[s]
		if !known {
			texts = append(texts, s)
			n = uint64(len(texts))
			number[s] = n
		}
		return n
	}
	body := make([]byte, 0, 12*len(all))
	last := hark.DeviceID(0)
	for _, x := range all {
		body = binary.AppendVarint(body, int64(x.device.ID-last))
		last = x.device.ID
		body = append(body, byte(x.result.Outcome))
		body = binary.AppendUvarint(body, uint64(max(x.result.Status, 0)))
		body = binary.AppendUvarint(body, uint64(x.number))
		body = binary.AppendUvarint(body, of(bound(x.result.Code, 64)))
		body = binary.AppendUvarint(body, of(bound(x.result.Error, 200)))
	}
	b := binary.AppendVarint([]byte{outcomesVersion}, at)
	b = binary.AppendUvarint(b, uint64(len(texts)))
	for _, s := range texts {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return append(b, body...)
}

func bound(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

var errOutcomes = errors.New("a page of outcomes is damaged")

// decodeOutcomes unpacks what encodeOutcomes made.
func decodeOutcomes(b []byte) (all []Outcome, err error) {
	r := &unpacker{b: b}
	if r.u8() != outcomesVersion {
		return nil, errOutcomes
	}
	at := time.UnixMilli(r.varint()).UTC()
	n := r.uvarint()
	if n > uint64(len(b)) {
		return nil, errOutcomes
	}
	texts := make([]string, 1, n+1)
	for range n {
		texts = append(texts, string(r.take(r.uvarint())))
	}
	text := func() string {
		if i := r.uvarint(); i < uint64(len(texts)) {
			return texts[i]
		}
		r.bad = true
		return ""
	}
	last := int64(0)
	for len(r.b) > 0 && !r.bad {
		last += r.varint()
		o := Outcome{Device: hark.DeviceID(last), At: at, Outcome: Word(push.Outcome(r.u8()))}
		o.Status, o.Try, o.Code, o.Error = int(r.uvarint()), int(r.uvarint()), text(), text()
		all = append(all, o)
	}
	if r.bad {
		return nil, errOutcomes
	}
	return all, nil
}

// unpacker takes a value apart; a short one sets bad and yields zeros.
type unpacker struct {
	b   []byte
	bad bool
}

func (r *unpacker) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *unpacker) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *unpacker) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *unpacker) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// job is the durable part of the pushing of one event.
type job struct {
	position hark.DeviceID // all up to it are done
	top      hark.DeviceID // those after it were not there when it began
	tally    Tally
	offset   hark.Offset // of the event; not in its row, but in its key
}

const jobVersion = 1

func (j *job) encode() []byte {
	b := binary.AppendUvarint([]byte{jobVersion}, uint64(j.position))
	b = binary.AppendUvarint(b, uint64(j.top))
	for _, n := range j.tally.counts() {
		b = binary.AppendUvarint(b, uint64(*n))
	}
	return b
}

func decodeJob(b []byte) (j job, err error) {
	r := &unpacker{b: b}
	version := r.u8()
	j.position, j.top = hark.DeviceID(r.uvarint()), hark.DeviceID(r.uvarint())
	for _, n := range j.tally.counts() {
		*n = int(r.uvarint())
	}
	if r.bad || version != jobVersion {
		return job{}, errors.New("the row of a push job is damaged")
	}
	return j, nil
}
