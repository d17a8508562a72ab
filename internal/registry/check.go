package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// MaxRate and MaxConcurrency bound what a destination or key may set.
const (
	MaxRate        = 1e6
	MaxConcurrency = 256
)

// check tells everything that is wrong with d, which would replace old (nil at
// creation), and puts it in order: compact JSON, no pattern twice. The caller holds write.
func (r *Registry) check(home *tenant, old, d *hark.Destination) error {
	var faults []error
	fault := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	fault(checkName("name", d.Name, hark.MaxNameBytes))
	fault(checkName("uid", d.UID, hark.MaxUIDBytes))
	if strings.HasPrefix(d.UID, hark.CallbackUID) != d.Callback {
		fault(hark.Invalidf("uid", fmt.Sprintf("%q begins the uids of the destinations that callbacks of batches go to, and of no other", hark.CallbackUID)))
	}
	d.Topics = dedupe(d.Topics)
	if d.Callback && len(d.Topics) > 0 {
		fault(hark.Invalidf("topics", "a destination for callbacks has none: make another one"))
	} else if !d.Callback {
		faults = append(faults, checkPatterns("topics", d.Topics, 1)...)
	}
	fault(r.checkFilter(d))
	faults = append(faults, checkSending(d)...)
	if len(d.Settings) > hark.MaxSettingsBytes {
		fault(hark.Invalidf("settings", fmt.Sprintf("%d bytes; at most %d", len(d.Settings), hark.MaxSettingsBytes)))
	} else if err := compactJSON(&d.Settings); err != nil {
		fault(hark.Invalidf("settings", "must be a JSON object"))
	} else {
		fault(r.kinds.Prepare(old, d))
		// A kind may have rewritten them.
		if err := compactJSON(&d.Settings); err != nil {
			return fmt.Errorf("kind %s made settings that are not an object", d.Kind)
		}
	}
	if id, taken := home.uids[d.UID]; taken && d.UID != "" && (old == nil || old.ID != id) {
		fault(uidTaken(id.String()))
	}
	return errors.Join(faults...)
}

func (r *Registry) checkFilter(d *hark.Destination) error {
	if string(bytes.TrimSpace(d.Filter)) == "null" {
		d.Filter = nil
	}
	if len(d.Filter) == 0 {
		return nil
	}
	if len(d.Filter) > hark.MaxSettingsBytes {
		return hark.Invalidf("filter", fmt.Sprintf("%d bytes; at most %d", len(d.Filter), hark.MaxSettingsBytes))
	}
	if r.filter == nil {
		return hark.Invalidf("filter", "is not available in this version: leave it out and choose by topics")
	}
	if err := compactJSON(&d.Filter); err != nil {
		return hark.Invalidf("filter", "must be a JSON object")
	}
	return r.filter(d.Filter)
}

func checkSending(d *hark.Destination) []error {
	var faults []error
	if err := d.Retry.Check(); err != nil {
		faults = append(faults, err)
	}
	if err := checkRate("rate_limit", d.RateLimit); err != nil {
		faults = append(faults, err)
	}
	if d.Concurrency < 0 || d.Concurrency > MaxConcurrency {
		faults = append(faults, hark.Invalidf("concurrency", fmt.Sprintf("must be between 1 and %d, or 0 to adapt", MaxConcurrency)))
	}
	switch d.OnDead {
	case "", hark.OnDeadContinue, hark.OnDeadStop:
		if d.OnDead == hark.OnDeadStop && !d.Ordered {
			faults = append(faults, hark.Invalidf("on_dead", "stop needs \"ordered\": true"))
		}
	default:
		faults = append(faults, hark.Invalidf("on_dead", "must be continue or stop"))
	}
	switch d.State {
	case hark.DestinationActive, hark.DestinationPaused, hark.DestinationDisabled:
	default:
		faults = append(faults, hark.Invalidf("state", "must be active, paused or disabled"))
	}
	if err := checkName("reason", d.Reason, 1024); err != nil {
		faults = append(faults, err)
	}
	if len(d.Secrets) > MaxSecrets {
		faults = append(faults, hark.Invalidf("secrets", fmt.Sprintf("at most %d", MaxSecrets)))
	}
	return faults
}

func checkRate(field string, rate float64) error {
	if math.IsNaN(rate) || rate < 0 || rate > MaxRate || rate != 0 && rate < 1e-3 {
		return hark.Invalidf(field, fmt.Sprintf("must be between 0.001 and %d a second, or 0 for no limit", int(MaxRate)))
	}
	return nil
}

func checkName(field, s string, limit int) error {
	if len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
		return nil
	}
	return hark.Invalidf(field, fmt.Sprintf("must be at most %d bytes of UTF-8 without control characters", limit))
}

func checkPatterns(field string, ps []hark.Pattern, least int) []error {
	if len(ps) < least || len(ps) > hark.MaxPatterns {
		return []error{hark.Invalidf(field, fmt.Sprintf("must hold %d to %d topic patterns, such as \"orders.*\" or \">\"", least, hark.MaxPatterns))}
	}
	var faults []error
	for i, p := range ps {
		if err := hark.CheckPattern(p); err != nil {
			msg := err.Error()
			if e, ok := errors.AsType[*hark.Error](err); ok {
				msg = e.Msg
			}
			faults = append(faults, hark.Invalidf(fmt.Sprintf("%s[%d]", field, i), msg))
		}
	}
	return faults
}

func dedupe(ps []hark.Pattern) []hark.Pattern {
	if len(ps) > hark.MaxPatterns {
		return ps // refused anyway; the search below is quadratic
	}
	kept := ps[:0:0]
	for _, p := range ps {
		if !slices.Contains(kept, p) {
			kept = append(kept, p)
		}
	}
	return kept
}

// compactJSON takes white space out of a JSON object; empty and null become {}.
func compactJSON(m *json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Compact(&b, *m); err != nil && len(*m) > 0 {
		return err
	}
	switch text := b.Bytes(); {
	case len(text) == 0, string(text) == "null":
		*m = json.RawMessage("{}")
	case text[0] != '{' || !utf8.Valid(text):
		return errors.New("not an object")
	default:
		*m = text
	}
	return nil
}

func tooMany(what string, n int) error {
	return &hark.Error{Kind: hark.Conflict, Code: "limit-reached",
		Msg: fmt.Sprintf("there are %d %s already, and that is the limit: remove some, or ask the operator to raise it", n, what)}
}
