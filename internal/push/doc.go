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
// # Whose fault
//
// A device is deleted only for what its own push service says of it (404, 410, UNREGISTERED,
// Unregistered, ExpiredToken), never for 5xx, 403 or a transport error. Codes count, not
// texts. Each origin (push service, project, host) has a breaker and a pace of its own:
// while it is open or was told to wait, Send answers RetryAt at once and holds up nobody.
package push
