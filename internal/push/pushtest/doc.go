// Package pushtest is FCM and APNs as far as a sender can tell, over HTTP/2 with TLS, for
// tests that must not, and cannot, reach the real ones. The fakes check what they get as the
// real ones do (signatures, claims, headers, sizes, the shape of JSON) and complain of it, and
// keep what they took, so that a test can prove that nothing was lost and what came twice. A
// test decides what they answer, and what happens to a connection in the middle of a burst.
//
//	apns, err := pushtest.StartAPNs(pushtest.APNsConfig{})
//	defer apns.Close()
//	settings := apns.Settings(nil) // of an audience, at "apns"
//	… SSL_CERT_FILE, or egress.Config.RootCAs, must hold apns.CAPEM …
//	apns.Answer(func(n *pushtest.Push) *pushtest.Answer { return pushtest.Reason(410, "Unregistered") })
package pushtest
