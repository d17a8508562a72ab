// Builds hark.js from src: one module, as it is served at /hark.js and published. With --check
// it builds nothing and fails unless the committed file is what the source makes.
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = (name) => new URL(name, import.meta.url).pathname;
const { outputFiles } = await build({
  entryPoints: [here("src/index.ts")],
  absWorkingDir: here("."),
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2021", "chrome100", "firefox114", "safari16", "node18"],
  charset: "utf8",
  legalComments: "none",
  banner: { js: "/* Hark's client, Apache-2.0. Made from clients/js/src: change that, then npm run build. */" },
  write: false,
});
const text = outputFiles[0].text;
const size = gzipSync(text, { level: 9 }).length;
const limit = 10_000;
console.log(`hark.js: ${text.length} bytes, ${size} gzipped`);
if (size >= limit) {
  console.error(`hark.js must stay below ${limit} bytes gzipped`);
  process.exit(1);
}
if (process.argv.includes("--check")) {
  if (readFileSync(here("hark.js"), "utf8") !== text) {
    console.error("clients/js/hark.js is not what its source makes: run npm run build in clients/js");
    process.exit(1);
  }
} else {
  writeFileSync(here("hark.js"), text);
}
