// The tenant page: header, banners, conversation, composer and the panel of approvals. Also what a screen reader hears:
// not the stream of tokens but when an answer begins, what it finally says, and at once when an approval is asked for.

import { effect, signal } from "@preact/signals";
import { SkipLink } from "../core/frame.tsx";
import { plain, startRoom } from "../core/room.tsx";
import { lang, t, count } from "../core/text.ts";
import { Banners } from "./banner.tsx";
import { Composer } from "./composer.tsx";
import { assistantName, conversation, mayDecide, pending, running, startConversation } from "./conversation.ts";
import { Header } from "./header.tsx";
import { Inbox } from "./inbox.tsx";
import { LaterPanels } from "./later.tsx";
import { Log } from "./log.tsx";
import { panel } from "./panel.tsx";
import type { AnswerTurn } from "./thread.ts";

const spoken = signal("");
const alarm = signal("");
const longestSpoken = 600; // a whole page read aloud unasked helps nobody; the text itself is in the log

startRoom(function Chat() {
  return (
    <>
      <SkipLink />
      <Header />
      <Banners />
      <div class={panel.value !== null ? "floor with-inbox" : "floor"}>
        <main id="main" class="room" tabIndex={-1}>
          <h1 class="unseen">{assistantName()}</h1>
          <Log />
          <Composer />
        </main>
        <Inbox />
        <LaterPanels />
      </div>
      <div class="unseen" role="status">{spoken.value}</div>
      <div class="unseen" role="alert">{alarm.value}</div>
    </>
  );
});

let heardRun: string | null = null;

effect(() => {
  const run = running.value;
  if (run === heardRun) return;
  const ended = heardRun;
  heardRun = run;
  if (run !== null) spoken.value = t("chat.announce.running", { assistant: assistantName() });
  else if (ended !== null) spoken.value = lastWords(ended);
});

function lastWords(runId: string): string {
  const answer = conversation.peek().turns.findLast((turn): turn is AnswerTurn => turn.kind === "answer" && turn.runId === runId);
  if (answer === undefined) return "";
  if (answer.state === "stopped") return t("chat.announce.stopped");
  if (answer.state === "failed") return t("chat.announce.failed");
  const text = answer.text.length > longestSpoken ? `${answer.text.slice(0, longestSpoken)} …` : answer.text;
  return t("chat.announce.finished", { assistant: assistantName(), text });
}

const rung = new Set<string>();

effect(() => {
  const fresh = pending.value.filter((approval) => !rung.has(approval.id));
  for (const approval of fresh) rung.add(approval.id);
  const newest = fresh[0];
  if (newest === undefined) return;
  const more = fresh.length - 1;
  alarm.value = t("approval.arrived", { sentence: plain(newest.sentence[lang.value]) }) + (more > 0 ? ` ${count("approval.arrived_count", more)}` : "");
});

effect(() => {
  const waiting = pending.value.length;
  const title = t("chat.page_title", { assistant: assistantName() });
  document.title = waiting > 0 && mayDecide.value ? `(${waiting}) ${title}` : title;
});

startConversation();
