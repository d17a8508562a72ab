// Package pushservice is a push service as browsers and apps connect to one: RFC 8030 for who
// sends, the autopush WebSocket protocol (of Firefox, Sunup and KUnifiedPush) or RFC 8030 for
// who receives. It has a range of the store and quotas of its own, and knows no tenant: all who
// come are strangers, and what they hold are secrets.
//
// # Words
//
// A user agent is a browser, or an app that receives for others. What it shows when it comes
// back (the protocol's uaid, or the URL of a subscription set) is its secret. It makes
// subscriptions, each named by a channel (a UUID), each with an endpoint, to which anyone who
// has the URL may send, or only who holds a VAPID key. A message waits for its user agent until
// it is acknowledged, replaced by another one of its topic, withdrawn, or its TTL is over.
//
// # Secrets
//
// The secret of a user agent is 256 random bits. Endpoints are made of it, by HMAC: two
// endpoints of one user agent have nothing in common for anyone else, and a user agent that
// subscribes a channel twice gets the same endpoint. The store has hashes only: who reads it
// can neither send nor receive. The ids of messages are a message's place in the store,
// enciphered as one block; senders and user agents see different ones, so that a sender can
// withdraw a message and cannot acknowledge it.
//
// # What is promised
//
// What is answered with 201 or 202 was synced, and so was what a subscription's answer tells,
// and an acknowledgment by DELETE. A message is delivered at least once before its TTL is over,
// if its user agent comes, and again after every reconnect until it is acknowledged; its
// version stays the same. Acknowledgments over a WebSocket are not answered, and are synced
// within a second: after a crash, messages of that second may come again. A message that was
// replaced is not sent any more once its successor is acknowledged to the sender. A message
// with TTL 0 goes to who is connected and is not stored. Which user agents there are is never
// forgotten while they come at least every half year: a browser that is given another secret
// drops all its subscriptions.
//
// # Bounds
//
// See [Limits]: new user agents and subscriptions for each address (an IPv6 address counts as
// its /64), connections, messages and bytes waiting for each subscription and in all, messages
// a second to each subscription. To each user agent only a window of messages is on its way;
// the next are read when these are acknowledged. Who is connected costs a connection and a few
// hundred bytes, whatever waits for it.
//
// # On disk
//
// Tables 68 to 6f, see store/pushservice.go. Messages stand by user agent in the order in which
// they came. A second index has them by the minute in which they expire, and the sweep takes a
// minute's as one range, so nothing is scanned twice; a user agent's messages are read from a
// floor below which there are none.
//
// # Reading the source
//
// service.go, agent.go (a user agent in memory), subscribe.go, message.go (accept, replace,
// acknowledge), outlet.go (what is on its way), sweep.go; then the doors: send.go (senders),
// websocket.go and frame.go (autopush), receive.go and receipt.go (RFC 8030).
//
// Lock order: agent.mu → Service.mu. agent.mu is held across the commit of a change to that
// user agent, so that what is in memory is what is synced; nobody else waits for it.
package pushservice
