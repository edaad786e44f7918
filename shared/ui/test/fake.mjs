// A fake of both services for the browser suite: serves dist/ with the real policy headers and plays the contracts of
// docs/WIRE.md, sections 1 to 3. Stories reach into it: drop the line, stream slowly, decide elsewhere, change the fleet.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";

const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const text = Object.fromEntries(["de", "en"].map((lang) => [lang, JSON.parse(readFileSync(new URL(`../../text/${lang}.json`, import.meta.url), "utf8"))]));

export const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const types = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json" };

export const password = "correct horse battery";
export const token = "f1rst-t0ken-of-the-owner";
export const code = ["AAAAA", "BBBBB", "CCCCC", "DDDDD", "EEEEE"].join("-");

/** `kind` is "tenant" or "operator"; `role` is the person's. */
export async function fake({ kind = "tenant", role = "owner", loggedIn = true, gateway = { state: "ready", reason: null }, approvals = [], history = [], busy = null, fleet = emptyFleet(), resets = [], paused = [], standing = {}, run = null } = {}) {
  const world = new World({ kind, role, loggedIn, gateway, approvals, history, busy, fleet, resets, paused, standing, template: run });
  await new Promise((resolve) => world.server.listen(0, "127.0.0.1", resolve));
  world.origin = `http://localhost:${world.server.address().port}`;
  return world;
}

export function emptyFleet() {
  return { revision: 1, now_ms: Date.now(), tenants: [] };
}

class World {
  constructor(start) {
    Object.assign(this, start);
    this.usage = { day_ms: Date.now() - (Date.now() % 86_400_000), calls: 12, partial: 1, estimated: 0, input_tokens: 31_200, cached_tokens: 18_000, cache_write_tokens: 0, cache_write_long_tokens: 0, output_tokens: 4_310, reasoning_tokens: 0, tool_requests: 0, cost_nano_usd: 109_650_000, unpriced: 0 };
    this.person = { id: "per_0000000000000000000000000000000a", name: "Nutzerin", role: this.role, lang: "de" };
    this.assistants = [{ id: "ast_0000000000000000000000000000000b", name: "Alba" }];
    const gate = (tool, given = {}) => ({ tool, open: false, company: false, held: false, ...given });
    this.standing = {
      ...this.assistants[0], level: "L2", level_company: "L2", level_most: "L3", ask_red: false, always_asks_red: false, choices: [], may_lower: this.role !== "member", may_raise: this.role === "owner",
      gates: [gate("message"), gate("exec"), gate("web_fetch", { open: true }), gate("sessions_spawn", { held: true })], ...this.standing,
    };
    this.sockets = new Set();
    this.streams = new Set();
    this.received = []; // every chat.send, repeated ones too
    this.decisions = [];
    this.devices = [];
    this.resets = this.resets ?? [];
    this.recovery_codes = 0;
    this.posts = [];
    this.firstSpent = false;
    this.passwordUsed = false;
    this.refuseSockets = false;
    this.refuseStreams = false;
    this.loseAcks = 0;
    this.pace_ms = 15;
    this.server = createServer((request, response) => void this.answer(request, response));
    const sockets = new WebSocketServer({ noServer: true, maxPayload: 256 * 1024 });
    this.server.on("upgrade", (request, socket, head) => {
      if (this.refuseSockets) return socket.destroy();
      if (!this.loggedIn || request.url !== "/ws") return socket.end("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
      sockets.handleUpgrade(request, socket, head, (open) => this.welcome(open));
    });
  }

  close() {
    for (const socket of this.sockets) socket.terminate();
    for (const stream of this.streams) stream.destroy();
    this.server.closeAllConnections();
    this.server.close();
  }

  // HTTP

  async answer(request, response) {
    response.setHeader("content-security-policy", policy);
    response.setHeader("x-content-type-options", "nosniff");
    const path = request.url.split("?")[0];
    if (request.method === "POST") return this.post(request, response, path);
    if (path === "/healthz") return json(response, 200, { ok: true });
    if (["/api/me", "/api/fleet", "/api/live", "/api/devices", "/api/levels", "/api/first-hour"].includes(path)) {
      if (!this.loggedIn) return refuse(request, response, 401, "session_missing");
      if (path === "/api/me") return json(response, 200, { tenant: `ten_${"1".repeat(32)}`, now_ms: Date.now(), person: this.person, assistants: this.assistants });
      if (path === "/api/first-hour") return json(response, 200, { templates, run: this.template });
      if (path === "/api/levels") return json(response, 200, { assistants: [this.standing] });
      if (path === "/api/devices") return json(response, 200, { now_ms: Date.now(), devices: this.devices, persons: [this.person], resets: this.resets, recovery_codes: this.recovery_codes });
      if (path === "/api/fleet") return json(response, 200, this.fleet);
      return this.stream(response);
    }
    const page = { "/": this.kind, "/login": this.kind === "operator" ? "operator-login" : "login", "/first": "first" }[path];
    if (path === "/" && !this.loggedIn) return response.writeHead(303, { location: "/login" }).end();
    try {
      const file = page !== undefined ? `${page}.html` : path.slice(1);
      if (page === undefined && !/^a\/[\w.-]+$/.test(file)) throw new Error("not an asset");
      response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream" }).end(readFileSync(join(dist, file)));
    } catch {
      refuse(request, response, 404, "not_found");
    }
  }

  async post(request, response, path) {
    let body = "";
    for await (const chunk of request) body += chunk;
    const given = body === "" ? {} : JSON.parse(body);
    this.posts.push({ path, body: given, origin: request.headers.origin });
    if (path === "/auth/logout") {
      this.loggedIn = false;
      return response.writeHead(204).end();
    }
    if (path.startsWith("/api/first-hour")) {
      this.template = path.endsWith("end") ? { ...this.template, ended_ms: Date.now() } : path.endsWith("step") ? this.wished(given) : begun(given.template);
      this.tell("first_hour", {});
      return response.writeHead(204).end();
    }
    if (path === "/api/levels/preview") return json(response, 200, { weighed: this.weighed(given.change), effect: { calls: 42, asks_before: 3, asks_after: given.change.kind === "gate" ? 1 : 9, not_whole: 2 } });
    if (path === "/api/levels") return json(response, 200, this.choose(given.change));
    if (path.startsWith("/api/pauses")) {
      this.stop(path.endsWith("end") ? [] : [{ assistant: given.assistant, since_ms: Date.now(), by: this.person.id }]);
      return response.writeHead(204).end();
    }
    if (path === "/api/devices") {
      if (given.ticket.kind === "code" && given.ticket.code !== code) return refuse(request, response, 403, "device_code_wrong");
      const id = `dev_${String(this.devices.length + 1).padStart(32, "0")}`;
      const { name, kind, credential } = given.candidate;
      this.devices = [...this.devices, { id, person: this.person.id, name, kind, credential, added_ms: Date.now(), added_by: given.ticket.kind }];
      return json(response, 200, { device: id });
    }
    if (path === "/api/devices/statements") return this.obey(JSON.parse(given.statement).deed, response);
    if (path.startsWith("/api/devices/reset")) {
      const ripe_ms = Date.now() + 72 * 3_600_000;
      this.resets = path.endsWith("cancel") ? [] : [{ person: this.person.id, asked_ms: Date.now(), ripe_ms }];
      this.tell("devices", {});
      return path.endsWith("cancel") ? response.writeHead(204).end() : json(response, 200, { reset: this.resets[0] });
    }
    if (path === "/approvals/decisions") {
      const { deed } = JSON.parse(given.signed.statement);
      const found = this.approvals.find(({ id }) => id === deed.approval);
      if (found.class === "critical_red" && given.password !== password) return refuse(request, response, 403, "password_wrong");
      if (found.class === "critical_red" && deed.number !== found.number) return refuse(request, response, 403, "approval_number_wrong");
      return json(response, 200, { approval: this.settle(deed.approval, deed.decision, this.person.id, { signed_by: this.devices[0].id }) });
    }
    if (path === "/auth/first") {
      if (this.firstSpent || given.token !== token) return refuse(request, response, 410, "first_link_spent");
      this.firstSpent = true;
    } else if (this.limited_secs !== undefined) {
      response.setHeader("retry-after", String(this.limited_secs));
      return refuse(request, response, 429, "login_limited");
    } else if (path !== "/auth/login" || given.password !== password || this.passwordUsed) {
      return refuse(request, response, 401, "login_wrong");
    }
    this.passwordUsed = this.kind === "operator";
    this.loggedIn = true;
    json(response, 200, { person: this.person, operator: { id: "opr" }, device: null });
  }

  wished({ n, wish }) {
    const steps = this.template.steps.map((step, at) => (at === n ? { ...step, state: wish === "skip" ? "skipped" : "running", why: null } : step));
    return { ...this.template, steps };
  }

  weighed(change) {
    if (change.kind === "level") return change.to <= this.standing.level ? "at_once" : change.to === "L3" ? "critical_red" : "red";
    return change.open === true || change.ask === false ? "critical_red" : "at_once";
  }

  choose(change) {
    if (this.weighed(change) === "at_once") {
      this.chosen(change);
      return { done: true };
    }
    const sentence = { de: "Der Assistent soll künftig auch Gefährliches tun dürfen, ohne vorher zu fragen (Stufe L3).", en: "The assistant is to do dangerous things, too, without asking first (level L3)." };
    const asked = approval({ tool: "levels", session: "", call_id: change.kind, class: this.weighed(change), rule: "levels.dangerous", sentence, details: [{ name: "assistant", value: "Alba" }, { name: "level", value: change.to ?? "" }, { name: "level now", value: this.standing.level }, { name: "wanted by", value: this.person.name }], change });
    this.approvals = [asked, ...this.approvals];
    this.tell("approval", asked);
    return { done: false, approval: asked };
  }

  chosen(change) {
    const { standing } = this;
    const made = { change, set_ms: Date.now(), set_by: this.person.id };
    const gates = standing.gates.map((gate) => (gate.tool === change.tool ? { ...gate, open: change.open } : gate));
    this.standing = { ...standing, gates, level: change.to ?? standing.level, ask_red: change.ask ?? standing.ask_red, choices: [...standing.choices.filter((choice) => choice.change.kind !== change.kind), made] };
    this.tell("levels", {});
  }

  stop(paused) {
    this.paused = paused;
    this.tell("paused", { paused });
  }

  obey(deed, response) {
    let codes = [];
    if (deed.kind === "remove_device") this.devices = this.devices.filter(({ id }) => id !== deed.device);
    if (deed.kind === "mint_code") codes = [code];
    if (deed.kind === "recovery_codes") {
      codes = Array.from({ length: 8 }, (_, n) => code.replace("A", n));
      this.recovery_codes = codes.length;
    }
    json(response, 200, { codes });
  }

  stream(response) {
    if (this.refuseStreams) return response.destroy();
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    this.streams.add(response);
    response.on("close", () => this.streams.delete(response));
    response.write(fleetEvent(this.fleet));
  }

  show(fleet) {
    this.fleet = { ...fleet, revision: this.fleet.revision + 1, now_ms: Date.now() };
    for (const stream of this.streams) stream.write(fleetEvent(this.fleet));
  }

  dropStreams() {
    for (const stream of this.streams) stream.destroy();
  }

  // The chat socket

  welcome(socket) {
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("message", (data) => void this.hear(socket, JSON.parse(data)));
    socket.send(frame("hello", { person: this.person, assistants: this.assistants, gateway: this.gateway, approvals: this.approvals, usage: this.usage, paused: this.paused }));
  }

  tell(event, payload) {
    for (const socket of this.sockets) socket.send(frame(event, payload));
  }

  drop() {
    for (const socket of this.sockets) socket.terminate();
  }

  async hear(socket, { id, method, params }) {
    const answer = (payload) => socket.readyState === 1 && socket.send(JSON.stringify({ type: "res", id, ok: true, payload }));
    const fail = (code) => socket.send(JSON.stringify({ type: "res", id, ok: false, error: { code, message: text.de[`error.${code}`] ?? code } }));
    if (method.startsWith("chat.") && this.gateway.state !== "ready") return fail("gateway_not_ready");
    if (method === "usage.today") return answer({ usage: this.usage });
    if (method === "approvals.list") return answer({ approvals: this.approvals });
    if (method === "approvals.disown") {
      this.stop([{ assistant: this.assistants[0].id, since_ms: Date.now(), by: this.person.id, approval: params.id }]);
      return answer({ approval: this.settle(params.id, "deny", this.person.id) });
    }
    if (method === "approvals.decide") return this.decide(params, answer, fail);
    if (method === "chat.history") return answer({ messages: this.history, sessionInfo: { status: this.busy ? "running" : "done", lastRunId: this.busy ?? undefined } });
    if (method === "chat.abort") {
      this.aborted = true;
      this.onDecision?.(this.holding, "deny");
      return answer({ aborted: true });
    }
    if (method !== "chat.send") return fail("method_unknown");
    if (this.paused.length > 0) return fail("assistant_paused");
    if (this.unwilling) return fail(this.unwilling);
    if (this.holding !== undefined) return fail("approval_waiting");
    const { message, idempotencyKey: runId } = params;
    const again = this.received.some((other) => other.runId === runId);
    this.received.push({ runId, message });
    if (this.loseAcks > 0) {
      this.loseAcks -= 1;
      if (!again) void this.run(runId, message);
      return socket.terminate();
    }
    answer({ runId, status: again ? "ok" : "started" });
    if (!again) void this.run(runId, message);
  }

  async run(runId, message) {
    this.busy = runId;
    this.aborted = false;
    const seq = () => (this.seq = (this.seq ?? 0) + 1);
    this.history.push({ role: "user", content: message, timestamp: Date.now(), idempotencyKey: `${runId}:user`, __openclaw: { id: `u-${runId}` } });
    this.tell("chat", { runId, sessionKey: "agent:main:main", seq: seq(), state: "status", phase: "starting_model" });
    if (message.startsWith("fail:")) {
      this.busy = null;
      return this.tell("chat", { runId, seq: seq(), state: "error", errorMessage: "503 gatehouse: provider_key_missing" });
    }
    if (message.startsWith("frozen:")) {
      this.busy = null;
      return this.tell("chat", { runId, seq: seq(), state: "error", errorCode: "session_frozen", errorMessage: text.en["error.session_frozen"] });
    }
    if (message.startsWith("silent:")) return;
    const script = scriptFor(message);
    if (script.tool !== undefined) await this.callTool(runId, script, seq);
    const words = script.text.split(/(?<= )/);
    let whole = "";
    for (const word of words) {
      if (this.aborted) {
        this.busy = null;
        return this.tell("chat", { runId, seq: seq(), state: "aborted", message: said(whole) });
      }
      whole += word;
      this.tell("chat", { runId, sessionKey: "agent:main:main", seq: seq(), state: "delta", deltaText: word, message: said(whole) });
      await pause(this.pace_ms);
    }
    this.history.push({ role: "assistant", content: [{ type: "text", text: whole }], timestamp: Date.now(), stopReason: "stop", __openclaw: { id: `a-${runId}`, runId } });
    this.busy = null;
    this.tell("chat", { runId, seq: seq(), state: "final" });
    this.tell("chat", { runId, seq: seq(), state: "final", message: said(whole) });
    this.usage = { ...this.usage, calls: this.usage.calls + 1 };
    this.tell("usage", this.usage);
  }

  async callTool(runId, { tool, args, approval: made, result }, seq) {
    const toolCallId = `call-${runId}`;
    this.history.push({ role: "assistant", content: [{ type: "toolCall", id: toolCallId, name: tool, arguments: args }], timestamp: Date.now(), stopReason: "toolUse", __openclaw: { id: `t-${runId}`, runId } });
    this.tell("agent", { runId, stream: "tool", data: { phase: "start", name: tool, toolCallId, args } });
    let allowed = true;
    if (made !== undefined) {
      const ask = approval({ ...made, tool, call_id: toolCallId, details: Object.entries(args).map(([name, value]) => ({ name, value })) });
      this.approvals = [ask, ...this.approvals];
      this.tell("approval", ask);
      this.holding = ask.id;
      allowed = await new Promise((resolve) => (this.onDecision = (id, decision) => id === ask.id && resolve(decision === "approve")));
      this.holding = undefined;
      if (allowed && this.approvals.find(({ id }) => id === ask.id).scope !== "day") this.change(ask.id, { state: "used" });
      await pause(this.pace_ms);
    } else {
      await pause(this.pace_ms * 4);
    }
    const outcome = allowed ? { content: [{ type: "text", text: result }], details: { status: "completed" } } : { content: [{ type: "text", text: "denied" }], details: { status: "blocked" } };
    this.history.push({ role: "toolResult", toolCallId, toolName: tool, ...outcome, isError: !allowed, timestamp: Date.now() });
    this.tell("agent", { runId, stream: "tool", data: { phase: "result", name: tool, toolCallId, isError: !allowed, result: outcome } });
    if (made !== undefined && allowed) this.change(this.approvals[0].id, { outcome: "ok" });
    seq();
  }

  decide({ id, digest, decision, reason }, answer, fail) {
    const found = this.approvals.find((approval) => approval.id === id);
    if (this.person.role === "member") return fail("forbidden");
    if (found === undefined) return fail("approval_unknown");
    if (decision === "cancel" && found.state === "approved") return answer({ approval: this.change(id, { state: "cancelled" }) });
    if (found.state !== "pending") return fail("approval_decided");
    if (found.digest !== digest) return fail("approval_changed");
    if (["red", "critical_red"].includes(found.class) && decision === "approve") return fail("approval_needs_signature");
    answer({ approval: this.settle(id, decision, this.person.id, { denial: reason, scope: decision === "approve_day" ? "day" : "once" }) });
  }

  settle(id, decision, by, more = {}) {
    const { change } = this.approvals.find((approval) => approval.id === id);
    if (change !== undefined && decision === "approve") this.chosen(change);
    const settled = this.change(id, { state: decision === "deny" ? "denied" : "approved", decided_ms: Date.now(), decided_by: by, ...more });
    this.decisions.push({ id, decision });
    this.onDecision?.(id, decision === "deny" ? "deny" : "approve");
    return settled;
  }

  change(id, to) {
    this.approvals = this.approvals.map((approval) => (approval.id === id ? { ...approval, ...to } : approval));
    const changed = this.approvals.find((approval) => approval.id === id);
    this.tell("approval", changed);
    return changed;
  }

  /** The agent tells the session of a grant that came late; OpenClaw proposes the same call again. */
  async nudge(id) {
    const runId = `nudge-${id}-${Date.now()}`;
    const { tool, details } = this.approvals.find((approval) => approval.id === id);
    this.busy = runId;
    this.history.push({ role: "user", content: nudgeWords(id), timestamp: Date.now(), idempotencyKey: `${runId}:user`, __openclaw: { id: `u-${runId}` } });
    this.tell("chat", { runId, seq: 1, state: "status", phase: "starting_model" });
    const toolCallId = `call-${runId}`;
    const args = Object.fromEntries(details.map(({ name, value }) => [name, value]));
    this.tell("agent", { runId, stream: "tool", data: { phase: "start", name: tool, toolCallId, args } });
    this.change(id, { state: "used", call_id: toolCallId });
    await new Promise((resolve) => (this.goOn = resolve));
    this.history.push({ role: "assistant", content: [{ type: "toolCall", id: toolCallId, name: tool, arguments: args }], timestamp: Date.now(), stopReason: "toolUse", __openclaw: { id: `t-${runId}`, runId } });
    const outcome = { content: [{ type: "text", text: "exit 1" }], details: { status: "completed" } };
    this.history.push({ role: "toolResult", toolCallId, toolName: tool, ...outcome, isError: true, timestamp: Date.now() });
    this.tell("agent", { runId, stream: "tool", data: { phase: "result", name: tool, toolCallId, isError: true, result: outcome } });
    this.change(id, { outcome: "failed" });
    this.busy = null;
    this.tell("chat", { runId, seq: 9, state: "final", message: said("Es hat nicht geklappt.") });
  }
}

const both = (de, en) => ({ de, en });
const templates = [
  { id: "freelancer", title: both("Freiberuflich", "Freelancer"), about: both("Post und Kalender, Ordner für Kunden, ein Fragebogen für Anfragen, ein Blick auf den Tag.", "Mail and calendar, folders for clients, a form for enquiries, a look at the day."), steps: [both("Post und Kalender anbinden", "Connect mail and calendar"), both("Ordner anlegen", "Make folders"), both("Fragebogen für Anfragen", "Form for enquiries"), both("Erster Blick auf den Tag", "First daily brief")] },
  { id: "agency", title: both("Agentur", "Agency"), about: both("Ein gemeinsamer Posteingang, eine Projekttafel, eine Angebotsvorlage, ein Ort für Wissen.", "A shared inbox, a project board, a proposal template, a place for knowledge."), steps: [both("Projekttafel", "Project board")] },
];

/** A template with its steps in these states; the others are to come. */
export function begun(id, ...states) {
  const { title, steps } = templates.find((template) => template.id === id);
  const step = (title, n) => ({ title, state: states[n] ?? (n === 0 && states.length === 0 ? "running" : "waiting"), attempt: 1, since_ms: Date.now(), why: states[n] === "failed" ? "nothing_there" : null });
  return { template: id, title, started_ms: Date.now() - 60_000, started_by: "per_0000000000000000000000000000000a", ended_ms: null, steps: steps.map(step) };
}

let made = 0;

export const nudgeWords = (id) => `A person approved the call that was waiting (${id}). Propose exactly the same call again now.`;

export function approval(given = {}) {
  made += 1;
  return {
    id: `apr_${String(made).padStart(32, "0")}`, assistant: "ast_0000000000000000000000000000000b", session: "agent:main:main", call_id: `call-elsewhere-${made}`, tool: "exec", class: "yellow", external: false, unknown: false, rule: "shell.reads_system",
    sentence: { de: "Führt einen Befehl auf dem Rechner des Assistenten aus.", en: "Runs a command on the assistant's machine." },
    details: [{ name: "command", value: "uname -a" }], digest: "5f".repeat(32), number: "47", scope: "once", created_ms: Date.now(), expires_ms: Date.now() + 86_400_000, state: "pending", ...given,
  };
}

function scriptFor(message) {
  const is = (key) => message === text.de[key] || message === text.en[key];
  if (is("starter.read")) return { tool: "read", args: { path: "notes.md" }, result: "# Notes\n- water the plants", text: "Die Datei enthält eine Liste:\n\n- Pflanzen gießen\n\nMehr steht nicht darin." };
  if (is("starter.exec")) return { tool: "exec", args: { command: "uname -a" }, approval: {}, result: "Linux tenant 6.1.0 x86_64 GNU/Linux", text: "Der Befehl lief: `Linux tenant 6.1.0`." };
  if (message.startsWith("red:")) return { tool: "exec", args: { command: message.slice(4) }, approval: { class: "red", rule: "shell.deletes", sentence: { de: "Löscht Dateien im Arbeitsordner.", en: "Deletes files in the workspace." } }, result: "ok", text: "Erledigt." };
  if (message.startsWith("critical:")) return { tool: "exec", args: { command: message.slice(9) }, approval: { class: "critical_red", rule: "shell.wipes_disk", sentence: { de: "Überschreibt einen ganzen Datenträger.", en: "Overwrites a whole disk." } }, result: "ok", text: "Nicht ausgeführt." };
  if (message.startsWith("long:")) return { text: Array.from({ length: 60 }, (_, index) => `word${index}`).join(" ") };
  return { text: "Hallo! Ich kann **Dateien lesen**, Befehle vorschlagen und Fragen beantworten.\n\n1. Fragen Sie mich etwas.\n2. Was Folgen hat, geben Sie frei.\n\n```sh\nuname -a\n```\n\nMehr unter https://example.org/hilfe." };
}

function said(text) {
  return { role: "assistant", content: [{ type: "text", text }] };
}

function frame(event, payload) {
  return JSON.stringify({ type: "event", event, payload });
}

function fleetEvent(fleet) {
  return `event: fleet\nid: ${fleet.revision}\ndata: ${JSON.stringify(fleet)}\n\n`;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function json(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function refuse(request, response, status, code) {
  const lang = /^en/.test(request.headers["accept-language"] ?? "") ? "en" : "de";
  json(response, status, { error: { code, message: text[lang][`error.${code}`] ?? code } });
}
