package destination

import "github.com/harkhq/hark/internal/setting"

// platformFields are the settings of an audience that are its platforms' own.
func platformFields() []setting.Field { return nil }

func checkPlatforms(*setting.Check, setting.Values) {}
