// Lets node --test read the TypeScript sources as they are: each file goes through esbuild as it is imported.

import { readFileSync } from "node:fs";
import { register } from "node:module";
import { isMainThread } from "node:worker_threads";
import { transformSync } from "esbuild";

if (isMainThread) register(import.meta.url);

export async function load(url, context, next) {
  if (url.endsWith(".json") && url.startsWith("file:")) {
    return { format: "module", shortCircuit: true, source: `export default ${readFileSync(new URL(url), "utf8")}` };
  }
  const kind = /\.(tsx?)$/.exec(url)?.[1];
  if (kind === undefined) return next(url, context);
  const { code } = transformSync(readFileSync(new URL(url), "utf8"), { loader: kind, jsx: "automatic", jsxImportSource: "preact", target: "es2022" });
  return { format: "module", shortCircuit: true, source: code };
}
