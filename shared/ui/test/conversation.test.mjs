// The conversation as a state machine: streams, tools, two endings, and above all what happens when a line drops.

import assert from "node:assert/strict";
import { test } from "node:test";
import { backoffMs, longestMs } from "../src/core/backoff.ts";
import { grouped, held, merged, woven } from "../src/tenant/approvals.ts";
import * as box from "../src/tenant/outbox.ts";
import * as thread from "../src/tenant/thread.ts";

const message = (text) => ({ role: "assistant", content: [{ type: "text", text }] });
const delta = (runId, seq, text) => ({ runId, seq, state: "delta", message: message(text) });
const final = (runId, seq, text) => ({ runId, seq, state: "final", ...(text === undefined ? {} : { message: message(text) }) });
const tool = (runId, phase, more = {}) => ({ runId, stream: "tool", data: { phase, name: "exec", toolCallId: "c1", ...more } });
const user = (key, text) => ({ role: "user", content: text, timestamp: 1, idempotencyKey: `${key}:user`, __openclaw: { id: `u-${key}` } });
const answer = (runId, text, stopReason = "stop") => ({ role: "assistant", content: [{ type: "text", text }], timestamp: 2, stopReason, __openclaw: { id: `a-${text}`, runId } });
const call = (runId, text) => ({ role: "assistant", content: [...(text ? [{ type: "text", text }] : []), { type: "toolCall", id: "c1", name: "exec", arguments: { command: "ls" } }], timestamp: 2, stopReason: "toolUse", __openclaw: { id: "t1", runId } });
const result = (details = {}) => ({ role: "toolResult", toolCallId: "c1", toolName: "exec", content: [{ type: "text", text: "ok" }], details, isError: false, timestamp: 3 });

function play(...events) {
  return events.reduce((now, event, index) => ("stream" in event ? thread.hearTool(now, event, index) : thread.hearChat(now, event, index)), thread.emptyThread);
}
const brief = (state) => state.turns.map((turn) => (turn.kind === "tool" ? `tool ${turn.state}` : turn.kind === "user" ? `user ${turn.text}` : `${turn.state} ${turn.text}`));

test("a stream is cumulative, ends twice, and is one answer", () => {
  const state = play(delta("r", 1, "Hal"), delta("r", 2, "Hallo"), final("r", 3), final("r", 4, "Hallo!"));
  assert.deepEqual(brief(state), ["closed Hallo!"]);
  assert.equal(thread.activeRun(state), null);
  assert.deepEqual(brief(play(final("r", 1), final("r", 2, "nur am Ende"))), ["closed nur am Ende"]);
  assert.deepEqual(brief(play(delta("r", 1, "a"), final("r", 2, "ab"), final("r", 3, "ab"))), ["closed ab"]);
});

test("late and repeated deltas change nothing", () => {
  assert.deepEqual(brief(play(delta("r", 5, "Hallo"), delta("r", 4, "Hal"))), ["open Hallo"]);
  assert.deepEqual(brief(play(delta("r", 5, "Hallo"), final("r", 6), delta("r", 7, "Hallo und mehr"))), ["closed Hallo"]);
});

test("a tool call splits an answer, whether or not the text goes on counting from the start", () => {
  const steps = [delta("r", 1, "Ich sehe nach."), tool("r", "start", { args: { command: "ls" } }), tool("r", "result", { result: { content: [] }, isError: false })];
  const expected = ["closed Ich sehe nach.", "tool done", "closed Fertig."];
  assert.deepEqual(brief(play(...steps, delta("r", 4, "Fertig."), final("r", 5, "Fertig."))), expected);
  assert.deepEqual(brief(play(...steps, delta("r", 4, "Ich sehe nach.\n\nFertig."), final("r", 5, "Ich sehe nach.\n\nFertig."))), expected);
});

test("a blocked tool is refused, a broken one failed, an unanswered one stopped", () => {
  assert.deepEqual(brief(play(tool("r", "start"), tool("r", "result", { isError: true, result: { details: { status: "blocked" } } }))), ["tool refused"]);
  assert.deepEqual(brief(play(tool("r", "start"), tool("r", "result", { isError: true, result: {} }))), ["tool failed"]);
  assert.deepEqual(brief(play(tool("r", "start"), { runId: "r", state: "aborted" })), ["tool stopped"]);
});

test("errors keep what was said and say what went wrong", () => {
  const state = play(delta("r", 1, "Hal"), { runId: "r", state: "error", errorMessage: "boom" });
  assert.deepEqual(brief(state), ["failed Hal"]);
  assert.equal(state.turns[0].error, "boom");
  assert.deepEqual(brief(play({ runId: "r", state: "error", errorMessage: "boom" })), ["failed "]);
});

test("history and stream merge without doubles", () => {
  const live = () => thread.begin(thread.say(thread.emptyThread, "r", "frage", 1), "r", 0);
  const cases = [
    // [story, what the page had, what history says, expected]
    ["nothing told yet", thread.hearChat(live(), delta("r", 1, "ant"), 2), [], ["user frage", "open ant"]],
    ["question told, answer still streaming", thread.hearChat(live(), delta("r", 1, "ant"), 2), [user("r", "frage")], ["user frage", "open ant"]],
    ["answer ended meanwhile", thread.hearChat(live(), delta("r", 1, "ant"), 2), [user("r", "frage"), answer("r", "antwort")], ["user frage", "closed antwort"]],
    ["answer ended here too", thread.hearChat(thread.hearChat(live(), delta("r", 1, "antwort"), 2), final("r", 2), 3), [user("r", "frage"), answer("r", "antwort")], ["user frage", "closed antwort"]],
    ["tool seen live, told in full", thread.hearTool(live(), tool("r", "start"), 2), [user("r", "frage"), call("r", "ich sehe nach"), result(), answer("r", "fertig")], ["user frage", "closed ich sehe nach", "tool done", "closed fertig"]],
    ["tool still running", thread.hearTool(live(), tool("r", "start"), 2), [user("r", "frage"), call("r")], ["user frage", "tool running"]],
    ["only the second half was seen", thread.hearChat(live(), delta("r", 9, "fertig"), 2), [user("r", "frage"), call("r", "ich sehe nach"), result()], ["user frage", "closed ich sehe nach", "tool done", "open fertig"]],
    ["an aborted answer is not in history", thread.hearChat(thread.hearChat(live(), delta("r", 1, "an"), 2), { runId: "r", state: "aborted" }, 3), [user("r", "frage"), user("s", "noch eine")], ["user frage", "stopped an", "user noch eine"]],
  ];
  for (const [story, before, told, expected] of cases) {
    const after = thread.merge(before, told, false, 10);
    assert.deepEqual(brief(after), expected, story);
    assert.deepEqual(brief(thread.merge(after, told, false, 11)), expected, `${story}, read again`);
  }
});

test("a stream that comes back goes on in the same answer", () => {
  let state = thread.hearChat(thread.begin(thread.say(thread.emptyThread, "r", "frage", 1), "r", 0), delta("r", 1, "eins"), 2);
  state = thread.merge(state, [user("r", "frage")], false, 3);
  state = thread.hearChat(state, delta("r", 9, "eins zwei drei"), 4);
  state = thread.hearChat(state, final("r", 10, "eins zwei drei"), 5);
  assert.deepEqual(brief(state), ["user frage", "closed eins zwei drei"]);
});

test("the server saying that nothing runs ends what this page thought was running", () => {
  const state = thread.merge(thread.begin(thread.emptyThread, "r", 0), [user("r", "frage")], true, 3);
  assert.equal(thread.activeRun(state), null);
});

test("turns that left the window of the history do not come back at the end", () => {
  const full = thread.merge(thread.emptyThread, [user("a", "alt"), answer("a", "alte antwort"), user("b", "neu")], false, 1);
  assert.deepEqual(brief(thread.merge(full, [user("b", "neu"), answer("b", "neue antwort")], false, 2)), ["user neu", "closed neue antwort"]);
});

test("the gateway going away ends its runs", () => {
  assert.deepEqual(brief(thread.interrupt(play(delta("r", 1, "Hal"), tool("r", "start")), 9)), ["closed Hal", "tool stopped", "failed "]);
});

test("outbox: sending, sent, failed, and gone when the history shows it", () => {
  let items = box.add(box.add([], "a", "eins", 0), "b", "zwei", 1);
  items = box.acknowledged(items, "a", 2);
  items = box.refused(items, "b", "link_lost");
  assert.deepEqual(items.map((item) => item.state), ["sent", "sending"], "a lost line is no failure");
  items = box.refused(items, "b", "body_too_large");
  assert.deepEqual(items.map((item) => [item.state, item.error]), [["sent", null], ["failed", "body_too_large"]]);
  assert.deepEqual(box.retried(items, "b").map((item) => [item.state, item.error]), [["sent", null], ["sending", null]]);
  assert.deepEqual(box.reconciled(items, new Set(["a"]), null, 9).map((item) => item.key), ["b"]);
  assert.deepEqual(box.reconciled(items, new Set(), null, 9).map((item) => item.state), ["sent", "failed"], "history may be a little behind");
  assert.deepEqual(box.reconciled(items, new Set(), null, 60_000).map((item) => item.error), ["not_confirmed", "body_too_large"]);
  assert.deepEqual(box.reconciled(items, new Set(), "a", 60_000).map((item) => item.state), ["sent", "failed"], "a run that is under way has arrived");
});

test("outbox: kept for its person only, and broken storage is empty storage", () => {
  const shelf = new Map();
  const storage = { getItem: (key) => shelf.get(key) ?? null, setItem: (key, value) => shelf.set(key, value) };
  box.keep(storage, "per_a", box.add([], "k", "text", 0));
  assert.deepEqual(box.load(storage, "per_a").map((item) => item.key), ["k"]);
  assert.deepEqual(box.load(storage, "per_b"), []);
  shelf.set("gatehouse.outbox", "{not json");
  assert.deepEqual(box.load(storage, "per_a"), []);
  box.keep({ ...storage, setItem: () => { throw new Error("full"); } }, "per_a", []);
});

test("a decision is not undone by an older frame, and the pending come first", () => {
  const one = { id: "1", state: "pending", created_ms: 1 };
  const two = { id: "2", state: "pending", created_ms: 2 };
  const done = { ...two, state: "denied" };
  assert.deepEqual(merged([one, done], [two]).map(({ id, state }) => [id, state]), [["1", "pending"], ["2", "denied"]]);
  assert.deepEqual(merged([one], [{ ...one, state: "approved" }, { ...one, state: "used" }, { ...one, state: "approved" }]).map(({ state }) => state), ["used"]);
});

// A session with calls of the given ids, ten seconds apart from 110 s on, as the history tells it.
const calling = (...ids) => thread.merge(thread.emptyThread, [{ ...user("r", "frage"), timestamp: 100_000 }, ...ids.map((id, index) => ({ role: "assistant", content: [{ type: "toolCall", id, name: "exec", arguments: { command: "ls" } }], timestamp: 110_000 + index * 10_000, stopReason: "toolUse", __openclaw: { id: `t-${id}`, runId: "r" } }))], false, 0);
const ask = (given) => ({ id: "x", call_id: "c1", session: "agent:main:main", tool: "exec", state: "pending", created_ms: 111_000, ...given });
const shape = (state, approvals, since_ms = 200_000) => woven(state.turns, approvals, since_ms).map((line) => ("approval" in line ? `${line.approval.id} ${line.approval.state}` : `${line.turn.id}${line.verdict === null ? "" : ` ${line.verdict}`}`));

test("an approval stands beside the call that it names, and nowhere else", () => {
  const state = calling("c1");
  assert.deepEqual(shape(state, [ask({})]), ["r", "c1 pending", "x pending"]);
  assert.deepEqual(shape(state, [ask({ tool: "message", created_ms: 1 })]), ["r", "c1 pending", "x pending"], "neither name nor time matters");
  assert.deepEqual(shape(state, [ask({ call_id: "other" })]), ["r", "c1", "x pending"], "a call that is not in the log: at its own time");
  assert.deepEqual(shape(state, [ask({ call_id: "other", created_ms: 105_000 })]), ["r", "x pending", "c1"]);
  assert.deepEqual(shape(state, [ask({ state: "denied", call_id: "other", created_ms: 5 })]), ["r", "c1"], "long decided: only in the panel");
  assert.deepEqual(shape(state, [ask({ state: "denied", call_id: "other", created_ms: 5, decided_ms: 210_000 })]), ["x denied", "r", "c1"], "but not under the eyes of somebody");
});

test("the same command denied and then allowed within seconds: each card keeps its own outcome", () => {
  const approvals = [ask({ id: "a", call_id: "c1", state: "denied", created_ms: 111_000 }), ask({ id: "b", call_id: "c2", state: "used", outcome: "ok", created_ms: 112_000 })];
  const expected = ["r", "c1 denied", "a denied", "c2 used", "b used"];
  assert.deepEqual(shape(calling("c1", "c2"), approvals), expected);
  assert.deepEqual(shape(calling("c1", "c2"), [...approvals].reverse()), expected);
});

test("two different commands at once keep their own cards", () => {
  const approvals = [ask({ id: "a", call_id: "c2", created_ms: 111_000 }), ask({ id: "b", call_id: "c1", state: "approved", created_ms: 111_500 })];
  assert.deepEqual(shape(calling("c1", "c2"), approvals), ["r", "c1 approved", "b approved", "c2 pending", "a pending"]);
});

test("a late approval moves to the call that was proposed again", () => {
  const late = ask({ id: "a", call_id: "c1", state: "approved" });
  assert.deepEqual(shape(calling("c1"), [late]), ["r", "c1 approved", "a approved"]);
  const [again] = merged([late], [{ ...late, call_id: "c2", state: "used" }]);
  assert.deepEqual(shape(calling("c1", "c2"), [again]), ["r", "c1", "c2 used", "a used"]);
  const ended = merged([again], [{ ...again, outcome: "failed" }, again]);
  assert.deepEqual(ended.map(({ outcome }) => outcome), ["failed"], "an outcome is not undone by an older frame");
});

test("a question is held while its call has not come back, and only in this conversation", () => {
  const open = calling("c1");
  assert.equal(held(open.turns, [ask({})], 999_000)?.id, "x");
  assert.equal(held(open.turns, [ask({ session: "agent:main:helper" })], 112_000), null);
  assert.equal(held(open.turns, [ask({ state: "denied" })], 112_000), null);
  assert.equal(held([], [ask({})], 120_000)?.id, "x", "asked a moment ago, its call not heard of yet");
  assert.equal(held([], [ask({})], 999_000), null);
  const back = thread.merge(open, [user("r", "frage"), call("r"), result({ status: "blocked" })], false, 0);
  assert.equal(held(back.turns, [ask({})], 999_000), null, "the model has been told to wait; others may speak");
});

test("a call without a result is under way until the session rests or something else follows", () => {
  const told = [user("r", "frage"), call("r")];
  assert.equal(thread.awaitsCall(thread.merge(thread.emptyThread, told, false, 9)), true);
  assert.equal(thread.awaitsCall(thread.merge(thread.emptyThread, told, true, 9)), false);
  assert.equal(thread.awaitsCall(thread.merge(thread.emptyThread, [...told, user("s", "weiter")], false, 9)), false);
  const refused = thread.say(thread.merge(thread.emptyThread, told, false, 9), "k", "nicht angenommen", 10);
  assert.equal(thread.awaitsCall(thread.merge(refused, told, false, 11)), true, "a message that was never sent ends nothing");
  assert.equal(thread.awaitsCall(thread.stop(refused, null, 12)), false);
});

test("what the machinery says in the person's place is a note, not a bubble", () => {
  const nudge = "A person approved the call that was waiting (apr_0a). Propose exactly the same call again now.";
  const about = (text, key = "k") => thread.merge(thread.emptyThread, [{ ...user(key, text) }], false, 0).turns.map((turn) => turn.about ?? turn.kind)[0];
  assert.equal(about(nudge), "approved");
  assert.equal(about(`[Thu 2026-11-20 10:00 UTC] ${nudge}`), "approved");
  assert.equal(about("anything", "nudge-apr_0a-17"), "approved");
  assert.equal(about("[System] Your previous turn was interrupted."), "restarted");
  assert.equal(about("x <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>> y"), "internal");
  assert.equal(about("What does “A person approved the call that was waiting (apr_” mean?"), "user");
});

test("a run that this page did not start shows its calls while they happen", () => {
  const run = "nudge-apr_0a-17";
  let state = play({ runId: run, state: "status", phase: "starting_model" }, tool(run, "start", { args: { command: "ls" } }));
  assert.deepEqual(brief(state), ["tool running"]);
  state = thread.merge(state, [{ ...user(run, "x") }], true, 9); // the session's own word was old
  state = thread.hearTool(state, tool(run, "result", { result: { content: [] } }), 10);
  assert.deepEqual(brief(state).slice(-1), ["tool done"]);
  assert.equal(thread.activeRun(state), run, "what is heard of a run shows that it goes on");
  assert.deepEqual(brief(thread.hearChat(state, final(run, 3, "fertig"), 11)).slice(-1), ["closed fertig"]);
});

test("a refusal is a refusal by its words too", () => {
  const words = "A person refused this call. Accept that; do not try another way.";
  const back = (text, isError) => brief(play(tool("r", "start"), tool("r", "result", { isError, result: { content: [{ type: "text", text }] } })))[0];
  assert.equal(back(words, false), "tool refused");
  assert.equal(back(`Tool call blocked: ${words}`, true), "tool refused");
  assert.equal(back(`notes.md says: ${words}`, false), "tool done");
  assert.deepEqual(brief(thread.merge(thread.emptyThread, [user("r", "frage"), call("r"), { ...result(), content: words, isError: true }], true, 0)), ["user frage", "tool refused"]);
});

test("an error keeps the code that the agent gave it", () => {
  assert.equal(play({ runId: "r", state: "error", errorMessage: "…", errorCode: "session_frozen" }).turns[0].code, "session_frozen");
});

test("a run is still when its phase does not change", () => {
  const status = (phase) => ({ runId: "r", state: "status", phase });
  assert.equal(thread.still(play(status("a"), status("a"), status("a")), "r"), 0);
  assert.equal(thread.still(play(status("a"), status("a"), status("b")), "r"), 2);
});

test("the pause before the next attempt doubles, is drawn, and has a ceiling", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 99].map((attempt) => backoffMs(attempt, 0.999999)), [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
  for (let attempt = 0; attempt < 40; attempt += 1) {
    const [least, most] = [backoffMs(attempt, 0), backoffMs(attempt, 0.999)];
    assert.ok(least >= 250 && most <= longestMs && least < most);
  }
});

test("questions of one kind stand together, and nothing else does", () => {
  const ask = (id, given = {}) => ({ id, assistant: "a", session: "s", tool: "message", rule: "message.send", class: "yellow", external: true, unknown: false, ...given });
  const groups = grouped([ask(1), ask(2, { class: "red" }), ask(3), ask(4, { session: "t" }), ask(5, { rule: "other" }), ask(6, { assistant: "b" })]);
  assert.deepEqual(groups.map((group) => group.map(({ id }) => id)), [[1, 3], [2], [4], [5], [6]]);
});
