// Package push is what an event says to a phone or a sleeping browser, and the table of
// platforms that carry it: Web Push, FCM, APNs.
//
// A [Message] is neutral. [Compose] makes one of an event: data that is a message already
// (an object with "title" or "body"), else the audience's own templates, else the words of
// package message. A [Platform] is one file, one row of the table and one fixture: it checks
// what a device registers with, makes a [Payload] of a message, sends it, and says what came
// of it as one of seven [Outcome]s. It never decides: who retries, deletes or alerts is
// package device.
//
// # From an event to a device
//
//	Sender.Compose   once for an event and a revision of its audience; kept for retries
//	Channel.Prepare  once for each platform and locale that has words of its own
//	Sender.Send      for each device: what is left of the TTL, the gate of its origin, one try
//
// Read compose.go and message.go for what is said, gate.go for when, sender.go for how it
// comes together, webpush.go, fcm.go with fcmmessage.go, and apns.go for the platforms.
//
// # Whose fault
//
// A device is deleted only for what its own push service says of it (404, 410, UNREGISTERED,
// Unregistered, ExpiredToken), never for 5xx, 403 or a transport error. Codes count, not
// texts. Each origin (push service, project, host) of an audience has a breaker and a pace of
// its own, a gate: while it is shut, Send answers RetryAt at once and holds up nobody. With
// new settings each gate begins anew.
//
// Who registers a browser chooses its origin. So an origin that does not take our VAPID
// credential says something about itself alone: it is a ConfigError that is told and holds
// nothing but that origin, and once it has taken the same key, about that one subscription.
//
// # Phones
//
// FCM and APNs take a credential that is made of a key of the owner's. It is one for all who use
// the same key, whatever their audience or revision: Google's access token is fetched once and
// renewed while the old one serves (fcmtoken.go), Apple's provider token may be renewed only
// every 20 minutes and is kept over a restart (apnstoken.go). Their requests go over connections
// that are dialled one at a time and proven first ([egress.Peer]). What follows from an answer
// stands in tables, by status and code; for what is in none, the status alone decides, and then
// no device is gone.
//
// # Bounds
//
// Whatever is kept is bounded: audiences, messages, gates, credentials and what origins have
// proven. When there is too much, something is forgotten that can be made again.
package push
