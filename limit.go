package hark

import "time"

// Limits on what a stranger can send. Those that an operator may change are the
// defaults; the others are part of the contract.
const (
	MaxTopicBytes  = 255
	MaxTopicTokens = 16

	// MaxEventBytes is the default largest event: data, key, attributes and content type together.
	MaxEventBytes = 1 << 20
	// MaxAttributesBytes bounds the attribute map: names and values together.
	MaxAttributesBytes = 32 << 10
	// MaxAttributes bounds how many there are.
	MaxAttributes    = 256
	MaxKeyBytes      = 255
	MaxContentType   = 255
	MaxBatchEvents   = 1000
	MaxBatchBytes    = 8 << 20
	MaxPatterns      = 64 // topic patterns of one destination, key or query
	MaxIdempotency   = 255
	MaxNameBytes     = 255
	MaxUIDBytes      = 255
	MaxSettingsBytes = 64 << 10
	MaxPageSize      = 1000
)

// Windows and defaults of the delivery promise (DESIGN: engine).
const (
	// PublishIdempotencyWindow is how long a publisher's Idempotency-Key is remembered.
	PublishIdempotencyWindow = 24 * time.Hour
	// RotationOverlap is how long a rotated secret still signs beside its successor.
	RotationOverlap = 24 * time.Hour
	// DisableAfter is how long a destination may fail without one success before it is disabled.
	DisableAfter = 5 * 24 * time.Hour
	// MaxHold is how long retention waits for the slowest cursor.
	MaxHold = 72 * time.Hour

	// DefaultExceptions is W: deliveries of one destination in flight or waiting for a retry.
	DefaultExceptions = 1000
	// DefaultLeased is W of a pull destination.
	DefaultLeased = 20000
	// DefaultMaxDeliveries is how often a pull destination hands out one event before it is dead.
	DefaultMaxDeliveries = 10
	// DefaultLease is how long a pulled delivery belongs to its worker.
	DefaultLease = 30 * time.Second
	// MaxLease bounds a lease or its extension.
	MaxLease = 12 * time.Hour
	// DefaultAttemptTimeout bounds one attempt, from dial to the last byte of the answer.
	DefaultAttemptTimeout = 20 * time.Second
	// SnippetBytes is how much of an answer an attempt keeps.
	SnippetBytes = 1 << 10
)

// DefaultSchedule is the wait before each attempt: the first at once, then as
// Standard Webhooks 1.0.0 advises (75 h 35 min 5 s in all). Jitter is added when
// it is applied.
var DefaultSchedule = []time.Duration{
	0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
	5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}
