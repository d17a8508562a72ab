// The browser as a device: a subscription of its push service, and the server's knowledge of it.
// It runs in the service worker. What it must know after a restart is in IndexedDB: workers have
// no localStorage, and many apps empty all caches on an update.
import { judge } from "./fault.js";
import type { Device, Want } from "./told.js";
import { HarkError } from "./types.js";

declare const self: ServiceWorkerGlobalScope;

interface Kept extends Want {
  /** The device's id. */
  id: string;
  /** The server's public key that the subscription is bound to, and that key's id. */
  publicKey: string;
  vapidKey: string;
}

const name = () => self.registration.scope;

async function store<T>(mode: IDBTransactionMode, use: (s: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const done = <R>(asked: IDBRequest<R>) => new Promise<R>((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  const opening = indexedDB.open("hark", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("push");
  const db = await done(opening);
  try {
    return await done(use(db.transaction("push", mode).objectStore("push")));
  } finally {
    db.close();
  }
}

/** kept returns what is known of this device. */
export const kept = () =>
  store<Kept | undefined>("readonly", (s) => s.get(name())).catch(() => undefined); // some private windows keep nothing

const keep = (k?: Kept) =>
  store("readwrite", (s) => (k ? s.put(k, name()) : s.delete(name())) as IDBRequest<unknown>).catch(() => {});

async function request(url: string, method: string, path: string, token?: string, body?: unknown): Promise<Response> {
  const answer = await fetch(url + path, {
    method,
    headers: { ...(token && { Authorization: "Bearer " + token }), ...(body !== undefined && { "Content-Type": "application/json" }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
    cache: "no-store",
  }).catch((e: Error) => {
    throw new HarkError(`${url} cannot be reached: ${e.message}`);
  });
  if (!answer.ok) throw await judge(answer);
  return answer;
}

const base64url = (bytes: ArrayBuffer) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const bytes = (text: string) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));

/** A subscription that is bound to a key: the one there is, or else another one. */
async function subscribed(publicKey: string): Promise<PushSubscription> {
  const { pushManager } = self.registration;
  let s = await pushManager.getSubscription();
  const bound = s?.options.applicationServerKey;
  if (s && (!bound || base64url(bound) !== publicKey || (s.expirationTime && s.expirationTime < Date.now()))) {
    await s.unsubscribe();
    s = null;
  }
  try {
    return s ?? await Promise.race([
      pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(publicKey) }),
      // Without a network Chromium waits for ever.
      new Promise<never>((_, reject) => setTimeout(reject, 20_000, new Error("no answer"))),
    ]);
  } catch (e) {
    const { name, message } = e as Error;
    if (name === "NotAllowedError") throw new HarkError("the user does not want notifications", undefined, "push-denied");
    throw new HarkError(`the browser's push service cannot be reached, or refuses: ${message}`, undefined, "push-service");
  }
}

/** register tells Hark where the browser is, keeps that, and takes back where it was before. */
async function register(k: Omit<Kept, "id">, subscription: PushSubscription, token: string | undefined, before: string | undefined): Promise<Device> {
  const body = { kind: "webpush", ...k.device, subscription, vapid_key: k.vapidKey };
  const device = await (await request(k.url, "POST", "/v1/devices", token, body)).json() as Device;
  await keep({ ...k, id: device.id });
  // It is dead, and a push would find that out in the end.
  if (before && before !== device.id) await request(k.url, "DELETE", "/v1/devices/" + before, token).catch(() => {});
  return device;
}

/** enable subscribes with the server's present key and registers. */
export async function enable(want: Want): Promise<Device> {
  const { url, device: { app }, token } = want;
  const query = app ? "?app=" + encodeURIComponent(app) : "";
  const key = await (await request(url, "GET", "/v1/push/key" + query, token)).json() as { vapid_key: string; public_key: string };
  const before = await kept();
  const subscription = await subscribed(key.public_key);
  const k = { ...want, token: token?.startsWith("hk_") ? undefined : token, publicKey: key.public_key, vapidKey: key.vapid_key }; // a key is not for keeping here
  return register(k, subscription, token, before?.url === url ? before.id : undefined);
}

/** disable takes it all back, and tells whether there was something. */
export async function disable(token?: string): Promise<boolean> {
  const [k, s] = [await kept(), await self.registration.pushManager.getSubscription()];
  // Where the server says no, its next push will find that nobody is there.
  if (k) await request(k.url, "DELETE", "/v1/devices/" + k.id, token ?? k.token).catch(() => {});
  await keep();
  return !!await s?.unsubscribe() || !!k;
}

/** moved says where the browser is now that its push service moved it. */
export async function moved(given: PushSubscription | null | undefined, token: (url?: string) => Promise<string | undefined>): Promise<void> {
  const k = await kept();
  if (!k) return;
  for (let failures = 0; ; failures++) {
    try {
      await register(k, given ?? await subscribed(k.publicKey), await token(k.tokenURL) ?? k.token, k.id);
      return;
    } catch (e) {
      const { status = 0, code } = e as HarkError; // none: offline, perhaps
      if (failures === 3 || code === "push-denied" || (status && status !== 429 && status < 500)) return; // the next page that is opened does it
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * 4 ** failures));
  }
}
