// How pages find the hub that they share: in a SharedWorker, which is this same module; else in
// one of the pages, which leads as long as it holds a lock, and the others talk to it by a
// BroadcastChannel; else each page has its own.
//
// Whatever becomes of the hub, its page knows the cursor of each of its subscriptions and hands
// it to the next hub.

import { Hub, random } from "./hub.js";
import type { ToHub, ToSub, ToTab, Want } from "./types.js";

/** Of the worker, the lock and the channel. The number changes when what is told between them does. */
const name = "hark-client-1";

export interface Sub {
  id: string;
  /** What to ask of a hub, as of now. */
  want(): Want;
  receive(m: ToSub): void;
}

type Message = ToHub extends infer M ? M extends ToHub ? Omit<M, "tab"> : never : never;

/** The script of a worker, if it can be one: of the page's own origin, and this module alone. */
function workerURL(url: string | undefined): string | undefined {
  url ??= /\/hark\.js(\?[^/]*)?$/.test(import.meta.url ?? "") ? import.meta.url : undefined;
  return url && new URL(url, location.href).origin === location.origin ? url : undefined;
}

export class Port {
  /** Where the hub is. */
  where: "worker" | "leader" | "follower" | "page" = "page";

  private readonly tab = random();
  private readonly subs = new Map<string, Sub>();
  private hub?: string; // whose words are taken
  private post: (m: ToHub) => void = () => {};
  private lead = () => {};
  private follow = () => {}; // gives the lead up
  private lost = () => {};
  private waiting?: ReturnType<typeof setTimeout>;
  private away = false;

  constructor(shared: boolean, worker?: string) {
    if (shared) {
      this.viaWorker(worker);
      setInterval(() => this.subs.size && this.ping(), 20_000);
    } else this.viaPage();
  }

  add(sub: Sub): void {
    this.subs.set(sub.id, sub);
    if (this.hub) this.send({ t: "add", sub: sub.id, want: sub.want() });
  }

  remove(sub: Sub): void {
    if (this.subs.delete(sub.id)) this.send({ t: "remove", sub: sub.id });
  }

  send(m: Message): void {
    this.post({ ...m, tab: this.tab } as ToHub);
  }

  /** leave: the page is put away or ends; return: it is back. In between others need no page that sleeps. */
  leave(): void {
    this.away = true;
    this.send({ t: "bye" });
    this.hub = undefined;
    this.answered();
    this.follow();
  }

  return(): void {
    if (!this.away) return;
    this.away = false;
    this.lead();
    this.ping();
  }

  private receive(m: ToTab): void {
    if (m.tab !== this.tab && m.tab !== "*" || this.away) return;
    if (m.t === "hello") {
      this.answered();
      if (m.hub === this.hub && m.known === this.subs.size) return;
      this.hub = m.hub;
      for (const sub of this.subs.values()) this.send({ t: "add", sub: sub.id, want: sub.want() });
    } else if (m.hub === this.hub) this.subs.get(m.sub)?.receive(m);
  }

  /** A hub that does not answer is gone, or stuck: onto the next way. */
  private ping(): void {
    this.send({ t: "ping" });
    this.waiting ??= setTimeout(() => {
      this.waiting = this.hub = undefined;
      this.lost();
    }, 5_000);
  }

  private answered(): void {
    clearTimeout(this.waiting);
    this.waiting = undefined;
  }

  private viaWorker(script?: string): void {
    const url = workerURL(script);
    let worker: SharedWorker;
    try {
      if (!url) throw 0;
      worker = new SharedWorker(url, { type: "module", name });
    } catch {
      return this.viaLock();
    }
    this.where = "worker";
    this.post = (m) => worker.port.postMessage(m);
    worker.port.onmessage = (e) => this.receive(e.data);
    this.lost = worker.onerror = () => {
      if (this.where !== "worker") return;
      this.answered();
      this.send({ t: "bye" });
      worker.port.onmessage = null;
      this.viaLock();
    };
    this.ping();
  }

  private viaLock(): void {
    if (typeof BroadcastChannel === "undefined" || !globalThis.navigator?.locks) return this.viaPage();
    const channel = new BroadcastChannel(name);
    let hub: Hub | undefined, pending: AbortController | undefined;
    this.post = (m) => {
      if (hub) queueMicrotask(() => hub?.receive(m, (r) => this.receive(r)));
      else channel.postMessage(m);
    };
    channel.onmessage = ({ data }: MessageEvent<ToHub | ToTab>) => {
      if ("hub" in data) this.receive(data);
      else hub?.receive(data, (r) => channel.postMessage(r));
    };
    const drop = () => {
      hub?.close();
      hub = undefined;
      this.where = "follower";
    };
    const request = (steal: boolean) => {
      pending?.abort();
      const mine = pending = new AbortController();
      navigator.locks.request(name, steal ? { steal } : { signal: mine.signal }, () => new Promise<void>((resolve) => {
        if (mine.signal.aborted) return resolve();
        mine.signal.addEventListener("abort", () => {
          drop();
          resolve();
        });
        hub = new Hub(true);
        this.where = "leader";
        const hello: ToTab = { t: "hello", tab: "*", hub: hub.id, known: -1 };
        channel.postMessage(hello);
        this.receive(hello);
      })).catch((e) => e).then((e?: Error) => {
        if (mine.signal.aborted) return;
        drop();
        if (e && e.name !== "AbortError") this.viaPage(); // no locks for us
        else request(false); // it was taken from us
      });
    };
    this.where = "follower";
    this.lead = () => request(false);
    this.follow = () => pending?.abort();
    this.lost = () => request(true);
    this.lead();
    this.ping();
  }

  private viaPage(): void {
    const hub = new Hub(false);
    this.where = "page";
    this.post = (m) => queueMicrotask(() => hub.receive(m, (r) => this.receive(r)));
    this.lead = this.follow = this.lost = () => {};
    this.send({ t: "ping" });
  }
}

/** serve is the other end of viaWorker, when this module runs as the worker. */
export function serve(): void {
  const scope = globalThis as unknown as { name?: string; SharedWorkerGlobalScope?: unknown; onconnect: (e: MessageEvent) => void };
  if (!scope.SharedWorkerGlobalScope || scope.name !== name) return;
  const hub = new Hub(true);
  scope.onconnect = ({ ports: [port] }) => {
    port!.onmessage = (e) => hub.receive(e.data, (m) => port!.postMessage(m));
  };
}
