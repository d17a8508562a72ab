// Package destination is the table of destination kinds: how an event is carried to
// a webhook, handed to a worker, later to a chat room or a phone.
//
// A kind is one file, one row of [table] and one fixture in fixtures_test.go. Its
// row describes the settings as [setting.Field]s, and validation, the dashboard's form, CLI
// flags, redaction, the JSON schema and the docs page follow from them. The
// conformance suite ranges over the table, and a kind without a fixture fails.
//
// A kind translates, it never decides: it makes a request of an event and an
// [hark.Outcome] of the answer, and package deliver does the rest. What dials is
// package egress.
//
// # Secrets
//
// A field that is Secret never appears in a [Result], an error or a redacted answer.
// setting.Redacted settings may be sent back: where they say [setting.Redacted], the value that is
// stored stays. Whatever a receiver echoes of them is taken out of the snippet.
//
// # Hot path
//
// What follows from a destination's settings is computed once for each revision and
// kept in a bounded cache; a send adds the headers that change and the signature.
// Header maps are not reused: a receiver that answers early can make net/http read
// them after the call returned.
//
// Read in this order: kind.go, settings.go, sender.go, verdict.go, webhook.go, pull.go.
package destination
