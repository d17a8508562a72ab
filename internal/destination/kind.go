package destination

import (
	"context"
	"slices"

	"github.com/harkhq/hark"
)

// table holds every kind, in the order of the dashboard.
var table = []*Kind{&webhookKind, &pullKind}

// Mode says who moves.
type Mode string

// The modes.
const (
	Push Mode = "push" // we send
	Pull Mode = "pull" // workers fetch, under a lease
)

// Kind is one way to carry events, as a row that describes itself.
type Kind struct {
	// Name is what a destination says in "kind".
	Name  string
	Title string
	Help  string
	Mode  Mode
	// Fields are its settings, in the order of the form.
	Fields []Field

	// check adds what Fields cannot say. Values hold only what Fields let pass.
	check func(c *checker, v Values)
	// host names whom it dials, for the caps per host; nil for nobody.
	host func(v Values) string
	// newSecret makes a signing secret; nil for a kind that does not sign.
	newSecret func(v Values) hark.Secret
	// open makes what sends to d; nil in mode pull.
	open func(env *environment, d *hark.Destination, v Values) (opened, error)
}

// Signs reports whether destinations of the kind have signing secrets.
func (k *Kind) Signs() bool { return k.newSecret != nil }

// opened sends to one revision of one destination. It is safe for concurrent use.
type opened interface {
	send(ctx context.Context, e *hark.Event, m Meta) Result
}

// Kinds returns the table.
func Kinds() []*Kind { return slices.Clone(table) }

// Find returns the kind of that name, or nil.
func Find(name string) *Kind {
	for _, k := range table {
		if k.Name == name {
			return k
		}
	}
	return nil
}

// Type is the type of a setting.
type Type string

// The types.
const (
	Text     Type = "text"
	URL      Type = "url"
	Int      Type = "int"
	Bool     Type = "bool"
	Duration Type = "duration" // "30s", "2h"
	Map      Type = "map"      // names and texts
	Object   Type = "object"   // see Field.Fields
)

// Field describes one setting.
type Field struct {
	Key      string
	Type     Type
	Title    string
	Help     string
	Required bool
	// Secret values are write-only; of a Map, the values.
	Secret bool
	// Default applies when the setting is absent; it is written as in a CLI flag.
	Default string
	// Enum holds all allowed texts, if it is not empty.
	Enum []string
	// Example is shown as a placeholder.
	Example string
	// Min and Max bound an Int, or a Duration in seconds; both 0 for no bounds.
	Min, Max int64
	// MaxBytes bounds a text, and each text of a Map; 0 for 4096.
	MaxBytes int
	// Fields are those of an Object.
	Fields []Field
}
