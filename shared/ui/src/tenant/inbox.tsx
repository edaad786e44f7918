// The panel of approvals: what waits and what was decided, reachable from every state of the page. Beside the
// conversation on a wide screen, above it on a narrow one; there the conversation behind it cannot be reached by Tab.

import { effect, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "../core/room.tsx";
import { count, t } from "../core/text.ts";
import { ApprovalCard } from "./approval.tsx";
import { decided } from "./approvals.ts";
import { approvals, pending } from "./conversation.ts";

export const inboxOpen = signal(false);

const narrow = matchMedia("(max-width: 63.99rem)");

export function openInbox(): void {
  inboxOpen.value = true;
}

export function closeInbox(): void {
  inboxOpen.value = false;
  document.getElementById("inbox-button")?.focus();
}

function fence(): void {
  const main = document.getElementById("main");
  if (main !== null) main.inert = inboxOpen.peek() && narrow.matches;
}

effect(() => {
  inboxOpen.value;
  fence();
});
narrow.addEventListener("change", fence);

export function Inbox() {
  const panel = useRef<HTMLElement>(null);
  const open = inboxOpen.value;
  useEffect(() => {
    if (!open) return;
    panel.current?.focus();
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented) closeInbox();
    };
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [open]);
  const old = decided(approvals.value);
  return (
    <aside id="inbox" class="inbox" hidden={!open} ref={panel} tabIndex={-1} aria-label={t("inbox.title")}>
      {open && (
        <>
          <div class="inbox-head">
            <h2>{t("inbox.title")}</h2>
            <button type="button" class="icon-button" aria-label={t("inbox.close")} onClick={closeInbox}><Icon name="close" /></button>
          </div>
          {pending.value.length === 0 ? (
            <div class="inbox-empty">
              <p><strong>{t("inbox.empty")}</strong></p>
              <p class="hint">{t("inbox.empty_text")}</p>
            </div>
          ) : (
            <section aria-label={t("inbox.waiting")}>
              <p class="hint">{count("inbox.pending", pending.value.length)}</p>
              <ul class="cards">{pending.value.map((approval) => <li key={approval.id}><ApprovalCard approval={approval} /></li>)}</ul>
            </section>
          )}
          {old.length > 0 && (
            <section>
              <h3>{t("inbox.decided")}</h3>
              <ul class="cards">{old.map((approval) => <li key={approval.id}><ApprovalCard approval={approval} /></li>)}</ul>
            </section>
          )}
        </>
      )}
    </aside>
  );
}
