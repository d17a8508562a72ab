// A small server that speaks as Hark does, with faults on demand. It keeps a log of events,
// and an account of what it was asked.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { load } from "./source.mjs";

const { matches } = await load("topics");

export const id = (n) => "evt_" + String(n).padStart(12, "0");
const offset = (cursor) => Number(cursor.slice(4));

export class Fake {
  events = []; // the n-th has id(n + 1)
  floor = 0; // what is gone
  requests = [];
  open = new Set(); // functions that end a stream: (reason, reconnect_ms)
  sockets = new Set();
  fault = () => {}; // (request, response) → true when it answered

  static async start() {
    const f = new Fake();
    f.server = createServer((q, a) => f.answer(q, a));
    f.server.on("upgrade", (q, socket) => f.upgrade(q, socket));
    f.server.on("connection", (s) => f.sockets.add(s.on("close", () => f.sockets.delete(s))));
    await once(f.server.listen(0, "127.0.0.1"), "listening");
    f.url = `http://127.0.0.1:${f.server.address().port}`;
    return f;
  }

  async stop() {
    this.server.close();
    for (const s of this.sockets) s.destroy();
    await once(this.server, "close");
  }

  // cut drops every connection, as a network does.
  cut() {
    for (const s of this.sockets) s.destroy();
  }

  publish(topic, data) {
    this.events.push({ id: id(this.events.length + 1), topic, received: "2026-01-31T15:04:05Z", content_type: "application/json", data });
    for (const w of [...this.waiting]) w();
    return this.events.at(-1);
  }
  waiting = new Set();

  // begin resolves what a request asks for into a position, and a gap.
  begin(topics, { after, from, last }) {
    const end = this.events.length;
    if (last) {
      const all = this.events.filter((e) => matches(topics, e.topic));
      return { at: all.length > last ? offset(all.at(-last).id) - 1 : 0 };
    }
    let at = after ? offset(after) : from === "earliest" ? this.floor : from?.startsWith("evt_") ? offset(from) : end;
    if (at >= this.floor) return { at };
    const gap = { from: id(at), to: id(this.floor), reason: "retention" };
    return { at: this.floor, gap };
  }

  read(topics, at, limit = 1e9) {
    const events = [];
    while (at < this.events.length && events.length < limit) {
      const e = this.events[at++];
      if (matches(topics, e.topic)) events.push(e);
    }
    return { events, at };
  }

  async answer(q, a) {
    const url = new URL(q.url, this.url);
    const topics = url.searchParams.getAll("topic");
    const start = Object.fromEntries(["after", "from", "last"].map((n) => [n, url.searchParams.get(n) ?? undefined]));
    const asked = { path: url.pathname, topics, ...start, wait: url.searchParams.get("wait") ?? undefined, url: q.url, headers: q.headers };
    this.requests.push(asked);
    if (await this.fault(asked, a, q)) return;
    if (start.last) start.last = Number(start.last);
    if (url.pathname === "/v1/stream") return this.stream(topics, start, a);
    if (url.pathname === "/v1/events") return this.page(topics, start, Number(url.searchParams.get("limit") ?? 100), Number(asked.wait ?? 0), q, a);
    problem(a, 404, "not-found");
  }

  stream(topics, start, a) {
    let { at, gap } = this.begin(topics, start);
    a.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
    a.write(`retry: 50\nid: ${id(at)}\n\n`);
    if (gap) a.write(`event: gap\nid: ${gap.to}\ndata: ${JSON.stringify(gap)}\n\n`);
    const more = () => {
      const r = this.read(topics, at);
      if (r.at === at) return;
      at = r.at;
      let text = r.events.map((e) => `id: ${e.id}\ndata: ${JSON.stringify(e)}\n\n`).join("");
      if (!r.events.length) text = `id: ${id(at)}\n\n`;
      a.write(text);
    };
    const end = (reason, ms) => this.waiting.delete(more) && a.end(`event: end\nretry: ${ms}\ndata: ${JSON.stringify({ reason, reconnect_ms: ms })}\n\n`);
    this.waiting.add(more);
    this.open.add(end);
    a.on("close", () => {
      this.waiting.delete(more);
      this.open.delete(end);
    });
    more();
  }

  async page(topics, start, limit, wait, q, a) {
    const { at, gap } = this.begin(topics, start);
    let r = this.read(topics, at, limit);
    const until = Date.now() + wait * 1000;
    while (!r.events.length && Date.now() < until && !gap) {
      await new Promise((resolve) => {
        const timer = setTimeout(done, until - Date.now()), { waiting } = this;
        function done() {
          clearTimeout(timer);
          waiting.delete(done);
          resolve();
        }
        waiting.add(done);
        a.on("close", done);
      });
      if (a.destroyed) return;
      r = this.read(topics, at, limit);
    }
    a.writeHead(200, { "Content-Type": "application/json" });
    a.end(JSON.stringify({ events: r.events, cursor: id(r.at), gap: gap ?? null, more: r.at < this.events.length }));
  }

  // A WebSocket of which the frames are short or of 16 bits, and whole.
  async upgrade(q, socket) {
    const asked = { path: "/v1/ws", url: q.url, headers: q.headers, frames: [] };
    this.requests.push(asked);
    socket.on("error", () => {});
    if (await this.fault(asked, socket, q)) return;
    const accept = createHash("sha1").update(q.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: hark.v1\r\n\r\n`);
    const raw = (opcode, body) => {
      const long = body.length > 125;
      const head = Buffer.alloc(long ? (body.length > 65535 ? 10 : 4) : 2);
      head[0] = 0x80 | opcode;
      head[1] = long ? (body.length > 65535 ? 127 : 126) : body.length;
      if (body.length > 65535) head.writeBigUInt64BE(BigInt(body.length), 2);
      else if (long) head.writeUInt16BE(body.length, 2);
      socket.write(Buffer.concat([head, body]));
    };
    const send = (frame) => raw(1, Buffer.from(JSON.stringify(frame)));
    const close = (code) => {
      const body = Buffer.alloc(2);
      body.writeUInt16BE(code);
      raw(8, body);
      socket.end();
    };
    const subs = new Map();
    const end = (reason, ms) => {
      if (!this.waiting.delete(more)) return;
      send({ type: "end", reason, reconnect_ms: ms });
      close(reason === "stopping" ? 1001 : 4000);
    };
    const more = () => {
      for (const s of subs.values()) {
        const r = this.read(s.topics, s.at);
        if (r.at === s.at) continue;
        s.at = r.at;
        if (r.events.length) send({ type: "events", sub: s.name, events: r.events, cursor: id(s.at) });
        else send({ type: "cursor", sub: s.name, cursor: id(s.at) });
      }
    };
    this.waiting.add(more);
    this.open.add(end);
    socket.on("close", () => {
      this.waiting.delete(more);
      this.open.delete(end);
    });
    send({ type: "hello", version: 1, ping_ms: 25000 });
    frames(socket, (text) => {
      const f = JSON.parse(text);
      asked.frames.push(f);
      const refused = this.refuseFrame?.(f);
      if (refused) {
        send({ type: "error", sub: f.sub, ...refused });
        if (refused.close) close(refused.close);
      } else if (f.type === "auth") send({ type: "authenticated" });
      else if (f.type === "ping") send({ type: "pong" });
      else if (f.type === "unsubscribe") subs.delete(f.sub) && send({ type: "unsubscribed", sub: f.sub });
      else if (f.type === "subscribe") {
        const { at, gap } = this.begin(f.topics, f);
        subs.set(f.sub, { name: f.sub, topics: f.topics, at });
        send({ type: "subscribed", sub: f.sub, cursor: id(at) });
        if (gap) send({ type: "gap", sub: f.sub, gap });
        more();
      }
    });
  }
}

function frames(socket, each) {
  let all = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    all = Buffer.concat([all, chunk]);
    for (;;) {
      if (all.length < 2) return;
      let size = all[1] & 127, at = 2;
      if (size === 126) {
        if (all.length < 4) return;
        size = all.readUInt16BE(2);
        at = 4;
      }
      if (all.length < at + 4 + size) return;
      const mask = all.subarray(at, at + 4);
      const body = Buffer.from(all.subarray(at + 4, at + 4 + size).map((b, i) => b ^ mask[i % 4]));
      if ((all[0] & 15) === 1) each(body.toString());
      if ((all[0] & 15) === 8) socket.end();
      all = all.subarray(at + 4 + size);
    }
  });
}

// problem answers as Hark refuses.
export function problem(a, status, code, headers = {}) {
  a.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
  a.end(JSON.stringify({ type: "about:blank", title: code, status, detail: `it is ${code}`, code }));
  return true;
}

// until waits for what a test expects, and says what it was when it does not come.
export async function until(what, ok, within = 10_000) {
  const end = Date.now() + within;
  for (let got; !(got = await ok());) {
    if (Date.now() > end) throw new Error(`after ${within} ms: ${typeof what === "string" ? what : what()}`);
    await new Promise((r) => setTimeout(r, 5));
  }
}
