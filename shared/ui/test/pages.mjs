// The browser suite: drives Debian's Chromium over the built pages. First every page in both languages, both themes and
// both widths (axe, console, policy violations, sideways scroll, a screenshot), then the flows as stories. Ends with
// "N passed, N failed". GATEHOUSE_SHOTS names a folder for the screenshots; GATEHOUSE_ONLY a part of a test's name.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { looks } from "./looks.mjs";
import { flows } from "./flows.mjs";

const executablePath = process.env.GATEHOUSE_CHROMIUM ?? "/usr/bin/chromium";
if (!existsSync(executablePath)) {
  console.error(`no Chromium at ${executablePath}; install it (apt-get install -y chromium)`);
  process.exit(2);
}
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const shots = process.env.GATEHOUSE_SHOTS ?? mkdtempSync(join(tmpdir(), "gatehouse-shots-"));
mkdirSync(shots, { recursive: true });
const profile = mkdtempSync(join(tmpdir(), "gatehouse-chromium-"));
const lanes = 3; // on two cores: one of them is usually waiting for a timer
const patience_ms = 15_000;

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", `--crash-dumps-dir=${profile}`],
});

/** A fresh browser context with one page; what goes wrong in it is collected and checked at the end of each test. */
async function room({ lang = "de", theme = "light", width = 1280, height = 860, touch = false } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, locale: lang === "de" ? "de-DE" : "en-GB", colorScheme: theme, hasTouch: touch, isMobile: touch, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(patience_ms);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`page error: ${error.message}`));
  page.on("console", (message) => {
    // A refused log-in or a dropped line is part of a story; the browser reports those by itself.
    const expected = /Failed to load resource|WebSocket connection to/.test(message.text());
    if ((message.type() === "error" || message.type() === "warning") && !expected) wrong.push(`console: ${message.text()}`);
  });
  await page.exposeBinding("reportViolation", (_, words) => wrong.push(`policy: ${words}`));
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`)));
  return { page, context, wrong };
}

async function judge(page, name) {
  await page.evaluate(axe);
  const result = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  const complaints = result.violations.map((violation) => `axe ${violation.id}: ${violation.nodes.map((node) => `${node.target.join(" ")} (${node.any[0]?.message ?? node.all[0]?.message ?? node.none[0]?.message ?? ""})`).slice(0, 3).join("; ")}`);
  const [scroll, small] = await page.evaluate(() => {
    const targets = [...document.querySelectorAll("button, summary, input:not([type=radio]), textarea, select")].filter((element) => element.getClientRects().length > 0 && element.checkVisibility({ visibilityProperty: true }));
    const small = targets.filter((element) => { const box = element.getBoundingClientRect(); return box.width < 43.9 || box.height < 43.9; });
    return [document.documentElement.scrollWidth - document.documentElement.clientWidth, small.map((element) => `${element.className || element.tagName} ${element.getAttribute("aria-label") ?? element.textContent}`)];
  });
  if (scroll > 0) complaints.push(`scrolls sideways by ${scroll} px`);
  if (small.length > 0) complaints.push(`targets under 44 px: ${small.slice(0, 5).join(", ")}`);
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: name.startsWith("operator") });
  return complaints;
}

const only = process.env.GATEHOUSE_ONLY ?? "";
const waiting = [...looks({ room, judge }), ...flows({ room, judge, shots })].filter(([name]) => name.includes(only));
let passed = 0;
let failed = 0;
const started = performance.now();

await Promise.all(Array.from({ length: lanes }, async () => {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    const [name, test] = next;
    try {
      await test();
      passed += 1;
    } catch (error) {
      failed += 1;
      console.error(`FAILED ${name}\n  ${String(error.stack ?? error).split("\n").slice(0, 8).join("\n  ")}`);
    }
  }
}));
await browser.close();
rmSync(profile, { recursive: true, force: true });
console.log(`screenshots in ${shots}`);
console.log(`${Math.round((performance.now() - started) / 1_000)} s`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
