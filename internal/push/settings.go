package push

import (
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/setting"
)

// Fields are the settings of an audience: its app, how it says things, and an object for each
// platform.
func Fields() []setting.Field {
	all := []setting.Field{{Key: "app", Type: setting.Text, Title: "App", Default: hark.DefaultApp, MaxBytes: 64, Example: hark.DefaultApp,
		Help: "Whose devices it pushes to: those that are registered with this app."}}
	all = append(all, wording...)
	for _, p := range table {
		all = append(all, p.object())
	}
	return all
}

// CheckSettings adds what Fields cannot say of an audience's settings.
func CheckSettings(c *setting.Check, v setting.Values) {
	newOptions(c, v)
	for _, p := range table {
		if own := v.Object(p.Name); own != nil && p.check != nil {
			p.check(c, own)
		}
	}
}
