// Follows open.> at the URL with hark.js and prints what it is handed, a line each. Over the
// transports that are named, each for 25 events, then the next goes on at its cursor.
import { subscribe } from "../../clients/js/hark.js";

const [url, ...transports] = process.argv.slice(2);
let after;
for (let i = 0; ; i++) {
  const subscription = subscribe("open.>", { url, transport: transports[i % transports.length], pollInterval: 500, ...(after ? { after } : { from: "earliest" }), onGap: (gap) => console.log("gap", gap) });
  let n = 0;
  for await (const event of subscription) {
    console.log(event.data);
    after = event.id;
    if (transports.length > 1 && ++n === 25) break;
  }
}
