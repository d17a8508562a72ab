package scheme

import (
	"regexp"
	"strconv"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

var linearTime = regexp.MustCompile(`("webhookTimestamp"\s*:\s*)\d+`)

// linear: HMAC-SHA256 of the raw body, hex. The body tells when it was sent, in
// milliseconds, and may be a minute old (linear.app/developers/webhooks, "Securing
// webhooks").
var linear = Scheme{
	Name: "linear", Title: "Linear", Secrets: SharedSecret,
	Topic:      "linear.{body.type}.{body.action}",
	Help:       "Webhooks of a workspace or of an OAuth application.",
	SecretHelp: "the signing secret on the webhook's page at Linear",
	Setup: []string{
		"Settings → API → Webhooks → New webhook",
		"URL: {url}",
		"Copy its signing secret into the source",
	},
	Fields: []setting.Field{toleranceField("1m")},
	recipe: &recipe{header: "Linear-Signature", timeBody: "webhookTimestamp", timeFormat: "unix-ms", tolerance: time.Minute},
	// What is sent again was sent at another time, which stands in the body.
	sign: func(s *Source, r *Request, at time.Time) error {
		r.Body = linearTime.ReplaceAll(r.Body, []byte("${1}"+strconv.FormatInt(at.UnixMilli(), 10)))
		return s.recipe.sign(s, r, at)
	},
	deliveryID: idInHeader("Linear-Delivery"),
}
