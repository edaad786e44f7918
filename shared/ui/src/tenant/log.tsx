// The conversation: turns, tool cards and approvals in the order in which they happened. It follows the newest line as
// long as the person is near the bottom; whoever has scrolled up is left in peace and offered a way down.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Mark } from "../core/frame.tsx";
import { Icon, Words, type IconName } from "../core/room.tsx";
import { CopyButton, Prose } from "../core/prose.tsx";
import { revealed } from "../core/reveal.ts";
import { explain, sentence, t, timeOfDay, dateAndTime, type Key } from "../core/text.ts";
import { ApprovalCard } from "./approval.tsx";
import { assistantName, busy, conversation, discard, gateway, historyRead, items, lines, mayDecide, now, question, retry, running, send } from "./conversation.ts";
import { isOpen, still, type AnswerTurn, type NoteTurn, type UserTurn } from "./thread.ts";
import { open } from "./panel.tsx";
import { ToolCard } from "./tool.tsx";

const nearPx = 80;
const patienceMs = 20_000;

export function Log() {
  const scroller = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const [behind, setBehind] = useState(false);
  const shown = lines.value;

  useLayoutEffect(() => {
    const place = scroller.current;
    if (place === null || shown.length === 0) return;
    if (following.current) place.scrollTop = place.scrollHeight;
    else setBehind(true);
  }, [shown]);
  // A card that opens, a window that turns: the newest line stays in sight for those who were following.
  useEffect(() => {
    const place = scroller.current;
    const inner = place?.firstElementChild;
    if (place === null || inner == null) return;
    const watcher = new ResizeObserver(() => {
      if (following.current && lines.peek().length > 0) place.scrollTop = place.scrollHeight;
    });
    watcher.observe(inner);
    watcher.observe(place);
    return () => watcher.disconnect();
  }, []);
  const scrolled = () => {
    const place = scroller.current!;
    following.current = place.scrollHeight - place.scrollTop - place.clientHeight <= nearPx;
    if (following.current) setBehind(false);
  };
  const down = () => {
    const place = scroller.current!;
    following.current = true;
    place.scrollTo({ top: place.scrollHeight, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };
  return (
    <div class="log-frame">
      <div class="log" ref={scroller} onScroll={scrolled} tabIndex={0} role="region" aria-label={t("chat.log")}>
        <div class="log-inner">
          {shown.length === 0 ? <Nothing /> : (
            <ol class="turns" aria-busy={busy.value}>
              {shown.map((line) => {
                if ("approval" in line) return <li key={line.approval.id} class="turn"><ApprovalCard approval={line.approval} inline /></li>;
                const { turn } = line;
                if (turn.kind === "user") return <li key={`u:${turn.id}`} class="turn user"><Said turn={turn} /></li>;
                if (turn.kind === "note") return <li key={`n:${turn.id}`} class="turn"><Note turn={turn} /></li>;
                if (turn.kind === "tool") return <li key={`t:${turn.id}`} class="turn"><ToolCard turn={turn} verdict={line.verdict} /></li>;
                return <li key={`a:${turn.id}`} class="turn answer"><Answer turn={turn} /></li>;
              })}
              <Working />
            </ol>
          )}
        </div>
      </div>
      {behind && <button type="button" class="newer" onClick={down}><Icon name="down" />{t("chat.newer")}</button>}
    </div>
  );
}

const starters: readonly { text: Key; hint: Key; icon: IconName }[] = [
  { text: "starter.hello", hint: "starter.hello.hint", icon: "spark" },
  { text: "starter.read", hint: "starter.read.hint", icon: "file" },
  { text: "starter.exec", hint: "starter.exec.hint", icon: "terminal" },
];

function Nothing() {
  const state = gateway.value?.state;
  if (!historyRead.value && (state === undefined || state === "ready")) return <p class="empty-wait">{t("chat.loading")}</p>;
  return (
    <div class="empty">
      <Mark />
      <h2>{t("chat.empty.title")}</h2>
      <p>{t("chat.empty.text")}</p>
      {(state === "ready" || state === "starting") && (
        <ul class="starters" aria-label={t("chat.empty.starters")}>
          {starters.map((starter) => (
            <li>
              <button type="button" class="starter" onClick={() => send(t(starter.text))}>
                <Icon name={starter.icon} />
                <span><span class="starter-text">{t(starter.text)}</span><span class="starter-hint">{t(starter.hint)}</span></span>
              </button>
            </li>
          ))}
          {mayDecide.value && (
            <li>
              <button type="button" class="starter" onClick={() => open("templates")}>
                <Icon name="check" />
                <span><span class="starter-text">{t("template.starter")}</span><span class="starter-hint">{t("template.starter.hint")}</span></span>
              </button>
            </li>
          )}
        </ul>
      )}
    </div>
  );
}

function Said({ turn }: { turn: UserTurn }) {
  const item = items.value.find((item) => item.key === turn.id);
  const waiting = item?.state === "sending" && gateway.value?.state !== "ready";
  return (
    <article aria-label={t("chat.you")}>
      <p class="bubble">{revealed(turn.text, "prose")}</p>
      <p class="under">
        <time dateTime={new Date(turn.at_ms).toISOString()} title={dateAndTime(turn.at_ms)}>{timeOfDay(turn.at_ms)}</time>
        {item !== undefined && item.state !== "failed" && <span>{waiting ? t("chat.delivery.waiting") : t(`chat.delivery.${item.state}`)}</span>}
        {item?.state === "failed" && <strong class="bad">{t("chat.delivery.failed")}</strong>}
      </p>
      {item?.state === "failed" && (
        <div class="failed" role="alert">
          <p><Words text={explain(item.error ?? "unknown")} /></p>
          <button type="button" class="secondary" onClick={() => retry(turn.id)}>{t("app.retry")}</button>
          <button type="button" class="quiet" onClick={() => discard(turn.id)}>{t("chat.discard")}</button>
        </div>
      )}
    </article>
  );
}

function Note({ turn }: { turn: NoteTurn }) {
  return (
    <details class="note-turn">
      <summary><Icon name="chevron" /><span>{t(`chat.note.${turn.about}`)}</span></summary>
      <pre>{revealed(turn.text, "exact")}</pre>
    </details>
  );
}

function Answer({ turn }: { turn: AnswerTurn }) {
  const open = turn.state === "open";
  return (
    <article aria-label={assistantName()} aria-busy={open}>
      {turn.text !== "" && <Prose text={turn.text} open={open} />}
      {turn.state === "failed" && <Failure error={turn.error ?? ""} code={turn.code} />}
      {!open && (
        <p class="under">
          <time dateTime={new Date(turn.at_ms).toISOString()} title={dateAndTime(turn.at_ms)}>{timeOfDay(turn.at_ms)}</time>
          {turn.state === "stopped" && <strong>{t("chat.stopped")}</strong>}
          {turn.text !== "" && <CopyButton text={turn.text} label={t("chat.copy_answer")} />}
        </p>
      )}
    </article>
  );
}

// Refusals of the gate carry their code inside the foreign sentence; the person should read ours.
const ours = /\b(session_frozen|plugin_not_loaded|canary_failed|canary_unanswered|network_open|provider_key_missing|budget_call|budget_run|budget_day|budget_month|budget_tenant_day|budget_tenant_month|provider_disabled|purpose_unknown|purpose_unanswered|provider_unreachable|trace_unannounced|provider_unknown|route_unknown|proxy_token_wrong|encoding_unsupported|secret_blocked|vault_unscreened|body_too_large)\b/;

function Failure({ error, code: named }: { error: string; code: string | null }) {
  const code = named ?? ours.exec(error)?.[1];
  const known = code === undefined ? null : sentence("error.", code);
  const own = known ?? (named !== null ? error : "");
  return (
    <div class="failed">
      <p><strong>{t("chat.answer_failed")}</strong> <Words text={own} /></p>
      {error !== "" && named === null && (
        <details>
          <summary><Icon name="chevron" />{t("chat.answer_failed.details")}</summary>
          <pre>{revealed(error, "exact")}</pre>
        </details>
      )}
    </div>
  );
}

function Working() {
  if (!busy.value || question.value !== null) return null;
  const run = running.value;
  const { turns, phase } = conversation.value;
  const last = run === null ? turns.at(-1) : turns.findLast((turn) => turn.runId === run);
  if (last !== undefined && (last.kind === "answer" ? last.state === "open" : isOpen(last))) return null;
  const since_ms = run === null ? null : still(conversation.value, run);
  const silent = since_ms !== null && now.value - since_ms >= patienceMs;
  return (
    <li class="turn working">
      <span class="pulse" aria-hidden="true" />
      <span>
        {(phase !== null ? sentence("chat.phase.", phase) : null) ?? t("chat.thinking")}
        {silent && <small>{t("chat.silent")}</small>}
      </span>
    </li>
  );
}
