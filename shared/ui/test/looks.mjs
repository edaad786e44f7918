// Every page and every notable state of it, in both languages, both themes and at both widths.

import assert from "node:assert/strict";
import { approval, begun, code, fake } from "./fake.mjs";
import { burst, conversation, decisions, fleet } from "./scenes.mjs";

const scenes = {
  login: { path: "/login", world: { loggedIn: false }, ready: "form" },
  first: { path: "/first#some-token", world: { loggedIn: false }, ready: "form" },
  "first-no-token": { path: "/first", world: { loggedIn: false }, ready: "h1" },
  "operator-login": { path: "/login", world: { kind: "operator", loggedIn: false }, ready: "form" },
  "tenant-empty": { path: "/", world: {}, ready: ".starters" },
  "tenant-full": { path: "/", world: conversation, ready: ".verdict" },
  "tenant-inbox": { path: "/", world: conversation, ready: ".verdict", act: (page) => page.click("#inbox-button") },
  "tenant-devices": { path: "/", world: { resets: [{ person: "per_0000000000000000000000000000000a", asked_ms: 0, ripe_ms: 4_000_000_000_000 }] }, ready: ".starters", act: devices },
  "tenant-templates": { path: "/", world: {}, ready: ".starters", act: templates },
  "tenant-template": { path: "/", world: () => ({ run: begun("freelancer", "failed", "done", "running"), approvals: [approval({ tool: "write", session: "agent:main:first-hour", rule: "file.write", sentence: { de: "Der Assistent möchte eine Datei in seinem Bereich schreiben.", en: "The assistant wants to write a file in its own area." }, details: [{ name: "path", value: "Kunden/LIESMICH.md" }] })] }), ready: ".approval", act: templates },
  "tenant-levels": { path: "/", world: { standing: { choices: [{ change: { kind: "level", to: "L2" }, set_ms: 1_795_000_000_000, set_by: "console" }] } }, ready: ".starters", act: levels },
  "tenant-levels-change": { path: "/", world: {}, ready: ".starters", act: (page) => levels(page).then(() => raise(page)).then(() => page.waitForSelector(".change .hint")) },
  "tenant-levels-asked": { path: "/", world: {}, ready: ".starters", act: raised },
  "tenant-levels-bound": { path: "/", world: { role: "approver", standing: { level_most: "L2", gates: [{ tool: "message", open: true, company: false, held: false }, { tool: "exec", open: false, company: false, held: true }] } }, ready: ".starters", act: levels },
  "tenant-paused": { path: "/", world: () => ({ ...conversation(), busy: null, paused: [{ assistant: "ast_0000000000000000000000000000000b", since_ms: Date.now() - 600_000, by: "per_0000000000000000000000000000000a" }] }), ready: ".banner", act: levels },
  "tenant-burst": { path: "/", world: burst, ready: ".approval", act: (page) => page.click("#inbox-button").then(() => page.click(".inbox .group > summary")) },
  "tenant-critical": { path: "/", world: conversation, ready: ".verdict", act: critical },
  "tenant-read": { path: "/", world: conversation, ready: ".verdict", act: readFromTop },
  "tenant-menu": { path: "/", world: conversation, ready: ".verdict", act: (page) => page.locator(".menu-button:visible").click({ timeout: 500 }).catch(() => {}) },
  "tenant-trouble": { path: "/", world: {}, ready: ".starters", act: trouble },
  "tenant-decided": { path: "/", world: decisions, ready: ".outcome" },
  "tenant-decided-before": { path: "/", world: decisions, ready: ".outcome", act: (page) => page.click(".note-turn summary >> nth=0").then(() => page.evaluate(() => document.querySelector(".code").scrollIntoView())) },
  "tenant-silent": { path: "/", world: {}, ready: ".starters", act: silent },
  "tenant-changed": { path: "/", world: { gateway: { state: "ungated", reason: "plugin_changed" } }, ready: ".banner" },
  "tenant-ungated": { path: "/", world: { gateway: { state: "ungated", reason: "plugin_not_loaded" } }, ready: ".banner" },
  operator: { path: "/", world: () => ({ kind: "operator", fleet: fleet() }), ready: ".tenant", act: async (page) => { for (const summary of await page.locator(".waiting summary, .questions summary").all()) await summary.click(); } },
  "operator-empty": { path: "/", world: { kind: "operator" }, ready: ".empty" },
};

const pages = new Set(["login", "first", "operator-login", "tenant-empty", "tenant-full", "operator"]);

async function devices(page) {
  if (await page.locator(".menu-button").isVisible()) await page.click(".menu-button");
  await page.click("#devices-button");
  await page.fill("#device-code", code);
  await page.click(".device-setup button[type=submit]");
  await page.click(".device-deeds button >> nth=-1");
  await page.waitForSelector(".code-list");
}

async function templates(page) {
  if (await page.locator(".menu-button").isVisible()) await page.click(".menu-button");
  await page.click("#templates-button");
  await page.waitForSelector(".template, .template-step");
}

async function levels(page) {
  if (await page.locator(".menu-button").isVisible()) await page.click(".menu-button");
  await page.click("#levels-button");
  await page.waitForSelector(".standing .gate");
}

async function raise(page) {
  await page.click(".level input[type=radio] >> nth=2");
  await page.waitForSelector(".change .allow:not([aria-disabled=true])");
}

async function raised(page) {
  await devices(page);
  await page.keyboard.press("Escape");
  await levels(page);
  await raise(page);
  await page.click(".change .allow");
  await page.waitForSelector("#levels .approval-strong");
}

async function critical(page) {
  await devices(page);
  await page.keyboard.press("Escape");
  await page.click("#inbox-button");
  await page.waitForSelector(".inbox .approval-strong");
  await page.locator(".inbox .approval-strong").scrollIntoViewIfNeeded();
}

async function readFromTop(page) {
  await page.click(".tool-head >> nth=0");
  await page.evaluate(() => document.querySelector(".log").scrollTo(0, 0));
}

async function silent(page) {
  await page.clock.install();
  await page.fill("#message", "silent: please");
  await page.click(".send");
  await page.waitForSelector(".working");
  await page.clock.fastForward(21_000);
  await page.waitForSelector(".working small");
}

async function trouble(page, server) {
  server.pace_ms = 60;
  await page.fill("#message", "fail: please");
  await page.click(".send");
  await page.waitForSelector(".answer .failed");
  server.unwilling = "body_too_large";
  await page.fill("#message", "Diese Nachricht kommt nicht an.");
  await page.click(".send");
  await page.waitForSelector(".user .failed");
  server.unwilling = null;
  await page.fill("#message", "long: please");
  await page.click(".send");
  await page.waitForSelector("text=word9");
  server.refuseSockets = true;
  server.drop();
  await page.waitForSelector(".banner");
}

export function looks({ room, judge }) {
  const tests = [];
  for (const [scene, { path, world, ready, act }] of Object.entries(scenes))
    for (const lang of ["de", "en"])
      for (const theme of ["light", "dark"])
        for (const width of [320, 1280]) {
          // Every page in all eight ways; a further state of one in four of them, which still meet each pair once.
          if (!pages.has(scene) && (lang === "de") !== ((theme === "light") === (width === 320))) continue;
          const name = `${scene}-${lang}-${theme}-${width}`;
          tests.push([name, async () => {
            const server = await fake(typeof world === "function" ? world() : world);
            const { page, context, wrong } = await room({ lang, theme, width, height: width === 320 ? 640 : 860, touch: width === 320 });
            try {
              await page.goto(server.origin + path);
              await page.waitForSelector(ready);
              await act?.(page, server);
              assert.equal(await page.evaluate(() => document.documentElement.lang), lang);
              assert.deepEqual([...(await judge(page, name)), ...wrong], []);
            } finally {
              await context.close();
              server.close();
            }
          }]);
        }
  return tests;
}
