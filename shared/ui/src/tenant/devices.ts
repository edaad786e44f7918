// The devices of this person, and whether this browser is one: what it can sign, and everything that is done with a
// signature. The list comes from the server; the key lives in this browser.

import { computed, effect, signal } from "@preact/signals";
import { post, read, type Answer } from "../core/door.ts";
import { assert, newPasskey } from "../core/passkey.ts";
import { base64url, candidate, canSign, forget, keep, kept, makeKey, prove, type Candidate, type Kept, type Proof } from "../core/signing.ts";
import { explain, t } from "../core/text.ts";
import type { Approval, Device, Person, Reset } from "../core/wire.ts";
import { devicesChanged, person, takeApproval } from "./conversation.ts";

interface Listed {
  devices: Device[];
  persons: Person[];
  resets: Reset[];
  recovery_codes: number;
}

interface Signed {
  statement: string;
  proof: Proof;
}

const lifeMs = 300_000; // a statement that is not heard within five minutes was lost

export const listed = signal<Listed>({ devices: [], persons: [], resets: [], recovery_codes: 0 });
const own = signal<Kept | null>(null);
/** The device that this browser is, as long as the server knows it, too. */
export const here = computed(() => listed.value.devices.find((device) => device.id === own.value?.device) ?? null);
export const mine = computed(() => listed.value.devices.filter((device) => device.person === person.value?.id));
export const passkeys = computed(() => mine.value.filter((device) => device.kind === "passkey"));

effect(() => {
  devicesChanged.value;
  if (person.value !== null) void reread();
});

async function reread(): Promise<void> {
  const id = person.peek()?.id;
  if (id === undefined) return;
  if (canSign()) own.value = await kept(id).catch(() => null);
  const answer = await read<Listed>("/api/devices");
  if (answer.ok) listed.value = answer.body;
}

/** Null when it worked, otherwise the sentence that says what went wrong. */
type Wrong = Promise<string | null>;

function wrong(answer: Answer<unknown>): string | null {
  return answer.ok ? null : explain(answer.code, answer.message);
}

/** Makes this browser a device, by a code or by a reset that has waited long enough. */
export async function setUp(ticket: { kind: "code"; code: string } | { kind: "reset" }): Wrong {
  const who = person.value;
  if (who === null || !canSign()) return t("devices.unsupported");
  const pair = await makeKey();
  const brought = await candidate(pair, ticket.kind === "code" ? ticket.code : "reset");
  const answer = await post<{ device: string }>("/api/devices", { candidate: brought, ticket });
  if (answer.ok) {
    await keep({ person: who.id, device: answer.body.device, key: pair.privateKey });
    await reread();
  }
  return wrong(answer);
}

export async function addPasskey(): Wrong {
  const who = person.value;
  if (who === null || own.value === null) return t("devices.unsupported");
  try {
    const made = await newPasskey(who, t("devices.kind.passkey"), async (key) => {
      const signed = await signedHere({ kind: "add_device", key });
      return { text: (JSON.parse(signed.statement) as { nonce: string }).nonce, ticket: { kind: "device", signed } };
    });
    const body: { candidate: Candidate; ticket: unknown } = made;
    const answer = await post("/api/devices", body);
    if (answer.ok) await reread();
    return wrong(answer);
  } catch {
    return t("devices.passkey_failed");
  }
}

export async function remove(device: Device): Wrong {
  const answer = await obeyed({ kind: "remove_device", device: device.id });
  if (answer.ok && device.id === own.value?.device) {
    await forget(device.person);
    own.value = null;
  }
  if (answer.ok) await reread();
  return wrong(answer);
}

export async function codes(deed: { kind: "mint_code"; person: string } | { kind: "recovery_codes" }): Promise<{ codes: string[] } | { wrong: string }> {
  const answer = await obeyed(deed);
  if (!answer.ok) return { wrong: explain(answer.code, answer.message) };
  await reread();
  return { codes: answer.body.codes };
}

export async function announceReset(): Wrong {
  return wrong(await post("/api/devices/reset", {}));
}

export async function cancelReset(reset: Reset): Wrong {
  return wrong(await post("/api/devices/reset/cancel", { person: reset.person }));
}

/** A signed yes. `by` says what signs; the password goes with the browser's key only. */
export async function allow(approval: Approval, by: "key" | "passkey", number = "", password?: string): Wrong {
  const deed = { kind: "decide", approval: approval.id, digest: approval.digest, decision: "approve", ...(number === "" ? {} : { number }) };
  let signed: Signed;
  try {
    signed = by === "key" ? await signedHere(deed) : await signedByPasskey(deed);
  } catch {
    return by === "key" ? t("error.approval_needs_signature") : t("devices.passkey_failed");
  }
  const answer = await post<{ approval: Approval }>("/approvals/decisions", password === undefined ? { signed } : { signed, password });
  if (answer.ok) takeApproval(answer.body.approval);
  return wrong(answer);
}

/** Lets a stopped assistant go on, with whatever of this person's signs here. */
export async function resume(assistant: string): Wrong {
  const deed = { kind: "resume", assistant };
  if (here.value === null && passkeys.value.length === 0) return t("pause.needs_device");
  try {
    return wrong(await post("/api/pauses/end", here.value !== null ? await signedHere(deed) : await signedByPasskey(deed)));
  } catch {
    return t("devices.passkey_failed");
  }
}

async function obeyed(deed: object): Promise<Answer<{ codes: string[] }>> {
  return post<{ codes: string[] }>("/api/devices/statements", await signedHere(deed));
}

async function signedHere(deed: object): Promise<Signed> {
  const device = own.value;
  if (device === null) throw new Error("this browser is no device");
  const statement = await worded(device.device, deed);
  return { statement, proof: await prove(device.key, domain + statement) };
}

// A statement names its device, and which passkey will answer is not known before: with several, the newest is asked.
async function signedByPasskey(deed: object): Promise<Signed> {
  const device = passkeys.value.at(-1);
  if (device?.credential == null) throw new Error("there is no passkey");
  const statement = await worded(device.id, deed);
  return { statement, proof: (await assert([device.credential], domain + statement)).proof };
}

const domain = "gatehouse-statement-v1\n";

/** By the server's clock: a phone's may be wrong. */
async function worded(device: string, deed: object): Promise<string> {
  const me = await read<{ tenant: string; now_ms: number; person: Person }>("/api/me");
  if (!me.ok) throw new Error(me.code);
  const { tenant, now_ms, person } = me.body;
  const nonce = base64url(crypto.getRandomValues(new Uint8Array(24)).buffer);
  return canonical({ tenant, person: person.id, device, deed, expires_ms: now_ms + lifeMs, nonce });
}

/** RFC 8785 for what statements hold: objects, texts and whole numbers. */
export function canonical(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(",")}}`;
}
