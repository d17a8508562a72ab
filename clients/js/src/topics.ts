// Topic patterns, as far as a page needs them: the server decides, these tell apart what came
// over one connection for several.

/** What a request can ask for. */
export const maxTopics = 64;

const pattern = /^(?:(?:[\w-]+|\*)\.)*(?:[\w-]+|\*|>)$/;

/** A misspelt pattern is told at once, not by a connection that others share. */
export function checkTopics(topics: string[]): void {
  if (topics.length > maxTopics) throw new TypeError(`hark: ${topics.length} topics: at most ${maxTopics}, use several subscriptions`);
  for (const t of topics) {
    if (typeof t !== "string" || t.length > 255 || !pattern.test(t)) {
      throw new TypeError(`hark: "${t}" is no topic pattern: names of A-Z a-z 0-9 _ - with dots between; * stands for one, > at the end for one or more`);
    }
  }
}

/** Hark's own topics, which begin with "hark", match only patterns that say so. */
export function matches(topics: string[], topic: string): boolean {
  const have = topic.split(".");
  return !topics.length || topics.some((p) => {
    const want = p.split(".");
    if (have[0] === "hark" && want[0] !== "hark") return false;
    return want.every((w, i) => (w === ">" || w === "*" ? i < have.length : w === have[i])) && (want.at(-1) === ">" || want.length === have.length);
  });
}
