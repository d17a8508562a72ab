// A chat room over any of Hark's live transports, with nothing but what browsers bring:
// fetch, EventSource, WebSocket. One variable, cursor, is all that the ways have in
// common: a way that stops leaves it to the next one.
//
// Programs need none of this: /hark.js does it in one call. Here it is in full, to be read.

const $ = (selector) => document.querySelector(selector);
const room = document.body.dataset.room;
const topic = `demo.chat.${room}`;
const me = crypto.getRandomValues(new Uint32Array(2)).join("");
const joined = Date.now();

let cursor = "";  // the position reached; empty before the first answer
let token = sessionStorage.getItem("hark_demo_token") ?? "";
let session = null; // the way in use

// --- The ways to listen ------------------------------------------------------------------

const ways = {
  poll5: { start: (s) => poll(s, 5000), code: (c) => `setInterval(async () => {\n  const answer = await fetch("/v1/events?topic=${topic}" +\n    "&after=" + cursor);\n  const page = await answer.json();\n  page.events.forEach(show);\n  cursor = page.cursor; // ${c}\n}, 5000);` },
  poll1: { start: (s) => poll(s, 1000), code: (c) => ways.poll5.code(c).replace("5000", "1000") },
  longpoll: { start: (s) => poll(s, 0), code: (c) => `for (;;) {\n  // The server holds the request until there is something.\n  const answer = await fetch("/v1/events?topic=${topic}" +\n    "&wait=25&after=" + cursor);\n  const page = await answer.json();\n  page.events.forEach(show);\n  cursor = page.cursor; // ${c}\n}` },
  sse: { start: sse, code: (c) => `const source = new EventSource("/v1/stream?topic=${topic}" +\n  "&after=" + cursor);\nsource.onmessage = (e) => {\n  show(JSON.parse(e.data));\n  cursor = e.lastEventId; // ${c}\n};\n// Cut off, the browser comes back by itself and names the cursor.` },
  websocket: { start: websocket, code: (c) => `const socket = new WebSocket("/v1/ws", ["hark.v1"]);\nsocket.onopen = () => socket.send(JSON.stringify(\n  { type: "subscribe", sub: "room", topics: ["${topic}"],\n    after: cursor }));\nsocket.onmessage = (e) => {\n  const frame = JSON.parse(e.data);\n  frame.events?.forEach(show);\n  cursor = frame.cursor ?? cursor; // ${c}\n};` },
};

// where says where to begin: at the cursor, or with what was said last.
const where = () => (cursor ? { after: cursor } : { last: 30 });

function address(path, query) {
  const url = new URL(path, location);
  url.searchParams.set("topic", topic);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return url;
}

// poll asks again and again; with every = 0 the server holds each request: a long poll.
async function poll(s, every) {
  for (let failures = 0; !s.over;) {
    const next = performance.now() + every;
    const wait = !every && s.opened && !failures ? { wait: 25 } : {}; // the first is answered at once: then one knows that it works
    const url = address("/v1/events", { ...where(), ...wait, limit: 1000 });
    const headers = { ...authorization() };
    if (every && cursor) headers["If-None-Match"] = `"${cursor}"`;
    try {
      const answer = await fetch(url, { headers, signal: s.leave.signal, cache: "no-store" });
      const text = await answer.text();
      s.requests++;
      s.up += requestBytes("GET", url, headers);
      s.down += responseBytes(answer) + bytes(text);
      if (answer.status !== 304) {
        if (!answer.ok) throw await refusal(answer.status, text, answer.headers.get("Retry-After"));
        const page = JSON.parse(text);
        if (page.gap) gap(s, page.gap);
        take(s, page.events, page.cursor);
        if (page.more) continue;
      }
      failures = 0;
      say("live");
    } catch (err) {
      if (s.over || !await again(s, err, failures++)) return;
      continue;
    }
    if (every) await pause(next - performance.now(), s);
  }
}

// sse leaves nearly all to the browser. ping=event makes keep-alives visible, to be counted.
function sse(s) {
  const url = address("/v1/stream", { ...where(), ping: "event", ...(token && { token }) });
  const source = new EventSource(url);
  s.leave.signal.addEventListener("abort", () => source.close());
  const framed = (e, name) => { // as it came: chunk, id, event, data
    s.down += 10 + (e.lastEventId ? 5 + bytes(e.lastEventId) : 0) + (name ? 8 + name.length : 0) + 8 + bytes(e.data);
  };
  source.onopen = () => {
    s.requests++;
    s.up += requestBytes("GET", url, cursor ? { "Last-Event-ID": cursor } : {});
    s.down += 420; // the head of the answer, which no page may see
    say("live");
  };
  source.onmessage = (e) => {
    if (s.over) return;
    framed(e);
    take(s, [JSON.parse(e.data)], e.lastEventId);
  };
  source.addEventListener("gap", (e) => { framed(e, "gap"); gap(s, JSON.parse(e.data)); cursor = e.lastEventId || cursor; });
  source.addEventListener("cursor", (e) => { framed(e, "cursor"); cursor = e.lastEventId || cursor; });
  source.addEventListener("ping", (e) => framed(e, "ping"));
  source.addEventListener("end", (e) => { framed(e, "end"); say("lost", "the server ends the stream; back soon"); });
  source.onerror = async () => {
    if (s.over) return;
    say("lost");
    if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
    // Refused. EventSource does not tell why: ask in another way.
    const answer = await fetch(address("/v1/events", { limit: 1 }), { headers: authorization() }).catch(() => null);
    const err = answer && !answer.ok ? await refusal(answer.status, await answer.text()) : new Error("the stream was refused");
    if (await again(s, err, 3)) sse(s);
  };
}

// websocket subscribes with a frame, and comes back by its own means.
function websocket(s, failures = 0) {
  const url = new URL("/v1/ws", location);
  url.protocol = location.protocol.replace("http", "ws");
  const socket = new WebSocket(url, ["hark.v1"]);
  s.leave.signal.addEventListener("abort", () => socket.close());
  const send = (frame) => {
    const text = JSON.stringify(frame);
    s.up += frameBytes(text) + 4; // masked
    socket.send(text);
  };
  let refused = null;
  socket.onopen = () => {
    s.requests++;
    s.up += requestBytes("GET", url, { "Sec-WebSocket-Key": "x".repeat(24), "Sec-WebSocket-Protocol": "hark.v1", "Sec-WebSocket-Version": "13", Upgrade: "websocket" });
    s.down += 190; // the head of the answer
    if (token) send({ type: "auth", token });
    send({ type: "subscribe", sub: "room", topics: [topic], ...where() });
  };
  socket.onmessage = (e) => {
    if (s.over) return;
    s.down += frameBytes(e.data);
    const frame = JSON.parse(e.data);
    switch (frame.type) {
      case "subscribed": failures = 0; say("live"); break;
      case "gap": gap(s, frame.gap); break;
      case "error": refused = Object.assign(new Error(frame.detail), { status: frame.status }); break;
      case "end": say("lost", "the server ends the connection; back soon"); s.reconnect = frame.reconnect_ms; break;
    }
    if (frame.events || frame.cursor) take(s, frame.events ?? [], frame.cursor ?? cursor);
    if (refused) socket.close();
  };
  socket.onclose = async (e) => {
    if (s.over) return;
    // 4400–4499: coming back the same way is of no use; 4401 and 4408: without a token.
    const status = e.code === 4401 || e.code === 4408 ? 401 : e.code >= 4400 && e.code < 4500 ? 400 : 0;
    const err = refused ?? Object.assign(new Error(e.reason || "the connection was cut"), { status });
    if (s.reconnect) err.retry = s.reconnect;
    s.reconnect = 0;
    if (await again(s, err, failures)) websocket(s, failures + 1);
  };
}

// listen changes the way. What the old one still has under way is dropped: it is after the cursor.
function listen(name) {
  if (session) leave();
  session = { name, over: false, leave: new AbortController(), began: performance.now(), requests: 0, up: 0, down: 0, last: null, opened: null };
  sessionStorage.setItem("hark_demo_way", name);
  say("off", "connecting");
  ways[name].start(session);
  explain();
}

function leave() {
  session.over = true;
  session.leave.abort();
  addUp(totals[session.name], session);
}

// --- What came ---------------------------------------------------------------------------

let newest = "", taken = 0, doubled = 0, lost = 0;
const heard = new Map(); // the number of each sender's last message
const sent = new Map();  // when our own messages left
let clock = 0;           // how far the server's clock is ahead of ours

function take(s, events, at) {
  if (s.over) return;
  for (const event of events) {
    if (event.id <= newest) {
      doubled++;
      continue;
    }
    newest = event.id;
    if (isMessage(event.data)) message(s, event);
  }
  cursor = at;
  drawVerdict();
}

// Anyone who may publish here may have written an event: what this page would not write is not
// counted, and nothing of it is more than text of bounded length.
const isMessage = (data) => typeof data?.from === "string" && data.from.length < 40 && Number.isSafeInteger(data.n);
const words = (text, most) => (typeof text === "string" ? text.slice(0, most) : "?");

function message(s, event) {
  const { from, n, text, name, kind } = event.data;
  const received = Date.parse(event.received);
  const before = heard.get(from);
  if (before !== undefined && n > before + 1) lost += n - before - 1;
  heard.set(from, n);
  taken++;
  let delay = null;
  if (from === me) {
    const left = sent.get(n);
    if (left) {
      delay = Date.now() - left.at;
      clock = received - (left.at + (left.answered ?? Date.now())) / 2;
      sent.delete(n);
    }
  } else if (received - clock >= joined) {
    delay = Math.max(0, Date.now() - (received - clock));
  }
  if (delay !== null) measured(s, delay);
  show({ mine: from === me, name: words(name, 24), text: words(text, 500), kind: kind === "join" ? kind : "say", time: new Date(received - clock), delay, way: s.name });
}

function gap(s, told) {
  show({ kind: "note", text: `events before ${told.to} are gone: they were removed before this page read them` });
}

// --- Sending -----------------------------------------------------------------------------

let counter = 0;
let sending = Promise.resolve();

// publish sends one after the other, so that each sender's numbers are in order. A try that
// failed is repeated with the same Idempotency-Key: it is published once.
function publish(data) {
  sending = sending.then(async () => {
    const n = ++counter;
    const body = JSON.stringify({ topic, data: { ...data, from: me, n } });
    const headers = { "Content-Type": "application/json", "Idempotency-Key": `${me}-${n}`, ...authorization() };
    sent.set(n, { at: Date.now() });
    for (let failures = 0; ; failures++) {
      const answer = await fetch("/v1/events", { method: "POST", headers, body }).catch(() => null);
      if (answer?.ok) {
        const left = sent.get(n);
        if (left) left.answered = Date.now();
        return;
      }
      if (answer && answer.status < 500 && answer.status !== 429) {
        counter--;
        const err = await refusal(answer.status, await answer.text());
        show({ kind: "note", text: `not sent: ${err.message}` });
        if (answer.status === 401) login(err.message);
        return;
      }
      await new Promise((done) => setTimeout(done, Math.min(500 * 2 ** failures, 8000)));
    }
  });
}

const robotSays = ["Is anybody there?", "The kettle is on.", "Line 4 is late again.", "42.", "Did you see the goal?", "I only know twelve sentences.",
  "Lunch?", "It works on my machine.", "Deploying now.", "Rolled back.", "Who moved my cursor?", "Good night."];
let robotTimer = 0, robotLine = 0;

// --- Failures ----------------------------------------------------------------------------

async function refusal(status, text, after) {
  let detail = text;
  try { detail = JSON.parse(text).detail; } catch { /* no problem+json: a proxy's page */ }
  return Object.assign(new Error(detail || `the server answered ${status}`), { status, retry: Number(after) * 1000 || 0 });
}

// again waits before another try, with jitter. It tells false when another one is of no use.
async function again(s, err, failures) {
  if (s.over || err.name === "AbortError") return false;
  if (err.status === 401 || err.status === 403) {
    say("ended", "not allowed");
    login(err.message);
    return false;
  }
  if (err.status && err.status < 500 && err.status !== 429) {
    say("ended", err.message);
    return false;
  }
  say("lost");
  const wait = err.retry || Math.min(500 * 2 ** failures, 10000) * (0.5 + Math.random());
  await pause(wait, s);
  return !s.over;
}

function pause(ms, s) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    s.leave.signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });
}

const authorization = () => (token ? { Authorization: `Bearer ${token}` } : {});

function login(why) {
  $("#login-say").textContent = why;
  if (!$("#login").open) $("#login").showModal();
}

// --- Counting ----------------------------------------------------------------------------

const utf8 = new TextEncoder();
const bytes = (text) => utf8.encode(text).length;
const frameBytes = (text) => bytes(text) + (text.length < 126 ? 2 : text.length < 65536 ? 4 : 10);

// requestBytes is the size of a request's head: what browsers send, as far as a page knows it.
function requestBytes(method, url, headers) {
  const usual = { Host: location.host, Connection: "keep-alive", "User-Agent": navigator.userAgent, Accept: "*/*", Referer: location.href,
    "Accept-Encoding": "gzip, deflate, br, zstd", "Accept-Language": navigator.languages.join(","), "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", ...(document.cookie && { Cookie: document.cookie }), ...headers };
  let n = bytes(`${method} ${url.pathname}${url.search} HTTP/1.1\r\n\r\n`);
  for (const [name, value] of Object.entries(usual)) n += bytes(`${name}: ${value}\r\n`);
  return n;
}

function responseBytes(answer) {
  let n = bytes(`HTTP/1.1 ${answer.status} ${answer.statusText}\r\n\r\n`);
  for (const [name, value] of answer.headers) n += bytes(`${name}: ${value}\r\n`);
  return n;
}

const totals = {}; // by way: what earlier sessions cost
const delays = {}; // by way
for (const name of Object.keys(ways)) {
  totals[name] = { ms: 0, requests: 0, bytes: 0 };
  delays[name] = [];
}

const spent = (s) => ({ at: performance.now(), requests: s.requests, bytes: s.up + s.down });

// addUp adds what a session cost since it was open.
function addUp(t, s) {
  if (!s.opened) return t;
  const now = spent(s);
  t.ms += now.at - s.opened.at;
  t.requests += now.requests - s.opened.requests;
  t.bytes += now.bytes - s.opened.bytes;
  return t;
}

function measured(s, delay) {
  s.last = delay;
  delays[s.name].push(delay);
  const bar = document.createElement("i");
  bar.className = s.name;
  // 1 ms is nothing, 10 s is all: each quarter of the height is ten times more.
  bar.style.height = `${Math.min(100, Math.max(4, 25 * Math.log10(Math.max(1, delay))))}%`;
  bar.title = time(delay);
  $("#bars").append(bar);
  while ($("#bars").childElementCount > 40) $("#bars").firstChild.remove();
}

function median(list) {
  const sorted = list.slice(-200).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

// --- Showing -----------------------------------------------------------------------------

const time = (ms) => (ms < 1 ? "< 1 ms" : ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
const size = (n) => (n < 1000 ? `${Math.round(n)} B` : n < 1e6 ? `${(n / 1000).toFixed(1)} kB` : `${(n / 1e6).toFixed(1)} MB`);

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function show(m) {
  const list = $("#messages");
  const row = element("li", m.kind === "note" ? "note" : m.kind === "join" ? "note" : m.mine ? "mine" : "");
  if (m.kind === "note" || m.kind === "join") {
    row.textContent = m.kind === "join" ? `${m.name} came in` : m.text;
  } else {
    const head = element("p", "by");
    head.append(element("b", `c${[...m.name].reduce((sum, c) => sum + c.codePointAt(0), 0) % 5}`, m.name), element("time", "dim", m.time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })));
    row.append(head, element("p", "bubble", m.text));
    if (m.delay !== null) row.append(element("p", "dim took", time(m.delay)));
  }
  list.append(row);
  while (list.childElementCount > 300) list.firstChild.remove();
  if (atEnd || m.mine) toEnd();
}

let atEnd = true; // whoever scrolled up to read stays there
let scrolling = 0;

// toEnd scrolls once a frame, not once a message: each time the list is laid out anew.
function toEnd() {
  scrolling ||= requestAnimationFrame(() => {
    scrolling = 0;
    $("#messages").scrollTop = $("#messages").scrollHeight;
  });
}

$("#messages").addEventListener("scroll", ({ target: t }) => { if (!scrolling) atEnd = t.scrollHeight - t.scrollTop - t.clientHeight < 60; });
new ResizeObserver(() => { if (atEnd) $("#messages").scrollTop = $("#messages").scrollHeight; }).observe($("#messages"));

function say(state, text) {
  if (state === "live" && session && !session.opened) session.opened = spent(session); // what opening cost is no rate
  const now = $("#state");
  now.dataset.state = state;
  const words = text ?? { live: "live", lost: "connection lost, trying again" }[state];
  if (now.lastElementChild.textContent !== words) now.lastElementChild.textContent = words;
}

function explain() {
  $("#code").textContent = ways[session.name].code("the next way goes on here");
}

function drawVerdict() {
  const fine = !lost && !doubled;
  $("#intact").className = `verdict ${fine ? "ok" : "bad"}`;
  $("#intact .head").textContent = fine ? "Nothing lost, nothing doubled" : `${lost} lost, ${doubled} doubled`;
  $("#counted").textContent = `${taken} ${taken === 1 ? "message" : "messages"} in order, each sender's numbers checked.`;
}

function draw() {
  for (const row of document.querySelectorAll("[data-way]")) {
    const name = row.dataset.way, t = { ...totals[name] };
    if (session?.name === name) addUp(t, session);
    if (t.ms < 2000) continue;
    const minute = 60000 / t.ms;
    row.querySelector("[data-cost=requests]").textContent = (t.requests * minute).toFixed(t.requests && t.requests * minute < 10 ? 1 : 0);
    row.querySelector("[data-cost=bytes]").textContent = size(t.bytes * minute);
    if (delays[name].length) row.querySelector("[data-cost=delay]").textContent = time(median(delays[name]));
  }
  if (!session) return;
  const seconds = Math.round((performance.now() - session.began) / 1000);
  const now = { time: seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`, requests: session.requests, up: size(session.up), down: size(session.down), delay: session.last === null ? "–" : time(session.last) };
  for (const [name, value] of Object.entries(now)) $(`[data-now=${name}]`).textContent = value;
}

// --- Beginning ---------------------------------------------------------------------------

const names = ["Ada", "Grace", "Linus", "Margaret", "Dennis", "Barbara", "Ken", "Radia", "Tim", "Frances"];
$("#name").value = sessionStorage.getItem("hark_demo_name") ?? names[Math.floor(Math.random() * names.length)];
$("#name").addEventListener("change", () => sessionStorage.setItem("hark_demo_name", $("#name").value));

$("#say").addEventListener("submit", (e) => {
  e.preventDefault();
  const text = $("#text").value.trim();
  if (text) publish({ kind: "say", name: $("#name").value, text });
  $("#text").value = "";
});

$("#robot").addEventListener("change", (e) => {
  clearInterval(robotTimer);
  if (e.target.checked) robotTimer = setInterval(() => publish({ kind: "say", name: "Robot", text: robotSays[robotLine++ % robotSays.length] }), 2000);
});

for (const input of document.querySelectorAll("[name=way]")) input.addEventListener("change", () => listen(input.value));

$("#login").addEventListener("close", () => {
  token = $("#token").value.trim();
  sessionStorage.setItem("hark_demo_token", token);
  listen(session.name);
});

addEventListener("pagehide", () => { if (session) leave(); });
addEventListener("pageshow", (e) => { if (e.persisted) listen(session.name); });

const first = $(`[name=way][value="${sessionStorage.getItem("hark_demo_way")}"]`) ?? $("[name=way]:checked");
first.checked = true;
listen(first.value);
publish({ kind: "join", name: $("#name").value });
setInterval(draw, 500);
