// Full states of the pages for the look-and-feel part of the suite: a conversation with everything in it, and a fleet
// with every kind of trouble. Made at each call, so that ages read as they would on a real day.

import { approval, nudgeWords } from "./fake.mjs";

export function conversation() {
  const now = Date.now();
  const at = (minutes) => now - minutes * 60_000;
  const run = (name) => ({ id: `m-${name}-${Math.random()}`, runId: name });
  const history = [
    { role: "user", content: "Was steht heute an? Bitte kurz, mit den wichtigsten Punkten zuerst.", timestamp: at(42), idempotencyKey: "one:user", __openclaw: { id: "u1" } },
    { role: "assistant", content: [{ type: "toolCall", id: "c1", name: "read", arguments: { path: "notes.md" } }], timestamp: at(41.9), stopReason: "toolUse", __openclaw: run("one") },
    { role: "toolResult", toolCallId: "c1", toolName: "read", content: [{ type: "text", text: "# Heute\n- Angebot\n- Rechnung 114" }], timestamp: at(41.8), isError: false },
    { role: "assistant", content: [{ type: "text", text: "## Heute\n\nIn **notes.md** stehen drei Dinge:\n\n1. Angebot an die Druckerei prüfen (bis 12 Uhr)\n2. Rechnung 114 anmahnen\n3. Donnerstag den Serverraum lüften\n\n| Punkt | Frist | Stand |\n|---|---|---|\n| Angebot | 12:00 | offen |\n| Rechnung 114 | heute | überfällig |\n\nDen Stand der Platte kann ich so ansehen:\n\n```sh\ndf -h /srv && du -sh /srv/archive | sort -h | tail -n 20   # nur lesen\n```\n\n> Soll ich damit anfangen?" }], timestamp: at(41), stopReason: "stop", __openclaw: run("one") },
    { role: "user", content: "Ja, und räum danach den Ordner tmp auf.", timestamp: at(3), idempotencyKey: "two:user", __openclaw: { id: "u2" } },
    { role: "assistant", content: [{ type: "text", text: "Ich sehe zuerst nach." }, { type: "toolCall", id: "c2", name: "exec", arguments: { command: "df -h /srv" } }], timestamp: at(2.8), stopReason: "toolUse", __openclaw: run("two") },
    { role: "toolResult", toolCallId: "c2", toolName: "exec", content: [{ type: "text", text: "/dev/vda1  40G  31G  7.1G  82% /srv" }], timestamp: at(2.5), isError: false },
    { role: "assistant", content: [{ type: "toolCall", id: "c3", name: "exec", arguments: { command: "rm -rf /srv/workspace/tmp" } }], timestamp: at(1), stopReason: "toolUse", __openclaw: run("two") },
  ];
  const approvals = [
    approval({ call_id: "c3", class: "red", rule: "shell.deletes_recursively", sentence: { de: "Löscht einen Ordner mit allem, was darin ist.", en: "Deletes a folder and everything in it." }, details: [{ name: "command", value: "rm -rf /srv/workspace/tmp" }, { name: "workdir", value: "/srv/workspace" }], created_ms: at(0.9), expires_ms: now + 23 * 3_600_000 }),
    approval({ tool: "message", class: "yellow", external: true, rule: "message.leaves_the_house", sentence: { de: "Sendet eine Nachricht an jemanden außerhalb.", en: "Sends a message to someone outside." }, details: [{ name: "to", value: "buchhaltung@example.org" }, { name: "text", value: "Guten Tag,\n\nRechnung 114 ist noch offen.\u202E\n\nFreundliche Grüße" }], created_ms: at(0.5), expires_ms: now + 3_600_000 }),
    approval({ class: "critical_red", unknown: true, rule: "unknown.call", sentence: { de: "Schreibt auf einen Datenträger am Dateisystem vorbei.", en: "Writes to a disk, bypassing the file system." }, details: [{ name: "command", value: "dd if=/dev/zero of=/dev/vdb bs=1M" }], created_ms: at(0.2), expires_ms: now + 600_000 }),
    approval({ call_id: "c2", class: "green", rule: "shell.reads_system", state: "used", outcome: "ok", decided_ms: at(2.6), decided_by: "per_0000000000000000000000000000000a", details: [{ name: "command", value: "df -h /srv" }], created_ms: at(2.7) }),
    approval({ class: "red", rule: "shell.installs", state: "denied", decided_ms: at(600), decided_by: "per_ffffffffffffffffffffffffffffffff", sentence: { de: "Installiert ein Paket.", en: "Installs a package." }, details: [{ name: "command", value: "apt-get install -y nmap" }], created_ms: at(602) }),
  ];
  return { history, approvals, busy: "two" };
}

/** Ten questions of one kind, and another one. */
export function burst() {
  const sentence = { de: "Sendet eine Nachricht an jemanden außerhalb.", en: "Sends a message to someone outside." };
  const one = (n) => approval({ tool: "message", class: "yellow", external: true, rule: "message.send", sentence, details: [{ name: "to", value: `kunde-${n}@example.org` }, { name: "text", value: "Die Rechnung liegt bei." }], created_ms: Date.now() - n * 4_000 });
  return { approvals: [...Array.from({ length: 10 }, (_, n) => one(n + 1)), approval({ class: "red", rule: "shell.installs", sentence: { de: "Installiert ein Paket.", en: "Installs a package." } })] };
}

/** What became of calls that were asked about: denied, denied and allowed again, late, failed; and the machinery's own words. */
export function decisions() {
  const now = Date.now();
  const at = (minutes) => now - minutes * 60_000;
  const call = (id, minutes, command, run) => ({ role: "assistant", content: [{ type: "toolCall", id, name: "exec", arguments: { command } }], timestamp: at(minutes), stopReason: "toolUse", __openclaw: { id: `t-${id}`, runId: run } });
  const back = (id, minutes, text, isError = true) => ({ role: "toolResult", toolCallId: id, toolName: "exec", content: [{ type: "text", text }], timestamp: at(minutes), isError });
  const said = (text, minutes, run) => ({ role: "assistant", content: [{ type: "text", text }], timestamp: at(minutes), stopReason: "stop", __openclaw: { id: `a-${run}-${minutes}`, runId: run } });
  const user = (content, minutes, key) => ({ role: "user", content, timestamp: at(minutes), idempotencyKey: `${key}:user`, __openclaw: { id: `u-${key}` } });
  const decided = (id, minutes, state, given = {}) => approval({ call_id: id, unknown: true, state, decided_ms: at(minutes), decided_by: "per_0000000000000000000000000000000a", created_ms: at(minutes + 0.1), details: [{ name: "command", value: "systemctl restart printer" }], ...given });
  const late = `apr_${"e".repeat(32)}`;
  const history = [
    user("Starte den Druckdienst neu.", 20, "one"),
    call("d1", 19, "systemctl restart printer", "one"),
    back("d1", 18.9, "A person refused this call. Accept that; do not try another way."),
    said("Gut, ich lasse es.", 18.8, "one"),
    user("Doch, bitte jetzt.", 18.6, "two"),
    call("d2", 18.5, "systemctl restart printer", "two"),
    back("d2", 18.4, "restarted", false),
    said("Der Dienst läuft wieder:\n\n```\nprinter.service: active\n```", 18.3, "two"),
    user("[System] Your previous turn was interrupted by a restart. Continue.", 12, "sys"),
    user(nudgeWords(late), 8, `nudge-${late}-1`),
    call("d3", 7.9, "apt-get upgrade", "nudge"),
    back("d3", 7.8, "exit 100"),
    said("Die Aktualisierung ist fehlgeschlagen.", 7.7, "nudge"),
    user("Und leere den Papierkorb.", 3, "three"),
    call("d4", 2.9, "trash-empty", "three"),
    back("d4", 1.9, `This call waits for a person's approval (apr_${"f".repeat(32)}). It was not run.`),
    said("Das wartet auf Ihre Freigabe.", 1.8, "three"),
  ];
  const approvals = [
    decided("d4", 0.4, "approved", { created_ms: at(2.9), details: [{ name: "command", value: "trash-empty" }] }),
    decided("d3", 7.9, "used", { id: late, outcome: "failed", details: [{ name: "command", value: "apt-get upgrade" }] }),
    decided("d2", 18.4, "used", { outcome: "ok" }),
    decided("d1", 18.9, "denied"),
  ];
  return { history, approvals };
}

const none = { day_ms: 0, calls: 0, partial: 0, estimated: 0, input_tokens: 0, cached_tokens: 0, cache_write_tokens: 0, cache_write_long_tokens: 0, output_tokens: 0, reasoning_tokens: 0, tool_requests: 0, cost_nano_usd: 0, unpriced: 0 };
const steps = (...states) => ["allocate", "start", "enrol", "gateway"].map((name, index) => ({ name, state: states[index], error: states[index] === "failed" ? "token_expired" : null }));

export function tenant(number, given = {}) {
  const id = `ten_${String(number).padStart(32, "0")}`;
  return {
    id, name: `Werkstatt ${number}`, url: `http://tenant-${number}.localhost:8443`, state: "ready", steps: steps("done", "done", "done", "done"), presence: "online", last_seen_ms: Date.now() - 2_000, agent_version: "0.1.0",
    gateway: { state: "ready", reason: null }, policy: { state: "active", version: 7, digest: "9f86d081", expires_ms: Date.now() + 20 * 86_400_000, keys: 1, reason: null }, usage_today: { ...none, calls: 40 + number, input_tokens: 182_000 * number, cached_tokens: 90_000, output_tokens: 9_400, cost_nano_usd: 310_000_000 * number }, approvals: [], findings: [], ...given,
  };
}

export function fleet() {
  const now = Date.now();
  return {
    revision: 7, now_ms: now,
    tenants: [
      tenant(1),
      tenant(2, { name: "Kanzlei am Markt", gateway: { state: "ungated", reason: "plugin_changed" }, findings: [{ code: "plugin_changed", severity: "fail", since_ms: now - 340_000, detail: "guard" }, { code: "provider_key_missing", severity: "warn", since_ms: now - 7_400_000, detail: "anthropic" }] }),
      tenant(3, { name: "Praxis Nord", asks: [{ rule: "message.send", days: [4, 7, 3, 0, 0, 9, 12], yes: 33, no: 1 }, { rule: "own", days: [0, 0, 1, 0, 0, 0, 2], yes: 1, no: 1 }, { rule: "git.push-force", days: [0, 0, 0, 0, 0, 0, 1], yes: 0, no: 0 }], approvals: [{ id: `apr_${"3".repeat(32)}`, class: "yellow", external: true, created_ms: now - 700_000 }, { id: `apr_${"4".repeat(32)}`, class: "critical_red", external: false, created_ms: now - 60_000 }] }),
      tenant(4, { name: "Gärtnerei", policy: null, state: "provisioning", steps: steps("done", "done", "running", "waiting"), presence: "never", last_seen_ms: null, agent_version: null, gateway: { state: "absent", reason: null }, usage_today: none }),
      tenant(5, { name: "Büro mit einem ausgesprochen langen Namen, der umbrechen muss", state: "needs_operator", steps: steps("done", "done", "failed", "waiting"), presence: "never", last_seen_ms: null, agent_version: null, gateway: { state: "absent", reason: null }, usage_today: none }),
      tenant(6, { name: "Atelier", policy: { state: "refused", version: 6, digest: "9f86d081", expires_ms: now + 86_400_000, keys: 1, reason: "needs_newer_agent" }, presence: "offline", last_seen_ms: now - 3_900_000, gateway: { state: "down", reason: "gateway_down" } }),
      tenant(7, { name: "Verein", presence: "late", last_seen_ms: now - 75_000, gateway: { state: "starting", reason: null }, findings: [{ code: "session_frozen", severity: "fail", since_ms: now - 30_000, detail: "agent:main:main" }] }),
    ],
  };
}
