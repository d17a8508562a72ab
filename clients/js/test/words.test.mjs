// Topics and tokens.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./source.mjs";

const { checkTopics, matches } = await load("topics");
const { identity, lifetime } = await load("token");

test("patterns match as the server's do", () => {
  for (const [pattern, yes, no] of [
    ["a.b", ["a.b"], ["a", "a.b.c", "a.c", "A.b"]],
    ["a.*", ["a.b", "a.c"], ["a", "a.b.c", "b.a"]],
    ["*.b", ["a.b"], ["b", "a.b.b"]],
    ["a.>", ["a.b", "a.b.c"], ["a", "b.a"]],
    [">", ["a", "a.b.c"], ["hark.delivery.dead"]],
    ["*.delivery.dead", ["x.delivery.dead"], ["hark.delivery.dead"]],
    ["hark.>", ["hark.delivery.dead"], ["hark", "harker.x"]],
    ["a.*.>", ["a.b.c", "a.b.c.d"], ["a.b"]],
  ]) {
    for (const topic of yes) assert.ok(matches([pattern], topic), `${pattern} matches ${topic}`);
    for (const topic of no) assert.ok(!matches([pattern], topic), `${pattern} does not match ${topic}`);
  }
  assert.ok(matches(["x", "a.*"], "a.b"));
  assert.ok(matches([], "anything.at.all"));
});

test("misspelt patterns are told", () => {
  for (const good of ["a", "a-b_C.9", "*", ">", "*.*", "a.*.b.>"]) checkTopics([good]);
  for (const bad of ["", ".", "a.", ".a", "a..b", "a b", "a.>.b", ">.a", "a*", "**", "a>", "ä", "a/b", "x".repeat(256)]) {
    assert.throws(() => checkTopics([bad]), TypeError, bad);
  }
});

const jwt = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;

test("a token's identity is all of it but its times and its id", () => {
  const a = { sub: "Zoë", hark: { subscribe: ["user.1.>"] }, iat: 1, exp: 2, jti: "x", nbf: 1 };
  assert.equal(identity(jwt(a)), identity(jwt({ ...a, iat: 5, exp: 9, nbf: 3, jti: "y" })));
  assert.notEqual(identity(jwt(a)), identity(jwt({ ...a, sub: "2" })));
  assert.notEqual(identity(jwt(a)), identity(jwt({ ...a, hark: { subscribe: ["user.2.>"] } })));
  assert.match(identity(jwt(a)), /Zoë/);
  for (const opaque of ["hk_secret", "a.b.c", "..", "a.!!.c", `x.${Buffer.from("no json").toString("base64url")}.y`]) assert.equal(identity(opaque), opaque);
  assert.equal(identity(undefined), "");
});

test("a token's lifetime is from when it was made, not by our clock", () => {
  assert.equal(lifetime(jwt({ iat: 1000, exp: 1060 })), 60_000);
  assert.ok(Math.abs(lifetime(jwt({ exp: Date.now() / 1000 + 60 })) - 60_000) < 1000);
  for (const none of [{}, { iat: 1 }, { exp: 1 }, { iat: 5, exp: 5 }]) assert.equal(lifetime(jwt(none)), undefined);
  assert.equal(lifetime("hk_secret"), undefined);
});
