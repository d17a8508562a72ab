// A hub and its tabs: who shares what, and that each is handed its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fake, id, until } from "./fake.mjs";
import { load, seeded } from "./source.mjs";

const { Hub } = await load("hub");
const { matches } = await load("topics");

const wants = (f, more = {}) => ({ topics: ["a"], url: f.url, key: "k", order: ["sse"], pollEvery: 500, renews: false, asked: false, ...more });

// Tab is a page as far as a hub knows it. It keeps its cursor, and gives it when it comes again.
class Tab {
  ids = [];
  gaps = [];
  state = "";
  constructor(hub, name, want) {
    Object.assign(this, { hub, name, want, cursor: want.after });
  }
  send(m) {
    this.hub.receive({ tab: this.name, ...m }, (x) => {
      if (x.t === "hello") this.known = x.known;
      if (x.t === "state") this.state = x.state;
      if (x.t === "events") for (const e of x.events) {
        assert.ok(!this.cursor || e.id > this.cursor, `${this.name} is handed ${e.id} at ${this.cursor}`);
        this.ids.push((this.cursor = e.id));
      }
      if (x.t === "gap") this.gaps.push(x.gap);
      if (x.cursor > (this.cursor ?? "")) this.cursor = x.cursor;
    });
  }
  join() {
    const { from, last, ...want } = this.want;
    this.send({ t: "add", sub: "s", want: this.cursor ? { ...want, after: this.cursor } : { ...want, from, last } });
  }
}

async function fake(t) {
  const f = await Fake.start();
  t.after(() => f.stop());
  const hubs = [];
  return [f, (shared = false) => {
    const hub = new Hub(shared);
    t.after(() => hub.close());
    return hub;
  }];
}

test("one key, one connection; another key, another", async (t) => {
  const [f, make] = await fake(t);
  const hub = make();
  const tabs = [["k", ["a"]], ["k", ["b.>"]], ["k", ["a", "c"]], ["other", ["a"]]].map(([key, topics], i) => new Tab(hub, "t" + i, wants(f, { key, topics })));
  tabs.forEach((x) => x.join());
  await until("all live", () => tabs.every((x) => x.state === "live"));
  assert.equal(f.open.size, 2);
  f.publish("a", 1);
  f.publish("b.x", 2);
  await until("all", () => tabs[3].ids.length && tabs[1].ids.length && tabs[2].ids.length);
  assert.deepEqual(tabs.map((x) => x.ids), [[id(1)], [id(2)], [id(1)], [id(1)]]);
});

test("more topics than a request may have: as many connections as it takes", async (t) => {
  const [f, make] = await fake(t);
  const hub = make();
  const tabs = Array.from({ length: 5 }, (_, i) => new Tab(hub, "t" + i, wants(f, { topics: Array.from({ length: 30 }, (_, j) => `n.${i}.${j}`) })));
  tabs.forEach((x) => x.join());
  await until("all live", () => tabs.every((x) => x.state === "live"));
  assert.equal(f.open.size, 3);
  assert.ok(f.requests.every((q) => q.topics.length <= 64));
});

test("those who ask for the newest few each get their own", async (t) => {
  const [f, make] = await fake(t);
  for (let i = 1; i <= 20; i++) f.publish(i % 2 ? "odd" : "even", i);
  const hub = make();
  const odd = new Tab(hub, "odd", wants(f, { topics: ["odd"], last: 2 }));
  const even = new Tab(hub, "even", wants(f, { topics: ["even"], last: 3 }));
  const now = new Tab(hub, "now", wants(f, { topics: ["odd", "even"] }));
  for (const x of [odd, even, now]) x.join();
  await until("live", () => [odd, even, now].every((x) => x.state === "live"));
  f.publish("odd", 21);
  await until("all", () => now.ids.length && odd.ids.length === 3);
  assert.deepEqual([odd.ids, even.ids, now.ids], [[17, 19, 21].map(id), [16, 18, 20].map(id), [id(21)]]);
});

test("a gap is told to those who were away, and to no others", async (t) => {
  const [f, make] = await fake(t);
  for (let i = 1; i <= 20; i++) f.publish("a", i);
  f.floor = 10;
  const hub = make();
  const old = new Tab(hub, "old", wants(f, { after: id(3) }));
  const young = new Tab(hub, "young", wants(f, { topics: ["a", "b"], after: id(15) }));
  young.join();
  old.join(); // at the same time: one stream, from where the older is
  await until("all", () => old.ids.length === 10 && young.ids.length === 5);
  assert.deepEqual([old.gaps.length, young.gaps.length], [1, 0]);
  assert.equal(old.gaps[0].to, id(10));
  assert.deepEqual(f.requests.map((q) => [q.path, q.after]), [["/v1/stream", id(3)]]);
});

test("a tab that is gone without a word is forgotten, and may come again", async (t) => {
  const [f, make] = await fake(t);
  t.mock.timers.enable({ apis: ["setInterval", "Date"] });
  const hub = make(true);
  const tab = new Tab(hub, "t", wants(f));
  tab.join();
  await until("live", () => tab.state === "live");
  for (let i = 0; i < 20; i++) {
    t.mock.timers.tick(60_000); // it pings, if seldom
    tab.send({ t: "ping" });
    assert.equal(tab.known, 1);
  }
  t.mock.timers.tick(200_000);
  t.mock.timers.reset();
  await until("closed", () => !f.open.size);
  tab.send({ t: "ping" });
  assert.equal(tab.known, 0);
  tab.join();
  await until("live again", () => f.open.size === 1);
});

for (const order of [["sse"], ["longpoll"], ...(globalThis.WebSocket ? [["websocket"]] : []), ["sse", "websocket", "longpoll"]]) {
  test(`tabs come, go and come again at random, over ${order}: each is handed its own, once, in order`, async (t) => {
    const random = seeded(t);
    const [f, make] = await fake(t);
    const topics = ["a.1", "a.2", "b", "c.x.y"], patterns = [["a.*"], ["a.1", "b"], [">"], ["c.>", "a.2"], ["b"]];
    let hub = make();
    const tabs = [];
    const nap = () => new Promise((r) => setTimeout(r, random(12)));
    const start = () => (f.events.length ? id(1 + random(f.events.length)) : undefined);
    f.publish("a.1", 0);
    for (let step = 0; step < 400; step++) {
      const dice = random(20);
      if (dice < 12) f.publish(topics[random(4)], step);
      else if (dice < 14 && tabs.length < 8) {
        const tab = new Tab(hub, "tab" + tabs.length, wants(f, { order, topics: patterns[random(5)], after: start() }));
        tab.began = tab.cursor;
        tabs.push(tab);
        tab.join();
      } else if (dice < 16 && tabs.length) {
        const tab = tabs[random(tabs.length)];
        tab.send({ t: "bye" });
        if (random(2)) await nap();
        tab.join();
      } else if (dice === 17 && random(3) === 0) f.cut();
      else if (dice === 18 && random(3) === 0) for (const end of f.open) end("lifetime", random(50));
      else if (dice === 19 && random(5) === 0) { // the hub dies; the next is told the cursors
        const dead = hub;
        hub = make();
        for (const tab of tabs) {
          tab.hub = hub;
          tab.join();
        }
        dead.close();
      }
      if (random(3) === 0) await nap();
    }
    const want = (tab) => f.events.filter((e) => e.id > tab.began && matches(tab.want.topics, e.topic)).map((e) => e.id);
    await until(() => tabs.map((x) => `${x.name} ${x.state} ${x.ids.length}/${want(x).length}`).join(", "), () => tabs.every((x) => x.ids.length >= want(x).length), 30_000);
    for (const tab of tabs) assert.deepEqual(tab.ids, want(tab), tab.name);
    assert.ok(tabs.length === 8);
    // A line of all of them is one connection again.
    if (order[0] === "sse" && order.length === 1) await until("one connection", () => f.open.size === 1);
  });
}
