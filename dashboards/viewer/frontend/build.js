// Bundles the viewer into ../static: one page, one script, one style sheet, and the licences of what went in.
import { build } from "esbuild";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const out = new URL("../static/", import.meta.url).pathname;

function licence(name) {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  const text = readFileSync(file ? `${folder}/${file}` : `licences/${name.replace("/", "-")}.txt`, "utf8");
  return `${name} ${version} (${license})\n\n${text.trim()}\n`;
}

rmSync(out, { recursive: true, force: true });
mkdirSync(out);
const { metafile } = await build({
  entryPoints: ["main.js"],
  outfile: `${out}viewer.js`,
  bundle: true,
  minify: true,
  metafile: true,
  format: "esm",
  target: "es2022",
  // Reads images in chunks from servers, which the viewer never does.
  alias: { zarrita: "./no-chunks.js" },
});
for (const file of ["index.html", "viewer.css"]) cpSync(file, out + file);
const used = Object.values(metafile.outputs).flatMap(({ inputs }) => Object.entries(inputs));
const names = used.filter(([, { bytesInOutput }]) => bytesInOutput).map(([path]) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]);
const packages = [...new Set(names.filter(Boolean))].sort();
writeFileSync(`${out}LICENCES.txt`, packages.map(licence).join(`\n${"-".repeat(80)}\n\n`));
