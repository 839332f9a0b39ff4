// SPDX-License-Identifier: Apache-2.0
//
// Makes the page: one HTML file that holds its style, its script and the licences of their parts, and loads nothing.
//
// Usage: node bundle.mjs OUTPUT     (in a directory with the page's sources and node_modules)
import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const output = process.argv[2];
const result = await build({
  entryPoints: ["main.js"],
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome109", "firefox115", "safari16"],
  charset: "utf8",
  legalComments: "none", // whole licences are below
  outdir: "bundle",
  write: false,
  metafile: true,
  logLevel: "warning",
});
const textOf = (end) => result.outputFiles.find(({ path }) => path.endsWith(end)).text.trim();

// Neither may end its element early.
const script = textOf(".js").replaceAll("</script", "<\\/script");
const style = textOf(".css");
if (/<\/style/i.test(style) || /<!--/.test(script)) throw new Error("the bundle cannot be put into HTML");

const packages = new Set();
for (const path of Object.keys(result.metafile.inputs)) {
  const match = path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (match) packages.add(match[1]);
}
if (!packages.has("uplot") || !packages.has("d3-flame-graph")) throw new Error("the libraries are not where they belong");
const licences = [...packages].sort().map((name) => {
  const { version, license } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt"].map((each) => `node_modules/${name}/${each}`).find(existsSync);
  if (!file) throw new Error(`${name} has no licence`);
  return `${name} ${version} (${license})\n\n${readFileSync(file, "utf8").trim()}\n`;
}).join(`\n${"-".repeat(72)}\n\n`);

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const policy = ["default-src 'none'", `script-src ${hash(script)}`, `style-src ${hash(style)}`, "connect-src 'self'",
  "img-src data:", "base-uri 'none'", "form-action 'none'"].join("; ");

// By functions, because a replacement text has signs of its own.
const page = readFileSync("index.html", "utf8")
  .replace("<!-- policy -->", () => `<meta http-equiv="Content-Security-Policy" content="${policy}">`)
  .replace("<!-- style -->", () => `<style>${style}</style>`)
  .replace("<!-- licences -->", () => escaped(licences))
  .replace("<!-- script -->", () => `<script type="module">${script}</script>`);
writeFileSync(`${output}.new`, page);
renameSync(`${output}.new`, output);
