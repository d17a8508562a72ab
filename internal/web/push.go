package web

import (
	"net/http"
	"strings"
)

// where says what a browser can do, in the words of the push demo.
type where struct{ Name, Title, Says string }

var browsers = []where{
	{"chromium", "Chrome, Edge, Opera, Brave; on the desktop", "Yes, while the browser runs, if only in the background. Through Google's or Microsoft's push service; Brave asks for it in its settings."},
	{"firefox", "Firefox; on the desktop", "Yes, while it runs. Through Mozilla's push service, or through this server itself: see below."},
	{"android", "Chrome, Edge, Firefox, Samsung Internet; on Android", "Yes, with the browser closed, too."},
	{"safari", "Safari 16 and later; on the Mac", "Yes, with Safari closed, too. Through Apple's push service."},
	{"ios", "iPhone and iPad, from iOS 16.4; any browser", "Once the page is on the home screen: Share, Add to Home Screen, and open it from there. Not in a tab."},
}

// PushPage serves GET /demo/push: be pushed to, send yourself something, see what arrives.
func (w *Web) PushPage() http.Handler {
	return w.handle(func(rw http.ResponseWriter, r *http.Request) error {
		if !w.Demo {
			return noDemo()
		}
		return w.renderUnder(pushPolicy, rw, http.StatusOK, "push", struct {
			base
			Where []where
		}{newBase(r, "Push demo"), browsers})
	})
}

// pushPolicy lets the page name one script, its service worker, which is run by its URL.
var pushPolicy = strings.Replace(policy, "trusted-types 'none'", "trusted-types hark-worker", 1)
