// The operator's page: the numbers, the filter and the list of tenants, live. It shows ids, classes and ages of
// approvals, never their content: the hub does not have it.

import { computed, signal } from "@preact/signals";
import { post } from "../core/door.ts";
import { SkipLink, Switches, Wordmark } from "../core/frame.tsx";
import { Icon, startRoom } from "../core/room.tsx";
import { amount, sentence, t, timeOfDay, type Key } from "../core/text.ts";
import type { Tenant } from "../core/wire.ts";
import { matches, needsAttention, ordered, totals, type Totals } from "./fleet.ts";
import { connected, fleet, lastSeen, lost, now, startLive } from "./live.ts";
import { TenantCard } from "./tenant.tsx";

const patienceMs = 2_000;

const query = signal(new URLSearchParams(location.search).get("q") ?? "");

function search(next: string): void {
  query.value = next;
  const url = new URL(location.href);
  if (next === "") url.searchParams.delete("q");
  else url.searchParams.set("q", next);
  history.replaceState(null, "", url);
}

const tenants = computed(() => ordered(fleet.value?.tenants ?? []));
const shown = computed(() => (query.value.trim() === "" ? tenants.value : tenants.value.filter((tenant) => matches(words(tenant), query.value.trim()))));

function words(tenant: Tenant): string[] {
  return [
    tenant.name, tenant.id, tenant.url, tenant.agent_version ?? "", t(`fleet.state.${tenant.state}`), t(`fleet.presence.${tenant.presence}`), t(`gateway.${tenant.gateway.state}`),
    ...(needsAttention(tenant) ? [t("fleet.count.attention")] : []),
    ...tenant.findings.flatMap((finding) => [finding.code, sentence("finding.", finding.code) ?? "", finding.detail ?? ""]),
    ...tenant.approvals.map((approval) => t(`class.${approval.class}`)),
  ];
}

startRoom(function Dashboard() {
  document.title = t("fleet.page_title");
  return (
    <>
      <SkipLink />
      <header class="top">
        <Wordmark />
        <Liveness />
        <Switches />
        <button type="button" class="quiet with-icon" onClick={() => void logOut()} aria-label={t("app.log_out")}>
          <Icon name="out" />
          <span class="wide-only">{t("app.log_out")}</span>
        </button>
      </header>
      <Stale />
      <main id="main" class="fleet" tabIndex={-1}>
        <h1>{t("fleet.title")}</h1>
        {fleet.value === null ? <p class="hint">{t("app.loading")}</p> : fleet.value.tenants.length === 0 ? <NoTenants /> : <Tenants />}
      </main>
    </>
  );
});

function Liveness() {
  const live = connected.value;
  return (
    <span class={live ? "chip presence-online" : "chip"} role="status">
      <span class="dot" aria-hidden="true" />
      {live ? t("fleet.live") : t("fleet.connecting")}
    </span>
  );
}

function Stale() {
  now.value;
  const since = lost.value?.since_ms;
  if (since === undefined || Date.now() - since < patienceMs) return null;
  return (
    <div class="banner" role="alert">
      <Icon name="warn" />
      <p>{lastSeen() === 0 ? t("error.network") : t("fleet.stale", { time: timeOfDay(lastSeen()) })}</p>
    </div>
  );
}

const numbers: readonly [keyof Totals, Key][] = [
  ["attention", "fleet.count.attention"],
  ["tenants", "fleet.count.tenants"],
  ["online", "fleet.count.online"],
  ["approvals", "fleet.count.approvals"],
  ["calls", "fleet.count.calls"],
];

function Tenants() {
  const sums = totals(fleet.value!);
  return (
    <>
      <dl class="numbers">
        {numbers.map(([name, label]) => (
          <div class={name === "attention" && sums.attention > 0 ? "number bad" : "number"}>
            <dt>{t(label)}</dt>
            <dd>{amount(sums[name])}</dd>
          </div>
        ))}
      </dl>
      <div class="filter" role="search">
        <input type="search" value={query.value} aria-label={t("fleet.filter")} placeholder={t("fleet.filter.placeholder")} spellcheck={false} onInput={(event) => search(event.currentTarget.value)} />
      </div>
      {shown.value.length === 0 ? (
        <p class="no-match" role="status">
          {t("fleet.no_match", { query: query.value })} <button type="button" class="secondary" onClick={() => search("")}>{t("fleet.filter.clear")}</button>
        </p>
      ) : (
        <ul class="tenants" aria-label={t("fleet.list")}>
          {shown.value.map((tenant) => <li key={tenant.id}><TenantCard tenant={tenant} /></li>)}
        </ul>
      )}
    </>
  );
}

function NoTenants() {
  return (
    <div class="empty">
      <h2>{t("fleet.empty.title")}</h2>
      <p>{t("fleet.empty.text")}</p>
    </div>
  );
}

async function logOut(): Promise<void> {
  await post("/auth/logout", {});
  location.replace("/login");
}

startLive();
