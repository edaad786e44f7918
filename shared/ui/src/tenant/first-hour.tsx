// Templates for the first hour: what each does, and how far the one under way has come. Its files are written by calls like
// any other, so their questions stand here, too; its tasks are said in the conversation, where the answers are.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { post, read } from "../core/door.ts";
import { Icon, Words } from "../core/room.tsx";
import { explain, lang, t, type Key } from "../core/text.ts";
import type { Template, TemplateRun } from "../core/wire.ts";
import { ApprovalCard } from "./approval.tsx";
import { firstHourChanged, mayDecide, pending } from "./conversation.ts";

const known = signal<{ templates: Template[]; run: TemplateRun | null } | null>(null);
const session = "agent:main:first-hour";

async function reread(): Promise<string | null> {
  const answer = await read<{ templates: Template[]; run: TemplateRun | null }>("/api/first-hour");
  if (answer.ok) known.value = answer.body;
  return answer.ok ? null : explain(answer.code, answer.message);
}

export function FirstHour() {
  const [error, setError] = useState<string | null>(null);
  useEffect(() => void reread().then(setError), [firstHourChanged.value]);
  const act = async (path: string, body: object) => {
    const answer = await post(path, body);
    setError(answer.ok ? await reread() : explain(answer.code, answer.message));
  };
  const run = known.value?.run ?? null;
  const underWay = run !== null && run.ended_ms === null;
  return (
    <>
      <p class="hint">{t("template.intro")}</p>
      <div role="alert">{error !== null && <p class="alert"><Words text={error} /></p>}</div>
      {known.value === null && error === null && <p class="hint" role="status">{t("chat.loading")}</p>}
      {run !== null && <UnderWay run={run} act={act} />}
      {!underWay && (
        <ul class="cards">
          {known.value?.templates.map((template) => (
            <li key={template.id}>
              <article class="template">
                <h3>{template.title[lang.value]}</h3>
                <p class="hint">{template.about[lang.value]}</p>
                <details>
                  <summary><Icon name="chevron" />{t("template.steps")}</summary>
                  <ol>{template.steps.map((step) => <li>{step[lang.value]}</li>)}</ol>
                </details>
                {mayDecide.value && <button type="button" class="secondary" onClick={() => void act("/api/first-hour", { template: template.id, lang: lang.value })}>{t("template.start")}<span class="unseen">: {template.title[lang.value]}</span></button>}
              </article>
            </li>
          ))}
        </ul>
      )}
      {!mayDecide.value && <p class="approval-note">{t("template.may_not")}</p>}
    </>
  );
}

type Acting = { act: (path: string, body: object) => Promise<void> };

function UnderWay({ run, act }: { run: TemplateRun } & Acting) {
  const questions = pending.value.filter((approval) => approval.session === session);
  const over = run.steps.filter(({ state }) => state === "done" || state === "skipped").length;
  return (
    <section class="template-run" aria-label={run.title[lang.value]}>
      <div class="levels-head">
        <h3>{run.title[lang.value]}</h3>
        {run.ended_ms === null && mayDecide.value && <button type="button" class="quiet" onClick={() => void act("/api/first-hour/end", {})}>{t("template.end")}</button>}
      </div>
      <p class="hint" role="status">{run.ended_ms !== null && over === run.steps.length ? t("template.done") : t(run.ended_ms === null ? "template.progress" : "template.ended", { done: over, all: run.steps.length })}</p>
      <progress max={run.steps.length} value={over} aria-label={t("template.steps")} />
      <ol class="template-steps">
        {run.steps.map(({ title, state, why }, n) => (
          <li key={n} class={`template-step step-${state}`}>
            <span class="step-mark" aria-hidden="true">{state === "done" ? <Icon name="check" /> : state === "failed" ? <Icon name="close" /> : state === "running" && run.ended_ms === null ? <span class="spinner" /> : null}</span>
            <span>
              {title[lang.value]}
              <small>{t(`template.state.${state}` as Key)}{why !== null && <>. <Words text={t(`template.why.${why}` as Key)} /></>}</small>
            </span>
            {run.ended_ms === null && mayDecide.value && (state === "failed" || state === "running") && (
              <span class="step-deeds">
                {state === "failed" && <button type="button" class="secondary" onClick={() => void act("/api/first-hour/step", { n, wish: "retry" })}>{t("app.retry")}</button>}
                <button type="button" class="quiet" onClick={() => void act("/api/first-hour/step", { n, wish: "skip" })}>{t("template.skip")}</button>
              </span>
            )}
          </li>
        ))}
      </ol>
      {questions.length > 0 && <ul class="cards">{questions.map((approval) => <li key={approval.id}><ApprovalCard approval={approval} /></li>)}</ul>}
    </section>
  );
}
