// load compiles a module of src for a test.
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

export async function load(name) {
  const { outputFiles } = await build({
    entryPoints: [new URL(`../src/${name}.ts`, import.meta.url).pathname],
    bundle: true, format: "esm", target: "node18", write: false, charset: "utf8",
  });
  const { text } = outputFiles[0];
  const folder = new URL("../node_modules/.hark/", import.meta.url);
  mkdirSync(folder, { recursive: true });
  const file = new URL(`${name}-${createHash("sha256").update(text).digest("hex").slice(0, 12)}.mjs`, folder);
  writeFileSync(file, text);
  return import(file);
}

// seeded returns a generator of random numbers and prints what it takes to run it again.
export function seeded(t) {
  let seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`SEED=${seed}`);
  return (n) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return Math.floor((((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}
