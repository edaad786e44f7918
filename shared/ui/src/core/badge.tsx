// The class of a call and the state of a gateway, as small marks that say it in words and in shape, not by colour alone.

import type { Class, Gateway } from "./wire.ts";
import { t } from "./text.ts";

export function ClassBadge({ class: name, external, unknown = false }: { class: Class; external: boolean; unknown?: boolean }) {
  return (
    <span class="badges">
      <span class={`badge class-${name}`} title={t(`class.means.${name}`)}>
        <ClassShape class={name} />
        <span><span class="unseen">{t("class.label", { name: "" })}</span>{t(`class.${name}`)}</span>
      </span>
      {external && <span class="badge outline" title={t("class.external.means")}>{t("class.external")}</span>}
      {unknown && <span class="badge outline" title={t("class.unknown.means")}>{t("class.unknown")}</span>}
    </span>
  );
}

const outlines: Record<Class, string> = {
  green: "M6 1a5 5 0 1 0 0 10A5 5 0 0 0 6 1z",
  yellow: "M6 .8l5.6 10H.4z",
  red: "M3.6.6h4.8l3 3v4.8l-3 3H3.6l-3-3V3.6z",
  critical_red: "M3.6.6h4.8l3 3v4.8l-3 3H3.6l-3-3V3.6zM5.2 2.6v4.2h1.6V2.6zM5.2 7.8v1.6h1.6V7.8z",
};

function ClassShape({ class: name }: { class: Class }) {
  return (
    <svg class="shape" viewBox="0 0 12 12" aria-hidden="true" focusable="false">
      <path d={outlines[name]} fill-rule="evenodd" />
    </svg>
  );
}

export function GatewayChip({ gateway }: { gateway: Gateway | null }) {
  const state = gateway?.state;
  const words = state === undefined ? t("gateway.unknown") : t(`gateway.${state}`);
  return (
    <span class={`chip gateway-${state ?? "unknown"}`}>
      <span class="dot" aria-hidden="true" />
      <span><span class="unseen">{t("gateway.label", { state: "" })}</span>{words}</span>
    </span>
  );
}
