// Approvals as the page knows them: merged by id, a decision never undone by an older frame, and placed beside the tool
// call that they name. Which call that is the agent says; the page never guesses it from a name or a time.

import type { Approval } from "../core/wire.ts";
import { isOpen, type ToolTurn, type Turn } from "./thread.ts";

const order: Record<Approval["state"], number> = { pending: 0, approved: 1, denied: 2, expired: 2, used: 3, superseded: 3, cancelled: 3 };
const rank = ({ state, outcome }: Approval) => order[state] + (outcome == null ? 0 : 1);
const mostKept = 200;

export function merged(known: readonly Approval[], news: readonly Approval[]): Approval[] {
  const all = new Map(known.map((approval) => [approval.id, approval]));
  for (const approval of news) {
    const before = all.get(approval.id);
    if (before === undefined || rank(approval) >= rank(before)) all.set(approval.id, approval);
  }
  const sorted = [...all.values()].sort((a, b) => b.created_ms - a.created_ms);
  return [...pending(sorted), ...decided(sorted)].slice(0, mostKept);
}

export function pending(approvals: readonly Approval[]): Approval[] {
  return approvals.filter((approval) => approval.state === "pending");
}

export function decided(approvals: readonly Approval[]): Approval[] {
  return approvals.filter((approval) => approval.state !== "pending");
}

/** Questions of one kind together: same rule, class, assistant and session. In the order in which the newest of each came. */
export function grouped(approvals: readonly Approval[]): Approval[][] {
  const groups = new Map<string, Approval[]>();
  for (const approval of approvals) {
    const { assistant, session, tool, rule, class: name, external, unknown } = approval;
    const kind = [assistant, session, tool, rule, name, external, unknown].join("\n");
    groups.set(kind, [...(groups.get(kind) ?? []), approval]);
  }
  return [...groups.values()];
}

/** `verdict` is how the approval of a tool call stands, null for a call that nobody was asked about. */
export type Line = { turn: Turn; verdict: Approval["state"] | null } | { approval: Approval };

/**
 * The conversation with its approvals in place; one whose call is not in it stands at its own time. Decided ones from
 * before the first turn are left to the panel, unless they were decided after `since_ms`: a card that somebody looks at
 * must not vanish, but say what became of it.
 */
export function woven(turns: readonly Turn[], approvals: readonly Approval[], since_ms: number): Line[] {
  const calls = new Set(turns.flatMap((turn) => (turn.kind === "tool" ? [turn.id] : [])));
  const beside = new Map<string, Approval[]>();
  const loose: Approval[] = [];
  for (const approval of [...approvals].sort((a, b) => a.created_ms - b.created_ms)) {
    if (calls.has(approval.call_id)) beside.set(approval.call_id, [...(beside.get(approval.call_id) ?? []), approval]);
    else if (approval.state === "pending" || approval.created_ms >= (turns[0]?.at_ms ?? Infinity) || (approval.decided_ms ?? 0) >= since_ms - clockSlackMs) loose.push(approval);
  }
  const lines: Line[] = [];
  for (const turn of turns) {
    while (loose[0] !== undefined && loose[0].created_ms < turn.at_ms) lines.push({ approval: loose.shift()! });
    const own = turn.kind === "tool" ? (beside.get(turn.id) ?? []) : [];
    lines.push({ turn, verdict: own.at(-1)?.state ?? null });
    for (const approval of own) lines.push({ approval });
  }
  return [...lines, ...loose.map((approval) => ({ approval }))];
}

const clockSlackMs = 5_000; // a decision carries the server's clock, the opening of the page the browser's

const holdMs = 75_000; // a call is held for 60 s; then the model hears that the question stands

/** The question whose call of this conversation is being held: until it is decided, nothing else can be said. */
export function held(turns: readonly Turn[], approvals: readonly Approval[], now_ms: number): Approval | null {
  const waits = ({ call_id, created_ms }: Approval) => {
    const call = turns.find((turn): turn is ToolTurn => turn.kind === "tool" && turn.id === call_id);
    return call === undefined ? now_ms - created_ms < holdMs : isOpen(call);
  };
  return pending(approvals).find((approval) => isHere(approval) && waits(approval)) ?? null;
}

/** A call that may still be held, whatever the session says about itself. */
export function justAsked(approvals: readonly Approval[], now_ms: number): boolean {
  return pending(approvals).some((approval) => isHere(approval) && now_ms - approval.created_ms < holdMs);
}

function isHere({ session }: Approval): boolean {
  return /^(?:agent:[^:]+:)?main$/.test(session);
}
