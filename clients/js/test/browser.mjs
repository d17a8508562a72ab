// A browser as far as push goes: one page, its service worker (hark-sw.js as it is built), a push
// service, and a Hark that both talk to. Each part fails on demand, and an account is kept.
import { readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import vm from "node:vm";

const script = readFileSync(new URL("../hark-sw.js", import.meta.url), "utf8");
const origin = "https://app.example";

export const key = () => Buffer.concat([Buffer.from([4]), randomBytes(64)]).toString("base64url");

class Target {
  listeners = {};
  addEventListener = (type, f) => ((this.listeners[type] ??= new Set()).add(f));
  async dispatch(type, event = {}) {
    const waits = [];
    let stopped = false;
    const e = { type, ...event, waitUntil: (p) => waits.push(p), stopImmediatePropagation: () => (stopped = true) };
    for (const f of this.listeners[type] ?? []) {
      f(e);
      if (stopped) break;
    }
    await Promise.all(waits);
  }
}

export class Browser {
  permission = "default"; // what the user said
  says = "granted"; // what they say when asked
  notifications = [];
  tabs = []; // clients of the worker
  opened = [];
  requests = [];
  badges = [];
  stored = new Map();
  subscription = null;
  key = { vapid_key: "k1", public_key: key() };
  tokens = [];
  devices = new Map();
  answer = () => {}; // a Response instead of the usual one
  refuses = null; // what subscribe throws
  userAgent = "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36";

  // fetch is Hark, and the app's own server.
  fetch = async (url, { method = "GET", headers = {}, body, ...rest } = {}) => {
    const { pathname, host, search } = new URL(url);
    const asked = { method, host, path: pathname + search, token: headers.Authorization?.slice(7), body: body && JSON.parse(body), ...rest };
    this.requests.push(asked);
    const special = await this.answer(asked);
    if (special) return special;
    const json = (value, status = 200) => new Response(JSON.stringify(value), { status, headers: { "Content-Type": "application/json" } });
    if (pathname === "/my/token") return new Response("from-the-app\n");
    if (pathname === "/v1/push/key") return json({ app: "default", ...this.key });
    if (method === "POST" && pathname === "/v1/devices") {
      const subscription = JSON.parse(JSON.stringify(asked.body.subscription));
      const { subscription: _, ...rest } = asked.body;
      const id = [...this.devices].find(([, d]) => d.endpoint === subscription.endpoint)?.[0] ?? `dev_${this.devices.size + 1}`;
      this.devices.set(id, { endpoint: subscription.endpoint, ...rest, token: asked.token });
      return json({ id, app: "default", topics: [">"], state: "active", ...rest }, 201);
    }
    if (method === "DELETE" && pathname.startsWith("/v1/devices/")) return new Response(null, { status: this.devices.delete(pathname.slice(12)) ? 204 : 404 });
    if (pathname.startsWith("/v1/push/receipts/")) return new Response(null, { status: 204 });
    return new Response("no such page", { status: 404 });
  };

  subscribe = async ({ applicationServerKey, userVisibleOnly }) => {
    if (this.refuses) throw Object.assign(new Error("refused"), { name: this.refuses });
    if (this.permission !== "granted" || !userVisibleOnly) throw Object.assign(new Error("no"), { name: "NotAllowedError" });
    const endpoint = "https://push.example/" + randomBytes(6).toString("hex");
    const s = { endpoint, options: { applicationServerKey: new Uint8Array(applicationServerKey).buffer }, expirationTime: null,
      toJSON: () => ({ endpoint, expirationTime: null, keys: { p256dh: "p", auth: "a" } }),
      unsubscribe: async () => this.subscription === s && ((this.subscription = null), true) };
    return (this.subscription = s);
  };

  // worker starts the service worker, as browsers do whenever it is needed.
  worker(path = "/hark-sw.js", before = "") {
    const target = new Target();
    const scope = new URL(".", origin + path).href;
    const registration = {
      scope,
      pushManager: { getSubscription: async () => this.subscription, subscribe: this.subscribe },
      showNotification: async (title, options) => {
        if (this.picky?.(options)) throw new TypeError("this browser does not like it");
        this.notifications = this.notifications.filter((n) => !options.tag || n.tag !== options.tag);
        const n = { title, ...structuredClone(options), close: () => (this.notifications = this.notifications.filter((x) => x !== n)) };
        this.notifications.push(n);
      },
    };
    const self = {
      registration, location: new URL(origin + path), navigator: { userAgent: this.userAgent, setAppBadge: async (n) => this.badges.push(n), clearAppBadge: async () => this.badges.push(0) },
      clients: {
        matchAll: async () => [...this.tabs], claim: async () => {},
        openWindow: async (url) => { this.opened.push(url); },
      },
      skipWaiting: () => (this.skipped = true),
      addEventListener: target.addEventListener,
      indexedDB: this.indexedDB(), fetch: this.fetch, MessageChannel, URL, Uint8Array, atob, btoa, setTimeout, clearTimeout, console, Response,
    };
    self.self = self;
    vm.runInNewContext(before + script, self);
    this.running = target;
    return target;
  }

  // A store of values by name, without what nobody here uses of it.
  indexedDB() {
    const ask = (f) => {
      const r = {};
      queueMicrotask(() => {
        try {
          r.result = f();
          r.onupgradeneeded?.();
          r.onsuccess?.();
        } catch (e) {
          r.error = e;
          r.onerror?.();
        }
      });
      return r;
    };
    const objectStore = () => ({
      get: (name) => ask(() => this.stored.get(name)),
      put: (value, name) => ask(() => void this.stored.set(name, structuredClone(value))),
      delete: (name) => ask(() => void this.stored.delete(name)),
    });
    return { open: () => ask(() => {
      if (this.forgetful) throw new Error("not in private windows");
      return { createObjectStore() {}, close() {}, transaction: () => ({ objectStore }) };
    }) };
  }

  push(payload) {
    return this.running.dispatch("push", { data: payload === undefined ? null : { text: () => (typeof payload === "string" ? payload : JSON.stringify(payload)) } });
  }

  click(n, action = "") {
    return this.running.dispatch("notificationclick", { notification: n, action });
  }

  // tab is a page as the worker sees it; hear is what the page does with what it is told.
  tab(url, hear = () => {}, visibilityState = "visible") {
    const t = { url: new URL(url, origin).href, visibilityState, told: [], focused: 0,
      focus: async () => { t.focused++; },
      postMessage: (m, [port] = []) => {
        t.told.push(structuredClone(m));
        return hear(m, port);
      } };
    this.tabs.push(t);
    return t;
  }

  // page makes this process the page: hark.js runs in it.
  page() {
    const target = new Target();
    this.registrations = [];
    const browser = this;
    class ServiceWorkerRegistration {}
    const globals = {
      document: {}, location: new URL(origin + "/shop"), isSecureContext: true, ServiceWorkerRegistration, PushManager: class {},
      Notification: { get permission() { return browser.permission; }, requestPermission: async () => {
        browser.asked = (browser.asked ?? 0) + 1;
        return (browser.permission = browser.says);
      } },
      navigator: {
        language: "de-AT", userAgent: this.userAgent, platform: "Linux", maxTouchPoints: 0,
        serviceWorker: {
          addEventListener: target.addEventListener, startMessages() {},
          getRegistrations: async () => this.registrations,
          register: async (path, options) => {
            if (this.noWorker) throw new TypeError(this.noWorker);
            const running = this.worker(path);
            const r = Object.assign(new ServiceWorkerRegistration(), { scope: options.scope ? new URL(options.scope, origin).href : new URL(".", origin + path).href, pushManager: { getSubscription: async () => this.subscription },
              active: { postMessage: (data, ports) => this.deaf || void running.dispatch("message", { data, ports }) } });
            this.registrations = [r];
            this.registered = { path, ...options };
            return r;
          },
        },
      },
    };
    for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    this.globals = globals;
    return this.tab("/shop", (data, port) => void target.dispatch("message", { data, ports: port ? [port] : [] }));
  }
}
