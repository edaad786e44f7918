// A tool call as a card: what, in one line, and how it stands; arguments and result on request. Whatever a tool or a
// model wrote is shown exactly, with hidden characters made visible.

import { useState } from "preact/hooks";
import { Icon, type IconName } from "../core/room.tsx";
import { sentence, t } from "../core/text.ts";
import { Exact } from "./exact.tsx";
import { now } from "./conversation.ts";
import { textOf, type ToolTurn } from "./thread.ts";
import type { Approval, Part } from "../core/wire.ts";
import { revealed } from "../core/reveal.ts";

const icons: Record<string, IconName> = { exec: "terminal", process: "terminal", read: "file", write: "file", edit: "file", apply_patch: "file", web_search: "globe", web_fetch: "globe", http_request: "globe", browser: "globe" };

type State = ToolTurn["state"] | "waiting";

// What a person decided stands above how the call came back: a refused one is no failure and was not stopped.
function stateOf(turn: ToolTurn, verdict: Approval["state"] | null): State {
  if (verdict === "pending") return "waiting";
  if (verdict === "denied" || verdict === "expired" || verdict === "cancelled") return "refused";
  if (verdict === "approved" && turn.ended_ms !== null) return "queued"; // it came back before the yes and is tried again
  return turn.state;
}

export function ToolCard({ turn, verdict }: { turn: ToolTurn; verdict: Approval["state"] | null }) {
  const [open, setOpen] = useState(false);
  const bare = bareName(turn.name);
  const state = stateOf(turn, verdict);
  const took = turn.ended_ms === null || (state !== "done" && state !== "failed") ? null : turn.ended_ms - turn.at_ms;
  const longRunning = state === "running" && now.value - turn.at_ms > 3_000 ? now.value - turn.at_ms : null;
  return (
    <article class={`tool tool-${state}`} aria-label={toolTitle(turn.name)}>
      <button type="button" class="tool-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name={icons[bare] ?? "tool"} />
        <span class="tool-what">
          <span class="tool-name">{toolTitle(turn.name)}</span>
          <span class="tool-line">{oneLine(turn.args)}</span>
        </span>
        <span class="tool-state">
          <StateMark state={state} />
          {t(`tool.state.${state}`)}
          {(longRunning ?? took ?? 0) >= 1_000 && <span class="tool-time"> · {Math.round((longRunning ?? took ?? 0) / 1_000)} s</span>}
        </span>
        <Icon name="chevron" />
      </button>
      {open && (
        <div class="tool-body">
          <p class="tool-raw">{turn.name}</p>
          <p class="tool-label">{t("tool.arguments")}</p>
          <Exact text={pretty(turn.args)} />
          <p class="tool-label">{t("tool.result")}</p>
          {turn.result === null ? <p class="hint">{t("tool.no_result")}</p> : <Exact text={resultText(turn.result)} />}
        </div>
      )}
    </article>
  );
}

function StateMark({ state }: { state: State }) {
  if (state === "running") return <span class="spinner" aria-hidden="true" />;
  if (state === "done") return <Icon name="check" />;
  if (state === "failed" || state === "refused") return <Icon name="close" />;
  return <span class="dot" aria-hidden="true" />;
}

export function toolTitle(name: string): string {
  return sentence("tool.name.", bareName(name)) ?? name;
}

function bareName(name: string): string {
  return name.split("__").at(-1)?.replace(/_file$/, "") ?? name;
}

const telling = ["command", "path", "file_path", "file", "url", "query", "to", "message"];

function oneLine(args: unknown): string {
  if (args === null || typeof args !== "object") return "";
  const fields = args as Record<string, unknown>;
  const name = telling.find((name) => typeof fields[name] === "string");
  const text = name === undefined ? Object.values(fields).find((value) => typeof value === "string") : fields[name];
  return typeof text === "string" ? revealed(text.replace(/\s+/g, " ").slice(0, 200), "exact") : "";
}

export function pretty(value: unknown): string {
  if (typeof value === "string") return value;
  return value === null || value === undefined ? "" : JSON.stringify(value, null, 2);
}

function resultText(result: unknown): string {
  const content = (result as { content?: string | Part[] } | null)?.content;
  const text = textOf(content);
  return text !== "" ? text : pretty(result);
}
