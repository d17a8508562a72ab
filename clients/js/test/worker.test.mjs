// The service worker as it is built.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "./browser.mjs";

const declarative = (more = {}, hark = { event: "evt_1", topic: "user.42.chat", receipt: "/v1/push/receipts/r1" }) =>
  ({ web_push: 8030, notification: { title: "Ann", body: "hi", navigate: "https://app.example/chat/7", ...more }, hark });

function start(more = {}, ...worker) {
  const b = Object.assign(new Browser(), { permission: "granted", ...more });
  b.worker(...worker);
  return b;
}

const receipts = (b) => b.requests.filter((r) => r.path.startsWith("/v1/push/receipts/")).map((r) => r.body.what);

test("what is pushed is shown, with its number, and said to be shown", async () => {
  const b = start();
  await b.push({ ...declarative(), app_badge: 2 });
  assert.deepEqual(b.notifications.map((n) => [n.title, n.body]), [["Ann", "hi"]]);
  assert.deepEqual(b.badges, [2]);
  const [r] = b.requests;
  assert.deepEqual([r.host, r.path, r.body, r.mode, r.credentials], ["app.example", "/v1/push/receipts/r1", { what: "shown" }, "no-cors", "omit"]);
  await b.push({ ...declarative(), app_badge: 0 });
  assert.equal(b.notifications.length, 1); // the same event
  assert.deepEqual(b.badges, [2, 0]);
});

test("something is always shown", async () => {
  const b = start();
  for (const payload of ["", undefined, "\ufffd\ufffd", "{", { web_push: 8030, hark: { data: 1 } }, { notification: { title: "", body: "" } }]) {
    await b.push(payload);
    assert.equal(b.notifications.length, 1, JSON.stringify(payload));
    b.notifications = [];
  }
  await b.running.dispatch("push", { data: { text: () => { throw new Error("unreadable"); } } });
  assert.equal(b.notifications.length, 1);
  b.notifications = [];
  b.picky = (o) => o.actions; // and what the browser does not like is left out
  await b.push(declarative({ actions: [{ action: "a", title: "A" }] }));
  assert.deepEqual(b.notifications.map((n) => [n.title, n.body]), [["Ann", "hi"]]);
});

test("a visible page may take a message; the others are told", async () => {
  const b = start();
  const takes = b.tab("/chat/7", (m, port) => port.postMessage(true));
  const hidden = b.tab("/other", undefined, "hidden");
  await b.push(declarative());
  assert.deepEqual(b.notifications, []);
  const message = { title: "Ann", body: "hi", link: "https://app.example/chat/7", event: "evt_1", topic: "user.42.chat" };
  assert.deepEqual([takes.told, hidden.told], [[{ hark: "message", message }], [{ hark: "message", message }]]);
  assert.deepEqual(receipts(b), ["shown"]);
  for (const no of [(m, port) => port.postMessage(false), (m, port) => port.postMessage("true"), () => {}, () => { throw new Error("page"); }]) {
    b.tabs = [];
    b.notifications = [];
    b.tab("/chat/7", no);
    await b.push(declarative());
    assert.equal(b.notifications.length, 1);
  }
});

test("with nothing to show a visible page is enough, and a hidden one is not", async () => {
  const b = start();
  const tab = b.tab("/", (m, port) => port?.postMessage(false));
  await b.push({ web_push: 8030, hark: { data: { n: 1 } } });
  assert.deepEqual(b.notifications, []);
  assert.deepEqual(tab.told[0].message.data, { n: 1 });
  tab.visibilityState = "hidden";
  await b.push({ web_push: 8030, hark: { data: { n: 1 } } });
  assert.equal(b.notifications.length, 1);
});

test("Safari is shown everything, as it takes the permission away otherwise", async () => {
  for (const [userAgent, shown] of [
    ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15", 1],
    ["Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1", 1],
    ["Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36", 0],
    ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", 0],
  ]) {
    const b = start({ userAgent });
    b.tab("/", (m, port) => port.postMessage(true));
    await b.push(declarative());
    assert.equal(b.notifications.length, shown, userAgent);
  }
});

test("a click goes to the page that is open there", async () => {
  const b = start();
  b.tab("/else");
  const there = b.tab("/chat/7#last");
  await b.push(declarative());
  await b.click(b.notifications[0]);
  assert.deepEqual([there.focused, b.opened, b.notifications], [1, [], []]);
  assert.deepEqual(there.told.at(-1), { hark: "message", message: { title: "Ann", body: "hi", link: "https://app.example/chat/7", event: "evt_1", topic: "user.42.chat", clicked: "" } });
  assert.deepEqual(receipts(b), ["shown", "clicked"]);
});

test("or to one that takes it, or opens another", async () => {
  const b = start();
  const app = b.tab("/inbox", (m, port) => port?.postMessage("clicked" in m.message));
  await b.push(declarative());
  await b.click(b.notifications[0]);
  assert.deepEqual([app.focused, b.opened], [1, []]);

  b.tabs = [];
  const deaf = b.tab("/inbox");
  await b.push(declarative());
  await b.click(b.notifications[0]);
  assert.deepEqual([deaf.focused, b.opened], [0, ["https://app.example/chat/7"]]);

  b.tabs = [];
  b.opened = [];
  const gone = b.tab("/chat/7");
  gone.focus = async () => { throw new Error("gone"); };
  await b.push(declarative());
  await b.click(b.notifications[0]);
  assert.deepEqual(b.opened, ["https://app.example/chat/7"]);
});

test("a click without a link goes to the app", async () => {
  const b = start();
  await b.push({ title: "a" });
  await b.click(b.notifications[0]);
  assert.deepEqual(b.opened, ["https://app.example/"]);
  const any = b.tab("/any");
  await b.push({ title: "b" });
  await b.click(b.notifications[0]);
  assert.deepEqual([any.focused, b.opened.length], [1, 1]);
});

test("each button leads where it says; other origins are opened, and told to no page", async () => {
  const b = start();
  await b.push(declarative({ actions: [{ action: "shop", title: "Shop", navigate: "https://shop.example/x" }, { action: "plain", title: "Plain" }, { action: "bad", title: "Bad", navigate: "javascript:alert(1)" }] }));
  const [n] = b.notifications;
  const page = b.tab("/inbox", (m, port) => port?.postMessage(true));
  await b.click(n, "shop");
  assert.deepEqual([b.opened, page.told, page.focused], [["https://shop.example/x"], [], 0]);
  b.tabs = [];
  for (const action of ["plain", "bad", "unknown", "toString"]) await b.click(n, action);
  assert.deepEqual(b.opened.slice(1), Array(4).fill("https://app.example/chat/7"));
});

test("notifications of the app's own, and their clicks, are the app's", async () => {
  const b = start();
  for (const data of [undefined, null, {}, { url: "/x" }, "text"]) {
    const n = { data, close: () => assert.fail("closed") };
    await b.click(n);
    await b.running.dispatch("notificationclose", { notification: n });
  }
  assert.deepEqual([b.opened, b.requests], [[], []]);
});

test("one that is wiped away is said to be; one that was clicked is not, whatever the browser says", async () => {
  const b = start();
  await b.push(declarative());
  const [n] = b.notifications;
  await b.running.dispatch("notificationclose", { notification: n });
  assert.deepEqual(receipts(b), ["shown", "dismissed"]);
  await b.click(n);
  await b.running.dispatch("notificationclose", { notification: n });
  assert.deepEqual(receipts(b), ["shown", "dismissed", "clicked"]);
});

test("receipts go to Hark only, and nothing waits for them", async () => {
  const b = start();
  for (const receipt of ["https://evil.example/v1/push/receipts/x", "javascript:1", 7, "//evil.example/", "/v1/devices", "/v1/push/receipts/", "/v1/push/receipts/../key/rotate", "/v1/events?/v1/push/receipts/x"]) await b.push(declarative({}, { receipt }));
  assert.deepEqual(b.requests, []);
  b.stored.set("https://app.example/", { url: "https://hark.example", id: "dev_1" });
  await b.push(declarative({}, { receipt: "/v1/push/receipts/r1" }));
  await b.push(declarative({}, { receipt: "https://hark.example/v1/push/receipts/r2" }));
  await b.push(declarative({}, { receipt: "https://app.example/v1/push/receipts/r3" }));
  assert.deepEqual(b.requests.map((r) => [r.host, r.path]), [["hark.example", "/v1/push/receipts/r1"], ["hark.example", "/v1/push/receipts/r2"]]);
  b.answer = () => { throw new Error("offline"); };
  await b.push(declarative());
});

test("alone it takes over at once; in an app's worker it leaves that to the app", async () => {
  const b = start();
  await b.running.dispatch("install");
  assert.ok(b.skipped);
  const own = start({}, "/sw.js", 'self.addEventListener("push", (e) => { if (e.data.text() === "mine") e.stopImmediatePropagation(); });');
  await own.running.dispatch("install");
  assert.ok(!own.skipped);
  await own.push("mine");
  assert.deepEqual(own.notifications, []);
  await own.push("theirs");
  assert.equal(own.notifications.length, 1);
});
