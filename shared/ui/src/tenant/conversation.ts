// The tenant page's state and everything a person can do on it: one place that joins socket, thread, outbox and
// approvals. Views read the signals below and call the functions; nothing else changes them. Frames are taken in as
// they come and shown at most once per painted frame.

import { batch, computed, signal } from "@preact/signals";
import { post, read } from "../core/door.ts";
import { ChatSocket, RequestFailed } from "../core/socket.ts";
import { explain, t } from "../core/text.ts";
import type { Approval, Assistant, ChatEvent, Gateway, Hello, HistoryMessage, Pause, Person, ToolEvent, Usage } from "../core/wire.ts";
import * as approvalList from "./approvals.ts";
import * as box from "./outbox.ts";
import * as thread from "./thread.ts";

const sessionKey = "main";
const opened_ms = Date.now();
const historyLimit = 200;
const rereadMs = 400;
const flushAgainMs = 3_000;
const freshMs = 3_000; // what was heard so lately may not be in what the session says about itself
const quietMs = 45_000; // a run that says nothing for so long may have ended while nobody listened

export const person = signal<Person | null>(null);
export const assistant = signal<Assistant | null>(null);
export const gateway = signal<Gateway | null>(null);
export const gatewaySince = signal(0);
export const usage = signal<Usage | null>(null);
export const approvals = signal<readonly Approval[]>([]);
export const link = signal<{ state: "connecting" | "open" | "lost"; since_ms: number; retry_ms: number | null }>({ state: "connecting", since_ms: Date.now(), retry_ms: null });
export const items = signal<readonly box.Item[]>([]);
export const conversation = signal<thread.Thread>(thread.emptyThread);
export const historyRead = signal(false);
export const now = signal(Date.now());
/** Counts what the server says about devices; what it is, is asked for. */
export const devicesChanged = signal(0);

/** Counts what the server says about levels. */
export const levelsChanged = signal(0);
/** Counts what the server says about a template under way. */
export const firstHourChanged = signal(0);
/** The assistants that somebody has stopped. */
export const paused = signal<readonly Pause[]>([]);
export const pause = computed(() => paused.value.find((pause) => pause.assistant === assistant.value?.id) ?? null);

export const running = computed(() => thread.activeRun(conversation.value));
export const lines = computed(() => approvalList.woven(conversation.value.turns, approvals.value, opened_ms));
/** The call of this conversation that waits for a person; until then the gateway would drop whatever is sent. */
export const question = computed(() => approvalList.held(conversation.value.turns, approvals.value, now.value)?.id ?? null);
/** The session says that it works, in a run that this page knows nothing of. */
const working = signal(false);
/** Something is under way, whoever started it. */
export const busy = computed(() => running.value !== null || working.value || question.value !== null || thread.awaitsCall(conversation.value));
export const pending = computed(() => approvalList.pending(approvals.value));
export const mayDecide = computed(() => person.value?.role === "owner" || person.value?.role === "approver");

const socket = new ChatSocket(new URL("/ws", location.href).href.replace(/^http/, "ws"), {
  onHello: (payload) => welcome(payload as Hello),
  onEvent: hear,
  onState: (state, retry_ms) => {
    const before = link.value;
    const still = state !== "open" && before.state !== "open";
    link.value = { state, since_ms: still ? before.since_ms : Date.now(), retry_ms };
  },
  onEnd: leave,
  stillWelcome: async () => {
    const answer = await read("/api/me");
    return answer.ok || answer.status !== 401;
  },
});

export function assistantName(): string {
  return assistant.value?.name ?? t("chat.assistant");
}

export function startConversation(): void {
  setInterval(() => {
    now.value = Date.now();
    if (!busy.value || now.value - Math.max(heard_ms, asked_ms) < quietMs || link.value.state !== "open") return;
    asked_ms = now.value;
    void readHistory();
  }, 1_000);
  socket.start();
}

export function retryNow(): void {
  socket.nudge();
}

export function send(text: string): void {
  const key = crypto.randomUUID();
  batch(() => {
    setItems(box.add(items.value, key, text, Date.now()));
    setThread(thread.say(live, key, text, Date.now()));
  });
  void flush();
}

export function retry(key: string): void {
  setItems(box.retried(items.value, key));
  void flush();
}

export function discard(key: string): void {
  setItems(box.removed(items.value, key));
  setThread(thread.unsay(live, key));
}

export async function stop(): Promise<void> {
  const runId = running.value;
  if (!busy.value) return;
  try {
    await socket.request("chat.abort", runId === null ? { sessionKey } : { sessionKey, runId });
    working.value = false;
    setThread(thread.stop(live, runId, Date.now()));
    if (runId === null) reread();
  } catch {
    return; // the run goes on and the button stays
  }
}

/** Null when it worked, otherwise the sentence that says what went wrong. */
export async function decide(approval: Approval, decision: "approve" | "approve_day" | "deny" | "cancel", reason = ""): Promise<string | null> {
  try {
    const said = { id: approval.id, digest: approval.digest, decision, ...(reason === "" ? {} : { reason }) };
    takeApproval((await socket.request<{ approval: Approval }>("approvals.decide", said)).approval);
    return null;
  } catch (failure) {
    const { code, message } = failure instanceof RequestFailed ? failure : { code: "unknown", message: "" };
    if (code.startsWith("approval_")) void rereadApprovals();
    return explain(code, message);
  }
}

/** Says no and stops the assistant. Null when it worked. */
export async function disown(approval: Approval): Promise<string | null> {
  try {
    takeApproval((await socket.request<{ approval: Approval }>("approvals.disown", { id: approval.id, digest: approval.digest })).approval);
    return null;
  } catch (failure) {
    const { code, message } = failure instanceof RequestFailed ? failure : { code: "unknown", message: "" };
    if (code.startsWith("approval_")) void rereadApprovals();
    return explain(code, message);
  }
}

export function takeApproval(approval: Approval): void {
  approvals.value = approvalList.merged(approvals.value, [approval]);
}

export async function logOut(): Promise<void> {
  socket.end();
  sessionStorage.clear();
  await post("/auth/logout", {});
  leave();
}

function leave(): void {
  location.replace("/login");
}

function welcome(hello: Hello): void {
  const person_before = person.value;
  batch(() => {
    person.value = hello.person;
    assistant.value = hello.assistants[0] ?? null;
    usage.value = hello.usage;
    paused.value = hello.paused ?? [];
    approvals.value = approvalList.merged(approvalList.decided(approvals.value), hello.approvals);
    if (person_before?.id !== hello.person.id) {
      items.value = box.load(sessionStorage, hello.person.id);
      live = items.value.reduce((now, item) => thread.say(now, item.key, item.text, item.created_ms), thread.emptyThread);
      conversation.value = live;
      historyRead.value = false;
    }
    setGateway(hello.gateway);
  });
  void resync();
  void rereadApprovals();
}

let heard_ms = 0;
let asked_ms = 0;

function hear(event: string, payload: unknown): void {
  heard_ms = Date.now();
  if (event === "chat") hearChat(payload as ChatEvent);
  else if (event === "agent") hearTool(payload as ToolEvent);
  else if (event === "approval") approvals.value = approvalList.merged(approvals.value, [payload as Approval]);
  else if (event === "devices") devicesChanged.value += 1;
  else if (event === "levels") levelsChanged.value += 1;
  else if (event === "first_hour") firstHourChanged.value += 1;
  else if (event === "paused") paused.value = (payload as { paused: Pause[] }).paused;
  else if (event === "usage") usage.value = payload as Usage;
  else if (event === "gateway") {
    const before = gateway.value?.state;
    setGateway(payload as Gateway);
    if (before !== "ready" && gateway.value?.state === "ready") void resync();
  }
}

// Another person, another tab or a grant that came late: only the history knows what was said.
function isOurs(runId: string): boolean {
  return items.value.some((item) => item.key === runId) || live.turns.some((turn) => (turn.kind === "user" || turn.kind === "note") && turn.runId === runId);
}

function hearTool(event: ToolEvent): void {
  const ours = isOurs(event.runId);
  setThread(thread.hearTool(live, event, Date.now()));
  if (!ours) reread();
}

function hearChat(event: ChatEvent): void {
  const own = isOurs(event.runId);
  const ended = event.state === "final" || event.state === "error" || event.state === "aborted";
  setThread(thread.hearChat(live, event, Date.now()));
  if (ended) setItems(items.value.filter((item) => item.key !== event.runId || item.state === "failed"));
  if (ended) working.value = false;
  if (!own || (ended && thread.activeRun(live) !== null)) reread();
}

function setGateway(next: Gateway): void {
  if (gateway.value?.state !== next.state) gatewaySince.value = Date.now();
  gateway.value = next;
  if (next.state === "ready" || next.state === "ungated") return;
  working.value = false;
  setThread(thread.interrupt(live, Date.now()));
}

let rereadTimer: ReturnType<typeof setTimeout> | undefined;

function reread(after_ms = rereadMs): void {
  clearTimeout(rereadTimer);
  rereadTimer = setTimeout(() => void readHistory(), after_ms);
}

async function resync(): Promise<void> {
  if (gateway.value?.state === "ready" || gateway.value?.state === "ungated") await readHistory();
  await flush();
}

async function readHistory(): Promise<void> {
  try {
    const told = await socket.request<{ messages?: HistoryMessage[]; sessionInfo?: { status?: string; lastRunId?: string } }>("chat.history", { sessionKey, limit: historyLimit });
    const messages = told.messages ?? [];
    const status = told.sessionInfo?.status;
    const settled = status !== undefined && ["done", "failed", "killed", "timeout", "error", "idle"].includes(status);
    const doubtful = items.value.some((item) => item.state === "sent") || Date.now() - heard_ms < freshMs || approvalList.justAsked(approvals.value, Date.now());
    const shown = new Set(messages.flatMap((message) => (message.idempotencyKey === undefined ? [] : [message.idempotencyKey.replace(/:user$/, "")])));
    batch(() => {
      setThread(thread.merge(live, messages, settled && !doubtful, Date.now()));
      working.value = status === "running" && thread.activeRun(live) === null;
      setItems(box.reconciled(items.value, shown, running.value, Date.now()));
      historyRead.value = true;
    });
    if (settled && doubtful && thread.activeRun(live) !== null) reread(freshMs);
    // Acknowledged but in no history and not being answered: look once more, when it is late enough to call it lost.
    if (running.value === null && items.value.some((item) => item.state === "sent")) reread(box.confirmMs);
  } catch {
    // A new connection, or the gateway when it becomes ready, reads again by itself; a time-out would not.
    if (link.value.state === "open" && gateway.value?.state === "ready") reread(flushAgainMs);
  }
}

async function rereadApprovals(): Promise<void> {
  try {
    const answer = await socket.request<{ approvals: Approval[] }>("approvals.list", {});
    approvals.value = approvalList.merged([], answer.approvals);
  } catch {
    return;
  }
}

let flushing = false;

// One after the other, so that the order of the messages is the order of the person.
async function flush(): Promise<void> {
  if (flushing) return;
  flushing = true;
  try {
    for (let next = due(); next !== undefined; next = due()) {
      const { key, text } = next;
      try {
        const answer = await socket.request<{ status?: string } | null>("chat.send", { sessionKey, message: text, idempotencyKey: key });
        setItems(box.acknowledged(items.value, key, Date.now()));
        if (answer?.status === "ok") reread(); // it had arrived before and has already been answered
        else setThread(thread.begin(live, key, Date.now()));
      } catch (failure) {
        const code = failure instanceof RequestFailed ? failure.code : "unknown";
        setItems(box.refused(items.value, key, code));
        if (items.value.some((item) => item.key === key && item.state === "sending")) {
          setTimeout(() => void flush(), flushAgainMs); // a new connection or a ready gateway comes sooner and does it then
          return;
        }
      }
    }
  } finally {
    flushing = false;
  }
}

function due(): box.Item | undefined {
  if (link.value.state !== "open" || gateway.value?.state !== "ready") return undefined;
  return items.value.find((item) => item.state === "sending");
}

function setItems(next: readonly box.Item[]): void {
  items.value = next;
  if (person.value !== null) box.keep(sessionStorage, person.value.id, next);
}

let live: thread.Thread = thread.emptyThread;
let painting = false;

// A hidden page paints no frames; a timer then keeps the state from falling behind.
function setThread(next: thread.Thread): void {
  if (next === live) return;
  live = next;
  if (painting) return;
  painting = true;
  const paint = () => {
    painting = false;
    conversation.value = live;
  };
  if (document.hidden) setTimeout(paint, 250);
  else requestAnimationFrame(paint);
}
