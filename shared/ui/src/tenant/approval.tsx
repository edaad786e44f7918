// One approval, the same in the conversation and in the panel. The sentence comes from the rule, never from the model;
// the details are the exact arguments. How hard it is to say yes follows the class: one press up to Yellow; hold or confirm
// for Red, and this browser signs; for Critical Red a passkey, or number and password beside the signature. A no is always
// one press. Nothing here ever takes the focus by itself onto a yes.

import { useEffect, useRef, useState } from "preact/hooks";
import { ClassBadge } from "../core/badge.tsx";
import { Icon, plain, Words } from "../core/room.tsx";
import { hasHidden, revealed } from "../core/reveal.ts";
import { dateAndTime, lang, relative, t, timeOfDay } from "../core/text.ts";
import type { Approval } from "../core/wire.ts";
import { assistantName, decide, link, mayDecide, now, person } from "./conversation.ts";
import { allow, here, passkeys } from "./devices.ts";
import { Exact } from "./exact.tsx";
import { open } from "./panel.tsx";
import { pretty, toolTitle } from "./tool.tsx";

const holdMs = 800;
const guardMs = 500; // a double press must not open the second step and take it at once

export function ApprovalCard({ approval, inline = false }: { approval: Approval; inline?: boolean }) {
  const waiting = approval.state === "pending";
  const [open, setOpen] = useState(waiting);
  useEffect(() => {
    if (!waiting) setOpen(false);
  }, [waiting]);
  const card = useRef<HTMLElement>(null);
  // The buttons go with the decision; whoever pressed one should not be thrown to the top of the page.
  const stay = () => (card.current?.closest<HTMLElement>(".inbox") ?? card.current)?.focus({ preventScroll: true });
  return (
    <article ref={card} tabIndex={-1} class={`approval approval-${approval.state} edge-${approval.class}`} aria-label={`${t("approval.title")}: ${plain(approval.sentence[lang.value])}`} data-approval={inline ? approval.id : undefined}>
      <p class="approval-sentence"><Words text={approval.sentence[lang.value]} /></p>
      <p class="approval-where">{assistantName()} · {toolTitle(approval.tool)}{approval.session !== "" && ` · ${t("approval.session", { session: approval.session.replace(/^agent:[^:]+:/, "") })}`}</p>
      <details class="approval-details" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary><Icon name="chevron" />{t("approval.details")}</summary>
        {approval.details.length === 0 ? <p class="hint">{t("approval.no_details")}</p> : <Details approval={approval} />}
      </details>
      <div class="approval-facts">
        <ClassBadge class={approval.class} external={approval.external} unknown={approval.unknown} />
        <span class="approval-rule">{t("approval.rule")} <code>{approval.rule}</code></span>
        <Times approval={approval} />
      </div>
      {waiting ? <Decision approval={approval} onDecided={stay} /> : <Outcome approval={approval} />}
    </article>
  );
}

function Details({ approval }: { approval: Approval }) {
  const texts = approval.details.map((detail) => ({ name: detail.name, text: pretty(detail.value) }));
  return (
    <>
      {approval.tool.endsWith("ask_approval") && <p class="hint">{t("approval.own_words")}</p>}
      {texts.some(({ name, text }) => hasHidden(name + text)) && <p class="hidden-warning"><Icon name="warn" />{t("approval.hidden_warning")}</p>}
      <dl>
        {texts.map(({ name, text }) => (
          <div>
            <dt><code>{revealed(name, "exact")}</code></dt>
            <dd><Exact text={text} /></dd>
          </div>
        ))}
      </dl>
    </>
  );
}

function Times({ approval }: { approval: Approval }) {
  const at_ms = now.value;
  const left_ms = approval.expires_ms - at_ms;
  return (
    <span class="approval-times">
      <span title={dateAndTime(approval.created_ms)}>{t("approval.asked", { ago: relative(Math.min(approval.created_ms, at_ms), at_ms) })}</span>
      {approval.state === "pending" && (
        <span title={dateAndTime(approval.expires_ms)}>
          {" · "}
          {left_ms < 5_000 ? t("approval.expiring") : t("approval.expires", { in: relative(approval.expires_ms, at_ms) })}
        </span>
      )}
    </span>
  );
}

function Outcome({ approval }: { approval: Approval }) {
  const by = approval.decided_by ?? null;
  const whose = by === null ? "" : by === person.value?.id ? t("approval.by_you") : t("approval.by_other");
  const yes = approval.state === "approved" || (approval.state === "used" && approval.outcome !== "failed");
  const signed = approval.signed_by == null ? "" : ` · ${t("approval.signed")}`;
  return (
    <>
      <p class={yes ? "outcome yes" : approval.state === "used" ? "outcome bad" : "outcome no"}>
        <Icon name={yes ? "check" : approval.state === "used" ? "warn" : "close"} />
        <span><strong title={approval.state === "used" && approval.outcome == null ? t("approval.handed_over") : undefined}>{became(approval)}</strong>{whose !== "" && ` · ${whose}`}{signed}</span>
      </p>
      {approval.denial != null && <p class="approval-note">{t("approval.denial", { reason: approval.denial })}</p>}
      {approval.state === "approved" && mayDecide.value && <button type="button" class="quiet" onClick={() => void decide(approval, "cancel")}>{t("approval.take_back")}</button>}
    </>
  );
}

// A grant is handed to its call; only when that has come back is it known to have run.
function became({ state, outcome, scope, expires_ms }: Approval): string {
  if (state === "used" && outcome != null) return t(`approval.outcome.${outcome}`);
  if (state === "approved" && scope === "day") return t("approval.for_a_day", { until: timeOfDay(expires_ms) });
  return t(`approval.state.${state}`);
}

function Decision({ approval, onDecided }: { approval: Approval; onDecided: () => void }) {
  const [error, setError] = useState<string | null>(null);
  const [deciding, setDeciding] = useState(false);
  const [confirming, setConfirming] = useState(false);
  const [reason, setReason] = useState<string | null>(null);
  const connected = link.value.state === "open";
  if (!mayDecide.value) return <p class="approval-note">{t("approval.member_note")}</p>;

  const settle = async (deed: () => Promise<string | null>) => {
    if (deciding || !connected) return;
    setDeciding(true);
    setError(null);
    onDecided();
    const wrong = await deed();
    setDeciding(false);
    setError(wrong);
    if (wrong !== null) setConfirming(false);
  };
  const choose = (decision: "approve" | "approve_day" | "deny") => settle(() => decide(approval, decision, decision === "deny" ? (reason ?? "").trim() : ""));
  const off = deciding || !connected;
  const critical = approval.class === "critical_red";
  const red = approval.class === "red" || approval.unknown;
  const signer = here.value !== null ? "key" : passkeys.value.length > 0 ? "passkey" : null;
  const sign = () => settle(() => allow(approval, signer ?? "key"));
  const alone = (critical || red) && (critical || signer === null);
  return (
    <>
      {(critical || red) && signer === null && <NotSetUp />}
      {!critical && red && signer !== null && <p class="approval-note">{confirming ? t("approval.confirm_hint") : t("approval.hold_hint")}</p>}
      {critical && signer !== null && <Strong approval={approval} off={off} settle={settle} />}
      {!connected && <p class="approval-note">{t("approval.offline_note")}</p>}
      <div class="alert-place" role="alert">{error !== null && <p class="alert"><Words text={error} /></p>}</div>
      {reason !== null && (
        <label class="approval-reason">
          {t("approval.reason")}
          <input type="text" maxLength={longestReason} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
      )}
      <div class={alone ? "verdict alone" : "verdict"}>
        <button type="button" class="secondary" aria-disabled={off} onClick={() => void choose("deny")}>{t("approval.deny")}</button>
        {alone ? null : !red ? (
          <button type="button" class="secondary allow" aria-disabled={off} onClick={() => void choose("approve")}>{t("approval.allow")}</button>
        ) : confirming ? (
          <ConfirmButton off={off} onConfirm={() => void sign()} onBack={() => setConfirming(false)} />
        ) : (
          <HoldButton off={off} onHeld={() => void sign()} onPressed={() => setConfirming(true)} />
        )}
      </div>
      <div class="approval-more">
        {reason === null && <button type="button" class="quiet" aria-disabled={off} onClick={() => setReason("")}>{t("approval.give_reason")}</button>}
        {!critical && !red && <button type="button" class="quiet" aria-disabled={off} title={t("approval.day_hint")} onClick={() => void choose("approve_day")}>{t("approval.day")}</button>}
      </div>
    </>
  );
}

const longestReason = 300;

function NotSetUp() {
  return (
    <div class="approval-note">
      <p>{t("approval.not_set_up")}</p>
      <button type="button" class="secondary" onClick={() => open("devices")}>{t("devices.set_up.submit")}</button>
    </div>
  );
}

/** The most dangerous calls: a passkey that knows its person, or this browser's key with number and password. */
function Strong({ approval, off, settle }: { approval: Approval; off: boolean; settle: (deed: () => Promise<string | null>) => Promise<void> }) {
  const [number, setNumber] = useState("");
  const [password, setPassword] = useState("");
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    if (number.trim() === "" || password === "") return;
    void settle(async () => {
      const wrong = await allow(approval, "key", number.trim(), password);
      setPassword("");
      return wrong;
    });
  };
  return (
    <div class="approval-strong">
      <p class="approval-note">{t("approval.critical_note")}</p>
      {passkeys.value.length > 0 && <button type="button" class="secondary allow" aria-disabled={off} onClick={() => void settle(() => allow(approval, "passkey"))}>{t("approval.allow_passkey")}</button>}
      {here.value !== null && (
        <form onSubmit={submit}>
          <label>
            <span>{t("approval.number")} <strong class="approval-number">{approval.number}</strong></span>
            <input type="text" inputMode="numeric" autocomplete="off" maxLength={2} value={number} onInput={(event) => setNumber(event.currentTarget.value)} />
          </label>
          <label>
            <span>{t("approval.password")}</span>
            <input type="password" autocomplete="current-password" value={password} onInput={(event) => setPassword(event.currentTarget.value)} />
          </label>
          <button type="submit" class="secondary allow" aria-disabled={off || number.trim() === "" || password === ""}>{t("approval.allow_key")}</button>
        </form>
      )}
    </div>
  );
}

/** Held long enough it decides; pressed shortly, or by keyboard, it only asks once more. */
function HoldButton({ off, onHeld, onPressed }: { off: boolean; onHeld: () => void; onPressed: () => void }) {
  const [holding, setHolding] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const held = useRef(false);
  const release = () => {
    clearTimeout(timer.current);
    setHolding(false);
  };
  const press = (event: PointerEvent) => {
    if (off || event.button !== 0) return;
    held.current = false;
    setHolding(true);
    timer.current = setTimeout(() => {
      held.current = true;
      setHolding(false);
      onHeld();
    }, holdMs);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <button
      type="button" class={holding ? "secondary allow hold holding" : "secondary allow hold"} aria-disabled={off}
      onPointerDown={press} onPointerUp={release} onPointerLeave={release} onPointerCancel={release} onContextMenu={(event) => event.preventDefault()}
      onClick={() => { if (!off && !held.current) onPressed(); held.current = false; }}
    >
      <span>{t("approval.hold")}</span>
    </button>
  );
}

function ConfirmButton({ off, onConfirm, onBack }: { off: boolean; onConfirm: () => void; onBack: () => void }) {
  const button = useRef<HTMLButtonElement>(null);
  const since = useRef(performance.now());
  // The focus was on the button that this one replaces; without this it would fall back to the top of the page.
  useEffect(() => button.current?.focus({ preventScroll: true }), []);
  return (
    <button
      ref={button} type="button" class="secondary allow confirm" aria-disabled={off}
      onClick={() => { if (performance.now() - since.current > guardMs) onConfirm(); }}
      onKeyDown={(event) => { if (event.key === "Escape") { event.preventDefault(); onBack(); } }}
    >
      {t("approval.confirm")}
    </button>
  );
}
