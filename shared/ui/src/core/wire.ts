// What the services say to the pages: the words of docs/WIRE.md, sections 1 to 3, as types. Nothing is decided here.

import type { Lang } from "./preference.ts";

export type Class = "green" | "yellow" | "red" | "critical_red";
export type Role = "owner" | "approver" | "member";
export type GatewayState = "absent" | "starting" | "ready" | "down" | "ungated";

export interface Person {
  id: string;
  name: string;
  role: Role;
  lang: Lang;
}

export interface Assistant {
  id: string;
  name: string;
}

export interface Gateway {
  state: GatewayState;
  reason: string | null;
}

export interface Usage {
  day_ms: number;
  calls: number;
  partial: number;
  estimated: number;
  input_tokens: number;
  cached_tokens: number;
  cache_write_tokens: number;
  cache_write_long_tokens: number;
  output_tokens: number;
  reasoning_tokens: number;
  tool_requests: number;
  cost_nano_usd: number;
  unpriced: number;
}

export interface Approval {
  id: string;
  assistant: string;
  session: string;
  /** The tool call it belongs to, as events and history name it; the newest when the call was proposed again. */
  call_id: string;
  tool: string;
  class: Class;
  external: boolean;
  unknown: boolean;
  rule: string;
  sentence: Record<Lang, string>;
  details: { name: string; value: unknown }[];
  digest: string;
  /** Read and typed before the most dangerous calls. */
  number: string;
  created_ms: number;
  expires_ms: number;
  state: "pending" | "approved" | "denied" | "expired" | "used" | "superseded" | "cancelled";
  scope: "once" | "day";
  decided_ms?: number | null;
  decided_by?: string | null;
  /** The device that signed the decision. */
  signed_by?: string | null;
  /** Why a person refused. */
  denial?: string | null;
  /** How the allowed call ended; absent until it has come back. */
  outcome?: "ok" | "failed" | null;
}

export interface Device {
  id: string;
  person: string;
  name: string;
  kind: "key" | "passkey";
  credential?: string | null;
  added_ms: number;
  added_by: string;
  used_ms?: number | null;
}

/** Somebody without a device asks for a new one, and everybody can see it before it is one. */
export interface Reset {
  person: string;
  asked_ms: number;
  ripe_ms: number;
}

/** An assistant that somebody has stopped. */
export interface Pause {
  assistant: string;
  since_ms: number;
  by: string;
  approval?: string | null;
}

export type Level = "L1" | "L2" | "L3";

/** One thing that a person wants to be otherwise. */
export type Change = { kind: "level"; to: Level } | { kind: "ask_red"; ask: boolean } | { kind: "gate"; tool: string; open: boolean };

/** What holds for an assistant, what the company says by itself, and how far it lets the tenant go. */
export interface Standing {
  id: string;
  name: string;
  level: Level;
  level_company: Level;
  level_most: Level;
  ask_red: boolean;
  always_asks_red: boolean;
  gates: { tool: string; open: boolean; company: boolean; held: boolean }[];
  may_lower: boolean;
  may_raise: boolean;
  choices: { change: Change; set_ms: number; set_by: string }[];
}

/** What has to stand behind a change, and what it would have done to the week's calls. */
export interface Preview {
  weighed: "at_once" | "red" | "critical_red";
  effect: { calls: number; asks_before: number; asks_after: number; not_whole: number };
}

export interface Hello {
  person: Person;
  assistants: Assistant[];
  gateway: Gateway;
  approvals: Approval[];
  usage: Usage;
  paused?: Pause[];
}

export interface Part {
  type: string;
  text?: string;
  id?: string;
  name?: string;
  arguments?: unknown;
}

export interface ChatEvent {
  runId: string;
  sessionKey?: string;
  seq?: number;
  state: "status" | "delta" | "final" | "error" | "aborted";
  phase?: string;
  deltaText?: string;
  message?: { role?: string; content?: string | Part[] };
  errorMessage?: string;
  errorCode?: string;
}

export interface ToolEvent {
  runId: string;
  stream: string;
  data: {
    phase: "start" | "update" | "result";
    name: string;
    toolCallId: string;
    args?: unknown;
    partialResult?: unknown;
    result?: unknown;
    isError?: boolean;
  };
}

export interface HistoryMessage {
  role: string;
  content?: string | Part[];
  timestamp?: number;
  idempotencyKey?: string;
  stopReason?: string;
  toolCallId?: string;
  toolName?: string;
  details?: unknown;
  isError?: boolean;
  __openclaw?: { id?: string; seq?: number; runId?: string };
}

export type StepName = "allocate" | "start" | "enrol" | "gateway";

export interface Step {
  name: StepName;
  state: "waiting" | "running" | "done" | "failed";
  error: string | null;
}

export interface Finding {
  code: string;
  severity: "warn" | "fail";
  since_ms: number;
  detail?: string | null;
}

export interface Policy {
  state: "default" | "active" | "expired" | "refused";
  version: number;
  digest: string;
  expires_ms: number | null;
  keys: number;
  reason: string | null;
}

/** How often one rule asked on each of the last seven days, today last, and what became of it. */
export interface Asks {
  rule: string;
  days: number[];
  yes: number;
  no: number;
}

export interface Tenant {
  id: string;
  name: string;
  url: string;
  state: "provisioning" | "ready" | "needs_operator";
  steps: Step[];
  presence: "never" | "online" | "late" | "offline";
  last_seen_ms: number | null;
  agent_version: string | null;
  gateway: Gateway;
  /** Absent until the agent has told what it enforces. */
  policy?: Policy | null;
  usage_today: Usage;
  approvals: { id: string; class: Class; external: boolean; created_ms: number }[];
  /** Those that asked most first. */
  asks?: Asks[];
  findings: Finding[];
}

export interface Fleet {
  revision: number;
  now_ms: number;
  tenants: Tenant[];
}

/** What is done in a first hour, as the page offers it. */
export interface Template {
  id: string;
  title: Record<Lang, string>;
  about: Record<Lang, string>;
  steps: Record<Lang, string>[];
}

/** A template under way, or the last one. */
export interface TemplateRun {
  template: string;
  title: Record<Lang, string>;
  started_ms: number;
  started_by: string;
  ended_ms: number | null;
  steps: { title: Record<Lang, string>; state: "waiting" | "running" | "done" | "skipped" | "failed"; attempt: number; since_ms: number; why: string | null }[];
}
