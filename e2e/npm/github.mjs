// A webhook as GitHub sends it: a payload of octokit's examples, signed by octokit.
// node github.mjs EVENT NUMBER SECRET prints {"body","signature"}.
import { createRequire } from "node:module";
import { sign, verify } from "@octokit/webhooks-methods";

const [event, number, secret] = process.argv.slice(2);
const examples = createRequire(import.meta.url)("@octokit/webhooks-examples/api.github.com/index.json");
const body = JSON.stringify(examples.find((e) => e.name === event).examples[Number(number)]);
const signature = await sign(secret, body);
if (!(await verify(secret, body, signature))) throw new Error("octokit does not verify its own signature");
process.stdout.write(JSON.stringify({ body, signature }));
