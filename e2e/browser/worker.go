package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Worker is the service worker of an origin in a Chromium. It is held by this session: the
// browser does not stop it when it is idle.
type Worker struct {
	*Page        // of the worker: only Do, Eval and Until make sense
	of    *Page  // of its origin: what the DevTools protocol tells of workers, it tells a page
	at    string // its origin
}

// Worker returns the service worker of the page's origin, which the page has registered or is
// about to.
func (p *Page) Worker(ctx context.Context) (*Worker, error) {
	w := &Worker{of: p}
	if err := p.Eval(ctx, "location.origin", &w.at); err != nil {
		return nil, err
	}
	if err := p.Do(ctx, "ServiceWorker.enable", nil, nil); err != nil {
		return nil, err
	}
	if err := p.Until(ctx, `navigator.serviceWorker.getRegistration().then((r) => r?.active?.state === "activated")`); err != nil {
		return nil, err
	}
	var all struct {
		TargetInfos []struct{ TargetID, Type, URL string }
	}
	if err := p.b.call(ctx, "", "Target.getTargets", map[string]any{}, &all); err != nil {
		return nil, err
	}
	for _, t := range all.TargetInfos {
		if t.Type != "service_worker" || !strings.HasPrefix(t.URL, w.at+"/") {
			continue
		}
		var session struct{ SessionID string }
		err := p.b.call(ctx, "", "Target.attachToTarget", map[string]any{"targetId": t.TargetID, "flatten": true}, &session)
		w.Page = &Page{b: p.b, session: session.SessionID, target: t.TargetID}
		return w, err
	}
	return nil, fmt.Errorf("the service worker of %s does not run", w.at)
}

// Push has the browser hand the worker a payload, as if its push service had brought it.
func (w *Worker) Push(ctx context.Context, payload string) error {
	for {
		w.of.b.mu.Lock()
		id := w.of.registrations[w.at]
		w.of.b.mu.Unlock()
		if id != "" {
			return w.of.Do(ctx, "ServiceWorker.deliverPushMessage", map[string]any{"origin": w.at, "registrationId": id, "data": payload}, nil)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no service worker of %s: %w", w.at, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// registered takes the event that tells of registrations; the browser's mu is held.
func (p *Page) registered(params json.RawMessage) {
	var e struct {
		Registrations []struct {
			RegistrationID, ScopeURL string
			IsDeleted                bool
		}
	}
	json.Unmarshal(params, &e)
	for _, r := range e.Registrations {
		origin := strings.TrimSuffix(r.ScopeURL, "/")
		if p.registrations == nil {
			p.registrations = map[string]string{}
		}
		p.registrations[origin] = r.RegistrationID
		if r.IsDeleted {
			delete(p.registrations, origin)
		}
	}
}
