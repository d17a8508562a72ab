package batch

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/harkhq/hark"
)

// rowVersion is written into every row; a reader refuses versions it does not know.
const rowVersion = 1

// row is a batch on disk, under its tenant and first offset.
type row struct {
	V        int             `json:"v"`
	UID      string          `json:"uid,omitempty"`
	Body     []byte          `json:"body,omitempty"` // what the uid stands for
	Events   int             `json:"events"`
	Topics   []string        `json:"topics"` // each once
	Accepted time.Time       `json:"accepted"`
	Deadline time.Time       `json:"deadline"`
	To       []awaited       `json:"to,omitempty"`
	URL      string          `json:"url,omitempty"`
	Topic    string          `json:"topic,omitempty"`
	Callback uint64          `json:"callback,omitempty"` // a destination
	State    hark.BatchState `json:"state,omitempty"`    // of one that ended
	Ended    time.Time       `json:"ended,omitzero"`
}

// awaited is a destination that a batch waits for.
type awaited struct {
	ID uint64 `json:"id"`
	// Which tells which of the events it wanted: bit i%8 of byte i/8; empty for all.
	Which []byte `json:"which,omitempty"`
	// Wanted is how many that are.
	Wanted int `json:"n"`
	// Of a batch that ended:
	Deleted bool              `json:"deleted,omitempty"`
	Counts  *hark.BatchCounts `json:"counts,omitempty"`
}

func (a *awaited) id() hark.DestinationID { return hark.DestinationID(a.ID) }

func (a *awaited) wanted(i int) bool { return len(a.Which) == 0 || a.Which[i/8]&(1<<(i%8)) != 0 }

func (r *row) encode() []byte {
	r.V = rowVersion
	b, err := json.Marshal(r)
	if err != nil { // plain fields only: it cannot fail
		panic("batch: encoding a row: " + err.Error())
	}
	return b
}

func decodeRow(value []byte) (*row, error) {
	var r row
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("batch: a damaged row: %w", err)
	}
	if r.V != rowVersion {
		return nil, fmt.Errorf("batch: a row has version %d and this Hark reads version %d: start the Hark that wrote it", r.V, rowVersion)
	}
	for i := range r.To {
		if a := &r.To[i]; len(a.Which) > 0 && len(a.Which) < (r.Events+7)/8 {
			return nil, errors.New("batch: a damaged row: events are missing")
		}
	}
	return &r, nil
}

func (r *row) ids() []hark.DestinationID {
	ids := make([]hark.DestinationID, len(r.To))
	for i := range r.To {
		ids[i] = r.To[i].id()
	}
	return ids
}

// name is what a uid is found by.
func name(uid string) (n [16]byte) {
	if uid == "" {
		return n
	}
	sum := sha256.Sum256([]byte(uid))
	return [16]byte(sum[:16])
}
