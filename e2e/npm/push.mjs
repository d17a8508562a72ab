// Sends by npm's web-push, as an app would: a line of JSON in, a line with the answer's status out.
import { createInterface } from "node:readline";
import webpush from "web-push";

for await (const line of createInterface({ input: process.stdin })) {
  const { subscription, payload, options } = JSON.parse(line);
  const answer = await webpush.sendNotification(subscription, payload, options).catch((e) => e);
  console.log(JSON.stringify({ status: answer.statusCode ?? 0, said: answer.statusCode ? answer.body : String(answer.stack) }));
}
