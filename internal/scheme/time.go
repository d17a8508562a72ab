package scheme

import (
	"fmt"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

// toleranceField is the setting of schemes that sign a time, with their default.
func toleranceField(by string) setting.Field {
	return setting.Field{Key: "tolerance", Type: setting.Duration, Title: "Tolerance", Default: by, Min: 1, Max: 86400,
		Help: "how far the signed time may lie from the time of receiving; shorter leaves less time to send a recorded request again"}
}

// checkTime judges the time of signing; a verdict without a reason has no objection.
func (s *Source) checkTime(rc *recipe, at, received time.Time) (v Verdict) {
	allowed := rc.tolerance
	if given := s.values.Duration("tolerance"); given > 0 {
		allowed = given
	}
	if allowed == 0 {
		return v
	}
	return withinTolerance(at, received, allowed, rc.pastOnly)
}

// withinTolerance refuses a time that lies too far from that of receiving. It compares
// to the fraction of a second, as the providers' libraries do.
func withinTolerance(at, received time.Time, allowed time.Duration, pastOnly bool) (v Verdict) {
	switch {
	case received.Sub(at) > allowed:
		return refused(TooOld, "the timestamp is %s old; %s are allowed", span(received.Sub(at)), span(allowed))
	case at.Sub(received) > allowed && !pastOnly:
		return refused(TooNew, "the timestamp is %s in the future; %s are allowed: compare the clocks", span(at.Sub(received)), span(allowed))
	}
	return v
}

// span writes a duration for people: its two largest units.
func span(d time.Duration) string {
	type unit struct {
		size time.Duration
		name string
	}
	const day = 24 * time.Hour
	if d >= 1000*day {
		return fmt.Sprintf("%d days", d/day)
	}
	text := ""
	for _, u := range []unit{{day, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		n := d / u.size
		d -= n * u.size
		switch {
		case text != "":
			if n > 0 {
				text += fmt.Sprintf(" %d %s", n, u.name)
			}
			return text
		case n > 0:
			text = fmt.Sprintf("%d %s", n, u.name)
		}
	}
	if text == "" {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return text
}
