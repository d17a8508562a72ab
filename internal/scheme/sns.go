package scheme

import (
	"context"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1" // signatures of version 1
	_ "crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

const (
	snsNotification = "Notification"
	snsSubscription = "SubscriptionConfirmation"
	snsUnsubscribed = "UnsubscribeConfirmation"
	// confirmWithin bounds how long the confirmation of a subscription may take.
	confirmWithin = 10 * time.Second
)

// snsHost is where certificates and confirmations of SNS may lie, China included.
var snsHost = regexp.MustCompile(`^sns\.[a-z0-9-]{3,30}\.amazonaws\.com(\.cn)?$`)

var snsCertificatePath = regexp.MustCompile(`^/SimpleNotificationService-[A-Za-z0-9]+\.pem$`)

// sns: RSA with SHA-1 (version 1) or SHA-256 (version 2) over names and values of the
// message, by a certificate that SNS publishes
// (docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html). Certificates
// are taken over https from hosts of SNS only; that connection is what vouches for them.
//
// Anyone at AWS can subscribe this URL to a topic of their own, and SNS signs that, too:
// so the topics are needed. A subscription to one of them is confirmed by itself.
var sns = Scheme{
	Name: "sns", Title: "Amazon SNS", Secrets: NoSecrets, Topic: "sns.notification",
	Help: "HTTP(S) subscriptions of a topic. The certificate of SNS is fetched; there is no secret. Leave raw message delivery off: raw messages are not signed.",
	Fields: []setting.Field{
		{Key: "topic_arn", Type: setting.Text, Title: "Topic ARN", Required: true, Example: "arn:aws:sns:eu-central-1:123456789012:orders",
			Help: "the topics that may send, with commas between them"},
		{Key: "confirm", Type: setting.Bool, Title: "Confirm subscriptions", Default: "true",
			Help: "confirm a subscription to one of these topics as soon as SNS asks"},
	},
	Setup: []string{
		"SNS → Topics → your topic → Create subscription, protocol HTTPS",
		"Endpoint: {url}",
		"Leave raw message delivery off",
	},
	check: func(c *setting.Check, v setting.Values) {
		for _, arn := range snsTopics(v) {
			if !strings.HasPrefix(arn, "arn:aws") || strings.Count(arn, ":") != 5 {
				c.Fault("settings.topic_arn", "must be ARNs of topics, such as arn:aws:sns:eu-central-1:123456789012:orders")
			}
		}
	},
	verify:     verifySNS,
	challenge:  confirmSNS,
	deliveryID: idInBody("MessageId"),
}

// snsMessage is what a message holds that is signed, or tells by whom.
type snsMessage struct {
	Type, MessageID, TopicARN, Message, Timestamp, Token, SubscribeURL string
	Subject                                                            *string
	SignatureVersion, Signature, SigningCertURL                        string
}

// readSNS takes member names as they are written: encoding/json would also take others
// of another case, so that one message could be read in two ways.
func readSNS(body []byte) (m snsMessage, err error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return m, err
	}
	for name, to := range map[string]*string{
		"Type": &m.Type, "MessageId": &m.MessageID, "TopicArn": &m.TopicARN, "Message": &m.Message, "Timestamp": &m.Timestamp,
		"Token": &m.Token, "SubscribeURL": &m.SubscribeURL,
		"SignatureVersion": &m.SignatureVersion, "Signature": &m.Signature, "SigningCertURL": &m.SigningCertURL,
	} {
		if raw, ok := members[name]; ok && json.Unmarshal(raw, to) != nil {
			return m, errors.New(name + " is no text")
		}
	}
	if raw, ok := members["Subject"]; ok {
		err = json.Unmarshal(raw, &m.Subject)
	}
	return m, err
}

// signed is what is signed: names and values, each on a line.
func (m *snsMessage) signed() []byte {
	var b strings.Builder
	line := func(name, value string) { b.WriteString(name + "\n" + value + "\n") }
	line("Message", m.Message)
	line("MessageId", m.MessageID)
	if m.Type == snsNotification {
		if m.Subject != nil {
			line("Subject", *m.Subject)
		}
	} else {
		line("SubscribeURL", m.SubscribeURL)
	}
	line("Timestamp", m.Timestamp)
	if m.Type != snsNotification {
		line("Token", m.Token)
	}
	line("TopicArn", m.TopicARN)
	line("Type", m.Type)
	return []byte(b.String())
}

func verifySNS(ctx context.Context, s *Source, r *Request) Verdict {
	if raw := r.Header.Get("x-amz-sns-rawdelivery"); strings.EqualFold(raw, "true") {
		return refused(HeaderMissing, "raw messages are not signed: turn raw message delivery off at the subscription")
	}
	m, err := readSNS(r.Body)
	if err != nil {
		return refused(Malformed, "the body is no message of SNS")
	}
	hash, known := map[string]crypto.Hash{"1": crypto.SHA1, "2": crypto.SHA256}[m.SignatureVersion]
	signature, err := base64.StdEncoding.Strict().DecodeString(m.Signature)
	switch {
	case m.Signature == "":
		return refused(HeaderMissing, "the body holds no Signature")
	case !known || err != nil:
		return refused(Malformed, "the body's Signature or SignatureVersion cannot be one of SNS")
	case !slices.Contains([]string{snsNotification, snsSubscription, snsUnsubscribed}, m.Type):
		return refused(Malformed, "the body's Type is none of SNS")
	case !snsCertificate(m.SigningCertURL):
		return refused(Malformed, "the certificate lies at no host of SNS")
	}
	// Before anything is fetched: fetches are few, all sources share them, and whoever
	// knows a source's URL could have them spent on certificates that are not there.
	if !slices.Contains(snsTopics(s.values), m.TopicARN) {
		return refused(NoSecretMatches, "the message is of the topic %s, which the source's setting topic_arn does not name", setting.Clip(m.TopicARN))
	}
	key, v := s.snsKey(ctx, m.SigningCertURL, r.Received)
	if v.Reason != "" {
		return v
	}
	sum := hash.New()
	sum.Write(m.signed())
	if rsa.VerifyPKCS1v15(key, hash, sum.Sum(nil), signature) != nil {
		return refused(NoSecretMatches, "the signature is not of SNS, or of other content")
	}
	return passed(-1)
}

// snsKey fetches a certificate and returns its key.
func (s *Source) snsKey(ctx context.Context, from string, at time.Time) (*rsa.PublicKey, Verdict) {
	if s.env == nil || s.env.Fetch == nil {
		return nil, refused(Unavailable, "the certificate of SNS cannot be fetched here")
	}
	text, err := s.env.Fetch(ctx, from)
	if err != nil {
		return nil, refused(Unavailable, "the certificate of SNS could not be fetched: %v", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, refused(Unavailable, "what lies at the certificate's URL is no certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, refused(Unavailable, "the certificate of SNS could not be read")
	}
	if at.Before(certificate.NotBefore) || at.After(certificate.NotAfter) {
		return nil, refused(NoSecretMatches, "the certificate is not valid at the time of receiving: its URL is an old one")
	}
	key, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, refused(Unavailable, "the certificate of SNS holds no RSA key")
	}
	return key, Verdict{}
}

// confirmSNS confirms a subscription, which was verified to be of one of the source's
// topics, and tells the end of one.
func confirmSNS(s *Source, r *Request) *Answer {
	m, err := readSNS(r.Body)
	switch {
	case err != nil || m.Type == snsNotification:
		return nil
	case m.Type == snsUnsubscribed || !s.values.Bool("confirm"):
		return answerText(http.StatusOK, "")
	case s.env == nil || s.env.Fetch == nil:
		return answerText(http.StatusServiceUnavailable, "subscriptions cannot be confirmed here\n")
	case !fromSNS(m.SubscribeURL):
		return answerText(http.StatusBadRequest, "SubscribeURL is at no host of SNS\n")
	}
	ctx, done := context.WithTimeout(context.Background(), confirmWithin)
	defer done()
	if _, err := s.env.Fetch(ctx, m.SubscribeURL); err != nil {
		return answerText(http.StatusServiceUnavailable, "the subscription could not be confirmed\n") // SNS asks again
	}
	return answerText(http.StatusOK, "")
}

// fromSNS reports whether a URL is https at a host of SNS, and nothing odd.
func fromSNS(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.User == nil && !strings.Contains(text, "#") && snsHost.MatchString(u.Host)
}

// snsCertificate reports whether a URL is one of SNS's certificates, which lie beside
// its API: a query could make that say anything.
func snsCertificate(text string) bool {
	u, err := url.Parse(text)
	return err == nil && fromSNS(text) && u.RawQuery == "" && !u.ForceQuery && snsCertificatePath.MatchString(u.Path)
}

func snsTopics(v setting.Values) (arns []string) {
	for arn := range strings.SplitSeq(v.Text("topic_arn"), ",") {
		arns = append(arns, strings.TrimSpace(arn))
	}
	return arns
}
