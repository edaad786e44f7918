// The panel of devices: what may sign in this person's name, how another one comes in, and how one that is lost goes.

import { useState } from "preact/hooks";
import { canPasskey } from "../core/passkey.ts";
import { canSign } from "../core/signing.ts";
import { Icon, Words } from "../core/room.tsx";
import { count, dateAndTime, relative, t } from "../core/text.ts";
import type { Device } from "../core/wire.ts";
import { now, person } from "./conversation.ts";
import { addPasskey, announceReset, codes, here, listed, mine, remove, setUp } from "./devices.ts";

export function Devices() {
  const [error, setError] = useState<string | null>(null);
  const [shown, setShown] = useState<{ text: string; codes: string[] } | null>(null);
  const [busy, setBusy] = useState(false);
  const isHere = here.value !== null;
  const act = async (deed: () => Promise<string | null>) => {
    if (busy) return;
    setBusy(true);
    setShown(null);
    setError(await deed().catch(() => t("error.network")));
    setBusy(false);
  };
  const draw = (text: string, deed: Parameters<typeof codes>[0]) =>
    act(async () => {
      const drawn = await codes(deed);
      if ("wrong" in drawn) return drawn.wrong;
      setShown({ text, codes: drawn.codes });
      return null;
    });
  const others = listed.value.persons.filter(({ id }) => id !== person.value?.id);
  return (
    <>
      <p class="hint">{t("devices.intro")}</p>
      <div class="alert-place" role="alert">{error !== null && <p class="alert"><Words text={error} /></p>}</div>
      {shown !== null && (
        <div class="codes" role="status">
          <p>{shown.text}</p>
          <ul class="code-list">{shown.codes.map((code) => <li key={code}><code>{code}</code></li>)}</ul>
        </div>
      )}
      {!isHere && <SetUp busy={busy} act={act} />}
      <ul class="cards">{mine.value.map((device) => <li key={device.id}><DeviceCard device={device} mayRemove={isHere} busy={busy} act={act} /></li>)}</ul>
      {isHere && (
        <div class="device-deeds">
          {canPasskey() && <button type="button" class="secondary" aria-disabled={busy} onClick={() => void act(addPasskey)}>{t("devices.add_passkey")}</button>}
          <button type="button" class="secondary" aria-disabled={busy} onClick={() => void draw(t("devices.code_text"), { kind: "mint_code", person: person.value?.id ?? "" })}>{t("devices.add_code")}</button>
          <button type="button" class="secondary" aria-disabled={busy} onClick={() => void draw(t("devices.recovery_text"), { kind: "recovery_codes" })}>{t("devices.recovery")}</button>
          <p class="hint">{count("devices.recovery_left", listed.value.recovery_codes)}</p>
        </div>
      )}
      {others.map((other) => (
        <section key={other.id}>
          <h3>{t("devices.of", { name: other.name })}</h3>
          <ul class="cards">{listed.value.devices.filter((device) => device.person === other.id).map((device) => <li key={device.id}><DeviceCard device={device} mayRemove={isHere} busy={busy} act={act} /></li>)}</ul>
          {isHere && <button type="button" class="quiet" aria-disabled={busy} onClick={() => void draw(t("devices.code_text_for", { name: other.name }), { kind: "mint_code", person: other.id })}>{t("devices.add_code")}</button>}
        </section>
      ))}
    </>
  );
}

interface Acting {
  busy: boolean;
  act: (deed: () => Promise<string | null>) => Promise<void>;
}

function SetUp({ busy, act }: Acting) {
  const [code, setCode] = useState("");
  const own = listed.value.resets.find((reset) => reset.person === person.value?.id);
  if (!canSign()) return <p class="approval-note">{t("devices.unsupported")}</p>;
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    if (code.trim() !== "") void act(() => setUp({ kind: "code", code: code.trim() }));
  };
  return (
    <section class="device-setup">
      <h3>{t("devices.set_up.title")}</h3>
      <p class="hint">{t("devices.set_up.text")}</p>
      <form onSubmit={submit}>
        <label for="device-code">{t("devices.set_up.code")}</label>
        <input id="device-code" type="text" autocomplete="off" autocapitalize="characters" spellcheck={false} value={code} onInput={(event) => setCode(event.currentTarget.value)} />
        <button type="submit" class="primary" aria-disabled={busy}>{t("devices.set_up.submit")}</button>
      </form>
      {own === undefined ? (
        <details>
          <summary><Icon name="chevron" />{t("devices.reset.ask")}</summary>
          <p class="hint">{t("devices.reset.text")}</p>
          <button type="button" class="secondary" aria-disabled={busy} onClick={() => void act(announceReset)}>{t("devices.reset.announce")}</button>
        </details>
      ) : own.ripe_ms <= now.value ? (
        <button type="button" class="secondary" aria-disabled={busy} onClick={() => void act(() => setUp({ kind: "reset" }))}>{t("devices.reset.use")}</button>
      ) : (
        <p class="approval-note">{t("devices.reset.waiting", { in: relative(own.ripe_ms, now.value) })}</p>
      )}
    </section>
  );
}

function DeviceCard({ device, mayRemove, busy, act }: { device: Device; mayRemove: boolean } & Acting) {
  const [sure, setSure] = useState(false);
  return (
    <article class="device">
      <p><strong>{device.name}</strong> {device.id === here.value?.id && <span class="badge outline">{t("devices.this")}</span>}</p>
      <p class="hint">
        {t(`devices.kind.${device.kind}`)} · <span title={dateAndTime(device.added_ms)}>{t("devices.added", { ago: relative(device.added_ms, now.value) })}</span>
        {device.used_ms != null && <> · <span title={dateAndTime(device.used_ms)}>{t("devices.used", { ago: relative(device.used_ms, now.value) })}</span></>}
      </p>
      {mayRemove && (
        <button type="button" class={sure ? "secondary confirm" : "quiet"} aria-disabled={busy} onClick={() => (sure ? void act(() => remove(device)) : setSure(true))} onBlur={() => setSure(false)}>
          {sure ? t("devices.remove_sure") : t("devices.remove")}
        </button>
      )}
    </article>
  );
}
