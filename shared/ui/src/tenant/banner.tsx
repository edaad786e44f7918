// Lines under the header that say what stands in the way: a lost connection, or an assistant that is not ready.

import { computed } from "@preact/signals";
import { Icon, Words } from "../core/room.tsx";
import { dateAndTime, relative, sentence, t } from "../core/text.ts";
import { gateway, gatewaySince, link, now, retryNow } from "./conversation.ts";
import { cancelReset, listed } from "./devices.ts";

const patienceMs = 2_000; // shorter breaks mend themselves before a person could read about them
const longStartMs = 20_000;

export const cutOff = computed(() => link.value.state !== "open" && now.value - link.value.since_ms >= patienceMs);

export function Banners() {
  return (
    <div class="banners">
      {cutOff.value && <LostBanner />}
      <GatewayBanner />
      <ResetBanners />
    </div>
  );
}

function LostBanner() {
  const { retry_ms } = link.value;
  const secs = retry_ms === null ? 0 : Math.max(0, Math.ceil((retry_ms - now.value) / 1_000));
  return (
    <div class="banner" role="status">
      <Icon name="warn" />
      {/* The seconds change all the time; read aloud they would never stop. */}
      <p aria-live="off">{retry_ms === null ? t("link.connecting") : t("link.lost", { secs })}</p>
      <button type="button" onClick={retryNow}>{t("app.retry_now")}</button>
    </div>
  );
}

/** Somebody asks for a new device without an old one. Whoever knows better has three days to say so. */
function ResetBanners() {
  return (
    <>
      {listed.value.resets.map((reset) => (
        <div class="banner bad" role="status" key={reset.person}>
          <Icon name="warn" />
          <p>{t("devices.reset.banner", { name: listed.value.persons.find(({ id }) => id === reset.person)?.name ?? "", at: dateAndTime(reset.ripe_ms) })}</p>
          <button type="button" onClick={() => void cancelReset(reset)}>{t("devices.reset.cancel")}</button>
        </div>
      ))}
    </>
  );
}

function GatewayBanner() {
  const state = gateway.value;
  if (state === null || state.state === "ready") return null;
  const since_ms = now.value - gatewaySince.value;
  const long = state.state === "starting" && since_ms >= longStartMs;
  // In steps of five seconds: it is read aloud each time it changes.
  const words = long ? t("gateway.banner.starting_long", { since: relative(0, since_ms - (since_ms % 5_000)) }) : state.state === "ungated" ? ungated(state.reason) : t(`gateway.banner.${state.state}`);
  const told = state.state !== "ungated" && state.reason !== null && !implied.has(state.reason) ? sentence("finding.", state.reason) : null;
  return (
    <div class={state.state === "ungated" || state.state === "down" ? "banner bad" : "banner"} role="status">
      {state.state === "starting" ? <span class="spinner" aria-hidden="true" /> : <Icon name="warn" />}
      <p><Words text={told === null ? words : `${words} ${told}`} /></p>
    </div>
  );
}

// Reasons that the banner's own words already say.
const implied = new Set(["gateway_starting", "gateway_down"]);

function ungated(reason: string | null): string {
  if (reason === "plugin_not_loaded") return t("gateway.banner.plugin_not_loaded");
  if (reason === "plugin_changed") return t("gateway.banner.plugin_changed");
  return t("gateway.banner.ungated");
}
