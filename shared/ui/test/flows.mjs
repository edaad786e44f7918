// Stories through the pages: what a person does, and what the other side of the wire then has.

import assert from "node:assert/strict";
import { approval, begun, code, fake, password, token } from "./fake.mjs";
import { burst, conversation, decisions, fleet, tenant } from "./scenes.mjs";

export function flows({ room }) {
  const story = (name, world, play, look = {}) => [name, async () => {
    const server = await fake(typeof world === "function" ? world() : world);
    const { page, context, wrong } = await room(look);
    try {
      await play({ page, context, server, origin: server.origin });
      assert.deepEqual(wrong, []);
    } finally {
      await context.close();
      server.close();
    }
  }];
  const say = async (page, words) => {
    await page.fill("#message", words);
    await page.press("#message", "Enter");
  };
  const idle = (page) => page.waitForSelector(".send:not(.stop)");
  /** Makes the browser a device of its person. */
  const setUp = async (page) => {
    if (await page.locator(".menu-button").isVisible()) await page.click(".menu-button");
    await page.click("#devices-button");
    await page.fill("#device-code", code);
    await page.click(".device-setup button[type=submit]");
    await page.waitForSelector(".device .badge");
  };
  const texts = (page, selector) => page.locator(selector).allTextContents();

  return [
    story("flow: the owner's first visit", { loggedIn: false }, async ({ page, server, origin }) => {
      await page.goto(`${origin}/first#${token}`);
      await page.waitForSelector("form");
      assert.equal(new URL(page.url()).hash, "", "the token stayed in the address bar");
      assert.equal(await page.evaluate(() => JSON.stringify([localStorage, sessionStorage])), "[{},{}]");
      await page.fill("#name", "Nutzerin");
      await page.fill("#password", "short");
      assert.match(await page.textContent("#password-hint"), /Es fehlen noch 5 Zeichen/);
      await page.click("button[type=submit]");
      assert.match(await page.textContent("[role=alert]"), /zu kurz/);
      await page.fill("#password", password);
      await page.fill("#again", "something else");
      await page.click("button[type=submit]");
      assert.match(await page.textContent("[role=alert]"), /verschieden/);
      assert.equal(server.posts.length, 0, "nothing is sent before it can be right");
      await page.fill("#again", password);
      await page.check("input[value=en]");
      assert.match(await page.textContent("h1"), /Welcome/);
      await page.click("button[type=submit]");
      await page.waitForSelector(".starters");
      const { device, ...body } = server.posts[0].body;
      assert.deepEqual({ ...server.posts[0], body }, { path: "/auth/first", body: { token, name: "Nutzerin", password, lang: "en" }, origin });
      assert.equal(server.posts.length, 1);
      assert.deepEqual([device.kind, device.public_key.length], ["key", 122], "the browser's own key comes along");
    }),

    story("flow: a spent first link says what to do", { loggedIn: false }, async ({ page, origin }) => {
      await page.goto(`${origin}/first#wrong`);
      await page.fill("#name", "Nutzerin");
      await page.fill("#password", password);
      await page.fill("#again", password);
      await page.click("button[type=submit]");
      await page.waitForSelector(".alert");
      assert.match(await page.textContent(".alert"), /verbraucht oder abgelaufen/);
    }),

    story("flow: log in, wrong and right", { loggedIn: false }, async ({ page, origin }) => {
      await page.goto(origin);
      await page.waitForURL("**/login");
      await page.fill("#name", "Nutzerin");
      await page.fill("#password", "wrong");
      await page.press("#password", "Enter");
      await page.waitForSelector(".alert");
      assert.match(await page.textContent("[role=alert]"), /passen nicht zusammen/);
      assert.equal(await page.evaluate(() => document.activeElement.id), "password");
      await page.fill("#password", password);
      await page.press("#password", "Enter");
      await page.waitForSelector(".starters");
    }),

    story("flow: language and theme are kept, and nothing else", {}, async ({ page, origin }) => {
      await page.goto(origin);
      await page.click("button[lang=en]");
      await page.waitForSelector("text=What would you like to do?");
      await page.click("[aria-label^=Appearance]");
      await page.reload();
      await page.waitForSelector("text=What would you like to do?");
      assert.deepEqual(await page.evaluate(() => ({ ...localStorage })), { "gatehouse.lang": "en", "gatehouse.theme": "light" });
      assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
    }),

    story("flow: a streamed answer", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.click(".starter >> nth=0");
      await page.waitForSelector(".send.stop");
      await page.waitForSelector(".answer .prose strong");
      await idle(page);
      assert.equal(await page.locator(".answer").count(), 1, "two finals make one answer");
      assert.equal(await page.locator(".code pre").textContent(), "uname -a");
      assert.equal(await page.getAttribute(".prose a", "rel"), "noopener noreferrer");
      assert.match((await texts(page, "[role=status]")).join(" "), /Alba hat geantwortet: Hallo!/);
      assert.equal(await page.locator(".log [aria-live], .log [role=log]").count(), 0, "the stream itself is not read aloud");
      await page.waitForSelector("text=13 Aufrufe");
      assert.equal(server.received.length, 1);
    }),

    story("flow: stop an answer", {}, async ({ page, server, origin }) => {
      server.pace_ms = 60;
      await page.goto(origin);
      await say(page, "long: please");
      await page.waitForSelector("text=word3");
      await page.click(".send.stop");
      await page.waitForSelector("text=Angehalten");
      await idle(page);
      assert.ok(!(await page.textContent(".answer")).includes("word59"));
    }),

    story("flow: the line drops in the middle of an answer", {}, async ({ page, server, origin }) => {
      server.pace_ms = 40;
      await page.goto(origin);
      await say(page, "long: please");
      await page.waitForSelector("text=word5");
      server.drop();
      await page.waitForSelector("text=word59");
      await idle(page);
      await page.waitForTimeout(600);
      assert.equal(await page.locator(".user").count(), 1);
      assert.equal(await page.locator(".answer").count(), 1);
      const words = (await page.textContent(".answer .prose")).match(/word\d+/g);
      assert.deepEqual(words, Array.from({ length: 60 }, (_, index) => `word${index}`));
      assert.equal(server.received.length, 1);
    }),

    story("flow: the line is gone while an answer ends", {}, async ({ page, server, origin }) => {
      server.pace_ms = 10;
      await page.goto(origin);
      await say(page, "long: please");
      await page.waitForSelector("text=word5");
      server.refuseSockets = true;
      server.drop();
      await page.waitForSelector(".banner >> text=Verbindung");
      assert.match(await page.textContent(".top .chip"), /Unbekannt/);
      await page.fill("#message", "a draft that must stay");
      assert.equal(server.busy, null, "the answer ended meanwhile");
      server.refuseSockets = false;
      await page.click(".banner button");
      await page.waitForSelector("text=word59");
      await idle(page);
      assert.equal(await page.locator(".answer").count(), 1);
      await page.reload();
      await page.waitForSelector("text=word59");
      assert.equal(await page.inputValue("#message"), "a draft that must stay");
      assert.equal(await page.locator(".user").count(), 1);
    }),

    story("flow: messages written without a line arrive once", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".starters");
      server.loseAcks = 1; // taken in, but the acknowledgement is lost with the connection
      await say(page, "first");
      await page.waitForFunction(() => document.querySelectorAll(".answer .under").length === 1);
      server.refuseSockets = true;
      server.drop();
      await page.waitForSelector(".banner");
      await say(page, "second");
      await page.waitForSelector("text=Wird gesendet");
      await page.reload(); // the outbox survives it
      server.refuseSockets = false;
      await page.waitForFunction(() => document.querySelectorAll(".answer .under").length === 2);
      assert.deepEqual(await texts(page, ".bubble"), ["first", "second"]);
      assert.deepEqual([...new Set(server.received.map((one) => one.message))], ["first", "second"]);
      assert.equal(server.history.filter((message) => message.role === "user").length, 2);
    }),

    story("flow: approve a command", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.click(".starter >> nth=2");
      await page.waitForSelector(".verdict");
      assert.match((await texts(page, ".unseen[role=alert]")).join(), /Freigabe nötig: Führt einen Befehl/);
      await page.waitForSelector("text=Wartet auf Freigabe");
      assert.match(await page.title(), /^\(1\)/);
      assert.notEqual(await page.evaluate(() => document.activeElement.textContent), "Erlauben", "no yes has the focus");
      assert.deepEqual(await texts(page, ".verdict button"), ["Ablehnen", "Erlauben"]);
      const [deny, allow] = await page.$$eval(".verdict button", (buttons) => buttons.map((button) => button.getBoundingClientRect().width));
      assert.equal(deny, allow);
      await page.click(".verdict button >> nth=1");
      await page.waitForSelector("text=Der Befehl lief");
      assert.deepEqual(server.decisions.map(({ decision }) => decision), ["approve"]);
      await page.waitForSelector(".tool-done");
      await page.waitForSelector(".outcome >> text=Erlaubt und ausgeführt");
    }),

    story("flow: while a call is held, nothing is sent, in no tab", {}, async ({ page, context, server, origin }) => {
      await page.goto(origin);
      await page.click(".starter >> nth=2");
      await page.waitForSelector(".verdict");
      const other = await context.newPage();
      await other.goto(origin);
      for (const one of [page, other]) {
        await one.waitForSelector(".send.stop");
        await one.waitForSelector(".note >> text=Erst über die Freigabe entscheiden");
        await say(one, "and another thing");
        assert.equal(await one.inputValue("#message"), "and another thing");
        assert.equal(await one.locator(".user").count(), 1);
      }
      assert.equal(server.received.length, 1);
      await other.click(".verdict button >> nth=1");
      for (const one of [page, other]) {
        await one.waitForSelector("text=Der Befehl lief");
        await idle(one);
        assert.match((await texts(one, ".tool-state")).join(), /^Fertig[^,]*$/);
      }
      await page.press("#message", "Enter");
      await page.waitForFunction(() => document.querySelectorAll(".user").length === 2);
    }),

    story("flow: a fresh page stops a call that another one asked for", {}, async ({ page, context, server, origin }) => {
      const first = await context.newPage();
      await first.goto(origin);
      await first.click(".starter >> nth=2");
      await first.waitForSelector(".verdict");
      await page.goto(origin);
      await page.click(".send.stop");
      await idle(page);
      await idle(first);
      assert.ok(server.aborted);
    }),

    story("flow: a message that the agent did not take stays, and says why", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".starters");
      server.unwilling = "approval_waiting";
      await say(page, "hello");
      await page.waitForSelector(".user .failed >> text=Entscheiden Sie erst darüber");
      server.unwilling = null;
      await page.click("text=Erneut versuchen");
      await page.waitForSelector(".answer .under");
      assert.equal(await page.locator(".user").count(), 1);
    }),

    story("flow: the same command denied, then allowed", {}, async ({ page, origin }) => {
      await page.goto(origin);
      await page.click(".starter >> nth=2");
      await page.click(".verdict button >> nth=0");
      await page.waitForSelector(".tool-refused");
      await idle(page);
      await say(page, "Führe den Befehl aus: find . -name '*.tmp' -delete");
      await page.click(".verdict button >> nth=1");
      await page.waitForSelector(".tool-done");
      await idle(page);
      const outcomes = async () => (await texts(page, ".log .tool-state, .log .outcome strong")).map((words) => words.replace(/ · \d+ s$/, ""));
      const expected = ["Verweigert", "Abgelehnt", "Fertig", "Erlaubt und ausgeführt"];
      assert.deepEqual(await outcomes(), expected);
      await page.reload();
      await page.waitForFunction(() => document.querySelectorAll(".outcome").length === 2);
      assert.deepEqual(await outcomes(), expected);
    }),

    story("flow: a late yes runs in every tab, and is no bubble", decisions, async ({ page, context, server, origin }) => {
      const other = await context.newPage();
      for (const one of [page, other]) {
        await one.goto(origin);
        await one.waitForSelector(".outcome >> text=Erlaubt, wird beim nächsten Versuch ausgeführt");
        assert.equal(await one.locator(".note-turn").count(), 2);
        assert.equal(await one.locator(".bubble").count(), 3);
      }
      void server.nudge(server.approvals[0].id);
      for (const one of [page, other]) {
        await one.waitForSelector(".tool-running");
        await one.waitForSelector(".send.stop");
        await one.waitForFunction(() => document.querySelectorAll(".note-turn").length === 3);
      }
      server.goOn();
      for (const one of [page, other]) {
        await one.waitForSelector("text=Es hat nicht geklappt.");
        await idle(one);
        assert.equal(await one.locator(".outcome >> text=Erlaubt, aber fehlgeschlagen").count(), 2);
        assert.equal(await one.locator(".bubble").count(), 3);
      }
    }),

    story("flow: the agent's own reason, in the page's language", {}, async ({ page, origin }) => {
      await page.goto(origin);
      await say(page, "frozen: please");
      await page.waitForSelector(".answer .failed >> text=Dieses Gespräch ist eingefroren");
      assert.equal(await page.locator(".answer .failed details").count(), 0);
    }),

    story("flow: the page never grows beyond the window", () => ({ ...decisions(), approvals: [...conversation().approvals, ...decisions().approvals, ...conversation().approvals] }), async ({ page, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".approval");
      await page.click("#inbox-button");
      for (const [width, height] of [[1280, 500], [1280, 860], [320, 640]]) {
        await page.setViewportSize({ width, height });
        assert.equal(await page.evaluate(() => document.documentElement.scrollHeight <= innerHeight), true, `${width} × ${height}`);
      }
    }),

    story("flow: too many attempts say how many minutes are left", { loggedIn: false }, async ({ page, server, origin }) => {
      await page.goto(`${origin}/login`);
      server.limited_secs = 900;
      await page.fill("#name", "Nutzerin");
      await page.fill("#password", "wrong");
      await page.press("#password", "Enter");
      await page.waitForSelector(".alert >> text=Noch 15 Minuten");
    }),

    story("flow: deny a command in the panel", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.click(".starter >> nth=2");
      await page.waitForSelector(".inbox-button .count");
      await page.click("#inbox-button");
      await page.click(".inbox .verdict button >> nth=0");
      await page.waitForSelector(".inbox >> text=Nichts wartet auf Sie");
      await page.waitForSelector(".tool-refused");
      assert.deepEqual(server.decisions.map(({ decision }) => decision), ["deny"]);
      await page.keyboard.press("Escape");
      assert.equal(await page.evaluate(() => document.activeElement.id), "inbox-button");
    }),

    story("flow: a level is lowered at once and raised by number and password", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".starters");
      await setUp(page);
      await page.click("#levels-button");
      await page.click(".level input >> nth=0");
      await page.waitForSelector("text=Alba fragt künftig vor jeder Änderung.");
      assert.equal(server.standing.level, "L2", "choosing is not changing");
      await page.click("text=So lassen");
      assert.equal(await page.isChecked(".level input >> nth=1"), true, "left as it was");
      await page.click(".level input >> nth=0");
      await page.click(".change .allow");
      await page.waitForSelector(".level.now >> text=L1");
      await page.click(".level input >> nth=2");
      await page.waitForSelector("text=Das lockert viel");
      await page.click(".change .allow");
      await page.waitForSelector("#levels .approval-strong");
      assert.equal(server.standing.level, "L1", "asking is not allowing");
      await page.fill("#levels .approval-strong input[inputmode=numeric]", "47");
      await page.fill("#levels .approval-strong input[type=password]", password);
      await page.press("#levels .approval-strong input[type=password]", "Enter");
      await page.waitForSelector(".level.now >> text=L3");
      await page.click(".gate button >> nth=2");
      await page.click(".change .allow");
      await page.waitForFunction(() => document.querySelectorAll(".gate-state.open").length === 0);
    }),

    story("flow: a template is begun from the empty conversation and a step that stands still is left out", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.click("text=Mit einer Vorlage beginnen");
      await page.click(".template >> nth=0 >> button");
      await page.waitForSelector(".template-step.step-running");
      assert.equal(server.template.template, "freelancer");
      assert.equal(await page.locator(".template").count(), 0, "one at a time");
      server.template = begun("freelancer", "failed");
      server.tell("first_hour", {});
      await page.waitForSelector("text=die Datei ist nicht da");
      await page.click("text=Auslassen");
      await page.waitForSelector(".template-step.step-skipped");
      await page.click("text=Beenden");
      await page.waitForSelector("text=Beendet nach 1 von 4 Schritten");
      await page.waitForSelector(".template");
    }),

    story("flow: a member sees levels and changes none", { role: "member" }, async ({ page, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".starters");
      await page.click("#levels-button");
      await page.waitForSelector(".standing");
      assert.equal(await page.locator(".level input:not(:disabled)").count(), 0);
      assert.equal(await page.locator(".gate button").count(), 0);
    }),

    story("flow: what nobody asked for stops the assistant until its owner lets it go on", conversation, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".verdict");
      await setUp(page);
      await page.click(".log .approval-pending >> nth=1 >> text=Das war ich nicht");
      assert.equal(server.decisions.length, 0, "one press stops nothing");
      await page.click(".log .approval-pending >> nth=1 >> text=Ablehnen und Alba anhalten");
      await page.waitForSelector(".banner >> text=Alba ist angehalten");
      assert.equal(server.decisions[0].decision, "deny");
      await page.click(".banner >> text=Weitermachen lassen");
      await page.waitForSelector(".banner", { state: "detached" });
      assert.deepEqual(JSON.parse(server.posts.at(-1).body.statement).deed, { kind: "resume", assistant: server.assistants[0].id }, "signed");
    }),

    story("flow: many questions of one kind stand as one, each decided by itself", burst, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.click("#inbox-button");
      assert.equal(await page.locator(".inbox > section > .cards > li").count(), 2, "a group and another one");
      assert.match(await page.textContent(".inbox .group summary"), /10 gleichartige/);
      await page.click(".inbox .group summary");
      await page.click(".inbox .group .approval >> nth=0 >> text=Erlauben >> nth=0");
      await page.waitForSelector(".inbox .group summary >> text=9 gleichartige");
      assert.equal(server.decisions.length, 1, "one answer is for one question");
    }),

    story("flow: a browser that is no device can only deny what is dangerous", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await say(page, "red:rm -rf tmp");
      await page.waitForSelector(".verdict.alone");
      assert.match(await page.textContent(".log .approval"), /kann noch nicht unterschreiben/);
      await page.click(".log .approval-more .quiet");
      await page.fill(".approval-reason input", "  nicht heute ");
      await page.click(".log .verdict button");
      await page.waitForSelector(".tool-refused");
      assert.equal(server.approvals[0].denial, "nicht heute");
    }),

    story("flow: set up, list, hand out codes, remove", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.click("#devices-button");
      await page.fill("#device-code", "wrong");
      await page.click(".device-setup button[type=submit]");
      await page.waitForSelector(".devices .alert >> text=Dieser Code ist falsch");
      await page.keyboard.press("Escape");
      await setUp(page);
      const enrolled = server.posts.findLast(({ path }) => path === "/api/devices").body;
      assert.deepEqual([enrolled.ticket, enrolled.candidate.kind, enrolled.candidate.proof.kind], [{ kind: "code", code }, "key", "key"]);
      await page.click(".device-deeds >> text=Neue Wiederherstellungscodes");
      await page.waitForFunction(() => document.querySelectorAll(".code-list li").length === 8);
      await page.waitForSelector("text=Sie haben noch 8 Wiederherstellungscodes");
      const { statement } = server.posts.findLast(({ path }) => path === "/api/devices/statements").body;
      assert.deepEqual(Object.keys(JSON.parse(statement)), ["deed", "device", "expires_ms", "nonce", "person", "tenant"], "in its one spelling");
      await page.reload();
      await page.click("#devices-button");
      await page.waitForSelector(".device .badge", { timeout: 5_000 });
      assert.equal(await page.locator(".code-list").count(), 0, "codes are shown once");
      await page.click(".device button");
      await page.click(".device .confirm");
      await page.waitForSelector(".device-setup");
    }),

    story("flow: a reset is announced to everybody and can be cancelled", {}, async ({ page, origin }) => {
      await page.goto(origin);
      await page.click("#devices-button");
      await page.click(".device-setup summary");
      await page.click("text=Ankündigen");
      await page.waitForSelector(".banner >> text=ohne ein altes Gerät");
      await page.click(".banner button");
      await page.waitForSelector(".banner", { state: "detached" });
    }),

    story("flow: allowed for a day, and taken back", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.click(".starter >> nth=2");
      await page.click(".log .approval-more >> text=24 Stunden erlauben");
      await page.waitForSelector(".outcome >> text=Für einen Tag erlaubt");
      assert.deepEqual(server.decisions.map(({ decision }) => decision), ["approve_day"]);
      await page.click(".log .approval >> text=Zurücknehmen");
      await page.waitForSelector(".outcome.no >> text=Zurückgenommen");
    }),

    story("flow: red is held, or pressed and confirmed", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await setUp(page);
      await page.keyboard.press("Escape");
      await say(page, "red:rm -rf tmp");
      const yes = page.locator(".log .verdict button >> nth=1");
      await yes.focus();
      await page.keyboard.press("Enter");
      await page.waitForSelector(".confirm:focus");
      await page.waitForTimeout(600);
      assert.equal(server.decisions.length, 0, "the first press only asks");
      await page.keyboard.press("Enter");
      await page.waitForSelector(".tool-done");
      await idle(page);
      await say(page, "red:rm -rf other");
      await page.waitForFunction(() => document.querySelectorAll(".verdict").length === 1);
      await page.evaluate(async () => {
        document.querySelector(".log .hold").click();
        await new Promise((resolve) => setTimeout(resolve, 50));
        document.querySelector(".log .confirm").click();
      });
      await page.keyboard.press("Escape");
      await page.waitForSelector(".log .hold");
      assert.equal(server.decisions.length, 1, "a double press does not confirm");
      const box = await yes.boundingBox();
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
      await page.mouse.down();
      await page.waitForTimeout(300);
      assert.equal(server.decisions.length, 1, "not yet");
      await page.waitForTimeout(900);
      await page.mouse.up();
      await page.waitForFunction(() => document.querySelectorAll(".tool-done").length === 2);
      assert.deepEqual(server.decisions.map(({ decision }) => decision), ["approve", "approve"]);
    }),

    story("flow: critical red needs number and password beside the signature", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await setUp(page);
      await page.keyboard.press("Escape");
      await say(page, "critical:dd if=/dev/zero of=/dev/sda");
      await page.waitForSelector(".verdict");
      assert.deepEqual(await texts(page, ".verdict button"), ["Ablehnen"]);
      const form = ".log .approval-strong";
      await page.fill(`${form} input[inputmode=numeric]`, "11");
      await page.fill(`${form} input[type=password]`, password);
      await page.click(`${form} button[type=submit]`);
      await page.waitForSelector(".log .alert >> text=nicht die Zahl");
      assert.equal(await page.inputValue(`${form} input[type=password]`), "", "the password does not stay on the page");
      await page.fill(`${form} input[inputmode=numeric]`, await page.textContent(`${form} .approval-number`));
      await page.fill(`${form} input[type=password]`, password);
      await page.press(`${form} input[type=password]`, "Enter");
      await page.waitForSelector(".outcome.yes >> text=unterschrieben");
      assert.deepEqual(server.decisions.map(({ decision }) => decision), ["approve"]);
    }),

    story("flow: a member sees but does not decide", { role: "member" }, async ({ page, origin }) => {
      await page.goto(origin);
      await page.click(".starter >> nth=2");
      await page.waitForSelector(".approval");
      assert.equal(await page.locator(".verdict").count(), 0);
      assert.match(await page.textContent(".approval"), /Nur Eigentümer und Freigebende entscheiden/);
    }),

    story("flow: decided elsewhere, and changed in between", () => ({ approvals: [approval({ id: `apr_${"a".repeat(32)}` }), approval({ id: `apr_${"b".repeat(32)}` })] }), async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForFunction(() => document.querySelectorAll(".verdict").length === 2);
      server.settle(`apr_${"a".repeat(32)}`, "deny", "per_other");
      await page.waitForSelector("text=von einer anderen Person");
      server.approvals = server.approvals.map((one) => (one.state === "pending" ? { ...one, digest: "ee".repeat(32), details: [{ name: "command", value: "uname -r" }] } : one));
      await page.click(".verdict button >> nth=1");
      await page.waitForSelector("text=hat sich geändert");
      await page.waitForSelector(".approval pre >> text=uname -r");
      await page.click(".verdict button >> nth=1");
      await page.waitForFunction(() => document.querySelectorAll(".verdict").length === 0);
    }),

    story("flow: hidden characters are shown", () => ({ approvals: conversation().approvals }), async ({ page, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".exact mark");
      assert.equal(await page.textContent(".exact mark"), "⟦U+202E⟧");
    }),

    story("flow: while the gateway starts, messages wait", { gateway: { state: "starting", reason: null } }, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".banner >> text=startet");
      await say(page, "first");
      await page.waitForSelector("text=Wartet, bis der Assistent bereit ist");
      server.gateway = { state: "ready", reason: null };
      server.tell("gateway", server.gateway);
      await page.waitForSelector(".answer .under");
      assert.equal(server.received.length, 1);
    }),

    story("flow: a session that ends leads to the log-in", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".starters");
      server.loggedIn = false;
      for (const socket of server.sockets) socket.close(4401);
      await page.waitForURL("**/login");
    }),

    story("flow: a session that ended unseen leads to the log-in", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".starters");
      server.loggedIn = false;
      server.drop();
      await page.waitForURL("**/login");
    }),

    story("flow: log out", {}, async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".starters");
      await page.fill("#message", "mine");
      await page.click("text=Abmelden");
      await page.waitForURL("**/login");
      assert.equal(server.posts.at(-1).path, "/auth/logout");
      assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    }),

    story("flow: operator logs in once", { kind: "operator", loggedIn: false }, async ({ page, server, origin }) => {
      server.passwordUsed = true;
      await page.goto(origin);
      await page.fill("#password", password);
      await page.press("#password", "Enter");
      await page.waitForSelector(".alert");
      assert.match(await page.textContent(".alert"), /schon verbraucht/);
      server.passwordUsed = false;
      await page.fill("#password", password);
      await page.press("#password", "Enter");
      await page.waitForSelector(".empty");
    }),

    story("flow: the fleet is live", () => ({ kind: "operator", fleet: fleet() }), async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".tenant");
      assert.match((await texts(page, ".tenant h2"))[0], /ausgesprochen langen Namen/);
      const quiet = fleet().tenants.filter((one) => one.findings.length === 0 && one.presence === "online");
      server.show({ ...fleet(), tenants: [...quiet, tenant(9, { name: "Neu", findings: [{ code: "gateway_down", severity: "fail", since_ms: Date.now(), detail: null }] })] });
      await page.waitForSelector("text=Das Gateway antwortet nicht");
      assert.equal((await texts(page, ".tenant h2"))[0], "Neu");
      await page.fill("input[type=search]", "praxis");
      assert.deepEqual(await texts(page, ".tenant h2"), ["Praxis Nord"]);
      assert.equal(new URL(page.url()).search, "?q=praxis");
      await page.click(".waiting summary");
      assert.match(await page.textContent(".waiting"), /Kritisch Rot/);
      server.refuseStreams = true;
      server.dropStreams();
      await page.waitForSelector(".banner >> text=Keine Live-Verbindung");
      server.refuseStreams = false;
      await page.waitForSelector(".banner", { state: "detached" });
      server.show({ ...fleet(), tenants: [] });
      await page.waitForSelector(".empty");
    }),

    story("flow: an operator's session that ended leads to the log-in", () => ({ kind: "operator", fleet: fleet() }), async ({ page, server, origin }) => {
      await page.goto(origin);
      await page.waitForSelector(".tenant");
      server.loggedIn = false;
      server.refuseStreams = true;
      server.dropStreams();
      await page.waitForURL("**/login");
    }),
  ];
}
