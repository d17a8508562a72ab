package push

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/push/post"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/internal/webpush"
)

// table holds every platform, in the order of the dashboard.
var table = []*Platform{&webpushPlatform, &fcmPlatform, &apnsPlatform}

// Platform is one way to reach devices, as a row that describes itself.
type Platform struct {
	// Name is what a device says in "kind", and where its settings stand in an audience's.
	Name  string
	Title string
	Help  string
	// Fields are what an audience sets for it.
	Fields []setting.Field

	// check adds what Fields cannot say, of the object at settings.NAME. Values hold only what
	// Fields let pass; nil if the object is not there.
	check func(c *setting.Check, v setting.Values)
	// register checks what a device gives and writes it in canonical form. It returns at its
	// first fault, a [hark.Error] that names the field as the device's owner wrote it.
	register func(env *environment, d *hark.Device) error
	// target is what identifies a device that is registered: the same browser or phone again
	// has the same.
	target func(d *hark.Device) []byte
	// open makes what sends for a. V are its own settings, nil if a has none: a platform that
	// cannot do without answers [notSetUp]. Its error is for the owner.
	open func(env *environment, a *hark.Destination, v setting.Values) (Channel, error)
	// kept is the name under which it keeps something for an audience with these settings, ""
	// for nothing; see [Keeper]. Nil for never.
	kept func(v setting.Values) string
}

// Platforms returns the table.
func Platforms() []*Platform { return slices.Clone(table) }

// Find returns the platform of that name, or nil.
func Find(name string) *Platform {
	for _, p := range table {
		if p.Name == name {
			return p
		}
	}
	return nil
}

func platformNames() string {
	names := make([]string, len(table))
	for i, p := range table {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// object is the platform's settings as a setting of an audience.
func (p *Platform) object() setting.Field {
	return setting.Field{Key: p.Name, Type: setting.Object, Title: p.Title, Help: p.Help, Fields: p.Fields}
}

// Target identifies what a registered device pushes to: two devices of a tenant and app with
// the same target are one.
func Target(d *hark.Device) [32]byte {
	var own []byte
	if p := Find(d.Kind); p != nil {
		own = p.target(d)
	}
	return sha256.Sum256(append([]byte(d.Kind+"\x00"), own...))
}

// Doer sends requests; [egress.Client] is one.
type Doer interface {
	// Do answers within ctx, with at most snippetMax bytes of the body.
	Do(ctx context.Context, req *http.Request, snippetMax int) (egress.Response, error)
}

// Keeper keeps what a platform must know again after a restart, such as a provider token
// that may be renewed only every 20 minutes. Load returns nil for what was never saved.
type Keeper interface {
	Load(name string) ([]byte, error)
	Save(name string, value []byte) error
}

// Kept returns the names under which a [Keeper] may keep something for an audience. Another
// audience with the same credentials shares it; who loses it only makes it anew.
func Kept(a *hark.Destination) (names []string) {
	settings := newAudience(a).values
	for _, p := range table {
		if own := settings.Object(p.Name); own != nil && p.kept != nil {
			if name := p.kept(own); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// environment is what all platforms share.
type environment struct {
	client    Doer
	keeper    Keeper // nil keeps nothing
	checkURL  func(string) (*url.URL, error)
	userAgent string
	// subject is whom push services may ask about an audience that does not say; may be empty.
	subject string
	// receipt returns the URL at which a device tells what became of an event; nil for none.
	receipt func(e *hark.Event, d *hark.Device) string

	poster *post.Apart
	signer *webpush.Signer

	providers providers
	accounts  accounts
}

// receiptURL is empty for a message that asks for no receipt.
func (env *environment) receiptURL(m *Message, d *hark.Device) string {
	if !m.Receipt || env.receipt == nil || m.event == nil {
		return ""
	}
	return env.receipt(m.event, d)
}

// notSetUp is what open answers for a platform that an audience has no settings of.
type notSetUp string

func (e notSetUp) Error() string {
	return "settings." + string(e) + " is not set: nothing can be sent to devices of kind " + string(e)
}

// compact returns JSON without what is insignificant, or nil if it is none.
func compact(text json.RawMessage) json.RawMessage {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(text) != nil {
		return nil
	}
	return json.RawMessage(strings.TrimSpace(b.String()))
}
