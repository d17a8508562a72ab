// What every page has: theme, copying, toasts, dialogs. Text is only ever set as text.

const root = document.documentElement;

function toggleTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `hark_theme=${root.dataset.theme}; Path=/; SameSite=Strict; Max-Age=31536000${secure}`;
}

export function toast(text, bad = false) {
  const note = document.createElement("p");
  note.className = bad ? "toast bad" : "toast";
  note.textContent = text;
  const open = document.querySelector("dialog[open]"); // a dialog covers what is outside of it
  (open ?? document).querySelector(".toasts, .dialog-foot .say")?.append(note);
  setTimeout(() => note.remove(), bad ? 8000 : 2500);
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no clipboard without https: the old way
    const area = document.createElement("textarea");
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const ok = document.execCommand("copy");
    area.remove();
    if (!ok) return toast("The browser refuses to copy", true);
  }
  if (!button) return toast("Copied");
  const label = button.querySelector(".copy span, :scope > span") ?? button;
  button.dataset.label ??= label.textContent;
  label.textContent = "Copied";
  button.classList.add("done");
  clearTimeout(button.back);
  button.back = setTimeout(() => {
    label.textContent = button.dataset.label;
    button.classList.remove("done");
  }, 1500);
}

export function openDialog(id) {
  const dialog = document.getElementById(id);
  if (!dialog.open) dialog.showModal();
  return dialog;
}

// choose shows the panel of a tab and hides those of its neighbours.
export function choose(tab) {
  for (const other of tab.parentElement.children) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", chosen);
    other.tabIndex = chosen ? 0 : -1;
    const panel = document.getElementById(other.getAttribute("aria-controls"));
    if (panel.classList.contains("code")) panel.toggleAttribute("data-later", !chosen);
    else panel.hidden = !chosen;
  }
  tab.dispatchEvent(new CustomEvent("chosen", { bubbles: true }));
}

function uncover(e) {
  const covered = e.target.closest(".covered:not(.shown)");
  if (!covered) return;
  e.preventDefault();
  covered.classList.add("shown");
  for (const name of ["role", "aria-label"]) covered.removeAttribute(name);
}

document.addEventListener("click", (e) => {
  const on = (selector) => e.target.closest(selector);
  uncover(e);
  if (on("#theme")) return toggleTheme();
  if (on("[data-close]")) return on("dialog").close();
  if (on("[data-open]")) return openDialog(on("[data-open]").dataset.open);
  if (on("[data-copy]")) return copy(on("[data-copy]").dataset.copy, on("[data-copy]"));
  if (on("[data-copy-near]")) return copy(on(".code").querySelector("pre").textContent, on("[data-copy-near]"));
  const tab = on("[role=tab]");
  if (tab && !e.ctrlKey && !e.metaKey && !e.shiftKey) {
    e.preventDefault();
    choose(tab);
  } else if (e.target.matches("dialog")) { // beside the dialog
    e.target.close();
  }
});

document.addEventListener("keydown", (e) => {
  if (e.key === "Enter" || e.key === " ") uncover(e);
  const tab = e.target.closest?.("[role=tab]");
  const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
  if (tab && step) {
    e.preventDefault();
    const all = [...tab.parentElement.children];
    const next = all[(all.indexOf(tab) + step + all.length) % all.length];
    choose(next);
    next.focus();
  }
  const typing = e.target.closest?.("input, textarea, select, [contenteditable]");
  if (e.key === "t" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey && !document.querySelector("dialog[open]")) toggleTheme();
});
