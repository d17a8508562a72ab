/**
 * The service worker, served at /hark-sw.js: it shows what is pushed, follows clicks, and says
 * where the browser is, when a page asks or its push service moved it. An app that has a worker
 * of its own takes it in with importScripts. Listeners that were there before keep an event that
 * is theirs with stopImmediatePropagation.
 */
import { disable, enable, kept, moved } from "./device.js";
import { link, read, type Carried } from "./note.js";
import { ask, type Answer, type Asked, type PushMessage, type Told } from "./told.js";
import type { HarkError } from "./types.js";

declare const self: ServiceWorkerGlobalScope & { navigator: { setAppBadge?(n: number): Promise<void>; clearAppBadge?(): Promise<void> } };

const scope = () => self.registration.scope;

/** Safari takes the permission away from those who do not show what comes, page or not. */
const mustShow = /^(?!.*(Chrom|Android)).*Safari\//.test(self.navigator.userAgent);

/** The pages of the origin; the one used last is the first. */
const pages = () => self.clients.matchAll({ type: "window", includeUncontrolled: true }).catch(() => []);

async function pushed(payload: string | undefined): Promise<void> {
  const note = read(payload, scope());
  const told: Told = { hark: "message", message: note.message };
  const asked: Promise<unknown>[] = [];
  for (const p of await pages()) {
    if (p.visibilityState === "visible") asked.push(ask(p, told, 500));
    else p.postMessage(told);
  }
  const taken = (await Promise.all(asked)).includes(true) || (note.bare && asked.length > 0);
  if (mustShow || !taken) await show(note.title, note.options);
  if (note.badge !== undefined) await (note.badge ? self.navigator.setAppBadge?.(note.badge) : self.navigator.clearAppBadge?.())?.catch(() => {});
  await receipt(note.options.data.hark, "shown");
}

async function show(title: string, options: NotificationOptions): Promise<void> {
  try {
    await self.registration.showNotification(title, options);
  } catch { // something of it, not this browser
    await self.registration.showNotification(title, { body: options.body, data: options.data });
  }
}

/** receipt says what became of a message, to Hark and to nobody else. */
async function receipt(carried: Carried, what: "shown" | "clicked" | "dismissed"): Promise<void> {
  if (!carried.receipt) return;
  const base = (await kept())?.url ?? self.location.origin;
  const to = link(carried.receipt, base + "/");
  if (!to || new URL(to).origin !== new URL(base).origin || !/\/v1\/push\/receipts\/[^/]+$/.test(new URL(to).pathname)) return; // a sender may lie
  // A body that needs no leave to be sent to another origin.
  await fetch(to, { method: "POST", mode: "no-cors", credentials: "omit", keepalive: true, body: JSON.stringify({ what }) }).catch(() => {});
}

/** Receipts of what was clicked: Firefox says of that that it was closed, too. */
const followed = new Set<string>();

async function clicked(notification: Notification, action: string): Promise<void> {
  const carried: Carried | undefined = notification.data?.hark;
  if (!carried) return; // the app's own
  if (carried.receipt) followed.add(carried.receipt);
  notification.close();
  const to = Object.entries(carried.links).find(([name]) => name === action)?.[1] ?? carried.message.link;
  await Promise.all([follow(to, { ...carried.message, link: to, clicked: action }).catch(() => {}), receipt(carried, "clicked")]);
}

/** follow brings the page that a click leads to before the user's eyes. */
async function follow(to: string | undefined, message: PushMessage): Promise<void> {
  const told: Told = { hark: "message", message };
  const bare = (url: string) => url.replace(/#.*/, "");
  if (!to || new URL(to).origin === self.location.origin) {
    const all = await pages();
    const there = to ? all.find((p) => bare(p.url) === bare(to)) : all[0];
    // Browsers let a click open something for about a second: a page must answer soon.
    const page = there ?? (all[0] && await ask(all[0], told, 300) === true ? all[0] : undefined);
    if (page) {
      if (page === there) page.postMessage(told);
      try {
        await page.focus();
        return;
      } catch {
        // It went away.
      }
    }
  }
  await self.clients.openWindow(to ?? scope());
}

/** token gets one from where the app says, else of a page that is open. */
async function token(from: string | undefined): Promise<string | undefined> {
  const answer = from && await fetch(from, { credentials: "include", cache: "no-store" });
  if (answer && answer.ok) return (await answer.text()).trim();
  for (const p of await pages()) {
    const got = await ask(p, { hark: "token" }, 2000);
    if (typeof got === "string" && got) return got;
  }
  return undefined;
}

async function answer(asked: Asked): Promise<Answer<unknown>> {
  try {
    return { value: await (asked.hark === "enable" ? enable(asked.want) : asked.hark === "disable" ? disable(asked.token) : kept().then((k) => k?.id)) };
  } catch (e) {
    const { message, code, status } = e as HarkError;
    return { error: { message, code, status } };
  }
}

self.addEventListener("push", (e) => {
  let payload: string | undefined;
  try {
    payload = e.data?.text();
  } catch {
    // Then there is none.
  }
  e.waitUntil(pushed(payload));
});
self.addEventListener("notificationclick", (e) => e.waitUntil(clicked(e.notification, e.action)));
self.addEventListener("notificationclose", (e) => {
  const carried: Carried | undefined = e.notification.data?.hark;
  if (carried && !followed.delete(carried.receipt!)) e.waitUntil(receipt(carried, "dismissed"));
});
self.addEventListener("pushsubscriptionchange", (e) => {
  const { newSubscription } = e as unknown as { newSubscription?: PushSubscription | null };
  (e as ExtendableEvent).waitUntil(moved(newSubscription, token));
});
self.addEventListener("message", (e) => {
  const [port] = e.ports;
  if (port && /^(enable|disable|state)$/.test(e.data?.hark)) e.waitUntil(answer(e.data).then((a) => port.postMessage(a)));
});

// Alone, a new version takes over at once. In an app's own worker that is the app's to decide.
if (/\/hark-sw\.js$/.test(self.location.pathname)) {
  self.addEventListener("install", () => void self.skipWaiting());
  self.addEventListener("activate", (e) => e.waitUntil(self.clients.claim()));
}
