// The ways to the server. Each opens one connection for a line, tells it what comes, and ends
// only by throwing a Fault, or whatever aborted it.

import { believed, ended, Fault, judge } from "./fault.js";
import type { Line, Member } from "./line.js";
import { parser } from "./sse.js";
import type { Gap, HarkEvent, TransportName } from "./types.js";

export type Transport = (line: Line, signal: AbortSignal) => Promise<never>;

export const transports: Record<TransportName, Transport> = {
  sse,
  websocket,
  longpoll: (line, signal) => polls(line, signal, 25),
  poll: (line, signal) => polls(line, signal, 0),
};

async function sse(line: Line, signal: AbortSignal): Promise<never> {
  const res = await line.get("/v1/stream", line.query(), "text/event-stream", signal);
  if (res.status !== 200 || !res.headers.get("content-type")?.startsWith("text/event-stream") || !res.body) throw await judge(res);
  let primed = false;
  let events: HarkEvent[] = [], cursor: string | undefined; // of the chunk at hand
  const flush = () => {
    if (cursor) line.feed({ events, cursor });
    events = [];
    cursor = undefined;
  };
  const parse = parser(({ id, event, data }) => {
    if (event === "end") {
      flush();
      throw ended(JSON.parse(data ?? "{}"));
    }
    const bare = data === undefined || event === "cursor";
    const priming = !primed && bare; // where it begins, which may be beyond a gap
    if (!primed) line.ready(id);
    primed = true;
    if (event === "gap") {
      flush();
      line.feed({ gap: JSON.parse(data!), cursor: id });
    } else if (event !== "ping" && !priming) {
      if (!bare) events.push(JSON.parse(data!));
      cursor = id;
    }
  }, (ms) => (line.retry = believed(ms)));
  const reader = res.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Fault("again", "the stream ended");
      line.alive();
      parse(value);
      flush();
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export interface Page {
  events?: HarkEvent[];
  cursor?: string;
  gap?: Gap | null;
  more?: boolean;
}

async function polls(line: Line, signal: AbortSignal, wait: number): Promise<never> {
  // The first asks for what is there, so that one soon knows whether this works.
  for (let held = 0; ; held = wait) {
    const asked = Date.now();
    const page = await line.page(line.query(), held, signal);
    const moved = line.feed(page); // before ready, which would take where it ends for where it begins
    line.ready(page.cursor);
    if (page.more && moved) continue;
    if (!wait) await line.sleep(line.want.pollEvery * (0.9 + Math.random() / 5), signal);
    // Something between does not hold requests, or the same comes again and again: do not ask without end.
    else if (held && !(moved && page.events?.length) && Date.now() - asked < 1000) await line.sleep(2000, signal);
  }
}

/** What a line says to its WebSocket while it is open. */
export interface Socket {
  subscribe(m: Member): void;
  unsubscribe(m: Member): void;
  auth(): void;
  ping(): void;
}

function websocket(line: Line, signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (typeof WebSocket === "undefined") throw new Fault("next", "there is no WebSocket here");
    const ws = new WebSocket(line.want.url.replace(/^http/, "ws") + "/v1/ws", ["hark.v1"]);
    let greeted = false;
    const send = (frame: object) => ws.readyState === 1 && ws.send(JSON.stringify(frame));
    const end = (why: unknown) => {
      ws.onmessage = ws.onclose = null;
      ws.onerror = () => {}; // of a socket that is closed before it was open
      line.socket = undefined;
      ws.close();
      reject(why);
    };
    signal.addEventListener("abort", () => end(signal.reason));
    const socket: Socket = {
      subscribe: (m) => send({ type: "subscribe", sub: m.id, topics: m.topics, ...m.start() }),
      unsubscribe: (m) => send({ type: "unsubscribe", sub: m.id }),
      auth: () => line.token && send({ type: "auth", token: line.token }),
      ping: () => send({ type: "ping" }),
    };
    ws.onopen = () => {
      line.alive();
      line.socket = socket;
      socket.auth();
      for (const m of line.members.values()) socket.subscribe(m);
    };
    ws.onmessage = (e) => {
      line.alive();
      try {
        const frame = JSON.parse(e.data);
        greeted ||= frame.type === "hello";
        hear(line, frame);
      } catch (why) {
        end(why);
      }
    };
    ws.onerror = () => end(closed(1006, "", greeted)); // not all of them close after it
    ws.onclose = ({ code, reason }) => end(closed(code, reason, greeted));
  });
}

interface Frame {
  type: string;
  sub?: string;
  cursor?: string;
  events?: HarkEvent[];
  gap?: Gap;
  status?: number;
  code?: string;
  detail?: string;
  reason?: string;
  reconnect_ms?: number;
}

function hear(line: Line, f: Frame): void {
  if (f.type === "end") throw ended(f as { reason: string });
  const m = line.members.get(f.sub!);
  if (f.type === "error") {
    const status = f.status ?? 500;
    const again = status === 403 && m && !m.asked && line.mayRenew(); // with another token, once
    if (again) m.asked = true;
    const verdict = status === 401 || again ? "token" : status >= 400 && status < 500 && status !== 429 ? "refused" : "again";
    const fault = new Fault(verdict, f.detail ?? f.code ?? "refused", status, f.code);
    if (verdict === "refused" && m) line.refuse(m, fault);
    else if (verdict !== "refused" || status === 403) throw fault;
    return;
  }
  if (!m) return; // unsubscribed meanwhile
  if (f.type === "subscribed") {
    m.joined = true;
    line.ready(f.cursor, m);
  } else if (f.type === "events" || f.type === "gap" || f.type === "cursor") {
    line.feed({ events: f.events, gap: f.gap, cursor: f.cursor ?? f.gap?.to }, m);
  }
}

function closed(code: number, reason: string, greeted: boolean): Fault {
  const message = `the WebSocket was closed: ${code} ${reason}`.trim();
  if (code === 4401 || code === 4408 || code === 4001) return new Fault("token", message, 401);
  if (code >= 4400 && code < 4500) return new Fault("next", message, 400);
  return new Fault(greeted ? "again" : "next", message);
}
