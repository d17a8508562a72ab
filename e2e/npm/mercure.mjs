// Follows a Mercure stream with the npm package eventsource, as an application in Node
// would, and publishes what stands on its standard input, a form a line:
// node mercure.mjs HUB QUERY TOKEN. It says what happens, one JSON object a line.
import { createInterface } from "node:readline";
import { EventSource } from "eventsource";

const [hub, query, token] = process.argv.slice(2);
const authorized = (init) => ({ ...init, headers: { ...init?.headers, Authorization: `Bearer ${token}` } });
const say = (what) => console.log(JSON.stringify(what));

const source = new EventSource(`${hub}?${query}`, { fetch: (url, init) => fetch(url, authorized(init)) });
const update = (e) => say({ id: e.lastEventId, type: e.type, data: e.data });
source.onopen = () => say({ open: true });
source.onmessage = update;
source.addEventListener("book", update);
source.onerror = () => source.readyState === EventSource.CLOSED && say({ closed: true });

createInterface({ input: process.stdin })
  .on("line", async (form) => {
    const answer = await fetch(hub, authorized({ method: "POST", body: new URLSearchParams(form) }));
    say({ published: await answer.text(), status: answer.status });
  })
  .on("close", () => process.exit());
