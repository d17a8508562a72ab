// Package e2e tests the built hark binary from outside: it starts the program,
// speaks HTTP, kills it, and judges what receivers saw. It imports nothing of
// the server.
//
// Read env_test.go first: what a scenario is written with. Then each file is
// one promise:
//
//	crash_test.go      kill -9 at random moments loses nothing
//	receivers_test.go  the official standardwebhooks libraries accept what we send
//	input_test.go      bad input is told what is wrong, and leaves nothing behind
//	slow_test.go       slow and flooding clients are ended
//	page_test.go       a hostile page in a real browser cannot touch hark dev
//	js_test.go         the JavaScript client in Chromium and Firefox: tabs, reloads, networks
//	stop_test.go       stop, backup, restore, lock, a gap that is told
//	newcomer_test.go   the README's own commands
//
// A test that cannot run fails; none is skipped.
package e2e
