package providers

import (
	"net/http"
	"strconv"
	"time"

	"github.com/google/go-github/v75/github"
	"github.com/sendgrid/sendgrid-go/helpers/eventwebhook"
	"github.com/slack-go/slack"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	stripe "github.com/stripe/stripe-go/v83/webhook"
	svix "github.com/svix/svix-webhooks/go"
	twilio "github.com/twilio/twilio-go/client"

	"github.com/harkhq/hark/internal/scheme"
)

// Secrets of the tests.
const (
	githubSecret  = "It's a Secret to Everybody"
	stripeSecret  = "whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH"
	slackSecret   = "8f742231b10e8888abcd99yyyzzz85a5"
	twilioToken   = "0123456789abcdef0123456789abcdef"
	shopifySecret = "shpss_0123456789abcdef"
	whsec         = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

const (
	sendgridSignature = "X-Twilio-Email-Event-Webhook-Signature"
	sendgridTimestamp = "X-Twilio-Email-Event-Webhook-Timestamp"
)

func goJudges() []judge {
	return []judge{
		{
			library: "go-github", scheme: "github", secret: githubSecret, headers: []string{"X-Hub-Signature-256"},
			verify: func(r *scheme.Request) error {
				return github.ValidateSignature(r.Header.Get("X-Hub-Signature-256"), r.Body, []byte(githubSecret))
			},
			lenient: inAnyCase("X-Hub-Signature-256"),
		},
		{
			library: "stripe-go", scheme: "stripe", secret: stripeSecret, headers: []string{"Stripe-Signature"},
			sign: func(r *scheme.Request, at time.Time) error {
				p := stripe.GenerateTestSignedPayload(&stripe.UnsignedPayload{Payload: r.Body, Secret: stripeSecret, Timestamp: at})
				r.Header.Set("Stripe-Signature", p.Header)
				return nil
			},
			verify: func(r *scheme.Request) error {
				return stripe.ValidatePayload(r.Body, r.Header.Get("Stripe-Signature"), stripeSecret)
			},
			lenient: inAnyCase("Stripe-Signature"),
		},
		{
			library: "slack-go", scheme: "slack", secret: slackSecret, headers: []string{"X-Slack-Signature", "X-Slack-Request-Timestamp"},
			verify: func(r *scheme.Request) error {
				v, err := slack.NewSecretsVerifier(r.Header.HTTP(), slackSecret)
				if err != nil {
					return err
				}
				v.Write(r.Body)
				return v.Ensure()
			},
			lenient: inAnyCase("X-Slack-Signature"),
		},
		twilioGo(onlyForm),
		twilioGo(anyBytes),
		{
			library: "sendgrid-go", scheme: "sendgrid", secret: sendgridKey, headers: []string{sendgridSignature, sendgridTimestamp},
			sign: signSendgrid, bodies: onlyJSON,
			verify: func(r *scheme.Request) error {
				key, err := eventwebhook.ConvertPublicKeyBase64ToECDSA(sendgridKey)
				if err != nil {
					return err
				}
				return accepted(eventwebhook.VerifySignature(key, r.Body, r.Header.Get(sendgridSignature), r.Header.Get(sendgridTimestamp)))
			},
			lenient: onlyIn(sendgridSignature),
		},
		standardGo("standardwebhooks", "standard", "webhook-", newStandard(standardwebhooks.NewWebhook(whsec))),
		standardGo("standardwebhooks", "gitlab", "webhook-", newStandard(standardwebhooks.NewWebhook(whsec))),
		standardGo("svix", "standard", "svix-", newStandard(svix.NewWebhook(whsec))),
		standardGo("svix", "standard", "webhook-", newStandard(svix.NewWebhook(whsec))),
	}
}

func twilioGo(bodies bodyKind) judge {
	validator := twilio.NewRequestValidator(twilioToken)
	return judge{
		library: "twilio-go", scheme: "twilio", secret: twilioToken, bodies: bodies, headers: []string{"X-Twilio-Signature"}, url: true,
		verify: func(r *scheme.Request) error {
			return accepted(validator.ValidateBody(r.URL, r.Body, r.Header.Get("X-Twilio-Signature")), nil)
		},
		lenient: sameTwilio,
	}
}

// standardLibrary is what the libraries of Standard Webhooks and of Svix share.
type standardLibrary interface {
	Sign(id string, at time.Time, body []byte) (string, error)
	Verify(body []byte, header http.Header) error
}

func newStandard[L standardLibrary](l L, err error) standardLibrary {
	if err != nil {
		panic(err)
	}
	return l
}

func standardGo(library, name, prefix string, l standardLibrary) judge {
	return judge{
		library: library + ", " + prefix, scheme: name, secret: whsec,
		headers: []string{prefix + "id", prefix + "timestamp", prefix + "signature"}, lenient: sameNumber(prefix + "timestamp"),
		sign: func(r *scheme.Request, at time.Time) error {
			signature, err := l.Sign("msg_1", at, r.Body)
			r.Header.Set(prefix+"id", "msg_1")
			r.Header.Set(prefix+"timestamp", strconv.FormatInt(at.Unix(), 10))
			r.Header.Set(prefix+"signature", signature)
			return err
		},
		verify: func(r *scheme.Request) error { return l.Verify(r.Body, r.Header.HTTP()) },
	}
}
