// What stands behind the buttons of the header, fetched when somebody first presses one: most visits never do.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { t } from "../core/text.ts";
import { Panel } from "./panel.tsx";

type Contents = typeof import("./panels.tsx");

const contents = signal<Contents | "missing" | null>(null);
let asked = false;

/** A file of an older page may be gone from the server by now; then only a fresh page helps. */
async function fetchOnce(): Promise<void> {
  if (asked) return;
  asked = true;
  contents.value = await import("./panels.tsx").catch(() => "missing" as const);
}

function Later({ name }: { name: "Devices" | "Levels" | "FirstHour" }) {
  const known = contents.value;
  if (known === null) {
    void fetchOnce();
    return <p class="hint" role="status">{t("chat.loading")}</p>;
  }
  if (known === "missing") return <p class="alert" role="alert">{t("app.part_missing")} <button type="button" class="quiet" onClick={() => location.reload()}>{t("app.retry")}</button></p>;
  const Body: () => ComponentChildren = known[name];
  return <Body />;
}

export function LaterPanels() {
  return (
    <>
      <Panel name="devices" title={t("devices.title")} closing={t("devices.close")}>{() => <Later name="Devices" />}</Panel>
      <Panel name="levels" title={t("levels.title")} closing={t("levels.close")}>{() => <Later name="Levels" />}</Panel>
      <Panel name="templates" title={t("template.title")} closing={t("template.close")}>{() => <Later name="FirstHour" />}</Panel>
    </>
  );
}
