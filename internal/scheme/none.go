package scheme

import (
	"context"
	"time"
)

// none verifies nothing: whoever knows the URL may send.
var none = Scheme{
	Name: "none", Title: "No verification", Secrets: NoSecrets, Topic: "inbound",
	Help:   "Takes every request. The URL is the only secret: use a scheme that verifies wherever the sender has one.",
	Setup:  []string{"Send requests to {url}"},
	verify: func(context.Context, *Source, *Request) Verdict { return passed(-1) },
	sign:   func(*Source, *Request, time.Time) error { return nil },
}
