// A webhook receiver in Node that trusts only the official standardwebhooks
// library. It prints {"port"} first; each line on its input gives the secret of a
// path, {"path","secret"}, and is answered {"known": path}. For each delivery it
// prints what the library said of it, and of forgeries made from it:
// {"path","id","verified","refused":[…],"accepted":[…],"size"}.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";
import sha256 from "fast-sha256";
import { encode } from "@stablelib/base64";

// The library turns a body into text before it signs (1.1.1), so it cannot know
// one that is not UTF-8. This is the library with that one step on bytes.
class BytesWebhook extends Webhook {
  sign(id, timestamp, payload) {
    const head = Buffer.from(`${id}.${Math.floor(timestamp.getTime() / 1000)}.`);
    return "v1," + encode(sha256.hmac(this.key, Buffer.concat([head, payload])));
  }
}

const secrets = new Map();
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

function verifies(secret, body, headers) {
  const text = Buffer.from(body.toString("utf8"), "utf8");
  const Library = text.equals(body) ? Webhook : BytesWebhook;
  try {
    new Library(secret).verify(body, headers, { jsonParse: false });
    return true;
  } catch {
    return false;
  }
}

// Each forgery changes one thing that is signed, or the key.
function forgeries(secret, body, headers) {
  const other = { ...headers };
  const changed = (name, value) => ({ ...other, [name]: value });
  const flipped = Buffer.from(body);
  if (flipped.length > 0) flipped[flipped.length >> 1] ^= 1;
  const signature = headers["webhook-signature"];
  const wrong = signature.replace(/,./, (m) => "," + (m[1] === "A" ? "B" : "A"));
  return [
    ["body", flipped.length > 0 ? flipped : Buffer.from(" "), headers, secret],
    ["longer body", Buffer.concat([body, Buffer.from("\n")]), headers, secret],
    ["id", body, changed("webhook-id", headers["webhook-id"] + "0"), secret],
    ["time", body, changed("webhook-timestamp", String(Number(headers["webhook-timestamp"]) + 1)), secret],
    ["old time", body, changed("webhook-timestamp", String(Number(headers["webhook-timestamp"]) - 3600)), secret],
    ["signature", body, changed("webhook-signature", wrong), secret],
    ["secret", body, headers, "whsec_" + Buffer.from("another secret of some length!!!").toString("base64")],
  ];
}

const server = createServer((req, res) => {
  const parts = [];
  req.on("data", (part) => parts.push(part));
  req.on("end", () => {
    const body = Buffer.concat(parts);
    const secret = secrets.get(req.url);
    const verified = secret !== undefined && verifies(secret, body, req.headers);
    const report = { path: req.url, id: req.headers["webhook-id"], size: body.length, verified, refused: [], accepted: [] };
    if (verified) {
      for (const [name, forgedBody, headers, key] of forgeries(secret, body, req.headers)) {
        (verifies(key, forgedBody, headers) ? report.accepted : report.refused).push(name);
      }
    }
    res.writeHead(verified ? 204 : 401).end();
    say(report);
  });
});

server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { path, secret } = JSON.parse(line);
    secrets.set(path, secret);
    say({ known: path });
  })
  .on("close", () => process.exit(0));
