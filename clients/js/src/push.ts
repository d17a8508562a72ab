// The page's side of push: leave of the user, and what comes. The rest is the service worker's: worker.ts.
import { where } from "./place.js";
import { ask, type Answer, type Asked, type Device, type PushMessage, type Told } from "./told.js";
import { HarkError } from "./types.js";

export type { Device, PushMessage };

export interface PushOptions {
  /** Where Hark is. Default: where hark.js came from, else the page's origin. */
  url?: string;
  /** A token of the user that stays. */
  token?: string;
  /** Gets a token of the user. */
  getToken?: () => Promise<string | null | undefined> | string | null | undefined;
  /** Where the service worker can fetch a token, as text, with cookies: for when the subscription changes and no page is open. */
  tokenURL?: string;
  /** Whose audience it belongs to. Default "default". */
  app?: string;
  /** What the device wants: topic patterns. Default: all that the token may subscribe to. */
  topics?: string | string[];
  /** Whose it is. With a token it is its user's; this is for keys. */
  user?: string;
  /** BCP 47. Default: the browser's. */
  locale?: string;
  /** What the user calls the device. */
  name?: string;
  /** The worker of the page's own origin, or its registration. Default "/hark-sw.js". */
  serviceWorker?: string | ServiceWorkerRegistration;
  /** The worker's scope. Default: its folder. */
  scope?: string;
  /** Called for each message while the page is open, and for each click that leads to it. True takes it: nothing else is shown, or opened. */
  onMessage?: (message: PushMessage) => unknown;
}

/**
 * - `on`: this browser is registered
 * - `off`: it could be
 * - `denied`: the user does not want it; only they can change that, in the browser's settings
 * - `install`: iOS and iPadOS push to apps on the home screen only
 * - `insecure`: only pages of https and of localhost can have push
 * - `unsupported`: this browser has none
 */
export type PushState = "on" | "off" | "denied" | "install" | "insecure" | "unsupported";

export interface PushInfo {
  state: PushState;
  /** Why, for a person; of on and off there is none. */
  reason?: string;
  /** The device's id, when on. */
  device?: string;
  subscription?: PushSubscription;
}

const reasons = {
  denied: "notifications are blocked: the user can allow them in the browser's settings of this site",
  install: "iPhone and iPad push to pages on the home screen only: Share, Add to Home Screen, open it from there",
  insecure: "push needs https, or localhost",
  unsupported: "this browser has no Web Push, or not in private windows",
};

const fault = (code: string, message: string) => new HarkError(message, undefined, "push-" + code);

/** obstacle says what stands in the way, before anything is tried. */
function obstacle(): keyof typeof reasons | undefined {
  const { navigator: n, isSecureContext, Notification: N, PushManager: P } = globalThis;
  if (typeof document === "undefined") return "unsupported";
  if (!isSecureContext) return "insecure";
  if (n.serviceWorker && P && N) return N.permission === "denied" ? "denied" : undefined;
  const apple = /iP(hone|ad|od)/.test(n.userAgent) || (n.platform === "MacIntel" && n.maxTouchPoints > 1);
  return apple && !matchMedia("(display-mode: standalone)").matches ? "install" : "unsupported";
}

type Worker = ServiceWorkerRegistration;

const script = ({ serviceWorker: w = "/hark-sw.js" }: PushOptions) => w;

/** The registration, as far as there is one. */
async function existing(o: PushOptions): Promise<Worker | undefined> {
  const w = script(o);
  if (w instanceof ServiceWorkerRegistration) return w;
  const scope = new URL(o.scope ?? ".", new URL(w, location.href)).href;
  return (await navigator.serviceWorker.getRegistrations()).find((r) => r.scope === scope);
}

/** registered makes one and waits until its worker runs. */
async function registered(o: PushOptions): Promise<Worker> {
  const w = script(o);
  try {
    const r = w instanceof ServiceWorkerRegistration ? w : await navigator.serviceWorker.register(w, { ...(o.scope && { scope: o.scope }), updateViaCache: "none" });
    const coming = r.installing ?? r.waiting;
    if (!r.active && coming) await new Promise<void>((resolve) => (coming.onstatechange = () => /^a|^r/.test(coming.state) && resolve()));
    return r;
  } catch (e) {
    throw fault("worker", `the service worker ${w} does not start; it must be of the page's own origin: ${(e as Error).message}`);
  }
}

/** tell has the worker do something, and returns what came of it. */
async function tell<T>(r: Worker, what: Asked): Promise<T> {
  const answer = r.active && await ask<Answer<T>>(r.active, what, 30_000);
  if (!answer) throw fault("worker", `the service worker of ${r.scope} does not answer: does it have hark-sw.js in it?`);
  if ("value" in answer) return answer.value;
  const { message, status, code } = answer.error;
  throw new HarkError(message, status, code);
}

let options: PushOptions = {};

const token = async (o: PushOptions) => (o.getToken ? await o.getToken() : o.token) ?? undefined;

async function hear({ data, ports: [port] }: MessageEvent<Told | undefined>): Promise<void> {
  let answer: unknown;
  try {
    if (data?.hark === "message") answer = await options.onMessage?.(data.message) === true;
    else if (data?.hark === "token") answer = await token(options);
    else return;
  } finally {
    port?.postMessage(answer);
  }
}

export const push = {
  /**
   * enable brings this browser to where it is pushed to, and says so to Hark. Call it from a
   * click the first time, as it asks the user; and whenever a page loads after that, as it
   * repairs what broke, and hears what comes. Its errors are HarkErrors: with the code
   * push-denied, push-dismissed, push-install, push-insecure, push-unsupported, push-worker or
   * push-service, or with the server's.
   */
  async enable(given: PushOptions = {}): Promise<{ device: Device; subscription: PushSubscription }> {
    const why = obstacle();
    if (why) throw fault(why, reasons[why]);
    if (Notification.permission !== "granted") { // before all else: a click is soon forgotten
      const said = await Notification.requestPermission();
      if (said === "denied") throw fault("denied", reasons.denied);
      if (said !== "granted") throw fault("dismissed", "the user did not answer");
    }
    options = given;
    const { serviceWorker } = navigator;
    serviceWorker.addEventListener("message", hear); // added twice it is there once
    serviceWorker.startMessages();
    const { app, topics, user, locale = navigator.language, name, tokenURL } = given;
    const r = await registered(given);
    const device = await tell<Device>(r, { hark: "enable", want: {
      url: where(given.url), device: { app, topics: topics === undefined ? topics : [topics].flat(), user, locale, name },
      token: await token(given), tokenURL: tokenURL && new URL(tokenURL, location.href).href,
    } });
    return { device, subscription: (await r.pushManager.getSubscription())! };
  },

  /** disable takes this browser back: call it when the user logs out. True when there was something to take back. */
  async disable(given: PushOptions = options): Promise<boolean> {
    const why = obstacle();
    const r = why && why !== "denied" ? undefined : await existing(given);
    return !!r?.active && tell<boolean>(r, { hark: "disable", token: await token(given) });
  },

  /** state tells how things are. It asks nobody, neither user nor server. */
  async state(given: PushOptions = options): Promise<PushInfo> {
    const why = obstacle();
    if (why) return { state: why, reason: reasons[why] };
    const r = await existing(given);
    const subscription = await r?.pushManager.getSubscription() ?? undefined;
    const device = subscription && await tell<string | undefined>(r!, { hark: "state" }).catch(() => undefined);
    return { state: device && Notification.permission === "granted" ? "on" : "off", device, subscription };
  },
};
