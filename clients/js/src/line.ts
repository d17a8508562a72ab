// A line is one connection to the server and those who share it, its members. It is the state
// machine: which transport, when again, with which token, since where.
//
// SSE and polling carry one stream: the union of the members' topics, after the position of
// whoever is furthest behind; each is told what matches it and is beyond its own position. A member
// that joins later first reads alone, by pages, up to where the others are. WebSocket carries a
// subscription for each. In all cases a member's cursor moves only with what it was told, so
// that whatever happens in between, going on after it loses and doubles nothing.

import { Fault, judge } from "./fault.js";
import { lifetime } from "./token.js";
import { matches, maxTopics } from "./topics.js";
import { transports, type Page, type Socket } from "./transports.js";
import type { HarkError, Start, State, TransportName, ToSub, Want } from "./types.js";

/** How long until the first sign of life, and how long silence is believed. The server is never silent for 20 s. */
const first = 8_000, silence = 45_000;
/** After this much silence it is doubted, when there is a reason to. */
const doubtful = 22_000;

const newer = (id: string | undefined, than: string | undefined) => id !== undefined && (than === undefined || id > than);

const reopened = new Fault("again", "opened anew");

/** Back-off with jitter: half to all of 1 s, 2 s, 4 s … 30 s. */
const backOff = (fails: number) => Math.min(30_000, 1000 * 2 ** Math.min(fails - 1, 9)) * (0.5 + Math.random() / 2);

export class Member {
  readonly topics: string[];
  readonly renews: boolean;
  cursor?: string;
  /** Fed by the stream of the line. */
  joined = false;
  /** Another token was tried, because it was refused. */
  asked = false;
  /** Takes the token that was asked for: null if there is none for us any more. */
  answer?: (token: string | null | undefined) => void;

  constructor(readonly id: string, readonly want: Want, readonly tell: (m: ToSub) => void) {
    this.topics = want.topics;
    this.renews = want.renews;
    this.cursor = want.after;
  }

  start(): Start {
    const { from, last } = this.want;
    return this.cursor ? { after: this.cursor } : last ? { last } : from ? { from } : {};
  }
}

export class Line {
  members = new Map<string, Member>();
  token?: string;
  /** How long the server asks to wait after a lost connection. */
  retry?: number;
  socket?: Socket;

  private running = false;
  private live = false;
  private worked = false; // this connection, some time
  private began = 0; // to work
  private heard = 0; // the last sign of life
  private index: number; // in the order of transports
  private fails = 0; // attempts in a row that did not work
  private hasty = 0; // connections in a row that worked for a moment only
  private trials = 0; // to go back to a better transport
  private asked: boolean; // for another token, after a refusal
  private stale = false; // the token must be renewed first
  private renewal?: Promise<void>;
  private alone = false; // each member's rights are tried alone
  private topics = new Set<string>(); // of the stream
  private position?: string; // of the stream
  private abort = new AbortController();
  private quiet = false; // opened anew in good health: nobody need know
  private wakeUp = () => {};
  private timers: Partial<Record<"watch" | "renew" | "shrink" | "better", ReturnType<typeof setTimeout>>> = {};

  constructor(readonly want: Want, private readonly done: () => void) {
    this.index = Math.max(0, want.order.indexOf(want.prefer!));
    this.asked = want.asked;
  }

  /** Whether one more fits into a request's topics. */
  fits(topics: string[]): boolean {
    return new Set([...topics, ...[...this.members.values()].flatMap((m) => m.topics)]).size <= maxTopics;
  }

  add(m: Member): void {
    this.members.set(m.id, m);
    if (m.want.token && m.want.token !== this.token) this.setToken(m.want.token);
    if (!this.running) void this.run();
    else {
      this.say("connecting", {}, m);
      if (this.socket) this.socket.subscribe(m);
      else if (this.live) this.invite(m);
    }
  }

  remove(m: Member): void {
    if (!this.members.delete(m.id)) return;
    m.answer?.(undefined);
    this.socket?.unsubscribe(m);
    if (!this.members.size) this.reopen();
    // Not at once: a page that is loaded anew is back in a moment.
    else if (!this.socket) this.timer("shrink", 5000, () => {
      if (this.live && this.union().size < this.topics.size) this.reopen();
    });
  }

  /** The network is back, a page is seen again, a device woke up: do not wait, and doubt what is silent. */
  wake(online: boolean): void {
    if (online && !this.live) this.index = 0;
    this.wakeUp();
    if (this.live && Date.now() - this.heard > doubtful) this.reopen();
  }

  // What transports use.

  alive(): void {
    this.heard = Date.now();
  }

  /** The transport works; for a member of a WebSocket, its subscription does. */
  ready(cursor: string | undefined, only?: Member): void {
    const began = !this.live;
    this.live = this.worked = true;
    this.fails = 0;
    this.asked = this.alone = false;
    for (const m of only ? [only] : this.joined()) {
      if (cursor && !m.cursor) m.tell({ t: "cursor", cursor: (m.cursor = cursor) });
      if (only || began) this.say("live", {}, m);
    }
    if (!began) return;
    this.began = Date.now();
    // Perhaps it was the network that failed, not the better transports.
    if (this.index % this.want.order.length) {
      this.timer("better", Math.min(120_000 * 2 ** this.trials++, 3_600_000), () => {
        this.index = 0;
        this.reopen();
      });
    } else this.trials = 0;
    if (!only) for (const m of this.members.values()) if (!m.joined) this.invite(m);
  }

  /** Hands on what came: to one member, or to all that are joined. It tells whether that moved anybody. */
  feed(page: Page, only?: Member): boolean {
    const events = page.events ?? [];
    const cursor = page.cursor ?? events.at(-1)?.id;
    let any = false;
    for (const m of only ? [only] : this.joined()) {
      const { gap } = page, before = m.cursor;
      if (gap && newer(gap.to, m.cursor)) {
        m.tell({ t: "gap", gap });
        m.cursor = gap.to;
      }
      const news = events.filter((e) => newer(e.id, m.cursor) && (only || matches(m.topics, e.topic)));
      const moved = newer(cursor, m.cursor);
      if (moved) m.cursor = cursor;
      if (news.length) m.tell({ t: "events", events: news, cursor: m.cursor! });
      else if (moved && !events.length) m.tell({ t: "cursor", cursor: m.cursor! });
      any ||= m.cursor !== before;
    }
    if (!only && newer(cursor, this.position)) this.position = cursor;
    return any;
  }

  /** The stream's topics and where it begins. */
  query(): Start & { topics: string[] } {
    const members = [...this.joined()];
    const behind = members.reduce((a, b) => (newer(a.cursor, b.cursor) ? b : a));
    return { topics: [...this.topics], ...behind.start() };
  }

  async get(path: string, query: Start & { topics: string[]; limit?: number; wait?: number }, accept: string, signal: AbortSignal): Promise<Response> {
    const { topics, ...rest } = query;
    const q = new URLSearchParams(topics.map((t) => ["topic", t]));
    for (const [name, value] of Object.entries(rest)) q.set(name, String(value));
    const headers: Record<string, string> = { Accept: accept };
    if (this.token) headers.Authorization = "Bearer " + this.token;
    const res = await fetch(`${this.want.url}${path}?${q}`, { headers, credentials: this.want.credentials ?? "same-origin", cache: "no-store", signal });
    this.alive();
    return res;
  }

  async page(query: Start & { topics: string[] }, wait: number, signal: AbortSignal): Promise<Page> {
    const res = await this.get("/v1/events", { ...query, limit: 500, ...(wait && { wait }) }, "application/json", signal);
    if (res.status !== 200 || !res.headers.get("content-type")?.startsWith("application/json")) throw await judge(res);
    const page = await res.json() as Page;
    this.alive();
    return page;
  }

  /** sleep waits, or throws what aborted it; a wake-up ends it. */
  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    this.heard = Date.now() + ms; // silence is meant
    let timer: ReturnType<typeof setTimeout>;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
      this.wakeUp = resolve;
      signal.addEventListener("abort", this.wakeUp);
      if (signal.aborted) resolve();
    });
    clearTimeout(timer!);
    signal.removeEventListener("abort", this.wakeUp);
    this.wakeUp = () => {};
    this.alive();
    if (signal.aborted) throw signal.reason;
  }

  mayRenew(): boolean {
    return !this.asked && [...this.members.values()].some((m) => m.renews);
  }

  refuse(m: Member, why: Fault): void {
    this.say("refused", { error: why }, m);
    this.remove(m);
  }

  // The machine.

  private async run(): Promise<void> {
    this.running = true;
    await null; // those who come at the same time begin together
    await null;
    while (this.members.size) {
      this.abort = new AbortController();
      const { signal } = this.abort;
      let why: unknown;
      try {
        if (this.stale) await this.renew();
        await this.open(signal);
      } catch (e) {
        why = signal.aborted ? signal.reason : e;
      }
      this.live = false;
      for (const t of ["watch", "better"] as const) clearTimeout(this.timers[t]);
      const fault = why instanceof Fault ? why : new Fault("again", (why as Error)?.message ?? String(why));
      const delay = this.decide(fault);
      this.quiet = fault === reopened && (this.worked || this.quiet);
      this.abort.abort(reopened); // whatever is still under way
      if (delay && this.members.size) {
        this.say("waiting", { error: fault, retryIn: Math.round(delay) });
        this.abort = new AbortController();
        await this.sleep(delay, this.abort.signal).catch(() => {});
      }
    }
    this.running = false;
    for (const t of Object.values(this.timers)) clearTimeout(t);
    this.done();
  }

  private async open(signal: AbortSignal): Promise<never> {
    this.worked = false;
    this.position = undefined;
    for (const m of this.members.values()) m.joined = false;
    if (!this.quiet) this.say("connecting");
    this.alive();
    this.watch();
    if (this.transport !== "websocket") await this.settle(signal);
    if (!this.members.size) throw reopened;
    return transports[this.transport](this, signal);
  }

  /** decide draws the conclusion from an end: what changes, and how long to wait. */
  private decide(f: Fault): number {
    if (f === reopened) return 0;
    this.hasty = this.worked && Date.now() - this.began < 1000 ? this.hasty + 1 : 0;
    const lost = () => Math.max(f.wait ?? this.retry ?? 1000 + Math.random() * 1000, this.hasty > 3 ? backOff(this.hasty - 3) : 0);
    if (f.polite) {
      this.stale = f.verdict === "token" && this.mayRenew();
      return Math.max(lost(), this.worked ? 0 : backOff(++this.fails)); // one that ends at once is spared, even if it asks for nothing
    }
    const { length } = this.want.order;
    if (f.verdict === "again") {
      if (this.worked) return lost();
      if (++this.fails % 3 === 0) this.index++;
      return Math.max(f.wait ?? 0, backOff(this.fails));
    }
    if (f.verdict === "next" && (length > 1 || f.status !== 400)) {
      this.index++;
      return ++this.fails % length ? 0 : backOff(this.fails / length);
    }
    if (f.verdict === "token" && this.mayRenew()) this.stale = this.asked = true;
    // One of several may be the one who is not wanted.
    else if (this.members.size > 1 && !this.alone && f.status !== 401) this.alone = true;
    else for (const m of [...this.members.values()]) this.refuse(m, f);
    return 0;
  }

  /** settle brings the members of a stream to where it can begin for all of them. */
  private async settle(signal: AbortSignal): Promise<void> {
    let fresh = [...this.members.values()];
    const starts = new Set(fresh.map((m) => m.cursor ? "" : JSON.stringify([m.start(), m.want.last && m.topics])));
    if (!this.alone && starts.size === 1) for (const m of fresh) m.joined = true;
    for (const m of fresh) if (m.cursor && !this.alone) m.joined = true;
    while ((fresh = [...this.members.values()].filter((m) => !m.joined)).length) {
      await Promise.all(fresh.map((m) => this.admit(m, signal)));
    }
    this.topics = this.union();
  }

  /** admit lets one member read alone, up to where the others are. */
  private async admit(m: Member, signal: AbortSignal): Promise<void> {
    const behind = () => this.live && newer(this.position, m.cursor);
    try {
      for (let ends = 0; ends < 3;) {
        const page = await this.page({ topics: m.topics, ...m.start() }, 0, signal);
        if (this.members.get(m.id) !== m) return;
        if (this.feed(page, m) && page.more) continue;
        if (!behind()) break;
        ends++; // the others went on meanwhile
      }
    } catch (e) {
      const f = e as Fault;
      if (this.members.size < 2 || (f.verdict !== "refused" && f.status !== 403) || f.status === 403 && this.mayRenew()) throw e;
      return this.refuse(m, f);
    }
    m.joined = true;
    if (!this.live) return;
    if (!behind() && m.topics.every((t) => this.topics.has(t))) this.say("live", {}, m);
    else this.reopen();
  }

  private invite(m: Member): void {
    this.admit(m, this.abort.signal).catch(() => this.reopen());
  }

  /** watch ends a connection that gives no sign of life. */
  private watch(): void {
    const limit = this.live ? silence : Math.min(silence, first * (1 + Math.floor(this.fails / this.want.order.length)));
    const left = this.heard + limit - Date.now();
    if (left > 0) {
      if (this.live && limit - left > 20_000) this.socket?.ping();
      this.timer("watch", Math.min(left, 5_000), () => this.watch());
      return;
    }
    // What lets the first block through and then nothing works no better than what lets nothing through.
    const verdict = this.live && this.heard - this.began > 1000 ? "again" : "next";
    this.abort.abort(new Fault(verdict, `no sign of life for ${limit / 1000} s`));
  }

  private setToken(token: string): void {
    this.token = token;
    this.stale = false;
    clearTimeout(this.timers.renew);
    const ms = lifetime(token);
    if (ms) this.timer("renew", Math.min(ms - Math.min(30_000, ms / 5), 2 ** 31 - 1), () => void this.refresh());
  }

  /** refresh gets a token before the one in use expires. */
  private async refresh(): Promise<void> {
    if (![...this.members.values()].some((m) => m.renews)) return; // told when it is refused
    try {
      await this.renew();
    } catch {
      return this.timer("renew", 10_000, () => void this.refresh());
    }
    if (this.socket) this.socket.auth();
    else if (this.live && this.transport === "sse") this.reopen();
  }

  private renew(): Promise<void> {
    return this.renewal ??= this.askAll().finally(() => (this.renewal = undefined));
  }

  private async askAll(): Promise<void> {
    for (const m of [...this.members.values()]) {
      if (!m.renews) continue;
      const token = await new Promise<string | null | undefined>((resolve) => {
        const timer = setTimeout(resolve, 15_000);
        m.answer = (token) => {
          clearTimeout(timer);
          resolve(token);
        };
        m.tell({ t: "token" });
      });
      if (token) return this.setToken(token);
      if (token === null) this.refuse(m, new Fault("refused", "getToken gave no token", 401));
    }
    throw new Fault("again", "no token to be had");
  }

  private get transport(): TransportName {
    return this.want.order[this.index % this.want.order.length]!;
  }

  private reopen(): void {
    this.abort.abort(reopened);
  }

  private *joined(): Iterable<Member> {
    for (const m of this.members.values()) if (m.joined) yield m;
  }

  private union(): Set<string> {
    return new Set([...this.members.values()].flatMap((m) => m.topics));
  }

  private timer(name: keyof Line["timers"], ms: number, then: () => void): void {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(then, ms);
  }

  private say(state: State, info: { error?: HarkError; retryIn?: number } = {}, only?: Member): void {
    const { error: e, retryIn } = info;
    const error = e && { message: e.message, status: e.status, code: e.code }; // errors lose their fields on the way
    for (const m of only ? [only] : this.members.values()) m.tell({ t: "state", state, transport: this.transport, error, retryIn });
  }
}
