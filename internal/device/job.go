package device

import (
	"github.com/harkhq/hark"
)

// jobSource gives the devices of an audience that want an event.
type jobSource struct {
	a       *Audiences
	app     string
	message *message
	// Those after position and up to top.
	position, top hark.DeviceID
	merge         *merge
}

// more implements source.
func (s *jobSource) more(dst []*entry, n int) ([]*entry, bool, error) {
	e := s.message.event
	if s.merge == nil {
		s.merge = &merge{}
		s.merge.init(s.a.Devices, e.Tenant, s.app, e.Topic, s.position, s.top)
	}
	ids, err := s.merge.next(make([]hark.DeviceID, 0, n), n)
	if err != nil || len(ids) == 0 {
		return dst, true, err
	}
	err = s.a.store.Devices(e.Tenant, ids, func(d *hark.Device) {
		if d.App == s.app && hark.MatchAny(d.Topics, e.Topic) { // its topics may have changed since its id was read
			dst = append(dst, &entry{device: d, msg: s.message, top: s.top})
		}
	})
	return dst, len(ids) < n, err
}

// renew implements source.
func (s *jobSource) renew(dest *hark.Destination) error {
	composed, err := s.a.cfg.Sender.Compose(dest, s.message.event)
	if err != nil {
		return err
	}
	s.message = &message{event: s.message.event, composed: composed}
	return nil
}
