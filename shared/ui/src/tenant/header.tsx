// The header of the tenant page: who the assistant is, how it is, what it used today, and the way to the approvals.

import { GatewayChip } from "../core/badge.tsx";
import { Mark, Switches } from "../core/frame.tsx";
import { Icon, Menu, type IconName } from "../core/room.tsx";
import { amount, count, money, share, shortAmount, t } from "../core/text.ts";
import { cutOff } from "./banner.tsx";
import { assistantName, gateway, logOut, pending, person, usage } from "./conversation.ts";
import { panel, toggle, type PanelName } from "./panel.tsx";

export function Header() {
  return (
    <header class="top">
      <div class="who">
        <Mark />
        <div class="who-text">
          <span class="who-name">{assistantName()}</span>
          {/* What was last heard is not what is, once nothing is heard any more. */}
          <GatewayChip gateway={cutOff.value ? null : gateway.value} />
        </div>
      </div>
      <InboxButton />
      <Menu>
        <UsageToday />
        <Switches />
        <PanelButton name="templates" icon="spark" words={t("template.button")} />
        <PanelButton name="levels" icon="gauge" words={t("levels.button")} />
        <PanelButton name="devices" icon="key" words={t("devices.title")} />
        <button type="button" class="quiet with-icon" onClick={() => void logOut()}>
          <Icon name="out" />
          <span>{t("app.log_out")}</span>
        </button>
        {person.value !== null && <span class="person">{person.value.name} · {t(`role.${person.value.role}`)}</span>}
      </Menu>
    </header>
  );
}

function PanelButton({ name, icon, words }: { name: PanelName; icon: IconName; words: string }) {
  return (
    <button type="button" id={`${name}-button`} class="quiet with-icon" aria-expanded={panel.value === name} aria-controls={name} onClick={() => toggle(name)}>
      <Icon name={icon} />
      <span>{words}</span>
    </button>
  );
}

function InboxButton() {
  const waiting = pending.value.length;
  return (
    <button type="button" id="inbox-button" class={waiting > 0 ? "inbox-button some" : "inbox-button"} aria-expanded={panel.value === "inbox"} aria-controls="inbox" onClick={() => toggle("inbox")}>
      <Icon name="bell" />
      <span class="inbox-word">{t("inbox.title")}</span>
      {waiting > 0 && <span class="count">{waiting}</span>}
      {waiting > 0 && <span class="unseen">{t("inbox.waiting")}</span>}
    </button>
  );
}

function UsageToday() {
  const today = usage.value;
  if (today === null) return null;
  const tokens = today.input_tokens + today.output_tokens;
  const unsure = `${today.partial > 0 ? ` · ${count("usage.partial", today.partial)}` : ""}${today.estimated > 0 ? ` · ${count("usage.estimated", today.estimated)}` : ""}`;
  const detail = `${t("usage.input")}: ${amount(today.input_tokens)} (${share(today.cached_tokens, today.input_tokens)} ${t("usage.cached")}) · ${t("usage.output")}: ${amount(today.output_tokens)} · ${t("usage.cost")}: ${money(today.cost_nano_usd)}${unsure}`;
  return (
    <p class="usage" title={`${t("usage.title")}\n${detail}`}>
      <span class="usage-label">{t("usage.today")}</span>{" "}
      {today.calls === 0 ? t("usage.none") : `${count("usage.calls", today.calls)} · ${count("usage.tokens", tokens, { count: shortAmount(tokens) })} · ${money(today.cost_nano_usd)}`}
    </p>
  );
}
