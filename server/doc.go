// Package server puts the rooms together: it is the composition root. main and
// every end-to-end test make the same [Server] from a [Config], call Run, and
// cancel its context to stop it.
//
// config.go says what can be set, server.go in which order things start and
// stop, routes.go every URL of the program with the scope it needs, http.go what
// happens to every request, metrics.go what operators see.
//
// # Start and stop
//
// New opens the data folder and the listener. Run starts the log, then the
// delivery engine, then answers. A stop goes the other way: readiness turns
// first, requests under way are answered, deliveries under way end or their time
// is up, the log answers who still waits, the folder is closed.
package server
