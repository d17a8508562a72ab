package eventlog

import (
	"crypto/sha256"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Name returns what makes the event that is after the first of its request by at
// findable under an id that its publisher chose, for [Log.AppendWith]. Scope
// separates those who give ids. The name is durable with the event and goes with
// its bucket.
func Name(t hark.TenantID, scope, id string, after int) Attach {
	hash := nameHash(scope, id)
	return func(first hark.EventID, b store.Bucket) store.Record {
		return &store.EventNamed{Tenant: t, Bucket: b, Name: hash, Offset: first.Offset + hark.Offset(after)}
	}
}

func nameHash(scope, id string) [16]byte {
	sum := sha256.Sum256([]byte(scope + "\x00" + id))
	return [16]byte(sum[:16])
}

// Named returns the newest event of a tenant that was given an id, false when there is
// none any more. It costs one look-up in each bucket that the tenant holds events in.
func (l *Log) Named(t hark.TenantID, scope, id string) (hark.Offset, bool, error) {
	hash := nameHash(scope, id)
	for _, h := range l.index.held(t) {
		o, ok, err := l.store.EventNamed(t, h.bucket, hash)
		if err != nil {
			return 0, false, err
		}
		// What is not synced yet was shown to nobody: an older one may be meant.
		if ok && o <= l.End() && o > l.index.lost(t) {
			return o, true, nil
		}
	}
	return 0, false, nil
}
