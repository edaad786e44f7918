// The operator's list: who comes first, what the numbers are, what a filter keeps.

import assert from "node:assert/strict";
import { test } from "node:test";
import { gravest, matches, needsAttention, ordered, totals } from "../src/operator/fleet.ts";

const tenant = (name, given = {}) => ({ id: `ten_${name}`, name, state: "ready", presence: "online", gateway: { state: "ready", reason: null }, usage_today: { calls: 2 }, approvals: [], findings: [], ...given });

const fleet = [
  tenant("quiet b"),
  tenant("quiet a"),
  tenant("new", { state: "provisioning", presence: "never", gateway: { state: "absent" } }),
  tenant("late", { presence: "late" }),
  tenant("warned", { findings: [{ code: "x", severity: "warn" }] }),
  tenant("gone", { presence: "offline" }),
  tenant("ungated", { gateway: { state: "ungated" } }),
  tenant("stuck", { state: "needs_operator" }),
];

test("those that need a person come first, the rest by name", () => {
  assert.deepEqual(ordered(fleet).map(({ name }) => name), ["stuck", "ungated", "gone", "warned", "late", "new", "quiet a", "quiet b"]);
  assert.deepEqual(fleet.filter(needsAttention).length, 6, "who has never been there needs a look too");
});

test("numbers", () => {
  assert.deepEqual(totals({ tenants: [...fleet, tenant("asks", { approvals: [{}, {}] })] }), { tenants: 9, attention: 6, online: 6, approvals: 2, calls: 18 });
});

test("a filter wants every word somewhere", () => {
  assert.ok(matches(["Praxis Nord", "Online"], "nord on"));
  assert.ok(!matches(["Praxis Nord", "Online"], "nord offline"));
});

test("the gravest approval first, then the oldest", () => {
  const list = [{ class: "yellow", created_ms: 1 }, { class: "red", created_ms: 9 }, { class: "red", created_ms: 3 }, { class: "critical_red", created_ms: 9 }];
  assert.deepEqual(gravest(list).map((one) => [one.class, one.created_ms]), [["critical_red", 9], ["red", 3], ["red", 9], ["yellow", 1]]);
});
