// The parser against byte streams, each cut at every place and at random places.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load, seeded } from "./source.mjs";

const { parser } = await load("sse");
const bytes = (text) => new TextEncoder().encode(text);

// run parses chunks and tells blocks as [id, event, data] and retries as numbers.
function run(chunks) {
  const told = [];
  const parse = parser((b) => told.push([b.id, b.event, b.data]), (ms) => told.push(ms));
  for (const c of chunks) parse(c);
  return told;
}

const golden = [
  ["data", "data: one\n\n", [["", "", "one"]]],
  ["no space, two spaces", "data:one\n\ndata:  two\n\n", [["", "", "one"], ["", "", " two"]]],
  ["several lines", "data: a\ndata: b\ndata:\ndata: c\n\n", [["", "", "a\nb\n\nc"]]],
  ["an empty data line is data", "data\n\ndata:\n\n", [["", "", ""], ["", "", ""]]],
  ["byte order mark", "\ufeffdata: one\n\n", [["", "", "one"]]],
  ["only the first mark is one", "\ufeff\ufeffdata: no\n\ndata: two\n\n", [["", "", "two"]]],
  ["a mark later is text", "data: \ufeffone\n\n", [["", "", "\ufeffone"]]],
  ["CR", "id: 1\rdata: one\r\rdata: two\r\r", [["1", "", "one"], ["1", "", "two"]]],
  ["CRLF", "id: 1\r\ndata: one\r\n\r\ndata: two\r\n\r\n", [["1", "", "one"], ["1", "", "two"]]],
  ["all ends of lines", "data: a\rdata: b\ndata: c\r\n\n", [["", "", "a\nb\nc"]]],
  ["comments", ":\n\n: data: no\n:id: 7\ndata: one\n: mid\n\n", [["", "", "one"]]],
  ["a keep-alive in a block's place", ":\n\n:\n\n", []],
  ["id alone", "id: 1\n\n", [["1", "", undefined]]],
  ["the id stays", "id: 1\ndata: a\n\ndata: b\n\n", [["1", "", "a"], ["1", "", "b"]]],
  ["an empty id resets", "id: 1\ndata: a\n\nid\ndata: b\n\nid:\ndata: c\n\n", [["1", "", "a"], ["", "", "b"], ["", "", "c"]]],
  ["an id with NUL is none", "id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [["1", "", "a"], ["1", "", "b"]]],
  ["event", "event: gap\ndata: 1\n\ndata: 2\n\n", [["", "gap", "1"], ["", "", "2"]]],
  ["an event name without data is forgotten", "event: x\n\ndata: 1\n\n", [["", "x", undefined], ["", "", "1"]]],
  ["retry", "retry: 02000\n\nretry: 5\n", [2000, 5]],
  ["retry is digits only", "retry: 1.5\nretry: -1\nretry: 1e3\nretry: \nretry:  7\nretry: ٣\nretry\n\n", []],
  ["unknown fields", "foo: bar\ndat: no\n data: no\ndata : no\nDATA: no\ndata: one\n\n", [["", "", "one"]]],
  ["a colon in the data", "data: a:b: c\n\n", [["", "", "a:b: c"]]],
  ["what ends within a block is nothing", "data: one\n\ndata: two\n", [["", "", "one"]]],
  ["and within a line", "data: one\n\ndata: tw", [["", "", "one"]]],
  ["UTF-8", "data: ä€😀\n\nid: ü\n\n", [["", "", "ä€😀"], ["ü", "", undefined]]],
  ["a separator that is none", "data: a\u2028b\u0085c\n\n", [["", "", "a\u2028b\u0085c"]]],
];

for (const [name, text, want] of golden) {
  test(name, () => {
    const all = bytes(text);
    assert.deepEqual(run([all]), want, "whole");
    assert.deepEqual(run([...all].map((b) => Uint8Array.of(b))), want, "byte by byte");
    for (let i = 0; i <= all.length; i++) assert.deepEqual(run([all.slice(0, i), all.slice(i)]), want, `cut at ${i}`);
  });
}

test("bytes that are no UTF-8 harm only their block", () => {
  const all = Uint8Array.from([...bytes("data: a"), 0xff, 0xc3, ...bytes("\n\ndata: b\n\n")]);
  for (let i = 0; i <= all.length; i++) {
    assert.deepEqual(run([all.slice(0, i), all.slice(i)]), [["", "", "a\ufffd\ufffd"], ["", "", "b"]]);
  }
});

test("random streams, cut at random", (t) => {
  const random = seeded(t);
  const pick = (list) => list[random(list.length)];
  const pieces = ["data: ", "data", "id: ", "event: ", "retry: ", ":", "12", "ä", "😀", "x", " ", "\0", "\n", "\r", "\r\n", "\n\n", "\r\r", "\ufeff"];
  for (let round = 0; round < 3000; round++) {
    const all = bytes(Array.from({ length: random(40) }, () => pick(pieces)).join(""));
    const want = run([all]);
    const chunks = [];
    for (let at = 0; at < all.length;) chunks.push(all.slice(at, at += 1 + random(6)));
    assert.deepEqual(run(chunks), want, JSON.stringify(new TextDecoder("utf-8", { ignoreBOM: true }).decode(all)));
  }
});

test("a line in many pieces takes no time", () => {
  const parse = parser((b) => assert.equal(b.data.length, 32 << 20), () => {});
  const piece = new Uint8Array(4096).fill(120);
  const began = Date.now();
  parse(bytes("data: "));
  for (let i = 0; i < 8192; i++) parse(piece);
  parse(bytes("\n\n"));
  assert.ok(Date.now() - began < 5000, `${Date.now() - began} ms`);
});

test("a block without end is given up, in one line or in many", () => {
  for (const piece of ["x".repeat(1 << 20), `\ndata: ${"x".repeat(1 << 20)}`]) {
    const parse = parser(() => assert.fail("a block"), () => {});
    let taken = 0;
    assert.throws(() => {
      for (; taken < 100; taken++) parse(bytes(piece));
    }, /without end/);
    assert.ok(taken > 60, `after ${taken} MiB`);
  }
});
