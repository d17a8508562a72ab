// Package registry holds what owners configure: tenants, destinations, API keys,
// sources, request bins among them, and of tokens for users the keys that sign them and
// the revocations that end them. All of it is in memory, every change goes through
// the store's one door before anyone sees it, and watchers hear of changes in the
// order in which they were committed.
//
// # What readers get
//
// A *[hark.Destination], *[hark.Source], *[Tenant] or *[Key] handed out is a snapshot
// that nobody changes any more: a change makes a new one and swaps the pointer. Keep
// it, share it, compare its Revision; never write to it.
//
// # Ids
//
// Ids of destinations, sources and keys are milliseconds since 1970 shifted left by 20, plus
// a counter: later ones are larger. The largest id ever given is a row of its own,
// written in the same commit as each creation, so that an id is never used twice,
// whatever was deleted and wherever the clock went.
//
// # On disk
//
// One row for each thing, versioned JSON, see value.go:
//
//	tenant       store.NounTenant       tenant, id = tenant
//	             store.NounTenant       tenant 0, id 0: the largest ids ever given
//	destination  store.NounDestination  tenant, id
//	key          store.NounKey          tenant, id
//	source       store.NounSource       tenant, id; the token is in the value
//	token key    store.NounTokenKey     tenant, id; the secret is in the value
//	revocation   store.NounRevocation   tenant, id
//
// # Locks
//
// Registry.write is held through one change: check, commit to the store, swap,
// watchers, done. Registry.mu guards the maps and is held for look-ups and for the
// swap only, never during the commit. Order: write, then whatever an [Attach] or a
// watcher locks, then mu. So an Attach function or a watcher may read the registry
// but must not change it, and nobody may call a changing method while holding a lock
// that an Attach function or a watcher takes.
//
// Read in this order: registry.go, destination.go, check.go, tenant.go, key.go,
// source.go, sourcecheck.go, token.go, value.go.
package registry
