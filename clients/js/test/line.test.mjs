// The state machine of a connection, on a clock of the test's own and a network of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { id } from "./fake.mjs";
import { load } from "./source.mjs";

const { Line, Member } = await load("line");

// flush lets promises come to rest.
const flush = async () => {
  for (let i = 0; i < 10; i++) await new Promise((r) => setImmediate(r));
};

// network replaces clock, fetch and WebSocket. answer(request) gives a Response, or throws; a
// request that is not answered hangs until it is given up.
function network(t, answer) {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: Date.UTC(2026, 0, 31) });
  const n = { answer, requests: [], start: Date.now() };
  t.mock.method(globalThis, "fetch", async (url, { headers, signal }) => {
    const u = new URL(url);
    const q = {
      path: u.pathname, at: Date.now() - n.start, topics: u.searchParams.getAll("topic"), token: headers.Authorization,
      ...Object.fromEntries([...u.searchParams].filter(([k]) => k !== "topic")), signal,
    };
    n.requests.push(q);
    const gone = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    gone.catch(() => {});
    const got = await Promise.race([gone, Promise.resolve(n.answer(q)).then((a) => a ?? new Promise(() => {}))]);
    if (got.stream) signal.addEventListener("abort", () => got.stream.fail(signal.reason));
    return got.stream ? got.response : got;
  });
  n.sockets = [];
  const before = globalThis.WebSocket;
  t.after(() => (globalThis.WebSocket = before));
  globalThis.WebSocket = class {
    readyState = 0;
    sent = [];
    constructor(url) {
      this.url = url;
      n.sockets.push(this);
      n.requests.push({ path: "/v1/ws", at: Date.now() - n.start });
      queueMicrotask(() => n.connect?.(this));
    }
    open() {
      this.readyState = 1;
      this.onopen();
    }
    hear(frame) {
      this.onmessage({ data: JSON.stringify(frame) });
    }
    send(text) {
      const f = JSON.parse(text);
      this.sent.push(f);
      n.frame?.(this, f);
    }
    drop(code = 1006) {
      this.readyState = 3;
      this.onclose?.({ code, reason: "" });
    }
    close() {
      this.readyState = 3;
    }
  };
  n.pass = async (ms, step = 250) => {
    await flush();
    for (let left = ms; left > 0; left -= step) {
      t.mock.timers.tick(Math.min(step, left));
      await flush();
    }
  };
  return n;
}

function stream(first = "") {
  let c;
  const body = new ReadableStream({ start: (x) => (c = x) });
  const s = {
    send: (text) => c.enqueue(new TextEncoder().encode(text)),
    event: (n, topic = "a") => s.send(`id: ${id(n)}\ndata: ${JSON.stringify({ id: id(n), topic })}\n\n`),
    end: () => c.close(),
    fail: (why = new TypeError("terminated")) => {
      try {
        c.error(why);
      } catch {} // it is over
    },
  };
  if (first) s.send(first);
  return { stream: s, response: new Response(body, { headers: { "content-type": "text/event-stream" } }) };
}

const json = (value) => new Response(JSON.stringify(value), { headers: { "content-type": "application/json" } });
const problem = (status, code, headers = {}) => new Response(JSON.stringify({ status, code, detail: code }), { status, headers: { "content-type": "application/problem+json", ...headers } });
const primed = (n) => stream(`retry: 2000\nid: ${id(n)}\n\n`);

const wants = { topics: ["a"], url: "http://hark", key: "k", order: ["sse", "websocket", "longpoll", "poll"], pollEvery: 5000, renews: false, asked: false };

// member joins a line and keeps what it is told.
function member(line, want = {}, name = String(line.members.size)) {
  const told = { ids: [], gaps: [], states: [], tokens: 0, last: undefined };
  const m = new Member(name, { ...line.want, ...want }, (x) => {
    if (x.t === "events") told.ids.push(...x.events.map((e) => e.id));
    if (x.t === "gap") told.gaps.push(x.gap);
    if (x.t === "state") told.states.push((told.last = x).state);
    if (x.t === "token") {
      told.tokens++;
      const token = want.getToken?.(told.tokens);
      if (token !== "silence") queueMicrotask(() => m.answer?.(token));
    }
  });
  told.member = m;
  line.add(m);
  return told;
}

const line = (t, want = {}) => {
  const l = new Line({ ...wants, ...want }, () => (l.over = true));
  t.after(() => [...l.members.values()].forEach((m) => l.remove(m)));
  return l;
};

test("a server that is down: later and later, with jitter, for ever", async (t) => {
  const n = network(t, () => {
    throw new TypeError("fetch failed");
  });
  const told = member(line(t, { order: ["sse"] }));
  await n.pass(600_000);
  const waits = n.requests.slice(1).map((q, i) => q.at - n.requests[i].at);
  waits.forEach((w, i) => {
    const most = Math.min(30_000, 1000 * 2 ** i);
    assert.ok(w >= most / 2 - 1 && w <= most + 300, `wait ${i} is ${w}`);
  });
  assert.ok(new Set(waits.slice(6).map((w) => Math.round(w / 250))).size > 3, "no jitter");
  assert.ok(waits.length > 20 && told.last.state === "waiting" && told.last.retryIn > 0);
});

test("Retry-After is kept, if it can be believed", async (t) => {
  const answers = [["100", 100_000], ["86400", 300_000], [new Date(Date.UTC(2026, 0, 31, 0, 8)).toUTCString(), 80_000], ["soon", 4000], ["-5", 8000]];
  const n = network(t, () => problem(503, "busy", { "Retry-After": answers[(n.requests.length - 1) % answers.length][0] }));
  member(line(t, { order: ["sse"] }));
  await n.pass(500_000);
  const waits = n.requests.slice(1).map((q, i) => q.at - n.requests[i].at);
  assert.ok(Math.abs(waits[0] - 100_000) < 1000, `${waits[0]}`);
  assert.ok(Math.abs(waits[1] - 300_000) < 1000, `${waits[1]}`);
  assert.ok(Math.abs(waits[2] - 80_000) < 1000, `${waits[2]}`);
});

test("a retry of a year, of NaN: five minutes at most, and never none", async (t) => {
  for (const [retry, least, most] of [["31536000000", 299_000, 301_000], ["9".repeat(400), 299_000, 301_000], ["soon", 999, 2251]]) {
    await t.test(retry.slice(0, 12), async (t) => {
      const n = network(t, () => (n.last = stream(`retry: ${retry}\nid: ${id(1)}\n\n`)));
      member(line(t));
      await n.pass(5000);
      n.last.stream.fail();
      await n.pass(310_000);
      const wait = n.requests[1].at - 5000;
      assert.ok(wait >= least && wait <= most, `${wait}`);
    });
  }
});

test("a server that ends each stream at once, and asks for nothing or for nonsense, is spared", async (t) => {
  for (const ms of ["0", "-5", "null", '"soon"', "[]", "1e400"]) {
    await t.test(ms, async (t) => {
      const n = network(t, () => stream(`event: end\ndata: {"reason":"stopping","reconnect_ms":${ms}}\n\n`));
      member(line(t, { order: ["sse"] }));
      await n.pass(60_000);
      assert.ok(n.requests.length < 15, `${n.requests.length} requests in a minute`);
    });
  }
});

test("a server that answers the same page again and again is spared", async (t) => {
  const same = { events: [{ id: id(7), topic: "a" }], cursor: id(7), more: true };
  for (const [name, page] of Object.entries({ events: same, empty: { ...same, events: [] }, nothing: { more: true }, older: { ...same, cursor: id(3) } })) {
    for (const order of [["longpoll"], ["poll"]]) {
      await t.test(`${name}, ${order}`, async (t) => {
        const n = network(t, () => json(page));
        const l = line(t, { order });
        const told = member(l);
        await n.pass(60_000);
        assert.ok(n.requests.length < 40, `${n.requests.length} requests in a minute`);
        // With a cursor before its own events it contradicts itself; the subscription drops what it had.
        if (name !== "older") assert.deepEqual(told.ids, page.events?.length ? [id(7)] : []);
      });
    }
  }
});

test("half-open: 45 s without a byte; comments are bytes", async (t) => {
  const n = network(t, () => (n.last = primed(1)));
  const told = member(line(t));
  await n.pass(2000);
  assert.equal(told.last.state, "live");
  for (let i = 0; i < 40; i++) {
    n.last.stream.send(":\n\n");
    await n.pass(15_000, 5000);
  }
  assert.equal(n.requests.length, 1, "ten minutes of comments");
  n.last.stream.event(7);
  await n.pass(44_000, 1000);
  assert.equal(n.requests.length, 1);
  await n.pass(6_000);
  assert.equal(n.requests.length, 2);
  assert.deepEqual([n.requests[1].path, n.requests[1].after], ["/v1/stream", id(7)]);
  assert.deepEqual(told.ids, [id(7)]);
});

test("a lost connection comes back after the server's retry, at the cursor", async (t) => {
  const n = network(t, () => (n.last = primed(1)));
  const told = member(line(t));
  await n.pass(1000);
  n.last.stream.event(5);
  n.last.stream.send(`id: ${id(9)}\n\n`); // moved over what did not match
  await n.pass(0);
  n.last.stream.fail();
  await n.pass(1500);
  assert.equal(n.requests.length, 1);
  await n.pass(1000);
  assert.equal(n.requests.length, 2);
  assert.equal(n.requests[1].after, id(9));
  n.last.stream.event(5); // a server that repeats itself
  n.last.stream.event(9);
  n.last.stream.event(10);
  await n.pass(0);
  assert.deepEqual(told.ids, [id(5), id(10)]);
});

test("no first block: the next transport after 8 s; all fail: more patience", async (t) => {
  const n = network(t, () => undefined);
  member(line(t));
  await n.pass(120_000);
  const tried = n.requests.map((q) => [q.path, Math.round(q.at / 1000)]);
  assert.deepEqual(tried.slice(0, 4), [["/v1/stream", 0], ["/v1/ws", 8], ["/v1/events", 16], ["/v1/events", 24]]);
  const second = tried.slice(4, 7).map(([, at]) => at);
  assert.ok(second[1] - second[0] >= 15, "the second round waits longer: " + tried);
});

test("the first block comes and then nothing: that proxy holds streams back, too", async (t) => {
  const n = network(t, (q) => q.path === "/v1/stream" ? primed(1) : q.wait ? undefined : json({ events: [], cursor: id(1), more: false }));
  n.connect = (ws) => ws.drop();
  const told = member(line(t));
  await n.pass(60_000);
  assert.equal(told.last.transport, "longpoll");
  assert.equal(told.last.state, "live");
});

test("better transports are tried again, less and less often", async (t) => {
  let works = false;
  const n = network(t, (q) => q.path === "/v1/stream" ? (works ? (n.last = primed(1)) : new Response("", { status: 404 })) : q.wait ? new Promise((r) => setTimeout(r, 25_000, json({ events: [], cursor: id(1) }))) : json({ events: [], cursor: id(1) }));
  n.connect = (ws) => ws.drop();
  const told = member(line(t));
  await n.pass(1000);
  assert.equal(told.last.transport, "longpoll");
  await n.pass(3_600_000, 5000);
  const tries = n.requests.filter((q) => q.path === "/v1/stream").map((q) => Math.round(q.at / 60_000));
  assert.deepEqual(tries, [0, 2, 6, 14, 30]);
  works = true;
  await n.pass(120_000, 5000);
  assert.deepEqual([told.last.transport, told.last.state], ["sse", "live"]);
});

test("polling for long leaves nothing behind", async (t) => {
  const n = network(t, () => json({ events: [], cursor: id(1) }));
  member(line(t, { order: ["poll"] }));
  await n.pass(1000);
  const { signal } = n.requests[0];
  let listening = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...a) => (listening++, addEventListener.apply(signal, a));
  signal.removeEventListener = (...a) => (listening--, removeEventListener.apply(signal, a));
  await n.pass(600_000, 1000);
  assert.ok(n.requests.length > 100 && n.requests.length < 140, `${n.requests.length} polls in ten minutes`);
  assert.ok(listening - n.requests.length < 5, `${listening} listeners`); // the network of this test has one for each request
});

test("what worked the last time goes first", async (t) => {
  const n = network(t, (q) => (q.wait ? undefined : json({ events: [], cursor: id(1) })));
  const told = member(line(t, { prefer: "longpoll" }));
  await n.pass(1000);
  assert.deepEqual(n.requests.map((q) => q.path), ["/v1/events", "/v1/events"]);
  assert.equal(told.last.transport, "longpoll");
});

test("a wake-up ends a wait, and doubts silence", async (t) => {
  let up = false;
  const n = network(t, () => {
    if (!up) throw new TypeError("fetch failed");
    return (n.last = primed(1));
  });
  const l = line(t, { order: ["sse"] });
  const told = member(l);
  await n.pass(60_000);
  const before = n.requests.length;
  up = true;
  l.wake(true);
  await n.pass(100, 50);
  assert.equal(told.last.state, "live");
  assert.equal(n.requests.length, before + 1);
  await n.pass(15_000);
  l.wake(false);
  await n.pass(0);
  assert.equal(n.requests.length, before + 1, "15 s of silence are as they should be");
  await n.pass(8_000);
  l.wake(false);
  await n.pass(0);
  assert.equal(n.requests.length, before + 2, "23 s are not");
});

// jwt makes a token whose times are as told, in seconds.
const jwt = (claims) => `h.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;

test("a token is replaced before it ends, by the clock of who made it", async (t) => {
  const n = network(t, () => (n.last = primed(1)));
  const skewed = 1_000_000; // the device's clock is wrong
  const fresh = (i) => jwt({ sub: "1", n: i, iat: skewed, exp: skewed + 100 });
  const told = member(line(t, { order: ["sse"], renews: true, token: fresh(0) }), { getToken: fresh });
  const keep = setInterval(() => n.last.stream.send(":\n\n"), 10_000);
  await n.pass(75_000);
  assert.equal(told.tokens, 0);
  await n.pass(10_000);
  assert.equal(told.tokens, 1);
  assert.equal(n.requests.at(-1).token, "Bearer " + fresh(1));
  await n.pass(80_000);
  assert.equal(told.tokens, 2);
  assert.deepEqual([...new Set(told.states)], ["connecting", "live"], "nothing was lost on the way");
  assert.equal(told.states.filter((s) => s === "connecting").length, 1, "nor said");
  clearInterval(keep);
});

test("a token that cannot be had now: the stream goes on, it is asked for again", async (t) => {
  const n = network(t, () => (n.last = primed(1)));
  const token = jwt({ iat: 1, exp: 101 });
  const told = member(line(t, { order: ["sse"], renews: true, token }), { getToken: (i) => (i < 3 ? undefined : "new") });
  const keep = setInterval(() => n.last?.stream.send(":\n\n"), 10_000);
  await n.pass(85_000);
  assert.equal(told.tokens, 1);
  assert.equal(told.last.state, "live");
  await n.pass(25_000);
  assert.equal(told.tokens, 3);
  assert.equal(n.requests.at(-1).token, "Bearer new");
  clearInterval(keep);
});

test("a tab that does not answer is not waited for: another is asked", async (t) => {
  const n = network(t, (q) => (q.token === "Bearer new" ? (n.last = primed(1)) : problem(401, "unauthenticated")));
  const l = line(t, { order: ["sse"], renews: true, token: "old" });
  const asleep = member(l, { getToken: () => "silence" });
  const awake = member(l, { getToken: () => "new" });
  await n.pass(14_000);
  assert.equal(awake.tokens, 0);
  await n.pass(2_000);
  assert.deepEqual([asleep.tokens, awake.tokens, awake.last.state], [1, 1, "live"]);
});

test("end: expired and revoked come back with another token, after reconnect_ms", async (t) => {
  const n = network(t, () => (n.last = primed(1)));
  const told = member(line(t, { order: ["sse"], renews: true, token: "0" }), { getToken: (i) => String(i) });
  await n.pass(1000);
  for (const [i, reason] of ["expired", "revoked"].entries()) {
    n.last.stream.send(`event: end\nretry: 700\ndata: {"reason":"${reason}","reconnect_ms":700}\n\n`);
    await n.pass(500);
    assert.equal(told.last.state, "waiting");
    await n.pass(500);
    assert.equal(told.last.state, "live");
    assert.equal(n.requests.at(-1).token, `Bearer ${i + 1}`);
  }
});

test("401 without getToken, and nobody logged in any more: refused", async (t) => {
  const n = network(t, () => problem(401, "unauthenticated"));
  const static_ = line(t, { token: "bad" });
  const told = member(static_);
  const out = line(t, { token: "bad", renews: true });
  const asked = member(out, { getToken: () => null });
  await n.pass(60_000);
  assert.deepEqual([told.last.state, told.last.error.status, static_.over], ["refused", 401, true]);
  assert.deepEqual([asked.last.state, asked.last.error.status, asked.tokens, out.over], ["refused", 401, 1, true]);
  assert.equal(n.requests.length, 2);
});

test("of those who share, only who is not allowed is refused", async (t) => {
  const n = network(t, (q) => {
    if (q.topics.includes("secret")) return problem(403, "topic-forbidden");
    return q.path === "/v1/stream" ? (n.last = primed(3)) : json({ events: [], cursor: id(3), more: false });
  });
  const l = line(t, { order: ["sse"], renews: true, token: "t" });
  const [a, bad, b] = [["a"], ["secret"], ["b"]].map((topics) => member(l, { topics, getToken: () => "t" }));
  await n.pass(1000);
  assert.deepEqual([a, bad, b].map((x) => x.last.state), ["live", "refused", "live"]);
  assert.equal(a.tokens + bad.tokens + b.tokens, 1, "one more token was tried");
  const late = member(l, { topics: ["secret"], getToken: () => "t" }, "late");
  await n.pass(5000);
  assert.equal(late.last.state, "refused");
  assert.equal(a.last.state, "live");
  n.last.stream.event(4, "b");
  await n.pass(0);
  assert.deepEqual([a.ids, b.ids], [[], [id(4)]]);
});

test("who joins later reads alone what it missed; who asks for nothing new changes nothing", async (t) => {
  const n = network(t, (q) => {
    if (q.path === "/v1/stream") return (n.last = primed(10));
    const from = Number(q.after.slice(4)) + 1; // two events a page, up to the end
    const events = [from, from + 1].filter((i) => i <= n.end && q.topics[0] === "a").map((i) => ({ id: id(i), topic: "a" }));
    return json({ events, cursor: id(Math.min(from + 1, n.end)), more: from + 1 < n.end });
  });
  const l = line(t, { order: ["sse"] });
  n.end = 10;
  const first = member(l);
  await n.pass(0);
  const late = member(l, { after: id(5) });
  await n.pass(1000);
  assert.equal(late.last.state, "live");
  assert.deepEqual(late.ids, [6, 7, 8, 9, 10].map(id));
  n.last.stream.event(11);
  await n.pass(0);
  assert.deepEqual([first.ids, late.ids.at(-1)], [[id(11)], id(11)]);
  assert.equal(n.requests.filter((q) => q.path === "/v1/stream").length, 1);

  const other = member(l, { topics: ["b"], after: id(10) });
  await n.pass(1000);
  const [q] = n.requests.slice(-1);
  assert.deepEqual([q.path, q.topics, q.after], ["/v1/stream", ["a", "b"], id(10)], "from where the last of them is, even if pages lag");
  n.last.stream.event(11);
  n.last.stream.event(12, "b");
  await n.pass(0);
  assert.deepEqual([first.ids.length, late.ids.length, other.ids], [1, 6, [id(12)]]);

  l.remove(other.member);
  await n.pass(4000);
  assert.deepEqual(n.requests.at(-1).topics, ["a", "b"], "a page that is loaded anew is soon back");
  await n.pass(2000);
  assert.deepEqual(n.requests.at(-1).topics, ["a"]);
});

test("WebSocket: a subscription each, silence is asked about, a new token without a reconnect", async (t) => {
  const n = network(t);
  n.connect = (ws) => {
    ws.open();
    ws.hear({ type: "hello", version: 1 });
  };
  n.frame = (ws, f) => {
    if (f.type === "subscribe") ws.hear(f.topics.includes("secret") ? { type: "error", sub: f.sub, status: 403, code: "topic-forbidden" } : { type: "subscribed", sub: f.sub, cursor: f.after ?? id(1) });
    if (f.type === "ping" && !n.dead) ws.hear({ type: "pong" });
  };
  const l = line(t, { order: ["websocket"], renews: true, token: jwt({ iat: 1, exp: 1001 }) });
  const a = member(l, { getToken: () => jwt({ iat: 2, exp: 1002 }) }, "a");
  await n.pass(1000);
  const [ws] = n.sockets;
  assert.equal(ws.url, "ws://hark/v1/ws");
  assert.equal(ws.sent[0].type, "auth");
  const b = member(l, { topics: ["b"], after: id(7) }, "b");
  const bad = member(l, { topics: ["secret"] }, "bad");
  await n.pass(0);
  assert.deepEqual(ws.sent.filter((f) => f.type === "subscribe").map((f) => [f.sub, f.topics, f.after]), [["a", ["a"], undefined], ["b", ["b"], id(7)], ["bad", ["secret"], undefined]]);
  await n.pass(1000);
  // The refusal brought another token first, and then was final.
  assert.deepEqual([a, b, bad].map((x) => x.last.state), ["live", "live", "refused"]);
  const now = n.sockets.at(-1);
  now.hear({ type: "events", sub: "b", events: [{ id: id(8), topic: "b" }], cursor: id(9) });
  now.hear({ type: "gap", sub: "a", gap: { from: id(1), to: id(4), reason: "retention" } });
  assert.deepEqual([b.ids, a.gaps.length, b.gaps.length], [[id(8)], 1, 0]);
  await n.pass(600_000, 5000);
  assert.ok(now.sent.filter((f) => f.type === "ping").length > 20);
  const auths = now.sent.filter((f) => f.type === "auth").length;
  await n.pass(400_000, 5000);
  assert.equal(now.sent.filter((f) => f.type === "auth").length, auths + 1);
  assert.equal(now, n.sockets.at(-1));
  n.dead = true;
  await n.pass(60_000, 5000);
  assert.notEqual(now, n.sockets.at(-1));
  const again = n.sockets.at(-1).sent.filter((f) => f.type === "subscribe").map((f) => [f.sub, f.after]);
  assert.deepEqual(again, [["a", id(4)], ["b", id(9)]]);
});

test("close codes: 4400 to 4499 do not come back by WebSocket, others do", async (t) => {
  for (const [code, path] of [[4400, "/v1/events"], [4413, "/v1/events"], [4000, "/v1/ws"], [1001, "/v1/ws"], [1006, "/v1/ws"]]) {
    await t.test(String(code), async (t) => {
      const n = network(t, () => undefined);
      n.connect = (ws) => {
        ws.open();
        ws.hear({ type: "hello", version: 1 });
        if (n.sockets.length === 1) ws.drop(code);
      };
      member(line(t, { order: ["websocket", "longpoll"] }));
      await n.pass(5000);
      assert.equal(n.requests[1].path, path);
    });
  }
});
