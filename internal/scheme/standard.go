package scheme

import (
	"context"
	"crypto/rand"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/webhook"
)

// standard is Standard Webhooks, v1 and v1a, with its own header names or Svix's
// (github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
var standard = Scheme{
	Name: "standard", Title: "Standard Webhooks", Secrets: SharedSecret, Topic: "standard.{body.type}",
	Help:       "Senders that follow Standard Webhooks, such as another Hark, and those that use Svix, such as Clerk and Resend.",
	Fields:     []setting.Field{toleranceField("5m")},
	SecretHelp: "the secret (whsec_…) or public key (whpk_…) that the sender shows; whsk_… verifies and can sign, too",
	Generate:   func() string { return webhook.GenerateSecret().Reveal() },
	Setup: []string{
		"Endpoint URL: {url}",
		"Signing secret: {secret} (or give the sender's to the source)",
	},
	checkSecret: standardSecretFault,
	verify: func(_ context.Context, s *Source, r *Request) Verdict {
		return verifyStandard(s, r, standardNames(r))
	},
	deliveryID: func(_ *Source, r *Request) string { return r.Header.Get(standardNames(r).id) },
	sign: func(s *Source, r *Request, at time.Time) error {
		return signStandard(r, s.secrets[0].Value.Reveal(), standardNames(r), at)
	},
}

// standardHeaders are the three headers of one family; names are never mixed.
type standardHeaders struct{ id, timestamp, signature string }

var (
	webhookHeaders = standardHeaders{webhook.HeaderID, webhook.HeaderTimestamp, webhook.HeaderSignature}
	svixHeaders    = standardHeaders{"svix-id", "svix-timestamp", "svix-signature"}
)

// standardNames are the names that r uses: its own first, so that a header added on the
// way cannot choose which id counts.
func standardNames(r *Request) standardHeaders {
	if r.Header.Get(webhookHeaders.signature) == "" && r.Header.Get(svixHeaders.signature) != "" {
		return svixHeaders
	}
	return webhookHeaders
}

// standardDiagnosis says how secrets become keys; what a v1 signature is of, webhook knows.
var standardDiagnosis = &recipe{key: "whsec"}

func verifyStandard(s *Source, r *Request, names standardHeaders) Verdict {
	h := http.Header{}
	for _, x := range [][2]string{{names.id, webhookHeaders.id}, {names.timestamp, webhookHeaders.timestamp}, {names.signature, webhookHeaders.signature}} {
		value, v := s.needed(r, x[0])
		if v.Reason != "" {
			return v
		}
		h.Set(x[1], value)
	}
	allowed := s.values.Duration("tolerance")
	why, tried := error(nil), false
	for i, secret := range s.live(r.Received) {
		key, err := standardVerifyingKey(secret)
		if err != nil {
			continue // a token of GitLab, which the other way of proving uses
		}
		tried = true
		if why = verifyStandardWith(key, h, r, r.Body, allowed); why == nil {
			return passed(i)
		}
	}
	if !tried {
		return refused(NoSecretMatches, "the request is signed, and none of the source's secrets is a signing secret (whsec_…)")
	}
	switch webhook.ReasonOf(why) {
	case webhook.NoMatch:
		return s.diagnose(r, standardDiagnosis, false, func(key []byte, _ string, body []byte) bool {
			secret, err := webhook.NewSecret(key)
			return err == nil && verifyStandardWith(secret, h, r, body, -1) == nil
		})
	case webhook.UnknownVersion:
		return refused(NoSecretMatches, "%s holds no signature of the kind of the source's secrets: v1 needs whsec_…, v1a whpk_…", names.signature)
	case webhook.TooOld, webhook.TooNew:
		unix, _ := strconv.ParseInt(h.Get(webhookHeaders.timestamp), 10, 64) // webhook has read it
		return withinTolerance(time.Unix(unix, 0), r.Received, allowed, false)
	}
	text := strings.TrimPrefix(why.Error(), "webhook: ")
	return refused(Malformed, "%s", strings.Replace(text, "webhook-", strings.TrimSuffix(names.id, "id"), 1))
}

func verifyStandardWith(key webhook.VerifyingKey, h http.Header, r *Request, body []byte, tolerance time.Duration) error {
	v, err := webhook.NewVerifier(key)
	if err != nil {
		return err
	}
	v.Tolerance = tolerance
	_, err = v.VerifyAt(r.Received, h, body)
	return err
}

func standardVerifyingKey(secret string) (webhook.VerifyingKey, error) {
	if strings.HasPrefix(secret, "whsk_") {
		key, err := webhook.ParsePrivateKey(secret)
		return key.Public(), err
	}
	return webhook.ParseVerifyingKey(secret)
}

func standardSecretFault(secret string) string {
	if _, err := standardVerifyingKey(secret); err != nil {
		return strings.TrimPrefix(err.Error(), "webhook: ") + "; it must be whsec_…, whpk_… or whsk_… as the sender shows it"
	}
	return ""
}

func signStandard(r *Request, secret string, names standardHeaders, at time.Time) error {
	key, err := webhook.ParseSigningKey(secret)
	if err != nil {
		return &hark.Error{Kind: hark.Conflict, Code: "cannot-sign", Msg: "the first secret is no secret or private key, so it cannot sign"}
	}
	signer, err := webhook.NewSigner(key)
	if err != nil {
		return err
	}
	id := r.Header.Get(names.id)
	if id == "" {
		id = "msg_" + rand.Text()
	}
	signature, err := signer.Sign(id, at, r.Body)
	if err != nil {
		return err
	}
	r.Header.Set(names.id, id)
	r.Header.Set(names.timestamp, strconv.FormatInt(at.Unix(), 10))
	r.Header.Set(names.signature, signature)
	return nil
}
