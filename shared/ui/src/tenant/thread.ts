// The conversation as it is shown: what history says and what arrived since, merged without doubles. Pure: events and
// messages in, a new thread out; time is an argument. Chat deltas are cumulative, a tool call splits an answer in two,
// a run may end twice (the first time empty), and after a lost connection any of it may already be in the history.

import type { ChatEvent, HistoryMessage, Part, ToolEvent } from "../core/wire.ts";

export interface UserTurn {
  kind: "user";
  id: string;
  /** From the history; what is not told yet only this page knows. */
  told: boolean;
  runId: string | null;
  text: string;
  at_ms: number;
}

export interface AnswerTurn {
  kind: "answer";
  id: string;
  told: boolean;
  runId: string | null;
  text: string;
  at_ms: number;
  state: "open" | "closed" | "stopped" | "failed";
  error: string | null;
  /** Why, where the agent itself stopped the model call. */
  code: string | null;
}

/** What the machinery told the assistant in the person's place. */
export interface NoteTurn {
  kind: "note";
  id: string;
  told: true;
  runId: string | null;
  about: "approved" | "restarted" | "internal";
  text: string;
  at_ms: number;
}

export interface ToolTurn {
  kind: "tool";
  id: string;
  told: boolean;
  runId: string | null;
  name: string;
  args: unknown;
  result: unknown;
  state: "queued" | "running" | "done" | "failed" | "refused" | "stopped";
  at_ms: number;
  ended_ms: number | null;
}

export type Turn = UserTurn | AnswerTurn | NoteTurn | ToolTurn;

interface Run {
  active: boolean;
  /** Ended only because the session seemed to rest; whatever is heard of it shows that it goes on. */
  doubtful?: boolean;
  /** When it last got anywhere. */
  moved_ms: number;
  seq: number;
  /** The cumulative text that stands before the last tool call, already shown above it. */
  frozen: string;
  parts: number;
}

export interface Thread {
  turns: readonly Turn[];
  runs: Readonly<Record<string, Run>>;
  phase: string | null;
}

export const emptyThread: Thread = { turns: [], runs: {}, phase: null };

export function activeRun(thread: Thread): string | null {
  return Object.entries(thread.runs).findLast(([, run]) => run.active)?.[0] ?? null;
}

export function knowsRun(thread: Thread, runId: string): boolean {
  return runId in thread.runs;
}

/** The person's own message, shown before the server has it. Its key is the id of the run that will answer. */
export function say(thread: Thread, key: string, text: string, now_ms: number): Thread {
  if (thread.turns.some((turn) => turn.kind === "user" && turn.id === key)) return thread;
  return { ...thread, turns: [...thread.turns, { kind: "user", id: key, told: false, runId: key, text, at_ms: now_ms }] };
}

export function unsay(thread: Thread, key: string): Thread {
  return { ...thread, turns: thread.turns.filter((turn) => turn.kind !== "user" || turn.id !== key) };
}

export function begin(thread: Thread, runId: string, now_ms: number): Thread {
  const known = thread.runs[runId];
  if (known === undefined) return withRun(thread, runId, { active: true, moved_ms: now_ms, seq: 0, frozen: "", parts: 0 });
  return known.doubtful === true ? withRun(thread, runId, { ...known, active: true, doubtful: false, moved_ms: now_ms }) : thread;
}

export function isOpen(turn: Turn): boolean {
  return turn.kind === "tool" && (turn.state === "queued" || turn.state === "running");
}

/** A call that has not come back, whoever started its run. */
export function awaitsCall(thread: Thread): boolean {
  return thread.turns.some(isOpen);
}

/** Since when the run has got nowhere. */
export function still(thread: Thread, runId: string): number | null {
  return thread.runs[runId]?.moved_ms ?? null;
}

export function hearChat(before: Thread, event: ChatEvent, now_ms: number): Thread {
  const { runId } = event;
  const known = before.runs[runId];
  const seq = event.seq ?? 0;
  if (known !== undefined && !known.active && known.doubtful !== true && (event.state === "status" || event.state === "delta")) return before;
  if (known !== undefined && event.state === "delta" && seq < known.seq) return before;
  let thread = begin(before, runId, now_ms);
  if (event.state !== "status" || event.phase !== thread.phase) thread = withRun(thread, runId, { ...thread.runs[runId]!, moved_ms: now_ms });
  const run = thread.runs[runId]!;
  if (event.state === "status") return { ...thread, phase: event.phase ?? null };
  const whole = textOf(event.message?.content);
  if (event.state === "delta") {
    const text = whole !== "" ? whole : run.frozen + (openAnswer(thread, runId)?.text ?? "") + (event.deltaText ?? "");
    return { ...write(withRun(thread, runId, { ...run, seq }), runId, text, now_ms), phase: null };
  }
  if (whole !== "") thread = write(thread, runId, whole, now_ms);
  if (event.state === "error") return end(fail(thread, runId, event.errorMessage ?? "", event.errorCode ?? null, now_ms), runId, "failed", now_ms);
  return end(thread, runId, event.state === "aborted" ? "stopped" : "closed", now_ms);
}

export function hearTool(before: Thread, event: ToolEvent, now_ms: number): Thread {
  if (event.stream !== "tool") return before;
  const { runId, data } = event;
  let thread = begin(before, runId, now_ms);
  thread = withRun(thread, runId, { ...thread.runs[runId]!, moved_ms: now_ms });
  const open = openAnswer(thread, runId);
  if (open !== null) {
    const run = thread.runs[runId]!;
    thread = replace(withRun(thread, runId, { ...run, frozen: run.frozen + open.text }), open.id, { ...open, state: "closed" });
  }
  const known = thread.turns.find((turn): turn is ToolTurn => turn.kind === "tool" && turn.id === data.toolCallId);
  const tool: ToolTurn = known ?? { kind: "tool", id: data.toolCallId, told: false, runId, name: data.name, args: null, result: null, state: "queued", at_ms: now_ms, ended_ms: null };
  const next: ToolTurn = {
    ...tool,
    args: data.args ?? tool.args,
    result: data.result ?? data.partialResult ?? tool.result,
    state: data.phase === "result" ? outcome(data.isError === true, data.result) : "running",
    ended_ms: data.phase === "result" ? now_ms : null,
  };
  return known === undefined ? insert(thread, runId, next) : replace(thread, tool.id, next);
}

/** When the gateway is gone, so is whatever was running in it. */
export function interrupt(thread: Thread, now_ms: number): Thread {
  const ended = Object.keys(thread.runs).reduce((now, runId) => (now.runs[runId]!.active ? end(fail(now, runId, "", null, now_ms), runId, "failed", now_ms) : now), thread);
  return withoutOpenCalls(ended, () => true, now_ms);
}

/** Without a run: whatever was under way in a run that this page never heard of. */
export function stop(thread: Thread, runId: string | null, now_ms: number): Thread {
  if (runId === null) return withoutOpenCalls(thread, () => true, now_ms);
  return runId in thread.runs ? end(thread, runId, "stopped", now_ms) : thread;
}

function withoutOpenCalls(thread: Thread, which: (index: number) => boolean, now_ms: number): Thread {
  if (!thread.turns.some((turn, index) => isOpen(turn) && which(index))) return thread;
  return { ...thread, turns: thread.turns.map((turn, index) => (turn.kind === "tool" && isOpen(turn) && which(index) ? { ...turn, state: "stopped", ended_ms: now_ms } : turn)) };
}

/**
 * History is the truth for what it contains; what arrived live and is not in it yet stays, after the turns of its run.
 * `settled`: the server says that no run is under way any more.
 */
export function merge(thread: Thread, messages: readonly HistoryMessage[], settled: boolean, now_ms: number): Thread {
  const { turns: told, finished } = read(messages);
  let merged: Thread = { ...thread, turns: told };
  for (const turn of thread.turns) merged = carry(merged, turn, finished);
  for (const [runId, run] of Object.entries(thread.runs)) {
    if (!run.active || (!settled && !finished.has(runId))) continue;
    merged = end(merged, runId, "closed", now_ms);
    if (!finished.has(runId)) merged = withRun(merged, runId, { ...merged.runs[runId]!, doubtful: true });
  }
  // A call without a result is only under way while nothing came after its run.
  const last = merged.turns.findLast((turn) => turn.told || turn.kind !== "user")?.runId;
  return withoutOpenCalls(merged, (index) => {
    const { runId } = merged.turns[index]!;
    return runId === null || merged.runs[runId]?.active !== true ? settled || runId !== last : false;
  }, now_ms);
}

function carry(merged: Thread, turn: Turn, finished: ReadonlySet<string>): Thread {
  const there = merged.turns.find((other) => counterpart(other, turn));
  if (there === undefined) {
    const empty = turn.kind === "answer" && turn.text === "" && turn.state !== "failed";
    if (turn.told || empty) return merged; // left the window of the history, or was never anything
    return turn.kind === "user" ? { ...merged, turns: [...merged.turns, turn] } : insert(merged, turn.runId, turn);
  }
  if (turn.kind === "tool" && there.kind === "tool") {
    // A live card knows its own times and progress; history only knows the messages around it.
    return replace(merged, there.id, { ...there, state: there.state === "queued" ? turn.state : there.state, result: there.result ?? turn.result, at_ms: Math.min(there.at_ms, turn.at_ms) });
  }
  if (turn.kind === "answer" && there.kind === "answer" && !turn.told) {
    const unfinished = turn.state === "open" && !finished.has(turn.runId ?? "");
    if (unfinished && turn.text.length >= there.text.length) return replace(merged, there.id, turn);
    return replace(merged, there.id, { ...there, state: unfinished || turn.state === "open" ? "closed" : turn.state, error: turn.error, code: turn.code });
  }
  return merged;
}

function counterpart(told: Turn, turn: Turn): boolean {
  if (told.kind === "answer" && turn.kind === "answer") return told.id === turn.id || (told.runId === turn.runId && related(told.text, turn.text));
  return told.kind === turn.kind && told.id === turn.id;
}

function related(one: string, other: string): boolean {
  const [a, b] = [one.trim(), other.trim()];
  return a !== "" && b !== "" && (a.startsWith(b) || b.startsWith(a));
}

/** Turns of the history, and the runs whose last word is in it. An answer without a run belongs to the question before it. */
function read(messages: readonly HistoryMessage[]): { turns: Turn[]; finished: Set<string> } {
  const turns: Turn[] = [];
  const finished = new Set<string>();
  const tools = new Map<string, number>();
  let asked: string | null = null;
  messages.forEach((message, index) => {
    const id = message.__openclaw?.id ?? `told:${message.__openclaw?.seq ?? index}`;
    const at_ms = message.timestamp ?? 0;
    const runId: string | null = runOf(message) ?? asked;
    const common = { told: true, runId, at_ms } as const;
    if (message.role === "user") {
      asked = runOf(message);
      const text = textOf(message.content);
      const about = aboutOf(text, asked);
      if (about === null) turns.push({ ...common, kind: "user", id: asked ?? id, runId: asked, text });
      else turns.push({ ...common, kind: "note", id, told: true, runId: asked, about, text });
    } else if (message.role === "assistant") {
      const text = textOf(message.content);
      if (text.trim() !== "") turns.push({ ...common, kind: "answer", id, text, state: message.stopReason === "aborted" ? "stopped" : "closed", error: null, code: null });
      for (const call of calls(message.content)) {
        tools.set(call.id ?? "", turns.length);
        turns.push({ ...common, kind: "tool", id: call.id ?? `${id}:tool`, name: call.name ?? "", args: call.arguments ?? null, result: null, state: "queued", ended_ms: null });
      }
      if (runId !== null && message.stopReason !== undefined && message.stopReason !== "toolUse") finished.add(runId);
    } else if (message.role === "toolResult") {
      const place = tools.get(message.toolCallId ?? "");
      const tool = place === undefined ? undefined : turns[place];
      if (place === undefined || tool?.kind !== "tool") return;
      const result = { content: message.content, details: message.details };
      turns[place] = { ...tool, result, state: outcome(message.isError === true, result), ended_ms: at_ms };
    }
  });
  return { turns, finished };
}

function runOf(message: HistoryMessage): string | null {
  if (message.role === "user" && message.idempotencyKey !== undefined) return message.idempotencyKey.replace(/:user$/, "");
  return message.__openclaw?.runId ?? null;
}

// OpenClaw puts the time before what it passes on.
const stamp = "^(?:\\[[^\\]\\n]{4,40}\\] )?";
const approved = new RegExp(`${stamp}A person approved the call that was waiting \\(apr_`);
const system = new RegExp(`${stamp}\\[System\\]`);

/** Whether a message in the person's role comes from the machinery, and what it is about. */
function aboutOf(text: string, key: string | null): NoteTurn["about"] | null {
  if (approved.test(text) || key?.startsWith("nudge-")) return "approved";
  if (system.test(text)) return "restarted";
  return text.includes("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>") ? "internal" : null;
}

const refusal = /A person refused this call\.|Nobody answered the question about this call|This call waits for a person's approval|This call was refused\./;

function outcome(isError: boolean, result: unknown): ToolTurn["state"] {
  const { content, details } = (result ?? {}) as { content?: string | Part[]; details?: { status?: unknown } };
  if (details?.status === "blocked" || details?.status === "denied") return "refused";
  // What a call brought back may quote these words; a refusal begins with them or is an error.
  const at = refusal.exec(typeof result === "string" ? result : textOf(content))?.index ?? -1;
  if (at === 0 || (at > 0 && isError)) return "refused";
  return isError ? "failed" : "done";
}

export function textOf(content: string | Part[] | undefined): string {
  if (typeof content === "string") return content;
  return (content ?? []).flatMap((part) => (part.type === "text" && typeof part.text === "string" ? [part.text] : [])).join("\n");
}

function calls(content: string | Part[] | undefined): Part[] {
  return typeof content === "string" ? [] : (content ?? []).filter((part) => part.type === "toolCall");
}

function openAnswer(thread: Thread, runId: string): AnswerTurn | null {
  return thread.turns.findLast((turn): turn is AnswerTurn => turn.kind === "answer" && turn.runId === runId && turn.state === "open") ?? null;
}

/** Shows the cumulative text of a run: continues the open answer, or begins one after the last tool call. */
function write(thread: Thread, runId: string, whole: string, now_ms: number): Thread {
  const run = thread.runs[runId]!;
  const text = run.frozen !== "" && whole.startsWith(run.frozen) ? whole.slice(run.frozen.length).trimStart() : whole;
  const open = openAnswer(thread, runId);
  if (open !== null) return replace(thread, open.id, { ...open, text });
  if (text === "") return thread;
  const last = thread.turns.findLast((turn) => turn.runId === runId && turn.kind !== "user");
  if (last?.kind === "answer" && related(last.text, text)) {
    return last.text.length >= text.length ? thread : replace(thread, last.id, { ...last, text, state: "open" });
  }
  const answer: AnswerTurn = { kind: "answer", id: `live:${runId}:${run.parts}`, told: false, runId, text, at_ms: now_ms, state: "open", error: null, code: null };
  return insert(withRun(thread, runId, { ...run, parts: run.parts + 1 }), runId, answer);
}

function fail(thread: Thread, runId: string, error: string, code: string | null, now_ms: number): Thread {
  const open = openAnswer(thread, runId);
  if (open !== null) return replace(thread, open.id, { ...open, state: "failed", error, code });
  const run = thread.runs[runId]!;
  const answer: AnswerTurn = { kind: "answer", id: `live:${runId}:${run.parts}`, told: false, runId, text: "", at_ms: now_ms, state: "failed", error, code };
  return insert(withRun(thread, runId, { ...run, parts: run.parts + 1 }), runId, answer);
}

function end(thread: Thread, runId: string, state: "closed" | "stopped" | "failed", now_ms: number): Thread {
  const run = thread.runs[runId] ?? { active: true, moved_ms: now_ms, seq: 0, frozen: "", parts: 0 };
  const turns = thread.turns.map((turn): Turn => {
    if (turn.runId !== runId) return turn;
    if (turn.kind === "answer" && turn.state === "open") return { ...turn, state };
    if (turn.kind === "tool" && (turn.state === "running" || turn.state === "queued")) return { ...turn, state: "stopped", ended_ms: now_ms };
    return turn;
  });
  return { turns, runs: { ...thread.runs, [runId]: { ...run, active: false, doubtful: false } }, phase: null };
}

function withRun(thread: Thread, runId: string, run: Run): Thread {
  return { ...thread, runs: { ...thread.runs, [runId]: run } };
}

function replace(thread: Thread, id: string, turn: Turn): Thread {
  return { ...thread, turns: thread.turns.map((other) => (other.id === id && other.kind !== "user" ? turn : other)) };
}

function insert(thread: Thread, runId: string | null, turn: Turn): Thread {
  const last = runId === null ? -1 : thread.turns.findLastIndex((other) => other.runId === runId);
  const turns = [...thread.turns];
  turns.splice(last === -1 ? turns.length : last + 1, 0, turn);
  return { ...thread, turns };
}
