// A hub holds the lines of one or many pages and tells each what is its own. It knows a page by
// the messages it sends; where it runs is the business of share.ts.

import { Line, Member } from "./line.js";
import type { ToHub, ToTab } from "./types.js";

export const random = () => Math.random().toString(36).slice(2, 12);

/** A page that sent nothing for so long is gone: they ping every 20 s, in the background every minute. */
const forgotten = 150_000;

interface Tab {
  seen: number;
  subs: Map<string, { line: Line; member: Member }>;
}

export class Hub {
  readonly id = random();
  private tabs = new Map<string, Tab>();
  private lines = new Map<string, Line[]>(); // by key
  private reaper?: ReturnType<typeof setInterval>;

  /** A shared one must notice that a page is gone without a word. */
  constructor(shared: boolean) {
    if (shared) this.reaper = setInterval(() => {
      for (const [id, tab] of this.tabs) if (Date.now() - tab.seen > forgotten) this.bye(id);
    }, 30_000);
  }

  receive(m: ToHub, post: (m: ToTab) => void): void {
    let tab = this.tabs.get(m.tab);
    if (m.t === "bye") return this.bye(m.tab);
    if (!tab) this.tabs.set(m.tab, (tab = { seen: 0, subs: new Map() }));
    tab.seen = Date.now();
    if (m.t === "ping") post({ t: "hello", tab: m.tab, hub: this.id, known: tab.subs.size });
    else if (m.t === "wake") for (const lines of this.lines.values()) lines.forEach((l) => l.wake(m.online));
    else if (m.t === "add") this.add(tab, m, post);
    else {
      const sub = tab.subs.get(m.sub);
      if (m.t === "token") sub?.member.answer?.(m.token);
      else if (tab.subs.delete(m.sub)) sub!.line.remove(sub!.member);
    }
  }

  /** close lets go of everything. */
  close(): void {
    clearInterval(this.reaper);
    for (const id of [...this.tabs.keys()]) this.bye(id);
  }

  private add(tab: Tab, { tab: id, sub, want }: ToHub & { t: "add" }, post: (m: ToTab) => void): void {
    if (tab.subs.has(sub)) return;
    const member = new Member(id + "." + sub, want, (m) => {
      // Refused is the last that it is told.
      if (m.t === "state" && m.state === "refused") tab.subs.delete(sub);
      post({ ...m, tab: id, hub: this.id, sub });
    });
    const lines = this.lines.get(want.key) ?? [];
    this.lines.set(want.key, lines);
    let line = lines.find((l) => l.fits(want.topics));
    if (!line) {
      const made = line = new Line(want, () => {
        lines.splice(lines.indexOf(made), 1);
        if (!lines.length) this.lines.delete(want.key);
      });
      lines.push(line);
    }
    tab.subs.set(sub, { line, member });
    line.add(member);
  }

  private bye(id: string): void {
    const tab = this.tabs.get(id);
    this.tabs.delete(id);
    for (const { line, member } of tab?.subs.values() ?? []) line.remove(member);
  }
}
