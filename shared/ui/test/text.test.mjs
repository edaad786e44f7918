// The catalogue: both languages have the same keys, placeholders and plural forms, and every code that the wire names
// has a sentence.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import de from "../../text/de.json";
import en from "../../text/en.json";
import { chooseLang, chooseTheme } from "../src/core/preference.ts";
import { amount, count, fill, keepLanguageIn, relative, sentence, t } from "../src/core/text.ts";

const holes = (text) => [...text.matchAll(/\{([a-z_]+)\}/g)].map((found) => found[1]).sort();

test("both languages have the same keys in the same order", () => {
  assert.deepEqual(Object.keys(de), Object.keys(en));
});

test("both languages fill the same placeholders, and no sentence is empty", () => {
  for (const key of Object.keys(en)) {
    assert.deepEqual(holes(de[key]), holes(en[key]), key);
    assert.ok(de[key].trim() !== "" && en[key].trim() !== "", key);
  }
});

test("plurals come in pairs that count", () => {
  for (const key of Object.keys(en).filter((key) => /\.(one|other)$/.test(key))) {
    const base = key.replace(/\.(one|other)$/, "");
    for (const form of ["one", "other"]) assert.ok(en[`${base}.${form}`]?.includes("{count}"), `${base}.${form}`);
  }
});

test("umlauts are real", () => {
  for (const [key, text] of Object.entries(de)) assert.doesNotMatch(text, /\b(?:fuer|ueber|koennen|moechte|muessen|loeschen|aendern|schliessen)/i, key);
});

test("every code that the wire document names has a sentence", () => {
  const wire = readFileSync(new URL("../../../docs/WIRE.md", import.meta.url), "utf8");
  const codes = [
    ...[...wire.matchAll(/`\d{3} ([a-z]+_[a-z_]+)`/g)].map((found) => found[1]),
    ..."login_wrong login_limited forbidden frame_malformed method_unknown gateway_not_ready approval_unknown approval_decided approval_expired approval_changed approval_needs_signature".split(" "),
    ..."token_used token_expired token_unknown proof_invalid host_unknown signature_invalid version_unsupported superseded".split(" "),
    ..."proxy_token_wrong provider_unknown route_unknown trace_unannounced session_frozen plugin_not_loaded encoding_unsupported provider_key_missing provider_unreachable".split(" "),
    ..."body_malformed body_too_large not_found internal rate_limited method_not_allowed unavailable".split(" "),
  ];
  for (const code of new Set(codes)) assert.ok(`error.${code}` in en, code);
  for (const code of ["plugin_not_loaded", "session_frozen", "gateway_down", "gateway_starting", "policy_clock_back", "provider_key_missing", "audit_unwritable"]) assert.ok(`finding.${code}` in en, code);
});

test("words are filled and counted in the language of the page", () => {
  keepLanguageIn({ value: "de" });
  assert.equal(t("link.lost", { secs: 3 }), "Verbindung unterbrochen. Neuer Versuch in 3 s. Sie können weiterschreiben.");
  assert.equal(count("inbox.pending", 1), "1 wartet");
  assert.equal(count("inbox.pending", 2), "2 warten");
  assert.equal(amount(1_234_567), "1.234.567");
  assert.equal(relative(0, 180_000), "vor 3 Minuten");
  keepLanguageIn({ value: "en" });
  assert.equal(count("inbox.pending", 1), "1 waiting");
  assert.equal(relative(7_200_000, 0), "in 2 hours");
  assert.equal(relative(2_000, 0), "just now");
  assert.equal(sentence("finding.", "nobody_knows"), null);
  assert.equal(fill("{a} and {b}", { a: "$&" }), "$& and {b}");
});

test("German unless chosen otherwise or the browser asks for English first", () => {
  const cases = [[null, ["en-GB", "de"], "en"], [null, ["fr", "de-AT"], "de"], [null, ["fr", "it"], "de"], [null, [], "de"], ["de", ["en"], "de"], ["en", ["de"], "en"], ["xx", ["en"], "en"]];
  for (const [stored, wanted, expected] of cases) assert.equal(chooseLang(stored, wanted), expected);
  assert.deepEqual(["dark", "light", null, "pink"].map(chooseTheme), ["dark", "light", "auto", "auto"]);
});
