// Follows the URL named on the command line with the npm package eventsource, as it
// comes, and prints what it is told: {"what","id"?,"data"?}, one a line. It ends with its input.
import { EventSource } from "eventsource";

const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const source = new EventSource(process.argv[2]);
source.onopen = () => say({ what: "open" });
source.onerror = () => say({ what: "error", data: String(source.readyState) });
source.onmessage = (e) => say({ what: "message", id: e.lastEventId, data: e.data });
for (const what of ["gap", "end"]) {
  source.addEventListener(what, (e) => say({ what, id: e.lastEventId, data: e.data }));
}
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
