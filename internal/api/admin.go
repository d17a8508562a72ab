package api

import (
	"net/http"
	"time"
)

// backupTimeout bounds a backup: it must end even when its reader stalls.
const backupTimeout = 6 * time.Hour

// StreamBackup answers POST /v1/admin/backup with a tar archive. The archive's
// last entry is COMPLETE: without it the backup was cut short.
func (a *API) StreamBackup(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	deadline := time.Now().Add(backupTimeout)
	if err := control.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if err := control.SetReadDeadline(deadline); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if err := a.Backup(r.Context(), w); err != nil {
		NoteError(w, err)
		panic(http.ErrAbortHandler) // the answer has begun: only a cut connection can tell
	}
	return nil
}
