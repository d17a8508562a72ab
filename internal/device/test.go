package device

import (
	"context"
	"encoding/json"
	"time"

	"github.com/harkhq/hark"
)

// testTopic is what the event of a test says it is of.
const testTopic = "hark.test"

// Test pushes one message to a device now, also to a suspect one, and tells what came of it.
// What follows from that for the device, follows. May refuses what the caller may not.
func (a *Audiences) Test(_ context.Context, t hark.TenantID, id hark.DeviceID, title, body string, may func(*hark.Device) error) (Outcome, error) {
	d, err := a.mine(t, id, may)
	if err != nil {
		return Outcome{}, err
	}
	dest, err := a.audience(t, d.App)
	if err != nil {
		return Outcome{}, err
	}
	data, err := json.Marshal(map[string]string{"title": title, "body": body})
	if err != nil {
		return Outcome{}, err
	}
	event := &hark.Event{Tenant: t, Topic: testTopic, ContentType: "application/json", Data: data, Received: time.Now()}
	composed, err := a.cfg.Sender.Compose(dest, event)
	if err != nil {
		return Outcome{}, err
	}
	if !a.begin() {
		return Outcome{}, &hark.Error{Kind: hark.Unavailable, Code: "stopping", Msg: "the server is stopping"}
	}
	defer a.runs.Done()
	e := &entry{device: d, msg: &message{event: event, composed: composed}, dest: dest, state: done, test: true}
	at := time.Now().UTC().Truncate(time.Millisecond)
	r := a.send(dest, d, e.msg, time.Now())
	e.all = []tried{{device: d, number: 1, result: r}}
	if err := a.commitPage(dest, []*entry{e}, nil, false, false); err != nil {
		return Outcome{}, err
	}
	return Outcome{Device: id, Outcome: Word(r.Outcome), Status: r.Status, Code: r.Code, Error: r.Error, Try: 1, At: at}, nil
}
