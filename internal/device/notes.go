package device

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/push"
)

const configTopic = "hark.push.config_error"

// notes are the faults of settings that owners are told of, once an hour for each cause.
type notes struct {
	mu   sync.Mutex // guards told
	told map[noteKey]int64
	todo chan configNote
}

type noteKey struct {
	dest           hark.DestinationID
	platform, code string
}

type configNote struct {
	dest *hark.Destination
	hour int64
	noteKey
	result push.Result
}

const maxNotes = 10_000

func (n *notes) init() {
	n.told, n.todo = make(map[noteKey]int64), make(chan configNote, 256)
}

// tellConfig has an owner told of a fault of settings.
func (a *Audiences) tellConfig(dest *hark.Destination, platform string, r *push.Result) {
	n := configNote{dest: dest, hour: time.Now().Unix() / 3600, noteKey: noteKey{dest.ID, platform, r.Code}, result: *r}
	a.notes.mu.Lock()
	defer a.notes.mu.Unlock()
	if a.notes.told[n.noteKey] == n.hour {
		return
	}
	if len(a.notes.told) >= maxNotes {
		clear(a.notes.told) // their idempotency keys keep them from being told twice
	}
	select {
	case a.notes.todo <- n:
		a.notes.told[n.noteKey] = n.hour
	default: // the next one tells
	}
}

func (a *Audiences) notesLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-a.notes.todo:
			if err := a.publishConfig(ctx, &n); err != nil && ctx.Err() == nil {
				a.oops("publishing "+configTopic, err)
			}
		}
	}
}

func (a *Audiences) publishConfig(ctx context.Context, n *configNote) error {
	data, err := json.Marshal(struct {
		App         string             `json:"app"`
		Destination hark.DestinationID `json:"destination"`
		Platform    string             `json:"platform"`
		Status      int                `json:"status,omitempty"`
		Code        string             `json:"code,omitempty"`
		Reason      string             `json:"reason,omitempty"`
		At          time.Time          `json:"at"`
	}{App(n.dest), n.dest.ID, n.platform, n.result.Status, n.code, n.result.Error, time.Now().UTC().Truncate(time.Millisecond)})
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%v/%s/%s/%d", n.noteKey.dest, n.platform, bound(n.code, 64), n.hour)
	_, err = a.cfg.Log.AppendWith(ctx, n.dest.Tenant, []hark.Event{{Topic: configTopic, ContentType: "application/json", Data: data, Key: n.noteKey.dest.String()}},
		eventlog.Idempotency{Scope: "push", Key: key, Body: sha256.Sum256([]byte(key))}, nil)
	if err == nil && a.cfg.Hooks.Told != nil {
		a.cfg.Hooks.Told(configTopic, n.dest, n.result.Error)
	}
	return err
}
