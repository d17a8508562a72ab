// Builds hark.js and hark-sw.js from src: a module for pages and a script for their service
// workers, as they are served and published. With --check it builds nothing and fails unless the
// committed files are what the source makes.
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = (name) => new URL(name, import.meta.url).pathname;
const outputs = [
  { file: "hark.js", from: "src/index.ts", format: "esm", limit: 10_000, is: "client" },
  { file: "hark-sw.js", from: "src/worker.ts", format: "iife", limit: 4_000, is: "service worker" },
];
for (const { file, from, format, limit, is } of outputs) {
  const { outputFiles } = await build({
    entryPoints: [here(from)],
    absWorkingDir: here("."),
    bundle: true,
    minify: true,
    format,
    target: ["es2021", "chrome100", "firefox114", "safari16", "node18"],
    charset: "utf8",
    legalComments: "none",
    banner: { js: `/* Hark's ${is}, Apache-2.0. Made from clients/js/src: change that, then npm run build. */` },
    write: false,
  });
  const text = outputFiles[0].text;
  const size = gzipSync(text, { level: 9 }).length;
  console.log(`${file}: ${text.length} bytes, ${size} gzipped`);
  if (size >= limit) {
    console.error(`${file} must stay below ${limit} bytes gzipped`);
    process.exit(1);
  }
  if (!process.argv.includes("--check")) {
    writeFileSync(here(file), text);
  } else if (readFileSync(here(file), "utf8") !== text) {
    console.error(`clients/js/${file} is not what its source makes: run npm run build in clients/js`);
    process.exit(1);
  }
}
