// One tenant of the fleet: how it is, what it used, what waits for its people, and what an operator has to know.

import { ClassBadge, GatewayChip } from "../core/badge.tsx";
import { Icon, Words } from "../core/room.tsx";
import { amount, count, dateAndTime, money, relative, sentence, share, shortAmount, t } from "../core/text.ts";
import type { Finding, Step, Tenant } from "../core/wire.ts";
import { gravest, needsAttention, urgency } from "./fleet.ts";
import { now } from "./live.ts";

export function TenantCard({ tenant }: { tenant: Tenant }) {
  return (
    <article class={!needsAttention(tenant) ? "tenant" : urgency(tenant) === 2 ? "tenant attention mild" : "tenant attention"} aria-labelledby={tenant.id}>
      <div class="tenant-row">
        <div class="tenant-name">
          <h2 id={tenant.id}>{tenant.name}</h2>
          <Address url={tenant.url} />
        </div>
        <dl class="tenant-facts">
          <div>
            <dt>{t("fleet.presence")}</dt>
            <dd>
              <span class={`chip presence-${tenant.presence}`}><span class="dot" aria-hidden="true" />{t(`fleet.presence.${tenant.presence}`)}</span>
              {tenant.last_seen_ms !== null && <small title={dateAndTime(tenant.last_seen_ms)}>{t("fleet.last_seen", { ago: relative(Math.min(tenant.last_seen_ms, now.value), now.value) })}</small>}
            </dd>
          </div>
          <div>
            <dt>{t("fleet.gateway")}</dt>
            <dd>
              <GatewayChip gateway={tenant.gateway} />
              <small>{t("fleet.version")} {tenant.agent_version ?? t("fleet.version.unknown")}</small>
            </dd>
          </div>
          <div>
            <dt>{t("fleet.policy")}</dt>
            <dd><Law tenant={tenant} /></dd>
          </div>
          <div>
            <dt>{t("fleet.usage")}</dt>
            <dd><Usage tenant={tenant} /></dd>
          </div>
          <div>
            <dt>{t("fleet.approvals")}</dt>
            <dd><Approvals tenant={tenant} /></dd>
          </div>
        </dl>
      </div>
      <Questions tenant={tenant} />
      {tenant.state !== "ready" && <Steps tenant={tenant} />}
      {tenant.findings.length > 0 && <ul class="findings" aria-label={t("fleet.findings")}>{tenant.findings.map((finding) => <Found key={`${finding.code} ${finding.detail ?? ""}`} finding={finding} />)}</ul>}
    </article>
  );
}

// The address comes from the hub; still, only a web address becomes a link.
function Address({ url }: { url: string }) {
  if (!/^https?:\/\//.test(url)) return <span class="tenant-url">{url}</span>;
  return <a class="tenant-url" href={url} target="_blank" rel="noopener noreferrer">{url.replace(/^https?:\/\//, "").replace(/\/$/, "")}</a>;
}

function Law({ tenant }: { tenant: Tenant }) {
  const policy = tenant.policy;
  if (policy == null) return <span class="soft">{t("fleet.policy.unknown")}</span>;
  const until = policy.expires_ms === null ? undefined : dateAndTime(policy.expires_ms);
  return (
    <>
      <span title={policy.digest}>{policy.version > 0 ? t("fleet.policy.version", { version: String(policy.version) }) : t("fleet.policy.none")}</span>
      <small title={until}>{t(`fleet.policy.state.${policy.state}`, { reason: policy.reason ?? "" })}</small>
    </>
  );
}

function Usage({ tenant }: { tenant: Tenant }) {
  const today = tenant.usage_today;
  if (today.calls === 0) return <span class="soft">{t("usage.none")}</span>;
  const tokens = `${t("usage.input")} ${amount(today.input_tokens)} (${share(today.cached_tokens, today.input_tokens)} ${t("usage.cached")}), ${t("usage.output")} ${amount(today.output_tokens)}, ${t("usage.cost")} ${money(today.cost_nano_usd)}`;
  return (
    <>
      <span>{count("usage.calls", today.calls)}</span>
      <small title={tokens}>
        <span class="unseen">{tokens}</span>
        <span aria-hidden="true">↓ {shortAmount(today.input_tokens)} ↑ {shortAmount(today.output_tokens)}</span>
        {today.partial > 0 && ` · ${count("usage.partial", today.partial)}`}
      </small>
    </>
  );
}

function Approvals({ tenant }: { tenant: Tenant }) {
  const oldest = tenant.approvals.reduce<number | null>((least, { created_ms }) => (least === null || created_ms < least ? created_ms : least), null);
  if (oldest === null) return <span class="soft">{t("fleet.approvals.none")}</span>;
  return (
    <details class="waiting">
      <summary>
        <Icon name="chevron" />
        <span>{count("fleet.approvals.waiting", tenant.approvals.length)}<small>{t("fleet.approvals.oldest", { ago: relative(Math.min(oldest, now.value), now.value) })}</small></span>
      </summary>
      <ul>
        {gravest(tenant.approvals).map((approval) => (
          <li key={approval.id}>
            <ClassBadge class={approval.class} external={approval.external} />
            <span title={dateAndTime(approval.created_ms)}>{relative(Math.min(approval.created_ms, now.value), now.value)}</span>
            <code>{approval.id}</code>
          </li>
        ))}
      </ul>
    </details>
  );
}

/** Whom the rules ask, and how often: whoever is asked all day reads nothing any more. */
function Questions({ tenant }: { tenant: Tenant }) {
  const asks = tenant.asks ?? [];
  const sum = (numbers: readonly number[]) => numbers.reduce((all, number) => all + number, 0);
  const week = sum(asks.flatMap(({ days }) => days));
  if (week === 0) return null;
  return (
    <details class="questions">
      <summary>
        <Icon name="chevron" />
        <span>{t("fleet.asks")}: {count("fleet.asks.today", sum(asks.map(({ days }) => days.at(-1) ?? 0)))} <small>{count("fleet.asks.week", week)}</small></span>
      </summary>
      <div class="asks" tabIndex={0} role="region" aria-label={t("fleet.asks")}>
        <table>
          <thead><tr><th scope="col">{t("fleet.asks.rule")}</th><th scope="col">{t("fleet.asks.days")}</th><th scope="col">{t("fleet.asks.yes")}</th></tr></thead>
          <tbody>
            {asks.map(({ rule, days, yes, no }) => (
              <tr key={rule}>
                <th scope="row">{rule === "own" ? t("fleet.asks.own") : <code>{rule}</code>}</th>
                <td>{days.map((day) => amount(day)).join(" ")}</td>
                <td>{yes + no === 0 ? "–" : share(yes, yes + no)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

function Steps({ tenant }: { tenant: Tenant }) {
  return (
    <div class="setup">
      <p class="setup-title">{t(`fleet.state.${tenant.state}`)}</p>
      <ol class="steps" aria-label={t("fleet.steps")}>
        {tenant.steps.map((step) => (
          <li key={step.name} class={`step step-${step.state}`}>
            <StepMark step={step} />
            <span>{t(`step.${step.name}`)}<small>{t(`step.state.${step.state}`)}</small></span>
          </li>
        ))}
      </ol>
      {tenant.steps.filter((step) => step.error !== null).map((step) => (
        <p class="alert">{t(`step.${step.name}`)}: <Words text={sentence("error.", step.error ?? "") ?? sentence("finding.", step.error ?? "") ?? t("error.step_failed", { code: step.error ?? "" })} /></p>
      ))}
    </div>
  );
}

function StepMark({ step }: { step: Step }) {
  return (
    <span class="step-mark" aria-hidden="true">
      {step.state === "done" ? <Icon name="check" /> : step.state === "failed" ? <Icon name="close" /> : step.state === "running" ? <span class="spinner" /> : null}
    </span>
  );
}

function Found({ finding }: { finding: Finding }) {
  return (
    <li class={`finding finding-${finding.severity}`}>
      <Icon name="warn" />
      <div>
        <p><strong>{t(`fleet.severity.${finding.severity}`)}:</strong> <Words text={sentence("finding.", finding.code) ?? t("finding.unknown", { code: finding.code })} /></p>
        <p class="hint">
          <span title={dateAndTime(finding.since_ms)}>{t("fleet.finding.reported", { ago: relative(Math.min(finding.since_ms, now.value), now.value) })}</span>
          {finding.detail != null && finding.detail !== "" && <> · <code>{finding.detail}</code></>}
        </p>
      </div>
    </li>
  );
}
