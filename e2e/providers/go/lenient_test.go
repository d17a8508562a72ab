package providers

import (
	"bytes"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/harkhq/hark/internal/scheme"
)

// Some changes of a byte change nothing for a library that reads hex, base64, a form or a URL by
// its value. Hark refuses those, too, except in a form, where all read values.

// inAnyCase: hex is decoded.
func inAnyCase(header string) func(was, is *scheme.Request) bool {
	return func(was, is *scheme.Request) bool {
		return bytes.Equal(was.Body, is.Body) && strings.EqualFold(was.Header.Get(header), is.Header.Get(header))
	}
}

// onlyIn: the libraries of SendGrid read base64 and ASN.1 each in its own loose way (what
// is no base64, lengths, bytes after the end), so how a signature is written is judged by Hark alone.
func onlyIn(header string) func(was, is *scheme.Request) bool {
	return func(was, is *scheme.Request) bool { return was.Header.Get(header) != is.Header.Get(header) }
}

// sameStripe: Stripe's library for Node reads the time up to what is no digit.
func sameStripe(was, is *scheme.Request) bool {
	at, signature := stripeEntries(was)
	again, changed := stripeEntries(is)
	return bytes.Equal(was.Body, is.Body) && at == again && signature == changed
}

func stripeEntries(r *scheme.Request) (at, signature string) {
	for entry := range strings.SplitSeq(r.Header.Get("Stripe-Signature"), ",") {
		pair := append(strings.Split(entry, "="), "")
		switch pair[0] {
		case "t":
			text := strings.TrimLeft(strings.TrimSpace(pair[1]), "+0")
			at = text[:len(text)-len(strings.TrimLeft(text, "0123456789"))]
		case "v1":
			signature = pair[1]
		}
	}
	return at, signature
}

// sameNumber: a time is read as a number, "+1700000000" and in JavaScript "1700000000." or 17e8, too.
func sameNumber(header string) func(was, is *scheme.Request) bool {
	return func(was, is *scheme.Request) bool {
		x, err1 := strconv.ParseFloat(was.Header.Get(header), 64)
		y, err2 := strconv.ParseFloat(strings.TrimRight(strings.TrimSpace(is.Header.Get(header)), ".n"), 64)
		return bytes.Equal(was.Body, is.Body) && err1 == nil && err2 == nil && x == y && was.Header.Get(header) != is.Header.Get(header)
	}
}

// sameTwilio: fields are signed as they read, and the libraries put URLs in their usual form.
func sameTwilio(was, is *scheme.Request) bool {
	return was.Header.Get("X-Twilio-Signature") == is.Header.Get("X-Twilio-Signature") &&
		sameForm(was, is) && usualURL(was.URL) == usualURL(is.URL)
}

func sameForm(was, is *scheme.Request) bool {
	if bytes.Equal(was.Body, is.Body) {
		return true
	}
	return isForm(was) && formText(was.Body) == formText(is.Body)
}

func isForm(r *scheme.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
}

func formText(body []byte) string {
	form, _ := url.ParseQuery(string(body))
	text := ""
	for _, name := range slices.Sorted(maps.Keys(form)) {
		slices.Sort(form[name])
		for _, value := range slices.Compact(form[name]) {
			text += name + value
		}
	}
	return text
}

// usualURL is a URL as browsers and Node write it, more or less.
func usualURL(text string) string {
	text = strings.Map(func(r rune) rune {
		switch r {
		case '\t', '\n', '\r':
			return -1
		case '\\':
			return '/'
		}
		return r
	}, strings.TrimFunc(text, func(r rune) bool { return r <= ' ' }))
	name, rest, _ := strings.Cut(text, ":")
	u, err := url.Parse(name + "://" + strings.TrimLeft(rest, "/"))
	if err != nil {
		return text
	}
	u.Host = strings.ToLower(u.Host)
	if u.Port() == "443" || u.Port() == "" {
		u.Host = u.Hostname()
	}
	return u.String()
}
