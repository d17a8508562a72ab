package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

// The service worker in a real Chromium. Its push service is Google's and cannot be another, so
// the browser is told by the DevTools protocol that something came; all that follows is real.

// notice is a notification as the browser holds it.
type notice struct {
	Title, Body, Tag, Icon string
	Actions                []struct{ Action, Title string }
}

// pushPage is the demo with its service worker running. Chromium has no push service here, so
// subscribing does not get anywhere.
func pushPage(t *testing.T) (*world, *tab, *browser.Worker) {
	t.Helper()
	setup(t)
	w := start(t, testenv.Setup{Verb: "dev"})
	p := visit(t, wideView, w.server.URL+"/docs")
	p.must(p.page.Allow(p.ctx, "notifications", "clipboardReadWrite", "clipboardSanitizedWrite"))
	p.open(w.server.URL + "/demo/push?user=ada")
	p.says("#state", "off")
	p.click("#enable")
	worker, err := p.page.Worker(p.ctx)
	p.must(err)
	// To ask for notifications while one is being shown makes Chromium forget it.
	p.must(worker.Eval(p.ctx, `{
		const { prototype } = ServiceWorkerRegistration, { showNotification } = prototype;
		self.shown = 0;
		prototype.showNotification = function (...note) { return showNotification.apply(this, note).finally(() => self.shown++); };
	}`, nil))
	return w, p, worker
}

// pushed hands the worker a payload, waits until it has shown so many in all, and returns those
// that are to be seen now.
func pushed(p *tab, worker *browser.Worker, payload string, shown int) (all []notice) {
	p.Helper()
	p.must(worker.Push(p.ctx, payload))
	p.must(worker.Until(p.ctx, fmt.Sprintf("self.shown === %d", shown)))
	p.must(worker.Eval(p.ctx, `registration.getNotifications().then((all) => all.map(({title, body, tag, icon, actions}) => ({title, body, tag, icon, actions})))`, &all))
	return all
}

func TestPushChromium(t *testing.T) {
	t.Parallel()
	w, p, worker := pushPage(t)

	// A message, with all that it can have.
	got := pushed(p, worker, `{"web_push":8030,"notification":{"title":"Ann","body":"<b>hi</b>","navigate":"/demo/push#chat","lang":"de-AT","tag":"chat","icon":"/assets/x.png",
		"actions":[{"action":"reply","title":"Reply","navigate":"/demo/push#reply"},{"action":"evil","title":"Evil","navigate":"javascript:alert(1)"}]},
		"hark":{"event":"evt_1","topic":"demo.push.ada","data":{"n":1}}}`, 1)
	if len(got) != 1 || got[0].Title != "Ann" || got[0].Body != "<b>hi</b>" || got[0].Tag != "chat" || len(got[0].Actions) != 2 || !strings.HasPrefix(got[0].Icon, w.server.URL+"/assets/") {
		t.Errorf("shown: %+v", got)
	}
	p.says("#arrivals li:first-child", "Ann") // and the page was told
	p.says("#arrivals li:first-child", "<b>hi</b>")

	// The next one of the same name takes its place; others stand beside it, whatever they are.
	if got = pushed(p, worker, `{"web_push":8030,"notification":{"title":"Ann","body":"again","tag":"chat"}}`, 2); len(got) != 1 || got[0].Body != "again" {
		t.Errorf("shown: %+v", got)
	}
	for i, payload := range []string{"just a text", `{"notification":{"title":"From elsewhere"}}`, `{"title":"` + strings.Repeat("long ", 1000) + `"}`, "{", `{"__proto__":1,"title":"<img src=x onerror=alert(1)>"}`} {
		if got = pushed(p, worker, payload, 3+i); len(got) != 2+i {
			t.Errorf("after %.40s there are %+v", payload, got)
		}
	}

	// Nothing to show, and a page that is in view: nothing is shown. With no page, something is.
	p.must(worker.Push(p.ctx, `{"web_push":8030,"hark":{"data":{"silent":true}}}`))
	p.until(`document.querySelectorAll("#arrivals li").length === 8`)
	p.open("about:blank")
	if got = pushed(p, worker, "", 8); len(got) != 7 || !slices.ContainsFunc(got, func(n notice) bool { return n.Body == "You have a new message" }) {
		t.Errorf("with no page open: %+v", got)
	}
	p.open(w.server.URL + "/demo/push")
	p.says("#arrivals", "You have a new message")

	// A click, as far as a script can do it, which opens nothing: the notification goes, and the
	// page at the link is told.
	p.click("#enable")
	pushed(p, worker, `{"web_push":8030,"notification":{"title":"Click me","navigate":"/demo/push","actions":[{"action":"mute","title":"Mute"}]},"hark":{"event":"evt_2"}}`, 9)
	p.must(worker.Eval(p.ctx, `registration.getNotifications().then((all) => {
		onerror = () => true; // waitUntil is for events of the browser only
		dispatchEvent(new NotificationEvent("notificationclick", { notification: all.find((n) => n.title === "Click me"), action: "mute" }));
	})`, nil))
	p.says("#arrivals .clicked", "Click me")
	p.must(worker.Until(p.ctx, `registration.getNotifications().then((all) => all.length === 7)`))
	if said := p.page.Said(); len(said) > 0 {
		t.Errorf("the page complains: %q", said)
	}
}
