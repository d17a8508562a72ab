package scheme

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

const (
	discordSignature = "X-Signature-Ed25519"
	discordTimestamp = "X-Signature-Timestamp"
)

// discord: Ed25519 over the timestamp and the raw body, hex, with the application's
// public key. A PING, signed as well, is answered: type 1 of interactions with a PONG,
// type 0 of webhook events with 204
// (discord.com/developers/docs/interactions/overview, "Setting up an endpoint", and
// …/docs/events/webhook-events). The tolerance is ours; Discord names none.
var discord = Scheme{
	Name: "discord", Title: "Discord", Secrets: PublicKey, Topic: "discord.request",
	Help: "Interactions (slash commands, buttons) and webhook events of an application. " +
		"An interaction must be answered within three seconds with what the user shall see: set the source's response, " +
		"such as {\"type\":5} with content type application/json, and send the rest later. " +
		"For webhook events set the topic to discord.{body.event.type}.",
	SecretHelp: "the Public Key of the application: Developer Portal → General Information",
	Setup: []string{
		"Give the source the application's public key first: Discord checks the URL at once",
		"Developer Portal → your application → General Information → Interactions Endpoint URL: {url}",
		"or → Webhooks → Endpoint URL: {url}",
	},
	Fields: []setting.Field{toleranceField("5m")},
	checkSecret: func(secret string) string {
		if key, err := hex.DecodeString(secret); err != nil || len(key) != ed25519.PublicKeySize {
			return "must be the application's public key: 64 hex digits"
		}
		return ""
	},
	verify: verifyDiscord,
	challenge: func(_ *Source, r *Request) *Answer {
		kind, _ := bodyMember(r.Body, "type")
		_, isEvents := bodyMember(r.Body, "event.type")
		switch {
		case kind == "1" && !isEvents:
			return answerJSON(map[string]int{"type": 1})
		case kind == "0":
			return &Answer{Status: http.StatusNoContent}
		}
		return nil
	},
	deliveryID: idInBody("id"),
}

func verifyDiscord(_ context.Context, s *Source, r *Request) Verdict {
	text, v := s.needed(r, discordSignature)
	if v.Reason != "" {
		return v
	}
	stamp, v := s.needed(r, discordTimestamp)
	if v.Reason != "" {
		return v
	}
	signature, err := hex.DecodeString(text)
	if err != nil || len(signature) != ed25519.SignatureSize || text != hex.EncodeToString(signature) {
		return refused(Malformed, "%s is not %d hex digits", discordSignature, 2*ed25519.SignatureSize)
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || len(stamp) > maxTimeDigits {
		return refused(Malformed, "%s holds no time (seconds since 1970)", discordTimestamp)
	}
	if v := withinTolerance(time.Unix(seconds, 0), r.Received, s.values.Duration("tolerance"), false); v.Reason != "" {
		return v
	}
	message := append([]byte(stamp), r.Body...)
	for i, secret := range s.live(r.Received) {
		if key, err := hex.DecodeString(secret); err == nil && len(key) == ed25519.PublicKeySize && ed25519.Verify(key, message, signature) {
			return passed(i)
		}
	}
	return refused(NoSecretMatches, "the signature is of another application or of other content: compare the public key at Discord with the source's")
}
