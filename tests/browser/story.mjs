// One person's first hour in a real browser, against a real hub and agent: come in, chat, approve, see the usage arrive.
//
// Started by tests/it/browser.rs, which says where everything is in the environment. Ends with 0 when all of it was seen;
// screenshots stay in GATEHOUSE_SHOTS. It needs the packages of shared/ui and Debian's Chromium.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";

const { DASHBOARD, OPERATOR_PASSWORD, OWNER_LINK, GATEHOUSE_SHOTS: shots } = process.env;
const require = createRequire(new URL("../../shared/ui/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const WAIT_MS = 60_000;

mkdirSync(shots, { recursive: true });
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
const wrong = [];

async function room(lang, width) {
  const context = await browser.newContext({ locale: lang === "de" ? "de-DE" : "en-GB", viewport: { width, height: 800 } });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  page.on("pageerror", (error) => wrong.push(`page error: ${error.message}`));
  page.on("console", (message) => {
    // ES256 is all that is taken, and Chromium would rather have RS256, too.
    if (message.text().includes("pub_key_cred_params")) return;
    if (message.type() === "error" || message.type() === "warning") wrong.push(`console: ${message.text()}`);
  });
  await page.exposeBinding("reportViolation", (_, words) => wrong.push(`policy: ${words}`));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => reportViolation(`${event.violatedDirective} ${event.blockedURI}`));
  });
  return page;
}

const shot = (page, name) => page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
const idle = (page) => page.waitForSelector(".send:not(.stop)");

async function say(page, words) {
  await page.fill("#message", words);
  await page.press("#message", "Enter");
}

try {
  const dashboard = await room("en", 1280);
  await dashboard.goto(DASHBOARD);
  await dashboard.waitForURL("**/login");
  await dashboard.fill("#password", OPERATOR_PASSWORD);
  await dashboard.press("#password", "Enter");
  await dashboard.waitForSelector(".tenant");
  await dashboard.waitForSelector(".tenant .presence-online");
  await shot(dashboard, "1-dashboard");

  const chat = await room("de", 1280);
  await chat.goto(OWNER_LINK);
  await chat.fill("#name", "Besitzerin");
  await chat.fill("#password", "ein langes Passwort");
  await chat.fill("#again", "ein langes Passwort");
  await shot(chat, "2-first");
  await chat.click("button[type=submit]");
  await chat.waitForSelector(".starters");
  await shot(chat, "3-empty");

  await chat.click(".starter >> nth=0");
  await chat.waitForSelector(".answer .prose");
  await idle(chat);
  await shot(chat, "4-hello");

  await say(chat, "Führe den Befehl aus: find . -name '*.tmp' -delete");
  await chat.waitForSelector(".log .approval .hold");
  const card = await chat.textContent(".log .approval");
  assert.match(card, /möchte alles löschen, was eine Suche findet/, "the sentence is the rule's");
  assert.ok(card.includes("find . -name '*.tmp' -delete"), "and the exact command");
  await dashboard.waitForSelector(".tenant .waiting");
  assert.ok(!(await dashboard.content()).includes(".tmp"), "the dashboard knows no content");
  await shot(chat, "5-approval");
  await shot(dashboard, "6-dashboard-waiting");

  // A dangerous call is held down, not clicked. It is held until the answer shows that it counted.
  await chat.hover(".log .hold");
  await chat.mouse.down();
  await chat.waitForSelector(".log .approval .outcome.yes");
  await chat.mouse.up();
  await idle(chat);
  await chat.waitForFunction(() => document.querySelectorAll(".answer").length >= 2);
  await shot(chat, "7-approved");

  // This browser came in as the owner's device, so its yes was signed. The most dangerous calls want more.
  assert.match(await chat.textContent(".log .approval .outcome"), /unterschrieben/);
  const authenticator = await chat.context().newCDPSession(chat);
  await authenticator.send("WebAuthn.enable");
  const options = { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true };
  const { authenticatorId } = await authenticator.send("WebAuthn.addVirtualAuthenticator", { options });
  await chat.click("#devices-button");
  await chat.waitForSelector(".device .badge");
  await chat.click(".device-deeds button >> nth=0");
  await chat.waitForFunction(() => document.querySelectorAll(".device").length === 2);
  await chat.click(".device-deeds button >> nth=2");
  await chat.waitForFunction(() => document.querySelectorAll(".code-list li").length === 8);
  await shot(chat, "8-devices");
  const recovery = await chat.textContent(".code-list li >> nth=0");
  await chat.keyboard.press("Escape");

  // What is allowed here runs: there is no such device anywhere.
  await say(chat, "Führe den Befehl aus: dd if=/dev/zero of=/dev/none/story || true");
  await chat.waitForSelector(".log .approval-strong .allow");
  await shot(chat, "9-critical");
  await authenticator.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: false });
  await chat.click(".log .approval-strong > .allow");
  await chat.waitForSelector(".log .approval .alert");
  await authenticator.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: true });
  await chat.click(".log .approval-strong > .allow");
  await chat.waitForFunction(() => document.querySelectorAll(".log .approval .outcome.yes").length === 2);
  await idle(chat);

  await say(chat, "Führe den Befehl aus: mkfs.ext4 /dev/none/story || true");
  await chat.waitForSelector(".log .approval-strong form");
  await chat.fill(".log .approval-strong input[inputmode=numeric]", await chat.textContent(".log .approval-number"));
  await chat.fill(".log .approval-strong input[type=password]", "ein langes Passwort");
  await chat.press(".log .approval-strong input[type=password]", "Enter");
  await chat.waitForFunction(() => document.querySelectorAll(".log .approval .outcome.yes").length === 3);
  await idle(chat);
  await shot(chat, "10-signed");

  await dashboard.waitForSelector(".tenant >> text=/[1-9][0-9]* calls/");
  await dashboard.waitForSelector(".tenant .waiting", { state: "detached" });
  await shot(dashboard, "11-dashboard-usage");

  // More is asked for and signed, less holds at once.
  await chat.click("#levels-button");
  await chat.click("#levels .level input >> nth=2");
  await chat.waitForSelector("#levels .change .allow:not([aria-disabled=true])");
  await shot(chat, "12-levels");
  await chat.click("#levels .change .allow");
  await chat.click("#levels .approval-strong > .allow");
  await chat.waitForSelector("#levels .level.now >> text=L3");
  await chat.click("#levels .level input >> nth=1");
  await chat.click("#levels .change .allow:not([aria-disabled=true])");
  await chat.waitForSelector("#levels .level.now >> text=L2");

  // A template writes its files and tells its task; nobody here can do that one.
  await chat.click("#templates-button");
  await chat.click(".template >> nth=3 >> button");
  await chat.waitForFunction(() => document.querySelectorAll(".template-step.step-done").length === 3);
  await chat.waitForSelector(".template-step.step-failed");
  await shot(chat, "13-template");
  await chat.click(".step-failed >> text=Auslassen");
  await chat.waitForSelector("text=Alle Schritte sind erledigt.");
  await chat.keyboard.press("Escape");

  const phone = await room("de", 320);
  await phone.context().addCookies(await chat.context().cookies());
  await phone.goto(new URL(OWNER_LINK).origin);
  await phone.waitForSelector(".answer .prose");
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is wider than a small phone");
  await shot(phone, "14-phone");

  // Another browser of hers is logged in and still no device, until a recovery code lets it in.
  await phone.click(".menu-button");
  await phone.click("#devices-button");
  await phone.fill("#device-code", recovery);
  await phone.click(".device-setup button[type=submit]");
  await phone.waitForSelector(".device .badge");
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nor are the devices");
  await shot(phone, "15-phone-devices");

  assert.deepEqual(wrong, []);
} finally {
  await browser.close();
}
