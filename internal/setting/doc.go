// Package setting describes settings as data: a [Field] says key, type, bounds and
// whether the value is secret, and parsing with all faults at once, redaction, the
// JSON schema, a form and CLI flags follow from a list of fields. Kinds of
// destinations and verification schemes of sources describe themselves with it.
//
// Settings that were shown redacted may be sent back: where they say [Redacted], the
// value that is stored stays. No fault repeats a value: it may be a secret.
package setting
