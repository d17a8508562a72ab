// What users of the package see, and what a page and its hub tell each other.

/** An event as Hark keeps it. `data` is a JSON value when the content type is JSON, else a text. */
export interface HarkEvent<T = any> {
  id: string;
  topic: string;
  /** The sender's own time of it, RFC 3339. */
  time?: string;
  /** When Hark took it in, RFC 3339. */
  received: string;
  key?: string;
  content_type?: string;
  data?: T;
  /** Instead of data, when the bytes are no text. */
  data_base64?: string;
  attributes?: Record<string, string>;
  source?: string;
}

/** Events between two positions that are gone: something may have been missed. */
export interface Gap {
  from: string;
  to: string;
  /** "retention": they were too old to be kept. "restore": the server was restored from a backup. */
  reason: string;
}

export type TransportName = "sse" | "websocket" | "longpoll" | "poll";

/**
 * - `connecting`: on the way, or about to try another transport
 * - `live`: events come as they happen
 * - `waiting`: the connection is lost, the next try is due in a while
 * - `refused`: the server does not want us (401, 403, 400); nothing more is tried
 * - `closed`: close() was called
 */
export type State = "connecting" | "live" | "waiting" | "refused" | "closed";

export interface StateInfo {
  /** The transport in use, or about to be. */
  transport?: TransportName;
  /** Why it waits or was refused. */
  error?: HarkError;
  /** Milliseconds until the next try. */
  retryIn?: number;
}

/** What went wrong, with the server's words for it when it had any. */
export class HarkError extends Error {
  override name = "HarkError";
  constructor(
    message: string,
    /** HTTP status, when there was an answer. */
    readonly status?: number,
    /** The problem's code, such as "topic-forbidden". */
    readonly code?: string,
  ) {
    super(message);
  }
}

/** Where to begin. At most one of them; without any, at what is published from now on. */
export interface Start {
  /** After this position: a cursor or an event's id. */
  after?: string;
  /** "earliest", "now", a time (RFC 3339) or an event's id. */
  from?: string;
  /** The newest so many, 1 to 1000, then what comes. */
  last?: number;
}

/** Whether cookies go along, as in fetch. */
export type Credentials = "omit" | "same-origin" | "include";

// Between a page and the hub that holds its connections. The hub lives in a SharedWorker, in
// another page, or in the page itself; what is told is the same.

/** @internal */
export interface Want extends Start {
  topics: string[];
  /** Where the server is, without a slash at its end. */
  url: string;
  /** Who may share a connection: those with the same key. */
  key: string;
  order: TransportName[];
  /** What worked the last time. */
  prefer?: TransportName;
  /** How often to poll, in milliseconds. */
  pollEvery: number;
  credentials?: Credentials;
  token?: string;
  /** Whether the page can be asked for another token. */
  renews: boolean;
  /** Whether this token is already what came of asking, after a refusal. */
  asked: boolean;
}

/** @internal */
export type ToHub = { tab: string } & (
  | { t: "ping" }
  | { t: "add"; sub: string; want: Want }
  | { t: "remove"; sub: string }
  | { t: "bye" }
  | { t: "wake"; online: boolean }
  | { t: "token"; sub: string; token?: string | null }
);

/** @internal */
export type ToSub =
  | { t: "events"; events: HarkEvent[]; cursor: string }
  | { t: "gap"; gap: Gap }
  | { t: "cursor"; cursor: string }
  | { t: "state"; state: State; transport?: TransportName; error?: { message: string; status?: number; code?: string }; retryIn?: number }
  | { t: "token" };

/** @internal */
export type ToTab = { tab: string; hub: string } & ({ t: "hello"; known: number } | (ToSub & { sub: string }));
