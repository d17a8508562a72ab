package pushservice

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// refusal is why something is not done, in the form that senders know from autopush.
type refusal struct {
	status int
	errno  int
	msg    string
	retry  time.Duration // when to come again; 0 for not at all
}

func (e *refusal) Error() string { return e.msg }

// Numbers of faults, which autopush's clients know.
const (
	errnoCrypto   = 101 // Encryption, Crypto-Key or Content-Encoding
	errnoUnknown  = 102 // no such endpoint
	errnoGone     = 103 // an endpoint that was
	errnoTooLarge = 104
	errnoVAPID    = 109
	errnoKey      = 110
	errnoMissing  = 111 // a required header
	errnoTTL      = 112
	errnoTopic    = 113
	errnoUrgency  = 114
	errnoLater    = 201 // come again, later each time
	errnoOurs     = 202 // our fault
)

func refuse(status, errno int, format string, args ...any) *refusal {
	return &refusal{status: status, errno: errno, msg: fmt.Sprintf(format, args...)}
}

func tooMany(wait time.Duration, format string, args ...any) *refusal {
	return &refusal{status: http.StatusTooManyRequests, errno: errnoLater, msg: fmt.Sprintf(format, args...), retry: wait}
}

var (
	errStopping   = &refusal{status: http.StatusServiceUnavailable, errno: errnoLater, msg: "this server is stopping: come again in a moment", retry: 5 * time.Second}
	errOurs       = &refusal{status: http.StatusInternalServerError, errno: errnoOurs, msg: "something went wrong on our side"}
	errDisk       = &refusal{status: http.StatusServiceUnavailable, errno: errnoLater, msg: "this server has no disk space for more: come again later", retry: 2 * time.Minute}
	errNoSuch     = refuse(http.StatusNotFound, errnoUnknown, "there is no such subscription here")
	errGone       = refuse(http.StatusGone, errnoGone, "this subscription has ended: forget it")
	errNoMessage  = refuse(http.StatusNotFound, errnoUnknown, "there is no such message: it was delivered, replaced or has expired")
	errFullAgents = &refusal{status: http.StatusInsufficientStorage, errno: errnoLater, msg: "this server knows as many user agents as it can", retry: time.Hour}
	errFull       = &refusal{status: http.StatusInsufficientStorage, errno: errnoLater, msg: "as many messages wait here as this server can keep: come again later", retry: 5 * time.Minute}
)

// ours notes an error that a stranger is told nothing of.
func (s *Service) ours(what string, err error) *refusal {
	s.note(what, err)
	return errOurs
}

// write answers a request.
func (e *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	switch e.status {
	case http.StatusUnauthorized:
		h["Www-Authenticate"] = []string{"vapid"}
	case http.StatusGone:
		h["Cache-Control"] = []string{"max-age=86400"}
	}
	if e.retry > 0 {
		h["Retry-After"] = []string{strconv.Itoa(e.retrySeconds())}
	}
	w.WriteHeader(e.status)
	b, _ := json.Marshal(struct {
		Code    int    `json:"code"`
		Errno   int    `json:"errno"`
		Error   string `json:"error"`
		Message string `json:"message"`
	}{e.status, e.errno, http.StatusText(e.status), e.msg})
	w.Write(append(b, '\n'))
}

func (e *refusal) retrySeconds() int { return max(1, int(math.Ceil(e.retry.Seconds()))) }
