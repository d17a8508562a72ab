// What is shown of what was pushed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load, seeded } from "./source.mjs";

const { read, link } = await load("note");
const scope = "https://app.example/shop/";
const of = (payload) => read(typeof payload === "string" ? payload : JSON.stringify(payload), scope);

test("a declarative payload is shown as Safari shows it", () => {
  const note = of({
    web_push: 8030, app_badge: 3,
    notification: { title: "Ann", body: "hi", navigate: "/chat/7", lang: "de-AT", dir: "rtl", tag: "chat-7", icon: "/i.png", image: "https://img.example/p.jpg", silent: true,
      data: { a: 1 }, actions: [{ action: "reply", title: "Reply", navigate: "/chat/7?reply=1", icon: "/r.png" }, { action: "mute", title: "Mute" }] },
    hark: { event: "evt_1", topic: "user.42.chat", receipt: "/v1/push/receipts/abc", data: { b: 2 } },
  });
  assert.equal(note.title, "Ann");
  assert.equal(note.badge, 3);
  assert.equal(note.bare, false);
  const message = { title: "Ann", body: "hi", link: "https://app.example/chat/7", event: "evt_1", topic: "user.42.chat", data: { b: 2 } };
  assert.deepEqual(note.message, message);
  assert.deepEqual(note.options, {
    body: "hi", tag: "chat-7", icon: "https://app.example/i.png", image: "https://img.example/p.jpg", lang: "de-AT", dir: "rtl", silent: true,
    actions: [{ action: "reply", title: "Reply", icon: "https://app.example/r.png" }, { action: "mute", title: "Mute" }],
    data: { hark: { message, links: { reply: "https://app.example/chat/7?reply=1" }, receipt: "/v1/push/receipts/abc" } },
  });
});

test("the badge is at the top, or a text in the notification, and 0 takes it away", () => {
  assert.equal(of({ web_push: 8030, notification: { title: "a", app_badge: "7" } }).badge, 7);
  assert.equal(of({ web_push: 8030, notification: { title: "a" }, app_badge: 0 }).badge, 0);
  for (const none of [-1, "x", "", null, 1e9, {}, undefined]) assert.equal(of({ notification: { title: "a" }, app_badge: none }).badge, undefined, `${none}`);
});

test("other payloads are shown decently", () => {
  for (const [payload, title, body, bare] of [
    [{ title: "Ann", body: "hi" }, "Ann", "hi", false],
    [{ notification: { title: "Ann", body: "hi" }, data: { x: 1 } }, "Ann", "hi", false],
    [{ notification: { body: "hi" } }, "app.example", "hi", false],
    [{ title: "Only" }, "Only", undefined, false],
    ["Hello there", "app.example", "Hello there", false],
    ['"a JSON text"', "app.example", "a JSON text", false],
    ["42", "app.example", "42", false],
    ["", "app.example", "You have a new message", true],
    [undefined, "app.example", "You have a new message", true],
    ["[1,2]", "app.example", "You have a new message", true],
    ["null", "app.example", "You have a new message", true],
    ["true", "app.example", "You have a new message", true],
    ["\ufffd\u0001\ufffd", "app.example", "You have a new message", true],
    [{ web_push: 8030, hark: { data: { total: 3 } } }, "app.example", "You have a new message", true],
    [{ anything: { else: 1 } }, "app.example", "You have a new message", true],
    [{ notification: null, title: "no" }, "app.example", "You have a new message", true],
    [{ notification: [], data: 1 }, "app.example", "You have a new message", true],
  ]) {
    const note = payload === undefined ? read(undefined, scope) : of(payload);
    assert.deepEqual([note.title, note.options.body, note.bare], [title, body, bare], JSON.stringify(payload));
  }
  assert.deepEqual(of({ notification: { title: "a" }, data: { x: 1 } }).message.data, { x: 1 });
  assert.deepEqual(of({ web_push: 8030, hark: { data: [1] } }).message.data, [1]);
});

test("one that is delivered twice is shown once", () => {
  assert.equal(of({ web_push: 8030, notification: { title: "a" }, hark: { event: "evt_1" } }).options.tag, "evt_1");
  assert.equal(of({ title: "a", renotify: true }).options.renotify, undefined); // without a tag it is an error
});

test("links are http or https, whatever is written", () => {
  for (const [given, want] of [
    ["https://other.example/a?b#c", "https://other.example/a?b#c"], ["http://plain.example/", "http://plain.example/"], ["/a", "https://app.example/a"], ["a", "https://app.example/shop/a"],
    ["//elsewhere.example/x", "https://elsewhere.example/x"], ["https://bank.example@evil.example/", "https://evil.example/"], ["https://u:p@x.example/", "https://x.example/"],
    ["javascript:alert(1)", undefined], ["JaVaScRiPt:alert(1)", undefined], [" javascript:alert(1)", undefined], ["java\nscript:alert(1)", undefined], ["data:text/html,<script>1</script>", undefined],
    ["blob:https://app.example/1", undefined], ["file:///etc/passwd", undefined], ["intent://x#Intent;end", undefined], ["about:blank", undefined], ["https://[", undefined],
    ["https://x.example/" + "a".repeat(5000), undefined], [7, undefined], [{}, undefined], [null, undefined],
  ]) {
    assert.equal(link(given, scope), want, String(given).slice(0, 60));
    const note = of({ web_push: 8030, notification: { title: "a", navigate: given, icon: given, actions: [{ action: "x", title: "X", navigate: given, icon: given }] } });
    assert.deepEqual([note.message.link, note.options.icon, note.options.actions[0].icon, note.options.data.hark.links.x], [want, want, want, want]);
  }
});

test("texts are bounded, and hold no control characters", () => {
  const note = of({ title: "😀".repeat(1000), body: "b".repeat(1e6), tag: "t".repeat(1e5), actions: Array(50).fill(0).map((_, i) => ({ action: "a" + i, title: "x".repeat(1e4) })), lang: "x".repeat(99), dir: "sideways" });
  assert.equal([...note.title].length, 250);
  assert.ok(note.title.endsWith("😀")); // not half of one
  assert.equal(note.options.body.length, 1000);
  assert.equal(note.options.tag.length, 200);
  assert.equal(note.options.actions.length, 8);
  assert.ok(note.options.actions.every((a) => a.title.length === 100));
  assert.ok(!("lang" in note.options || "dir" in note.options));
  assert.equal(of({ title: "a\0b\x1b[31mc\x7f", body: "two\nlines" }).title, "a b [31mc");
  assert.equal(of({ title: "a", body: "two\nlines" }).options.body, "two\nlines");
});

test("names of JavaScript's own are names like others", () => {
  const note = of(`{"title":"a","actions":[{"action":"__proto__","title":"P","navigate":"/p"},{"action":"constructor","title":"C","navigate":"/c"},{"action":"x","title":"X"}],"__proto__":{"bare":1}}`);
  const { links } = note.options.data.hark;
  assert.deepEqual(Object.entries(links), [["__proto__", "https://app.example/p"], ["constructor", "https://app.example/c"]]);
  assert.equal({}.bare, undefined);
});

test("no payload makes it throw, or show nothing", (t) => {
  const random = seeded(t);
  const words = ["title", "body", "notification", "web_push", "navigate", "actions", "action", "hark", "receipt", "app_badge", "data", "tag", "__proto__", "icon", "lang", "dir", "toString", "valueOf"];
  const values = [null, true, 0, -1, 8030, 1e300, "", "x", "javascript:1", "\ud800", "a".repeat(2000), [], {}, [[]]];
  const any = (depth) => {
    const n = random(6);
    if (depth > 4 || n < 2) return values[random(values.length)];
    if (n === 2) return Array(random(4)).fill(0).map(() => any(depth + 1));
    const o = {};
    for (let i = random(6); i >= 0; i--) Object.defineProperty(o, words[random(words.length)], { value: any(depth + 1), enumerable: true, configurable: true });
    return o;
  };
  for (let i = 0; i < 20_000; i++) {
    const text = random(10) ? JSON.stringify(any(0)) : JSON.stringify(any(0)).slice(0, random(40));
    const { title, options } = read(text, scope);
    assert.ok(typeof title === "string" && title && title.length <= 500, text);
    assert.ok(!("body" in options) || (typeof options.body === "string" && options.body), text);
    for (const value of Object.values(options)) assert.notEqual(value, undefined, text);
    structuredClone(options);
  }
});
