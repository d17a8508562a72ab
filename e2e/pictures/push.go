package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

// push takes pictures of the push demo, and of a notification that a Firefox shows whose push
// service is Hark.
func push(ctx context.Context, bin, dir, out string) error {
	addr := "127.0.0.1:8080" // that everybody uses, if it is free
	if l, err := net.Listen("tcp", addr); err != nil {
		addr = ""
	} else {
		l.Close()
	}
	s, err := testenv.Start(ctx, bin, testenv.Setup{Verb: "dev", Addr: addr, Data: filepath.Join(dir, "push")})
	if err != nil {
		return err
	}
	defer s.Kill()
	f, err := browser.StartFirefox(ctx,
		`user_pref("dom.push.serverURL", "ws://`+s.Setup.Addr+`/push/");`,
		`user_pref("dom.push.testing.allowInsecureServerURL", true);`,
		`user_pref("dom.push.connection.enabled", true);`,
		`user_pref("permissions.default.desktop-notification", 1);`,
		`user_pref("alerts.useSystemBackend", false);`,
		`user_pref("ui.prefersReducedMotion", 1);`,
		`user_pref("layout.css.devPixelsPerPx", "1.5");`)
	if err != nil {
		return err
	}
	defer f.Close()
	tab, err := f.Open(ctx, s.URL+"/demo/push?user=ada")
	if err != nil {
		return err
	}
	if err := notification(ctx, f, tab, out); err != nil {
		return err
	}
	for theme, pref := range map[string]int{"dark": 0, "light": 1} {
		if err := f.Chrome(ctx, `Services.prefs.setIntPref("layout.css.prefers-color-scheme.content-override", arguments[0]);`, nil, pref); err != nil {
			return err
		}
		for width, size := range map[string][2]int{"wide": {1280, 860}, "narrow": {500, 900}} {
			if err := look(ctx, tab, theme, size); err != nil {
				return err
			}
			picture, err := tab.Picture(ctx)
			if err != nil {
				return err
			}
			if err := keep(filepath.Join(out, "push-"+theme+"-"+width+".png"), picture); err != nil {
				return err
			}
		}
	}
	return nil
}

// notification takes the picture of one, and clicks the other that came.
func notification(ctx context.Context, f *browser.Firefox, tab *browser.FirefoxTab, out string) error {
	if err := arrive(ctx, tab); err != nil {
		return err
	}
	picture, err := f.NotificationPicture(ctx, "Your parcel is here", 3)
	if err != nil {
		return err
	}
	if err := keep(filepath.Join(out, "push-notification.png"), picture); err != nil {
		return err
	}
	if err := f.ClickNotification(ctx, "Ann"); err != nil {
		return err
	}
	return until(ctx, tab, `document.querySelector("#arrivals .clicked")`)
}

// look has the page look as it is to in a picture: in a theme, at a size, at rest.
func look(ctx context.Context, tab *browser.FirefoxTab, theme string, size [2]int) error {
	if err := tab.Look(ctx, size[0], size[1]); err != nil {
		return err
	}
	if err := until(ctx, tab, fmt.Sprintf(`matchMedia("(prefers-color-scheme: %s)").matches && Math.abs(innerWidth - %d) < 2`, theme, size[0])); err != nil {
		return err
	}
	return tab.Eval(ctx, `(document.activeElement.blur(), document.querySelectorAll(".toast").forEach((e) => e.remove()), document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))))`, nil)
}

// arrive enables push and has two messages come.
func arrive(ctx context.Context, tab *browser.FirefoxTab) error {
	if err := until(ctx, tab, `!document.querySelector("#enable").disabled`); err != nil {
		return err
	}
	if err := tab.Eval(ctx, `document.querySelector("#enable").click()`, nil); err != nil {
		return err
	}
	if err := until(ctx, tab, `document.querySelector("#state").dataset.state === "live"`); err != nil {
		return err
	}
	for i, m := range [][2]string{{"Ann", "Lunch at one? Sam comes, too."}, {"Your parcel is here", "It is at the door. Come quickly: it looks like rain."}} {
		err := tab.Eval(ctx, fmt.Sprintf(`(document.querySelector("#title").value = %q, document.querySelector("#body").value = %q, document.querySelector("#send").requestSubmit())`, m[0], m[1]), nil)
		if err != nil {
			return err
		}
		if err := until(ctx, tab, fmt.Sprintf(`document.querySelectorAll("#arrivals .arrived").length === %d && /taken by/.test(document.querySelector("#sent").textContent)`, i+1)); err != nil {
			return err
		}
		if err := until(ctx, tab, fmt.Sprintf(`navigator.serviceWorker.getRegistration().then((r) => r.getNotifications()).then((all) => all.length === %d)`, i+1)); err != nil {
			return err
		}
	}
	return nil
}

func until(ctx context.Context, tab *browser.FirefoxTab, script string) error {
	for {
		var ok bool
		err := tab.Eval(ctx, "(async () => !!(await ("+script+")))()", &ok)
		if err == nil && ok {
			return nil
		}
		if ctx.Err() != nil {
			var text string
			tab.Eval(context.WithoutCancel(ctx), "document.body.innerText", &text)
			return fmt.Errorf("waiting for %s: %v, the page says %s", script, errors.Join(ctx.Err(), err), text)
		}
	}
}

// keep writes a picture in few colours.
func keep(path string, picture []byte) error {
	small, err := fewColors(picture)
	if err != nil {
		return err
	}
	log.Printf("%s: %d kB", filepath.Base(path), len(small)/1000)
	if len(small) > 200_000 {
		return fmt.Errorf("%s is over 200 kB", path)
	}
	return os.WriteFile(path, small, 0o644)
}
