// Builds the pages into dist/: one HTML file per page, hashed scripts and styles under a/, a Brotli copy beside each,
// and manifest.json with the sizes. Refuses to finish when a page weighs more than its budget or names a missing word.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");
const draft = join(here, `.dist-${process.pid}`); // swapped in at the end, so that a server never sees half a build
const catalogues = Object.fromEntries(["de", "en"].map((lang) => [lang, JSON.parse(readFileSync(join(here, "../text", `${lang}.json`), "utf8"))]));
const keys = Object.keys(catalogues.en);

const bundles = {
  // What stands behind a button is fetched when somebody presses it, with its own words.
  tenant: { script: "src/tenant/chat.tsx", style: "src/style/tenant.css", later: { name: "panels", script: "src/tenant/panels.tsx", style: "src/style/panels.css", limit: 12_000 } },
  door: { script: "src/door/door.tsx", style: "src/style/door.css" },
  first: { script: "src/door/first.tsx", style: "src/style/door.css" },
  operator: { script: "src/operator/dashboard.tsx", style: "src/style/operator.css" },
};
// Brotli bytes of everything a first visit loads: page, early script, script, style, icon, web manifest.
const pages = {
  tenant: { bundle: "tenant", title: "app.name", limit: 45_000 },
  login: { bundle: "door", title: "login.page_title", limit: 12_000 },
  first: { bundle: "first", title: "first.page_title", limit: 12_000 },
  operator: { bundle: "operator", title: "fleet.page_title", limit: 60_000 },
  "operator-login": { bundle: "door", title: "operator_login.page_title", limit: 12_000 },
};

// What only commands, the plugin and agents are told: no page asks for the vault, and no browser enrols a host.
const consoleOnly = /^error\.(?:proxy_(?:credentials|target|host|busy)|hosts?_(?!unknown)|(?:tools_token|console_key)_wrong|secret_not_for_host|body_unreadable|(?:vault|backup|recovery_key|secret|token)_|proof_invalid|version_unsupported|enrol_limited|(?:verb|plugin|person|assistant)_unknown|reach_of_owner|tenant_away|decisions_limited|session_not_frozen|canary_unknown|plugin_outdated|gateway_unwell)/;

// What happens to a tenant before it is there is told on the operator's pages alone.
const operatorOnly = /^(?:error\.(?:agent_|login_wrong_operator|(?:allocate|enrol|step)_failed)|finding\.(?:policy|audit|budget|usage|canary)_)/;

// What only the part that is fetched later can run into.
const laterOnly = /^error\.(?:levels_|template_|approvals_full|assistant_not_paused|reset_announced|devices_too_many|device_(?:key_wrong|known|needs_ticket|code_wrong))/;

/** What is fetched later names words of its own. */
const apart = {
  name: "apart",
  setup(build) {
    build.onResolve({ filter: /./ }, ({ kind, path }) => (kind === "dynamic-import" ? { path, external: true } : undefined));
  },
};

const started = performance.now();
checkParity();
const files = {}; // name in dist → { bytes, brotli }
mkdirSync(join(draft, "a"), { recursive: true });
try {
  const shared = {
    early: await hashed("early", "js", await script("src/core/early.ts", "iife", [])),
    icon: await hashed("mark", "svg", icon()),
  };
  shared.manifest = await hashed("app", "webmanifest", webManifest(shared.icon));
  const late = {};
  const built = Object.fromEntries(await Promise.all(Object.entries(bundles).map(async ([name, { script: source, style, later }]) => {
    const words = await wordsOf(source);
    const parts = later === undefined ? { script: await hashed(name, "js", await script(source, "esm", words)) } : await split(source, later, words);
    if (later !== undefined) late[later.name] = { file: parts.later, limit: later.limit };
    return [name, { script: parts.script, style: await hashed(name, "css", await minified(style)) }];
  })));
  const loads = {};
  for (const [name, page] of Object.entries(pages)) {
    const parts = { ...shared, ...built[page.bundle] };
    keep(`${name}.html`, Buffer.from(html(name, page, parts)));
    const loaded = [`${name}.html`, ...Object.values(parts)];
    loads[name] = { brotli: loaded.reduce((sum, file) => sum + files[file].brotli, 0), requests: loaded.length, files: loaded };
  }
  writeFileSync(join(draft, "manifest.json"), `${JSON.stringify({ files, pages: loads }, null, 2)}\n`);
  rmSync(dist, { recursive: true, force: true });
  renameSync(draft, dist);
  for (const [name, load] of Object.entries(loads)) {
    console.log(`${name.padEnd(16)} ${(load.brotli / 1000).toFixed(1).padStart(5)} kB brotli of ${pages[name].limit / 1000}, ${load.requests} requests`);
    if (load.brotli > pages[name].limit) {
      console.error(`${name} weighs more than its budget of ${pages[name].limit} bytes`);
      process.exitCode = 1;
    }
  }
  for (const [name, { file, limit }] of Object.entries(late)) {
    const { brotli } = files[file];
    console.log(`${`+ ${name}`.padEnd(16)} ${(brotli / 1000).toFixed(1).padStart(5)} kB brotli of ${limit / 1000}, when it is asked for`);
    if (brotli > limit) {
      console.error(`${name} weighs more than its budget of ${limit} bytes`);
      process.exitCode = 1;
    }
  }
  console.log(`built in ${Math.round(performance.now() - started)} ms`);
} finally {
  rmSync(draft, { recursive: true, force: true });
}

function checkParity() {
  const holes = (text) => [...text.matchAll(/\{([a-z_]+)\}/g)].map((hole) => hole[1]).sort().join();
  const wrong = [...new Set([...keys, ...Object.keys(catalogues.de)])].filter((key) => catalogues.de[key] === undefined || catalogues.en[key] === undefined || holes(catalogues.de[key]) !== holes(catalogues.en[key]));
  if (wrong.length > 0) throw new Error(`shared/text: de.json and en.json differ at ${wrong.join(", ")}`);
}

function script(entry, format, words) {
  return bundle({ entryPoints: [join(here, entry)], format, plugins: [catalogueOf(words)] });
}

/**
 * A page and the part of it that comes later. That part imports the page's own modules, so esbuild puts all of them into one
 * file that both share; the page loads this file and never the empty entry beside it.
 */
async function split(entry, later, words) {
  const laterWords = (await wordsOf(later.script)).filter((key) => !words.includes(key));
  const result = await compiled({
    entryPoints: [join(here, entry)], format: "esm", splitting: true, chunkNames: "a/[name]-[hash]", entryNames: "a/[name]-[hash]",
    plugins: [catalogueOf(words), laterOf(laterWords, (await minified(later.style)).toString())], metafile: true,
  });
  const outputs = Object.entries(result.metafile.outputs).map(([path, about]) => ({ ...about, path: path.slice(path.indexOf("a/")) }));
  const shared = outputs.find(({ inputs }) => Object.keys(inputs).some((path) => path.endsWith(entry)));
  const own = outputs.find(({ inputs }) => Object.keys(inputs).some((path) => path.endsWith(later.script)));
  if (shared === undefined || own === undefined || shared === own || outputs.length > 3) throw new Error(`${entry} and ${later.script} did not come apart: ${outputs.map(({ path }) => path)}`);
  for (const { path } of [shared, own]) keep(path, Buffer.from(result.outputFiles.find((file) => file.path.endsWith(path.slice(2))).contents));
  return { script: shared.path, later: own.path };
}

async function minified(entry) {
  return bundle({ entryPoints: [join(here, entry)] });
}

async function bundle(options) {
  return Buffer.from((await compiled(options)).outputFiles[0].contents);
}

function compiled(options) {
  return build({
    bundle: true, minify: true, write: false, target: ["es2022", "chrome123", "firefox120", "safari17.5"], charset: "utf8",
    jsx: "automatic", jsxImportSource: "preact", legalComments: "none", logLevel: "warning", outdir: dist, ...options,
  });
}

/** A page carries only the words its script names: as a literal, or as a family such as `state.` before a `${`. */
async function wordsOf(entry) {
  const unworded = (await bundle({ entryPoints: [join(here, entry)], format: "esm", minify: false, plugins: [apart, catalogueOf([]), laterOf([], "")] })).toString();
  const literals = new Set([...unworded.matchAll(/["`]([a-z][a-z_]*(?:\.[a-z_]+)+)["`]/g)].map((found) => found[1]));
  const families = [...unworded.matchAll(/["`]((?:[a-z_]+\.)+)(?:["`]|\$\{)/g)].map((found) => found[1]);
  const shown = (key) => !consoleOnly.test(key) && !(entry.includes("tenant") && operatorOnly.test(key)) && !(entry === bundles.tenant.script && laterOnly.test(key));
  return keys.filter(shown).filter((key) => literals.has(key) || literals.has(key.replace(/\.(?:one|other)$/, "")) || families.some((family) => key.startsWith(family)));
}

function catalogueOf(words) {
  return {
    name: "catalogue",
    setup(build) {
      build.onLoad({ filter: /[\\/]text[\\/](?:de|en)\.json$/ }, ({ path }) => ({ loader: "json", contents: JSON.stringify(chosen(words, path.endsWith("de.json") ? "de" : "en")) }));
    },
  };
}

/** Words and style of what is fetched later, behind names of their own. */
function laterOf(words, style) {
  return {
    name: "later",
    setup(build) {
      build.onResolve({ filter: /^(?:words|style):later$/ }, ({ path }) => ({ path, namespace: "later" }));
      build.onLoad({ filter: /^words/, namespace: "later" }, () => ({ loader: "json", contents: JSON.stringify({ de: chosen(words, "de"), en: chosen(words, "en") }) }));
      build.onLoad({ filter: /^style/, namespace: "later" }, () => ({ loader: "text", contents: style }));
    },
  };
}

function chosen(words, lang) {
  return Object.fromEntries(words.map((key) => [key, catalogues[lang][key]]));
}

async function hashed(name, ending, contents) {
  const hash = createHash("sha256").update(contents).digest("hex").slice(0, 10);
  const path = `a/${name}-${hash}.${ending}`;
  keep(path, contents);
  return path;
}

function keep(path, contents) {
  const packed = brotliCompressSync(contents, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: contents.length } });
  writeFileSync(join(draft, path), contents);
  writeFileSync(join(draft, `${path}.br`), packed);
  files[path] = { bytes: contents.length, brotli: packed.length };
}

function icon() {
  return Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0d4f57"/><path d="M6 27V15.5a10 10 0 0 1 20 0V27h-5.4V16a4.6 4.6 0 0 0-9.2 0v11z" fill="#fff"/><path d="M14.4 4.6h3.2l-.5 4.8h-2.2z" fill="#f0b35a"/></svg>\n`);
}

function webManifest(iconPath) {
  return Buffer.from(`${JSON.stringify({
    name: catalogues.en["app.name"], short_name: catalogues.en["app.name"], start_url: "/", scope: "/", display: "standalone",
    background_color: "#faf9f7", theme_color: "#0d4f57", icons: [{ src: `/${iconPath}`, sizes: "any", type: "image/svg+xml", purpose: "any" }],
  })}\n`);
}

function html(name, page, parts) {
  return `<!doctype html>
<html lang="de" data-page="${name}" data-theme="auto">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover, interactive-widget=resizes-content">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" content="#faf9f7" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#121617" media="(prefers-color-scheme: dark)">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<title>${catalogues.de[page.title]}</title>
<link rel="icon" type="image/svg+xml" href="/${parts.icon}">
<link rel="manifest" href="/${parts.manifest}">
<link rel="stylesheet" href="/${parts.style}">
<script src="/${parts.early}"></script>
<script type="module" src="/${parts.script}"></script>
</head>
<body>
<div id="page"></div>
<noscript><p lang="de">${catalogues.de["app.noscript"]}</p><p lang="en">${catalogues.en["app.noscript"]}</p></noscript>
</body>
</html>
`;
}
