package setting

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
	// Multiline texts may have line breaks and tabs.
	Multiline bool
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
