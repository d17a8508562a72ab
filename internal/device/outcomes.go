package device

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/harkhq/hark"
)

// Outcomes returns what came of a delivery for each device, in the order in which it was
// committed, and what to go on after; "" at the end. A device that was tried again is there
// again.
func (a *Audiences) Outcomes(t hark.TenantID, id hark.DeliveryID, after string, limit int) (page []Outcome, next string, err error) {
	number, skip, err := parsePlace(after)
	if err != nil {
		return nil, "", err
	}
	limit = min(max(limit, 1), hark.MaxPageSize)
	o := id.Event.Offset
	for {
		var failed error
		more, err := a.store.Outcomes(t, a.cfg.Log.Bucket(o), id.Destination, o, number, func(n uint64, value []byte) bool {
			all, err := decodeOutcomes(value)
			if failed = err; err != nil {
				return false
			}
			if n != number {
				number, skip = n, 0
			}
			for ; skip < len(all); skip++ {
				if len(page) == limit {
					next = fmt.Sprintf("%d.%d", number, skip)
					return false
				}
				page = append(page, all[skip])
			}
			return true
		})
		if err == nil {
			err = failed
		}
		if err != nil || next != "" || !more {
			return page, next, err
		}
		number, skip = number+1, 0
	}
}

func parsePlace(s string) (number uint64, skip int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	a, b, _ := strings.Cut(s, ".")
	number, err1 := strconv.ParseUint(a, 10, 64)
	skip, err2 := strconv.Atoi(b)
	if err1 != nil || err2 != nil || skip < 0 {
		return 0, 0, hark.Invalidf("after", "must be the next of the page before")
	}
	return number, skip, nil
}
