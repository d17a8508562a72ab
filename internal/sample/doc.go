// Package sample holds realistic requests of every provider that a source can
// verify, for hark trigger and for tests: method, headers and body as the provider
// sends them, with ids and times that are new each time.
//
// A sample is one file of requests/ and one row of [table]. The file is a request:
// method and, perhaps, a query; header lines; an empty line; the body. It is a
// text/template with the functions of values, so that an id stands at several places
// and is the same. People, shops and repositories in it are invented. The signature is
// not in the file: [scheme.Source.Sign] adds it, and the tests hold that every scheme
// which can sign has a sample and verifies it.
//
// The package does no I/O beside what is compiled in, and takes the time from its caller.
package sample
