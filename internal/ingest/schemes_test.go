package ingest

import (
	"testing"

	"github.com/harkhq/hark/internal/scheme"
)

// TestTopicsOfSchemes: every scheme's own topic is a template.
func TestTopicsOfSchemes(t *testing.T) {
	for _, s := range scheme.Schemes() {
		if err := CheckTemplate("topic", s.Topic); err != nil {
			t.Errorf("scheme %s: %v", s.Name, err)
		}
	}
}
