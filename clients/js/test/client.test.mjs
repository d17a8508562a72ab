// The built hark.js in Node against a server, over real sockets.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HarkError, subscribe } from "../hark.js";
import { Fake, id, problem, until } from "./fake.mjs";
import { seeded } from "./source.mjs";

const transports = ["sse", "longpoll", "poll", ...(globalThis.WebSocket ? ["websocket"] : [])];
const quick = { pollInterval: 500 };

// follow subscribes and keeps what it is told.
function follow(t, f, topics, options = {}) {
  const got = { ids: [], gaps: [], states: [], errors: [] };
  got.sub = subscribe(topics, {
    url: f.url, ...quick,
    onEvent: (e) => got.ids.push(e.id),
    onGap: (g) => got.gaps.push(g),
    onState: (s, info) => {
      got.states.push(s);
      if (info.error) got.errors.push(info.error);
    },
    ...options,
  });
  t.after(() => got.sub.close());
  got.live = () => until(() => `live, and not ${got.states}`, () => got.sub.state === "live");
  got.count = (n) => until(() => `${n} events, and not ${got.ids.length}`, () => got.ids.length >= n);
  return got;
}

async function fake(t) {
  const f = await Fake.start();
  t.after(() => f.stop());
  return f;
}

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => id(from + i));

describe("client", { concurrency: true }, () => {
test("WebSocket is tried, too", () => {
  assert.ok(globalThis.WebSocket, "run node with --experimental-websocket");
});

for (const transport of transports) {
  test(transport + ": from now, what matches, in order", async (t) => {
    const f = await fake(t);
    f.publish("orders.paid", 0);
    const got = follow(t, f, "orders.*", { transport });
    await got.live();
    for (let i = 2; i < 50; i++) f.publish(i % 2 ? "orders.paid" : "noise.x", i);
    await got.count(24);
    assert.deepEqual(got.ids, range(2, 49).filter((_, i) => i % 2));
    await until("the cursor is at the end", () => got.sub.cursor === id(49));
    assert.equal(got.sub.transport, transport);
    got.sub.close();
    assert.deepEqual(got.states, ["connecting", "live", "closed"]);
    await until("the server sees it go", () => !f.waiting.size);
  });

  test(transport + ": last, earliest, after", async (t) => {
    const f = await fake(t);
    for (let i = 1; i <= 1200; i++) f.publish(i % 3 ? "a.b" : "c", i);
    const last = follow(t, f, "c", { transport, last: 3 });
    const earliest = follow(t, f, [], { transport, from: "earliest" });
    const after = follow(t, f, ["a.>"], { transport, after: id(1190) });
    await Promise.all([last.count(3), earliest.count(1200), after.count(6)]);
    f.publish("c", "live");
    await Promise.all([last.count(4), earliest.count(1201)]);
    assert.deepEqual(last.ids, [id(1194), id(1197), id(1200), id(1201)]);
    assert.deepEqual(earliest.ids, range(1, 1201));
    assert.deepEqual(after.ids, [1192, 1193, 1195, 1196, 1198, 1199].map(id));
  });

  test(transport + ": a gap is told, once", async (t) => {
    const f = await fake(t);
    for (let i = 1; i <= 20; i++) f.publish("a", i);
    f.floor = 10;
    const got = follow(t, f, "a", { transport, after: id(5) });
    await got.count(10);
    f.cut();
    f.publish("a", 21);
    await got.count(11);
    assert.deepEqual(got.gaps, [{ from: id(5), to: id(10), reason: "retention" }]);
    assert.deepEqual(got.ids, range(11, 21));
  });

  test(transport + ": cut again and again, loses and doubles nothing", async (t) => {
    const f = await fake(t);
    const got = follow(t, f, "a", { transport, from: "earliest" });
    await got.live();
    for (let i = 1; i <= 300; i++) {
      f.publish("a", i);
      if (i % 100 === 50) f.cut();
      if (i % 10 === 0) await new Promise((r) => setTimeout(r, 5));
    }
    await got.count(300);
    assert.deepEqual(got.ids, range(1, 300));
  });

  test(transport + ": the token goes in no URL, and is renewed when it is refused", async (t) => {
    const f = await fake(t);
    let good = "second";
    f.fault = ({ path, headers }, a) => path !== "/v1/ws" && headers.authorization !== "Bearer " + good && problem(a, 401, "unauthenticated");
    f.refuseFrame = (m) => m.type === "auth" && m.token !== good && { status: 401, code: "unauthenticated", close: 4401 };
    const tokens = ["first", "second", "third", "fourth", "fifth"];
    const got = follow(t, f, "a", { transport, getToken: async () => tokens.shift() });
    await got.live();
    good = "third";
    f.cut(); // polls would go on until their next request
    await until("the third is asked for", () => tokens.length <= 2);
    f.publish("a", 1);
    await got.count(1);
    assert.equal(tokens.length, 2);
    good = "none";
    f.cut();
    await until("refused", () => got.sub.state === "refused", 15_000);
    assert.equal(tokens.length, 1, "asked for one more, then stopped");
    assert.ok(got.sub.error instanceof HarkError);
    assert.equal(got.sub.error.status, 401);
    const asked = f.requests.length;
    await new Promise((r) => setTimeout(r, 1500));
    assert.equal(f.requests.length, asked, "nothing is tried after that");
    for (const q of f.requests) assert.doesNotMatch(q.url, /first|second|third|fourth|token/);
  });
}

test("from one transport to the next by the cursor", async (t) => {
  const f = await fake(t);
  for (let i = 1; i <= 10; i++) f.publish("a", i);
  const ids = [];
  let cursor, n = 10;
  for (const transport of [...transports, ...transports]) {
    const got = follow(t, f, "a", { transport, ...(cursor ? { after: cursor } : { from: "earliest" }) });
    await got.count(cursor ? 5 : 10);
    ids.push(...got.ids);
    ({ cursor } = got.sub);
    got.sub.close();
    for (let i = 0; i < 5; i++) f.publish("a", ++n);
  }
  assert.deepEqual(ids, range(1, n - 5));
});

test("a proxy that holds streams back and knows no WebSocket: long poll; what worked is kept", async (t) => {
  const f = await fake(t);
  const held = [];
  f.fault = ({ path }, a) => {
    if (path === "/v1/stream") return held.push(a);
    if (path === "/v1/ws") return a.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), true;
  };
  const got = follow(t, f, "a", { from: "earliest" });
  f.publish("a", 1);
  await until("long poll", () => got.sub.state === "live" && got.sub.transport === "longpoll", 15_000);
  await got.count(1);
  f.cut();
  f.publish("a", 2);
  await got.count(2);
  assert.deepEqual(got.ids, range(1, 2));
  assert.equal(f.requests.filter((q) => q.path === "/v1/stream").length, 1);
});

test("a login page in the way is no server", async (t) => {
  const f = await fake(t);
  let away = true;
  f.fault = (q, a) => {
    if (!away) return;
    if (a.writeHead) a.writeHead(200, { "Content-Type": "text/html" });
    else a.write("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n");
    return a.end("<h1>Log in to the Wi-Fi</h1>"), true;
  };
  const got = follow(t, f, "a", { from: "earliest" });
  await until("waiting", () => got.states.includes("waiting"));
  away = false;
  f.publish("a", 1);
  await got.count(1);
  assert.equal(got.states.includes("refused"), false);
});

test("a polite end: again after reconnect_ms, without loss", async (t) => {
  for (const transport of transports.filter((x) => !x.includes("poll"))) {
    const f = await fake(t);
    const got = follow(t, f, "a", { transport });
    await got.live();
    f.publish("a", 1);
    const began = Date.now();
    for (const end of [...f.open]) end("stopping", 300);
    f.publish("a", 2);
    await got.count(2);
    assert.ok(Date.now() - began >= 290, `${Date.now() - began} ms`);
    assert.deepEqual(got.ids, range(1, 2));
    assert.equal(got.errors[0].code, "stopping");
  }
});

test("503, then 429: waits as Retry-After says, and never gives up", async (t) => {
  const f = await fake(t);
  const answers = [503, 429, 500];
  f.fault = (q, a) => {
    const status = answers.shift();
    return status && problem(a, status, "busy", { "Retry-After": "0" });
  };
  const got = follow(t, f, "a", { from: "earliest", transport: "sse" });
  f.publish("a", 1);
  await got.count(1);
  assert.deepEqual(got.errors.map((e) => e.status), [503, 429, 500]);
});

test("Hark's own 400 is for good", async (t) => {
  const f = await fake(t);
  f.fault = (q, a) => problem(a, 400, "cursor-invalid");
  const got = follow(t, f, "a", { after: "evt_x", transport: "sse" });
  await until("refused", () => got.sub.state === "refused");
  assert.equal(got.sub.error.code, "cursor-invalid");
});

test("onEvent that throws harms nothing, close() within it ends it", async (t) => {
  const f = await fake(t);
  const report = globalThis.reportError, errors = [];
  globalThis.reportError = (e) => errors.push(e.message);
  t.after(() => (globalThis.reportError = report));
  for (let i = 1; i <= 10; i++) f.publish("a", i);
  const ids = [];
  const sub = subscribe("a", {
    url: f.url, from: "earliest",
    onEvent(e, s) {
      ids.push(e.id);
      if (ids.length === 7) s.close();
      throw new Error("mine " + e.data);
    },
  });
  await until("closed", () => sub.state === "closed");
  assert.deepEqual(ids, range(1, 7));
  assert.equal(errors.length, 7);
  assert.equal(sub.cursor, id(7));
});

test("as an iterable: nothing is lost when one is slow, the cursor waits", async (t) => {
  const f = await fake(t);
  const sub = subscribe("a", { url: f.url, from: "earliest", transport: "sse" });
  for (let i = 1; i <= 12_000; i++) f.publish("a", i);
  await until("it lets go when too many wait", () => f.requests.length && !f.open.size);
  let n = 0;
  for await (const e of sub) {
    assert.equal(e.id, id(++n));
    if (n > 1) assert.equal(sub.cursor, id(n - 1));
    if (n === 12_000) break;
  }
  assert.equal(sub.state, "closed");
  assert.ok(f.requests.length > 1);
  await assert.rejects(async () => {
    f.fault = (q, a) => problem(a, 403, "topic-forbidden");
    for await (const e of subscribe("a", { url: f.url })) assert.fail(e);
  }, /it is topic-forbidden/);
});

test("an AbortSignal closes it", async (t) => {
  const f = await fake(t);
  const controller = new AbortController();
  const got = follow(t, f, "a", { signal: controller.signal });
  await got.live();
  controller.abort();
  assert.equal(got.sub.state, "closed");
  assert.equal(subscribe("a", { url: f.url, signal: controller.signal }).state, "closed");
});

test("what makes no sense is told at once", () => {
  const url = "http://127.0.0.1:1";
  for (const [topics, options] of [
    ["a..b", {}], ["a.>.b", {}], ["", {}], [["ä"], {}], [[1], {}], [Array(65).fill("a"), {}],
    ["a", { transport: "pigeon" }], ["a", { transport: [] }], ["a", { last: 0 }], ["a", { last: 1001 }], ["a", { last: 1, from: "now" }], ["a", { url: undefined }],
  ]) assert.throws(() => subscribe(topics, { url, ...options }), TypeError, JSON.stringify([topics, options]));
});

test("random faults on every transport: nothing lost, nothing doubled, in order", async (t) => {
  const random = seeded(t);
  const f = await fake(t);
  f.fault = (q, a) => {
    const dice = random(10);
    if (dice === 0) return a.destroy(), true;
    if (dice === 1 && q.path !== "/v1/ws") return problem(a, 503, "busy", { "Retry-After": "0" });
    if (dice === 2) f.cut();
  };
  const readers = [...transports, "auto", "auto"].map((transport, i) => follow(t, f, i % 2 ? "a.*" : ["a.1", "a.2", "b.>"], { transport, from: "earliest" }));
  const want = [[], []];
  for (let i = 1; i <= 600; i++) {
    const e = f.publish(["a.1", "a.2", "a.3", "b.x.y"][random(4)], i);
    if (e.topic[0] === "a") want[1].push(e.id);
    if (e.topic !== "a.3") want[0].push(e.id);
    if (random(60) === 0) f.cut();
    if (random(60) === 0) for (const end of f.open) end(["lifetime", "slow", "overloaded"][random(3)], random(100));
    if (random(5) === 0) await new Promise((r) => setTimeout(r, random(20)));
  }
  f.fault = () => {};
  await Promise.all(readers.map((r, i) => r.count(want[i % 2].length)));
  readers.forEach((r, i) => assert.deepEqual(r.ids, want[i % 2], r.sub.transport));
});
});
