// What pages and their service worker tell each other of push. The page has the user: it asks
// for leave. The worker does the rest, as it must be able to without any page.

/** A device, as Hark tells it to its owner. */
export interface Device {
  id: string;
  app: string;
  kind: string;
  user?: string;
  topics: string[];
  locale?: string;
  name?: string;
  state: string;
}

/** A message that was pushed. Somebody sent all of it: show it as text. */
export interface PushMessage {
  title?: string;
  body?: string;
  /** Where a click leads: absolute, http or https. */
  link?: string;
  /** The event's id and topic, when Hark sent it. */
  event?: string;
  topic?: string;
  /** The app's own. */
  data?: any;
  /** Set once the user clicked: the name of the button, or "" for the notification itself. */
  clicked?: string;
}

/** What the worker needs to say where the browser is, with or without a page. */
export interface Want {
  /** Where Hark is, without a slash at its end. */
  url: string;
  /** What the device is registered with. */
  device: { app?: string; topics?: string[]; user?: string; locale?: string; name?: string };
  token?: string;
  /** Where the worker can fetch a token, with the cookies of that origin. */
  tokenURL?: string;
}

/** A page asks its worker. */
export type Asked = { hark: "enable"; want: Want } | { hark: "disable"; token?: string } | { hark: "state" };

/** The worker's answer: what was asked for, or what went wrong. */
export type Answer<T> = { value: T } | { error: { message: string; code?: string; status?: number } };

/** The worker tells its pages, or asks them for a token of the user. */
export type Told = { hark: "message"; message: PushMessage } | { hark: "token" };

/** ask sends a message and waits for what comes back through a port of its own; undefined when nothing did. */
export function ask<T>(to: Pick<MessagePort, "postMessage">, what: Asked | Told, ms: number): Promise<T | undefined> {
  const { port1, port2 } = new MessageChannel();
  let timer: ReturnType<typeof setTimeout>;
  return new Promise<T | undefined>((resolve) => {
    timer = setTimeout(resolve, ms);
    port1.onmessage = (e) => resolve(e.data);
    to.postMessage(what, [port2]);
  }).catch(() => undefined).finally(() => {
    clearTimeout(timer);
    port1.close();
  });
}
