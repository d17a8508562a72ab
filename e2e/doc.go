// Package e2e tests the built hark binary from outside: it starts the program,
// speaks HTTP, kills it, and judges what receivers saw. It imports nothing of
// the server but the cryptography of package webpush, as a receiver.
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
//	js_node_test.go    and in Node, over every transport
//	stop_test.go       stop, backup, restore, lock, a gap that is told
//	newcomer_test.go   the README's own commands
//	push_service_test.go  the push service: npm's web-push, Node's HTTP/2 by RFC 8030, kill -9
//	webpush_node_test.go  npm's web-push and http_ece read what package webpush seals, and the reverse
//
// Those of the live transports are listened to by followers with code of their
// own (package live); live_env_test.go is what they are written with:
//
//	live_crash_test.go         kill -9 in the middle of a fan-out, resumed over any transport
//	live_gap_test.go           gaps are told everywhere, and none is false
//	live_backlog_test.go       a million events; 50,000 missed in one resume
//	live_stall_test.go         readers that stop reading cost nobody anything
//	live_path_test.go          networks that cut, trickle and hold back
//	live_stop_test.go          a rolling restart is spread, and boring
//	live_token_test.go         tokens: expiry, revocation, reach, forgeries
//	live_abuse_test.go         bad requests, bad sockets
//	live_refusal_test.go       no room, too slow: told and counted, as is every refusal
//	live_socket_test.go        what the frames of a WebSocket may say, silent peers
//	live_socket_abuse_test.go  what is done to WebSockets
//	live_unmodified_test.go    curl, npm eventsource, Chromium, Firefox
//	live_model_test.go         all of it at random
//
// A test that cannot run fails; none is skipped.
package e2e
