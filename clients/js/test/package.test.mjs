// What is published: files, types, docs.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const here = new URL("..", import.meta.url).pathname;
const read = (name) => readFileSync(join(here, name), "utf8");
const npm = (args, cwd = here) => execFileSync("npm", args, { cwd, encoding: "utf8" });

test("the package holds what it takes, and depends on nothing", () => {
  const [{ files }] = JSON.parse(npm(["pack", "--dry-run", "--json", "--ignore-scripts"]));
  const names = files.map((f) => f.path);
  for (const name of ["hark.js", "hark-sw.js", "types/index.d.ts", "README.md", "LICENSE", "package.json"]) assert.ok(names.includes(name), `${name} is missing`);
  assert.deepEqual(names.filter((n) => /^(src|test|node_modules)\/|\.go$|build\.mjs/.test(n)), []);
  const { dependencies, peerDependencies, license } = JSON.parse(read("package.json"));
  assert.deepEqual([dependencies, peerDependencies, license], [undefined, undefined, "Apache-2.0"]);
  for (const built of ["hark.js", "hark-sw.js"]) assert.doesNotMatch(read(built), /\bimport\s*["'{(]|require\(|from\s*["']/);
});

test("installed in a project of TypeScript it has types, and in Node it runs", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "hark-client-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const [{ filename }] = JSON.parse(npm(["pack", "--json", "--ignore-scripts", "--pack-destination", dir]));
  writeFileSync(join(dir, "package.json"), JSON.stringify({ type: "module", private: true }));
  npm(["install", "--no-audit", "--no-fund", "--offline", "./" + filename], dir);
  writeFileSync(join(dir, "use.ts"), `
    import { push, subscribe, HarkError, type HarkEvent, type Gap, type PushMessage, type PushState, type State, type Subscription } from "@harkhq/client";
    interface Order { id: number }
    const s: Subscription<Order> = subscribe<Order>(["orders.>"], {
      url: "https://hark.example.com", getToken: async () => "t", transport: ["websocket", "sse"],
      onEvent: (e: HarkEvent<Order>) => console.log(e.data?.id.toFixed(), e.topic), onGap: (g: Gap) => console.log(g.reason),
      onState: (state: State, info) => console.log(state, info.retryIn, info.error instanceof HarkError && info.error.status),
    });
    for await (const e of s) { const id: number = e.data!.id; console.log(id, s.cursor); }
    // @ts-expect-error
    subscribe("a", { transport: "pigeon" });
    // @ts-expect-error
    subscribe("a", { onevent() {} });
    const { device, subscription } = await push.enable({ getToken: () => "t", topics: ["user.42.>"], onMessage: (m: PushMessage) => m.clicked === "" });
    const id: string = device.id, endpoint: string = subscription.endpoint, state: PushState = (await push.state()).state, was: boolean = await push.disable();
    console.log(id, endpoint, state, was);
    // @ts-expect-error
    push.enable({ onEvent() {} });
  `);
  execFileSync(join(here, "node_modules/.bin/tsc"), ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom", "use.ts"], { cwd: dir, stdio: "inherit" });
  const out = execFileSync(process.execPath, ["--input-type=module", "-e", `import { subscribe } from "@harkhq/client"; import { push } from "@harkhq/client"; console.log(typeof subscribe, (await push.state()).state)`], { cwd: dir, encoding: "utf8" });
  assert.equal(out.trim(), "function unsupported");
});

test("the README has a row for every option and member, with its default", () => {
  const source = read("src/index.ts"), readme = read("README.md");
  const options = source.slice(source.indexOf("export interface SubscribeOptions"), source.indexOf("\n}\n", source.indexOf("export interface SubscribeOptions")));
  const push = read("src/push.ts").match(/export interface PushOptions \{[^]*?\n\}/)[0];
  const start = read("src/types.ts").match(/export interface Start \{[^}]*\}/)[0];
  const names = [...(options + start + push).matchAll(/^  (\w+)\?:/gm)].map((m) => m[1]);
  assert.ok(names.length >= 25, `${names}`);
  for (const name of names) assert.match(readme, new RegExp(`^\\| \`${name}\` \\|`, "m"), `no row for ${name}`);
  const members = [...read("types/index.d.ts").matchAll(/^    (?:readonly |get )?(\w+)(?:\?|\(\))?(?:: |\(\): )/gm)].map((m) => m[1]);
  for (const name of ["close", "cursor", "state", "transport", "error", "shared", "topics"]) {
    assert.ok(members.includes(name), `${name} is no member`);
    assert.match(readme, new RegExp(`^\\| \`${name}(\\(\\))?\` \\|`, "m"), `no row for ${name}`);
  }
});
