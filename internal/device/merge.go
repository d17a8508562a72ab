package device

import "github.com/harkhq/hark"

// merge walks the devices of an app that have a pattern matching a topic, in the order of
// their ids, each once. It holds some ids of each pattern and reads more as they run out;
// between two calls it holds no iterator.
type merge struct {
	d      *Devices
	tenant hark.TenantID
	app    string
	upto   hark.DeviceID
	lanes  []mergeLane
}

type mergeLane struct {
	pattern hark.Pattern
	ids     []hark.DeviceID // in order; read and not yet returned
	last    hark.DeviceID   // of those read
	end     bool
}

// mergeChunk is how many ids of all patterns are held.
const mergeChunk = 2000

func (m *merge) init(d *Devices, t hark.TenantID, app, topic string, after, upto hark.DeviceID) {
	*m = merge{d: d, tenant: t, app: app, upto: upto}
	for _, p := range d.wants.matching(t, app, topic) {
		m.lanes = append(m.lanes, mergeLane{pattern: p, last: after})
	}
}

// next appends the next ids, at most limit; none at the end.
func (m *merge) next(dst []hark.DeviceID, limit int) ([]hark.DeviceID, error) {
	for len(dst) < limit {
		least, found := hark.DeviceID(0), false
		for i := range m.lanes {
			l := &m.lanes[i]
			if len(l.ids) == 0 && !l.end {
				if err := m.fill(l, limit); err != nil {
					return dst, err
				}
			}
			if len(l.ids) > 0 && (!found || l.ids[0] < least) {
				least, found = l.ids[0], true
			}
		}
		if !found {
			return dst, nil
		}
		for i := range m.lanes {
			if l := &m.lanes[i]; len(l.ids) > 0 && l.ids[0] == least {
				l.ids = l.ids[1:]
			}
		}
		dst = append(dst, least)
	}
	return dst, nil
}

func (m *merge) fill(l *mergeLane, limit int) (err error) {
	n := min(max(limit, 16), max(mergeChunk/len(m.lanes), 16), 1000)
	l.ids, err = m.d.store.DevicesByTopic(l.ids[:0], m.tenant, m.app, l.pattern, l.last, m.upto, n)
	if err != nil {
		return err
	}
	l.end = len(l.ids) < n
	if len(l.ids) > 0 {
		l.last = l.ids[len(l.ids)-1]
	}
	return nil
}
