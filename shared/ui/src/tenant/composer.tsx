// Where a person writes. Enter sends and Shift + Enter breaks the line; on a touch screen Enter breaks the line, because
// its keyboard has no Shift + Enter worth the name. While an answer runs, Stop stands where Send was.

import { useEffect, useRef, useState } from "preact/hooks";
import { Icon } from "../core/room.tsx";
import { t } from "../core/text.ts";
import { assistantName, busy as underWay, items, person, question, send, stop } from "./conversation.ts";
import { mostBytes, mostItems } from "./outbox.ts";

export function Composer() {
  const [text, setText] = useState("");
  const [note, setNote] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);
  const own = person.value?.id ?? null;
  const busy = underWay.value;
  const asked = question.value !== null;

  // A draft belongs to the person who wrote it, so it can only be read once the server has said who that is.
  useEffect(() => {
    if (own === null) return;
    const kept = draft(own);
    if (text === "" && kept !== "") setText(kept);
  }, [own]);

  const change = (next: string) => {
    setText(next);
    setNote("");
    if (own !== null) keepDraft(own, next);
  };
  const submit = () => {
    if (text.trim() === "") return;
    if (asked) return; // the line below says why; the draft stays
    if (busy) return setNote(t("composer.busy"));
    if (new TextEncoder().encode(JSON.stringify(text)).length > mostBytes || items.value.length >= mostItems) return setNote(t("composer.too_long"));
    send(text.trim());
    change("");
    field.current?.focus();
  };
  const key = (event: KeyboardEvent) => {
    if (event.key === "Escape" && busy) {
      event.preventDefault(); // it stops the answer and leaves the panel open
      void stop();
    }
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch()) return;
    event.preventDefault();
    submit();
  };
  const lines = Math.min(8, text.split("\n").length);
  return (
    <form class="composer" onSubmit={(event) => { event.preventDefault(); submit(); }}>
      <div class="composer-box">
        <textarea
          ref={field} id="message" rows={lines} value={text} aria-label={t("composer.label", { assistant: assistantName() })} aria-describedby={touch() ? undefined : "composer-hint"}
          placeholder={t("composer.placeholder")} enterkeyhint={touch() ? "enter" : "send"} onInput={(event) => change(event.currentTarget.value)} onKeyDown={key}
        />
        {busy ? (
          <button type="button" class="send stop" aria-label={t("composer.stop")} title={t("composer.stop")} onClick={() => void stop()}><Icon name="stop" /></button>
        ) : (
          <button type="submit" class="send" aria-label={t("composer.send")} title={t("composer.send")} aria-disabled={text.trim() === ""}><Icon name="send" /></button>
        )}
      </div>
      {!touch() && <p id="composer-hint" class="hint">{t("composer.hint")}</p>}
      <p class="note" role="status">{asked ? t("composer.question") : note}</p>
    </form>
  );
}

function touch(): boolean {
  return matchMedia("(pointer: coarse)").matches;
}

const draftKey = "gatehouse.draft";

function draft(own: string): string {
  try {
    const kept = JSON.parse(sessionStorage.getItem(draftKey) ?? "null") as { person?: string; text?: string } | null;
    return kept?.person === own && typeof kept.text === "string" ? kept.text : "";
  } catch {
    return "";
  }
}

function keepDraft(own: string, text: string): void {
  try {
    sessionStorage.setItem(draftKey, JSON.stringify({ person: own, text }));
  } catch {
    return;
  }
}
