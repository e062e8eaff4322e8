// Builds the script and the style of the page from src/ into the package: `npm ci && npm run build`, or `make web`.
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const folder = process.argv[2] ?? "../flowtrace/cli/page/built";

await build({
  entryPoints: ["src/page.js", "src/page.css"],
  outdir: folder,
  bundle: true,
  minify: true,
  charset: "ascii",
  format: "iife",
  target: ["chrome110", "firefox115", "safari16.4"],
  legalComments: "none",
  logLevel: "warning",
});

// What is bundled comes with its license.
const parts = ["preact", "htm", "@tanstack/virtual-core"].map((name) => {
  const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
  return `${name} ${version}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim()}\n`;
});
writeFileSync(`${folder}/LICENSES.txt`, `page.js holds parts of:\n\n${parts.join("\n\n")}`);
