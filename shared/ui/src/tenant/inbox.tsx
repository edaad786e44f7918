// The panel of approvals: what waits and what was decided, reachable from every state of the page.

import { count, t } from "../core/text.ts";
import { ApprovalCard } from "./approval.tsx";
import { decided } from "./approvals.ts";
import { approvals, pending } from "./conversation.ts";
import { Panel } from "./panel.tsx";

export function Inbox() {
  return <Panel name="inbox" title={t("inbox.title")} closing={t("inbox.close")}>{() => <Cards />}</Panel>;
}

function Cards() {
  const old = decided(approvals.value);
  return (
    <>
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
  );
}
