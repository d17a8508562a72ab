// A client of /v1/ws with nothing but a WebSocket: the browser's, Node's own or npm's ws.
// In Node: node socket.mjs ws|own URL TOKEN N

/**
 * Subscribes from the beginning to what was published, n events; publishes three more and hears
 * them; comes back with its cursor, and hears what was published meanwhile and nothing else.
 */
export async function talk(WebSocket, url, token, n) {
  const first = await session(WebSocket, url, token, { from: "earliest" }, n + 3, 3);
  const away = await session(WebSocket, url, token, { from: "now" }, 2, 2);
  const again = await session(WebSocket, url, token, { after: first.cursor }, 2, 0);
  return { first, away, again };
}

function session(WebSocket, url, token, start, events, publishes) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url, ["hark.v1", "hark.token." + token]);
    const said = { types: [], data: [], published: [], cursor: "" };
    const send = (frame) => ws.send(JSON.stringify(frame));
    const patience = setTimeout(() => reject(new Error("not all came: " + JSON.stringify(said))), 20000);
    ws.onopen = () => send({ type: "subscribe", sub: "a", topics: ["a.>"], ...start });
    ws.onmessage = ({ data }) => {
      const f = JSON.parse(data);
      if (said.types.at(-1) !== f.type) said.types.push(f.type);
      if (f.type === "subscribed") for (let i = 0; i < publishes; i++) send({ type: "publish", ref: "" + i, topic: "a.own", data: "own " + i + " ü€😀" });
      if (f.type === "published") said.published.push(f.ref);
      if (f.type === "events") said.data.push(...f.events.map((e) => e.data));
      if (f.cursor) said.cursor = f.cursor;
      if (said.data.length >= events && said.published.length === publishes) ws.close(1000, "enough");
    };
    ws.onerror = (e) => reject(new Error("WebSocket error " + (e.message ?? "")));
    ws.onclose = ({ code, reason, wasClean }) => {
      clearTimeout(patience);
      resolve({ ...said, code, reason, wasClean, protocol: ws.protocol, extensions: ws.extensions });
    };
  });
}

if (globalThis.process?.argv?.[1]?.endsWith("socket.mjs")) {
  const [kind, url, token, n] = process.argv.slice(2);
  const client = kind === "ws" ? (await import("ws")).WebSocket : globalThis.WebSocket;
  process.stdout.write(JSON.stringify(await talk(client, url, token, Number(n))));
}
