// The page of a bin, alive. The server renders every request; this moves its nodes into
// place. Captured text becomes markup nowhere in here.

import { toast, copy, choose, openDialog } from "./page.js";

const { page, token, name } = document.body.dataset;
const api = `/v1${page}`;
const maxRows = 2000; // beyond them the oldest leave the page; "Older requests" brings them back
const $ = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 48.01rem)");

// Fetching parts ------------------------------------------------------------------

// part gets a page as a document of its own, in which no script runs.
function part(url, signal) {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    x.open("GET", url);
    x.responseType = "document";
    x.timeout = 20000;
    x.onload = () => x.status === 200 && x.response ? resolve(x.response) : reject(Object.assign(new Error("not to be had"), { status: x.status }));
    x.onerror = x.ontimeout = () => reject(Object.assign(new Error("the server cannot be reached"), { status: 0 }));
    x.onabort = () => reject(new DOMException("", "AbortError"));
    signal?.addEventListener("abort", () => x.abort());
    x.send();
  });
}

function listURL(more) {
  const asked = new URLSearchParams({ part: "list", ...more });
  if (search.value.trim()) asked.set("q", search.value.trim());
  return `${page}?${asked}`;
}

// call uses the API and throws what its problem says.
async function call(method, path, body) {
  const answer = await fetch(api + path, { method, headers: body ? { "Content-Type": "application/json" } : {}, body: body && JSON.stringify(body) });
  const said = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(said?.errors?.map((e) => `${e.field ?? ""} ${e.msg}`.trim()).join("; ") || said?.detail || `the server answered ${answer.status}`);
  return said;
}

// List ------------------------------------------------------------------------------

const search = $("q");
const pane = document.querySelector(".pane.list");
let at = $("list").dataset.at;
let reading; // what reloads the list

const rows = () => [...$("rows").querySelectorAll(".row")];
const current = () => $("rows").querySelector("[aria-current]");

async function reload() {
  reading?.abort();
  reading = new AbortController();
  try {
    const doc = await part(listURL({}), reading.signal);
    const list = document.adoptNode(doc.getElementById("list"));
    $("list").replaceWith(list);
    at = list.dataset.at;
    mark($("request")?.dataset.id);
    watchOlder();
    pane.scrollTop = 0;
  } catch (err) {
    if (err.name !== "AbortError") toast(`The list cannot be read: ${err.message}`, true);
  }
}

let ringing = false, again = false;

// ring is called when there may be something new: it reads on from where the list ends.
async function ring() {
  if (ringing) return void (again = true);
  ringing = true;
  try {
    do {
      again = false;
      const asked = search.value, from = at;
      const doc = await part(listURL({ after: from }));
      if (asked !== search.value || from !== at) continue; // the list is another one by now
      const list = doc.getElementById("list");
      take([...doc.querySelectorAll("#rows > li")]);
      at = list.dataset.at || at;
      $("list").dataset.total = list.dataset.total;
      count();
      again ||= list.hasAttribute("data-more");
      await new Promise((done) => setTimeout(done, 120)); // a flood is read in pages, not one by one
    } while (again);
  } finally {
    ringing = false;
  }
}

function take(items) {
  const fresh = items.filter((li) => !$(li.firstElementChild.id));
  if (!fresh.length) return;
  const first = !$("rows").children.length;
  for (const li of fresh) li.firstElementChild.classList.add("fresh", "unread");
  $("rows").prepend(...fresh.map((li) => document.adoptNode(li)));
  $("none")?.remove();
  for (const li of [...$("rows").children].slice(maxRows)) li.remove();
  $("panes").classList.remove("is-empty");
  if (document.hidden || !document.hasFocus()) away(fresh.length);
  if (first && $("empty")) show(rows()[0].id, { push: false });
}

function count() {
  const total = Number($("list").dataset.total), n = $("rows").children.length;
  $("total").textContent = search.value.trim() ? `${n}${$("older") ? "+" : ""} of ${total.toLocaleString("en")}` : total.toLocaleString("en");
  if (n >= maxRows) {
    const last = rows().at(-1).id;
    const link = $("older") ?? Object.assign(document.createElement("a"), { id: "older", className: "older", textContent: "Older requests" });
    link.href = `${page}?before=${last}`;
    if (!link.isConnected) $("list").append(link), watchOlder();
  }
}

const sight = new IntersectionObserver((seen) => seen.some((s) => s.isIntersecting) && older(), { root: pane, rootMargin: "400px" });

function watchOlder() {
  sight.disconnect();
  if ($("older")) sight.observe($("older"));
}

let gettingOlder = false;

async function older() {
  const link = $("older");
  if (!link || gettingOlder) return;
  if ($("rows").children.length >= maxRows) return sight.disconnect(); // enough for one page: by click only
  gettingOlder = true;
  try {
    const doc = await part(`${link.href}&part=list`);
    if (link !== $("older")) return;
    const more = [...doc.querySelectorAll("#rows > li")].filter((li) => !$(li.firstElementChild.id));
    $("rows").append(...more.map((li) => document.adoptNode(li)));
    if (more.length) $("none")?.remove();
    link.remove();
    const next = doc.getElementById("older");
    if (next) $("list").append(document.adoptNode(next));
    count();
    watchOlder();
  } catch (err) {
    toast(`Older requests cannot be read: ${err.message}`, true);
  } finally {
    gettingOlder = false;
  }
}

let typing;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(async () => {
    const url = new URL(location);
    search.value.trim() ? url.searchParams.set("q", search.value.trim()) : url.searchParams.delete("q");
    history.replaceState(null, "", url);
    await reload();
  }, 200);
});
search.form.addEventListener("submit", (e) => e.preventDefault());

// Unread ------------------------------------------------------------------------------

let missed = 0;

function away(n) {
  missed += n;
  title();
}

function title() {
  const what = document.body.dataset.view === "detail" && $("request")?.dataset.title;
  document.title = `${missed ? `(${missed}) ` : ""}${what ? `${what} · ` : ""}${name}`;
}

for (const back of ["focus", "visibilitychange"]) {
  addEventListener(back, () => {
    if (document.hidden) return;
    missed = 0;
    title();
  }, true);
}

// Detail ------------------------------------------------------------------------------

let showing; // what fetches the detail

function mark(id) {
  current()?.removeAttribute("aria-current");
  const row = id && $(id);
  if (!row) return;
  row.setAttribute("aria-current", "true");
  row.classList.remove("unread", "fresh");
}

async function show(id, { push = true, view, focus = false } = {}) {
  showing?.abort();
  showing = new AbortController();
  mark(id);
  const url = new URL(`${page}/${id}`, location);
  if (search.value.trim()) url.searchParams.set("q", search.value.trim());
  if (push) {
    history[location.pathname === url.pathname ? "replaceState" : "pushState"](null, "", url);
    document.body.dataset.view = view ?? "detail";
  }
  url.searchParams.set("part", "detail");
  const tab = document.querySelector("#request .tab[aria-selected=true]")?.id.slice(4);
  if (tab && tab !== "body") url.searchParams.set("tab", tab);
  try {
    const doc = await part(url, showing.signal);
    $("detail").replaceChildren(document.adoptNode(doc.body.querySelector("#request, #empty")));
    $("detail").scrollTop = 0;
    localise($("detail"));
    title();
    if (focus) $("detail").focus({ preventScroll: true });
  } catch (err) {
    if (err.name === "AbortError") return;
    toast(err.status === 404 ? "This request is no longer in the bin" : `The request cannot be read: ${err.message}`, true);
  }
}

// home shows the list, and beside it the newest request or how to begin.
async function home() {
  document.body.dataset.view = "list";
  title();
}

function navigate() {
  const id = location.pathname.slice(page.length + 1);
  if (id) {
    document.body.dataset.view = "detail";
    show(id, { push: false });
  } else home();
}
addEventListener("popstate", navigate);

document.addEventListener("click", (e) => {
  if (e.ctrlKey || e.metaKey || e.shiftKey || e.button) return;
  const on = (selector) => e.target.closest(selector);
  if (on(".row")) {
    e.preventDefault();
    show(on(".row").id, { focus: !wide.matches });
  } else if (on(".back")) {
    e.preventDefault();
    history.pushState(null, "", search.value.trim() ? `${page}?${new URLSearchParams({ q: search.value.trim() })}` : page);
    home();
    current()?.focus();
  } else if (on("#older")) {
    e.preventDefault();
    $("rows").children.length >= maxRows ? location.assign(on("#older").href) : older();
  } else if (on("[data-form]")) {
    e.preventDefault();
    const chosen = on("[data-form]");
    for (const form of chosen.parentElement.children) form.removeAttribute("aria-current");
    chosen.setAttribute("aria-current", "true");
    for (const shown of $("panel-body").querySelectorAll("[data-shows]")) shown.hidden = shown.dataset.shows !== chosen.dataset.form;
  } else if (on("#copy-curl")) copyCurl();
  else if (on("#replay")) openReplay();
  else if (on("[data-send]")) sendTest(on("[data-send]"));
  else if (on("#clear")) openDialog("sure").querySelector(".say").replaceChildren();
});

document.addEventListener("chosen", (e) => {
  if (!e.target.closest("#request") || document.body.dataset.view !== "detail") return;
  const url = new URL(location);
  url.searchParams.set("tab", e.target.id.slice(4));
  history.replaceState(null, "", url);
});

const copyCurl = () => $("curl-text") && copy($("curl-text").value, $("copy-curl"));

async function sendTest(button) {
  button.disabled = true;
  try {
    await fetch(`/in/${token}/hello?from=this-page`, { method: "POST", credentials: "omit", redirect: "manual",
      headers: { "Content-Type": "application/json" }, body: JSON.stringify({ hello: "bin", sent: new Date().toISOString(), items: [1, 2, 3] }) });
  } catch {
    toast("The test request did not reach the server", true);
  }
  button.disabled = false;
}

// Actions -----------------------------------------------------------------------------

// Who came by the bin's link may look only: then the dialogs are not there.
const acts = Boolean($("settings"));

function say(dialog, text) {
  dialog.querySelector(".say").textContent = text;
}

// onSubmit runs what a dialog is for, with its button off meanwhile and faults told beside it.
function onSubmit(id, act) {
  const dialog = $(id), button = dialog.querySelector("[type=submit]");
  dialog.querySelector("form").addEventListener("submit", async (e) => {
    e.preventDefault();
    if (button.disabled) return;
    say(dialog, "");
    button.disabled = true;
    try {
      await act(dialog);
    } catch (err) {
      say(dialog, err.message);
    }
    button.disabled = false;
  });
}

async function clear(dialog) {
  await call("DELETE", "/requests");
  dialog.close();
  search.value = "";
  history.replaceState(null, "", page);
  await reload();
  const doc = await part(`${page}?part=detail`);
  $("detail").replaceChildren(document.adoptNode(doc.body.querySelector("#request, #empty")));
  $("panes").classList.toggle("is-empty", !$("rows").children.length);
  home();
}

// linesOf reads header fields, one in a line.
function linesOf(text) {
  return text.split("\n").filter((line) => line.trim()).map((line) => {
    const [, field, value] = line.match(/^\s*([^:\s]+)\s*:\s*(.*?)\s*$/) ?? [];
    if (!field) throw new Error(`"${line.slice(0, 60)}" is no header: write "Name: value"`);
    return { name: field, value };
  });
}

const settings = $("settings")?.querySelector("form").elements;

function schemeChanged() {
  const scheme = settings.scheme.selectedOptions[0];
  $("secret-field").hidden = !scheme.hasAttribute("data-secret");
  $("secret-help").textContent = scheme.dataset.help ?? "";
}

async function save(dialog) {
  const f = settings, response = { status: Number(f.status.value), body: f.body.value };
  response.headers = Object.fromEntries(linesOf(f.headers.value).map((h) => [h.name, h.value]));
  if (f.delay.value.trim()) response.delay = f.delay.value.trim();
  const change = { response }, now = f.scheme?.querySelector("[selected]")?.value ?? "none";
  if (f.scheme && f.scheme.value !== now) change.scheme = f.scheme.value;
  if (f.secret?.value && !$("secret-field").hidden) change.secret = f.secret.value;
  await call("PATCH", "", change);
  dialog.close();
  if (change.scheme || change.secret) location.reload(); // what is said of signatures is another thing now
  else toast("Saved");
}

if (acts) {
  onSubmit("sure", clear);
  onSubmit("settings", save);
  onSubmit("replaying", sendAgain);
  if (settings.scheme) {
    settings.scheme.addEventListener("change", schemeChanged);
    schemeChanged();
  }
  $("replaying").addEventListener("click", (e) => {
    const to = e.target.closest("[data-to]");
    if (to) e.preventDefault(), sendTo(to);
  });
}

// Replay ------------------------------------------------------------------------------

const replay = $("replaying")?.querySelector("form").elements;
let original; // the request in the form, and its fields as they were

function openReplay() {
  const data = $("replay-data")?.content;
  if (!acts) return toast("Who opens a bin by its link may look only; a key replays", true);
  if (!data) return;
  const about = data.querySelector("i").dataset, dialog = $("replaying");
  if (original?.id !== about.id) {
    original = { id: about.id };
    for (const field of data.querySelectorAll("[name]")) {
      replay[field.name].value = field.value;
      original[field.name] = replay[field.name].value; // as the browser has it: line ends, too
    }
    replay.resign.checked = about.sign === "true";
    $("answers").replaceChildren(Object.assign(document.createElement("p"), { className: "hint", textContent: "The answer to the replay appears here. The original stays as it is." }));
  }
  replay.body.hidden = !("edits" in about);
  $("body-help").hidden = !replay.body.hidden;
  replay.resign.disabled = about.sign !== "true";
  $("sign-help").textContent = about.sign === "true" ? "Signatures grow old: sign with the bin's secret and the time of now." : "The bin has no secret to sign with: choose a provider and a secret in Settings.";
  $("original-title").textContent = about.title;
  $("original").replaceChildren(about.answered === "0" ? "Not answered" : `Answered ${about.answered}`, small(about.verdict));
  say(dialog, "");
  openDialog("replaying");
  loadDestinations();
}

function small(text) {
  return Object.assign(document.createElement("small"), { textContent: text });
}

async function loadDestinations() {
  if ($("destinations").children.length) return;
  const answer = await fetch("/v1/destinations?limit=100").catch(() => null);
  const list = answer?.ok ? await answer.json() : {};
  $("destinations").append(...(list.destinations ?? []).map((d) => Object.assign(document.createElement("option"), { value: d.id, label: `${d.name || d.uid || d.kind} ${d.settings?.url ?? ""}` })));
}

function sendTo(chosen) {
  for (const other of chosen.parentElement.children) {
    other.setAttribute("aria-checked", other === chosen);
    if (other === chosen) other.setAttribute("aria-current", "true");
    else other.removeAttribute("aria-current");
    other.tabIndex = other === chosen ? 0 : -1;
  }
  for (const field of $("replaying").querySelectorAll("[data-for]")) field.hidden = !field.dataset.for.split(" ").includes(chosen.dataset.to);
}

// edits is what the form changes of the original.
function edits(to) {
  const edit = {}, was = linesOf(original.headers), now = linesOf(replay.headers.value);
  if (replay.method.value.trim() !== original.method) edit.method = replay.method.value.trim();
  if (to === "source" && replay.path.value !== original.path) edit.path = replay.path.value;
  if (!replay.body.hidden && replay.body.value !== original.body) edit.body = replay.body.value;
  const values = (list, lower) => list.filter((h) => h.name.toLowerCase() === lower).map((h) => h.value);
  for (const { name } of [...was, ...now]) {
    const before = values(was, name.toLowerCase()), after = values(now, name.toLowerCase());
    if (JSON.stringify(before) === JSON.stringify(after)) continue; // several of a name stay several
    edit.headers ??= {};
    edit.headers[now.find((h) => h.name.toLowerCase() === name.toLowerCase())?.name ?? name] = after.length ? after.join(", ") : null;
  }
  return edit;
}

async function sendAgain() {
  const to = document.querySelector("[data-to][aria-checked=true]").dataset.to;
  const where = { url: replay.url.value.trim(), destination: replay.destination.value.trim(), source: page.slice("/bins/".length) }[to];
  if (!where) throw new Error(to === "url" ? "Where to? Enter a URL." : "Which destination? Enter its id.");
  const ask = { [to]: where, resign: to !== "destination" && replay.resign.checked }, edit = edits(to);
  if (Object.keys(edit).length) ask.edit = edit;
  const result = await call("POST", `/requests/${original.id}/replay`, ask);
  $("answers").querySelector(".hint")?.remove();
  $("answers").prepend(answered(result));
}

// answered shows what came of a replay.
function answered(result) {
  const box = document.createElement("div"), head = document.createElement("p"), where = document.createElement("p");
  box.className = "answer";
  where.className = "what-of";
  where.textContent = result.to;
  const ok = result.status >= 200 && result.status < 300 && !result.error;
  head.className = `big ${ok ? "ok" : "bad"}`;
  head.append(result.status ? `Answered ${result.status}` : result.error, small(`after ${Math.round(result.duration_ms)} ms`));
  box.append(where, head);
  const body = result.body ?? (result.body_base64 ? "[binary]" : "");
  const text = [...(result.header ?? []).map((h) => `${h.name}: ${h.value}`), "", body + (result.body_more ? "…" : "")].join("\n").trim();
  if (text) {
    const code = document.createElement("div"), pre = document.createElement("pre");
    code.className = "code";
    pre.className = "wrap";
    pre.textContent = text;
    pre.tabIndex = 0;
    code.append(pre);
    box.append(code);
  }
  return box;
}

// Keys --------------------------------------------------------------------------------

let moving;

function move(step) {
  const all = rows(), now = all.indexOf(current());
  const next = all[Math.min(all.length - 1, Math.max(0, now + step))];
  if (!next || next === current()) return step > 0 ? older() : undefined;
  mark(next.id);
  next.scrollIntoView({ block: "nearest" });
  clearTimeout(moving);
  moving = setTimeout(() => show(next.id), 60); // a held key passes many
}

const keys = {
  j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1),
  "/": () => { if (!wide.matches) home(); search.focus(); search.select(); },
  c: copyCurl, r: openReplay, "?": () => openDialog("help"),
  u: () => copy(document.querySelector(".url").dataset.copy, document.querySelector(".url")),
  Escape: () => { if (!wide.matches) document.querySelector(".back")?.click(); },
};

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing || document.querySelector("dialog[open]")) return;
  if (e.target.closest("input, textarea, select, [contenteditable]")) {
    if (e.key === "Escape" && e.target === search) search.blur();
    return;
  }
  if (e.key.startsWith("Arrow") && e.target.closest("pre, [role=tab], .pane.detail")) return; // they scroll
  const tab = /^[1-4]$/.test(e.key) && document.querySelectorAll("#request .tab")[e.key - 1];
  const act = tab ? () => choose(tab) : keys[e.key];
  if (!act) return;
  e.preventDefault();
  act();
});

// Time --------------------------------------------------------------------------------

function ago(ms) { // view.go says the same
  const s = Math.floor(ms / 1000);
  if (s < 2) return "now";
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 48 * 3600 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

function age(time) {
  const ms = Date.now() + skew - Date.parse(time.dateTime), text = ago(ms);
  const full = time.dataset.ago === "long" && text !== "now" ? `${text} ago` : text;
  if (time.textContent !== full) time.textContent = full;
  return ms;
}

let ticks = 0, skew = 0;
setInterval(() => {
  const all = ticks++ % 10 === 0;
  for (const time of document.querySelectorAll("#request time[data-ago]")) age(time);
  for (const time of $("rows").querySelectorAll("time[data-ago]")) if (age(time) > 60000 && !all) break;
}, 1000);

// localise writes exact times in the reader's own zone; the title keeps UTC.
function localise(where) {
  for (const time of where.querySelectorAll("time[data-local]")) {
    time.title = time.textContent;
    time.textContent = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}

// Live --------------------------------------------------------------------------------

let stream, tries = 0, retry;

function state(kind, text) {
  $("state").dataset.state = kind;
  $("state").lastElementChild.textContent = text;
}

function listen() {
  clearTimeout(retry);
  stream?.close();
  const own = stream = new EventSource(`${api}/live`);
  const heard = () => { if (own === stream) ring().catch(lost); };
  own.onopen = () => {
    tries = 0;
    state("live", "live");
    heard(); // what came while nobody listened
  };
  own.addEventListener("request", heard);
  own.addEventListener("gap", () => own === stream && reload());
  own.addEventListener("gone", () => lost());
  own.onerror = lost;
}

// lost tells what is the matter, and tries again until the bin is gone.
async function lost() {
  stream.close();
  state("lost", "reconnecting…");
  try {
    await part(listURL({ after: at }));
  } catch (err) {
    if (err.status === 404 || err.status === 403) return state("ended", "this bin is gone");
  }
  clearTimeout(retry);
  retry = setTimeout(listen, Math.min(15000, 500 * 2 ** tries++) * (0.75 + Math.random() / 2));
}

for (const wake of ["online", "visibilitychange"]) {
  addEventListener(wake, () => { if (!document.hidden && $("state").dataset.state === "lost") listen(); }, true);
}

localise(document);
watchOlder();
title();
listen();
