import { HarkError } from "./types.js";

/**
 * Why a connection ended, by what follows from it:
 *
 * - `again`: the same transport, later
 * - `next`: this transport does not work here, try another
 * - `token`: come back with another token
 * - `refused`: asking again makes no sense
 */
export type Verdict = "again" | "next" | "token" | "refused";

export class Fault extends HarkError {
  constructor(
    readonly verdict: Verdict,
    message: string,
    status?: number,
    code?: string,
    /** How long the server asked to wait, in milliseconds. */
    readonly wait?: number,
    /** The server ended it politely: nothing is wrong. */
    readonly polite = false,
  ) {
    super(message, status, code);
  }
}

/** Of how long a server asks to wait, what is believed: five minutes at most. Timers take a month for nothing. */
export const believed = (ms: number | undefined) => (ms! >= 0 ? Math.min(ms!, 300_000) : undefined);

function retryAfter(header: string | null): number | undefined {
  if (!header) return undefined;
  return believed(/^\d+$/.test(header) ? +header * 1000 : Date.parse(header) - Date.now());
}

/**
 * judge reads an answer that is not what was asked for. Only 401, 403 and Hark's own 400 are for
 * good: all else may be a proxy, a deploy, a bad hour.
 */
export async function judge(res: Response): Promise<Fault> {
  const problem = (res.headers.get("content-type") ?? "").startsWith("application/problem+json")
    ? await res.json().catch(() => undefined) as { detail?: string; title?: string; code?: string } | undefined
    : undefined;
  res.body?.cancel().catch(() => {});
  const { status } = res;
  const verdict =
    status === 401 || status === 403 ? "token"
    : status === 204 || (status === 400 && problem) ? "refused"
    : status === 408 || status === 425 || status === 429 || status >= 500 && status !== 501 ? "again"
    : "next";
  const type = res.headers.get("content-type");
  return new Fault(verdict, problem?.detail ?? problem?.title ?? (status === 200 ? `answered with ${type}` : `answered ${status}`),
    status, problem?.code, retryAfter(res.headers.get("retry-after")));
}

export interface End {
  reason: string;
  reconnect_ms?: number;
}

/** A polite end: the server says why and when to come back. */
export function ended(end: End): Fault {
  const token = end.reason === "expired" || end.reason === "revoked";
  return new Fault(token ? "token" : "again", "the server ended the connection: " + end.reason, undefined, end.reason,
    believed(end.reconnect_ms) ?? 0, true);
}
