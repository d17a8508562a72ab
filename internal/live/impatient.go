package live

import (
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"golang.org/x/time/rate"
)

// What a client may ask in vain, of one thing: polls that are answered with something, and
// those that wait, are never counted.
const (
	vainRate  = 10 // a second
	vainBurst = 100
	// maxImpatient bounds how many clients are remembered.
	maxImpatient = 10000
)

// impatient is who polls faster than makes sense.
type impatient struct {
	mu sync.Mutex // guards below
	m  map[string]*rate.Limiter
}

// meet counts a poll that found nothing, or refuses it.
func (im *impatient) meet(client string, a *asked, wait time.Duration) error {
	if wait >= time.Second {
		return nil
	}
	key := client + " " + strings.Join(patternTexts(a.patterns), " ")
	im.mu.Lock()
	defer im.mu.Unlock()
	l := im.m[key]
	if l == nil {
		if im.m == nil || len(im.m) >= maxImpatient {
			im.m = map[string]*rate.Limiter{} // all begin anew: a little kindness costs nothing
		}
		l = rate.NewLimiter(vainRate, vainBurst)
		im.m[key] = l
	}
	if l.Allow() {
		return nil
	}
	return &hark.Error{Kind: hark.TooMany, Code: "polls-too-often", RetryAfter: time.Second,
		Msg: "these polls find nothing, many times a second: poll at most once a second, or have one wait with wait=25"}
}

func patternTexts(patterns []hark.Pattern) []string {
	texts := make([]string, len(patterns))
	for i, p := range patterns {
		texts[i] = string(p)
	}
	return texts
}
