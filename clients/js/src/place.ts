/** Whether this module is hark.js itself, as Hark serves it, and not a part of something else. */
const isScript = /^http.*\/hark\.js(\?[^/]*)?$/.test(import.meta.url ?? "");

/** where says where Hark is, without a slash at its end: where hark.js came from, else the page's origin. */
export function where(url?: string): string {
  const base = url ?? (isScript ? new URL(".", import.meta.url).href : globalThis.location?.origin);
  if (!base) throw new TypeError("hark: url is needed: where is the server?");
  return new URL(base, globalThis.location?.href).href.replace(/\/+$/, "");
}
