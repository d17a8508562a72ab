package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/device"
	"github.com/harkhq/hark/internal/registry"
)

// Devices is what the handlers need of devices and of what pushes to them.
type Devices interface {
	Register(t hark.TenantID, devices []*hark.Device) (made []*hark.Device, created []bool, err error)
	Get(t hark.TenantID, id hark.DeviceID) (*hark.Device, error)
	List(t hark.TenantID, q device.Query) (page []*hark.Device, next hark.DeviceID, err error)
	Update(t hark.TenantID, id hark.DeviceID, p device.Patch, may func(*hark.Device) error) (*hark.Device, error)
	Delete(t hark.TenantID, id hark.DeviceID, may func(*hark.Device) error) error
	Keys(t hark.TenantID, app string) ([]device.VAPIDKey, error)
	Test(ctx context.Context, t hark.TenantID, id hark.DeviceID, title, body string, may func(*hark.Device) error) (device.Outcome, error)
	Outcomes(t hark.TenantID, id hark.DeliveryID, after string, limit int) (page []device.Outcome, next string, err error)
}

// Receipts takes what devices tell of messages.
type Receipts interface {
	Take(ctx context.Context, token, what string, now time.Time) error
}

// DeviceBody is what a device registers with.
type DeviceBody struct {
	Kind         string          `json:"kind"`
	User         string          `json:"user"`
	Topics       []hark.Pattern  `json:"topics"`
	App          string          `json:"app"`
	Locale       string          `json:"locale"`
	Name         string          `json:"name"`
	Subscription json.RawMessage `json:"subscription"`
	VAPIDKey     string          `json:"vapid_key"`
	Token        string          `json:"token"`
	FID          string          `json:"fid"`
	Environment  string          `json:"environment"`
}

// DeviceView is a device as it is shown: without what would let its reader push to it.
type DeviceView struct {
	ID             hark.DeviceID    `json:"id"`
	App            string           `json:"app"`
	Kind           string           `json:"kind"`
	User           string           `json:"user,omitempty"`
	Topics         []hark.Pattern   `json:"topics"`
	Locale         string           `json:"locale,omitempty"`
	Name           string           `json:"name,omitempty"`
	EndpointOrigin string           `json:"endpoint_origin,omitempty" doc:"Which push service it is at, of kind webpush. The endpoint itself, keys and tokens are shown to nobody."`
	VAPIDKey       string           `json:"vapid_key,omitempty" doc:"The id of the VAPID key that the subscription is bound to."`
	Environment    string           `json:"environment,omitempty" doc:"Of kind apns: production or sandbox."`
	State          hark.DeviceState `json:"state" doc:"active, or suspect: refused in a way that may be its own fault or ours; seldom tried until it works or goes."`
	Reason         string           `json:"reason,omitempty" doc:"Why it is suspect."`
	Strikes        int              `json:"strikes,omitempty"`
	Suspected      time.Time        `json:"suspected,omitzero"`
	Created        time.Time        `json:"created"`
	Registered     time.Time        `json:"registered" doc:"When it last said itself that it is there."`
	Pushed         time.Time        `json:"pushed,omitzero" doc:"When it last took a message, to within an hour."`
}

func viewDevice(d *hark.Device) DeviceView {
	v := DeviceView{ID: d.ID, App: d.App, Kind: d.Kind, User: d.User, Topics: d.Topics, Locale: d.Locale, Name: d.Name, VAPIDKey: d.VAPIDKey,
		Environment: d.Environment, State: d.State, Reason: d.Reason, Strikes: d.Strikes, Suspected: d.Suspected, Created: d.Created,
		Registered: d.Registered, Pushed: d.Pushed}
	if len(d.Subscription) > 0 {
		var s struct{ Endpoint string }
		if json.Unmarshal(d.Subscription, &s) == nil {
			if u, err := url.Parse(s.Endpoint); err == nil {
				v.EndpointOrigin = u.Scheme + "://" + u.Host
			}
		}
	}
	return v
}

// owner is whose devices a caller may have to do with: all of the tenant's for a key with
// the scope manage, its own for a user's token.
type owner struct {
	caller Caller
	user   string
	all    bool
}

func ownerOf(ctx context.Context) (owner, error) {
	c := callerOf(ctx)
	if err := c.Require(registry.ScopeManage); err == nil {
		return owner{caller: c, all: true}, nil
	} else if c.Subject() == "" {
		return owner{}, err
	}
	if err := c.Require(registry.ScopeSubscribe); err != nil {
		return owner{}, err
	}
	return owner{caller: c, user: c.Subject()}, nil
}

// may tells whether the caller may see and change a device. That there is another's is not told.
func (o *owner) may(d *hark.Device) error {
	if !o.all && d.User != o.user {
		return hark.NoSuch("device", d.ID.String())
	}
	return nil
}

// mayTopics tells whether the caller may have events of these topics pushed.
func (o *owner) mayTopics(ps []hark.Pattern) error {
	for i, p := range ps {
		if err := hark.CheckPattern(p); err != nil {
			return err
		}
		if i >= hark.MaxPatterns {
			return nil // refused with all other faults
		}
	}
	if o.all {
		return o.caller.MayRoute(ps)
	}
	return o.caller.MaySubscribe(ps)
}

// device makes a device of what was written.
func (o *owner) device(b *DeviceBody) (*hark.Device, error) {
	d := &hark.Device{Kind: b.Kind, User: b.User, Topics: b.Topics, App: b.App, Locale: b.Locale, Name: b.Name, Subscription: b.Subscription,
		VAPIDKey: b.VAPIDKey, Token: hark.Secret(b.Token), FID: hark.Secret(b.FID), Environment: b.Environment}
	if string(bytes.TrimSpace(d.Subscription)) == "null" {
		d.Subscription = nil
	}
	if !o.all {
		if b.User != "" && b.User != o.user {
			return nil, &hark.Error{Kind: hark.Forbidden, Code: "user-forbidden", Field: "user", Msg: "a token registers devices of its own user only: leave user out"}
		}
		d.User = o.user
		if len(d.Topics) == 0 {
			d.Topics = o.caller.Reach()
		}
	}
	return d, o.mayTopics(d.Topics)
}

// maxDeviceBody is more than the largest device needs; maxDevicesBody is for many.
const (
	maxDeviceBody  = 32 << 10
	maxDevicesBody = 4 << 20
)

// RegisterDevices answers POST /v1/devices: one device, or an array, all or none.
func (a *API) RegisterDevices(w http.ResponseWriter, r *http.Request) error {
	if err := knownQuery(r.URL.Query()); err != nil {
		return err
	}
	o, err := ownerOf(r.Context())
	if err != nil {
		return err
	}
	limit := int64(maxDevicesBody)
	if !o.all {
		limit = maxDeviceBody
	}
	body, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	bodies, many, err := deviceBodies(body)
	if err != nil {
		return err
	}
	devices := make([]*hark.Device, len(bodies))
	for i := range bodies {
		if devices[i], err = o.device(&bodies[i]); err != nil {
			if many {
				err = fmt.Errorf("device %d: %w", i, err)
			}
			return err
		}
	}
	made, created, err := a.Devices.Register(tenantOf(r.Context()), devices)
	if err != nil {
		return err
	}
	if many {
		page := devicePage{Devices: make([]DeviceView, len(made))}
		for i, d := range made {
			page.Devices[i] = viewDevice(d)
		}
		return answerMade(w, http.StatusCreated, "", page)
	}
	status := http.StatusOK
	if created[0] {
		status = http.StatusCreated
	}
	return answerMade(w, status, "/v1/devices/"+made[0].ID.String(), viewDevice(made[0]))
}

func deviceBodies(body []byte) (bodies []DeviceBody, many bool, err error) {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		return bodies, true, decodeStrict(body, &bodies)
	}
	bodies = make([]DeviceBody, 1)
	return bodies, false, decodeStrict(body, &bodies[0])
}

type devicePage struct {
	Devices []DeviceView `json:"devices"`
}

// DeviceList is the input of GET /v1/devices.
type DeviceList struct {
	User  string `query:"user" maxLength:"255"`
	App   string `query:"app" maxLength:"64"`
	Kind  string `query:"kind" maxLength:"32"`
	State string `query:"state" enum:"active,suspect"`
	Topic string `query:"topic" maxLength:"255" doc:"Those that an event of this topic reaches; of the default app, unless app says another."`
	After string `query:"after" doc:"Go on after this id: the next of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

// DevicePage carries devices.
type DevicePage struct {
	Body struct {
		Devices []DeviceView `json:"devices"`
		Next    string       `json:"next,omitempty" doc:"Give it as after for the next page; missing on the last. A page can hold nothing and still have it."`
	}
}

// ListDevices answers GET /v1/devices.
func (a *API) ListDevices(ctx context.Context, in *DeviceList) (*DevicePage, error) {
	o, err := ownerOf(ctx)
	if err != nil {
		return nil, err
	}
	q := device.Query{User: in.User, App: in.App, Kind: in.Kind, State: hark.DeviceState(in.State), Topic: in.Topic, Limit: in.Limit}
	out := &DevicePage{}
	out.Body.Devices = []DeviceView{}
	if !o.all {
		if q.User = cmp.Or(q.User, o.user); q.User != o.user {
			return out, nil
		}
	}
	if in.After != "" {
		if q.After, err = hark.ParseDeviceID(in.After); err != nil {
			return nil, err
		}
	}
	page, next, err := a.Devices.List(tenantOf(ctx), q)
	if err != nil {
		return nil, err
	}
	for _, d := range page {
		out.Body.Devices = append(out.Body.Devices, viewDevice(d))
	}
	out.Body.Next = next.String()
	return out, nil
}

// DevicePath names one device.
type DevicePath struct {
	ID string `path:"id" doc:"dev_…" example:"dev_0001m5b2t0g00"`
}

// DeviceAnswer carries one device.
type DeviceAnswer struct{ Body DeviceView }

// device returns who asks and the id they ask for.
func (p *DevicePath) device(ctx context.Context) (o owner, id hark.DeviceID, err error) {
	if o, err = ownerOf(ctx); err == nil {
		id, err = hark.ParseDeviceID(p.ID)
	}
	return o, id, err
}

// GetDevice answers GET /v1/devices/{id}.
func (a *API) GetDevice(ctx context.Context, in *DevicePath) (*DeviceAnswer, error) {
	o, id, err := in.device(ctx)
	if err != nil {
		return nil, err
	}
	d, err := a.Devices.Get(tenantOf(ctx), id)
	if err == nil {
		err = o.may(d)
	}
	if err != nil {
		return nil, err
	}
	return &DeviceAnswer{viewDevice(d)}, nil
}

// DevicePatch is the input of PATCH /v1/devices/{id}: what is left out stays.
type DevicePatch struct {
	DevicePath
	Body struct {
		Topics []hark.Pattern `json:"topics,omitempty" maxItems:"64"`
		User   *string        `json:"user,omitempty"`
		Locale *string        `json:"locale,omitempty"`
		Name   *string        `json:"name,omitempty"`
	}
}

// PatchDevice answers PATCH /v1/devices/{id}.
func (a *API) PatchDevice(ctx context.Context, in *DevicePatch) (*DeviceAnswer, error) {
	o, id, err := in.device(ctx)
	if err != nil {
		return nil, err
	}
	b := &in.Body
	if !o.all && b.User != nil && *b.User != o.user {
		return nil, &hark.Error{Kind: hark.Forbidden, Code: "user-forbidden", Field: "user", Msg: "a token cannot give its device to another user"}
	}
	if err := o.mayTopics(b.Topics); err != nil {
		return nil, err
	}
	d, err := a.Devices.Update(tenantOf(ctx), id, device.Patch{Topics: b.Topics, User: b.User, Locale: b.Locale, Name: b.Name}, o.mayChange)
	if err != nil {
		return nil, err
	}
	return &DeviceAnswer{viewDevice(d)}, nil
}

// mayChange is may for a change. A key that reaches some topics only may not change what
// others get.
func (o *owner) mayChange(d *hark.Device) error {
	if err := o.may(d); err != nil || !o.all {
		return err
	}
	return o.caller.MayRoute(d.Topics)
}

// DeleteDevice answers DELETE /v1/devices/{id}.
func (a *API) DeleteDevice(ctx context.Context, in *DevicePath) (*Nothing, error) {
	o, id, err := in.device(ctx)
	if err != nil {
		return nil, err
	}
	return nil, a.Devices.Delete(tenantOf(ctx), id, o.may)
}

// PushKeyGet is the input of GET /v1/push/key.
type PushKeyGet struct {
	App string `query:"app" maxLength:"64" doc:"Whose key; the default app's when it is missing."`
}

// PushKeyAnswer is what a browser subscribes with.
type PushKeyAnswer struct {
	Body struct {
		App       string `json:"app"`
		VAPIDKey  string `json:"vapid_key" doc:"The key's id: register the subscription with it."`
		PublicKey string `json:"public_key" doc:"The applicationServerKey that a browser subscribes with."`
	}
}

// GetPushKey answers GET /v1/push/key.
func (a *API) GetPushKey(ctx context.Context, in *PushKeyGet) (*PushKeyAnswer, error) {
	caller := callerOf(ctx)
	if caller.Require(registry.ScopeManage) != nil {
		if err := caller.Require(registry.ScopeSubscribe); err != nil {
			return nil, err
		}
	}
	keys, err := a.Devices.Keys(tenantOf(ctx), in.App)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, &hark.Error{Kind: hark.Conflict, Code: "no-secret", Msg: "this app's audience has no VAPID key: rotate its secret to make one"}
	}
	out := &PushKeyAnswer{}
	out.Body.App, out.Body.VAPIDKey, out.Body.PublicKey = cmp.Or(in.App, hark.DefaultApp), keys[0].ID, keys[0].Public
	return out, nil
}

// DeviceTest is the input of POST /v1/devices/{id}/test.
type DeviceTest struct {
	DevicePath
	Body *struct {
		Title string `json:"title,omitempty" maxLength:"200"`
		Body  string `json:"body,omitempty" maxLength:"1000"`
	}
}

// DeviceTested tells what came of a test.
type DeviceTested struct{ Body device.Outcome }

// TestDevice answers POST /v1/devices/{id}/test: it pushes one message now.
func (a *API) TestDevice(ctx context.Context, in *DeviceTest) (*DeviceTested, error) {
	o, id, err := in.device(ctx)
	if err != nil {
		return nil, err
	}
	title, body := "Test", "This is a test from Hark."
	if b := in.Body; b != nil && b.Title+b.Body != "" {
		title, body = b.Title, b.Body
	}
	came, err := a.Devices.Test(ctx, tenantOf(ctx), id, title, body, o.may)
	if err != nil {
		return nil, err
	}
	return &DeviceTested{came}, nil
}

// DeliveryDevicesList is the input of GET /v1/deliveries/{id}/devices.
type DeliveryDevicesList struct {
	DeliveryPath
	After string `query:"after" doc:"Go on after this: the next of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

// DeliveryDevicesPage carries what came of one event for devices.
type DeliveryDevicesPage struct {
	Body struct {
		Devices []device.Outcome `json:"devices"`
		Next    string           `json:"next,omitempty" doc:"Give it as after for the next page; missing on the last."`
	}
}

// ListDeliveryDevices answers GET /v1/deliveries/{id}/devices.
func (a *API) ListDeliveryDevices(ctx context.Context, in *DeliveryDevicesList) (*DeliveryDevicesPage, error) {
	d, err := a.delivery(ctx, &in.DeliveryPath)
	if err != nil {
		return nil, err
	}
	page, next, err := a.Devices.Outcomes(tenantOf(ctx), d.ID, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &DeliveryDevicesPage{}
	out.Body.Devices, out.Body.Next = append([]device.Outcome{}, page...), next
	return out, nil
}

// maxReceipt bounds the body of a receipt.
const maxReceipt = 1 << 10

// TakeReceipt answers POST /v1/push/receipts/{token}. The token is all that is asked for;
// any content type will do, since a service worker may not be let to choose.
func (a *API) TakeReceipt(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, maxReceipt)
	if err != nil {
		return err
	}
	var what struct {
		What string `json:"what"`
	}
	if err := decodeStrict(body, &what); err != nil {
		return err
	}
	if err := a.Receipts.Take(r.Context(), r.PathValue("token"), what.What, time.Now()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
