package device

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Bounds of what is registered.
const (
	MaxRegister   = 1000 // devices at once
	MaxAppBytes   = 64
	MaxUserBytes  = 255
	DefaultOfUser = 50
	DefaultAll    = 1_000_000
)

// Directory finds audiences.
type Directory interface {
	// Audience returns the audience of an app; that of the default app is made if there
	// is none. Without one, [hark.NotFound].
	Audience(t hark.TenantID, app string) (*hark.Destination, error)
	// Destination returns a destination as it is now, or [hark.NotFound].
	Destination(t hark.TenantID, id hark.DestinationID) (*hark.Destination, error)
}

// Platforms is what registering needs of package push.
type Platforms interface {
	// Register checks what a device gives and puts it in canonical form.
	Register(d *hark.Device) error
	// Target identifies where a registered device is pushed to.
	Target(d *hark.Device) [32]byte
	// Keys returns the VAPID keys of an audience, the newest first.
	Keys(a *hark.Destination) []VAPIDKey
}

// App returns the app of an audience.
func App(a *hark.Destination) string { return strings.TrimPrefix(a.UID, hark.AudienceUID) }

// VAPIDKey is the public part of one.
type VAPIDKey struct{ ID, Public string }

// Config is what [Devices] are made of.
type Config struct {
	Store     *store.Store
	Directory Directory
	Platforms Platforms
	// MaxDevices bounds the devices of a tenant; nil for [DefaultAll].
	MaxDevices func(hark.TenantID) int
	// OfUser bounds the devices of one user of an app; 0 for [DefaultOfUser].
	OfUser int
}

// Devices registers devices and finds them. It is safe for concurrent use.
type Devices struct {
	cfg     Config
	store   *store.Store
	wants   *wants
	numbers numbers

	// gate is held for reading through every commit, and for writing while a tenant or an
	// audience goes, so that nothing is written after it.
	gate    sync.RWMutex
	erased  map[hark.TenantID]bool      // guarded by gate
	removed map[hark.DestinationID]bool // guarded by gate
	// nested counts the changes in one commit of the registry that hold the gate. Only
	// whoever holds the registry's write lock touches it.
	nested int

	byTarget, byUser, byID locks

	mu     sync.Mutex // guards below
	counts map[hark.TenantID]int
}

// Open reads which topics are wanted, and counts.
func Open(cfg Config) (*Devices, error) {
	cfg.OfUser = cmp.Or(cfg.OfUser, DefaultOfUser)
	d := &Devices{cfg: cfg, store: cfg.Store, wants: newWants(), erased: make(map[hark.TenantID]bool),
		removed: make(map[hark.DestinationID]bool), counts: make(map[hark.TenantID]int)}
	if err := d.numbers.open(cfg.Store); err != nil {
		return nil, err
	}
	if err := cfg.Store.DeviceTopics(d.wants.load); err != nil {
		return nil, fmt.Errorf("reading the topics of devices: %w", err)
	}
	if err := cfg.Store.DeviceCounts(func(t hark.TenantID) { d.counts[t]++ }); err != nil {
		return nil, fmt.Errorf("counting devices: %w", err)
	}
	return d, nil
}

// Wants reports whether a device of an app has a pattern that matches a topic. It costs
// no look into the store.
func (d *Devices) Wants(t hark.TenantID, app, topic string) bool { return d.wants.any(t, app, topic) }

// Count returns how many devices a tenant has.
func (d *Devices) Count(t hark.TenantID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[t]
}

// Total returns how many devices there are.
func (d *Devices) Total() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.counts {
		n += c
	}
	return n
}

// Keys returns the VAPID keys of an app's audience, the newest first, and makes the default
// app's audience if there is none.
func (d *Devices) Keys(t hark.TenantID, app string) ([]VAPIDKey, error) {
	app = cmp.Or(app, hark.DefaultApp)
	if err := checkApp(app); err != nil {
		return nil, err
	}
	a, err := d.audience(t, app)
	if err != nil {
		return nil, err
	}
	return d.cfg.Platforms.Keys(a), nil
}

func (d *Devices) audience(t hark.TenantID, app string) (*hark.Destination, error) {
	a, err := d.cfg.Directory.Audience(t, app)
	if hark.KindOf(err) == hark.NotFound {
		return nil, &hark.Error{Kind: hark.Mismatch, Code: "no-audience", Field: "app",
			Msg: "this app has no audience: make one with POST /v1/destinations {\"kind\":\"audience\",\"topics\":[\">\"],\"settings\":{\"app\":\"" + app + "\"}}, or leave app out"}
	}
	return a, err
}

// registration is one device on its way into the store.
type registration struct {
	device *hark.Device
	target [16]byte
	old    *hark.Device
}

// targetOf returns what a device is found by: no two of an app have the same.
func (d *Devices) targetOf(x *hark.Device) [16]byte {
	target := d.cfg.Platforms.Target(x)
	sum := sha256.Sum256(append(append([]byte(x.App), 0), target[:]...))
	return [16]byte(sum[:16])
}

// Register makes devices, or changes those whose targets are registered already: all or
// none, durably. Created says which are new. Errors: what is wrong with one of them
// ([hark.Mismatch]), and limits ([hark.Conflict]).
func (d *Devices) Register(t hark.TenantID, devices []*hark.Device) (made []*hark.Device, created []bool, err error) {
	regs, err := d.prepare(t, devices)
	if err != nil {
		return nil, nil, err
	}
	d.gate.RLock()
	defer d.gate.RUnlock()
	if d.erased[t] {
		return nil, nil, hark.NoSuch("tenant", "")
	}
	unlock, err := d.lockAll(t, regs)
	defer unlock()
	if err != nil {
		return nil, nil, err
	}
	if err := d.checkUsers(t, regs); err != nil {
		return nil, nil, err
	}
	if err := d.commitRegistrations(t, regs); err != nil {
		return nil, nil, err
	}
	for _, r := range regs {
		made, created = append(made, r.device), append(created, r.old == nil)
	}
	return made, created, nil
}

// prepare checks devices and finds their targets.
func (d *Devices) prepare(t hark.TenantID, devices []*hark.Device) ([]*registration, error) {
	if len(devices) == 0 || len(devices) > MaxRegister {
		return nil, &hark.Error{Kind: hark.TooLarge, Code: "too-many-devices-at-once", Msg: fmt.Sprintf("register 1 to %d devices at once, not %d", MaxRegister, len(devices))}
	}
	regs := make([]*registration, len(devices))
	seen := make(map[[16]byte]int, len(devices))
	keys := map[string][]VAPIDKey{}
	var faults []error
	for i, x := range devices {
		r := &registration{device: x}
		err := d.check(t, x, keys)
		if err == nil {
			r.target = d.targetOf(x)
			if j, twice := seen[r.target]; twice {
				err = hark.Invalidf("", fmt.Sprintf("is the same device as [%d]", j))
			}
			seen[r.target] = i
		}
		if err != nil && len(devices) > 1 {
			err = within(fmt.Sprintf("[%d]", i), err)
		}
		if regs[i] = r; err != nil {
			faults = append(faults, err)
		}
		if len(faults) >= 20 {
			break
		}
	}
	return regs, errors.Join(faults...)
}

// within names where in a list the fields of faults are.
func within(at string, err error) error {
	all := hark.Faults(err)
	if len(all) == 0 {
		return fmt.Errorf("%s: %w", at, err)
	}
	var named []error
	for _, e := range all {
		c := *e
		c.Field = strings.TrimSuffix(at+"."+e.Field, ".")
		named = append(named, &c)
	}
	return errors.Join(named...)
}

// check tells what is wrong with a device and puts it in order.
func (d *Devices) check(t hark.TenantID, x *hark.Device, keys map[string][]VAPIDKey) error {
	x.Tenant, x.App = t, cmp.Or(x.App, hark.DefaultApp)
	var faults []error
	fault := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	fault(checkWords(x))
	x.Topics, faults = checkTopics(x.Topics, faults)
	fault(d.cfg.Platforms.Register(x))
	if err := checkApp(x.App); err != nil {
		fault(err)
		return errors.Join(faults...)
	}
	if _, known := keys[x.App]; !known {
		a, err := d.audience(t, x.App)
		if err != nil {
			fault(err)
			return errors.Join(faults...)
		}
		keys[x.App] = d.cfg.Platforms.Keys(a)
	}
	fault(bindKey(x, keys[x.App]))
	return errors.Join(faults...)
}

// bindKey notes which VAPID key a subscription is bound to.
func bindKey(x *hark.Device, keys []VAPIDKey) error {
	switch {
	case len(x.Subscription) == 0:
		if x.VAPIDKey != "" {
			return hark.Invalidf("vapid_key", "is for subscriptions of kind webpush: leave it out")
		}
	case x.VAPIDKey == "" && len(keys) > 0:
		x.VAPIDKey = keys[0].ID
	case !slices.ContainsFunc(keys, func(k VAPIDKey) bool { return k.ID == x.VAPIDKey }):
		return hark.Invalidf("vapid_key", "is not one of this app's keys: subscribe again, with the public_key that GET /v1/push/key gives")
	}
	return nil
}

func checkApp(app string) error {
	if app == "" || len(app) > MaxAppBytes || strings.ContainsFunc(app, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}) {
		return hark.Invalidf("app", fmt.Sprintf("must be made of A-Z a-z 0-9 _ and -, at most %d", MaxAppBytes))
	}
	return nil
}

func checkWords(x *hark.Device) error {
	var faults []error
	for _, f := range []struct {
		field, text string
		most        int
	}{{"user", x.User, MaxUserBytes}, {"name", x.Name, hark.MaxNameBytes}} {
		if len(f.text) > f.most || !utf8.ValidString(f.text) || strings.ContainsFunc(f.text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			faults = append(faults, hark.Invalidf(f.field, fmt.Sprintf("must be at most %d bytes of UTF-8 without control characters", f.most)))
		}
	}
	return errors.Join(faults...)
}

// checkTopics tells what is wrong with patterns, and leaves out what is there twice.
func checkTopics(ps []hark.Pattern, faults []error) ([]hark.Pattern, []error) {
	if len(ps) == 0 || len(ps) > hark.MaxPatterns {
		return ps, append(faults, hark.Invalidf("topics", fmt.Sprintf("must hold 1 to %d topic patterns, such as \"user.42.>\"", hark.MaxPatterns)))
	}
	kept := make([]hark.Pattern, 0, len(ps))
	for i, p := range ps {
		field := fmt.Sprintf("topics[%d]", i)
		if err := hark.CheckPattern(p); err != nil {
			e, _ := errors.AsType[*hark.Error](err)
			faults = append(faults, hark.Invalidf(field, e.Msg))
		} else if strings.Count(string(p), "*") > MaxStars {
			faults = append(faults, hark.Invalidf(field, fmt.Sprintf("may hold \"*\" %d times at most", MaxStars)))
		}
		if !slices.Contains(kept, p) {
			kept = append(kept, p)
		}
	}
	return kept, faults
}

// lockAll locks what registrations may touch and finds what they replace. What it locked
// is for unlock, also after an error.
func (d *Devices) lockAll(t hark.TenantID, regs []*registration) (unlock func(), err error) {
	var targets, users, ids []uint64
	for _, r := range regs {
		targets = append(targets, binary.LittleEndian.Uint64(r.target[:]))
		if r.device.User != "" {
			users = append(users, d.wants.userHash(t, r.device.User))
		}
	}
	unlocks := []func(){d.byTarget.lock(targets), d.byUser.lock(users)}
	unlock = func() {
		for _, u := range slices.Backward(unlocks) {
			u()
		}
	}
	of := map[hark.DeviceID]*registration{}
	for _, r := range regs {
		id, found, err := d.store.DeviceAt(t, r.target)
		if err != nil {
			return unlock, err
		}
		if found {
			of[id] = r
			ids = append(ids, uint64(id))
		}
	}
	unlocks = append(unlocks, d.byID.lock(ids))
	return unlock, d.store.Devices(t, slices.Sorted(maps.Keys(of)), func(old *hark.Device) { of[old.ID].old = old })
}

// checkUsers tells whether a user would have too many devices of an app.
func (d *Devices) checkUsers(t hark.TenantID, regs []*registration) error {
	more := map[userApp]int{}
	for _, r := range regs {
		u := userApp{r.device.User, r.device.App}
		if r.old == nil || r.old.User != u.user {
			more[u]++
		}
	}
	for u, n := range more {
		if u.user == "" || n == 0 {
			continue
		}
		err := d.store.DevicesOfUser(t, u.user, 0, func(_ hark.DeviceID, app string) bool {
			if app == u.app {
				n++
			}
			return n <= d.cfg.OfUser
		})
		if err != nil {
			return err
		}
		if n > d.cfg.OfUser {
			return &hark.Error{Kind: hark.Conflict, Code: "too-many-devices", Field: "user", Msg: fmt.Sprintf(
				"a user has at most %d devices of an app: delete some that are not used any more (GET /v1/devices?user=…, DELETE /v1/devices/{id})", d.cfg.OfUser)}
		}
	}
	return nil
}

type userApp struct{ user, app string }

// commitRegistrations makes registrations durable and known. The caller holds their locks.
func (d *Devices) commitRegistrations(t hark.TenantID, regs []*registration) (err error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	fresh := 0
	for _, r := range regs {
		if r.old == nil {
			fresh++
		}
	}
	if err := d.reserve(t, fresh); err != nil {
		return err
	}
	wanted := 0
	defer func() {
		for i, r := range regs { // of what was replaced, or of what failed
			switch {
			case err != nil && i < wanted:
				d.wants.remove(t, r.device.App, r.device.Topics)
			case err == nil && r.old != nil:
				d.wants.remove(t, r.old.App, r.old.Topics)
			}
		}
		if err != nil {
			d.add(t, -fresh)
		}
	}()
	first, err := d.numbers.take(fresh)
	if err != nil {
		return err
	}
	recs := make([]store.Record, 0, len(regs))
	for _, r := range regs {
		x := r.device
		if !d.wants.add(t, x.App, x.Topics) {
			return tooManyShapes()
		}
		wanted++
		x.State, x.Reason, x.Strikes, x.Suspected, x.Registered = hark.DeviceActive, "", 0, time.Time{}, now
		if r.old != nil {
			x.ID, x.Created, x.Pushed = r.old.ID, r.old.Created, r.old.Pushed
		} else {
			x.ID, x.Created, x.Pushed = hark.DeviceID(first), now, time.Time{}
			first++
		}
		recs = append(recs, &store.DeviceSaved{Old: r.old, New: x, Target: r.target})
	}
	return d.store.Commit(recs...)
}

func tooManyShapes() error {
	return &hark.Error{Kind: hark.Conflict, Code: "too-many-shapes", Field: "topics", Msg: fmt.Sprintf(
		"the patterns of one app's devices may have %d shapes (how many tokens, and where * and > stand): use the shapes that other devices use", MaxShapes)}
}

// reserve counts devices that are about to be there.
func (d *Devices) reserve(t hark.TenantID, n int) error {
	most := DefaultAll
	if d.cfg.MaxDevices != nil {
		most = d.cfg.MaxDevices(t)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if n > 0 && d.counts[t]+n > most {
		return &hark.Error{Kind: hark.Conflict, Code: "limit-reached", Msg: fmt.Sprintf(
			"there are %d devices already and the limit is %d: delete some, or ask the operator to raise max_devices of the tenant", d.counts[t], most)}
	}
	d.counts[t] += n
	return nil
}

func (d *Devices) add(t hark.TenantID, n int) {
	d.mu.Lock()
	d.counts[t] += n
	d.mu.Unlock()
}
