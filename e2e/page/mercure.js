// Plays cases of the Mercure protocol as a page would, with the browser's own
// EventSource, and tells what came. After each update a marker is published: what was
// not there before the marker will not come.
async function playMercure({ hub, token, cases, credentials }) {
  const publish = (fields) => {
    const form = new URLSearchParams();
    for (const [name, value] of fields) form.append(name, value);
    return fetch(hub, { method: "POST", headers: { Authorization: `Bearer ${token}` }, body: form });
  };
  const play = async (c) => {
    const url = new URL(hub);
    for (const s of [...c.selectors, c.marker]) url.searchParams.append("topic", s);
    for (const [name, value] of Object.entries(c.query ?? {})) url.searchParams.append(name, value);
    const source = new EventSource(url, { withCredentials: credentials });
    try {
      await new Promise((resolve, reject) => {
        source.onopen = resolve;
        source.onerror = () => reject(new Error("the stream does not open"));
      });
      let received = null;
      const hear = (e) => (received ??= { id: e.lastEventId, data: e.data, type: e.type });
      const marked = new Promise((resolve, reject) => {
        setTimeout(reject, 15000, new Error("the marker does not come"));
        source.onmessage = (e) => (e.data === c.marker ? resolve() : hear(e));
        if (c.type) source.addEventListener(c.type, hear);
      });
      const fields = c.topics.map((t) => ["topic", t]);
      fields.push(["id", c.id], ["data", c.data]);
      if (c.private) fields.push(["private", "on"]);
      if (c.type) fields.push(["type", c.type]);
      const answer = await publish(fields);
      const body = await answer.text();
      await publish([["topic", c.marker], ["data", c.marker]]);
      await marked;
      return { name: c.name, received, status: answer.status, contentType: answer.headers.get("Content-Type"), body };
    } finally {
      source.close();
    }
  };
  const results = [];
  for (const c of cases) {
    try {
      results.push(await play(c));
    } catch (e) {
      results.push({ name: c.name, error: String(e) });
    }
  }
  return results;
}
