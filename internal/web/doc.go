// Package web serves the pages that people look at: /bins and /bins/{id}, the first
// piece of the dashboard, and the demos /demo/chat and /demo/push, which are clients of
// the API like any other and have no data of their own. Pages are rendered here, with html/template; what makes them
// live is one small script. Nothing is built, and nothing is loaded from elsewhere.
//
// # What a page is
//
//	GET  /bins                        how to make a bin; in hark dev, a button that makes one
//	POST /bins                        makes one (hark dev only) and goes to its page
//	GET  /bins/{id}                   list and newest request; ?q= searches, ?before= pages
//	GET  /bins/{id}?view=…            takes the bin's capability into a cookie, goes to the clean URL
//	GET  /bins/{id}/{request}         list and that request; ?tab= and ?as= choose what is shown
//	GET  /bins/{id}/{request}/body    the body as a download, never as a page
//	GET  /demo/chat                   a chat room over any live transport; ?room= names it
//	GET  /demo/push                   be pushed to, send yourself something, see what arrives
//	GET  /assets/{digest}/{name}      style and script, under a digest of them, kept for ever
//
// Reading needs no script: the list, every tab and every form of a body is a link. With
// script the same pages are fetched in parts (?part=list, ?part=detail) and their nodes
// moved into place, so that there is one place where a request becomes HTML: the
// templates. The live stream of a bin is only a bell that says "look again from the
// newest you have", so nothing is lost over a reconnect and a search stays live.
//
// # Everything captured is hostile
//
// Captured text reaches a page through html/template only. The script sets text, never
// markup: the policy demands Trusted Types and defines none, so that a browser refuses
// innerHTML and its like; no inline script, style or foreign origin is allowed either.
// The push demo alone has one type, for the URL of its service worker.
// Bodies are downloads with a sandbox of their own. What is shown of a body is bounded:
// formatting never makes more than maxShown bytes, whatever the nesting.
//
// # Who may look
//
// Whoever shows the bin's View capability, or has a credential that manages its tenant
// (in hark dev the person at this machine). The capability comes once in the URL and is
// then a cookie: HttpOnly, SameSite=Strict, for that bin's paths only, Secure when the
// public URL is https. Who comes by it may look only: what changes a bin is not on
// their page, and the API refuses it. An unknown bin and a forbidden one answer alike.
//
// # The look
//
// assets/hark.css is the design system: custom properties for colour (light, dark),
// spacing and type; then one block per component. Pages use its classes and have no
// style of their own. Colours keep WCAG AA contrast, every control has a visible focus,
// and motion stops for those who ask for less.
//
// Read in this order: web.go, bin.go, view.go, body.go, chat.go, push.go, templates, assets.
package web
