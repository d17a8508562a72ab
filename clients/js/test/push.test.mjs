// Enabling, disabling and repairing: the page and its worker together.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser, key } from "./browser.mjs";
import { load } from "./source.mjs";

const { push } = await load("push");

function open(more = {}) {
  const b = Object.assign(new Browser(), more);
  b.page();
  return b;
}

const fails = async (code, f) => {
  const e = await f().then(() => assert.fail("it worked"), (e) => e);
  assert.equal(e.name, "HarkError");
  assert.equal(e.code, code, e.message);
  return e;
};

test("enable asks the user, subscribes and registers", async () => {
  const b = open();
  assert.deepEqual(await push.state({}), { state: "off", device: undefined, subscription: undefined });
  const { device, subscription } = await push.enable({ url: "https://hark.example/", token: "t1", topics: "user.42.>", app: "shop", name: "my laptop" });
  assert.equal(b.asked, 1);
  assert.deepEqual(b.registered, { path: "/hark-sw.js", updateViaCache: "none" });
  assert.deepEqual(b.requests.map((r) => [r.method, r.host, r.path, r.token]), [
    ["GET", "hark.example", "/v1/push/key?app=shop", "t1"], ["POST", "hark.example", "/v1/devices", "t1"]]);
  const { subscription: given, ...rest } = b.requests[1].body;
  assert.deepEqual(rest, { kind: "webpush", app: "shop", topics: ["user.42.>"], locale: "de-AT", name: "my laptop", vapid_key: "k1" });
  assert.deepEqual(given.keys, { p256dh: "p", auth: "a" });
  assert.equal(subscription, b.subscription);
  assert.equal(device.id, "dev_1");
  const state = await push.state();
  assert.deepEqual([state.state, state.device, state.subscription], ["on", "dev_1", b.subscription]);
});

test("again it is the same device, and nobody is asked", async () => {
  const b = open();
  await push.enable({ token: "t" });
  const { endpoint } = b.subscription;
  const { device } = await push.enable({ token: "t" });
  assert.deepEqual([device.id, b.subscription.endpoint, b.asked, b.devices.size], ["dev_1", endpoint, 1, 1]);
});

test("a subscription that is gone, expired or bound to another key is replaced, and its device goes", async () => {
  const b = open();
  await push.enable({ token: "t" });
  for (const breaks of [() => (b.subscription = null), () => (b.subscription.expirationTime = Date.now() - 1), () => (b.key = { vapid_key: "k2", public_key: key() })]) {
    const before = b.subscription.endpoint;
    breaks();
    await push.enable({ token: "t" });
    assert.notEqual(b.subscription.endpoint, before);
    assert.deepEqual([...b.devices.values()].map((d) => d.endpoint), [b.subscription.endpoint]);
  }
  assert.equal([...b.devices.values()][0].vapid_key, "k2");
});

test("what stands in the way is told before anything is tried", async () => {
  const phone = { userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) Safari/604.1", platform: "iPhone", maxTouchPoints: 5 };
  const matchMedia = (home) => () => ({ matches: home });
  for (const [state, break_, said] of [
    ["denied", (b) => (b.permission = "denied"), /settings/],
    ["insecure", () => (globalThis.isSecureContext = false), /https/],
    ["unsupported", () => (globalThis.PushManager = undefined), /no Web Push/],
    ["unsupported", () => (globalThis.Notification = undefined), /no Web Push/],
    ["unsupported", () => (globalThis.navigator.serviceWorker = undefined), /no Web Push/],
    ["unsupported", () => (globalThis.document = undefined), /no Web Push/],
    ["install", () => { Object.assign(globalThis.navigator, phone); globalThis.PushManager = undefined; globalThis.matchMedia = matchMedia(false); }, /Home Screen/],
    ["install", () => { Object.assign(globalThis.navigator, phone, { userAgent: "Macintosh", platform: "MacIntel" }); globalThis.PushManager = undefined; globalThis.matchMedia = matchMedia(false); }, /Home Screen/],
    ["unsupported", () => { Object.assign(globalThis.navigator, phone); globalThis.PushManager = undefined; globalThis.matchMedia = matchMedia(true); }, /no Web Push/],
  ]) {
    const b = open();
    break_(b);
    if (globalThis.document === undefined) delete globalThis.document;
    const e = await fails("push-" + state, () => push.enable({ url: "https://hark.example" }));
    assert.match(e.message, said);
    assert.deepEqual([b.asked, b.requests], [undefined, []]);
    const told = await push.state();
    assert.equal(told.state, state);
    assert.match(told.reason, said);
    assert.equal(await push.disable(), false);
  }
});

test("a user who says no, or nothing", async () => {
  await fails("push-denied", () => open({ says: "denied" }) && push.enable());
  await fails("push-dismissed", () => open({ says: "default" }) && push.enable());
});

test("a worker that does not start, and one that is another's", async () => {
  const e = await fails("push-worker", () => open({ noWorker: "bad MIME type" }) && push.enable());
  assert.match(e.message, /own origin: bad MIME type/);
});

test("a push service that refuses", async () => {
  const e = await fails("push-service", () => open({ refuses: "AbortError" }) && push.enable());
  assert.match(e.message, /push service/);
  await fails("push-denied", () => open({ refuses: "NotAllowedError" }) && push.enable());
});

test("a server that refuses says why", async () => {
  const b = open();
  b.answer = (r) => r.path === "/v1/devices" && new Response(JSON.stringify({ detail: "topics: you may not", code: "topic-forbidden" }), { status: 403, headers: { "Content-Type": "application/problem+json" } });
  const e = await fails("topic-forbidden", () => push.enable({ token: "t" }));
  assert.deepEqual([e.status, e.message], [403, "topics: you may not"]);
  assert.equal((await push.state()).state, "off");
  b.answer = () => { throw new TypeError("fetch failed"); };
  const gone = await fails(undefined, () => push.enable({ token: "t" }));
  assert.match(gone.message, /cannot be reached: fetch failed/);
  b.answer = () => {};
  await push.enable({ token: "t" });
  assert.equal((await push.state()).state, "on");
});

test("disable takes back device and subscription", async () => {
  const b = open();
  await push.enable({ getToken: () => "fresh" });
  assert.equal(await push.disable(), true);
  assert.deepEqual([b.subscription, b.devices.size, b.stored.size], [null, 0, 0]);
  assert.equal(b.requests.at(-1).token, "fresh");
  assert.equal(await push.disable(), false);
  assert.equal((await push.state()).state, "off");
  // A server that is away does not keep it.
  await push.enable({ token: "t" });
  b.answer = () => { throw new Error("offline"); };
  assert.equal(await push.disable(), true);
  assert.equal(b.subscription, null);
});

test("the page hears what comes, and may take it", async () => {
  const b = open();
  const heard = [];
  let takes = true;
  await push.enable({ token: "t", onMessage: (m) => { heard.push(m); return takes; } });
  await b.push({ web_push: 8030, notification: { title: "<b>Ann</b>", navigate: "/chat" }, hark: { event: "evt_1" } });
  assert.deepEqual([heard.length, heard[0].title, b.notifications], [1, "<b>Ann</b>", []]);
  takes = false;
  await b.push({ title: "two" });
  assert.deepEqual([heard.length, b.notifications.length], [2, 1]);
  takes = true;
  await b.click(b.notifications[0]);
  assert.deepEqual([heard.length, heard[2].clicked, b.opened, b.tabs[0].focused], [3, "", [], 1]);
});

test("moved by its push service, the worker says so: with the app's token, a page's, or the one it has", async () => {
  for (const [options, tabs, token] of [
    [{ token: "t", tokenURL: "/my/token" }, true, "from-the-app"],
    [{ getToken: () => "fresh" }, true, "fresh"],
    [{ token: "kept" }, false, "kept"],
    [{ token: "hk_manage" }, false, undefined], // a key is not kept
  ]) {
    const b = open();
    await push.enable(options);
    const before = b.subscription.endpoint;
    if (!tabs) b.tabs = [];
    b.subscription = null;
    b.worker(); // started anew
    await b.running.dispatch("pushsubscriptionchange");
    assert.deepEqual([...b.devices.values()].map((d) => [d.endpoint, d.token, d.locale]), [[b.subscription.endpoint, token, "de-AT"]]);
    assert.notEqual(b.subscription.endpoint, before);
    assert.equal((await push.state()).device, [...b.devices.keys()][0]);
  }
});

test("moved to a subscription that the browser made itself", async () => {
  const b = open();
  await push.enable({ token: "t" });
  const made = await b.subscribe({ applicationServerKey: Buffer.from(b.key.public_key, "base64url"), userVisibleOnly: true });
  await b.running.dispatch("pushsubscriptionchange", { newSubscription: made });
  assert.deepEqual([...b.devices.values()].map((d) => d.endpoint), [made.endpoint]);
});

test("moved while the server is away, it tries again; refused, it leaves it to the next page", async (t) => {
  const b = open();
  await push.enable({ token: "t" });
  b.subscription = null;
  let fails = 2;
  b.answer = (r) => r.path === "/v1/devices" && fails-- > 0 && new Response("", { status: 503 });
  t.mock.timers.enable({ apis: ["setTimeout"] });
  // The worker's timers are those of the process.
  const worker = b.worker();
  const moved = worker.dispatch("pushsubscriptionchange");
  for (let i = 0; i < 50; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    t.mock.timers.tick(1000);
  }
  await moved;
  assert.deepEqual([...b.devices.values()].map((d) => d.endpoint), [b.subscription.endpoint]);

  b.subscription = null;
  b.requests = [];
  b.answer = (r) => r.path === "/v1/devices" && new Response("", { status: 401 });
  const refused = worker.dispatch("pushsubscriptionchange");
  for (let i = 0; i < 10; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    t.mock.timers.tick(1000);
  }
  await refused;
  assert.equal(b.requests.filter((r) => r.path === "/v1/devices").length, 1);
});

test("a browser that keeps nothing is pushed to all the same", async () => {
  const b = open({ forgetful: true });
  const { device } = await push.enable({ token: "t" });
  assert.equal(device.id, "dev_1");
  await b.push({ title: "a" });
});
