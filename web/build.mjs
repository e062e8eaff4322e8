// Builds the script and the style of the page from src/ into the package: `npm ci && npm run build`, or `make web`.
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
