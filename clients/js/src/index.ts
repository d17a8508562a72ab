/**
 * The client of Hark for browsers and Node. README.md tells how it is used.
 *
 * Read in this order: types.ts (the words), line.ts (one connection), transports.ts and sse.ts
 * (what goes over it), hub.ts and share.ts (many pages, one connection), and this file, which is
 * what a page has of all that: a subscription with its cursor. Push is beside it: push.ts, and of
 * the service worker, which is built into hark-sw.js, told.ts, note.ts, device.ts and worker.ts.
 */
import { random } from "./hub.js";
import { where } from "./place.js";
import { Port, serve, type Sub } from "./share.js";
import { identity } from "./token.js";
import { checkTopics } from "./topics.js";
import { HarkError, type Credentials, type Gap, type HarkEvent, type Start, type State, type StateInfo, type ToSub, type TransportName, type Want } from "./types.js";

export { push, type Device, type PushInfo, type PushMessage, type PushOptions, type PushState } from "./push.js";
export { HarkError, type Credentials, type Gap, type HarkEvent, type Start, type State, type StateInfo, type TransportName };

export interface SubscribeOptions<T = any> extends Start {
  /** Where Hark is. Default: where hark.js came from, else the page's origin. Needed in Node. */
  url?: string;
  /** A token or key that stays. It is never put into a URL. Without token and getToken, cookies do or nothing. */
  token?: string;
  /**
   * Gets a token: at the start, before it expires, and once more when it is refused. Nothing
   * (null, undefined, "") means that there is none any more: the subscription is refused. A
   * failure is tried again.
   */
  getToken?: () => Promise<string | null | undefined> | string | null | undefined;
  onEvent?: (event: HarkEvent<T>, subscription: Subscription<T>) => void;
  /** Events between two positions are gone; what the page shows should be loaded anew. */
  onGap?: (gap: Gap, subscription: Subscription<T>) => void;
  onState?: (state: State, info: StateInfo, subscription: Subscription<T>) => void;
  /** One, or several in order of preference. Default "auto": sse, websocket, longpoll, poll, whichever works. */
  transport?: "auto" | TransportName | TransportName[];
  /** How often "poll" asks, in milliseconds; at least 500. Default 5000. */
  pollInterval?: number;
  /** Under this name the position is kept in the browser's storage; a page loaded anew goes on there. */
  storageKey?: string;
  /** One connection for all pages of this browser profile. Default: true in pages, false elsewhere. */
  share?: boolean;
  /** A copy of hark.js of the page's own origin, to run as the SharedWorker. Default: hark.js itself, where it is one. */
  workerURL?: string;
  /** Whether cookies go along to another origin, as in fetch. Default "same-origin". */
  credentials?: Credentials;
  /** Closes the subscription. */
  signal?: AbortSignal;
}

const auto: TransportName[] = ["sse", "websocket", "longpoll", "poll"];

/** A stored position that is none is no position. */
const isCursor = (text: unknown): text is string => typeof text === "string" && /^evt_\w{24}$/.test(text);

/** What worked is believed for an hour: devices move. */
const remembered = 3_600_000;

const memory = "hark.transport ";

const newer = (id: string | undefined, than: string | undefined) => id !== undefined && (than === undefined || id > than);

const inPage = typeof document !== "undefined";

/** subscribe begins at once. It throws a TypeError when what is asked for makes no sense. */
export function subscribe<T = any>(topics: string | string[], options: SubscribeOptions<T> = {}): Subscription<T> {
  return new Subscription<T>(typeof topics === "string" ? [topics] : [...topics], options);
}

/** A subscription is a cursor and where its events go. It is also an async iterable of them. */
export class Subscription<T = any> implements AsyncIterable<HarkEvent<T>> {
  state: State = "connecting";
  transport?: TransportName;
  error?: HarkError;
  /** The position after the last event that was handed over. */
  cursor?: string;

  /** Whether and how it shares: "worker", "leader", "follower", or "page" if not. */
  get shared(): string {
    return this.port?.where ?? "page";
  }

  private readonly url: string;
  private readonly order: TransportName[];
  private readonly sub: Sub;
  private token?: string;
  private port?: Port;
  private turn = 0; // of attach
  private failures = 0; // of getToken
  private moving = false; // to where another user's tokens are used, and not live yet
  private getting?: Promise<string | null | undefined>;
  private saving?: ReturnType<typeof setTimeout>;
  private reached?: string; // the position after what has come, handed over or not
  private queue?: HarkEvent<T>[]; // what waits to be taken, when nobody is called
  private busy = false; // one was taken and is not done with
  private next?: () => void;

  /** @internal */
  constructor(readonly topics: string[], private readonly options: SubscribeOptions<T>) {
    checkTopics(topics);
    const { url, transport = "auto", after, from, last, signal, token } = options;
    this.url = where(url);
    this.order = transport === "auto" ? auto : [transport].flat();
    if (!this.order.length || this.order.some((t) => !auto.includes(t))) throw new TypeError(`hark: transport is "auto" or of ${auto}`);
    if ([after, from, last].filter((x) => x != null).length > 1) throw new TypeError("hark: at most one of after, from and last");
    if (last != null && !(Number.isInteger(last) && last > 0 && last <= 1000)) throw new TypeError("hark: last is 1 to 1000");
    this.token = token;
    this.cursor = this.reached = after ?? this.stored();
    this.sub = { id: random(), want: () => this.want(), receive: (m) => this.receive(m) };
    if (!options.onEvent) this.queue = [];
    listen();
    subscriptions.add(this);
    signal?.addEventListener("abort", () => this.close());
    if (signal?.aborted) this.state = "closed";
    else void this.attach();
  }

  /** close ends it. */
  close(): void {
    this.end("closed");
  }

  /** One event after the other, as fast as they are taken: `for await (const event of subscription)`. */
  async *[Symbol.asyncIterator](): AsyncIterator<HarkEvent<T>> {
    const queue = this.queue ??= [];
    try {
      for (;;) {
        const event = queue.shift();
        if (event) {
          this.busy = true;
          yield event;
          this.busy = false;
          this.moved(queue.length ? event.id : this.reached); // only now it is done with
        } else if (this.state === "refused") throw this.error;
        else if (this.state === "closed") return;
        else {
          if (!this.port) void this.attach(); // too much was waiting: on from there
          await new Promise<void>((resolve) => (this.next = resolve));
        }
      }
    } finally {
      this.close();
    }
  }

  /** @internal */
  save(): void {
    clearTimeout(this.saving);
    this.saving = undefined;
    const { storageKey } = this.options;
    if (!storageKey || !this.cursor) return;
    try {
      sessionStorage.setItem(storageKey, this.cursor);
      if (!(localStorage.getItem(storageKey)! > this.cursor)) localStorage.setItem(storageKey, this.cursor);
    } catch {
      // Full, or forbidden: the next page begins as it says.
    }
  }

  private stored(): string | undefined {
    const { storageKey } = this.options;
    if (!storageKey) return undefined;
    try { // this tab's own, else the last of any
      return [sessionStorage, localStorage].map((s) => s.getItem(storageKey)).find(isCursor);
    } catch {
      return undefined;
    }
  }

  private want(): Want {
    const { from, last, pollInterval = 5000, credentials, getToken, share = inPage } = this.options;
    const pollEvery = Math.max(500, pollInterval);
    let prefer: TransportName | undefined;
    try {
      const [transport, at] = JSON.parse(localStorage.getItem(memory + this.url)!);
      if (Date.now() - at < remembered) prefer = transport;
    } catch {
      // Nothing is remembered.
    }
    return {
      topics: this.topics, url: this.url, order: this.order, prefer, pollEvery, credentials, token: this.token, renews: !!getToken, asked: this.moving,
      key: this.key(this.token) + (share ? "" : this.sub.id),
      ...(this.reached ? { after: this.reached } : last ? { last } : { from }),
    };
  }

  /** Who may share a connection with us. All of what one may read is asked for without topics, so never beside topics. */
  private key(token: string | undefined): string {
    const { pollInterval, credentials } = this.options;
    return JSON.stringify([this.url, identity(token), this.order, pollInterval, credentials, !this.topics.length]);
  }

  private async attach(token?: string | null): Promise<void> {
    const turn = ++this.turn;
    const { getToken, share = inPage, workerURL } = this.options;
    try {
      token ??= await this.get();
      this.failures = 0;
    } catch (e) {
      if (turn !== this.turn) return;
      const retryIn = Math.min(30_000, 1000 * 2 ** this.failures++) * (0.5 + Math.random() / 2);
      setTimeout(() => turn === this.turn && void this.attach(), retryIn);
      return this.enter("waiting", { error: new HarkError("getToken failed: " + (e as Error)?.message), retryIn });
    }
    if (turn !== this.turn) return;
    if (getToken && !token) return this.refused(new HarkError("getToken gave no token", 401));
    this.token = token ?? undefined;
    this.port = share ? (ports.shared ??= new Port(true, workerURL)) : (ports.own ??= new Port(false));
    this.port.add(this.sub);
  }

  private detach(): void {
    this.turn++;
    this.port?.remove(this.sub);
    this.port = undefined;
  }

  /** A token, from one call for all who ask at the same time. */
  private get(): Promise<string | null | undefined> {
    const { getToken, token } = this.options;
    return getToken ? (this.getting ??= Promise.resolve().then(getToken).finally(() => (this.getting = undefined))) : Promise.resolve(token);
  }

  private receive(m: ToSub): void {
    if (m.t === "events") {
      for (const event of m.events) {
        if (!this.port) return; // closed by what it was told, or full
        if (!newer(event.id, this.reached)) continue;
        this.tell(() => this.options.onEvent?.(event, this));
        this.queue?.push(event);
        this.passed(event.id);
      }
      this.passed(m.cursor);
      if (this.queue && this.queue.length > longestQueue) this.detach(); // the log keeps the rest
    } else if (m.t === "cursor") this.passed(m.cursor);
    else if (m.t === "gap") {
      this.tell(() => this.options.onGap?.(m.gap, this));
      this.passed(m.gap.to);
    } else if (m.t === "token") void this.answer();
    else if (m.state === "refused") this.refused(new HarkError(m.error!.message, m.error!.status, m.error!.code));
    else {
      const { transport, error: e, retryIn } = m;
      this.enter(m.state, { transport, error: e && new HarkError(e.message, e.status, e.code), retryIn });
    }
    this.next?.();
  }

  /** The hub asks for another token. */
  private async answer(): Promise<void> {
    const { port, sub, turn } = this;
    const token = await this.get().catch(() => undefined);
    if (turn !== this.turn) return;
    if (token && this.key(token) !== this.key(this.token)) { // another user's, perhaps: not for those who share with us
      this.detach();
      this.moving = true;
      return this.attach(token);
    }
    if (token) this.token = token;
    port?.send({ t: "token", sub: sub.id, token: token === undefined ? token : token || null });
  }

  private passed(cursor: string): void {
    if (!newer(cursor, this.reached)) return;
    this.reached = cursor;
    if (!this.queue?.length && !this.busy) this.moved(cursor);
  }

  private moved(cursor: string | undefined): void {
    this.cursor = cursor;
    if (this.options.storageKey) this.saving ??= setTimeout(() => this.save(), 1000);
  }

  private enter(state: State, info: StateInfo): void {
    if (this.state === state && this.transport === (info.transport ?? this.transport) && !info.error) return;
    this.state = state;
    this.error = info.error;
    this.transport = info.transport ?? this.transport;
    if (state === "live") this.moving = false;
    if (state === "live" && this.order === auto) {
      try {
        localStorage.setItem(memory + this.url, JSON.stringify([this.transport, Date.now()]));
      } catch {
        // Then it is found out anew.
      }
    }
    this.tell(() => this.options.onState?.(state, info, this));
  }

  private refused(error: HarkError): void {
    this.end("refused", error);
  }

  private end(state: State, error?: HarkError): void {
    if (this.state === "closed" || this.state === "refused") return;
    this.detach();
    this.save();
    subscriptions.delete(this);
    this.enter(state, { error });
    this.next?.();
  }

  /** What the page does wrong with what it is told is the page's: the stream goes on. */
  private tell(call: () => void): void {
    try {
      call();
    } catch (e) {
      if (typeof reportError === "function") reportError(e);
      else console.error(e);
    }
  }
}

/** Events wait for an iterator up to so many; beyond, they are left in the log. */
const longestQueue = 5000;

const ports: { shared?: Port; own?: Port } = {};
const subscriptions = new Set<Subscription>();

/** listen hears, once, what becomes of the page. */
let listening = false;
function listen(): void {
  if (listening) return;
  listening = true;
  const on = (target: Partial<EventTarget> | undefined, events: string, then: () => void) => {
    for (const e of events.split(" ")) target?.addEventListener?.(e, then);
  };
  const each = (f: (p: Port) => void) => Object.values(ports).forEach(f);
  const save = () => subscriptions.forEach((s) => s.save());
  const page = globalThis.document;
  const leave = () => {
    save();
    each((p) => p.leave());
  };
  const back = () => each((p) => {
    p.return();
    p.send({ t: "wake", online: false });
  });
  on(globalThis, "online", () => each((p) => p.send({ t: "wake", online: true })));
  on(globalThis, "pagehide", leave);
  on(globalThis, "pageshow", back);
  on(page, "freeze", leave);
  on(page, "resume", back);
  on(page, "visibilitychange", () => (page.visibilityState === "hidden" ? save() : back()));
}

serve();
