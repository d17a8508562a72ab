// Holds what Hark posts to chat rooms against the apps' own types and schemas: reads
// JSON files named on the command line as KIND-NAME.json, prints what is wrong with
// them, and fails if anything is.
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const cards = createRequire(import.meta.url)("adaptivecards/dist/adaptivecards.js");

const types = {
  slack: `import type { KnownBlock } from "@slack/types";
    type Body = { text: string; blocks: KnownBlock[]; unfurl_links: boolean; unfurl_media: boolean };`,
  discord: `import type { RESTPostAPIWebhookWithTokenJSONBody as Body } from "discord-api-types/v10";`,
  telegram: `import type { ApiMethods } from "@telegraf/types";
    type Body = Parameters<ApiMethods<never>["sendMessage"]>[0];`,
};

const here = dirname(fileURLToPath(import.meta.url));
let faults = 0;
const fault = (file, text) => { faults++; console.log(`${file}: ${text}`); };

// check gives the literal the type, so that an unknown or missing member is an error.
function check(file, kind, json) {
  const name = join(here, kind + "-check.ts"), source = types[kind] + `\nexport const body: Body = ${json};\n`;
  const options = { strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, types: [] };
  const host = ts.createCompilerHost(options), read = host.readFile, exists = host.fileExists, get = host.getSourceFile;
  host.fileExists = (f) => f === name || exists(f);
  host.readFile = (f) => (f === name ? source : read(f));
  host.getSourceFile = (f, v) => (f === name ? ts.createSourceFile(f, source, v) : get(f, v));
  for (const d of ts.getPreEmitDiagnostics(ts.createProgram([name], options, host)))
    fault(file, ts.flattenDiagnosticMessageText(d.messageText, " "));
}

function checkCard(file, body) {
  const content = body.attachments[0].content, context = new cards.SerializationContext(), card = new cards.AdaptiveCard();
  card.parse(content, context);
  for (let i = 0; i < context.eventCount; i++) fault(file, context.getEventAt(i).message);
  for (const e of card.validateProperties().validationEvents) fault(file, e.message);
  if (card.getItemCount() !== content.body.length) fault(file, "the library drops parts of the card");
}

for (const path of process.argv.slice(2)) {
  const json = readFileSync(path, "utf8"), file = basename(path), kind = file.split("-")[0];
  if (kind === "teams") checkCard(file, JSON.parse(json));
  else if (types[kind]) check(file, kind, json);
  else continue;
  console.log("checked " + file);
}
process.exit(faults ? 1 : 0);
