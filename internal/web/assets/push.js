// The push demo: be pushed to, send yourself something, see what arrives. All that concerns
// push is hark.js, as any app would use it; the rest is a page around it.

import { push } from "/hark.js";
import { copy, toast } from "./page.js";

const $ = (selector) => document.querySelector(selector);
const worker = (globalThis.trustedTypes?.createPolicy("hark-worker", { createScriptURL: () => "/hark-sw.js" }) ?? { createScriptURL: () => "/hark-sw.js" }).createScriptURL("");

// Who one is: whoever the link says, else somebody new. With a token it is the token's user.
const given = new URLSearchParams(location.search).get("user");
const user = /^[A-Za-z0-9_-]{1,64}$/.test(given ?? "") ? given : localStorage.getItem("hark_demo_user") ?? "demo-" + crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
localStorage.setItem("hark_demo_user", user);
const topic = `demo.push.${user}`;
let token = sessionStorage.getItem("hark_demo_token") ?? "";

const options = () => ({ serviceWorker: worker, topics: topic, name: thisBrowser(), ...(token ? { token } : { user }), onMessage: heard });

const authorization = () => (token ? { Authorization: `Bearer ${token}` } : {});

async function ask(method, path, body) {
  const answer = await fetch(path, { method, headers: { ...authorization(), ...(body && { "Content-Type": "application/json" }) }, body: body && JSON.stringify(body), cache: "no-store" });
  const text = await answer.text();
  let json;
  try { json = text ? JSON.parse(text) : undefined; } catch { /* a proxy's page */ }
  if (!answer.ok) throw Object.assign(new Error(json?.detail ?? `the server answered ${answer.status}`), { status: answer.status });
  return json;
}

// --- What this browser is ---------------------------------------------------------------

const agent = navigator.userAgent;
const apple = /iP(hone|ad|od)/.test(agent) || (navigator.platform === "MacIntel" && navigator.maxTouchPoints > 1);
const kind = apple ? "ios" : /Android/.test(agent) ? "android" : /Firefox\//.test(agent) ? "firefox" : /Chrom/.test(agent) ? "chromium" : /Safari\//.test(agent) ? "safari" : "";

function thisBrowser() {
  const name = [["Edg", "Edge"], ["OPR", "Opera"], ["SamsungBrowser", "Samsung Internet"], ["Firefox", "Firefox"], ["FxiOS", "Firefox"], ["CriOS", "Chrome"], ["Chrom", "Chrome"], ["Safari", "Safari"]].find(([mark]) => agent.includes(mark))?.[1] ?? "A browser";
  const system = [["iPhone", "iPhone"], ["iPad", "iPad"], ["Android", "Android"], ["Mac", apple ? "iPad" : "Mac"], ["Windows", "Windows"], ["Linux", "Linux"]].find(([mark]) => agent.includes(mark))?.[1];
  return system ? `${name} on ${system}` : name;
}

// --- This browser as a device -----------------------------------------------------------

const words = { on: "on", off: "off", denied: "blocked", install: "not on the home screen", insecure: "not over https", unsupported: "no push here" };
const why = {
  on: "Messages reach you here, with this tab closed, too.",
  off: "It can be pushed to. The browser will ask you once; the page is given an address at the push service of the browser's maker.",
};

function say(state, reason) {
  $("#state").dataset.state = { on: "live", off: "off" }[state] ?? "ended";
  $("#state span").textContent = words[state] ?? state;
  $("#why").textContent = reason ?? why[state] ?? state;
  $("#enable").disabled = state !== "off";
  $("#enable").hidden = state === "on";
  $("#disable").hidden = state !== "on";
}

async function look() {
  const now = await push.state(options());
  say(now.state, now.reason && now.reason[0].toUpperCase() + now.reason.slice(1) + ".");
  if (now.subscription) $("#through").textContent = `This browser's is at ${new URL(now.subscription.endpoint).host}.`;
  return now;
}

async function enable() {
  $("#enable").disabled = true;
  try {
    await push.enable(options());
    await look();
    await devices();
  } catch (e) {
    await look();
    if (!refused(e)) say("off", e.message[0].toUpperCase() + e.message.slice(1) + ".");
  }
}

async function disable() {
  await push.disable(options());
  await look();
  await devices();
}

// --- Sending ------------------------------------------------------------------------------

let follows = 0; // the last one sent is followed

async function send(seconds) {
  const turn = ++follows;
  const data = { title: $("#title").value, body: $("#body").value, link: $("#link").value || undefined, urgency: $("#urgency").value, receipt: true, data: { sent: Date.now() + seconds * 1000 } };
  if ($("#collapse").checked) data.collapse = "demo";
  const event = { topic, data };
  if (seconds) event.deliver_at = new Date(Date.now() + seconds * 1000).toISOString();
  const { id } = await ask("POST", "/v1/events", event);
  if (seconds) {
    for (let left = seconds; left > 0 && turn === follows; left--) {
      $("#sent").textContent = `It will be sent in ${left} s.`;
      await pause(1000);
    }
    if (turn === follows) $("#sent").textContent = "It is on its way.";
    return;
  }
  $("#sent").textContent = "Published. Waiting to hear what became of it.";
  // What became of it at each device: for who may manage only.
  for (let tries = 0; tries < 20 && turn === follows; tries++) {
    const { deliveries } = await ask("GET", `/v1/deliveries?event=${id}`).catch(() => ({ deliveries: [] }));
    const states = deliveries.map((d) => d.state);
    if (deliveries.length && !states.includes("due") && !states.includes("sending")) {
      const full = await ask("GET", `/v1/deliveries/${deliveries[0].id}`);
      $("#sent").textContent = tally(full);
      return;
    }
    await pause(250);
  }
  if (turn === follows) $("#sent").textContent = "Published.";
}

const counted = { accepted: "taken by the push service", gone: "gone, and removed", suspect: "refused for now", retrying: "out of reach; it will be tried again", expired: "too late", failed: "failed" };

function tally(delivery) {
  let counts;
  try { counts = JSON.parse(delivery.attempt_log.at(-1).response); } catch { /* another server's words */ }
  const parts = Object.entries(counted).filter(([name]) => counts?.[name]).map(([name, text]) => counts.devices === 1 ? text : `${counts[name]} ${text}`);
  return parts.length ? `${counts.devices === 1 ? "One device" : counts.devices + " devices"}: ${parts.join(", ")}.` : `Published; ${delivery.state}.`;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// --- Devices ------------------------------------------------------------------------------

async function devices() {
  const list = $("#devices");
  try {
    const page = await ask("GET", token ? "/v1/devices" : `/v1/devices?user=${user}`);
    const own = (await push.state(options())).device;
    list.replaceChildren(...page.devices.map((d) => row(d, d.id === own)));
    if (!page.devices.length) list.append(element("li", "dim", "None yet."));
  } catch (e) {
    list.replaceChildren(element("li", "dim", e.message));
    refused(e);
  }
}

function row(d, own) {
  const li = element("li");
  const text = element("div");
  text.append(element("strong", "", d.name ?? d.kind), ...(own ? [" ", element("span", "badge", "this one")] : []));
  text.append(element("p", "dim", [d.endpoint_origin?.replace(/^https?:\/\//, "") ?? d.kind, d.state === "active" ? "" : `${d.state}: ${d.reason ?? ""}`].filter(Boolean).join(" · ")));
  const remove = element("button", "button", "Remove");
  remove.type = "button";
  remove.addEventListener("click", () => (own ? disable() : ask("DELETE", `/v1/devices/${d.id}`).then(devices)).catch((e) => toast(e.message, true)));
  li.append(text, remove);
  return li;
}

// --- What arrived ---------------------------------------------------------------------------

// heard is told of each message while the page is open. It takes none, so that the browser shows
// them all; but it does take a click that leads here, as it is here already.
function heard(message) {
  const here = message.clicked !== undefined && new URL(message.link ?? location.href).pathname === location.pathname;
  arrived(message, message.clicked === undefined ? "arrived" : "clicked");
  return here;
}

function arrived(message, what) {
  $("#nothing").hidden = true;
  const li = element("li", what);
  const took = what === "arrived" && Number(message.data?.sent) ? Math.max(0, Date.now() - message.data.sent) : null;
  const head = element("p", "by");
  head.append(element("b", "", what === "waiting" ? "shown while you were away" : what));
  if (what !== "waiting") head.append(element("time", "dim", new Date().toLocaleTimeString())); // no browser tells when that was
  if (took !== null) head.append(element("span", "dim", took < 1000 ? `after ${Math.round(took)} ms` : `after ${(took / 1000).toFixed(1)} s`));
  li.append(head, element("strong", "", String(message.title ?? "")), element("p", "", String(message.body ?? "")));
  $("#arrivals").prepend(li);
  while ($("#arrivals").childElementCount > 100) $("#arrivals").lastChild.remove();
}

// waiting lists what the browser showed while the page was closed, in the order of the log: event
// ids sort as it does, and browsers list them in any.
async function waiting() {
  const r = await navigator.serviceWorker?.getRegistration();
  const event = (n) => n.data?.hark?.message?.event ?? "";
  const all = await r?.getNotifications() ?? [];
  for (const n of all.sort((a, b) => (event(a) < event(b) ? -1 : 1))) arrived(n, "waiting");
}

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

// --- Beginning -------------------------------------------------------------------------------

// refused asks for a token where the server wants one.
function refused(e) {
  if (e.status !== 401 && e.status !== 403) return false;
  $("#login-say").textContent = e.message;
  if (!$("#login").open) $("#login").showModal();
  return true;
}

async function begin() {
  const { state } = await look();
  await waiting();
  if (state === "on") await push.enable(options()).catch((e) => refused(e) || toast(e.message, true)); // it repairs what broke
  await devices();
}

$("#user").textContent = user;
$("#own").textContent = `dom.push.serverURL = ${location.origin.replace("http", "ws")}/push/`;
for (const id of ["#topic", "#code-topic", "#code-topic-2"]) $(id).textContent = topic;
$(`[data-browser=${kind || "none"}]`)?.classList.add("chosen");
$("#enable").addEventListener("click", enable);
$("#disable").addEventListener("click", () => disable().catch((e) => toast(e.message, true)));
$("#send").addEventListener("submit", (e) => {
  e.preventDefault();
  send(Number(e.submitter?.value ?? 0)).catch((err) => refused(err) || ($("#sent").textContent = err.message));
});
$("#invite").addEventListener("click", () => copy(`${location.origin}/demo/push?user=${user}`));
$("#login").addEventListener("close", () => {
  token = $("#token").value.trim();
  sessionStorage.setItem("hark_demo_token", token);
  begin();
});
begin();
