// Approvals as the page knows them: merged by id, a decision never undone by an older frame, and placed beside the tool
// call that waits for them. The wire names no call id, so the place follows from tool name and time.

import type { Approval } from "../core/wire.ts";
import type { ToolTurn, Turn } from "./thread.ts";

const order: Record<Approval["state"], number> = { pending: 0, approved: 1, denied: 2, expired: 2, used: 3 };
const mostKept = 200;

export function merged(known: readonly Approval[], news: readonly Approval[]): Approval[] {
  const all = new Map(known.map((approval) => [approval.id, approval]));
  for (const approval of news) {
    const before = all.get(approval.id);
    if (before === undefined || order[approval.state] >= order[before.state]) all.set(approval.id, approval);
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

export type Line = { turn: Turn; waiting: boolean } | { approval: Approval };

/**
 * The conversation with its approvals in place. Decided ones from before the first turn are left to the panel, unless
 * they were decided after `since_ms`: a card that somebody looks at must not vanish, but say what became of it.
 */
export function woven(turns: readonly Turn[], approvals: readonly Approval[], since_ms: number): Line[] {
  const oldestFirst = [...approvals].sort((a, b) => a.created_ms - b.created_ms);
  const beside = new Map<string, Approval[]>();
  const loose: Approval[] = [];
  for (const approval of oldestFirst) {
    const tool = turns.findLast((turn): turn is ToolTurn => turn.kind === "tool" && belongs(approval, turn) && !beside.has(turn.id));
    if (tool !== undefined) beside.set(tool.id, [approval]);
    else if (approval.state === "pending" || approval.created_ms >= (turns[0]?.at_ms ?? Infinity) || (approval.decided_ms ?? 0) >= since_ms - clockSlackMs) loose.push(approval);
  }
  const lines: Line[] = [];
  for (const turn of turns) {
    while (loose[0] !== undefined && loose[0].created_ms < turn.at_ms) lines.push({ approval: loose.shift()! });
    const own = turn.kind === "tool" ? (beside.get(turn.id) ?? []) : [];
    lines.push({ turn, waiting: own.some((approval) => approval.state === "pending") });
    for (const approval of own) lines.push({ approval });
  }
  return [...lines, ...loose.map((approval) => ({ approval }))];
}

const clockSlackMs = 5_000; // a live card carries the browser's clock, an approval the server's

function belongs(approval: Approval, tool: ToolTurn): boolean {
  const named = approval.tool === tool.name || tool.name.endsWith(`__${approval.tool}`) || approval.tool.endsWith(`__${tool.name}`);
  const begun = approval.created_ms >= tool.at_ms - clockSlackMs;
  const before = tool.ended_ms === null || approval.created_ms <= tool.ended_ms + clockSlackMs;
  return named && begun && before;
}
