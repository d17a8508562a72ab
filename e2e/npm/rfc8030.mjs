// A user agent and a sender by RFC 8030, with Node's own HTTP/2: what is promised, acknowledged
// and receipted. Its argument is the server's URL; it ends with an error when something is not as it should be.
import assert from "node:assert/strict";
import http2 from "node:http2";

const base = process.argv[2];
const connections = [];
const connect = () => {
  const c = http2.connect(base);
  connections.push(c);
  return c;
};

// ask makes a request; pushed ones are collected while it is open.
function ask(session, method, path, headers = {}, body) {
  const request = session.request({ ":method": method, ":path": new URL(path, base).pathname, ...headers });
  request.end(body);
  return new Promise((resolve, reject) => {
    request.on("error", reject);
    request.on("response", (head) => {
      let text = "";
      request.on("data", (d) => (text += d));
      request.on("end", () => resolve({ status: head[":status"], head, text }));
      request.resume();
    });
  });
}

// pushes collects what is promised on a connection.
function pushes(session) {
  const waiting = [], there = [];
  session.on("stream", (stream, asked) => {
    stream.on("push", (head) => {
      const chunks = [];
      stream.on("data", (d) => chunks.push(d));
      stream.on("end", () => {
        const got = { path: asked[":path"], method: asked[":method"], status: head[":status"], head, body: Buffer.concat(chunks) };
        (waiting.shift() ?? ((p) => there.push(p)))(got);
      });
      stream.resume();
    });
  });
  return () => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("nothing was pushed")), 10000);
    const done = (p) => { clearTimeout(timer); resolve(p); };
    if (there.length > 0) done(there.shift());
    else waiting.push(done);
  });
}

const linkOf = (head, rel) => /<([^>]*)>/.exec([head.link].flat().join(", ").split(/,\s*(?=<)/).find((l) => l.includes(`"urn:ietf:params:push${rel}"`)))[1];

const app = connect();
const subscribed = await ask(app, "POST", "/push/subscribe");
assert.equal(subscribed.status, 201);
const subscription = subscribed.head.location, endpoint = linkOf(subscribed.head, ""), set = linkOf(subscribed.head, ":set");

const body = Buffer.alloc(120, 7);
body.writeUInt32BE(4096, 16);
body[20] = 65;
const send = (headers, to = endpoint) => ask(app, "POST", to, { ttl: "60", "content-encoding": "aes128gcm", ...headers }, body);

// Stored before anybody listens; replaced by topic.
const first = await send({ topic: "a" });
assert.equal(first.status, 201);
assert.equal(first.head.ttl, "60");
const second = await send({ topic: "a", prefer: "respond-async" });
assert.equal(second.status, 202);
const receipt = linkOf(second.head, ":receipt");

const told = connect();
const nextReceipt = pushes(told);
told.request({ ":path": new URL(receipt, base).pathname }).on("error", () => {});

const agent = connect();
const next = pushes(agent);
const held = agent.request({ ":path": new URL(subscription, base).pathname });
held.on("error", () => {});
const got = await next();
assert.equal(got.method, "GET");
assert.equal(got.status, 200);
assert.deepEqual(got.body, body);
assert.equal(got.head["content-encoding"], "aes128gcm");
assert.equal(got.head.topic, undefined);

// Live, while the request is open.
const third = await send({ urgency: "high" });
assert.equal(third.status, 201);
const live = await next();
assert.notEqual(live.path, got.path);

// Acknowledged: the sender is told; what is not comes again.
assert.equal((await ask(agent, "DELETE", got.path)).status, 204);
const receipted = await nextReceipt();
assert.equal(receipted.status, 204);
assert.equal(receipted.path, new URL(second.head.location).pathname);

const later = connect();
const nextLater = pushes(later);
const polled = ask(later, "GET", subscription, { prefer: "wait=0" });
assert.equal((await nextLater()).path, live.path);
assert.equal((await polled).status, 204);
assert.equal((await ask(later, "DELETE", live.path)).status, 204);
assert.equal((await ask(later, "GET", subscription, { prefer: "wait=0" })).status, 204);

// A set: one request for two subscriptions.
const other = await ask(app, "POST", "/push/subscribe", { link: `<${set}>; rel="urn:ietf:params:push:set"` });
assert.equal(other.status, 201);
const both = connect();
const nextOfBoth = pushes(both);
both.request({ ":path": new URL(set, base).pathname }).on("error", () => {});
await send({});
await send({}, linkOf(other.head, ""));
const paths = new Set([(await nextOfBoth()).path, (await nextOfBoth()).path]);
assert.equal(paths.size, 2);

// Ended: gone for good.
assert.equal((await ask(app, "DELETE", subscription)).status, 204);
assert.equal((await send({})).status, 410);
assert.equal((await ask(app, "DELETE", set)).status, 204);
assert.equal((await send({}, linkOf(other.head, ""))).status, 410);
assert.equal((await send({ ttl: "x" })).status, 410);

for (const c of connections) c.destroy();
console.log("done");
