// The panel of approvals: what waits and what was decided, reachable from every state of the page.

import { ClassBadge } from "../core/badge.tsx";
import { Icon, Words } from "../core/room.tsx";
import { count, lang, t } from "../core/text.ts";
import type { Approval } from "../core/wire.ts";
import { ApprovalCard } from "./approval.tsx";
import { decided, grouped } from "./approvals.ts";
import { approvals, pending } from "./conversation.ts";
import { Panel } from "./panel.tsx";

export function Inbox() {
  return <Panel name="inbox" title={t("inbox.title")} closing={t("inbox.close")}>{() => <Cards />}</Panel>;
}

/** So many questions of one kind stand as one; fewer are quicker read one by one. */
const fewest = 3;

/** Many questions of one kind: one line that tells what they are, and inside each with its own answer. */
function Group({ approvals }: { approvals: readonly Approval[] }) {
  const first = approvals[0]!;
  return (
    <details class={`group edge-${first.class}`}>
      <summary>
        <Icon name="chevron" />
        <span class="group-text">
          <span class="group-title"><strong>{count("inbox.group", approvals.length)}</strong> <Words text={first.sentence[lang.value]} /></span>
          <ClassBadge class={first.class} external={first.external} unknown={first.unknown} />
        </span>
      </summary>
      <p class="hint">{t("inbox.group_hint")}</p>
      <ul class="cards">{approvals.map((approval) => <li key={approval.id}><ApprovalCard approval={approval} /></li>)}</ul>
    </details>
  );
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
          <ul class="cards">
            {grouped(pending.value).map((group) => (group.length < fewest
              ? group.map((approval) => <li key={approval.id}><ApprovalCard approval={approval} /></li>)
              : <li key={`g:${group[0]!.rule} ${group[0]!.assistant} ${group[0]!.session}`}><Group approvals={group} /></li>))}
          </ul>
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
