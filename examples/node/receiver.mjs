// A webhook receiver in Node with the official library: npm install standardwebhooks
// WEBHOOK_SECRET=whsec_… node receiver.mjs
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const seen = new Set(); // in earnest: a table with a unique id

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts); // the raw bytes, before anything parses them
    try {
      webhook.verify(body, request.headers, { jsonParse: false });
    } catch (error) {
      response.writeHead(401).end(error.message);
      return;
    }
    const id = request.headers["webhook-id"]; // the same over all attempts
    if (!seen.has(id)) {
      seen.add(id);
      console.log(id, request.headers["hark-topic"], body.toString());
    }
    response.writeHead(204).end();
  });
});

const [host, port] = (process.env.ADDR ?? "127.0.0.1:9000").split(":");
server.listen(Number(port), host, () => console.log(`listening on http://${host}:${server.address().port}`));
