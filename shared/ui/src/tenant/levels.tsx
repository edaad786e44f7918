// How much each assistant may do, and with which tools it may reach other people. Every change says in words what it means
// and what it would have done to the week's calls before it is made. What loosens becomes a question that stands right here.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { post, read } from "../core/door.ts";
import { Icon, Words } from "../core/room.tsx";
import { count, dateAndTime, explain, relative, t, type Key } from "../core/text.ts";
import type { Approval, Change, Level, Preview, Standing } from "../core/wire.ts";
import { ApprovalCard } from "./approval.tsx";
import { levelsChanged, now, paused, pending, person, takeApproval } from "./conversation.ts";
import { resume } from "./devices.ts";
import { toolTitle } from "./tool.tsx";

const levels: readonly Level[] = ["L1", "L2", "L3"];
const standings = signal<readonly Standing[] | null>(null);

async function reread(): Promise<string | null> {
  const answer = await read<{ assistants: Standing[] }>("/api/levels");
  if (answer.ok) standings.value = answer.body.assistants;
  return answer.ok ? null : explain(answer.code, answer.message);
}

export function Levels() {
  const [error, setError] = useState<string | null>(null);
  useEffect(() => void reread().then(setError), [levelsChanged.value]);
  const questions = pending.value.filter((approval) => approval.tool === "levels");
  const known = standings.value;
  return (
    <>
      <p class="hint">{t("levels.intro")}</p>
      <div role="alert">{error !== null && <p class="alert"><Words text={error} /></p>}</div>
      {questions.length > 0 && (
        <section aria-label={t("levels.waiting")}>
          <h3>{t("levels.waiting")}</h3>
          <ul class="cards">{questions.map((approval) => <li key={approval.id}><ApprovalCard approval={approval} /></li>)}</ul>
        </section>
      )}
      {known === null && error === null && <p class="hint" role="status">{t("chat.loading")}</p>}
      {known?.map((standing) => <OfAssistant key={standing.id} standing={standing} />)}
    </>
  );
}

function OfAssistant({ standing }: { standing: Standing }) {
  const [wanted, setWanted] = useState<Change | null>(null);
  const stopped = paused.value.find((pause) => pause.assistant === standing.id);
  const want = (change: Change) => setWanted(change);
  const confirm = (about: Key | string) => wanted !== null && aboutOf(wanted) === about && <Confirm key={JSON.stringify(wanted)} standing={standing} change={wanted} onEnd={() => setWanted(null)} />;
  return (
    <section class="standing" aria-label={standing.name}>
      <div class="levels-head">
        <h3>{standing.name}</h3>
        <Stop standing={standing} since_ms={stopped?.since_ms ?? null} />
      </div>
      <fieldset>
        <legend>{t("levels.level")}</legend>
        {levels.map((level) => {
          const above = level > standing.level_most;
          const off = above || (level > standing.level ? !standing.may_raise : !standing.may_lower);
          return (
            <label class={level === standing.level ? "level now" : "level"} key={level}>
              <input type="radio" name={`level-${standing.id}`} checked={(wanted?.kind === "level" ? wanted.to : standing.level) === level} disabled={off} onChange={() => (level === standing.level ? setWanted(null) : want({ kind: "level", to: level }))} />
              <span>
                <strong>{level} · {t(`levels.${level}.name` as Key)}</strong>
                {level === standing.level && <span class="badge outline">{t("levels.now")}</span>}
                {above && <span class="badge outline">{t("levels.company")}</span>}
                <small>{t(`levels.${level}.means` as Key)}</small>
              </span>
            </label>
          );
        })}
      </fieldset>
      {confirm("level")}
      {standing.level_most < "L3" && <p class="hint">{t("levels.most", { level: standing.level_most })}</p>}
      {standing.level === "L3" && (
        <>
          <label class="level">
            <input type="checkbox" checked={standing.ask_red} disabled={standing.always_asks_red || (standing.ask_red ? !standing.may_raise : !standing.may_lower)} onChange={(event) => { event.currentTarget.checked = standing.ask_red; want({ kind: "ask_red", ask: !standing.ask_red }); }} />
            <span><strong>{t("levels.ask_red")}</strong> {standing.always_asks_red && <span class="badge outline">{t("levels.company")}</span>}<small>{t("levels.ask_red.means")}</small></span>
          </label>
          {confirm("ask_red")}
        </>
      )}
      <h4>{t("levels.gates")}</h4>
      <p class="hint">{t("levels.gates.means")}</p>
      {grouped(standing.gates).map(([group, gates]) => (
        <div class="gates" key={group}>
          <h5>{t(`levels.group.${group}` as Key)}</h5>
          <ul class="gate-list">
            {gates.map((gate) => (
              <li key={gate.tool}>
                <div class="gate">
                  <span><strong>{toolTitle(gate.tool)}</strong> <code>{gate.tool}</code></span>
                  <span class={gate.open ? "gate-state open" : "gate-state"}>
                    <Icon name={gate.open ? "unlocked" : "locked"} />
                    {gate.held ? t("levels.gate.held") : gate.open ? t("levels.gate.open") : t("levels.gate.locked")}
                  </span>
                  {!gate.held && (gate.open ? standing.may_lower : standing.may_raise) && (
                    <button type="button" class="secondary" aria-label={`${gate.open ? t("levels.lock") : t("levels.unlock")}: ${toolTitle(gate.tool)}`} onClick={() => want({ kind: "gate", tool: gate.tool, open: !gate.open })}>{gate.open ? t("levels.lock") : t("levels.unlock")}</button>
                  )}
                </div>
                {confirm(`gate ${gate.tool}`)}
              </li>
            ))}
          </ul>
        </div>
      ))}
      {!standing.may_lower && <p class="approval-note">{t("levels.may_not")}</p>}
      <History standing={standing} />
    </section>
  );
}

function Stop({ standing, since_ms }: { standing: Standing; since_ms: number | null }) {
  const [sure, setSure] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const act = async (deed: Promise<string | null>) => {
    setSure(false);
    setError(await deed);
  };
  const stop = async () => {
    const answer = await post("/api/pauses", { assistant: standing.id });
    return answer.ok ? null : explain(answer.code, answer.message);
  };
  return (
    <div class="stop">
      {error !== null && <p class="alert" role="alert"><Words text={error} /></p>}
      {since_ms === null ? (
        <button type="button" class={sure ? "secondary confirm" : "quiet"} onBlur={() => setSure(false)} onClick={() => (sure ? void act(stop()) : setSure(true))}>{sure ? t("pause.sure", { assistant: standing.name }) : t("pause.begin")}</button>
      ) : (
        <>
          <p class="approval-note">{t("pause.since", { ago: relative(since_ms, now.value) })}</p>
          {person.value?.role === "owner" ? <button type="button" class="secondary" onClick={() => void act(resume(standing.id))}>{t("pause.end")}</button> : <p class="hint">{t("pause.owner_ends")}</p>}
        </>
      )}
    </div>
  );
}

/** What a change means, what it would have done, what stands behind it; and only then the button. */
function Confirm({ standing, change, onEnd }: { standing: Standing; change: Change; onEnd: () => void }) {
  const [preview, setPreview] = useState<Preview | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.scrollIntoView({ block: "nearest" }), [preview]);
  useEffect(() => {
    void post<Preview>("/api/levels/preview", { assistant: standing.id, change }).then((answer) => (answer.ok ? setPreview(answer.body) : setError(explain(answer.code, answer.message))));
  }, []);
  const make = async () => {
    if (busy || preview === null) return;
    setBusy(true);
    const answer = await post<{ done: boolean; approval?: Approval }>("/api/levels", { assistant: standing.id, change });
    setBusy(false);
    if (!answer.ok) return setError(explain(answer.code, answer.message));
    if (answer.body.approval !== undefined) {
      takeApproval(answer.body.approval);
      document.getElementById("levels")?.scrollTo(0, 0); // there the question stands
    }
    setError(await reread());
    onEnd();
  };
  return (
    <div class="change" ref={box} role="group" aria-label={t("levels.change")}>
      <p><strong>{t(meaning(change), { assistant: standing.name, tool: change.kind === "gate" ? toolTitle(change.tool) : "" })}</strong></p>
      <div role="status">
        {preview === null && error === null && <p class="hint">{t("chat.loading")}</p>}
        {preview !== null && <Effect preview={preview} />}
        {preview !== null && <p>{t(`levels.weighed.${preview.weighed}`)}</p>}
      </div>
      {error !== null && <p class="alert" role="alert"><Words text={error} /></p>}
      <div class="verdict">
        <button type="button" class="secondary" onClick={onEnd}>{t("levels.keep")}</button>
        <button type="button" class="secondary allow" aria-disabled={busy || preview === null} onClick={() => void make()}>{preview === null || preview.weighed === "at_once" ? t("levels.change") : t("levels.ask")}</button>
      </div>
    </div>
  );
}

function Effect({ preview: { effect } }: { preview: Preview }) {
  if (effect.calls === 0) return <p class="hint">{t("levels.effect.none")}</p>;
  return (
    <p class="hint">
      {count("levels.effect.calls", effect.calls)} {effect.asks_before === effect.asks_after ? t("levels.effect.same", { asks: effect.asks_before }) : t("levels.effect.change", { before: effect.asks_before, after: effect.asks_after })}
      {effect.not_whole > 0 && ` ${t("levels.effect.not_whole")}`}
    </p>
  );
}

function History({ standing }: { standing: Standing }) {
  if (standing.choices.length === 0) return <p class="hint">{t("levels.history.none")}</p>;
  return (
    <details>
      <summary><Icon name="chevron" />{t("levels.history")}</summary>
      <ul class="history">
        {[...standing.choices].sort((a, b) => b.set_ms - a.set_ms).map(({ change, set_ms, set_by }) => (
          <li key={aboutOf(change)}>
            {change.kind === "level" ? `${t("levels.level")}: ${change.to}` : change.kind === "ask_red" ? `${t("levels.ask_red")}: ${change.ask ? "✓" : "–"}` : `${toolTitle(change.tool)}: ${change.open ? t("levels.gate.open") : t("levels.gate.locked")}`}
            {" · "}<span class="soft">{dateAndTime(set_ms)} · {set_by === "console" ? t("levels.by.console") : set_by === person.value?.id ? t("levels.by.you") : t("levels.by.somebody")}</span>
          </li>
        ))}
      </ul>
    </details>
  );
}

function meaning(change: Change): Key {
  if (change.kind === "level") return `levels.to.${change.to}` as Key;
  if (change.kind === "ask_red") return change.ask ? "levels.to.ask_red" : "levels.to.no_ask_red";
  return change.open ? "levels.to.open" : "levels.to.locked";
}

function aboutOf(change: Change): string {
  return change.kind === "gate" ? `gate ${change.tool}` : change.kind;
}

type Group = "people" | "commands" | "web" | "others";
type Gate = Standing["gates"][number];

const groups: Record<string, Group> = {
  message: "people", conversations_send: "people", conversations_turn: "people", send_mail: "people", draft_mail: "people", read_mail: "people", sessions_send: "people", sessions_spawn: "others",
  exec: "commands", terminal: "commands", nodes: "commands", computer: "commands",
  web_fetch: "web", web_search: "web", http_request: "web", browser: "web", x_search: "web", github_publish: "web",
};

/** In the order in which a person looks for them. */
function grouped(gates: readonly Gate[]): [Group, Gate[]][] {
  const order: Group[] = ["people", "commands", "web", "others"];
  const of = (group: Group) => gates.filter(({ tool }) => (groups[tool] ?? "others") === group);
  return order.map((group): [Group, Gate[]] => [group, of(group)]).filter(([, gates]) => gates.length > 0);
}
