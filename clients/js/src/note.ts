// From what was pushed to what is shown. Whoever may push may have been deceived or may lie: all
// of it is text, bounded, and links are http or https. Nothing here throws.
import type { PushMessage } from "./told.js";

/** What is to be shown. */
export interface Note {
  title: string;
  /** For showNotification. Some of it is newer than the types of it. */
  options: NotificationOptions & { data: { hark: Carried } };
  /** For the page. */
  message: PushMessage;
  /** Nothing was sent that could be shown: what is, says only that there is news. */
  bare: boolean;
  /** The number on the app's icon. */
  badge?: number;
}

/** What a notification of ours carries, for the click. */
export interface Carried {
  message: PushMessage;
  /** Where each button leads. */
  links: Record<string, string>;
  /** Where to say that it was shown. */
  receipt?: string;
}

type Loose = Record<string, unknown>;

const object = (x: unknown): Loose => (x && typeof x === "object" && !Array.isArray(x) ? x as Loose : {});

/** A text, without what no line of text has, and not longer than anybody would read. */
function text(x: unknown, max: number): string {
  const all = typeof x === "string" ? x : typeof x === "number" ? String(x) : "";
  return [...all.slice(0, 2 * max).replace(/[\0-\x08\x0b-\x1f\x7f\ufffe\uffff]/g, " ")].slice(0, max).join("").trim();
}

/** An address that may be opened, or undefined. */
export function link(x: unknown, base: string): string | undefined {
  if (typeof x !== "string" || x.length > 4000) return undefined;
  try {
    const url = new URL(x, base);
    if (url.protocol !== "https:" && url.protocol !== "http:") return undefined;
    url.username = url.password = ""; // "https://bank.example@elsewhere.example"
    return url.href;
  } catch {
    return undefined;
  }
}

/** read makes a note of a payload; scope is the worker's: links are relative to it. */
export function read(payload: string | undefined, scope: string): Note {
  let all: Loose = {};
  let plain = "";
  try {
    const json: unknown = JSON.parse(payload || "{}");
    all = object(json);
    if (all !== json) plain = text(json, 1000);
  } catch {
    if (!payload!.includes("\ufffd")) plain = text(payload, 1000); // bytes are no text
  }
  // The declarative form, that of Firebase, or title and body at the top.
  const n: Loose = "notification" in all ? object(all.notification) : all.web_push === 8030 ? {} : all;
  const hark = object(all.hark);
  const title = text(n.title, 250), body = text(n.body, 1000) || plain;
  const bare = !title && !body;
  const message = trimmed<Loose>({
    title: title || undefined, body: body || undefined, link: link(n.navigate ?? n.link ?? n.url, scope),
    event: text(hark.event, 100) || undefined, topic: text(hark.topic, 255) || undefined, data: hark.data ?? n.data ?? all.data,
  }) as PushMessage;
  const carried: Carried = { message, links: {}, receipt: link(hark.receipt, scope) && String(hark.receipt) };
  const image = (name: string) => link(n[name], scope);
  const flag = (name: string) => n[name] === true || undefined;
  const tag = text(n.tag, 200) || message.event; // one that comes twice is shown once
  // Objects are asked for no text and no number: theirs may throw.
  const badge = [all.app_badge, n.app_badge].map((x) => Number(text(x, 20) || NaN)).find((x) => x >= 0 && x < 1e6);
  return {
    title: title || new URL(scope).host, message, bare, badge: badge === undefined ? undefined : Math.floor(badge),
    options: trimmed<Loose>({
      body: body || (bare ? "You have a new message" : undefined), tag, renotify: (tag && flag("renotify")) || undefined,
      icon: image("icon"), image: image("image"), badge: image("badge"),
      lang: /^[A-Za-z0-9-]{2,35}$/.exec(text(n.lang, 36))?.[0], dir: ["ltr", "rtl"].find((d) => d === n.dir),
      silent: flag("silent"), requireInteraction: flag("requireInteraction"),
      actions: buttons(n.actions, scope, carried), data: { hark: carried },
    }) as unknown as Note["options"],
  };
}

function buttons(x: unknown, scope: string, carried: Carried): Loose[] | undefined {
  if (!Array.isArray(x)) return undefined;
  const all: Loose[] = [];
  for (const given of x.slice(0, 8).map(object)) {
    const action = text(given.action, 100), title = text(given.title, 100);
    if (!action || !title || all.some((b) => b.action === action)) continue;
    all.push(trimmed({ action, title, icon: link(given.icon, scope) }));
    const to = link(given.navigate ?? given.link, scope);
    if (to) Object.defineProperty(carried.links, action, { value: to, enumerable: true }); // "__proto__" is a name like others
  }
  return all.length ? all : undefined;
}

/** trimmed leaves out what is undefined: some browsers take that for a text. */
function trimmed<T extends Loose>(all: T): T {
  for (const name in all) if (all[name] === undefined) delete all[name];
  return all;
}
